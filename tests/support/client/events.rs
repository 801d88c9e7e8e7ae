//! A reader of a job's events.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::Value;

/// How long the next event may take.
const NEXT_EVENT_WITHIN: Duration = Duration::from_secs(10);

/// One event of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub event: String,
    /// Its data.
    pub data: Value,
}

impl Event {
    /// The text of a chunk.
    pub fn text(&self) -> &str {
        self.data["text"].as_str().unwrap_or_default()
    }
}

/// An open event stream. Dropped, the connection is closed.
pub struct Events {
    stream: BoxStream<'static, Event>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn new(bytes: BoxStream<'static, reqwest::Result<Bytes>>) -> Self {
        let stream = bytes.eventsource().map(|event| {
            let event = event.expect("the API does not break its event stream");
            let data = serde_json::from_str(&event.data)
                .unwrap_or_else(|error| panic!("{error}: the data of {} is {}", event.event, event.data));
            Event { id: event.id, event: event.event, data }
        });
        Self { stream: stream.boxed() }
    }

    /// The next event; `None` when the stream has ended. Panics after ten seconds.
    pub async fn next_event(&mut self) -> Option<Event> {
        let next = tokio::time::timeout(NEXT_EVENT_WITHIN, self.stream.next()).await;
        next.expect("no event for ten seconds")
    }

    /// The next chunk; other events before it are passed over, the end is not.
    pub async fn next_chunk(&mut self) -> Event {
        loop {
            let event = self.next_event().await.expect("the stream ended before the next chunk");
            assert_ne!(event.event, "done", "the job ended before the next chunk: {}", event.data);
            if event.event == "chunk" {
                return event;
            }
        }
    }

    /// All events up to the end of the stream.
    pub async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next_event().await {
            events.push(event);
        }
        events
    }
}
