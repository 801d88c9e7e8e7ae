//! Which models an Ollama server has loaded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::Client;
use crate::providers::ProviderFailure;
use crate::providers::openai::errors;

/// How long a model that answered is taken for loaded without asking.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// How long the server may take to say what it has loaded: the question is only asked to tell readers.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// The most that is read of a list of models.
const LIST_BYTES_MAX: usize = 4 << 20;

/// The models that answered lately.
#[derive(Debug, Default)]
pub(super) struct Loaded(Mutex<HashMap<String, Instant>>);

impl Loaded {
    /// Whether the model answered lately.
    pub(super) fn knows(&self, model: &str) -> bool {
        self.lock().get(model).is_some_and(|since| since.elapsed() < KNOWN_FOR)
    }

    /// The model has just answered.
    pub(super) fn note(&self, model: &str) {
        let mut known = self.lock();
        known.retain(|_, since| since.elapsed() < KNOWN_FOR);
        known.insert(model.to_owned(), Instant::now());
    }

    /// Nothing is known any more.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    models: Option<Vec<Model>>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    name: String,
    #[serde(default)]
    model: String,
}

impl Client {
    /// The models that are loaded now, by the names that the server gives them.
    pub(in crate::providers) async fn loaded_models(&self) -> Result<Vec<String>, ProviderFailure> {
        self.list("ps").await
    }

    /// Whether the server says that it has not loaded the model. One that does not answer in time says nothing.
    pub(super) async fn is_absent(&self, model: &str) -> bool {
        match timeout(ASK_TIMEOUT, self.loaded_models()).await {
            Ok(Ok(loaded)) => !loaded.iter().any(|name| is_same(name, model)),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, ProviderFailure> {
        let unusable = || ProviderFailure::bad_response("it is not a list of models");
        let sent = self.http.get(format!("{}/api/{path}", self.base)).send().await;
        let response = sent.map_err(|error| errors::unreachable(&error))?;
        if !response.status().is_success() {
            return Err(super::refusal(response).await);
        }
        let body = super::read_body(response, LIST_BYTES_MAX).await?;
        let list: List = serde_json::from_slice(&body).map_err(|_| unusable())?;
        let names = list.models.unwrap_or_default().into_iter();
        Ok(names.map(|listed| if listed.model.is_empty() { listed.name } else { listed.model }).collect())
    }
}

/// Whether two names mean the same model: a name without a tag means `latest`.
pub(in crate::providers) fn is_same(one: &str, other: &str) -> bool {
    plain(one).eq_ignore_ascii_case(plain(other))
}

fn plain(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_the_latest() {
        assert!(is_same("llama3.2", "llama3.2:latest"));
        assert!(is_same("org/Model:latest", "org/model"));
        assert!(!is_same("llama3.2:1b", "llama3.2"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_answered_long_ago_is_not_known_to_be_loaded() {
        let loaded = Loaded::default();
        loaded.note("m");
        assert!(loaded.knows("m"));
        tokio::time::advance(KNOWN_FOR).await;
        assert!(!loaded.knows("m"));
    }
}
