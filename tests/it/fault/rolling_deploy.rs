//! A task that only the newer half of the fleet knows.

use serde_json::json;
use support::Fleet;

use crate::settings::quick;

const NEW_TASK: &str = "[tasks.summary]\nkind = \"chat\"\n";

#[tokio::test]
async fn a_worker_that_does_not_know_a_task_leaves_its_jobs_to_one_that_does() {
    let mut fleet = Fleet::start(format!("{}{NEW_TASK}", quick())).await;
    fleet.add_worker_with(&quick());
    fleet.wait_for_workers(2).await;
    let job = json!({ "task": "summary", "max_attempts": 1, "input": { "user": "hi" } });
    let jobs = json!({ "jobs": vec![job.clone(); 40] });
    let answer = fleet.client.post("/api/v1/jobs/batch", &jobs).await;
    let mut old_met_some = false;
    for result in answer.json["results"].as_array().unwrap() {
        let done = fleet.client.wait_end(result["job"]["id"].as_str().unwrap()).await;
        assert_eq!((&done["status"], &done["attempts"]), (&json!("completed"), &json!(1)), "{done}");
        let worker = done["worker_id"].as_str().unwrap();
        assert!(fleet.workers[0].has_logged(worker), "the one that knows it: {done}");
        old_met_some |= done["started_at"] != done["created_at"] && done["run_at"] != done["created_at"];
    }
    assert!(old_met_some, "the other worker never had one: nothing was tested");
    // Nobody is left who knows it: once its last beat is old, the job is told so.
    fleet.workers[0].kill();
    let id = fleet.client.submit(&job).await;
    let ended = fleet.client.wait_end(&id).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("unsupported_task")), "{ended}");
}
