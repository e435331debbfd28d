//! From a TOML file and the environment to typed values, collecting every mistake on the way.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::keys::{self, Preset, SECTIONS};
use super::value::{Raw, Value};

/// One thing that is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// `file:line`, or the environment variable.
    pub place: String,
    /// Key, as `section.key`; empty for a syntax error.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

struct Found {
    raw: Raw,
    place: String,
}

/// Values found, by section and key.
pub struct Reader {
    file: String,
    found: BTreeMap<(String, String), Found>,
    /// Wrong values.
    pub mistakes: Vec<Mistake>,
    /// Keys nobody knows.
    pub unknown: Vec<Mistake>,
}

impl Reader {
    /// Reads `text`, the content of `file`, and lets `environment` override it.
    pub fn new(file: &str, text: &str, environment: &[(String, String)]) -> Self {
        let mut reader =
            Reader { file: file.to_owned(), found: BTreeMap::new(), mistakes: Vec::new(), unknown: Vec::new() };
        reader.read_file(text);
        reader.read_environment(environment);
        reader
    }

    /// The value of a key; `None` when it is wrong, which is then noted.
    pub fn take<T: Value>(&mut self, section: &str, key: &str, preset: Preset) -> Option<T> {
        match (self.found.get(&(section.to_owned(), key.to_owned())), preset) {
            (Some(found), _) => {
                let value = T::read(&found.raw);
                if value.is_none() {
                    self.mistakes.push(Mistake {
                        place: found.place.clone(),
                        key: format!("{section}.{key}"),
                        problem: format!("{} is not accepted here", found.raw),
                        remedy: format!("write {}", T::ACCEPTS),
                    });
                }
                value
            }
            (None, Preset::Set(text)) => {
                let parsed = DeValue::parse(text).expect("defaults are valid TOML, every one is read by a test");
                T::read(&convert(parsed.get_ref()))
            }
            (None, Preset::Unset(_)) => T::unset(),
        }
    }

    /// A value that was given and can be read, without noting anything.
    pub(super) fn given<T: Value>(&self, section: &str, key: &str) -> Option<T> {
        T::read(&self.found.get(&(section.to_owned(), key.to_owned()))?.raw)
    }

    /// Where a key was set; the file itself when it was not.
    pub fn place(&self, section: &str, key: &str) -> String {
        self.found
            .get(&(section.to_owned(), key.to_owned()))
            .map_or_else(|| self.file.clone(), |found| found.place.clone())
    }

    /// What is wrong with a key, told at its place.
    pub(super) fn mistake(&self, section: &str, key: &str, problem: String, remedy: &str) -> Mistake {
        Mistake { place: self.place(section, key), key: format!("{section}.{key}"), problem, remedy: remedy.to_owned() }
    }

    fn read_file(&mut self, text: &str) {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut broken = Vec::new();
        for error in errors {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            broken.push(format!("{}:{line}", self.file));
            self.mistakes.push(Mistake {
                place: format!("{}:{line}", self.file),
                key: String::new(),
                problem: error.message().trim_end().replace('\n', ", "),
                remedy: "correct the TOML".to_owned(),
            });
        }
        for (section, value) in document.get_ref() {
            let place = format!("{}:{}", self.file, line_of(text, section.span().start));
            match value.get_ref() {
                DeValue::Table(table) => self.read_section(text, section.get_ref(), table, &place),
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_) => self.note_unknown(place, section.get_ref().to_string()),
            }
        }
        // What is left of a line that is no TOML names no key.
        self.unknown.retain(|unknown| !broken.contains(&unknown.place));
    }

    fn read_section(&mut self, text: &str, section: &str, table: &DeTable<'_>, place: &str) {
        if !SECTIONS.iter().any(|known| known.name == section) && table.is_empty() {
            self.note_unknown(place.to_owned(), section.to_owned());
        }
        for (key, value) in table {
            let place = format!("{}:{}", self.file, line_of(text, key.span().start));
            if keys::find(section, key.get_ref()).is_some() {
                let found = Found { raw: convert(value.get_ref()), place };
                self.found.insert((section.to_owned(), key.get_ref().to_string()), found);
            } else {
                self.note_unknown(place, format!("{section}.{}", key.get_ref()));
            }
        }
    }

    fn read_environment(&mut self, environment: &[(String, String)]) {
        for (variable, value) in environment {
            let Some(rest) = variable.strip_prefix("LONGSHORE_") else { continue };
            let rest = rest.to_ascii_lowercase();
            let section = SECTIONS
                .iter()
                .find(|section| rest.strip_prefix(section.name).is_some_and(|rest| rest.starts_with('_')));
            // Variables outside our sections belong to others: cluster-cli, tests, container orchestrators.
            let Some(section) = section else { continue };
            let name = &rest[section.name.len() + 1..];
            if keys::find(section.name, name).is_some() {
                let found = Found { raw: Raw::Variable(value.clone()), place: variable.clone() };
                self.found.insert((section.name.to_owned(), name.to_owned()), found);
            } else if !name.contains("service_") && !name.starts_with("port") {
                self.note_unknown(variable.clone(), format!("{}.{name}", section.name));
            }
        }
    }

    fn note_unknown(&mut self, place: String, key: String) {
        let remedy = match nearest(&key) {
            Some(known) => format!("did you mean {known}?"),
            None => "remove it, or start with --allow-unknown-config".to_owned(),
        };
        self.unknown.push(Mistake { place, key, problem: "unknown key".to_owned(), remedy });
    }
}

/// Line of a byte offset, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

fn convert(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i128::from_str_radix(&digits, number.radix()).map_or(Raw::Other("a number out of range"), Raw::Integer)
        }
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Float(_) => Raw::Other("a number with a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(_) => Raw::Other("a list"),
        DeValue::Table(table) => {
            let pair = |key: &str, value: &DeValue<'_>| match value {
                DeValue::String(text) => Some((key.to_owned(), text.to_string())),
                _ => None,
            };
            let pairs = table.iter().map(|(key, value)| pair(key.get_ref(), value.get_ref()));
            pairs.collect::<Option<BTreeMap<_, _>>>().map_or(Raw::Other("a table with more than strings"), Raw::Table)
        }
    }
}

/// The known key most like `key`: the same name in another section, or a few letters off.
fn nearest(key: &str) -> Option<String> {
    let name = key.rsplit('.').next().unwrap_or(key);
    let all = || SECTIONS.iter().flat_map(|section| section.keys);
    let full = |found: &keys::Key| format!("{}.{}", found.section, found.name);
    let by_spelling = all().map(|known| (distance(key, &full(known)), full(known))).min()?;
    if by_spelling.0 <= 2 {
        return Some(by_spelling.1);
    }
    if let Some(known) = all().find(|known| known.name == name) {
        return Some(full(known));
    }
    (by_spelling.0 <= 1 + key.len() / 4).then_some(by_spelling.1)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
