//! What was accepted and what ended, counted by the moves themselves: by stage, a task with its model, by owner's service,
//! and by hour. Reading them walks no job.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{FromRedisValue as _, Value};

use super::error::Error;
use super::{NewJob, Queue, parts};
use crate::ids::Shard;

/// The task, the model or the service of all that are too many to be told apart.
pub const OTHER: &str = "other";
/// Longer names are not told apart.
const LONGEST: usize = 128;
/// The hours that count as the last day: the current one, and 24 before it.
const HOURS: usize = 25;
const HOUR: Duration = Duration::from_secs(3600);
/// Most hours that one call folds.
const HOURS_PER_FOLD: usize = 1000;

/// The counters of a shard; they add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallies {
    /// By task and model; `None`: jobs that name no model.
    pub stages: BTreeMap<(String, Option<String>), Stage>,
    /// Jobs accepted, by owner's service.
    pub services: BTreeMap<String, u64>,
    /// Jobs that ended since the beginning of the hour before this one, and how long ago that was.
    pub pace: Option<(u64, Duration)>,
}

/// The counters of a task and its model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stage {
    /// Jobs accepted.
    pub accepted: u64,
    /// What ended, ever.
    pub total: Outcomes,
    /// What ended in the last day: since 24 full hours and the current one.
    pub last_day: Outcomes,
}

/// How jobs ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// With a result.
    pub completed: u64,
    /// By a caller's wish.
    pub cancelled: u64,
    /// By waiting too long.
    pub expired: u64,
    /// Ended and run again by hand.
    pub revived: u64,
    /// For good, by code.
    pub failed: BTreeMap<String, u64>,
    /// Not at all: an attempt failed and the job runs again, by code.
    pub retried: BTreeMap<String, u64>,
}

impl Outcomes {
    fn add(&mut self, outcome: &str, count: u64) {
        match outcome.split_at_checked(1) {
            Some(("c", "")) => self.completed += count,
            Some(("x", "")) => self.cancelled += count,
            Some(("e", "")) => self.expired += count,
            Some(("b", "")) => self.revived += count,
            Some(("f", code)) => *self.failed.entry(code.to_owned()).or_default() += count,
            Some(("r", code)) => *self.retried.entry(code.to_owned()).or_default() += count,
            // A newer process knows what it is.
            Some(_) | None => {}
        }
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.completed += other.completed;
        self.cancelled += other.cancelled;
        self.expired += other.expired;
        self.revived += other.revived;
        for (sums, more) in [(&mut self.failed, &other.failed), (&mut self.retried, &other.retried)] {
            more.iter().for_each(|(code, count)| *sums.entry(code.clone()).or_default() += count);
        }
    }

    /// All that failed for good.
    pub fn all_failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// All attempts after which the job ran again.
    pub fn all_retried(&self) -> u64 {
        self.retried.values().sum()
    }
}

impl Stage {
    /// Jobs that have not ended.
    pub fn open(&self) -> u64 {
        let total = &self.total;
        (self.accepted + total.revived).saturating_sub(self.ended())
    }

    /// Jobs that ended, ever; those among them that were run again by hand count each time.
    pub fn ended(&self) -> u64 {
        let total = &self.total;
        total.completed + total.cancelled + total.expired + total.all_failed()
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.total.merge(&other.total);
        self.last_day.merge(&other.last_day);
    }
}

impl Tallies {
    /// Adds another shard's.
    pub fn merge(&mut self, other: &Self) {
        for (stage, more) in &other.stages {
            self.stages.entry(stage.clone()).or_default().merge(more);
        }
        self.pace = match (self.pace, other.pace) {
            (Some((ended, time)), Some((more, _))) => Some((ended + more, time)),
            (ours, theirs) => ours.or(theirs),
        };
        for (service, more) in &other.services {
            *self.services.entry(service.clone()).or_default() += more;
        }
    }

    /// Reads the reply of `tallies`: counters by field of `scripts/enqueue.lua`, outcomes by field of `scripts/lib/end.lua`.
    fn read(value: Value) -> Result<Self, Error> {
        let [counters, total, hours, into_hour] = parts(value)?;
        let (mut by_number, mut tallies) = (BTreeMap::from([(0, stage_named("other\tother"))]), Self::default());
        for (field, count) in Vec::<(String, i64)>::from_redis_value(counters)? {
            let count = count.max(0).unsigned_abs();
            match field.split_at_checked(1) {
                Some(("i", label)) => drop(by_number.insert(count, stage_named(label))),
                Some(("a", label)) => tallies.stages.entry(stage_named(label)).or_default().accepted = count,
                Some(("o", service)) => drop(tallies.services.insert(service.to_owned(), count)),
                Some(_) | None => {}
            }
        }
        // Tells how many jobs ended in these.
        let mut add = |outcomes: Value, of_last_day: bool| {
            let mut ended = 0;
            for (field, count) in Vec::<(Vec<u8>, u64)>::from_redis_value(outcomes)? {
                let Some((number, outcome)) = field.split_first() else { continue };
                let Some(stage) = by_number.get(&u64::from(*number)) else { continue };
                let (stage, outcome) =
                    (tallies.stages.entry(stage.clone()).or_default(), String::from_utf8_lossy(outcome));
                ended += if outcome.starts_with(['r', 'b']) { 0 } else { count };
                stage.total.add(&outcome, count);
                if of_last_day {
                    stage.last_day.add(&outcome, count);
                }
            }
            Ok::<_, Error>(ended)
        };
        add(total, false)?;
        let hours = Vec::<Value>::from_redis_value(hours)?;
        let (older, recent) = (hours.len().saturating_sub(HOURS), hours.len().saturating_sub(2));
        let mut ended = 0;
        for (place, hour) in hours.into_iter().enumerate() {
            let all = add(hour, place >= older)?;
            ended += if place >= recent { all } else { 0 };
        }
        let into_hour = Duration::from_millis(u64::from_redis_value(into_hour)?);
        tallies.pace = Some((ended, HOUR + into_hour));
        Ok(tallies)
    }
}

fn stage_named(label: &str) -> (String, Option<String>) {
    let (task, model) = label.split_once('\t').unwrap_or((label, ""));
    (task.to_owned(), Some(model.to_owned()).filter(|model| !model.is_empty()))
}

impl Queue {
    /// Reads the counters of a shard.
    pub async fn tallies(&self, shard: &Shard) -> Result<Tallies, Error> {
        Tallies::read(self.run(&self.inner.scripts.tallies, shard, |_| {}).await?)
    }

    /// Adds the hours that are older than a day to the total; tells how many there still are.
    pub async fn fold(&self, shard: &Shard) -> Result<u64, Error> {
        let reply = self.run(&self.inner.scripts.fold, shard, |command| {
            command.arg(HOURS_PER_FOLD);
        });
        Ok(u64::from_redis_value(reply.await?)?)
    }
}

/// The different labels of jobs that are enqueued together, a line each, and every job's, counted from 1; 0 none.
pub(super) struct Labels {
    pub(super) lines: String,
    pub(super) numbers: Vec<u8>,
}

impl Labels {
    /// The tasks with their models.
    pub(super) fn stages(jobs: &[NewJob]) -> Self {
        Self::of(jobs, |job| Some([&job.spec.task, job.spec.model.as_deref().unwrap_or_default()]))
    }

    /// The services of the owners.
    pub(super) fn services(jobs: &[NewJob]) -> Self {
        Self::of(jobs, |job| Some([job.spec.owner.as_ref()?.service.as_str()]))
    }

    fn of<'a, const N: usize>(jobs: &'a [NewJob], label: impl Fn(&'a NewJob) -> Option<[&'a str; N]>) -> Self {
        let (mut found, mut lines, mut numbers) = (Vec::new(), String::new(), Vec::with_capacity(jobs.len()));
        for job in jobs {
            let Some(names) = label(job).map(|names| names.map(plain)) else {
                numbers.push(0);
                continue;
            };
            let place = found.iter().position(|known| *known == names).unwrap_or_else(|| {
                found.push(names);
                lines.push_str(&names.join("\t"));
                lines.push('\n');
                found.len() - 1
            });
            numbers.push(u8::try_from(place + 1).expect("a call enqueues at most 100 jobs"));
        }
        Self { lines, numbers }
    }
}

/// A name that fits into a line of labels, or [`OTHER`].
fn plain(name: &str) -> &str {
    if name.len() <= LONGEST && !name.contains(char::is_control) { name } else { OTHER }
}
