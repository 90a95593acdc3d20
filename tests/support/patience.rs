//! Waiting for facts: with long bounds, and detailed messages on failure.

use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

/// Bound for any wait on a machine with nothing else to do, far more than it needs; a busy
/// machine gets more still (see [`Deadline`]).
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Poll interval for facts that cannot notify the test.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Duration of a measurement of the machine, longer than a time slice of its scheduler.
const SAMPLE: Duration = Duration::from_millis(100);

/// Upper bound for the extension, as a multiple of the patience.
const LONGEST: f64 = 6.0;

/// A deadline. A patience that has run out is extended once, by the factor by which a thread
/// currently runs slower than alone on this machine.
#[derive(Debug)]
pub struct Deadline {
    patience: Duration,
    start: Instant,
    measured: bool,
}

impl Deadline {
    /// The deadline `patience` from now.
    pub fn after(patience: Duration) -> Self {
        Self {
            patience,
            start: Instant::now(),
            measured: false,
        }
    }

    /// Returns whether the deadline is over, after measuring the machine.
    pub fn is_past(&mut self) -> bool {
        if self.start.elapsed() < self.patience {
            return false;
        }
        if !self.measured {
            self.measured = true;
            self.patience = self.patience.mul_f64(busyness());
        }
        self.start.elapsed() >= self.patience
    }

    /// Waits for `fact` until the deadline.
    pub async fn wait<T>(&mut self, fact: impl Future<Output = T>) -> Result<T, Elapsed> {
        tokio::pin!(fact);
        loop {
            let left = self.patience.saturating_sub(self.start.elapsed());
            match timeout(left, &mut fact).await {
                Err(elapsed) if self.is_past() => return Err(elapsed),
                Err(_) => {}
                done => return done,
            }
        }
    }
}

/// The ratio of elapsed time to CPU time of a busy thread: 1 on an idle machine, 4 where four
/// threads share a processor.
fn busyness() -> f64 {
    let cpu = || {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
        time.num_microseconds() as f64 / 1e6
    };
    // tokio's clock may be paused by a test.
    let (start, cpu_before) = (std::time::Instant::now(), cpu());
    while start.elapsed() < SAMPLE {
        std::hint::spin_loop();
    }
    let used = (cpu() - cpu_before).max(1e-3);
    (start.elapsed().as_secs_f64() / used).clamp(1.0, LONGEST)
}

/// Waits for `fact`.
///
/// # Errors
/// After [`PATIENCE`].
pub async fn in_time<T>(fact: impl Future<Output = T>) -> Result<T, Elapsed> {
    Deadline::after(PATIENCE).wait(fact).await
}

/// Polls `look` until it succeeds.
///
/// # Panics
/// After [`PATIENCE`]; the message has `what` and the last error of `look`.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    until_within(PATIENCE, what, look).await
}

/// Like `until`, with another bound.
///
/// # Panics
/// After `patience`.
pub async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let mut deadline = Deadline::after(patience);
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) if deadline.is_past() => {
                panic!(
                    "waited {:?} for {what}; instead: {instead}",
                    deadline.patience
                )
            }
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}
