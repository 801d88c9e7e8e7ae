//! Tokens: what a provider reported, and what a job is expected to use.

use overshot_common::metrics;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::runner::station::Station;
use crate::tasks::Kind;

/// Tokens that are taken for an answer whose job sets no limit, and at most that part of what a minute has: else a small
/// limit would let one such job begin per minute, however little it used.
const ANSWER_TOKENS: u64 = 1024;
const ANSWER_PART: u64 = 4;

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

/// The tokens that a job may use: a quarter of its input's bytes, and of a chat as many for each answer as it allows. `None`:
/// each of its requests will say. `limit` is what a minute has.
pub(super) fn estimate(kind: Kind, input: &RawValue, limit: u64) -> Option<u64> {
    #[derive(Deserialize)]
    struct Allowed {
        #[serde(default)]
        max_completion_tokens: Option<u64>,
        #[serde(default)]
        max_tokens: Option<u64>,
        #[serde(default)]
        n: Option<u64>,
    }
    let asked = (input.get().len() as u64).div_ceil(4);
    match kind {
        Kind::Embedding => None,
        Kind::Transcription => Some(asked),
        Kind::Chat => {
            let allowed = serde_json::from_str::<Allowed>(input.get()).ok();
            let answers = allowed.as_ref().and_then(|allowed| allowed.n).unwrap_or(1);
            let each = allowed.and_then(|allowed| allowed.max_completion_tokens.or(allowed.max_tokens));
            Some(asked.saturating_add(each.unwrap_or(ANSWER_TOKENS.min(limit / ANSWER_PART)).saturating_mul(answers)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_may_use_its_prompt_and_the_answers_that_it_allows() {
        let estimate = |kind, input: &str| estimate(kind, serde_json::from_str(input).unwrap(), 8000);
        for (input, tokens) in [
            (r#"{"user":"1234"}"#, 4 + ANSWER_TOKENS),
            (r#"{"max_tokens":7}"#, 4 + 7),
            (r#"{"max_tokens":7,"max_completion_tokens":9}"#, 11 + 9),
            (r#"{"max_tokens":7,"n":3}"#, 6 + 21),
            (r#"{"max_tokens":null}"#, 5 + ANSWER_TOKENS),
            (r#"{"max_tokens":"much"}"#, 6 + ANSWER_TOKENS),
        ] {
            assert_eq!(estimate(Kind::Chat, input), Some(tokens), "{input}");
        }
        assert_eq!(estimate(Kind::Embedding, r#"{"input":["x"]}"#), None);
        let small = super::estimate(Kind::Chat, serde_json::from_str(r#"{"user":"1234"}"#).unwrap(), 1000);
        assert_eq!(small, Some(4 + 250));
    }
}
