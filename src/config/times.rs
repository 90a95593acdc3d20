//! Lifetimes of entries in the session table.

use std::time::Duration;

use super::reading::Reading;

/// Lifetimes of entries in the session table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Time after which an entry expires without a refresh.
    pub expire_after: Duration,
    /// Time between refreshes of an entry.
    pub refresh_after: Duration,
}

/// Checks that entries are refreshed before they expire.
pub(super) fn check(reading: &mut Reading, expire_key: &str, refresh_key: &str) {
    let times = (
        reading.get::<Duration>(expire_key),
        reading.get::<Duration>(refresh_key),
    );
    let misread = [expire_key, refresh_key].map(|key| reading.is_misread(key));
    if let (Some(expire_after), Some(refresh_after)) = times
        && refresh_after >= expire_after
        && !misread.contains(&true)
    {
        let what = format!(
            "is {} s, but entries expire after {} s ({expire_key}): each would be gone before it is refreshed; \
             allowed: less, best half of it",
            refresh_after.as_secs_f64(),
            expire_after.as_secs_f64()
        );
        reading.refuse(refresh_key, what);
    }
}
