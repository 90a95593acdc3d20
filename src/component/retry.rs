//! Delays between attempts to attach, and log lines about an outage.

use std::collections::BTreeSet;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use super::failure::{Patience, StreamFailure};

/// With the jitter, which doubles a delay at most, the next attempt starts within 2 s.
const SHORT: ExponentialBuilder = ExponentialBuilder::new()
    .with_jitter()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_secs(1))
    .without_max_times();
/// The delay does not grow: a standby takes over within 2 s of the end of another
/// gateway.
const STANDBY: ExponentialBuilder = ExponentialBuilder::new()
    .with_jitter()
    .with_min_delay(Duration::from_secs(1))
    .with_max_delay(Duration::from_secs(1))
    .without_max_times();
/// The next attempt starts within 30 s, jitter included. The delay starts low
/// because a server that is just starting may not know its domains yet.
const LONG: ExponentialBuilder = ExponentialBuilder::new()
    .with_jitter()
    .with_min_delay(Duration::from_millis(500))
    .with_max_delay(Duration::from_secs(15))
    .without_max_times();
/// A stream that lasted this long ends the outage: the next failure starts a new one.
const STABLE: Duration = Duration::from_secs(10);
/// The time between two log lines about the same outage, at first and at most.
const REMIND: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// The attempts since the last stream that lasted.
#[derive(Debug)]
pub(super) struct Outage {
    short: ExponentialBackoff,
    standby: ExponentialBackoff,
    long: ExponentialBackoff,
    told: BTreeSet<&'static str>,
    remind_after: Duration,
    spoke_at: Option<Instant>,
}

/// The detail of a log line about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogDetail {
    /// The failure and the advice.
    Everything,
    /// The failure alone.
    Briefly,
    Nothing,
}

impl Outage {
    pub fn new() -> Self {
        Self {
            short: SHORT.build(),
            standby: STANDBY.build(),
            long: LONG.build(),
            told: BTreeSet::new(),
            remind_after: REMIND.0,
            spoke_at: None,
        }
    }

    /// A stream has ended that lasted for `lived`.
    pub fn interrupted(&mut self, lived: Duration) {
        if lived >= STABLE {
            *self = Self::new();
        }
    }

    pub fn delay(&mut self, failure: &StreamFailure) -> Duration {
        let backoff = match failure.patience() {
            Patience::Short => &mut self.short,
            Patience::Standby => &mut self.standby,
            Patience::Long => &mut self.long,
        };
        // A backoff without a maximum number of attempts never ends.
        backoff.next().unwrap_or(STABLE)
    }

    /// The log has the full advice for each reason once, then a reminder in
    /// growing intervals.
    pub fn tell(&mut self, failure: &StreamFailure, now: Instant) -> LogDetail {
        if self.told.insert(failure.reason()) {
            self.spoke_at = Some(now);
            return LogDetail::Everything;
        }
        let due = self
            .spoke_at
            .is_none_or(|spoke| now.duration_since(spoke) >= self.remind_after);
        if !due {
            return LogDetail::Nothing;
        }
        self.spoke_at = Some(now);
        self.remind_after = (self.remind_after * 2).min(REMIND.1);
        LogDetail::Briefly
    }
}

#[cfg(test)]
mod tests {
    use super::super::failure::Said;
    use super::*;

    #[test]
    fn a_returning_server_is_found_within_two_seconds() {
        let mut outage = Outage::new();
        for _ in 0..100 {
            let delay = outage.delay(&StreamFailure::ConnectionRefused);
            assert!(delay <= Duration::from_secs(2), "{delay:?}");
        }
    }

    #[test]
    fn a_standby_tries_for_ever_every_two_seconds() {
        let mut outage = Outage::new();
        for _ in 0..1000 {
            let delay = outage.delay(&StreamFailure::Conflict(Said::default()));
            let (least, most) = (Duration::from_secs(1), Duration::from_secs(2));
            assert!((least..=most).contains(&delay), "{delay:?}");
        }
    }

    #[test]
    fn a_configuration_error_is_not_hammered() {
        let mut outage = Outage::new();
        let failure = StreamFailure::WrongPort("smtp".to_owned());
        let last = (0..100).map(|_| outage.delay(&failure)).last().unwrap();
        let (least, most) = (Duration::from_secs(15), Duration::from_secs(30));
        assert!((least..=most).contains(&last), "{last:?}");
    }

    #[test]
    fn a_stream_that_dies_at_once_does_not_start_the_wait_anew() {
        let mut outage = Outage::new();
        let failure = StreamFailure::WrongPort("smtp".to_owned());
        for _ in 0..10 {
            outage.delay(&failure);
            outage.interrupted(Duration::from_millis(5));
        }
        assert!(outage.delay(&failure) >= Duration::from_secs(15));
        outage.interrupted(STABLE);
        assert!(outage.delay(&failure) <= Duration::from_secs(1));
    }

    #[test]
    fn says_everything_once_and_reminds_ever_more_seldom() {
        let mut outage = Outage::new();
        let start = Instant::now();
        let told: Vec<(u64, LogDetail)> = (0..1000)
            .map(|s| {
                (
                    s,
                    outage.tell(
                        &StreamFailure::ConnectionRefused,
                        start + Duration::from_secs(s),
                    ),
                )
            })
            .filter(|(_, tell)| *tell != LogDetail::Nothing)
            .collect();
        assert_eq!(told[0], (0, LogDetail::Everything));
        assert_eq!(told[1], (10, LogDetail::Briefly));
        assert_eq!(told[2], (30, LogDetail::Briefly));
        assert!(told.len() < 10, "{told:?}");
        let other = StreamFailure::Closed("end".to_owned());
        assert_eq!(outage.tell(&other, start), LogDetail::Everything);
    }
}
