//! What Redis holds in the model, and the moves on it.
//!
//! A status changes by the table of `overshot_common::job::state` and by nothing else; what the scripts add to it (grant,
//! ticket, concurrency key) is here. Time passes when a move needs it to.

use overshot_common::job::Status;
use overshot_common::job::state::{Life, Move, Outcome};

/// When everything happens that does not have to wait.
const NOW: u64 = 1;
/// How long a job may wait.
const PATIENCE: u64 = 10;

/// The guards of the design. The model holds with all of them; each test of a missing one shows what it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    /// A settle compares the grant.
    pub(crate) fence: bool,
    /// A grant has a part that no other one has, whatever a failover forgot.
    pub(crate) nonce: bool,
    /// A settle that was sent again is answered and not applied.
    pub(crate) once: bool,
    /// A job that comes due looks for the holder of its concurrency key.
    pub(crate) key: bool,
    /// An end hands its concurrency key to the next waiter.
    pub(crate) release: bool,
    /// A retry honours a cancel that was asked for while the job ran.
    pub(crate) cancel: bool,
}

impl Guards {
    pub(crate) const ALL: Self = Self { fence: true, nonce: true, once: true, key: true, release: true, cancel: true };
}

/// The right to run an attempt: a number of the job's own, and the caller's nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Grant {
    number: u8,
    nonce: u8,
}

/// A job's record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) life: Life,
    /// None once it was revoked. A settled or returned job keeps it, so that the same call is answered the same.
    grant: Option<Grant>,
    /// The number of the last grant.
    last: u8,
    /// Which claim the grant was made for. No script knows it: the properties judge by it.
    claim: u8,
    /// Whether it is in its stream.
    ticket: bool,
    /// How often it was brought to an end since it was accepted.
    pub(crate) ends: u8,
}

/// All that a failover can forget.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// By number; None: not accepted yet. All have one concurrency key.
    pub(crate) jobs: Vec<Option<Record>>,
    /// The holder of the key.
    holder: Option<usize>,
}

/// What a worker learns from its settle, hand-back or snooze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Applied now, to the attempt of this claim.
    Now { claim: u8 },
    /// Applied by an earlier send.
    Before,
    /// The grant does not hold.
    Lost,
}

impl Server {
    pub(crate) fn new(jobs: usize) -> Self {
        Self { jobs: vec![None; jobs], holder: None }
    }

    pub(crate) fn status(&self, job: usize) -> Option<Status> {
        self.jobs[job].as_ref().map(|record| record.life.status)
    }

    /// Whether a claim would find it.
    pub(crate) fn claimable(&self, job: usize) -> bool {
        self.jobs[job].as_ref().is_some_and(|record| record.ticket)
    }

    /// A job that has, or will have when it is claimed, the right to run.
    pub(crate) fn active(&self, job: usize) -> bool {
        self.claimable(job) || self.status(job) == Some(Status::Running)
    }

    /// Accepts a job under its number; sent again, it changes nothing.
    pub(crate) fn submit(&mut self, job: usize, delayed: bool, guards: Guards) {
        if self.jobs[job].is_none() {
            let held = !delayed && self.key_held(job, guards);
            let due = NOW + u64::from(delayed);
            let life = Life::accept(NOW, due, PATIENCE, 2, 1, held);
            self.jobs[job] = Some(Record { life, grant: None, last: 0, claim: 0, ticket: false, ends: 0 });
            self.entered(job);
        }
    }

    pub(crate) fn claim(&mut self, job: usize, claim: u8, guards: Guards) -> Option<Grant> {
        let record = self.jobs[job].as_mut().filter(|record| record.ticket)?;
        record.life = record.life.apply(Move::Claim, NOW).ok()?;
        record.ticket = false;
        record.last += 1;
        record.claim = claim;
        record.grant = Some(Grant { number: record.last, nonce: if guards.nonce { claim } else { 0 } });
        record.grant
    }

    /// Settle, hand back or snooze.
    pub(crate) fn put_down(&mut self, job: usize, grant: Grant, how: Move, guards: Guards) -> Reply {
        let Some(record) = self.jobs[job].as_mut() else { return Reply::Lost };
        if guards.fence && record.grant != Some(grant) {
            return Reply::Lost;
        }
        let mut life = record.life.clone();
        if life.status != Status::Running {
            if guards.once || !matches!(how, Move::Settle(_)) {
                return Reply::Before;
            }
            life.status = Status::Running;
        }
        life.cancel_requested &= guards.cancel;
        let Ok(life) = life.apply(how, NOW) else { return Reply::Lost };
        record.life = life;
        record.ticket = how == Move::HandBack && record.life.status == Status::Queued;
        let claim = record.claim;
        self.ended(job, guards);
        Reply::Now { claim }
    }

    pub(crate) fn reclaim(&mut self, job: usize, guards: Guards) -> bool {
        let moved = self.turn(job, Move::Reclaim { charged: true, delay: Some(0) }, guards);
        if let (true, Some(record)) = (moved, self.jobs[job].as_mut()) {
            record.grant = None;
            // The first crash is free of delay.
            record.ticket = record.life.status == Status::Retrying && record.life.crashes < 2;
        }
        moved
    }

    /// Ends a job whose holder does not confirm that it stopped.
    pub(crate) fn force_cancel(&mut self, job: usize, guards: Guards) -> bool {
        let moved = self.turn(job, Move::ForceCancel, guards);
        if let (true, Some(record)) = (moved, self.jobs[job].as_mut()) {
            record.grant = None;
        }
        moved
    }

    pub(crate) fn promote(&mut self, job: usize, guards: Guards) -> bool {
        let key_held = self.key_held(job, guards);
        let Some(record) = self.jobs[job].as_mut().filter(|record| !record.ticket) else { return false };
        let due = record.life.run_at;
        let Ok(life) = record.life.apply(Move::Promote { key_held }, due) else { return false };
        record.life = life;
        self.entered(job);
        true
    }

    pub(crate) fn expire(&mut self, job: usize, guards: Guards) -> bool {
        self.turn(job, Move::Expire, guards)
    }

    pub(crate) fn cancel(&mut self, job: usize, guards: Guards) -> bool {
        self.turn(job, Move::Cancel, guards)
    }

    pub(crate) fn retry(&mut self, job: usize, guards: Guards) -> bool {
        let key_held = self.key_held(job, guards);
        let Some(record) = self.jobs[job].as_mut() else { return false };
        let Ok(life) = record.life.apply(Move::Retry { key_held }, NOW) else { return false };
        (record.life, record.ends, record.grant) = (life, 0, None);
        self.entered(job);
        true
    }

    /// Whether everything comes to an end when all holders are dead and one healthy worker does what there is to do.
    pub(crate) fn can_end(&self, guards: Guards) -> bool {
        let mut server = self.clone();
        let open = |server: &Self, job: usize| server.status(job).is_some_and(|status| !status.is_terminal());
        // A job takes at most a reclaim, a promote, a claim and a settle.
        for _ in 0..4 * server.jobs.len() {
            for job in 0..server.jobs.len() {
                if !open(&server, job) || server.promote(job, guards) || server.reclaim(job, guards) {
                    continue;
                }
                if let Some(grant) = server.claim(job, u8::MAX, guards) {
                    server.put_down(job, grant, Move::Settle(Outcome::Completed), guards);
                }
            }
        }
        (0..server.jobs.len()).all(|job| !open(&server, job))
    }

    /// A move that asks for nothing but what the table knows.
    fn turn(&mut self, job: usize, to: Move, guards: Guards) -> bool {
        let Some(record) = self.jobs[job].as_mut() else { return false };
        let now = if to == Move::Expire { record.life.expires_at } else { NOW };
        let Ok(life) = record.life.apply(to, now) else { return false };
        if life == record.life {
            return false;
        }
        record.life = life;
        self.ended(job, guards);
        true
    }

    fn key_held(&self, job: usize, guards: Guards) -> bool {
        guards.key && self.holder.is_some_and(|holder| holder != job)
    }

    /// A job that came due is in its stream and holds the key, or waits behind the holder.
    fn entered(&mut self, job: usize) {
        let Some(record) = self.jobs[job].as_mut() else { return };
        record.ticket = matches!(record.life.status, Status::Queued | Status::Retrying);
        if record.ticket {
            self.holder = Some(job);
        }
    }

    /// After a move that may have ended the job: the next in line gets its key.
    fn ended(&mut self, job: usize, guards: Guards) {
        let Some(record) = self.jobs[job].as_mut().filter(|record| record.life.status.is_terminal()) else { return };
        record.ticket = false;
        record.ends += 1;
        if self.holder != Some(job) || !guards.release {
            return;
        }
        self.holder = None;
        for next in 0..self.jobs.len() {
            let Some(waiter) = self.jobs[next].as_mut() else { continue };
            if let Ok(life) = waiter.life.apply(Move::Unblock, NOW) {
                waiter.life = life;
                return self.entered(next);
            }
        }
    }
}
