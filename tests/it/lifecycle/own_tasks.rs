//! Tasks of the user's own.

use serde_json::{Value, json};
use support::{Fleet, OpenAiStub, Reply};

use crate::settings::stubbed;

const ANALYSIS: &str = r#"
[tasks.call_analysis]
kind = "chat"
model = "small"
max_attempts = 2
max_input_bytes = 500
schema = '{"type":"object","required":["score"],"properties":{"score":{"type":"integer"}}}'
[tasks.call_analysis.input]
system = "You rate calls."
temperature = 0.5
"#;

fn analysis(user: &str) -> Value {
    json!({ "task": "call_analysis", "input": { "user": user, "call_id": 7 } })
}

#[tokio::test]
async fn a_task_adds_its_prompt_and_its_form_and_retries_an_answer_that_does_not_fit() {
    let stub = OpenAiStub::start().await;
    stub.push(Reply::texts(&["Gladly! The score is 7."]).then_end("stop"));
    stub.push(Reply::texts(&["{\"score\":", "7}"]).then_end("stop"));
    let fleet = Fleet::start(stubbed(&stub, ANALYSIS)).await;
    let id = fleet.client.submit(&analysis("Hello?")).await;
    let job = fleet.client.wait_end(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("completed"), &json!(2)), "{job}");
    assert_eq!((&job["task"], &job["result"]["content"]), (&json!("call_analysis"), &json!("{\"score\":7}")));
    let body = stub.wait_for(2).await.body;
    let messages = json!([{"role": "system", "content": "You rate calls."}, {"role": "user", "content": "Hello?"}]);
    assert_eq!((&body["messages"], &body["temperature"], &body["model"]), (&messages, &json!(0.5), &json!("small")));
    assert_eq!(body["response_format"]["json_schema"]["schema"]["required"], json!(["score"]));
    assert!(body.get("call_id").is_none());
    let kept = fleet.client.get(&format!("/api/v1/jobs/{id}?include=input")).await;
    assert_eq!(kept.json["input"], json!({ "user": "Hello?", "call_id": 7 }), "the caller's, as it was");
}

#[tokio::test]
async fn a_tasks_limits_hold_for_jobs_that_do_not_say() {
    let stub = OpenAiStub::start().await;
    stub.always(Reply::texts(&["no JSON"]).then_end("stop"));
    let fleet = Fleet::start(stubbed(&stub, ANALYSIS)).await;
    let id = fleet.client.submit(&analysis("Hello?")).await;
    let job = fleet.client.wait_end(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("failed"), &json!(2)), "{job}");
    assert_eq!(job["error"]["code"], "bad_response");
    let answer = fleet.client.post("/api/v1/jobs", &analysis(&"x".repeat(600))).await;
    assert_eq!((answer.status, answer.param()), (422, "input"));
}
