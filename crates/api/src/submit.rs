//! Turns a request into a job that the queue takes: names resolved, defaults filled in, the input judged.

use std::borrow::Cow;

use overshot_common::config::{Config, PoolConfig, TaskConfig, TaskKind};
use overshot_common::ids::{JobId, PoolName};
use overshot_common::job::{Job, JobSpec, OnConflict, Owner};
use overshot_common::metrics::{self, Refusal};
use overshot_common::provider;
use overshot_common::queue::{BodyHash, NewJob, Reservation, Submitted};
use overshot_common::task::transcription::{self, Transcription};
use overshot_common::task::{chat, embedding};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::wire::job::SubmitRequest;

pub(crate) mod groups;
pub(crate) mod trace;

#[cfg(test)]
mod tests;

/// How long an idempotency key is kept.
const KEY_KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// A submit that may go to the queue.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) job: NewJob,
    /// The idempotency key and the hash of the body.
    pub(crate) key: Option<(String, BodyHash)>,
    /// It takes the place of other jobs, but only of its own service's.
    replaces_own: bool,
}

impl Prepared {
    /// Whether something has to be looked up before the enqueue: see [`book`].
    pub(crate) fn has_to_book(&self) -> bool {
        self.key.is_some() || self.replaces_own || (self.job.fail_fast && self.job.spec.provider.is_some())
    }

    /// Lets go of the job, which goes to the queue; `ours`: no earlier submit booked its id.
    pub(crate) fn send(self, ours: bool) -> (NewJob, Sent) {
        let sent = Sent { id: self.job.id.clone(), key: self.key.map(|(key, _)| key).filter(|_| ours), ours };
        (self.job, sent)
    }
}

/// A submit whose job is on its way to the queue: what [`conclude`] needs.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) id: JobId,
    /// The idempotency key, if it is this submit's own.
    key: Option<String>,
    /// Whether no earlier submit booked the id.
    ours: bool,
}

/// A task's name resolved.
pub(crate) struct Task<'a> {
    /// The name that jobs are kept under.
    pub(crate) name: &'a str,
    pub(crate) kind: TaskKind,
    /// Its section; none for a built-in one.
    own: Option<&'a TaskConfig>,
}

/// How many failures end a job where neither it nor its task says.
const MAX_ATTEMPTS: u32 = 5;

/// Finds the task of that name.
pub(crate) fn task<'a>(config: &'a Config, name: &str) -> Result<Task<'a>, ApiError> {
    let own = config.tasks.get_key_value(name);
    match (own, TaskKind::builtin(name)) {
        (Some((name, task)), _) => Ok(Task { name, kind: task.kind, own: Some(task) }),
        (None, Some(kind)) => Ok(Task { name: kind.as_str(), kind, own: None }),
        (None, None) => Err(ApiError::unprocessable("unknown_task", "task", "is no known task")),
    }
}

/// How a submit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As JSON.
    Json,
    /// As a form with a file, of this many bytes.
    Upload(u64),
}

/// Judges an input by its task's limits and kind, with the task's defaults in it.
fn check_input(task: &Task<'_>, caller: &Caller, input: &RawValue, form: Form) -> Result<(), ApiError> {
    let whole = whole_input(task, input)?;
    match (task.kind, form) {
        (TaskKind::Transcription, Form::Upload(_)) => Ok(transcription::validate_upload(&whole)?),
        (_, Form::Upload(_)) => Err(ApiError::invalid("task", "is of a kind that takes no file")),
        (TaskKind::Transcription, Form::Json) => Ok(transcription::validate(&whole)?),
        (TaskKind::Chat, Form::Json) => Ok(chat::validate(&whole)?),
        (TaskKind::Embedding, Form::Json) => {
            embedding::validate(&whole)?;
            check_collection(caller, input)
        }
    }
}

/// An input within its task's limits, with the task's defaults.
fn whole_input<'a>(task: &Task<'_>, input: &'a RawValue) -> Result<Cow<'a, RawValue>, ApiError> {
    let limit = task.own.and_then(|own| own.max_input_bytes);
    if let Some(limit) = limit.filter(|limit| input.get().len() as u64 > *limit) {
        return Err(ApiError::invalid("input", format!("is larger than the {limit} bytes that the task takes")));
    }
    Ok(task.own.map_or(Ok(Cow::Borrowed(input)), |own| own.with_defaults(input))?)
}

/// The input with which a job of that task runs again, where `new` replaces `old`.
pub(crate) fn replaced_input(
    task: &Task<'_>,
    caller: &Caller,
    new: &RawValue,
    old: &RawValue,
) -> Result<Box<RawValue>, ApiError> {
    if task.kind == TaskKind::Transcription {
        let merged = transcription::replace(new, old)?;
        Transcription::parse(&whole_input(task, &merged)?)?;
        return Ok(merged);
    }
    check_input(task, caller, new, Form::Json)?;
    Ok(new.to_owned())
}

/// The collections of a bound caller are its service's own: it must neither read nor change another's through a job.
fn check_collection(caller: &Caller, input: &RawValue) -> Result<(), ApiError> {
    let Some(name) = embedding::collection_of(input) else { return Ok(()) };
    let message = "must be named for the token's service: its name, or that, a dot and more";
    if caller.sees_collection(&name) { Ok(()) } else { Err(ApiError::invalid("input.collection", message)) }
}

/// Judges a submit; `header_key` is the value of `Idempotency-Key`.
pub(crate) fn prepare(
    config: &Config,
    caller: &Caller,
    body: &str,
    header_key: Option<&str>,
    form: Form,
) -> Result<Prepared, ApiError> {
    let request = SubmitRequest::read(body, caller)?;
    let task = task(config, &request.task)?;
    let (pool_name, pool) = place(config, request.pool.as_deref(), &task)?;
    let provider = request.provider.as_deref();
    if provider.is_some_and(|name| !pool.providers.iter().any(|known| known == name)) {
        return Err(ApiError::invalid("provider", "is none of the pool's providers"));
    }
    let model =
        model(config, pool_name, provider, request.model.as_deref().or(task.own.and_then(|own| own.model.as_deref())))?;
    check_input(&task, caller, request.input, form)?;
    let key = match (header_key, request.idempotency_key.as_deref()) {
        (Some(header), Some(field)) if header != field => {
            return Err(ApiError::invalid("idempotency_key", "differs from the header Idempotency-Key"));
        }
        (header, field) => header.or(field),
    };
    // The keys of a bound caller are its service's own: another's job must not answer to them.
    let scoped = |key: &str| caller.service().map_or_else(|| key.to_owned(), |service| format!("{service}\0{key}"));
    let key = key.map(|key| Ok::<_, ApiError>((scoped(key), body_hash(body)?))).transpose()?;
    let replaces = request.concurrency_key.is_some() && request.on_conflict == OnConflict::Replace;
    let spec = JobSpec {
        turn: turn(config, pool_name, &task, model.as_deref(), provider).map(str::to_owned),
        task: task.name.to_owned(),
        model,
        provider: request.provider,
        owner: request.owner,
        stream: request.stream.unwrap_or(task.kind == TaskKind::Chat),
        trace: None,
    };
    let expires_in = request.expires_in.or(task.own.and_then(|own| own.queue_timeout));
    let job = NewJob {
        id: JobId::in_pool(pool_name, pool.shards, request.concurrency_key.as_deref()),
        spec,
        input: request.input.to_owned(),
        metadata: request.metadata,
        priority: request.priority,
        max_attempts: request.max_attempts.or(task.own.and_then(|own| own.max_attempts)).unwrap_or(MAX_ATTEMPTS),
        max_crashes: pool.max_crashes,
        run_at: request.run_at,
        delay: request.delay,
        timeout: request.timeout.or(task.own.and_then(|own| own.timeout)).unwrap_or(pool.job_timeout),
        queue_timeout: expires_in.unwrap_or(pool.queue_timeout),
        own_deadline: expires_in.is_some(),
        result_ttl: request.result_ttl.or(task.own.and_then(|own| own.result_ttl)).unwrap_or(pool.result_ttl),
        concurrency_key: request.concurrency_key,
        on_conflict: request.on_conflict,
        fail_fast: request.fail_fast,
        idempotent_for: if key.is_some() { KEY_KEPT } else { std::time::Duration::ZERO },
        audio_bytes: if let Form::Upload(bytes) = form { bytes } else { 0 },
    };
    Ok(Prepared { job, key, replaces_own: replaces && caller.service().is_some() })
}

pub(crate) fn place<'a>(
    config: &'a Config,
    wanted: Option<&str>,
    task: &Task<'a>,
) -> Result<(&'a PoolName, &'a PoolConfig), ApiError> {
    let name = match wanted {
        Some(name) => {
            let name: PoolName = name.parse().map_err(|_| ApiError::pool_not_found())?;
            return config.pools.get_key_value(&name).ok_or_else(ApiError::pool_not_found);
        }
        None => task.own.and_then(|own| own.pool.as_ref()).or_else(|| config.default_pool()),
    };
    name.and_then(|name| config.pools.get_key_value(name))
        .ok_or_else(|| ApiError::invalid("pool", "is required: there are several pools"))
}

/// The model asked for, else the first that the provider names. `None` where providers name none.
fn model(
    config: &Config,
    pool: &PoolName,
    pinned: Option<&str>,
    wanted: Option<&str>,
) -> Result<Option<String>, ApiError> {
    let mut providers = config.providers_of_pool(pool).filter(|(name, _)| pinned.is_none_or(|pinned| *name == pinned));
    match wanted {
        Some(wanted) => {
            let serves = |models: &[String]| models.is_empty() || models.iter().any(|model| model == wanted);
            if providers.any(|(_, provider)| serves(&provider.models)) {
                Ok(Some(wanted.to_owned()))
            } else {
                Err(ApiError::unprocessable("model_not_found", "model", "is served by no provider of the pool"))
            }
        }
        None => Ok(providers.next().and_then(|(_, provider)| provider.models.first().cloned())),
    }
}

/// The label of the turn that a job waits for, in a pool that drains by model: chats, that is, since embedding models have
/// room of their own. One that is pinned to a provider among several waits there, not for whichever has its model.
fn turn<'a>(
    config: &Config,
    pool: &PoolName,
    task: &Task<'_>,
    model: Option<&'a str>,
    pinned: Option<&str>,
) -> Option<&'a str> {
    let free = pinned.is_none() || config.providers_of_pool(pool).nth(1).is_none();
    model.filter(|_| task.kind == TaskKind::Chat && free).and_then(|model| config.turn_label(pool, model))
}

/// A hash of what the body says: the order of members does not count, nor the key itself.
fn body_hash(body: &str) -> Result<BodyHash, ApiError> {
    let mut value: serde_json::Value = serde_json::from_str(body).map_err(ApiError::internal)?;
    if let Some(members) = value.as_object_mut() {
        members.remove("idempotency_key");
    }
    let canonical = serde_json::to_vec(&value).map_err(ApiError::internal)?;
    let digest = Sha256::digest(canonical);
    Ok(*digest.first_chunk().expect("SHA-256 has 32 bytes"))
}

/// What an idempotency key came to.
pub(crate) enum Booked {
    /// The key is this submit's, or there is none: on with the enqueue.
    Ours,
    /// An earlier submit booked it but its job is not there: on with the enqueue, under its id.
    Unfinished,
    /// An earlier submit booked it, and this is its job.
    Known(Box<Job>),
}

/// Books the idempotency key of a submit, which may take over the id of an earlier one.
pub(crate) async fn book(app: &App, prepared: &mut Prepared) -> Result<Booked, ApiError> {
    if prepared.replaces_own {
        spare_others(app, &prepared.job).await?;
    }
    let Some((key, hash)) = &prepared.key else {
        refuse_where_down(app, &prepared.job).await?;
        return Ok(Booked::Ours);
    };
    let wanted = Reservation { id: prepared.job.id.clone(), body_hash: *hash };
    let booked = app.queue.reserve(key, &wanted, KEY_KEPT).await?;
    if booked.body_hash != *hash {
        metrics::submit_refused(&prepared.job.id.shard.pool, Refusal::IdempotencyKeyReused);
        let message = "was first sent with another body";
        return Err(ApiError::unprocessable("idempotency_key_reused", "idempotency_key", message));
    }
    if booked.id == prepared.job.id {
        if let Err(error) = refuse_where_down(app, &prepared.job).await {
            free_key(app, key, &prepared.job.id).await;
            return Err(error);
        }
        return Ok(Booked::Ours);
    }
    prepared.job.id = booked.id;
    match app.queue.get(&prepared.job.id, false).await? {
        Some(job) => {
            let durability = app.config.pool(&job.id.shard.pool).map(|pool| pool.durability).unwrap_or_default();
            if app.queue.confirm(&job.id, durability).await? {
                Ok(Booked::Known(Box::new(job)))
            } else {
                Err(ApiError::durability_unknown(job.id))
            }
        }
        None => Ok(Booked::Unfinished),
    }
}

/// Refuses a job that would cancel another service's.
async fn spare_others(app: &App, job: &NewJob) -> Result<(), ApiError> {
    let service = |owner: Option<&Owner>| owner.map(|owner| owner.service.clone());
    let own = service(job.spec.owner.as_ref());
    let view = app.queue.key(&job.id.shard, job.concurrency_key.as_deref().unwrap_or_default()).await?;
    let foreign = view.active.into_iter().chain(view.waiting).find(|other| service(other.owner.as_ref()) != own);
    foreign.map_or(Ok(()), |other| Err(ApiError::run_already_active(other.id)))
}

/// What the queue said to a job that was sent, as the caller is to see it: the job and whether it was there before.
pub(crate) async fn conclude(app: &App, sent: &Sent, submitted: Submitted) -> Result<(Job, bool), ApiError> {
    let pool = &sent.id.shard.pool;
    let (refusal, error) = match submitted {
        Submitted::Accepted(job) => {
            welcome(app, &job);
            return Ok((*job, false));
        }
        Submitted::Unconfirmed(job) => {
            if let Some(job) = job {
                welcome(app, &job);
            }
            metrics::submit_refused(pool, Refusal::Unavailable);
            return Err(ApiError::durability_unknown(sent.id.clone()));
        }
        Submitted::Exists => {
            return match Box::pin(app.queue.get(&sent.id, false)).await? {
                Some(job) => Ok((job, !sent.ours)),
                None => Err(result_expired()),
            };
        }
        Submitted::Gone => return Err(result_expired()),
        Submitted::AudioLost => (Refusal::Unavailable, ApiError::upload_lost()),
        Submitted::QueueFull => (Refusal::QueueFull, ApiError::queue_full()),
        Submitted::KeyHeld(holder) => (Refusal::RunAlreadyActive, ApiError::run_already_active(holder)),
        Submitted::NoLiveWorker => {
            (Refusal::NoLiveWorker, ApiError::unavailable("no_live_worker", "no live worker serves the pool"))
        }
    };
    metrics::submit_refused(pool, refusal);
    if let Some(key) = &sent.key {
        Box::pin(free_key(app, key, &sent.id)).await;
    }
    Err(error)
}

async fn free_key(app: &App, key: &str, id: &JobId) {
    if let Err(error) = app.queue.unreserve(key, id).await {
        // The next submit with this key finds the booking without a job and goes on under its id.
        tracing::debug!(%error, "idempotency key not freed");
    }
}

/// Refuses a job that would rather fail than wait, and whose one provider is known to be down. Who did not ask for that
/// pays nothing.
async fn refuse_where_down(app: &App, job: &NewJob) -> Result<(), ApiError> {
    let (true, Some(name)) = (job.fail_fast, &job.spec.provider) else { return Ok(()) };
    let Some(config) = app.config.providers.get(name) else { return Ok(()) };
    let status = Box::pin(app.queue.provider_status(name)).await?;
    if provider::is_down_for(config, &status, job.spec.model.as_deref()) {
        metrics::submit_refused(&job.id.shard.pool, Refusal::NoLiveWorker);
        return Err(ApiError::unavailable("no_live_worker", "the provider is known to be down"));
    }
    Ok(())
}

/// What a newly accepted job is owed.
fn welcome(app: &App, job: &Job) {
    metrics::job_submitted(&job.id.shard.pool, &job.task);
    if job.status == overshot_common::job::Status::Scheduled {
        app.upkeep.nudge(&job.id.shard);
    }
}

fn result_expired() -> ApiError {
    ApiError::conflict("result_expired", "the job of this idempotency key ended and its retention is over")
}
