//! `policy set` and `policy show`.

use crate::args::{PolicySet, PolicyShow};
use crate::failure::Failure;
use crate::network::{Endpoints, Policy};
use crate::show::out::{say, say_part};
use crate::show::{self, table, units};
use crate::verbs::print_json;

pub(crate) async fn set(options: PolicySet) -> Result<(), Failure> {
    let PolicySet { prefix, durability, endpoints } = options;
    let revision = Endpoints::new(endpoints.endpoints).set_policy(&prefix, durability).await?;
    let whom = scope(&prefix);
    say!("{whom}: durability {durability}, as of revision {}", units::thousands(revision));
    Ok(())
}

pub(crate) async fn show(options: PolicyShow) -> Result<(), Failure> {
    let PolicyShow { endpoints, output } = options;
    let policies = Endpoints::new(endpoints.endpoints).policies().await?;
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
