//! Plain tables: left-aligned columns, two spaces apart, with a tone per cell where colour is wanted.

/// What a cell wants to say beyond its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
    Dim,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Good => "\x1b[32m",
            Tone::Warn => "\x1b[33m",
            Tone::Bad => "\x1b[31m",
            Tone::Dim => "\x1b[2m",
        }
    }

    /// The text in this tone.
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        if colour && self != Tone::Plain { format!("{}{text}\x1b[0m", self.code()) } else { text.to_owned() }
    }
}

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
    right: bool,
}

impl Cell {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Cell { text: text.into(), tone, right: false }
    }

    /// A number, aligned right.
    pub(crate) fn number(text: impl Into<String>) -> Self {
        Cell { text: text.into(), tone: Tone::Plain, right: true }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell { text: text.into(), ..Cell::default() }
    }
}

/// Renders rows under a heading, each line indented by two spaces.
pub(crate) fn render(heading: &[&str], rows: &[Vec<Cell>], colour: bool) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let right = |column: usize| rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.right);
    let heading: Vec<Cell> = heading
        .iter()
        .enumerate()
        .map(|(column, title)| Cell { text: (*title).to_owned(), tone: Tone::Dim, right: right(column) })
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let padding = " ".repeat(width - cell.text.chars().count());
            let painted = cell.tone.paint(&cell.text, colour);
            line.push_str("  ");
            line.push_str(&if cell.right { padding + &painted } else { painted + &padding });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let rows = vec![
            vec!["paris".into(), Cell::number("128"), "–".into()],
            vec!["virginia".into(), Cell::number("7"), "2 · 61.4 MB".into()],
        ];
        let table = render(&["REGION", "REVISION", "BACKLOG"], &rows, false);
        let expected = "  REGION    REVISION  BACKLOG\n  paris          128  –\n  virginia         7  2 · 61.4 MB\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn colour_changes_no_width() {
        let rows = vec![vec![Cell::toned("down", Tone::Bad), "x".into()], vec!["ready".into(), "y".into()]];
        let table = render(&["STATE", "Z"], &rows, true);
        assert!(table.contains("\x1b[31mdown\x1b[0m   x\n  ready  y\n"), "{table:?}");
    }
}
