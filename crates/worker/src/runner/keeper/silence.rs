//! How long Redis may be silent before this worker's jobs have to stop.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Left for stopping before another worker may begin.
const MARGIN: Duration = Duration::from_secs(1);

/// The time since the last acknowledged call, counted from when that was sent: Redis acted on it later, never sooner.
#[derive(Debug)]
pub(super) struct Silence {
    allowed: Duration,
    last: Cell<Instant>,
}

impl Silence {
    /// The silence that a lease and the worker's liveness allow: the shorter, less a second; half of it where it is short.
    pub(super) fn new(lease: Duration, liveness: Duration) -> Self {
        let shorter = lease.min(liveness);
        let allowed = shorter.saturating_sub(MARGIN).max(shorter / 2);
        Self { allowed, last: Cell::new(Instant::now()) }
    }

    /// A call that was sent then was acknowledged.
    pub(super) fn heard(&self, sent: Instant) {
        self.last.set(self.last.get().max(sent));
    }

    /// Waits until the silence has lasted too long.
    pub(super) async fn too_long(&self) {
        loop {
            let end = self.last.get() + self.allowed;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);
    const LIVENESS: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn jobs_stop_a_second_before_the_worker_is_taken_for_dead() {
        let begun = Instant::now();
        Silence::new(LEASE, LIVENESS).too_long().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_sending_of_the_last_acknowledged_call() {
        let silence = Silence::new(LEASE, LIVENESS);
        let begun = Instant::now();
        let heard_late = async {
            tokio::time::sleep(Duration::from_secs(8)).await;
            silence.heard(begun + Duration::from_secs(6));
        };
        tokio::join!(silence.too_long(), heard_late);
        assert_eq!(begun.elapsed(), Duration::from_secs(15));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_lease_still_lets_jobs_run() {
        let begun = Instant::now();
        Silence::new(Duration::from_secs(1), LIVENESS).too_long().await;
        assert_eq!(begun.elapsed(), Duration::from_millis(500));
    }
}
