//! What a node says of itself at `/metrics`.

use std::time::Duration;

use http::Method;

use crate::client::{Ask, Client};
use crate::cluster::Region;

/// The value of a metric without labels; counters by their name with `_total`.
pub async fn metric(region: &Region, name: &str) -> Result<u64, String> {
    let client = Client::new(region.http.to_string());
    let ask = Ask::new(Method::GET, "/metrics").within(Duration::from_secs(10));
    let answer = client.send(ask).await.map_err(|failure| format!("{failure:?}"))?;
    value(&answer.text(), name).ok_or_else(|| format!("{} does not say {name}", region.name))
}

fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP a_b what it is\na_b_total 7\na_b 5\nc{d=\"e\"} 1\n";
        assert_eq!(value(text, "a_b"), Some(5));
        assert_eq!(value(text, "a_b_total"), Some(7));
        assert_eq!(value(text, "c"), None);
    }
}
