//! Waiting for conditions, never for times.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// Looks at `condition` until it gives a value, and panics with `what` and its last words after `within`.
///
/// The condition answers `Err` with a sentence that says what is still missing.
pub async fn until<T, F, Fut>(what: &str, within: Duration, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + within;
    loop {
        let missing = match tokio::time::timeout_at(deadline, condition()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(missing)) => missing,
            Err(_) => "the last look did not come back".to_owned(),
        };
        assert!(Instant::now() < deadline, "waited {within:?} for {what}: {missing}");
        tokio::time::sleep(POLL).await;
    }
}

/// The pause before a refused request is sent again.
pub async fn breath() {
    tokio::time::sleep(POLL).await;
}
