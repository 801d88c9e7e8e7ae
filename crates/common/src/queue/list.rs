//! Listing jobs by the small indexes that the scripts keep. No SCAN, no KEYS.

use std::str::FromStr;

use futures_util::future::try_join_all;

use super::error::Error;
use super::keys::Named;
use super::{Queue, keys, parse_ids};
use crate::ids::{InvalidId, LocalId, Shard};
use crate::job::{Job, Status};

/// Most ids that one look at an index brings.
const STEP: usize = 200;
/// Most jobs that one call looks at before it answers with what it has.
const MOST_EXAMINED: usize = 4_000;

/// Which jobs to list. Empty fields ask nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Any of these.
    pub statuses: Vec<Status>,
    /// This task.
    pub task: Option<String>,
    /// This model.
    pub model: Option<String>,
    /// This owner's service.
    pub owner_service: Option<String>,
    /// This owner's reference.
    pub owner_ref: Option<String>,
    /// This owner's agent.
    pub owner_agent: Option<String>,
    /// This concurrency key.
    pub concurrency_key: Option<String>,
}

/// The place after which a listing goes on: newest first, it names the last job seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(LocalId);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = InvalidId;

    /// Reads a cursor, or a whole job id, which means the same place.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.rsplit_once('-').map_or(text, |(_, local)| local).parse().map(Self)
    }
}

/// A part of a listing.
#[derive(Debug)]
pub struct Page {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// Where to go on; `None` at the end. With a rare match, a page may be short and still not the last.
    pub next: Option<Cursor>,
}

impl Filter {
    fn matches(&self, job: &Job) -> bool {
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        let owner = job.owner.as_ref();
        (self.statuses.is_empty() || self.statuses.contains(&job.status))
            && is(&self.task, Some(&job.task))
            && is(&self.model, job.model.as_deref())
            && is(&self.owner_service, owner.map(|owner| owner.service.as_str()))
            && is(&self.owner_ref, owner.map(|owner| owner.reference.as_str()))
            && is(&self.owner_agent, owner.and_then(|owner| owner.agent.as_deref()))
            && is(&self.concurrency_key, job.concurrency_key.as_deref())
    }

    /// Whether every job of its indexes matches.
    fn is_index(&self) -> bool {
        let fields =
            [&self.task, &self.model, &self.owner_service, &self.owner_ref, &self.owner_agent, &self.concurrency_key];
        fields.into_iter().all(Option::is_none) && self.statuses.iter().all(|status| status.is_terminal())
    }

    /// The fewest indexes that hold all that can match: the one of a caller's field, else those of the statuses.
    fn indexes(&self) -> Vec<String> {
        let fields = [
            (Named::ConcurrencyKey, &self.concurrency_key),
            (Named::OwnerRef, &self.owner_ref),
            (Named::OwnerAgent, &self.owner_agent),
            (Named::OwnerService, &self.owner_service),
        ];
        if let Some((named, Some(text))) = fields.into_iter().find(|(_, text)| text.is_some()) {
            return vec![keys::listing(named, text)];
        }
        let wanted = |status: &Status| self.statuses.is_empty() || self.statuses.contains(status);
        let mut indexes = Vec::new();
        if Status::ALL.iter().any(|status| !status.is_terminal() && wanted(status)) {
            indexes.push("open".to_owned());
        }
        let ended = Status::ALL.iter().filter(|status| status.is_terminal() && wanted(status));
        indexes.extend(ended.map(|status| status.as_str().to_owned()));
        indexes
    }
}

impl Queue {
    /// Lists jobs of the given shards, newest first.
    pub async fn list(
        &self,
        shards: &[Shard],
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, Error> {
        let (mut jobs, mut after, mut examined) = (Vec::new(), after, 0);
        // Where all that an index names is asked for, no more records are read than the page takes.
        let step = if filter.is_index() { (limit + 1).min(STEP) } else { STEP };
        loop {
            let (candidates, exhausted) = self.candidates(shards, filter, after, step).await?;
            let Some((_, last)) = candidates.last() else { return Ok(Page { jobs, next: None }) };
            let last = *last;
            examined += candidates.len();
            for job in self.read_in_order(shards, &candidates).await? {
                if filter.matches(&job) {
                    if jobs.len() == limit {
                        let next = jobs.last().map(|job: &Job| Cursor(job.id.local));
                        return Ok(Page { jobs, next });
                    }
                    jobs.push(job);
                }
            }
            after = Some(Cursor(last));
            if exhausted || examined >= MOST_EXAMINED {
                return Ok(Page { jobs, next: after.filter(|_| !exhausted) });
            }
        }
    }

    /// The next ids of all indexes together, newest first, and whether there are no more after them.
    async fn candidates(
        &self,
        shards: &[Shard],
        filter: &Filter,
        after: Option<Cursor>,
        step: usize,
    ) -> Result<(Vec<(usize, LocalId)>, bool), Error> {
        let indexes = filter.indexes();
        let places = shards
            .iter()
            .enumerate()
            .flat_map(|(number, shard)| indexes.iter().map(move |index| (number, shard, index)));
        let pages = try_join_all(places.map(|(number, shard, index)| async move {
            let mut command = redis::cmd("ZREVRANGEBYLEX");
            let from = after.map_or_else(|| "+".to_owned(), |Cursor(local)| format!("({local}"));
            command.arg(keys::part(shard, index)).arg(from).arg("-").arg("LIMIT").arg(0).arg(step);
            Ok::<_, Error>((number, parse_ids(self.inner.link.call(&command).await?)?))
        }))
        .await?;
        // Past the end of a full page its index may hold more: nothing older than that end may be taken yet.
        let horizon =
            pages.iter().filter(|(_, ids)| ids.len() == step).filter_map(|(_, ids)| ids.last().copied()).max();
        let mut all: Vec<(usize, LocalId)> =
            pages.into_iter().flat_map(|(number, ids)| ids.into_iter().map(move |id| (number, id))).collect();
        all.retain(|(_, id)| horizon.is_none_or(|horizon| *id >= horizon));
        all.sort_unstable_by(|(_, a), (_, b)| b.cmp(a));
        all.dedup();
        Ok((all, horizon.is_none()))
    }

    async fn read_in_order(&self, shards: &[Shard], candidates: &[(usize, LocalId)]) -> Result<Vec<Job>, Error> {
        let per_shard = shards.iter().enumerate().map(async |(number, shard)| {
            let ids: Vec<LocalId> =
                candidates.iter().filter(|(place, _)| *place == number).map(|(_, id)| *id).collect();
            self.get_many(shard, &ids).await
        });
        let mut jobs = try_join_all(per_shard).await?.concat();
        jobs.sort_unstable_by_key(|job| std::cmp::Reverse(job.id.local));
        Ok(jobs)
    }
}
