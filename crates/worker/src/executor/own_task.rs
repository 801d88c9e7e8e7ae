//! Tasks of the user's own: what their configuration adds to an input and asks of an answer, and what becomes of a job
//! whose task this worker does not know.

use std::borrow::Cow;
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::TaskConfig;
use overshot_common::job::JobError;
use overshot_common::queue::{ClaimedJob, WorkerInfo};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::outcome::Outcome;
use crate::runner::backoff::jittered;
use crate::runner::station::Station;

/// The shortest and the longest time that a job stays away from a worker that does not know its task.
const AWAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// How long after it is due a job is claimed, where somebody has a free slot.
const PROMOTED_WITHIN: Duration = Duration::from_secs(1);

/// The input with the task's defaults in it.
pub(super) fn input<'a>(own: Option<&TaskConfig>, input: &'a RawValue) -> Result<Cow<'a, RawValue>, Outcome> {
    let whole = own.map_or(Ok(Cow::Borrowed(input)), |own| own.with_defaults(input));
    whole.map_err(|mistake| Outcome::fail(ErrorCode::BadInput, mistake.to_string()))
}

/// An answer that does not fit the task's schema is none. One that calls tools is not the last word.
pub(super) fn judged(own: Option<&TaskConfig>, outcome: Outcome) -> Outcome {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        content: Cow<'a, str>,
        #[serde(default, borrow)]
        tool_calls: Option<&'a RawValue>,
    }
    let (Some(schema), Outcome::Done(result)) = (own.and_then(|own| own.schema.as_ref()), &outcome) else {
        return outcome;
    };
    let Ok(answer) = serde_json::from_str::<Answer<'_>>(result.get()) else { return outcome };
    match schema.judge(&answer.content) {
        Err(problem) if answer.tool_calls.is_none() => {
            Outcome::retry(ErrorCode::BadResponse, format!("the answer cannot be used: {problem}"))
        }
        _ => outcome,
    }
}

/// What becomes of a job whose task this worker does not know: while another live worker announces the task, as in a rolling
/// deploy, it is put off and the attempt not counted. When it is due, those who know have the first look, and it stays away the
/// longer the longer it has been about: few who know among many who do not cost each job a few rounds, not a busy loop.
pub(super) async fn unknown(station: &Station, job: &ClaimedJob) -> Outcome {
    let error = |message: &str| JobError { code: ErrorCode::UnsupportedTask, message: message.to_owned() };
    let after = jittered((job.age / 4).clamp(AWAY.0, AWAY.1));
    match station.queue.workers(&station.shard, station.config.worker.liveness).await {
        Ok(workers) if !workers.iter().any(|worker| announces(worker, &job.spec.task)) => {
            Outcome::Fail { error: error("no live worker knows the task") }
        }
        Ok(_) => {
            station.give_way(Instant::now() + after + PROMOTED_WITHIN);
            Outcome::Snooze { after, error: error("this worker does not know the task; another one does") }
        }
        Err(_) => Outcome::Snooze { after, error: error("this worker does not know the task") },
    }
}

/// Whether a worker takes jobs of that task, by what it says of itself.
fn announces(worker: &WorkerInfo, task: &str) -> bool {
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        tasks: Vec<String>,
        #[serde(default)]
        draining: bool,
    }
    let said = serde_json::from_str::<Said>(worker.info.get());
    said.is_ok_and(|said| !said.draining && said.tasks.iter().any(|known| known == task))
}

#[cfg(test)]
mod tests {
    use overshot_common::config::Config;
    use serde_json::value::to_raw_value;
    use serde_json::{Value, json};

    use super::*;

    fn own(lines: &str) -> TaskConfig {
        let text = format!(
            "[pools.chat]\nproviders = [\"sim\"]\n[providers.sim]\nkind = \"simulated\"\n[tasks.t]\nkind = \"chat\"\n{lines}"
        );
        Config::load(Some((std::path::Path::new("test"), &text)), []).unwrap().tasks.remove("t").unwrap()
    }

    fn done(result: &Value) -> Outcome {
        Outcome::Done(to_raw_value(result).unwrap())
    }

    #[test]
    fn the_schema_goes_to_the_provider_unless_the_caller_asks_for_another_form() {
        let own = own("schema = '{\"type\":\"object\"}'");
        let with = |given: Value| {
            let given = to_raw_value(&given).unwrap();
            serde_json::from_str::<Value>(input(Some(&own), &given).unwrap().get()).unwrap()["response_format"].take()
        };
        let schema = json!({"type": "json_schema", "json_schema": {"name": "t", "schema": {"type": "object"}}});
        assert_eq!(with(json!({"user": "u"})), schema);
        assert_eq!(with(json!({"user": "u", "response_format": {"type": "text"}})), json!({"type": "text"}));
    }

    #[test]
    fn an_answer_that_does_not_fit_is_a_bad_response() {
        let own = own("schema = '{\"required\":[\"score\"]}'");
        let judged = |result: Value| judged(Some(&own), done(&result));
        assert!(matches!(judged(json!({"content": "{\"score\":1}"})), Outcome::Done(_)));
        assert!(matches!(judged(json!({"content": "", "tool_calls": [{}]})), Outcome::Done(_)));
        let outcome = judged(json!({"content": "{\"secret\":1}"}));
        let error = outcome.error().unwrap();
        assert_eq!(error.code, ErrorCode::BadResponse);
        assert!(!error.message.contains("secret") && error.message.contains("/required"), "{error:?}");
    }

    #[test]
    fn only_a_worker_that_takes_jobs_counts_as_one_that_knows_the_task() {
        let check = |info: Value| {
            let info = to_raw_value(&info).unwrap();
            let worker = WorkerInfo { id: "w".parse().unwrap(), pool: "chat".parse().unwrap(), last_beat: 1, info };
            announces(&worker, "t")
        };
        assert!(check(json!({"tasks": ["chat", "t"], "draining": false})));
        assert!(!check(json!({"tasks": ["chat", "t"], "draining": true})));
        assert!(!check(json!({"tasks": ["chat"]})));
        assert!(!check(json!({})));
    }
}
