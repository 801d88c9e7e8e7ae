//! Counts the tokens that a provider reported.

use overshot_common::metrics;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::runner::station::Station;

#[derive(Deserialize)]
struct Counted {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// Adds the usage in a result to the metrics; without one there is nothing to count.
pub(super) fn count(station: &Station, model: Option<&str>, result: &RawValue) {
    let Ok(Counted { usage: Some(usage) }) = serde_json::from_str(result.get()) else { return };
    let pool = &station.pool.name;
    let model = metrics::model_label(&station.config, pool, model);
    metrics::tokens(pool, model, usage.prompt_tokens, usage.completion_tokens);
}
