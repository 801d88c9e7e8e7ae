//! Calls on many jobs: batches of submits, cancel and retry by filter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use futures_util::future::join_all;
use overshot_common::ids::{LocalId, Shard};
use overshot_common::job::{Job, Status};
use overshot_common::queue::{Cancelled, NewJob, Retried, Submitted};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::error::{ApiError, ErrorObject};
use crate::openapi::bodies;
use crate::params::{By, Content};
use crate::submit::trace::Sending;
use crate::submit::{self, Booked, Form, Prepared, Sent};
use crate::wire::Fields;
use crate::wire::filter::Wanted;
use crate::wire::job::missing;
use crate::{audit, body};

/// Most jobs of one batch.
const BATCH_MAX: usize = 1000;
/// Most jobs of one call by filter, and how many are looked at together.
const MATCHES_MAX: usize = 10_000;
const PAGE: usize = 200;
/// How long a call by filter goes on before it tells the caller to come again.
const TIME_MAX: Duration = Duration::from_secs(20);

/// The answer to a batch: one result per item, in their order.
#[derive(Serialize, ToSchema)]
pub(crate) struct Results {
    #[schema(value_type = Vec<bodies::ItemResult>)]
    results: Vec<ItemResult>,
}

struct ItemResult(Result<(Job, bool), ApiError>);

impl Serialize for ItemResult {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Item<'a> {
            status: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            job: Option<&'a Job>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<ErrorObject<'a>>,
        }
        match &self.0 {
            Ok((job, known)) => Item { status: if *known { 200 } else { 202 }, job: Some(job), error: None },
            Err(error) => Item { status: error.status().as_u16(), job: None, error: Some(error.object()) },
        }
        .serialize(serializer)
    }
}

/// Submits up to 1000 jobs.
///
/// Each item is judged for itself, and answered with the status that it would have had alone.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/batch",
    tag = "jobs",
    params(bodies::Trace),
    request_body = bodies::Batch,
    responses(
        (status = 200, description = "one result per item, in their order", body = Results),
        (status = 422, description = "not a list of 1 to 1000 jobs"),
    ),
)]
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    By(caller): By,
    headers: HeaderMap,
    Content(content): Content,
) -> Result<Json<Results>, ApiError> {
    if headers.contains_key("idempotency-key") {
        return Err(ApiError::invalid(
            "Idempotency-Key",
            "is not for a batch: set `idempotency_key` in each of its jobs",
        ));
    }
    let mut from = Fields::of("", body::document(&content)?)?;
    let jobs = from.raw("jobs").ok_or_else(|| missing("jobs"))?;
    from.finish()?;
    let jobs: Vec<&RawValue> =
        serde_json::from_str(jobs.get()).map_err(|_| ApiError::invalid("jobs", "must be an array of jobs"))?;
    if !(1..=BATCH_MAX).contains(&jobs.len()) {
        return Err(ApiError::invalid("jobs", format!("must be 1 to {BATCH_MAX} jobs")));
    }
    let sending = Sending::batch(&headers, jobs.len());
    let prepared = jobs.into_iter().map(|job| {
        let mut prepared = submit::prepare(&app.config, &caller, job.get(), None, Form::Json)?;
        sending.mark(&mut prepared.job);
        Ok(prepared)
    });
    // In order: of two items with one idempotency key, the first has it.
    let items = join_all(prepared.map(|item| judge(&app, item))).await;
    let results = enqueue(&app, items).await;
    drop(sending);
    audit::submitted(&caller, results.iter().flatten().map(|(job, _)| &job.id));
    Ok(Json(Results { results: results.into_iter().map(ItemResult).collect() }))
}

/// An item on its way to the queue, or what became of it already.
enum Item {
    Settled(Box<Result<(Job, bool), ApiError>>),
    Open(Box<NewJob>, Sent),
}

impl Item {
    fn open(prepared: Prepared, ours: bool) -> Self {
        let (job, sent) = prepared.send(ours);
        Self::Open(Box::new(job), sent)
    }
}

async fn judge(app: &App, item: Result<Prepared, ApiError>) -> Item {
    let mut prepared = match item {
        Ok(prepared) => prepared,
        Err(error) => return Item::Settled(Box::new(Err(error))),
    };
    match submit::book(app, &mut prepared).await {
        Err(error) => Item::Settled(Box::new(Err(error))),
        Ok(Booked::Known(job)) => Item::Settled(Box::new(Ok((*job, true)))),
        Ok(Booked::Ours) => Item::open(prepared, true),
        Ok(Booked::Unfinished) => Item::open(prepared, false),
    }
}

/// Enqueues what is open, one call per shard; the answers stand in the order of the items.
async fn enqueue(app: &App, items: Vec<Item>) -> Vec<Result<(Job, bool), ApiError>> {
    let mut by_shard: BTreeMap<Shard, (Vec<NewJob>, Vec<usize>)> = BTreeMap::new();
    let mut open = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        open.push(match item {
            Item::Settled(result) => Err(result),
            Item::Open(job, sent) => {
                let (jobs, places) = by_shard.entry(sent.id.shard.clone()).or_default();
                jobs.push(*job);
                places.push(place);
                Ok(sent)
            }
        });
    }
    let calls = by_shard.into_iter().map(|(shard, (jobs, places))| async move {
        let answers = match app.config.pool(&shard.pool) {
            Some(pool) => app.queue.enqueue(&shard, app.limits(pool), &jobs).await.map_err(ApiError::from),
            None => Err(ApiError::pool_not_found()),
        };
        (places, answers)
    });
    let mut submitted: Vec<Option<Result<Submitted, ApiError>>> = open.iter().map(|_| None).collect();
    for (places, answers) in join_all(calls).await {
        match answers {
            Ok(answers) => {
                places.into_iter().zip(answers).for_each(|(place, answer)| submitted[place] = Some(Ok(answer)));
            }
            Err(error) => {
                tracing::warn!(cause = error.cause(), jobs = places.len(), "part of a batch not accepted");
                places.into_iter().for_each(|place| submitted[place] = Some(Err(error.again())));
            }
        }
    }
    let concluded = open.into_iter().zip(submitted).map(|(item, submitted)| async move {
        match (item, submitted) {
            (Err(settled), _) => *settled,
            (Ok(sent), Some(Ok(answer))) => submit::conclude(app, &sent, answer).await,
            (Ok(_), Some(Err(error))) => Err(error),
            (Ok(_), None) => Err(ApiError::internal("enqueue left out a job")),
        }
    });
    join_all(concluded).await
}

/// What a call by filter came to.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Changed {
    matched: usize,
    changed: usize,
    /// There are more: send the same call again.
    more: bool,
}

/// Cancels all jobs that match, up to 10 000 a call.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/cancel",
    tag = "jobs",
    request_body = bodies::Filter,
    responses(
        (status = 200, description = "how many matched, and how many of them were cancelled or asked to stop", body = Changed),
        (status = 404, description = "there is no such pool"),
        (status = 422, description = "the filter is empty, or not what the API takes"),
    ),
)]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    By(caller): By,
    Content(content): Content,
) -> Result<Json<Changed>, ApiError> {
    let wanted = Wanted::read(body::document(&content)?)?;
    change(&app, &caller, wanted, Move::Cancel).await.map(Json)
}

/// Runs all ended jobs that match again, up to 10 000 a call.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/retry",
    tag = "jobs",
    request_body = bodies::Filter,
    responses(
        (status = 200, description = "how many matched, and how many of them run again", body = Changed),
        (status = 404, description = "there is no such pool"),
        (status = 422, description = "the filter is empty, or not what the API takes"),
    ),
)]
pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    By(caller): By,
    Content(content): Content,
) -> Result<Json<Changed>, ApiError> {
    let wanted = Wanted::read(body::document(&content)?)?;
    change(&app, &caller, wanted, Move::Retry).await.map(Json)
}

#[derive(Clone, Copy)]
enum Move {
    Cancel,
    Retry,
}

impl Move {
    fn verb(self) -> &'static str {
        match self {
            Self::Cancel => "cancel by filter",
            Self::Retry => "retry by filter",
        }
    }

    /// Whether it can change a job of that status. Others do not match: else a caller that comes again while there
    /// is more would meet the same jobs for ever.
    fn concerns(self, status: Status) -> bool {
        match self {
            Self::Cancel => !status.is_terminal(),
            Self::Retry => status.is_terminal(),
        }
    }

    /// Applies it to jobs of one shard; tells how many changed, and whether the shard takes no more.
    async fn apply(self, app: &App, shard: &Shard, jobs: &[LocalId]) -> Result<(usize, bool), ApiError> {
        match self {
            Self::Cancel => {
                let answers = app.queue.cancel(shard, jobs).await?;
                let changed = |answer: &&Cancelled| matches!(answer, Cancelled::Now | Cancelled::Requested);
                Ok((answers.iter().filter(changed).count(), false))
            }
            Self::Retry => {
                let answers = app.queue.retry(shard, app.limits_of(&shard.pool), None, jobs).await?;
                let changed = answers.iter().filter(|answer| matches!(answer, Retried::Now(_))).count();
                Ok((changed, answers.contains(&Retried::QueueFull)))
            }
        }
    }
}

async fn change(app: &App, caller: &Caller, mut wanted: Wanted, to: Move) -> Result<Changed, ApiError> {
    if !wanted.narrow(caller) {
        return Ok(Changed::default());
    }
    let (verb, what) = (to.verb(), wanted.to_string());
    let changed = change_all(app, wanted, to).await;
    // What was changed before a call failed was changed: the line says so, without a number.
    audit::note(caller, verb, what, changed.as_ref().map_or(0, |changed| changed.changed));
    changed
}

async fn change_all(app: &App, mut wanted: Wanted, to: Move) -> Result<Changed, ApiError> {
    let shards = app.shards(wanted.pool.as_deref()).await?;
    let statuses = &mut wanted.filter.statuses;
    if statuses.is_empty() {
        statuses.extend_from_slice(Status::ALL);
    }
    statuses.retain(|status| to.concerns(*status));
    if statuses.is_empty() {
        return Ok(Changed::default());
    }
    let (mut sum, mut after, began) = (Changed::default(), None, Instant::now());
    loop {
        let room = PAGE.min(MATCHES_MAX - sum.matched);
        let page = app.queue.list(&shards, &wanted.filter, after, room).await?;
        let mut by_shard: BTreeMap<&Shard, Vec<LocalId>> = BTreeMap::new();
        for job in &page.jobs {
            by_shard.entry(&job.id.shard).or_default().push(job.id.local);
        }
        sum.matched += page.jobs.len();
        let mut full = false;
        for (shard, jobs) in by_shard {
            let (changed, no_more) = to.apply(app, shard, &jobs).await?;
            sum.changed += changed;
            full |= no_more;
        }
        after = page.next;
        sum.more = full || after.is_some();
        if full || after.is_none() || sum.matched >= MATCHES_MAX || began.elapsed() > TIME_MAX {
            return Ok(sum);
        }
    }
}
