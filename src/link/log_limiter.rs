//! Limits how often the log repeats the same error.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// A lasting connection error is repeated in the log no more often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Different errors remembered; with more at once, some are repeated sooner.
const CAPACITY: usize = 1000;

/// The errors logged in the last minute. The gateway dials a peer about once a
/// second; the same line each time would bury the others.
#[derive(Debug, Default)]
pub(super) struct LogLimiter {
    told: HashMap<String, Instant>,
}

impl LogLimiter {
    /// Returns whether `text` was not logged in the last minute.
    pub(super) fn allows(&mut self, text: &str) -> bool {
        self.told.retain(|_, at| at.elapsed() < COMPLAIN_EVERY);
        if self.told.contains_key(text) {
            return false;
        }
        if self.told.len() >= CAPACITY {
            self.told.clear();
        }
        self.told.insert(text.to_owned(), Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lasting_trouble_is_repeated_rarely() {
        let mut log_limiter = LogLimiter::default();
        assert!(log_limiter.allows("refused"));
        assert!(log_limiter.allows("wrong host"));
        assert!(!log_limiter.allows("refused"));
        tokio::time::advance(COMPLAIN_EVERY).await;
        assert!(log_limiter.allows("refused"));
    }

    #[test]
    fn remembers_only_so_many() {
        let mut log_limiter = LogLimiter::default();
        for n in 0..10 * CAPACITY {
            assert!(log_limiter.allows(&n.to_string()));
        }
        assert!(log_limiter.told.len() <= CAPACITY);
    }
}
