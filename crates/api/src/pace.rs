//! How fast shards end their jobs, for the time that a waiting one may still take.
//!
//! The counters tell hours apart, and a fleet that had little to do says nothing of how fast it is. So this process remembers
//! what they said each time that somebody looked (at a job, at the health, at the statistics), for a few minutes.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use overshot_common::ids::Shard;
use overshot_common::queue::{Stage, Tallies};
use tokio::time::Instant;

/// How long a look counts.
const LATE: Duration = Duration::from_mins(5);
/// Looks closer to each other than this are one.
const APART: Duration = Duration::from_secs(1);
/// So many ends tell a pace; where fewer were seen, all that were seen do.
const ENOUGH: u64 = 10;
/// Of the counters' hours the backlog must have lasted this part: else most of them were idle.
const BUSY_PART: u32 = 10;

/// Jobs that ended, and within what time.
type Pace = (u64, Duration);

/// What was seen of each shard, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    seen: Mutex<HashMap<Shard, VecDeque<(Instant, u64)>>>,
}

impl Paces {
    /// Notes a look at a shard's counters, and tells its pace of late; `None`: nothing ended while somebody looked.
    pub(crate) fn note(&self, shard: &Shard, tallies: &Tallies) -> Option<Pace> {
        let ended = tallies.stages.values().map(Stage::ended).sum();
        let mut all = self.seen.lock().expect("no holder of this lock can panic");
        of_late(all.entry(shard.clone()).or_default(), Instant::now(), ended)
    }
}

fn of_late(seen: &mut VecDeque<(Instant, u64)>, now: Instant, ended: u64) -> Option<Pace> {
    while seen.front().is_some_and(|(at, _)| now - *at > LATE) {
        seen.pop_front();
    }
    let since = |(at, before): &(Instant, u64)| (ended.saturating_sub(*before), now - *at);
    let told = |(more, time): &Pace| *more > 0 && *time >= APART;
    let enough = seen.iter().rev().map(since).find(|pace| told(pace) && pace.0 >= ENOUGH);
    let pace = enough.or_else(|| seen.iter().map(since).find(told));
    if seen.back().is_none_or(|(at, _)| now - *at >= APART) {
        seen.push_back((now, ended));
    }
    pace
}

/// How long so many jobs take: at the pace of late, else at that of the counters' hours, where a backlog that has lasted for
/// `waited` says that they were busy.
pub(crate) fn eta(jobs: u64, of_late: Option<Pace>, of_hours: Option<Pace>, waited: Duration) -> Option<Duration> {
    let busy = of_hours.filter(|(ended, time)| *ended > 0 && waited >= *time / BUSY_PART);
    let (ended, time) = of_late.or(busy)?;
    Some(time.mul_f64(jobs as f64 / ended as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_pace_is_that_of_the_last_looks_which_saw_enough() {
        let (begun, mut seen) = (Instant::now(), VecDeque::new());
        let mut look = |after: u32, ended| of_late(&mut seen, begun + after * SECOND, ended);
        assert_eq!(look(0, 100), None);
        assert_eq!(look(60, 100), None, "nothing ended");
        assert_eq!(look(62, 104), Some((4, 62 * SECOND)), "few: since the first look");
        assert_eq!(look(64, 111), Some((11, 4 * SECOND)), "the idle minute before counts no more");
        assert_eq!(look(500, 112), None, "all looks are too long ago");
    }

    #[test]
    fn looks_in_one_second_are_one() {
        let (begun, mut seen) = (Instant::now(), VecDeque::new());
        for tenth in 0..10 {
            assert_eq!(of_late(&mut seen, begun + tenth * SECOND / 10, 5 + u64::from(tenth)), None);
        }
        assert_eq!(seen.len(), 1);
        assert_eq!(of_late(&mut seen, begun + SECOND, 15), Some((10, SECOND)));
    }

    #[test]
    fn the_hours_count_where_nobody_looked_and_the_backlog_is_old() {
        let hours = Some((10, 3600 * SECOND));
        assert_eq!(eta(4, None, hours, 360 * SECOND), Some(1440 * SECOND));
        assert_eq!(eta(4, None, hours, 359 * SECOND), None, "most of the hour may have been idle");
        assert_eq!(eta(4, Some((2, SECOND)), hours, 360 * SECOND), Some(2 * SECOND));
        assert_eq!(eta(4, None, Some((0, SECOND)), SECOND), None);
        assert_eq!(eta(4, None, None, SECOND), None);
    }
}
