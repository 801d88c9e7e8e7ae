//! The order of a reader's events: each chunk once, in the order of ids, whatever replay and pub/sub bring. Pure.

use std::collections::VecDeque;

use overshot_common::queue::{Chunk, ChunkId, EventKind};
use serde::Deserialize;

/// What a reader is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) event: EventKind,
    pub(super) id: Option<ChunkId>,
    pub(super) data: String,
}

impl Out {
    /// Its id as text; empty where it has none.
    pub(super) fn id_text(&self) -> String {
        self.id.map(|id| id.to_string()).unwrap_or_default()
    }
}

/// What a message of pub/sub is to a reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Live {
    /// The next in order.
    Next,
    /// It has that already.
    Known,
    /// Something lies between: read the kept chunks.
    Gap,
}

/// The place that a reader is at.
#[derive(Debug)]
pub(super) struct Follower {
    last: Option<ChunkId>,
    /// The attempt for which missing chunks were told.
    truncated: Option<u64>,
}

impl Follower {
    /// A reader that has everything up to `last`.
    pub(super) fn new(last: Option<ChunkId>) -> Self {
        Self { last, truncated: None }
    }

    /// The last that it was sent.
    pub(super) fn last(&self) -> Option<ChunkId> {
        self.last
    }

    /// Takes a kept chunk, in the order of the stream.
    pub(super) fn replayed(&mut self, chunk: Chunk, out: &mut VecDeque<Out>) {
        if self.last.is_some_and(|last| chunk.id <= last) {
            return;
        }
        if chunk.starts_attempt {
            out.push_back(Out { event: EventKind::Attempt, id: Some(chunk.id), data: chunk.data });
        } else {
            self.bridge(&chunk, out);
            out.push_back(Out { event: EventKind::Chunk, id: Some(chunk.id), data: chunk.data });
        }
        self.last = Some(chunk.id);
    }

    /// Takes a message of pub/sub, which may be old, next, or too early.
    pub(super) fn live(&mut self, id: Option<ChunkId>) -> Live {
        let Some(id) = id else { return Live::Gap };
        let is_next = match self.last {
            Some(last) if id <= last => return Live::Known,
            Some(last) => id.grant == last.grant && id.seq == last.seq + 1,
            // None was kept when the reader looked, so that an attempt's first is the first of all.
            None => id.seq == 1,
        };
        if !is_next {
            return Live::Gap;
        }
        self.last = Some(id);
        Live::Next
    }

    /// Tells what lies between the last chunk and this one: a new attempt whose mark is gone, or chunks that are.
    fn bridge(&mut self, chunk: &Chunk, out: &mut VecDeque<Out>) {
        let same_attempt = self.last.filter(|last| last.grant == chunk.id.grant);
        if same_attempt.is_none() && self.last.is_some() {
            let id = ChunkId { grant: chunk.id.grant, seq: 0 };
            let data = format!("{{\"attempt\":{}}}", attempt_of(&chunk.data));
            out.push_back(Out { event: EventKind::Attempt, id: Some(id), data });
        }
        let expected = same_attempt.map_or(1, |last| last.seq + 1);
        if chunk.id.seq > expected && self.truncated != Some(chunk.id.grant) {
            self.truncated = Some(chunk.id.grant);
            let data = format!("{{\"attempt\":{}}}", attempt_of(&chunk.data));
            out.push_back(Out { event: EventKind::Truncated, id: None, data });
        }
    }
}

/// The number of the attempt that a chunk belongs to.
fn attempt_of(data: &str) -> u32 {
    #[derive(Deserialize)]
    struct Of {
        attempt: u32,
    }
    serde_json::from_str::<Of>(data).map_or(1, |of| of.attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(grant: u64, seq: u64) -> ChunkId {
        ChunkId { grant, seq }
    }

    fn chunk(grant: u64, seq: u64) -> Chunk {
        let data = format!("{{\"seq\":{seq},\"attempt\":{grant}}}");
        Chunk { id: id(grant, seq), starts_attempt: seq == 0, data }
    }

    /// What a reader at `last` is sent of the kept chunks: `c<id>`, `a<id>` or `t`.
    fn replay(follower: &mut Follower, kept: &[(u64, u64)]) -> Vec<String> {
        let mut out = VecDeque::new();
        kept.iter().for_each(|(grant, seq)| follower.replayed(chunk(*grant, *seq), &mut out));
        let text = |out: Out| match (out.event, out.id) {
            (EventKind::Chunk, Some(id)) => format!("c{id}"),
            (EventKind::Attempt, Some(id)) => format!("a{id}"),
            (EventKind::Truncated, None) => "t".to_owned(),
            other => panic!("{other:?}"),
        };
        out.into_iter().map(text).collect()
    }

    #[test]
    fn a_late_reader_gets_all_kept_chunks_with_the_marks_in_order() {
        let sent = replay(&mut Follower::new(None), &[(1, 1), (1, 2), (2, 0), (2, 1)]);
        assert_eq!(sent, ["c1-1", "c1-2", "a2-0", "c2-1"]);
    }

    #[test]
    fn a_reader_that_comes_again_gets_what_it_missed_once() {
        let sent = replay(&mut Follower::new(Some(id(1, 2))), &[(1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]);
        assert_eq!(sent, ["c1-3", "a2-0", "c2-1"]);
    }

    #[test]
    fn a_new_attempt_is_told_even_when_its_mark_is_gone() {
        assert_eq!(replay(&mut Follower::new(Some(id(1, 2))), &[(2, 1)]), ["a2-0", "c2-1"]);
        assert_eq!(replay(&mut Follower::new(Some(id(1, 2))), &[(2, 5), (2, 6)]), ["a2-0", "t", "c2-5", "c2-6"]);
    }

    #[test]
    fn missing_chunks_are_told_once() {
        assert_eq!(replay(&mut Follower::new(None), &[(1, 4), (1, 5), (1, 9)]), ["t", "c1-4", "c1-5", "c1-9"]);
        assert_eq!(replay(&mut Follower::new(Some(id(1, 1))), &[(1, 3)]), ["t", "c1-3"]);
        assert_eq!(replay(&mut Follower::new(None), &[(1, 1)]), ["c1-1"]);
    }

    #[test]
    fn pub_sub_may_only_bring_the_next_chunk() {
        let mut follower = Follower::new(None);
        assert_eq!(follower.live(Some(id(1, 2))), Live::Gap);
        assert_eq!(follower.live(Some(id(1, 1))), Live::Next);
        assert_eq!(follower.live(Some(id(1, 1))), Live::Known);
        assert_eq!(follower.live(Some(id(1, 2))), Live::Next);
        assert_eq!(follower.live(Some(id(1, 2))), Live::Known);
        assert_eq!(follower.live(Some(id(1, 4))), Live::Gap);
        assert_eq!(follower.live(Some(id(2, 0))), Live::Gap);
        assert_eq!(follower.live(Some(id(2, 1))), Live::Gap);
        assert_eq!(follower.live(None), Live::Gap);
        assert_eq!(replay(&mut follower, &[(1, 3), (1, 4), (2, 0), (2, 1)]), ["c1-3", "c1-4", "a2-0", "c2-1"]);
        assert_eq!(follower.live(Some(id(2, 0))), Live::Known);
    }
}
