//! Waiting for facts: generous, and talkative when it was in vain.

use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take on a machine with nothing else to do. Far more than it
/// does; a busy machine gets more still (see [`Deadline`]).
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a fact is looked up that cannot notify us.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the machine is measured. Longer than a time slice of its scheduler.
const SAMPLE: Duration = Duration::from_millis(100);

/// No machine is waited for longer than this many times the patience.
const LONGEST: f64 = 6.0;

/// When to give up. A patience that has run out is extended once, by how much slower
/// than alone a thread runs on this machine at present.
#[derive(Debug)]
pub struct Deadline {
    patience: Duration,
    start: Instant,
    measured: bool,
}

impl Deadline {
    /// `patience` from now.
    pub fn after(patience: Duration) -> Self {
        Self {
            patience,
            start: Instant::now(),
            measured: false,
        }
    }

    /// Whether to give up. Measures the machine before it says so.
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

    /// Waits for `fact` until then.
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

/// How many times longer than its CPU time a busy thread takes: 1 on an idle machine, 4
/// where four threads share a processor.
fn busyness() -> f64 {
    let cpu = || {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
        time.num_microseconds() as f64 / 1e6
    };
    // Not tokio's clock, which a test may have stopped.
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
/// When [`PATIENCE`] has run out.
pub async fn in_time<T>(fact: impl Future<Output = T>) -> Result<T, Elapsed> {
    Deadline::after(PATIENCE).wait(fact).await
}

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
