//! Limits how often the log repeats a warning that traffic or a peer can cause.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Warnings of one kind are logged no more often.
const INTERVAL: Duration = Duration::from_secs(60);

/// Different kinds remembered; with more at once, some are repeated sooner.
const CAPACITY: usize = 1000;

/// The kinds of warnings logged lately. The caller puts into a kind what tells an operator
/// something new: the reason and the peer, not the stanza.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter(Mutex<HashMap<String, Logged>>);

#[derive(Debug)]
struct Logged {
    at: Instant,
    /// Warnings of the kind since then.
    left_out: u64,
}

/// The number of warnings left out before this one, for the end of its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

impl LogLimiter {
    /// `None` if a warning of this kind was logged in the last minute.
    pub(crate) fn allows(&self, kind: &str) -> Option<LeftOut> {
        let mut kinds = self.0.lock();
        let now = Instant::now();
        let is_recent = |logged: &Logged| now.duration_since(logged.at) < INTERVAL;
        if let Some(logged) = kinds.get_mut(kind) {
            if is_recent(logged) {
                logged.left_out += 1;
                return None;
            }
            logged.at = now;
            return Some(LeftOut(std::mem::take(&mut logged.left_out)));
        }
        if kinds.len() >= CAPACITY {
            kinds.retain(|_, logged| is_recent(logged));
        }
        if kinds.len() >= CAPACITY {
            kinds.clear();
        }
        let left_out = 0;
        kinds.insert(kind.to_owned(), Logged { at: now, left_out });
        Some(LeftOut(0))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " (and {count} more since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_repeated_warning_is_logged_rarely_and_counted() {
        let limiter = LogLimiter::default();
        assert_eq!(limiter.allows("refused"), Some(LeftOut(0)));
        assert_eq!(limiter.allows("wrong host"), Some(LeftOut(0)));
        for _ in 0..123 {
            assert_eq!(limiter.allows("refused"), None);
        }
        tokio::time::advance(INTERVAL).await;
        let again = limiter.allows("refused").unwrap();
        assert_eq!(
            again.to_string(),
            " (and 123 more since the last such line)"
        );
        assert_eq!(limiter.allows("refused"), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limiter.allows("refused"), Some(LeftOut(1)));
        assert_eq!(limiter.allows("wrong host").unwrap().to_string(), "");
    }

    #[test]
    fn remembers_only_so_many() {
        let limiter = LogLimiter::default();
        for n in 0..10 * CAPACITY {
            assert!(limiter.allows(&n.to_string()).is_some());
        }
        assert!(limiter.0.lock().len() <= CAPACITY);
    }
}
