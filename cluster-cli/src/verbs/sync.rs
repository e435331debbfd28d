//! `sync`.

use crate::args::SyncNode;
use crate::failure::Failure;
use crate::network::{self, Comparison};
use crate::show::out::say;
use crate::verbs::print_json;

pub(crate) async fn sync(options: SyncNode) -> Result<(), Failure> {
    let SyncNode { node, confirm_loss, output } = options;
    let comparison = network::sync(&node, confirm_loss).await?;
    if output.json {
        return print_json(&comparison);
    }
    say!("{}", describe(&comparison));
    Ok(())
}

fn describe(comparison: &Comparison) -> String {
    let Comparison { node, region, was_asked, confirmed } = comparison;
    let what = match (confirmed, was_asked) {
        (true, true) => "it asked for this word: what is missing or damaged is fetched again from other regions",
        (true, false) => "what it finds missing or damaged within the next hour is fetched again, however much it is",
        (false, true) => {
            "but it gives nothing up: too much was missing or damaged; if that is lost, add --confirm-loss"
        }
        (false, false) => "a few missing blobs are fetched again, of many it asks first",
    };
    format!(
        "{region}: node {node} compares its disk with its rows; {what}\n\
         `cluster-cli status` shows the backlog and what it cannot promise"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_asks_is_not_passed_over() {
        let told =
            |was_asked, confirmed| describe(&Comparison { node: 3, region: "tokyo".to_owned(), was_asked, confirmed });
        assert!(
            told(true, false).starts_with("tokyo: node 3 compares its disk with its rows; but it gives nothing up")
        );
        assert!(told(true, false).contains("add --confirm-loss"));
        assert!(told(true, true).contains("it asked for this word"));
        assert!(!told(false, false).contains("--confirm-loss"));
    }
}
