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
    let mut missing = "nothing was seen".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, condition()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(still)) => missing = still,
            Err(_) => missing.push_str(" (the last look did not come back)"),
        }
        assert!(Instant::now() < deadline, "waited {within:?} for {what}: {missing}");
        tokio::time::sleep(POLL).await;
    }
}

/// The pause before a refused request is sent again.
pub async fn breath() {
    tokio::time::sleep(POLL).await;
}
