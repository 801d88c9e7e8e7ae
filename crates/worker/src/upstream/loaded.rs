//! What a provider has loaded, as far as it tells.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Upstream;

/// So long what was seen is taken to be so when a turn is chosen.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// How long the provider may take to tell.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// The last look.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    seen: Mutex<Option<Seen>>,
    looking: AtomicBool,
    /// Whether what was seen is to be reported.
    news: AtomicBool,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    /// `None`: it did not tell.
    models: Option<Vec<String>>,
}

impl Loaded {
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// What is to be reported, as JSON; `None`: the provider was never asked.
    pub(super) fn report(&self) -> Option<String> {
        self.news.store(false, Ordering::Release);
        let seen = self.seen();
        seen.as_ref().map(|seen| serde_json::to_string(&seen.models).expect("texts always serialize"))
    }

    fn note(&self, models: Option<Vec<String>>) {
        let mut seen = self.seen();
        if seen.as_ref().is_none_or(|seen| seen.models != models) {
            self.news.store(true, Ordering::Release);
        }
        *seen = Some(Seen { at: Instant::now(), models });
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().expect("no holder of this lock can panic")
    }
}

impl Upstream {
    /// What is loaded now, or was a moment ago.
    pub(super) async fn loaded_now(&self) -> Vec<String> {
        let fresh = |seen: &&Seen| seen.at.elapsed() < FRESH_FOR;
        let known = self.loaded.seen().as_ref().filter(fresh).map(|seen| seen.models.clone());
        let models = match known {
            Some(models) => models,
            None => self.ask_what_is_loaded().await,
        };
        models.unwrap_or_default()
    }

    /// Has the provider asked beside all else; what is new is told at once.
    pub(super) fn look_what_is_loaded(self: &Arc<Self>) {
        if self.tells_what_is_loaded() && !self.loaded.looking.swap(true, Ordering::AcqRel) {
            let upstream = self.clone();
            tokio::spawn(async move {
                upstream.ask_what_is_loaded().await;
                upstream.loaded.looking.store(false, Ordering::Release);
                if upstream.loaded.has_news() {
                    upstream.at_once.notify_one();
                }
            });
        }
    }

    async fn ask_what_is_loaded(&self) -> Option<Vec<String>> {
        if !self.tells_what_is_loaded() {
            return None;
        }
        let models = timeout(ASK_TIMEOUT, self.provider.loaded()).await.ok().flatten();
        self.loaded.note(models.clone());
        models
    }

    /// An OpenAI server is asked only where it matters: most of them have all that they list.
    fn tells_what_is_loaded(&self) -> bool {
        self.config.kind.is_ollama() || self.turns.is_some()
    }
}
