//! Names of attributes: of OpenTelemetry's conventions for HTTP, for messaging and for generative AI, and our own.

/// The request's method.
pub const HTTP_METHOD: &str = "http.request.method";
/// The path with names in place of ids.
pub const HTTP_ROUTE: &str = "http.route";
/// The status of the answer.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// Always [`SYSTEM`](crate::SYSTEM).
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// `send` or `process`.
pub const OPERATION_TYPE: &str = "messaging.operation.type";
/// `send` or `process`.
pub const OPERATION_NAME: &str = "messaging.operation.name";
/// The pool's name.
pub const DESTINATION: &str = "messaging.destination.name";
/// The number of the pool's shard.
pub const PARTITION: &str = "messaging.destination.partition.id";
/// How many jobs a batch has.
pub const BATCH_COUNT: &str = "messaging.batch.message_count";
/// The consumer group of a pool's streams.
pub const CONSUMER_GROUP: &str = "messaging.consumer.group.name";
/// The worker's id.
pub const CLIENT_ID: &str = "messaging.client.id";
/// The job's id.
pub const MESSAGE_ID: &str = "messaging.message.id";
/// How many runs of the job came before this one.
pub const RETRY_COUNT: &str = "retry.count";
/// The error code; none where all went well.
pub const ERROR_TYPE: &str = "error.type";
/// The task's name.
pub const TASK: &str = "overshot.task";
/// How long the job waited since it was due, in seconds.
pub const WAITED: &str = "overshot.queue.wait";
/// What the attempt came to.
pub const OUTCOME: &str = "overshot.outcome";
/// The provider's name in the configuration.
pub const PROVIDER: &str = "overshot.provider";
/// `chat`, `embeddings` or `transcription`.
pub const GEN_AI_OPERATION: &str = "gen_ai.operation.name";
/// The kind of provider; `openai` for all that speak that dialect.
pub const GEN_AI_PROVIDER: &str = "gen_ai.provider.name";
/// The model asked for.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// Whether the answer was asked for as a stream.
pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
/// The most tokens that the answer may have.
pub const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
/// The temperature asked for.
pub const REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
/// The model that the answer names.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Why the answer ended.
pub const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Seconds from the call to the first piece of its answer.
pub const FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// Tokens of the request.
pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Tokens of the answer.
pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Tokens of the request that the provider had in its cache.
pub const CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Tokens of the answer that went into reasoning.
pub const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
/// The provider's host.
pub const SERVER_ADDRESS: &str = "server.address";
/// The provider's port.
pub const SERVER_PORT: &str = "server.port";
