//! Readers of `/events`: they come back with the last id after every break, as a browser does.

use std::time::Duration;

use eventsource_stream::{Event, Eventsource as _};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::Workload;
use crate::log::{Item, Name, What};

/// Longer than a comment may take that keeps the line open is too long here: the API may stand still.
const SILENCE: Duration = Duration::from_secs(5);
/// How long one reader stays at most.
const STAYS: Duration = Duration::from_secs(90);

impl Workload {
    /// Reads the job's events to their end.
    pub(super) async fn read(&self, job: &Name, id: &str, luck: u64) {
        let reader = self.log.number("reader");
        let (mut last, mut connection, begun) = (String::new(), 0, Instant::now());
        while begun.elapsed() < STAYS {
            connection += 1;
            let client = self.endpoints.one(luck.wrapping_add(connection));
            let mut request = client.request(Method::GET, &format!("/api/v1/jobs/{id}/events"));
            if !last.is_empty() {
                request = request.header("last-event-id", &last);
            }
            if let Ok(Ok(response)) = timeout(SILENCE, request.send()).await
                && response.status() == 200
            {
                let mut events = response.bytes_stream().eventsource();
                while let Ok(Some(Ok(event))) = timeout(SILENCE, events.next()).await {
                    let is_done = event.event == "done";
                    if let Some(item) = item(&event) {
                        self.log.record(What::Read { reader, job: job.clone(), item });
                    }
                    if is_done {
                        return;
                    }
                    if !event.id.is_empty() {
                        last = event.id;
                    }
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn item(event: &Event) -> Option<Item> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let attempt = data["attempt"].as_u64().unwrap_or_default();
    match event.event.as_str() {
        "attempt" => Some(Item::Attempt(attempt)),
        "chunk" => Some(Item::Chunk {
            attempt,
            seq: data["seq"].as_u64().unwrap_or_default(),
            text: data["text"].as_str().unwrap_or_default().to_owned(),
        }),
        "truncated" => Some(Item::Truncated),
        "done" => Some(Item::Done(data["status"].as_str().unwrap_or_default().to_owned())),
        _ => None,
    }
}
