//! How long entries of the session table live.

use std::time::Duration;

use super::reading::Reading;

/// How long entries of the session table live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// One that nobody refreshes.
    pub expire_after: Duration,
    /// How often each is refreshed.
    pub refresh_after: Duration,
}

/// Reads both; they must fit together.
pub(super) fn read(
    reading: &mut Reading,
    expire_key: &'static str,
    refresh_key: &'static str,
) -> Option<Times> {
    let expire_after: Option<Duration> = reading.get(expire_key);
    let refresh_after: Option<Duration> = reading.get(refresh_key);
    let (expire_after, refresh_after) = (expire_after?, refresh_after?);
    if refresh_after >= expire_after {
        let what = format!(
            "is {} s, but entries expire after {} s ({expire_key}): each would be gone before it is refreshed; \
             allowed: less, best half of it",
            refresh_after.as_secs(),
            expire_after.as_secs()
        );
        reading.refuse(refresh_key, what);
    }
    Some(Times {
        expire_after,
        refresh_after,
    })
}
