//! `policy set` and `policy show`.

use crate::args::{PolicySet, PolicyShow, Sparse};
use crate::failure::Failure;
use crate::network::{Endpoints, Policy, PolicyChange};
use crate::show::out::{say, say_part};
use crate::show::{self, table, units};
use crate::verbs::print_json;

pub(crate) async fn set(options: PolicySet) -> Result<(), Failure> {
    let PolicySet { prefix, durability, sparse, immutable_tags, endpoints } = options;
    let change = PolicyChange {
        durability,
        sparse: sparse.map(|sparse| sparse == Sparse::Accept),
        // An empty glob would match no tag: it says that there is none.
        immutable_tags: immutable_tags.map(|globs| globs.into_iter().filter(|glob| !glob.is_empty()).collect()),
    };
    let set = words(&change);
    let revision = Endpoints::new(endpoints.endpoints).set_policy(&prefix, change).await?;
    say!("{}: {set}, as of revision {}", scope(&prefix), units::thousands(revision));
    Ok(())
}

/// What is set, in words.
fn words(change: &PolicyChange) -> String {
    let PolicyChange { durability, sparse, immutable_tags } = change;
    let durability = durability.map(|durability| format!("durability {durability}"));
    let sparse = sparse.map(|sparse| format!("sparse manifests {}", if sparse { "accepted" } else { "refused" }));
    let immutable = immutable_tags.as_ref().map(|globs| match globs.as_slice() {
        [] => "no immutable tags".to_owned(),
        globs => format!("immutable tags {}", globs.join(" ")),
    });
    [durability, sparse, immutable].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(crate) async fn show(options: PolicyShow) -> Result<(), Failure> {
    let PolicyShow { repository, endpoints, output } = options;
    let policies = Endpoints::new(endpoints.endpoints).policies(repository.as_ref()).await?;
    if output.json {
        return policies.iter().try_for_each(print_json);
    }
    say_part!("{}", policies_table(&policies, show::colour()));
    Ok(())
}

fn scope(prefix: &str) -> String {
    if prefix.is_empty() { "all repositories".to_owned() } else { format!("{prefix}/…") }
}

fn policies_table(policies: &[Policy], colour: bool) -> String {
    let row = |policy: &Policy| {
        let sparse = if policy.sparse { "accept" } else { "refuse" };
        let immutable =
            if policy.immutable_tags.is_empty() { units::DASH.to_owned() } else { policy.immutable_tags.join(" ") };
        vec![scope(&policy.prefix).into(), policy.durability.clone().into(), sparse.into(), immutable.into()]
    };
    let rows: Vec<_> = policies.iter().map(row).collect();
    table::render(&["REPOSITORIES", "DURABILITY", "SPARSE", "IMMUTABLE TAGS"], &rows, colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_said() {
        let durability = Some(domain::Durability::All);
        let change = PolicyChange { durability, sparse: Some(false), immutable_tags: Some(vec!["v*".to_owned()]) };
        assert_eq!(words(&change), "durability all, sparse manifests refused, immutable tags v*");
        let none = PolicyChange { immutable_tags: Some(Vec::new()), ..PolicyChange::default() };
        assert_eq!(words(&none), "no immutable tags");
    }

    #[test]
    fn policies_are_listed_by_prefix() {
        let policy = |prefix: &str, durability: &str| Policy {
            prefix: prefix.to_owned(),
            durability: durability.to_owned(),
            sparse: false,
            immutable_tags: vec![],
        };
        let expected = "
  REPOSITORIES      DURABILITY  SPARSE  IMMUTABLE TAGS
  all repositories  majority    refuse  –
  team/…            all         refuse  –
";
        assert_eq!(
            String::from("\n") + &policies_table(&[policy("", "majority"), policy("team", "all")], false),
            expected
        );
    }
}
