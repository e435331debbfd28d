//! The live page of `dev`, and its plain lines without a terminal.

use std::io::IsTerminal;

use crate::cluster::{Cluster, RegionState};
use crate::show::out::{say, say_part};
use crate::show::status::{backlog, lag};
use crate::show::table::{Cell, Tone, render};
use crate::show::units::{self, DASH};

/// One line of the page, as facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) region: &'static str,
    pub(crate) registry: String,
    pub(crate) pid: Option<u32>,
    /// How its process ended, when it did.
    pub(crate) ended: Option<String>,
}

/// The part of the page that stays: what it is, and what to try.
pub(crate) struct Frame {
    /// Shown once all regions are ready; the process id of the leader is put in.
    pub(crate) first_registry: String,
    pub(crate) last_registry: String,
    pub(crate) look: String,
    pub(crate) logs: String,
}

/// What a region does, in a word.
pub(crate) fn role(line: &Line, cluster: Option<&Cluster>) -> String {
    if let Some(ended) = &line.ended {
        return format!("down ({ended})");
    }
    let Some(cluster) = cluster else { return "starting".to_owned() };
    let Some(region) = cluster.region(line.region) else { return "no member".to_owned() };
    let Some(node) = region.node() else { return "starting".to_owned() };
    let leads = cluster.leader == Some(node.node);
    match region.state {
        RegionState::Ready if leads => "leader".to_owned(),
        RegionState::Ready => "voter".to_owned(),
        other => other.word().to_owned(),
    }
}

/// The table.
pub(crate) fn table(lines: &[Line], cluster: Option<&Cluster>, colour: bool) -> String {
    let heading = ["REGION", "REGISTRY", "PID", "ROLE", "REVISION", "BACKLOG", "LAG"];
    let row = |line: &Line| {
        let region = cluster.and_then(|cluster| cluster.region(line.region));
        let node = region.and_then(|region| region.node()).filter(|_| line.ended.is_none());
        let role = role(line, cluster);
        let tone = match role.as_str() {
            "leader" => Tone::Good,
            "voter" => Tone::Plain,
            word if word.starts_with("down") => Tone::Bad,
            _ => Tone::Warn,
        };
        vec![
            line.region.into(),
            line.registry.clone().into(),
            line.pid.map_or(DASH.to_owned(), |pid| pid.to_string()).into(),
            Cell::toned(role, tone),
            Cell::number(node.map_or(DASH.to_owned(), |node| units::thousands(node.applied))),
            region.map_or(DASH.to_owned(), backlog).into(),
            region.zip(cluster).map_or(DASH.to_owned(), |(region, cluster)| lag(region, cluster)).into(),
        ]
    };
    render(&heading, &lines.iter().map(row).collect::<Vec<_>>(), colour)
}

/// What to try, once everything is ready.
pub(crate) fn hints(frame: &Frame, leader: Option<u32>) -> String {
    let Frame { first_registry: first, last_registry: last, look, logs, .. } = frame;
    let mut text = format!(
        "Push to one region, pull from another:\n  docker tag alpine {first}/alpine && docker push {first}/alpine\n  docker pull {last}/alpine\n"
    );
    if let Some(pid) = leader {
        text.push_str(&format!("Break it:   kill -9 {pid}      then push again\n"));
    }
    text.push_str(&format!("Look:       {look}\nLogs:       {logs}\n"));
    text
}

/// The whole page.
pub(crate) fn page(frame: &Frame, lines: &[Line], cluster: Option<&Cluster>, colour: bool) -> String {
    let mut text = format!("\n{}\n", table(lines, cluster, colour));
    let down = lines.iter().any(|line| line.ended.is_some());
    if down {
        text.push_str("Press Enter to start what is down.\n");
    }
    if let Some(cluster) = cluster.filter(|cluster| !cluster.writes_ok) {
        let why = cluster.no_writes.as_deref().unwrap_or("no majority of the regions can be reached");
        text.push_str(&format!("No writes now: {why}. Pulls go on.\n"));
    }
    let leading = |line: &&Line| role(line, cluster) == "leader";
    if lines.iter().all(|line| line.ended.is_some()) {
        return text;
    }
    text.push_str(&hints(frame, lines.iter().find(leading).and_then(|line| line.pid)));
    text
}

/// Where the page is drawn.
pub(crate) struct Screen {
    terminal: bool,
    drawn: usize,
    /// What was said last of each region, without a terminal.
    said: Vec<String>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Screen { terminal: std::io::stdout().is_terminal(), drawn: 0, said: Vec::new() }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Says something that stays.
    pub(crate) fn say(&mut self, line: &str) {
        self.erase();
        say!("{line}");
    }

    /// The person at the terminal pressed Enter, which moved everything up by a line.
    pub(crate) fn enter_was_pressed(&mut self) {
        if self.drawn > 0 {
            self.drawn += 1;
        }
    }

    /// Draws the page over the one before; without a terminal tells what changed.
    pub(crate) fn show(&mut self, frame: &Frame, lines: &[Line], cluster: Option<&Cluster>) {
        if !self.terminal {
            return self.tell_changes(lines, cluster);
        }
        let page = page(frame, lines, cluster, crate::show::colour());
        let width =
            rustix::termios::tcgetwinsize(std::io::stdout()).map_or(200, |size| usize::from(size.ws_col.max(20)));
        let clipped: Vec<String> = page.lines().map(|line| clip(line, width)).collect();
        self.erase();
        say!("{}", clipped.join("\n"));
        self.drawn = clipped.len();
    }

    fn erase(&mut self) {
        if self.terminal && self.drawn > 0 {
            say_part!("\x1b[{}A\r\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn tell_changes(&mut self, lines: &[Line], cluster: Option<&Cluster>) {
        let now: Vec<String> = lines.iter().map(|line| role(line, cluster)).collect();
        for (position, (line, role)) in lines.iter().zip(&now).enumerate() {
            if self.said.get(position) != Some(role) {
                let pid = line.pid.map_or(String::new(), |pid| format!(" pid {pid}"));
                say!("{} {role} · registry {}{pid}", line.region, line.registry);
            }
        }
        self.said = now;
    }
}

/// Cuts a line to the width of the terminal, escape sequences not counted: a wrapped line would spoil the redraw.
fn clip(line: &str, width: usize) -> String {
    let mut text = String::new();
    let (mut shown, mut escape) = (0, false);
    for c in line.chars() {
        if c == '\x1b' {
            escape = true;
        }
        if !escape {
            if shown == width {
                let close = if line.contains('\x1b') { "\x1b[0m" } else { "" };
                return text + close;
            }
            shown += 1;
        }
        if c == 'm' {
            escape = false;
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::status::status_test::cluster;

    fn lines() -> Vec<Line> {
        let line = |id: u32, region| Line {
            region,
            registry: format!("127.0.0.1:500{id}"),
            pid: Some(41_206 + id),
            ended: None,
        };
        vec![line(1, "paris"), line(2, "virginia"), line(3, "tokyo")]
    }

    fn frame() -> Frame {
        Frame {
            first_registry: "127.0.0.1:5001".to_owned(),
            last_registry: "127.0.0.1:5003".to_owned(),
            look: "cluster-cli status --watch".to_owned(),
            logs: "longshore-dev/*/node.log".to_owned(),
        }
    }

    #[test]
    fn the_first_minute_ends_in_something_to_copy() {
        let mut cluster = cluster();
        cluster.regions[1].backlog_blobs = 2;
        cluster.regions[1].backlog_bytes = 61_400_000;
        cluster.regions[1].lag_ms = 800;
        let expected = "
  REGION    REGISTRY        PID    ROLE    REVISION  BACKLOG      LAG
  paris     127.0.0.1:5001  41207  leader   128,417  –            –
  virginia  127.0.0.1:5002  41208  voter    128,417  2 · 61.4 MB  0.8 s
  tokyo     127.0.0.1:5003  41209  voter    128,417  –            –

Push to one region, pull from another:
  docker tag alpine 127.0.0.1:5001/alpine && docker push 127.0.0.1:5001/alpine
  docker pull 127.0.0.1:5003/alpine
Break it:   kill -9 41207      then push again
Look:       cluster-cli status --watch
Logs:       longshore-dev/*/node.log
";
        assert_eq!(page(&frame(), &lines(), Some(&cluster), false), expected);
    }

    #[test]
    fn a_killed_region_is_down_and_says_how_to_come_back() {
        let mut lines = lines();
        lines[0].pid = None;
        lines[0].ended = Some("killed".to_owned());
        let page = page(&frame(), &lines, Some(&cluster()), false);
        assert!(page.contains("  paris     127.0.0.1:5001  –      down (killed)         –  –        –\n"), "{page}");
        assert!(page.contains("\nPress Enter to start what is down.\n"), "{page}");
        assert!(!page.contains("kill -9"), "nobody leads in this picture");
    }

    #[test]
    fn long_lines_are_cut_and_colours_closed() {
        assert_eq!(clip("abcdef", 4), "abcd");
        assert_eq!(clip("abcd", 4), "abcd");
        assert_eq!(clip("\x1b[31mabcdef\x1b[0m", 4), "\x1b[31mabcd\x1b[0m");
        assert_eq!(clip("\x1b[31mab\x1b[0mcd", 4), "\x1b[31mab\x1b[0mcd");
    }
}
