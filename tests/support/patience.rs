//! Waiting for facts: generous, and talkative when it was in vain.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take. Far more than it does, so that a busy machine
/// fails no test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a fact is looked up that cannot notify us.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` finds something.
///
/// # Panics
/// After [`PATIENCE`], saying `what` was awaited and what the last look gave.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    until_within(PATIENCE, what, look).await
}

/// The same for what takes long.
///
/// # Panics
/// After `patience`.
pub async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() >= deadline => {
                panic!("waited {patience:?} for {what}; instead: {instead}")
            }
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}
