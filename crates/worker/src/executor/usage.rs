//! Tokens: what a provider reported, and what a job is expected to use.

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
    #[serde(default)]
    total_tokens: Option<u64>,
}

/// Adds the usage in a result to the metrics; without one there is nothing to count.
pub(super) fn count(station: &Station, model: Option<&str>, result: &RawValue) {
    let Ok(Counted { usage: Some(usage) }) = serde_json::from_str(result.get()) else { return };
    let pool = &station.pool.name;
    let model = metrics::model_label(&station.config, pool, model);
    metrics::tokens(pool, model, usage.prompt_tokens, usage.completion_tokens);
}

/// All tokens that a result reports, where it does.
pub(super) fn total(result: &RawValue) -> Option<u64> {
    let Counted { usage } = serde_json::from_str(result.get()).ok()?;
    let usage = usage?;
    usage.total_tokens.or(Some(usage.prompt_tokens + usage.completion_tokens)).filter(|total| *total > 0)
}

/// The tokens that a job may use: a quarter of its input's bytes, and as many for the answer as it allows.
pub(super) fn estimate(input: &RawValue) -> u64 {
    #[derive(Deserialize)]
    struct Allowed {
        #[serde(default)]
        max_completion_tokens: Option<u64>,
        #[serde(default)]
        max_tokens: Option<u64>,
    }
    let allowed = serde_json::from_str::<Allowed>(input.get()).ok();
    let answer = allowed.and_then(|allowed| allowed.max_completion_tokens.or(allowed.max_tokens)).unwrap_or(0);
    (input.get().len() as u64).div_ceil(4).saturating_add(answer)
}
