//! Random histories: the scripts and the pure table of moves must agree on every job after every step.

use std::collections::BTreeMap;
use std::time::Duration;

use overshot_common::ids::{JobId, LocalId};
use overshot_common::job::OnConflict;
use overshot_common::job::Status;
use overshot_common::job::state::{Life, Move, Outcome};
use overshot_common::queue::{Held, NewJob, ReclaimPolicy, Settled, Stage, Submitted, Verdict};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::shop::{LEASE, LIVENESS, Shop, done, error, held, worker_id};

const STALE_DELAY: Duration = Duration::from_secs(30);

/// One step of a history. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        delay_s: u64,
        queue_timeout_s: u64,
        own_deadline: bool,
        key: Option<u8>,
        on_conflict: u8,
        max_attempts: u32,
        turn: Option<u8>,
    },
    Claim {
        most: usize,
        /// The models whose turn it is, a bit each.
        turns: u8,
    },
    Settle {
        which: usize,
        outcome: u8,
        delay_s: u64,
    },
    SettleStale {
        which: usize,
    },
    HandBack {
        which: usize,
    },
    Snooze {
        which: usize,
        delay_s: u64,
    },
    Cancel {
        which: usize,
    },
    Retry {
        which: usize,
    },
    Promote,
    Expire,
    Reclaim,
    Pass {
        seconds: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..64_usize;
    prop_oneof![
        4 => (prop_oneof![3 => Just(0_u64), 1 => 1..40_u64], prop_oneof![Just(3600_u64), 20..90_u64], any::<bool>(),
              prop::option::weighted(0.4, 0..2_u8), 0..3_u8, 1..4_u32, prop::option::weighted(0.3, 0..2_u8)).prop_map(
            |(delay_s, queue_timeout_s, own, key, on_conflict, max_attempts, turn)| Step::Submit {
                delay_s, queue_timeout_s, own_deadline: own || queue_timeout_s != 3600, key, on_conflict, max_attempts, turn
            }),
        4 => (1..4_usize, 0..4_u8).prop_map(|(most, turns)| Step::Claim { most, turns }),
        4 => (number.clone(), 0..4_u8, 0..20_u64).prop_map(|(which, outcome, delay_s)| Step::Settle { which, outcome, delay_s }),
        1 => number.clone().prop_map(|which| Step::SettleStale { which }),
        1 => number.clone().prop_map(|which| Step::HandBack { which }),
        1 => (number.clone(), 1..60_u64).prop_map(|(which, delay_s)| Step::Snooze { which, delay_s }),
        2 => number.clone().prop_map(|which| Step::Cancel { which }),
        1 => number.prop_map(|which| Step::Retry { which }),
        2 => Just(Step::Promote),
        2 => Just(Step::Expire),
        2 => Just(Step::Reclaim),
        2 => (1..40_u64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// What the model knows of a job beside its life.
#[derive(Debug)]
struct Known {
    life: Life,
    key: Option<String>,
    on_conflict: OnConflict,
    created: u64,
    running: Option<(Held, u64)>,
    cancelled_at: u64,
    /// Whether it is in the due set, not in a stream.
    due: bool,
}

/// The shard as the table of moves has it.
#[derive(Debug, Default)]
struct Model {
    jobs: BTreeMap<LocalId, Known>,
    stale: Vec<Held>,
    holders: BTreeMap<String, LocalId>,
}

impl Model {
    fn holder_other_than(&self, id: LocalId, key: Option<&String>) -> Option<LocalId> {
        self.holders.get(key?).copied().filter(|holder| *holder != id)
    }

    /// Applies a move that must be open, and what follows from an end.
    fn apply(&mut self, id: LocalId, attempted: Move, now: u64) {
        let known = self.jobs.get_mut(&id).expect("the model knows every job");
        known.life = known.life.apply(attempted, now).unwrap_or_else(|refused| panic!("{refused}"));
        known.due = match (attempted, known.life.status) {
            (Move::Settle(_), Status::Retrying) | (Move::Snooze(_), Status::Scheduled) => true,
            (Move::Reclaim { .. }, Status::Retrying) => known.life.crashes > 1,
            _ => false,
        };
        if known.life.status != Status::Running
            && let Some((held, _)) = known.running.take()
        {
            self.stale.push(held);
        }
        self.follow_up(id, now);
    }

    fn follow_up(&mut self, id: LocalId, now: u64) {
        let known = &self.jobs[&id];
        let Some(key) = known.key.clone() else { return };
        match known.life.status {
            status if status.is_terminal() => self.release(id, &key, now),
            Status::Queued | Status::Running | Status::Retrying => {
                self.holders.entry(key).or_insert(id);
            }
            Status::Blocked | Status::Scheduled => {}
            _ => unreachable!("all statuses are named above"),
        }
    }

    fn release(&mut self, id: LocalId, key: &str, now: u64) {
        if self.holders.get(key) != Some(&id) {
            return;
        }
        self.holders.remove(key);
        let waiting =
            |(_, known): &(&LocalId, &Known)| known.life.status == Status::Blocked && known.key.as_deref() == Some(key);
        let next = self.jobs.iter().filter(waiting).min_by_key(|(id, known)| (known.created, **id)).map(|(id, _)| *id);
        if let Some(next) = next {
            self.apply(next, Move::Unblock, now);
        }
    }

    /// A due job enters: `replace` makes room first. Tells whether the key is still held by another.
    fn make_room(&mut self, id: LocalId, key: Option<&String>, on_conflict: OnConflict, now: u64) -> bool {
        let Some(holder) = self.holder_other_than(id, key) else { return false };
        if on_conflict == OnConflict::Replace {
            let blocked: Vec<LocalId> = self
                .jobs
                .iter()
                .filter(|(_, known)| known.life.status == Status::Blocked && known.key.as_ref() == key)
                .map(|(id, _)| *id)
                .collect();
            for waiter in blocked {
                self.apply(waiter, Move::Cancel, now);
            }
            self.cancel(holder, now);
        }
        self.holder_other_than(id, key).is_some()
    }

    fn cancel(&mut self, id: LocalId, now: u64) {
        let known = &self.jobs[&id];
        if !known.life.status.is_terminal() {
            if known.life.status == Status::Running && !known.life.cancel_requested {
                self.jobs.get_mut(&id).unwrap().cancelled_at = now;
            }
            self.apply(id, Move::Cancel, now);
        }
    }

    fn nth(&self, which: usize, wanted: impl Fn(&Known) -> bool) -> Option<LocalId> {
        let found: Vec<LocalId> = self.jobs.iter().filter(|(_, known)| wanted(known)).map(|(id, _)| *id).collect();
        found.get(which % found.len().max(1)).copied()
    }

    fn nth_running(&self, which: usize) -> Option<(LocalId, Held)> {
        let id = self.nth(which, |known| known.running.is_some())?;
        Some((id, self.jobs[&id].running.clone()?.0))
    }
}

/// Both sides of a history.
struct Pair {
    shop: Shop,
    model: Model,
}

impl Pair {
    fn id(&self, local: LocalId) -> JobId {
        JobId { shard: self.shop.shard.clone(), local }
    }

    async fn run(&mut self, step: Step) {
        let now = self.shop.now();
        match step {
            Step::Submit { .. } => self.submit(step, now).await,
            Step::Claim { most, turns } => self.claim(most, turns, now).await,
            Step::Settle { which, outcome, delay_s } => self.settle(which, outcome, delay_s, now).await,
            Step::SettleStale { which } => {
                if let Some(held) = self.model.stale.get(which % self.model.stale.len().max(1)).cloned() {
                    let local = held.id.local;
                    let answer = self.shop.settle_held(held, done()).await;
                    let unchanged = matches!(answer, Settled::Lost | Settled::Before(_));
                    assert!(unchanged, "a stale grant settled {local}");
                }
            }
            Step::HandBack { which } => {
                if let Some((id, held)) = self.model.nth_running(which) {
                    self.shop.queue.hand_back(&self.shop.shard, &[held]).await.unwrap();
                    self.model.apply(id, Move::HandBack, now);
                }
            }
            Step::Snooze { which, delay_s } => {
                if let Some((id, held)) = self.model.nth_running(which) {
                    self.shop.queue.snooze(&held, Duration::from_secs(delay_s), None).await.unwrap();
                    self.model.apply(id, Move::Snooze(delay_s * 1000), now);
                }
            }
            Step::Cancel { which } => {
                if let Some(id) = self.model.nth(which, |_| true) {
                    self.shop.queue.cancel(&self.shop.shard, &[id]).await.unwrap();
                    self.model.cancel(id, now);
                }
            }
            Step::Retry { which } => self.retry(which, now).await,
            Step::Promote => self.promote(now).await,
            Step::Expire => {
                // What is overdue in the due set is the promoter's to expire.
                self.promote(now).await;
                self.shop.queue.expire(&self.shop.shard).await.unwrap();
                let late = |known: &Known| known.life.waits() && known.life.expires_at <= now;
                while let Some(id) = self.model.nth(0, late) {
                    self.model.apply(id, Move::Expire, now);
                }
            }
            Step::Reclaim => self.reclaim(now).await,
            Step::Pass { seconds } => self.shop.pass(Duration::from_secs(seconds)).await,
        }
    }

    async fn submit(&mut self, step: Step, now: u64) {
        let Step::Submit { delay_s, queue_timeout_s, own_deadline, key, on_conflict, max_attempts, turn } = step else {
            return;
        };
        let on_conflict = OnConflict::ALL[usize::from(on_conflict)];
        let job = NewJob {
            delay: Duration::from_secs(delay_s),
            queue_timeout: Duration::from_secs(queue_timeout_s),
            own_deadline,
            max_attempts,
            max_crashes: 1,
            concurrency_key: key.map(|key| format!("k{key}")),
            on_conflict,
            ..turn.map_or_else(|| self.shop.job(), |model| self.shop.job_of(&format!("m{model}")))
        };
        let answer = self.shop.submit(&job).await;
        let (local, key) = (job.id.local, job.concurrency_key);
        let due = now + delay_s * 1000;
        let held = delay_s == 0 && self.model.holder_other_than(local, key.as_ref()).is_some();
        if held && on_conflict == OnConflict::Reject {
            assert!(matches!(answer, Submitted::KeyHeld(_)), "{answer:?}");
            return;
        }
        assert!(matches!(answer, Submitted::Accepted(_)), "{answer:?}");
        let held = delay_s == 0 && self.model.make_room(local, key.as_ref(), on_conflict, now);
        let life = Life::accept(now, due, queue_timeout_s * 1000, max_attempts, 1, held);
        self.model.jobs.insert(
            local,
            Known { life, key, on_conflict, created: now, running: None, cancelled_at: 0, due: delay_s > 0 },
        );
        self.model.follow_up(local, now);
    }

    async fn claim(&mut self, most: usize, turns: u8, now: u64) {
        let turns: Vec<&str> = ["m0", "m1"]
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| turns >> bit & 1 == 1)
            .map(|(_, model)| model)
            .collect();
        let claim = self.shop.claim_of("w", most, &turns).await;
        // A claim that came across expired jobs has ended them; which ones it looked at is its own affair. Their keys
        // were freed before it went on, so that it may have taken who waited for one.
        let late = |known: &Known| known.life.waits() && known.life.expires_at <= now;
        let ids: Vec<LocalId> = self.model.jobs.iter().filter(|(_, known)| late(known)).map(|(id, _)| *id).collect();
        for id in ids {
            if self.shop.status(&self.id(id)).await == Status::Expired {
                self.model.apply(id, Move::Expire, now);
            }
        }
        for job in &claim.jobs {
            let id = job.id.local;
            let turn = job.spec.turn.as_deref();
            assert!(turn.is_none_or(|turn| turns.contains(&turn)), "{id} has no turn");
            self.model.apply(id, Move::Claim, now);
            let known = self.model.jobs.get_mut(&id).unwrap();
            assert_eq!(known.life.status, Status::Running, "{id} was past its deadline");
            assert_eq!(job.attempt, known.life.attempts);
            known.running = Some((held(job), now + u64::try_from(LEASE.as_millis()).unwrap()));
        }
    }

    async fn settle(&mut self, which: usize, outcome: u8, delay_s: u64, now: u64) {
        let Some((id, held)) = self.model.nth_running(which) else { return };
        let failure = error(overshot_common::code::ErrorCode::ProviderError);
        let (verdict, outcome) = match outcome {
            0 => (done(), Outcome::Completed),
            1 => (Verdict::Failed(failure), Outcome::Failed),
            2 => (Verdict::Retry(failure, Duration::from_secs(delay_s)), Outcome::Retry(delay_s * 1000)),
            _ => (Verdict::Cancelled(failure), Outcome::Cancelled),
        };
        let answer = self.shop.settle_held(held, verdict).await;
        self.model.apply(id, Move::Settle(outcome), now);
        assert_eq!(answer, Settled::Now(self.model.jobs[&id].life.status));
    }

    async fn retry(&mut self, which: usize, now: u64) {
        let Some(id) = self.model.nth(which, |known| known.life.status.is_terminal()) else { return };
        self.shop.queue.retry(&self.shop.shard, Shop::limits(), None, &[id]).await.unwrap();
        let (key, on_conflict) = (self.model.jobs[&id].key.clone(), self.model.jobs[&id].on_conflict);
        let held = self.model.holder_other_than(id, key.as_ref()).is_some();
        if held && on_conflict == OnConflict::Reject {
            return;
        }
        let key_held = self.model.make_room(id, key.as_ref(), on_conflict, now);
        self.model.jobs.get_mut(&id).unwrap().cancelled_at = 0;
        self.model.apply(id, Move::Retry { key_held }, now);
    }

    async fn promote(&mut self, now: u64) {
        self.shop.promote().await;
        let due = |known: &Known| known.due && known.life.run_at <= now;
        let mut ids: Vec<LocalId> = self.model.jobs.iter().filter(|(_, known)| due(known)).map(|(id, _)| *id).collect();
        ids.sort_by_key(|id| (self.model.jobs[id].life.run_at, *id));
        for id in ids {
            let known = &self.model.jobs[&id];
            if !due(known) {
                continue;
            }
            let (key, on_conflict) = (known.key.clone(), known.on_conflict);
            let expired = known.life.expires_at <= now;
            let key_held = !expired && self.model.make_room(id, key.as_ref(), on_conflict, now);
            self.model.apply(id, Move::Promote { key_held }, now);
        }
    }

    /// Reclaims twice, without the watermark in the way, so that every lease that is over has been judged.
    async fn reclaim(&mut self, now: u64) {
        let policy = ReclaimPolicy {
            lease: LEASE,
            liveness: LIVENESS,
            gap: Duration::from_secs(1 << 40),
            delay: Some(STALE_DELAY),
        };
        self.shop.queue.reclaim(&self.shop.shard, &policy).await.unwrap();
        let ignored = |known: &Known| {
            known.life.status == Status::Running && known.life.cancel_requested && known.cancelled_at + 5000 <= now
        };
        while let Some(id) = self.model.nth(0, ignored) {
            self.model.apply(id, Move::ForceCancel, now);
        }
        let over = |known: &Known| known.running.as_ref().is_some_and(|(_, end)| *end <= now);
        while let Some(id) = self.model.nth(0, over) {
            self.model.apply(id, Move::Reclaim { charged: true, delay: Some(30_000) }, now);
        }
    }

    /// Compares every job and every counter.
    async fn compare(&mut self, step: &Step) {
        let mut by_status = [0_u64; 9];
        for (local, known) in &self.model.jobs {
            let job = self.shop.get(&self.id(*local)).await;
            let life = &known.life;
            by_status[life.status as usize] += 1;
            let theirs = (job.status, job.attempts, job.crashes, job.cancel_requested_at.is_some());
            let ours = (life.status, life.attempts, life.crashes, life.cancel_requested);
            assert_eq!(theirs, ours, "{local} after {step:?}: {known:?}");
            let expires = u64::try_from(job.expires_at.unwrap().as_millisecond()).unwrap();
            assert_eq!(expires, life.expires_at, "deadline of {local} after {step:?}");
        }
        let numbers = self.shop.numbers().await;
        let waiting = self.model.jobs.values().filter(|known| known.life.waits()).count() as u64;
        assert_eq!(numbers.queued_bytes, waiting * 16, "each input is 16 bytes; after {step:?}");
        assert_eq!(numbers.by_status, by_status, "counters after {step:?}");
        let open = self.model.jobs.values().filter(|known| !known.life.status.is_terminal()).count() as u64;
        let tallies = self.shop.queue.tallies(&self.shop.shard).await.unwrap();
        assert_eq!(tallies.stages.values().map(Stage::open).sum::<u64>(), open, "stages after {step:?}");
        assert_eq!(self.shop.queue.audit(&self.shop.shard, LEASE, true).await.unwrap(), [""; 0], "after {step:?}");
    }
}

#[test]
fn scripts_and_the_pure_table_agree_on_random_histories() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let wanted = std::env::var("HISTORIES").ok().and_then(|count| count.parse().ok());
    let config =
        Config { cases: wanted.unwrap_or(80), max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    // The same histories at every run, so that a failure is the change's; HISTORIES=n looks at n new ones.
    let mut runner = match wanted {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    runner
        .run(&prop::collection::vec(step(), 1..60), |steps| {
            runtime.block_on(async {
                let mut pair = Pair { shop: Shop::open().await, model: Model::default() };
                assert!(worker_id("w").as_str() == "w");
                for step in steps {
                    pair.run(step.clone()).await;
                    pair.compare(&step).await;
                }
            });
            Ok(())
        })
        .unwrap();
}
