//! What requests hold and what is no type of ours, for the API document only: requests are read field by field
//! (`crate::wire`), so that each mistake names its place. A test holds the fields here against those readers.
#![expect(dead_code, reason = "these describe; nothing makes them")]

use std::collections::BTreeMap;

use overshot_common::job::{Job, OnConflict, Owner, Priority, Status};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How long to wait for the job's end.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wait {
    /// Answers when the job ends, or after this long, whichever is first: a duration up to 10 min.
    #[param(example = "30s")]
    wait: Option<String>,
}

/// The caller's trace.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct Trace {
    /// W3C Trace Context: the trace that the job goes on in. One that is not valid is ignored.
    #[param(example = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    traceparent: Option<String>,
    /// What tracing systems say beside it.
    tracestate: Option<String>,
}

/// The job of a path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct JobPath {
    /// The job's id.
    #[param(example = "job_chat-0-01arz3ndektsv4rrffq69g5fav")]
    id: String,
}

/// The pool of a path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct PoolPath {
    /// The pool's name.
    #[param(example = "chat")]
    pool: String,
}

/// Which jobs, and which part of them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Any of these: repeated, or separated by commas.
    status: Option<Vec<Status>>,
    /// In this pool.
    #[param(min_length = 1, max_length = 256)]
    pool: Option<String>,
    /// Of this task.
    #[param(min_length = 1, max_length = 256)]
    task: Option<String>,
    /// For this model.
    #[param(min_length = 1, max_length = 256)]
    model: Option<String>,
    /// Of this owner's service.
    #[param(min_length = 1, max_length = 256)]
    owner_service: Option<String>,
    /// With this owner's reference.
    #[param(min_length = 1, max_length = 256)]
    owner_ref: Option<String>,
    /// Of this owner's agent.
    #[param(min_length = 1, max_length = 256)]
    owner_agent: Option<String>,
    /// With this concurrency key.
    #[param(min_length = 1, max_length = 256)]
    concurrency_key: Option<String>,
    /// How many at most; 50 unless told.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// The `next` of the last page, or a job's id.
    after: Option<String>,
}

/// Audio and what is to be known about it; further fields are those of a submit.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Upload {
    /// The audio, at most `max_audio_bytes`.
    #[schema(value_type = String, format = Binary)]
    file: String,
    /// Default: the provider's first.
    #[schema(min_length = 1, max_length = 256)]
    model: Option<String>,
    /// A code such as `en`.
    #[schema(example = "en", pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,2}$")]
    language: Option<String>,
    /// Words that guide the spelling.
    #[schema(max_length = 16384)]
    prompt: Option<String>,
    /// The sampling temperature.
    #[schema(minimum = 0, maximum = 1)]
    temperature: Option<f64>,
    /// The submit as JSON, for callers who would rather write that.
    job: Option<String>,
}

/// A job to be done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Submit {
    /// `chat` (alias `llm_chat`), another built-in task, or a name under `[tasks]`.
    #[schema(example = "chat", min_length = 1, max_length = 256)]
    task: String,
    /// The task's own object. Chat: `messages`, or `system` and `user`, and the chat-completion parameters. Embedding:
    /// `input` or `texts` (a text, a list of texts or of `{id, text}`), `encoding_format`, `dimensions`, `batch_size`,
    /// `collection`. Fields of your own are kept and not sent; what else a provider takes goes in `extra_body`.
    #[schema(value_type = Object, example = json!({ "user": "Say hello." }))]
    input: serde_json::Value,
    /// Default: the task's pool, else the only pool.
    #[schema(min_length = 1, max_length = 256)]
    pool: Option<String>,
    /// Default: the provider's first.
    #[schema(min_length = 1, max_length = 256)]
    model: Option<String>,
    /// Pins one provider of the pool.
    #[schema(min_length = 1, max_length = 256)]
    provider: Option<String>,
    priority: Option<Priority>,
    /// How many failures end it; 5 unless told.
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: Option<u32>,
    /// Not before this time; not beside `delay`.
    run_at: Option<jiff::Timestamp>,
    /// Not before this long.
    #[schema(example = "10s")]
    delay: Option<String>,
    /// Limit of one attempt; default: the pool's `job_timeout`.
    #[schema(example = "10m")]
    timeout: Option<String>,
    /// How long it may wait; default: the pool's `queue_timeout`.
    #[schema(example = "1h")]
    expires_in: Option<String>,
    /// How long it is kept after its end; default: the pool's.
    #[schema(example = "7d")]
    result_ttl: Option<String>,
    /// The same key and body is the same job, for 24 h.
    #[schema(min_length = 1, max_length = 256)]
    idempotency_key: Option<String>,
    /// At most one active job per key and pool.
    #[schema(min_length = 1, max_length = 256)]
    concurrency_key: Option<String>,
    on_conflict: Option<OnConflict>,
    /// 503 at once when no live worker serves the pool.
    fail_fast: Option<bool>,
    owner: Option<Owner>,
    /// Up to 16 pairs of your own.
    metadata: Option<BTreeMap<String, String>>,
    /// Keep and publish chunks; by default for chat.
    stream: Option<bool>,
}

/// Jobs to be done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    #[schema(min_items = 1, max_items = 1000)]
    jobs: Vec<Submit>,
}

/// What one item of a batch came to: the status that it would have had alone, and the job or the error.
#[derive(Serialize, ToSchema)]
pub(crate) struct ItemResult {
    status: u16,
    job: Option<Job>,
    error: Option<ErrorObject>,
}

/// Another input for a job that runs again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    #[schema(value_type = Option<Object>)]
    input: Option<serde_json::Value>,
}

/// Changes to a job's pairs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Annotate {
    /// Pairs to set; `null` removes one. At most 16 may result.
    metadata: BTreeMap<String, Option<String>>,
}

/// Which jobs; at least one member.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1)]
pub(crate) struct Filter {
    /// Any of these; also a single text.
    status: Option<Vec<Status>>,
    pool: Option<String>,
    task: Option<String>,
    model: Option<String>,
    owner_service: Option<String>,
    owner_ref: Option<String>,
    owner_agent: Option<String>,
    concurrency_key: Option<String>,
}

/// The collection of a path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct CollectionPath {
    /// The collection's name.
    #[param(example = "docs")]
    name: String,
}

/// Which part of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many at most; 50 unless told.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// The `next` of the last page.
    after: Option<String>,
}

/// Vectors that embedding jobs keep by the callers' ids.
#[derive(Serialize, ToSchema)]
pub(crate) struct Collection {
    /// Always `collection`.
    object: String,
    name: String,
    /// The model of its vectors.
    model: Option<String>,
    /// Numbers per vector; absent while there is none on the page.
    dimensions: Option<u32>,
    /// How many vectors it holds.
    count: u64,
    /// When a job last completed it.
    updated_at: Option<jiff::Timestamp>,
}

/// A page of collections.
#[derive(Serialize, ToSchema)]
pub(crate) struct CollectionList {
    /// Always `list`.
    object: String,
    data: Vec<Collection>,
    has_more: bool,
    /// For `after`.
    next: Option<String>,
}

/// A vector of a collection.
#[derive(Serialize, ToSchema)]
pub(crate) struct CollectionVector {
    /// Always `embedding`.
    object: String,
    /// The caller's name for it.
    id: String,
    /// A list of numbers, or base64 of them packed as 32-bit little-endian floats.
    #[schema(value_type = Value)]
    embedding: serde_json::Value,
}

/// A page of a collection.
#[derive(Serialize, ToSchema)]
pub(crate) struct CollectionPage {
    /// Always `list`.
    object: String,
    collection: Collection,
    data: Vec<CollectionVector>,
    has_more: bool,
    /// For `after`.
    next: Option<String>,
}

/// A live worker, as it last described itself.
#[derive(Serialize, ToSchema)]
pub(crate) struct Worker {
    id: String,
    /// Always `worker`.
    object: String,
    pools: Vec<String>,
    last_beat: Option<jiff::Timestamp>,
    slots: Option<u32>,
    in_flight: Option<u64>,
    started_at: Option<jiff::Timestamp>,
    version: Option<String>,
    /// It takes no more jobs and is about to leave.
    draining: Option<bool>,
    host: Option<String>,
    providers: Option<Vec<String>>,
}

/// The member `error` of an error's body: OpenAI's envelope.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// Stable; `docs/ERRORS.md` lists them.
    code: String,
    message: String,
    r#type: String,
    /// The field, parameter or header that it is about.
    #[schema(required)]
    param: Option<String>,
    /// The job that it is about.
    job_id: Option<String>,
}

/// An error: OpenAI's envelope and RFC 9457 in one body.
#[derive(Serialize, ToSchema)]
pub(crate) struct Error {
    error: ErrorObject,
    /// `urn:overshot:error:<code>`.
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    job_id: Option<String>,
}
