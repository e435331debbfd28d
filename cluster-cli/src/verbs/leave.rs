//! `leave`.

use std::io::{BufRead, IsTerminal};

use crate::args::Leave;
use crate::failure::{Exit, Failure};
use crate::network::{Departure, Endpoints};
use crate::show::out::{say, say_part};
use crate::show::units;
use crate::verbs::print_json;

pub(crate) async fn leave(options: Leave) -> Result<(), Failure> {
    let Leave { region, force, dry_run, yes, endpoints, output } = options;
    let name = region.as_str();
    let endpoints = Endpoints::new(endpoints.endpoints);
    let departure = endpoints.leave(name, force, true).await?;
    if dry_run {
        if output.json {
            return print_json(&departure);
        }
        say!("{}", describe(name, &departure));
        return Ok(());
    }
    if departure.last_copies > 0 && !force {
        return Err(last_copies(name, &departure));
    }
    // In a script --force is word enough; on a terminal it is asked for once more.
    let told = yes || (force && !std::io::stdin().is_terminal());
    if !told {
        confirm(name, &departure)?;
    }
    let mut left = endpoints.leave(name, force, false).await?;
    if left.under_way && !output.json {
        say!(
            "{name} is looked through for last copies and leaves if it holds none; Ctrl-C leaves the view, not the departure"
        );
    }
    while left.under_way {
        let last = endpoints.follow_leave(name, left.revision).await?;
        (left.revision, left.under_way) = (last.revision, last.under_way);
    }
    if output.json {
        return print_json(&left);
    }
    say!("{name} leaves the cluster as of revision {}; its node can be stopped", units::thousands(left.revision));
    Ok(())
}

fn describe(name: &str, departure: &Departure) -> String {
    let Departure { copies, bytes, last_copies, last_copy_bytes, .. } = departure;
    let all = format!("{} ({})", units::count(*copies, "copy of a blob", "copies of blobs"), units::bytes(*bytes));
    if *copies == 0 {
        return format!("{name} holds no blobs");
    }
    if *last_copies == 0 {
        return format!("{name} would take {all} along; every one of these blobs is held by another region too");
    }
    let last = format!("{} ({})", units::count(*last_copies, "blob", "blobs"), units::bytes(*last_copy_bytes));
    format!("{name} would take {all} along, and with them the last copy of {last}\n{}", examples(departure).join("\n"))
}

fn examples(departure: &Departure) -> Vec<String> {
    let mut lines: Vec<String> = departure
        .examples
        .iter()
        .map(|(digest, bytes)| format!("{digest:.19}…  {:>9}", units::bytes(*bytes)))
        .collect();
    let named = departure.examples.len() as u64;
    if departure.last_copies > named {
        lines.push(format!("and {} more", units::thousands(departure.last_copies - named)));
    }
    lines.extend(linked_by(departure));
    lines
}

/// Whose images would break.
fn linked_by(departure: &Departure) -> Option<String> {
    let names = departure.repositories.join(", ");
    let unnamed = departure.repositories_total.saturating_sub(departure.repositories.len() as u64);
    match (names.is_empty(), unnamed) {
        (true, _) => None,
        (false, 0) => Some(format!("linked by {names}")),
        (false, _) => Some(format!("linked by {names} and {} more", units::thousands(unnamed))),
    }
}

fn last_copies(name: &str, departure: &Departure) -> Failure {
    let blobs = units::count(departure.last_copies, "blob", "blobs");
    let what = format!("{name} holds the last copy of {blobs} ({})", units::bytes(departure.last_copy_bytes));
    let next = format!(
        "wait until other regions hold them (`cluster-cli status` shows their backlog), then run this again. \
         To give them up: cluster-cli leave {name} --force"
    );
    Failure::new(Exit::Refused, what, next).with_details(examples(departure))
}

/// Asks on a terminal; a script must say `--yes`.
fn confirm(name: &str, departure: &Departure) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let what = format!("leaving takes {name} out of the cluster for good, and nobody is here to be asked");
        return Err(Failure::new(Exit::Usage, what, "add --yes").with_details(vec![describe(name, departure)]));
    }
    say!("{}", describe(name, departure));
    say_part!("Take {name} out of the cluster for good? Type its name to go on: ");
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.is_ok() && line.trim() == name {
        return Ok(());
    }
    Err(Failure::failed("nothing was changed", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departure(last_copies: u64) -> Departure {
        Departure {
            revision: 9,
            copies: 5,
            bytes: 3_000_000_000,
            last_copies,
            last_copy_bytes: 1_213_002_000,
            examples: vec![("sha256:3f0011223344556677".to_owned(), 812_000_000)],
            repositories: vec!["team/api".to_owned(), "team/web".to_owned()],
            repositories_total: 1236,
            under_way: false,
        }
    }

    #[test]
    fn last_copies_are_refused_by_name_with_the_way_out() {
        let told = last_copies("tokyo", &departure(3)).to_string();
        let expected = "\
error: tokyo holds the last copy of 3 blobs (1.21 GB)
  sha256:3f0011223344…     812 MB
  and 2 more
  linked by team/api, team/web and 1,234 more
next: wait until other regions hold them (`cluster-cli status` shows their backlog), then run this again. To give them up: cluster-cli leave tokyo --force";
        assert_eq!(told, expected);
    }

    #[test]
    fn repositories_are_named_as_far_as_there_are_some() {
        let of = |repositories_total, names: &[&str]| {
            let repositories = names.iter().map(|&name| name.to_owned()).collect();
            linked_by(&Departure { repositories, repositories_total, ..departure(3) })
        };
        assert_eq!(of(0, &[]), None);
        assert_eq!(of(1, &["team/api"]).as_deref(), Some("linked by team/api"));
    }

    #[test]
    fn a_dry_run_counts_what_goes() {
        let told = describe("tokyo", &departure(0));
        let expected = "tokyo would take 5 copies of blobs (3.00 GB) along; every one of these blobs is held by another region too";
        assert_eq!(told, expected);
    }
}
