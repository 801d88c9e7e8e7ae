//! What an attempt sent last, held for a Redis that forgets it.

use std::collections::VecDeque;

/// Most acknowledged chunks of one attempt that are held, and bytes of them: some seconds' worth, while replicas lag by
/// milliseconds.
const HELD: usize = 256;
const BYTES_HELD: usize = 128 << 10;

/// What was acknowledged last.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The number of the last chunk, 0 none.
    pub(super) last: u64,
    /// Without a gap up to the last.
    chunks: VecDeque<String>,
    bytes: usize,
}

impl Sent {
    /// Holds chunks, and with them those before that they follow.
    pub(super) fn hold(&mut self, first: u64, chunks: Vec<String>) {
        if first != self.last + 1 {
            // Those between were dropped.
            (self.chunks, self.bytes) = (VecDeque::new(), 0);
        }
        self.last = first + chunks.len() as u64 - 1;
        self.bytes += chunks.iter().map(String::len).sum::<usize>();
        self.chunks.extend(chunks);
        while self.chunks.len() > HELD || self.bytes > BYTES_HELD {
            self.bytes -= self.chunks.pop_front().map_or(0, |chunk| chunk.len());
        }
    }

    /// Takes back what comes after `last`, as far as it is held: the number of the first, and the chunks.
    pub(super) fn take_back(&mut self, last: u64) -> (u64, Vec<String>) {
        let forgotten = usize::try_from(self.last.saturating_sub(last)).unwrap_or(usize::MAX);
        let back = self.chunks.split_off(self.chunks.len().saturating_sub(forgotten));
        let first = self.last + 1 - back.len() as u64;
        self.last = last;
        self.bytes -= back.iter().map(String::len).sum::<usize>();
        (first, back.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(numbers: std::ops::RangeInclusive<u64>) -> Vec<String> {
        numbers.map(|number| format!("chunk {number}")).collect()
    }

    #[test]
    fn of_what_was_acknowledged_the_last_is_held_without_a_gap_and_within_limits() {
        let mut sent = Sent::default();
        sent.hold(1, texts(1..=300));
        assert_eq!((sent.last, sent.chunks.len(), sent.chunks[0].as_str()), (300, HELD, "chunk 45"));
        // Chunks 301 to 305 were dropped: what is held must follow on what is asked for.
        sent.hold(306, texts(306..=308));
        assert_eq!(sent.take_back(306), (307, texts(307..=308)));
        assert_eq!((sent.last, sent.bytes), (306, "chunk 306".len()));
        sent.hold(307, vec!["x".repeat(BYTES_HELD + 1)]);
        assert_eq!((sent.last, sent.chunks.len(), sent.bytes), (307, 0, 0));
        assert_eq!(sent.take_back(300), (308, Vec::new()), "nothing of it is held any more");
    }
}
