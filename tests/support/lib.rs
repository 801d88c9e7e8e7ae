//! Shared parts of the tests: a private Redis, the real programs, a scripted provider, a proxy that breaks connections.
//!
//! Everything here belongs to one test and is gone with it. A part that cannot do its work panics, as tests do.

mod certificates;
mod chaos_proxy;
mod chat_server;
mod client;
mod collector;
mod embedding_server;
mod eventually;
mod fleet;
mod ollama_shim;
mod ollama_stub;
mod openai_stub;
mod port;
mod process;
mod redis_cluster;
mod redis_options;
mod redis_server;
mod sentinels;
mod speech;
mod stepped_clock;

pub use certificates::Certificates;
pub use chaos_proxy::ChaosProxy;
pub use chat_server::ChatServer;
pub use client::{Answer, Client, Event, Events};
pub use collector::{CollectedSpan, Collector};
pub use embedding_server::EmbeddingServer;
pub use fleet::{Fleet, FleetOptions};
pub use ollama_shim::OllamaShim;
pub use ollama_stub::OllamaStub;
pub use openai_stub::{DIMENSIONS, OpenAiStub, Reply, Seen, vector_of};
pub use process::{Process, Program, built};
pub use redis_cluster::RedisCluster;
pub use redis_options::RedisOptions;
pub use redis_server::RedisServer;
pub use sentinels::{Guarded, Sentinels};
pub use speech::{Sounds, SpeechServer};

use std::time::Duration;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);
