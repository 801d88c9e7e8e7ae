//! The bytes of an event stream, as they come, with a limit on a single event.

use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::{Stream, TryStreamExt, stream};
use reqwest::Response;

use super::broken;
use crate::providers::ProviderFailure;

/// The most that one event may hold.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// How much is kept of the last line, to know the end mark by.
const LINE_BYTES_KEPT: usize = 32;

/// The data of the events of a stream, in order. A failure ends it.
pub(super) fn events(response: Response) -> impl Stream<Item = Result<String, ProviderFailure>> {
    guarded(response).eventsource().map_ok(|event| event.data).map_err(|error| match error {
        EventStreamError::Transport(failure) => failure,
        EventStreamError::Utf8(_) | EventStreamError::Parser(_) => {
            ProviderFailure::bad_response("its event stream is malformed")
        }
    })
}

fn guarded(response: Response) -> impl Stream<Item = Result<Bytes, ProviderFailure>> {
    stream::try_unfold((response, Lines::default()), |(mut response, mut lines)| async move {
        match response.chunk().await.map_err(|error| broken(&error))? {
            Some(bytes) => {
                lines.take(&bytes)?;
                Ok(Some((bytes, (response, lines))))
            }
            // An event counts only with the blank line after it. Servers that leave it out after their end mark have
            // still said that they were done.
            None if lines.end_in_the_mark() => Ok(Some((lines.close(), (response, lines)))),
            None => Ok(None),
        }
    })
}

/// What has to be known of the lines that went by.
#[derive(Debug, Default)]
struct Lines {
    /// Since the last blank line.
    event_bytes: usize,
    /// The beginning of the current line, or of the last one when a line end was the last byte.
    line: Vec<u8>,
    ended: bool,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Result<(), ProviderFailure> {
        for byte in bytes {
            self.event_bytes += 1;
            match byte {
                b'\r' => {}
                b'\n' if self.ended || self.line.is_empty() => {
                    self.event_bytes = 0;
                    self.line.clear();
                }
                b'\n' => self.ended = true,
                _ => {
                    if std::mem::take(&mut self.ended) {
                        self.line.clear();
                    }
                    if self.line.len() < LINE_BYTES_KEPT {
                        self.line.push(*byte);
                    }
                }
            }
            if self.event_bytes > EVENT_BYTES_MAX {
                return Err(ProviderFailure::bad_response("an event of its stream is larger than 1 MiB"));
            }
        }
        Ok(())
    }

    fn end_in_the_mark(&self) -> bool {
        self.line.strip_prefix(b"data:").is_some_and(|data| data.trim_ascii() == b"[DONE]")
    }

    fn close(&mut self) -> Bytes {
        self.line.clear();
        Bytes::from_static(b"\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENT_BYTES_MAX, Lines};

    #[test]
    fn a_single_event_is_bounded_and_a_stream_of_them_is_not() {
        let mut lines = Lines::default();
        let event = [b"data: ".as_slice(), &vec![b'x'; EVENT_BYTES_MAX / 2], b"\n"].concat();
        for end in [b"\n".as_slice(), b"\r\n", b"\n\n"] {
            lines.take(&event).unwrap();
            lines.take(end).unwrap();
        }
        lines.take(&event).unwrap();
        lines.take(&event).unwrap_err();
    }

    #[test]
    fn the_end_mark_is_known_without_its_blank_line() {
        #[track_caller]
        fn check(bytes: &[u8], expected: bool) {
            let mut lines = Lines::default();
            lines.take(bytes).unwrap();
            assert_eq!(lines.end_in_the_mark(), expected, "{bytes:?}");
        }
        check(b"data: {}\n\ndata: [DONE]", true);
        check(b"data:[DONE]\r\n", true);
        check(b"data: [DONE]\n\n", false);
        check(b"data: [DON", false);
        check(b": data: [DONE]", false);
        check(b"", false);
    }
}
