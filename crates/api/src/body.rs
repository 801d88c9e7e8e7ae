//! Reading a request's body: its limit is checked before anything is read, and JSON is judged whole before it is used.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use bytes::BytesMut;
use futures_util::{Stream, StreamExt as _};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::ApiError;

/// How long a caller may be silent within a body.
const SILENCE: Duration = Duration::from_secs(30);
/// How long, and up to how many times the limit, a refused body is still taken off the wire: a connection closed
/// in the middle of it would lose the answer.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_TIMES: u64 = 2;

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: u64) -> Result<Bytes, ApiError> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > limit) {
        if !headers.contains_key(EXPECT) {
            linger(body, limit);
        }
        return Err(ApiError::too_large(limit));
    }
    let limit_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut frames = body.into_data_stream();
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    loop {
        let frame = tokio::time::timeout(SILENCE, frames.next()).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::malformed("the body broke off"))?;
        if first.len() + whole.len() + frame.len() > limit_bytes {
            linger(Body::from_stream(frames), limit);
            return Err(ApiError::too_large(limit));
        }
        if first.is_empty() && whole.is_empty() {
            first = frame;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&frame);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Why the frames of a body end early.
#[derive(Debug, thiserror::Error)]
#[error("the body was refused")]
pub(crate) struct Refused(pub(crate) ApiError);

/// The frames of a body of at most `limit` bytes, for a reader that keeps only what it needs. What such a reader leaves
/// is taken off the wire.
pub(crate) fn limited(headers: &HeaderMap, body: Body, limit: u64) -> Result<Limited, ApiError> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > limit) {
        if !headers.contains_key(EXPECT) {
            linger(body, limit);
        }
        return Err(ApiError::too_large(limit));
    }
    let silence = Box::pin(tokio::time::sleep(SILENCE));
    Ok(Limited { frames: Some(body.into_data_stream()), left: limit, limit, silence })
}

/// See [`limited`].
pub(crate) struct Limited {
    /// None once they ended.
    frames: Option<BodyDataStream>,
    left: u64,
    limit: u64,
    silence: Pin<Box<tokio::time::Sleep>>,
}

impl Stream for Limited {
    type Item = Result<Bytes, Refused>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(frames) = &mut self.frames else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(frames).poll_next(context) else {
            ready!(self.silence.as_mut().poll(context));
            return Poll::Ready(Some(Err(Refused(too_slow()))));
        };
        let Some(frame) = frame else {
            self.frames = None;
            return Poll::Ready(None);
        };
        let Ok(frame) = frame else {
            self.frames = None;
            return Poll::Ready(Some(Err(Refused(ApiError::malformed("the body broke off")))));
        };
        let Some(left) = self.left.checked_sub(frame.len() as u64) else {
            return Poll::Ready(Some(Err(Refused(ApiError::too_large(self.limit)))));
        };
        self.left = left;
        self.silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        if let Some(frames) = self.frames.take() {
            linger(Body::from_stream(frames), self.limit);
        }
    }
}

fn too_slow() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not arrive in time")
}

/// Takes the rest of a refused body off the wire, without keeping it.
fn linger(body: Body, limit: u64) {
    let drain = async move {
        let (mut frames, mut left) = (body.into_data_stream(), limit.saturating_mul(LINGER_TIMES));
        while let Some(Ok(frame)) = frames.next().await {
            left = left.saturating_sub(frame.len() as u64);
            if left == 0 {
                break;
            }
        }
    };
    tokio::spawn(async { tokio::time::timeout(LINGER, drain).await.ok() });
}

/// Judges that bytes are one JSON document: whole, of numbers that are numbers and texts that are texts, not too
/// deep. What comes after it may look at parts without judging them again.
pub(crate) fn document(bytes: &[u8]) -> Result<&str, ApiError> {
    let malformed = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        ApiError::malformed(format!("the body is not valid JSON: line {line}, column {column}"))
    };
    serde_json::from_slice::<Judged>(bytes).map_err(malformed)?;
    std::str::from_utf8(bytes).map_err(|_| ApiError::malformed("the body is not valid UTF-8"))
}

/// A value that was looked at in full and not kept.
struct Judged;

impl<'de> Deserialize<'de> for Judged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Judge)
    }
}

struct Judge;

impl<'de> Visitor<'de> for Judge {
    type Value = Judged;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Judged, E> {
        Ok(Judged)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Judged, E> {
        Ok(Judged)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Judged, E> {
        Ok(Judged)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Judged, E> {
        Ok(Judged)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Judged, E> {
        Ok(Judged)
    }

    fn visit_str<E>(self, _: &str) -> Result<Judged, E> {
        Ok(Judged)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Judged, A::Error> {
        while items.next_element::<Judged>()?.is_some() {}
        Ok(Judged)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Judged, A::Error> {
        while members.next_entry::<Judged, Judged>()?.is_some() {}
        Ok(Judged)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Judged, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Judged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_malformed() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let bad = ["", "{", "nul", "{\"a\":NaN}", "{\"a\":1e999}", "{} {}", "\"\\ud800\"", "{'a':1}", "[1,]", &deep];
        for text in bad {
            assert_eq!(document(text.as_bytes()).unwrap_err().status(), 400, "{text:.20}");
        }
        assert_eq!(document(b"\"\xff\"").unwrap_err().status(), 400);
    }

    #[test]
    fn json_is_taken_as_it_came() {
        let text = r#"{"b":[1.50,null,true,"x\u00e9"],"a":{}}"#;
        assert_eq!(document(text.as_bytes()).unwrap(), text);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_with_and_without_a_declared_length() {
        let body = || Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("abc"), Ok("def")]));
        assert_eq!(read(&HeaderMap::new(), body(), 6).await.unwrap(), "abcdef");
        assert_eq!(read(&HeaderMap::new(), body(), 5).await.unwrap_err().status(), 413);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, 6.into());
        assert_eq!(read(&headers, body(), 5).await.unwrap_err().status(), 413);
    }
}
