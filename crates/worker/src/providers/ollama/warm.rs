//! Loads models ahead of their jobs: at start, and again when the server was restarted.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::KeepAlive;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::Client;
use super::models::is_same;
use crate::providers::ProviderFailure;

/// How often the server is asked whether it was restarted.
const LOOK_EVERY: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

/// The longest pause between two tries to load a model that cannot be loaded.
const TRY_EVERY_MAX: Duration = Duration::from_secs(300);

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
    pub(in crate::providers) async fn tend(&self) {
        if self.preload.is_empty() {
            return;
        }
        let (mut away, mut pause) = (true, LOOK_EVERY);
        loop {
            let was_away = away;
            away = match self.loaded_models().await {
                Ok(loaded) if away || self.lost_all(&loaded) => !self.warm(&loaded).await,
                Ok(_) => false,
                Err(failure) => {
                    if !away {
                        tracing::warn!(provider = self.name, %failure, "provider away; its models are loaded when it is back");
                    }
                    self.loaded.forget();
                    true
                }
            };
            pause = if was_away && away { (pause * 2).min(TRY_EVERY_MAX) } else { LOOK_EVERY };
            sleep(pause).await;
        }
    }

    /// A server that holds models for ever and has none was restarted between two looks. One that lacks a model made room for
    /// another: loading it again would only push that one out.
    fn lost_all(&self, loaded: &[String]) -> bool {
        loaded.is_empty() && self.keep_alive().is_forever()
    }

    fn keep_alive(&self) -> &KeepAlive {
        self.keep_alive.as_ref().unwrap_or(&KeepAlive::FOREVER)
    }

    /// Loads what is missing; whether all of it could be loaded.
    async fn warm(&self, loaded: &[String]) -> bool {
        let mut all = true;
        for model in self.preload.iter().filter(|model| !loaded.iter().any(|name| is_same(name, model))) {
            let begun = Instant::now();
            match timeout(self.request_timeout, self.load(model)).await {
                Ok(Ok(())) => {
                    self.loaded.note(model);
                    let ms = begun.elapsed().as_millis();
                    tracing::info!(provider = self.name, model, duration_ms = ms, "model loaded");
                }
                Ok(Err(failure)) => {
                    all = false;
                    tracing::warn!(provider = self.name, model, %failure, "model not loaded");
                }
                Err(_) => {
                    all = false;
                    tracing::warn!(provider = self.name, model, "model not loaded within the request_timeout");
                }
            }
        }
        all
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
