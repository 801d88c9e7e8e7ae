//! The table of moves: who may bring a job from which status to which. Pure: no I/O, no clock.
//!
//! `queue/scripts/*.lua` enforces the same table; `tests/it/queue/histories.rs` drives both with the same random
//! histories and compares. Times are Unix time in ms.

use super::Status;

/// The part of a job that decides which moves are open to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Life {
    /// Where the job stands.
    pub status: Status,
    /// Runs begun; hand-back and snooze take theirs back.
    pub attempts: u32,
    /// Runs that failed.
    pub failures: u32,
    /// Workers lost under the job.
    pub crashes: u32,
    /// Failures that end it.
    pub max_attempts: u32,
    /// More crashes than this end it.
    pub max_crashes: u32,
    /// How long it may wait.
    pub queue_timeout: u64,
    /// When its next attempt is due.
    pub run_at: u64,
    /// When its waiting ends as expired.
    pub expires_at: u64,
    /// Whether a caller asked to cancel it while it ran.
    pub cancel_requested: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Completed,
    /// For good.
    Failed,
    /// To be tried again after so many ms, if attempts are left.
    Retry(u64),
    /// Because a caller asked for it.
    Cancelled,
}

/// A move of the table. What the job alone cannot tell comes with it: its concurrency key, and whose fault a crash was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Its time has come. `key_held`: another job holds its concurrency key.
    Promote {
        /// Whether the job has to wait for its key.
        key_held: bool,
    },
    /// Its concurrency key is free and now its own.
    Unblock,
    /// A worker takes it.
    Claim,
    /// Its worker says how the run ended.
    Settle(Outcome),
    /// Its worker returns it unfinished.
    HandBack,
    /// Its worker puts it off for so many ms.
    Snooze(u64),
    /// Its worker died or fell silent. `charged`: the crash counts against it. `delay`: until the retry, from the second
    /// crash on; `None`: there is none.
    Reclaim {
        /// Whether the crash counts against this job.
        charged: bool,
        /// Until the retry after a second crash.
        delay: Option<u64>,
    },
    /// A caller wants it gone.
    Cancel,
    /// The patience with a holder that does not confirm a cancel is over.
    ForceCancel,
    /// Its queue deadline has passed.
    Expire,
    /// A caller wants it run again. `key_held` as in promote.
    Retry {
        /// Whether the job has to wait for its key.
        key_held: bool,
    },
}

/// The move is not open to a job in this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{attempted:?} is not open to a job that is {status}")]
pub struct InvalidMove {
    /// Where the job stands.
    pub status: Status,
    /// What was wanted.
    pub attempted: Move,
}

impl Life {
    /// A job as it is accepted at `now`. `key_held` as in [`Move::Promote`].
    pub fn accept(now: u64, due: u64, queue_timeout: u64, max_attempts: u32, max_crashes: u32, key_held: bool) -> Self {
        let status = match (due > now, key_held) {
            (true, _) => Status::Scheduled,
            (false, true) => Status::Blocked,
            (false, false) => Status::Queued,
        };
        Self {
            status,
            attempts: 0,
            failures: 0,
            crashes: 0,
            max_attempts,
            max_crashes,
            queue_timeout,
            run_at: due.max(now),
            expires_at: due.max(now) + queue_timeout,
            cancel_requested: false,
        }
    }

    /// The job after a move at `now`.
    ///
    /// # Errors
    /// [`InvalidMove`] when the table has no such move; the job is then unchanged.
    pub fn apply(&self, attempted: Move, now: u64) -> Result<Self, InvalidMove> {
        let mut life = self.clone();
        match (attempted, self.status) {
            (Move::Promote { key_held }, Status::Scheduled | Status::Retrying) if self.run_at <= now => {
                life.promote(key_held, now);
            }
            (Move::Unblock, Status::Blocked) => life.status = Status::Queued,
            (Move::Claim, Status::Queued | Status::Retrying) if self.expires_at <= now => life.status = Status::Expired,
            (Move::Claim, Status::Queued | Status::Retrying) => {
                life.status = Status::Running;
                life.attempts += 1;
            }
            (Move::Settle(outcome), Status::Running) => life.settle(outcome, now),
            (Move::HandBack, Status::Running) => {
                life.attempts -= 1;
                life.status = if life.cancel_requested { Status::Cancelled } else { Status::Queued };
            }
            (Move::Snooze(delay), Status::Running) => {
                life.attempts -= 1;
                if life.cancel_requested {
                    life.status = Status::Cancelled;
                } else {
                    (life.status, life.run_at) = (Status::Scheduled, now + delay);
                }
            }
            (Move::Reclaim { charged, delay }, Status::Running) => life.reclaim(charged, delay, now),
            (Move::Cancel, Status::Running) => life.cancel_requested = true,
            (Move::Cancel, status) if !status.is_terminal() => life.status = Status::Cancelled,
            (Move::ForceCancel, Status::Running) if self.cancel_requested => life.status = Status::Cancelled,
            (Move::Expire, status) if self.waits() && self.expires_at <= now => {
                debug_assert!(!status.is_terminal(), "a waiting job has not ended");
                life.status = Status::Expired;
            }
            (Move::Retry { key_held }, status) if status.is_terminal() => {
                life = Self::accept(now, now, self.queue_timeout, self.max_attempts, self.max_crashes, key_held);
            }
            _ => return Err(InvalidMove { status: self.status, attempted }),
        }
        Ok(life)
    }

    /// Whether the job waits, in a stream or elsewhere.
    pub fn waits(&self) -> bool {
        self.status < Status::Completed && self.status != Status::Running
    }

    fn promote(&mut self, key_held: bool, now: u64) {
        self.status = match (self.expires_at <= now, key_held, self.status) {
            (true, ..) => Status::Expired,
            (false, true, _) => Status::Blocked,
            // A retry keeps its name until its next claim.
            (false, false, Status::Retrying) => Status::Retrying,
            (false, false, _) => Status::Queued,
        };
    }

    fn settle(&mut self, outcome: Outcome, now: u64) {
        match outcome {
            Outcome::Completed => self.status = Status::Completed,
            Outcome::Cancelled => self.status = Status::Cancelled,
            Outcome::Failed => {
                self.failures += 1;
                self.status = Status::Failed;
            }
            Outcome::Retry(delay) => {
                self.failures += 1;
                if self.cancel_requested {
                    self.status = Status::Cancelled;
                } else if self.failures >= self.max_attempts {
                    self.status = Status::Failed;
                } else {
                    self.status = Status::Retrying;
                    self.run_at = now + delay;
                    self.expires_at = self.run_at + self.queue_timeout;
                }
            }
        }
    }

    fn reclaim(&mut self, charged: bool, delay: Option<u64>, now: u64) {
        self.crashes += u32::from(charged);
        let again = charged && self.crashes > 1;
        self.status = if self.cancel_requested {
            Status::Cancelled
        } else if self.crashes > self.max_crashes || (again && delay.is_none()) {
            Status::Failed
        } else {
            Status::Retrying
        };
        if let (Status::Retrying, true, Some(delay)) = (self.status, again, delay) {
            self.run_at = now + delay;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Life {
        Life::accept(1_000, 1_000, 60_000, 3, 1, false)
    }

    fn after(life: Life, moves: &[Move]) -> Life {
        moves.iter().fold(life, |life, attempted| life.apply(*attempted, 2_000).unwrap())
    }

    #[test]
    fn a_job_fails_when_its_failures_reach_max_attempts() {
        let again = [Move::Claim, Move::Settle(Outcome::Retry(0))];
        let twice = after(after(job(), &again), &again);
        assert_eq!((twice.status, twice.attempts, twice.failures), (Status::Retrying, 2, 2));
        assert_eq!(after(twice, &again).status, Status::Failed);
    }

    #[test]
    fn crashes_have_a_budget_of_their_own() {
        let crash = [Move::Claim, Move::Reclaim { charged: true, delay: Some(0) }];
        let once = after(job(), &crash);
        assert_eq!((once.status, once.failures, once.crashes, once.attempts), (Status::Retrying, 0, 1, 1));
        assert_eq!(after(once, &crash).status, Status::Failed);
    }

    #[test]
    fn a_neighbour_of_the_culprit_does_not_pay() {
        let life = after(job(), &[Move::Claim, Move::Reclaim { charged: false, delay: None }]);
        assert_eq!((life.status, life.crashes), (Status::Retrying, 0));
    }

    #[test]
    fn hand_back_and_snooze_take_their_attempt_back_and_keep_the_deadline() {
        let life = after(job(), &[Move::Claim, Move::HandBack, Move::Claim, Move::Snooze(5)]);
        assert_eq!((life.attempts, life.expires_at, life.run_at), (0, 61_000, 2_005));
    }

    #[test]
    fn a_requested_cancel_is_honoured_by_every_move_but_completion() {
        let asked = after(job(), &[Move::Claim, Move::Cancel]);
        for last in [
            Move::HandBack,
            Move::Snooze(1),
            Move::Settle(Outcome::Retry(1)),
            Move::Reclaim { charged: true, delay: None },
            Move::ForceCancel,
        ] {
            assert_eq!(after(asked.clone(), &[last]).status, Status::Cancelled, "{last:?}");
        }
        assert_eq!(after(asked, &[Move::Settle(Outcome::Completed)]).status, Status::Completed);
    }

    #[test]
    fn only_an_explicit_retry_leaves_a_terminal_status() {
        let ended = after(job(), &[Move::Cancel]);
        for attempted in
            [Move::Claim, Move::Cancel, Move::Expire, Move::Settle(Outcome::Completed), Move::HandBack, Move::Unblock]
        {
            assert!(ended.apply(attempted, 1_000_000).is_err(), "{attempted:?}");
        }
        assert_eq!(after(ended, &[Move::Retry { key_held: false }]).status, Status::Queued);
    }

    #[test]
    fn nothing_is_claimed_past_its_deadline() {
        assert_eq!(job().apply(Move::Claim, 61_000).unwrap().status, Status::Expired);
    }
}
