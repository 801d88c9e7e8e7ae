//! An API and its workers as processes, over a Redis of their own.

use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Process, Program};
use crate::redis_options::RedisOptions;
use crate::redis_server::RedisServer;
use crate::{PATIENCE, assert_eventually};

/// How a [`Fleet`] is set up.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    config: String,
    workers: usize,
    env: Vec<(String, String)>,
    redis: RedisOptions,
    token: Option<String>,
}

impl FleetOptions {
    /// With this configuration, as TOML.
    pub fn new(config: impl Into<String>) -> Self {
        Self { config: config.into(), workers: 1, env: Vec::new(), redis: RedisOptions::default(), token: None }
    }

    /// As many workers; the default is one.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// One more variable for every process.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The API wants this token, and the client sends the first of it.
    #[must_use]
    pub fn token(mut self, tokens: &str) -> Self {
        self.token = tokens.split(',').next().map(str::to_owned);
        self.env("OVERSHOT_API_TOKEN", tokens)
    }

    /// Another Redis than the default one.
    #[must_use]
    pub fn redis(mut self, options: RedisOptions) -> Self {
        self.redis = options;
        self
    }

    /// Starts Redis, the API and the workers, and waits until they are ready.
    pub async fn start(self) -> Fleet {
        let redis = self.redis.clone().start().await;
        let url = redis.url();
        self.start_over(redis, &url).await
    }

    /// As [`FleetOptions::start`], over servers that the test itself holds, at `url`; [`Fleet::redis`] is not one of them.
    pub async fn start_at(self, url: &str) -> Fleet {
        self.start_over(RedisServer::options().stopped(), url).await
    }

    /// As [`FleetOptions::start`], over a Redis that runs already and is reached at `url`: through a proxy, say.
    pub async fn start_over(self, redis: RedisServer, url: &str) -> Fleet {
        let dir = tempfile::Builder::new().prefix("overshot-fleet-").tempdir().expect("a temporary folder");
        let path = dir.path().join("overshot.toml");
        std::fs::write(&path, &self.config).expect("the folder is ours");
        let mut env = vec![
            ("OVERSHOT_REDIS_URL".to_owned(), url.to_owned()),
            ("OVERSHOT_CONFIG".to_owned(), path.to_string_lossy().into_owned()),
            ("OVERSHOT_HTTP_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
            ("OVERSHOT_WORKER_HTTP_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
            ("OVERSHOT_LOG".to_owned(), "info".to_owned()),
        ];
        env.extend(self.env);
        let mut api = Process::start(Program::Api, &[], &env);
        let client = Client::new(&api.address().await, self.token.as_deref());
        let mut fleet = Fleet { client, api, workers: Vec::new(), env, token: self.token, dir, redis };
        for _ in 0..self.workers {
            fleet.add_worker();
        }
        assert_eventually!(fleet.client.get("/readyz").await.status == 200);
        fleet.wait_for_workers(self.workers).await;
        fleet
    }
}

/// An API and its workers. Fields are dropped in order: the programs before their Redis.
#[derive(Debug)]
pub struct Fleet {
    /// A client of the API.
    pub client: Client,
    /// The API.
    pub api: Process,
    /// The workers, in the order in which they were started.
    pub workers: Vec<Process>,
    env: Vec<(String, String)>,
    token: Option<String>,
    dir: TempDir,
    /// What they share.
    pub redis: RedisServer,
}

impl Fleet {
    /// Starts one with this configuration and one worker.
    pub async fn start(config: impl Into<String>) -> Self {
        FleetOptions::new(config).start().await
    }

    /// Starts one more worker, without waiting for it.
    pub fn add_worker(&mut self) -> &mut Process {
        self.workers.push(Process::start(Program::Worker, &[], &self.env));
        self.workers.last_mut().expect("just pushed")
    }

    /// Starts one more worker with another configuration, without waiting for it.
    pub fn add_worker_with(&mut self, config: &str) -> &mut Process {
        let path = self.dir.path().join(format!("worker-{}.toml", self.workers.len()));
        std::fs::write(&path, config).expect("the folder is ours");
        let mut env = self.env.clone();
        for (name, value) in &mut env {
            if name == "OVERSHOT_CONFIG" {
                *value = path.to_string_lossy().into_owned();
            }
        }
        self.workers.push(Process::start(Program::Worker, &[], &env));
        self.workers.last_mut().expect("just pushed")
    }

    /// Starts a second API over the same Redis.
    pub async fn another_api(&self) -> (Process, Client) {
        let mut api = Process::start(Program::Api, &[], &self.env);
        let client = Client::new(&api.address().await, self.token.as_deref());
        assert_eventually!(client.get("/readyz").await.status == 200);
        (api, client)
    }

    /// Starts the API anew after it was killed, on another port.
    pub async fn restart_api(&mut self) {
        self.api.kill();
        let (api, client) = self.another_api().await;
        self.api = api;
        self.client = client;
    }

    /// Waits until that many workers are live.
    pub async fn wait_for_workers(&self, count: usize) {
        assert_eventually!(self.live_workers().await == count, PATIENCE, "{count} workers");
    }

    /// Waits until a worker that was killed or stopped is taken for dead.
    pub async fn wait_for_fewer_workers_than(&self, count: usize, within: Duration) {
        assert_eventually!(self.live_workers().await < count, within);
    }

    /// Allows ERROR lines that hold `text` in the logs of all processes that run now.
    pub fn allow_error(&mut self, text: &str) {
        self.api.allow_error(text);
        for worker in &mut self.workers {
            worker.allow_error(text);
        }
    }

    async fn live_workers(&self) -> usize {
        let answer = self.client.get("/api/v1/workers").await;
        answer.json["data"].as_array().map_or(0, Vec::len)
    }
}
