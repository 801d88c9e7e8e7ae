//! Loads models ahead of their jobs: at start, and again when the server was restarted.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::KeepAlive;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::Client;
use super::models::is_same;
use crate::providers::{ProviderFailure, Turnstile};

/// How often the server is asked whether it was restarted.
const LOOK_EVERY: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

/// The longest pause between two tries to load a model that cannot be loaded.
const TRY_EVERY_MAX: Duration = Duration::from_secs(300);

/// How long the server may take to say what a model is good for.
const SHOW_TIMEOUT: Duration = Duration::from_secs(5);
/// The most that is read of that: it holds the model's templates and all about its tensors.
const SHOW_BYTES_MAX: usize = 16 << 20;

#[derive(Serialize)]
struct Show<'a> {
    model: &'a str,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    capabilities: Vec<String>,
}

#[derive(Serialize)]
struct Load<'a> {
    model: &'a str,
    keep_alive: &'a KeepAlive,
    /// The embedding call wants one; an empty text loads and computes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'static str>,
}

impl Client {
    /// Keeps the configured models loaded, for ever; without any it ends at once.
    ///
    /// # Cancel safety
    /// Dropping it leaves a load under way to the server.
    pub(in crate::providers) async fn tend(&self, turns: &impl Turnstile) {
        if self.preload.is_empty() {
            return;
        }
        let (mut missing, mut fails, mut pause) = (self.all(), true, LOOK_EVERY);
        loop {
            let failed = fails;
            fails = match self.loaded_models().await {
                Ok(loaded) => {
                    if missing.is_empty() && self.lost_all(&loaded) {
                        missing = self.all();
                    }
                    self.warm(&mut missing, &loaded, turns).await
                }
                Err(failure) => {
                    if !failed {
                        tracing::warn!(provider = self.name, %failure, "provider away; its models are loaded when it is back");
                    }
                    self.loaded.forget();
                    missing = self.all();
                    true
                }
            };
            pause = if failed && fails { (pause * 2).min(TRY_EVERY_MAX) } else { LOOK_EVERY };
            sleep(pause).await;
        }
    }

    fn all(&self) -> Vec<&str> {
        self.preload.iter().map(String::as_str).collect()
    }

    /// A server that holds models for ever and has none was restarted between two looks. One that lacks a model made room for
    /// another: loading it again would only push that one out.
    fn lost_all(&self, loaded: &[String]) -> bool {
        loaded.is_empty() && self.keep_alive().is_forever()
    }

    fn keep_alive(&self) -> &KeepAlive {
        self.keep_alive.as_ref().unwrap_or(&KeepAlive::FOREVER)
    }

    /// Loads what is missing, as far as its turn has come, and leaves the rest there; whether one could not be loaded.
    async fn warm(&self, missing: &mut Vec<&str>, loaded: &[String], turns: &impl Turnstile) -> bool {
        let mut fails = false;
        for model in std::mem::take(missing) {
            if loaded.iter().any(|name| is_same(name, model)) {
                continue;
            }
            let takes_turn = turns.turns() && !self.only_embeds(model).await;
            let turn = if takes_turn { turns.enter(model).await } else { None };
            if takes_turn && turn.is_none() {
                missing.push(model);
                continue;
            }
            let begun = Instant::now();
            match timeout(self.request_timeout, self.load(model)).await {
                Ok(Ok(())) => {
                    self.loaded.note(model);
                    let ms = begun.elapsed().as_millis();
                    tracing::info!(provider = self.name, model, duration_ms = ms, "model loaded");
                    continue;
                }
                Ok(Err(failure)) => tracing::warn!(provider = self.name, model, %failure, "model not loaded"),
                Err(_) => tracing::warn!(provider = self.name, model, "model not loaded within the request_timeout"),
            }
            fails = true;
            missing.push(model);
        }
        fails
    }

    /// Whether the server says that the model has no other use than embeddings: such a one has room of its own. (`/api/show`,
    /// whose `capabilities` older servers leave out.)
    async fn only_embeds(&self, model: &str) -> bool {
        let asked = timeout(SHOW_TIMEOUT, async {
            let answer = self.post("show", &Show { model }).await.ok()?;
            serde_json::from_slice(&super::read_body(answer, SHOW_BYTES_MAX).await.ok()?).ok()
        });
        let Ok(Some(Shown { capabilities })) = asked.await else { return false };
        capabilities.iter().any(|one| one == "embedding") && !capabilities.iter().any(|one| one == "completion")
    }

    /// Loads a model: one that cannot generate is an embedding model, and stays.
    async fn load(&self, model: &str) -> Result<(), ProviderFailure> {
        let chat = Load { model, keep_alive: self.keep_alive(), input: None };
        match self.post("generate", &chat).await {
            Err(failure) if failure.error.code == ErrorCode::BadInput => {
                let embedding = Load { model, keep_alive: &KeepAlive::FOREVER, input: Some("") };
                self.post("embed", &embedding).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}
