//! Whether a transcript can be true: models loop, write their training data where nobody speaks, and stop too early.
//!
//! Every limit is far beyond what people do: a transcript that is only odd passes. `docs/TRANSCRIPTION.md` tells them.

use overshot_common::code::ErrorCode;
use overshot_common::job::JobError;
use unicode_segmentation::UnicodeSegmentation as _;

use super::phrases;
use super::split::Segment;
use crate::audio::Sound;
use crate::providers::Transcript;

/// Nobody says more letters a second. Fast speech has about 20.
const LETTERS_PER_SECOND_MAX: f64 = 35.0;
/// What may be said beyond that, however short the audio is.
const LETTERS_FREE: f64 = 60.0;
/// Speech has more letters a second; slow speech about 8.
const LETTERS_PER_SPEECH_SECOND_MIN: f64 = 1.5;
/// Less speech than this is not held against a short text.
const SPEECH_SECONDS_MIN: f64 = 8.0;
/// Speech behind the last segment, in seconds and as a share of all: more of it means that the transcript broke off.
const UNHEARD_SECONDS_MAX: f64 = 30.0;
const UNHEARD_SHARE_MAX: f64 = 0.3;
/// Audio with less speech than this, and than this share of it, has none.
const SILENCE_SPEECH_SECONDS_MAX: f64 = 0.5;
const SILENCE_SPEECH_SHARE_MAX: f64 = 0.05;
/// From here on the provider itself is sure that nobody spoke.
const NO_SPEECH_MIN: f64 = 0.6;
/// A phrase of up to this many words is looked for in a loop.
const LOOP_WORDS_MAX: usize = 24;
/// A loop has at least so many words, and goes round at least so often.
const LOOP_LENGTH_MIN: usize = 24;
const LOOP_ROUNDS_MIN: usize = 4;
/// In a text of at least so many words, at least this share of its groups of four words occurs once.
const VARIETY_WORDS_MIN: usize = 100;
const VARIETY_SHARE_MIN: f64 = 0.3;

/// Judges a transcript; without the sound, only what the text alone tells.
pub(super) fn judge(transcript: &Transcript, segments: &[Segment], sound: Option<&Sound>) -> Result<(), JobError> {
    let text: Vec<&str> = segments.iter().map(|segment| segment.text.as_str()).collect();
    let words = words(&text);
    let fault = |code, message: &str| Err(JobError { code, message: message.to_owned() });
    let hallucinated = |message| fault(ErrorCode::TranscriptHallucination, message);
    if is_looped(&words) {
        return hallucinated("the transcript repeats itself");
    }
    let letters: f64 = text.iter().copied().map(effort).sum();
    let seconds = sound.map(|sound| sound.seconds).or(transcript.seconds);
    if seconds.is_some_and(|seconds| letters > LETTERS_FREE + LETTERS_PER_SECOND_MAX * seconds) {
        return hallucinated("the transcript is far too long for the audio");
    }
    if !words.is_empty() && phrases::are_all_known(&words, is_silent(transcript, sound)) {
        return hallucinated("the transcript is what models write where nobody speaks");
    }
    if sound.is_some_and(|sound| is_incomplete(letters, segments, sound)) {
        return fault(ErrorCode::TranscriptIncomplete, "the transcript is far too short for the speech in the audio");
    }
    Ok(())
}

/// The words of a transcript, without case and punctuation. Of a script without spaces, each sign is one.
fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().flat_map(|text| text.unicode_words()).map(str::to_lowercase).collect()
}

/// How long a text takes to say, in letters of an alphabet: a sign that stands for a syllable counts as two.
fn effort(text: &str) -> f64 {
    let weight = |letter: char| match u32::from(letter) {
        0x1100..=0x11ff | 0x2e80..=0x9fff | 0xac00..=0xd7af | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff => 2.0,
        _ => 1.0,
    };
    text.chars().filter(|letter| letter.is_alphanumeric()).map(weight).sum()
}

fn is_silent(transcript: &Transcript, sound: Option<&Sound>) -> bool {
    if let Some(sound) = sound {
        let speech = sound.speech_after(0.0);
        return speech <= SILENCE_SPEECH_SECONDS_MAX.max(SILENCE_SPEECH_SHARE_MAX * sound.seconds);
    }
    let sure = |no_speech: Option<f64>| no_speech.is_some_and(|share| share >= NO_SPEECH_MIN);
    !transcript.segments.is_empty() && transcript.segments.iter().all(|part| sure(part.no_speech))
}

fn is_incomplete(letters: f64, segments: &[Segment], sound: &Sound) -> bool {
    let speech = sound.speech_after(0.0);
    if speech < SPEECH_SECONDS_MIN {
        return false;
    }
    // Where the provider told no times, the only segment ends with the audio.
    let end = segments.iter().map(|segment| segment.end).fold(0.0, f64::max);
    let unheard = sound.speech_after(end + 1.0);
    letters < LETTERS_PER_SPEECH_SECOND_MIN * speech
        || (unheard > UNHEARD_SECONDS_MAX && unheard > UNHEARD_SHARE_MAX * speech)
}

fn is_looped(words: &[String]) -> bool {
    (1..=LOOP_WORDS_MAX).any(|period| has_loop(words, period)) || lacks_variety(words)
}

/// Whether a phrase of `period` words goes round and round somewhere.
fn has_loop(words: &[String], period: usize) -> bool {
    let mut same = 0;
    for index in period..words.len() {
        same = if words[index] == words[index - period] { same + 1 } else { 0 };
        let length = same + period;
        if same > 0 && length >= LOOP_LENGTH_MIN.max(LOOP_ROUNDS_MIN * period) {
            return true;
        }
    }
    false
}

/// Whether a text says the same again and again, with other words in between.
fn lacks_variety(words: &[String]) -> bool {
    if words.len() < VARIETY_WORDS_MIN {
        return false;
    }
    let groups: std::collections::HashSet<&[String]> = words.windows(4).collect();
    (groups.len() as f64) < VARIETY_SHARE_MIN * (words.len() - 3) as f64
}
