//! Jobs in flight while something breaks.

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Answer, Client};

use crate::settings::chat_with;

/// Long enough for a busy machine to work off what a fault has held up.
pub(crate) const RECOVERY: Duration = Duration::from_secs(60);

/// Submits with a key until it is accepted: by a 202, or by a 200 when the answer to an earlier one was lost.
///
/// The only refusal allowed is a 503.
pub(crate) async fn submit_surely(client: &Client, key: &str) -> String {
    let job = chat_with(key, &json!({ "idempotency_key": key }));
    let start = Instant::now();
    loop {
        let request = client.request(reqwest::Method::POST, "/api/v1/jobs").json(&job);
        match client.try_send(request).await {
            Ok(answer @ Answer { status: 200 | 202, .. }) => return answer.id(),
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text),
            Err(_) => {}
        }
        assert!(start.elapsed() < RECOVERY, "{key} is not accepted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every job completes, with its own answer, which the stub or any echo makes of its key.
pub(crate) async fn all_complete(client: &Client, jobs: &[(String, String)]) {
    for (key, id) in jobs {
        let job = client.wait_until(id, RECOVERY, |job| job["completed_at"].is_string()).await;
        assert_eq!(job["status"], "completed", "{job}");
        assert_eq!(job["result"]["content"], key.as_str(), "{job}");
    }
}

/// The pool holds these jobs and no other, all of them completed.
pub(crate) async fn nothing_is_left_over(client: &Client, jobs: &[(String, String)]) {
    let pool = client.get("/api/v1/pools/chat").await;
    let counts = pool.json["by_status"].as_object().unwrap_or_else(|| panic!("{}", pool.text));
    for (status, count) in counts {
        let expected = if status == "completed" { jobs.len() as u64 } else { 0 };
        assert_eq!(count.as_u64(), Some(expected), "{status} in {}", pool.text);
    }
    assert_eq!(client.get("/api/v1/pools/chat/demand").await.json["demand"], 0);
}
