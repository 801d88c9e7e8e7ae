//! Segments that people can read: in order, within the audio, none too long.

use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation as _;

use crate::providers::Transcript;

/// A longer segment is split.
pub(super) const SECONDS_MAX: f64 = 15.0;
/// So is one with more characters.
pub(super) const CHARS_MAX: usize = 300;
/// How long the parts may be.
const SECONDS_WANTED: f64 = 10.0;
const CHARS_WANTED: usize = 160;

/// A part of a transcript; times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Segment {
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) speaker: Option<String>,
}

/// The segments of a transcript, or one over all of it where the provider told none. Times grow and stay within the
/// audio, whatever the provider wrote.
pub(super) fn tidy(transcript: &Transcript, heard: Option<f64>) -> Vec<Segment> {
    let length = heard.or(transcript.seconds).filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let latest = length.unwrap_or(f64::MAX);
    let mut time = 0.0;
    let mut segments = Vec::new();
    for part in &transcript.segments {
        let text = part.text.trim();
        if !says_something(text) {
            continue;
        }
        let bounded =
            |at: f64, earliest: f64| if at.is_finite() { at.clamp(earliest, latest.max(earliest)) } else { earliest };
        // Speakers may overlap: only the beginnings grow.
        let start = bounded(part.start, time);
        let end = bounded(part.end, start);
        time = start;
        segments.push(Segment { start, end, text: text.to_owned(), speaker: part.speaker.clone() });
    }
    let text = transcript.text.trim();
    if segments.is_empty() && says_something(text) {
        segments.push(Segment { start: 0.0, end: length.unwrap_or(0.0), text: text.to_owned(), speaker: None });
    }
    segments
}

/// Whether there is a word in it. Models write dots and notes where they hear nothing.
fn says_something(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// Splits what is too long at the ends of sentences, else of clauses, else of words. The times of the parts follow from
/// their share of the characters; who speaks stays.
pub(super) fn readable(segments: Vec<Segment>) -> Vec<Segment> {
    let mut parts = Vec::with_capacity(segments.len());
    for segment in segments {
        let (seconds, chars) = (segment.end - segment.start, chars(&segment.text));
        if seconds <= SECONDS_MAX && chars <= CHARS_MAX {
            parts.push(segment);
        } else {
            split(&segment, seconds, chars, &mut parts);
        }
    }
    for part in &mut parts {
        // Milliseconds are as exact as any of this is.
        part.start = (part.start * 1000.0).round() / 1000.0;
        part.end = (part.end * 1000.0).round() / 1000.0;
    }
    parts
}

fn split(segment: &Segment, seconds: f64, all: usize, parts: &mut Vec<Segment>) {
    let fits = if seconds > 0.0 { (all as f64 * SECONDS_WANTED / seconds) as usize } else { CHARS_WANTED };
    let most = fits.clamp(1, CHARS_WANTED);
    let mut before = 0;
    for piece in pack(&segment.text, most) {
        let at = |count: usize| segment.start + seconds * count as f64 / all.max(1) as f64;
        let count = chars(piece);
        let text = piece.trim();
        if !text.is_empty() {
            let (start, end) = (at(before), at(before + count));
            parts.push(Segment { start, end, text: text.to_owned(), speaker: segment.speaker.clone() });
        }
        before += count;
    }
}

/// Cuts a text into pieces of at most `most` characters, each as long as it can be.
fn pack(text: &str, most: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut begin, mut end, mut count) = (0, 0, 0);
    for atom in atoms(text, most) {
        let more = chars(atom);
        if count > 0 && count + more > most {
            pieces.push(&text[begin..end]);
            (begin, count) = (end, 0);
        }
        end += atom.len();
        count += more;
    }
    if begin < end {
        pieces.push(&text[begin..end]);
    }
    pieces
}

/// The parts at whose ends a text may be cut: the largest that are not too long.
fn atoms(text: &str, most: usize) -> Vec<&str> {
    let fits = |part: &&str| chars(part) <= most;
    let mut atoms = Vec::new();
    for sentence in text.split_sentence_bounds() {
        if fits(&sentence) {
            atoms.push(sentence);
            continue;
        }
        for clause in sentence.split_inclusive([',', ';', ':', '，', '、', '；', '：', '،', '؛']) {
            if fits(&clause) {
                atoms.push(clause);
                continue;
            }
            for word in clause.split_word_bounds() {
                // Some scripts have no spaces: then it may be any length.
                if fits(&word) { atoms.push(word) } else { atoms.extend(word.graphemes(true)) }
            }
        }
    }
    atoms
}

/// Characters that take time to say: all but spaces.
fn chars(text: &str) -> usize {
    text.chars().filter(|letter| !letter.is_whitespace()).count()
}
