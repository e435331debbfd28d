//! `tags history` and `tags rollback`.

use crate::args::{TagsHistory, TagsRollback};
use crate::failure::Failure;
use crate::network::{Endpoints, RolledBack, TagMove};
use crate::show::out::{say, say_part};
use crate::show::table::{Cell, Tone};
use crate::show::{self, table, units};
use crate::verbs::print_json;

pub(crate) async fn history(options: TagsHistory) -> Result<(), Failure> {
    let TagsHistory { repository, tag, limit, endpoints, output } = options;
    let moves = Endpoints::new(endpoints.endpoints).tag_history(&repository, &tag, limit).await?;
    if output.json {
        return moves.iter().try_for_each(print_json);
    }
    say_part!("{}", moves_table(&moves, show::colour()));
    Ok(())
}

pub(crate) async fn rollback(options: TagsRollback) -> Result<(), Failure> {
    let TagsRollback { repository, tag, to, endpoints, output } = options;
    let done = Endpoints::new(endpoints.endpoints).tag_rollback(&repository, &tag, to).await?;
    if output.json {
        return print_json(&done);
    }
    say!("{repository}:{tag}: {}", words(&done));
    Ok(())
}

fn words(RolledBack { revision, from, to }: &RolledBack) -> String {
    let revision = units::thousands(*revision);
    match from {
        Some(from) if from == to => format!("names {to} already, since revision {revision}"),
        Some(from) => format!("from {from} back to {to}, as of revision {revision}"),
        None => format!("was deleted, names {to} again, as of revision {revision}"),
    }
}

fn moves_table(moves: &[TagMove], colour: bool) -> String {
    let row = |TagMove { revision, digest, stored, at_ms, actor, region }: &TagMove| {
        let digest = match (digest, stored) {
            (None, _) => Cell::toned("deleted", Tone::Dim),
            (Some(digest), true) => digest.clone().into(),
            (Some(digest), false) => Cell::toned(format!("{digest} (manifest deleted)"), Tone::Dim),
        };
        // The number as `--to` takes it.
        let revision = Cell::number(revision.to_string());
        vec![revision, units::instant(*at_ms).into(), actor.clone().into(), region.clone().into(), digest]
    };
    let rows: Vec<_> = moves.iter().map(row).collect();
    table::render(&["REVISION", "WHEN", "WHO", "REGION", "DIGEST"], &rows, colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_listed_with_what_can_be_gone_back_to() {
        let step = |revision, digest: Option<&str>, stored| TagMove {
            revision,
            digest: digest.map(str::to_owned),
            stored,
            at_ms: 1_763_757_296_000,
            actor: "anonymous".to_owned(),
            region: "paris".to_owned(),
        };
        let moves = [step(12, Some("sha256:ab"), true), step(9, None, false), step(3, Some("sha256:cd"), false)];
        let expected = "
  REVISION  WHEN                 WHO        REGION  DIGEST
        12  2025-11-21 20:34:56  anonymous  paris   sha256:ab
         9  2025-11-21 20:34:56  anonymous  paris   deleted
         3  2025-11-21 20:34:56  anonymous  paris   sha256:cd (manifest deleted)
";
        assert_eq!(String::from("\n") + &moves_table(&moves, false), expected);
    }

    #[test]
    fn a_rollback_says_from_where_to_where() {
        let told = |from: Option<&str>| {
            words(&RolledBack { revision: 1234, from: from.map(str::to_owned), to: "b".to_owned() })
        };
        assert_eq!(told(Some("a")), "from a back to b, as of revision 1,234");
        assert_eq!(told(Some("b")), "names b already, since revision 1,234");
        assert_eq!(told(None), "was deleted, names b again, as of revision 1,234");
    }
}
