//! Splitting and judging transcripts, and the task on a simulated provider.

use overshot_common::config::{ProviderConfig, SimulatedProvider};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::audio::{Audio, Sound};
use crate::providers::{Spoken, Transcript, Unmetered};
use crate::tasks::recorder::Recorder;
use crate::tasks::{Kind, run};

fn segment(start: f64, end: f64, text: &str) -> Segment {
    Segment { start, end, text: text.into(), speaker: None }
}

fn transcript(text: &str) -> Transcript {
    Transcript { text: text.into(), ..Transcript::default() }
}

/// A sound of that many seconds, spoken in for so many from its begin.
fn sound(seconds: usize, spoken: usize) -> Sound {
    let speech_ms = (0..seconds).map(|second| if second < spoken { 900 } else { 0 }).collect();
    Sound { seconds: seconds as f64, speech_ms }
}

fn verdict(text: &str, sound: Option<&Sound>) -> Option<ErrorCode> {
    let transcript = transcript(text);
    let segments = split::tidy(&transcript, sound.map(|sound| sound.seconds));
    judge::judge(&transcript, &segments, sound).err().map(|fault| fault.code)
}

const HALLUCINATION: Option<ErrorCode> = Some(ErrorCode::TranscriptHallucination);
const INCOMPLETE: Option<ErrorCode> = Some(ErrorCode::TranscriptIncomplete);

const TALK: &str = "Good morning, you are speaking to the service desk. I would like to know when my order leaves the \
    warehouse, because it was promised for last Tuesday. Of course, let me look. It left this morning and should reach \
    you by noon tomorrow. Thank you very much, that helps me a lot. You are welcome, goodbye.";

#[test]
fn what_people_say_passes() {
    assert_eq!(verdict(TALK, Some(&sound(25, 22))), None);
    assert_eq!(verdict("", Some(&sound(10, 0))), None, "silence");
    assert_eq!(verdict("Thank you.", Some(&sound(4, 2))), None, "said");
    assert_eq!(verdict("No no no no no no no, that is not what I meant.", Some(&sound(5, 4))), None);
    assert_eq!(verdict("five five five oh one five five five", Some(&sound(6, 5))), None);
    assert_eq!(verdict("ご注文の商品は明日の午前中にお届けする予定です。", Some(&sound(6, 5))), None);
    assert_eq!(verdict(&TALK.repeat(2), Some(&sound(50, 45))), None, "said twice");
}

#[test]
fn loops_are_hallucinations_in_any_language() {
    let sound = sound(600, 500);
    for phrase in [
        "And then we go to the next one. ",
        "I'm sorry. ",
        "그리고 그것은 매우 중요합니다. ",
        "それはとても大切です。",
        "и так далее, ",
        "la ",
    ] {
        let looped = format!("{TALK} {}", phrase.repeat(40));
        assert_eq!(verdict(&looped, Some(&sound)), HALLUCINATION, "{phrase}");
    }
    let shuffled: String = (0..60).map(|turn| format!("that is what I said to him {} ", turn % 7)).collect();
    assert_eq!(verdict(&shuffled, Some(&sound)), HALLUCINATION, "with changes in between");
}

#[test]
fn a_text_that_nobody_could_say_in_that_time_is_a_hallucination() {
    assert_eq!(verdict(TALK, Some(&sound(4, 4))), HALLUCINATION);
    assert_eq!(verdict(TALK, None), None, "without the length nothing is known");
    let told = Transcript { seconds: Some(4.0), ..transcript(TALK) };
    let segments = split::tidy(&told, None);
    assert!(judge::judge(&told, &segments, None).is_err(), "the provider tells the length");
}

#[test]
fn what_models_write_in_silence_is_a_hallucination_only_there() {
    let silent = sound(10, 0);
    for text in [
        "Thank you.",
        " Thanks for watching!",
        "you",
        "Vielen Dank. Vielen Dank.",
        "ご視聴ありがとうございました",
        "Спасибо за просмотр!",
        "시청해주셔서 감사합니다.",
        "字幕由Amara.org社区提供",
        "شكرا للمشاهدة",
    ] {
        assert_eq!(verdict(text, Some(&silent)), HALLUCINATION, "{text}");
    }
    assert_eq!(verdict("Untertitel der Amara.org-Community", Some(&sound(10, 8))), HALLUCINATION, "nobody says that");
    assert_eq!(verdict("Thank you. Where is my order?", Some(&silent)), None, "quiet, but something was said");
    let sure = Spoken { end: 3.0, text: "Thank you.".into(), no_speech: Some(0.9), ..Spoken::default() };
    let told = Transcript { segments: vec![sure], ..transcript("Thank you.") };
    let segments = split::tidy(&told, None);
    assert!(judge::judge(&told, &segments, None).is_err(), "the provider itself heard nobody");
}

#[test]
fn dots_and_notes_are_nothing_said() {
    let part = |start, text: &str| Spoken { start, end: start + 1.0, text: text.into(), ..Spoken::default() };
    let segments =
        vec![part(0.0, "."), part(1.0, " ♪♪ "), part(2.0, "Da."), part(3.0, "…"), part(4.0, "네"), part(5.0, "7")];
    let heard = Transcript { segments, text: ". ♪♪ Da. … 네 7".into(), ..Transcript::default() };
    let texts: Vec<String> = split::tidy(&heard, Some(9.0)).into_iter().map(|segment| segment.text).collect();
    assert_eq!(texts, ["Da.", "네", "7"]);
    assert!(split::tidy(&transcript(". . . ."), Some(9.0)).is_empty());
}

#[test]
fn far_too_little_text_for_the_speech_is_incomplete() {
    assert_eq!(verdict("Hello.", Some(&sound(60, 50))), INCOMPLETE);
    assert_eq!(verdict("", Some(&sound(60, 50))), INCOMPLETE);
    assert_eq!(verdict("Hello.", Some(&sound(60, 5))), None, "the rest is music");
    let broken_off =
        Transcript { segments: vec![Spoken { end: 40.0, text: TALK.into(), ..Spoken::default() }], ..transcript(TALK) };
    let sound = sound(150, 140);
    let segments = split::tidy(&broken_off, Some(150.0));
    assert_eq!(judge::judge(&broken_off, &segments, Some(&sound)).unwrap_err().code, ErrorCode::TranscriptIncomplete);
}

#[test]
fn a_long_segment_is_split_at_its_sentences_and_keeps_its_speaker() {
    let long = Segment { speaker: Some("A".into()), ..segment(10.0, 40.0, TALK) };
    let parts = split::readable(vec![long, segment(40.0, 45.0, "Short.")]);
    assert!(parts.len() >= 4, "{parts:?}");
    assert_eq!((parts[0].start, parts[parts.len() - 2].end), (10.0, 40.0));
    assert!(parts.iter().all(|part| part.end - part.start <= split::SECONDS_MAX), "{parts:?}");
    assert!(
        parts[..parts.len() - 1].iter().all(|part| part.text.ends_with('.') && part.speaker.as_deref() == Some("A"))
    );
    assert_eq!(parts.last().unwrap().speaker, None);
}

#[test]
fn scripts_without_spaces_are_split_too() {
    let sentence = "ご注文の商品は明日の午前中にお届けする予定です。";
    let parts = split::readable(vec![segment(0.0, 60.0, &sentence.repeat(8))]);
    assert!(parts.len() >= 4 && parts.iter().all(|part| part.text.ends_with('。')), "{parts:?}");
    let endless = split::readable(vec![segment(0.0, 60.0, &"สวัสดีครับ".repeat(60))]);
    assert!(endless.len() >= 4, "{endless:?}");
}

proptest! {
    #[test]
    fn a_split_loses_no_letter_and_no_time(text in r"[ a-z.!?,。、字ส้é😀\n]{0,800}", start in 0.0..100.0, length in 0.0..600.0) {
        let whole = segment(start, start + length, &text);
        let parts = split::readable(vec![whole]);
        let letters = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).collect::<String>();
        let joined: String = parts.iter().map(|part| letters(&part.text)).collect();
        prop_assert_eq!(joined, letters(&text));
        for pair in parts.windows(2) {
            prop_assert!(pair[0].start <= pair[0].end && pair[0].end <= pair[1].start + 0.0011);
        }
        for part in &parts {
            prop_assert!(part.start >= start - 0.001 && part.end <= start + length + 0.001);
        }
    }

    #[test]
    fn times_grow_and_stay_within_the_audio(times in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20), length in 0.0..100.0) {
        let parts = times.iter().map(|(start, end)| Spoken { start: *start, end: *end, text: "x".into(), ..Spoken::default() });
        let transcript = Transcript { segments: parts.collect(), ..Transcript::default() };
        let mut last = 0.0;
        for segment in split::tidy(&transcript, Some(length)) {
            prop_assert!(last <= segment.start && segment.start <= segment.end && segment.end <= length);
            last = segment.start;
        }
    }
}

async fn outcome(error_rate: f64, stream: bool) -> (Outcome, Recorder) {
    let settings = SimulatedProvider { tokens: 25, pace: Duration::ZERO, jitter: 0.0, error_rate };
    let provider = Provider::new("sim", &ProviderConfig::simulated(settings), |_| None).unwrap();
    let input = to_raw_value(&json!({"audio_url": "http://a/"})).unwrap();
    let audio = Audio::new(crate::audio::tests::silence(5), None);
    let earlier = to_raw_value(&json!({"attempts": [{"provider": "other", "error": {"code": "timeout"}}]})).unwrap();
    let attempt = Attempt {
        task: "transcription",
        model: Some("m"),
        input: &input,
        audio: Some(&audio),
        earlier: Some(&earlier),
        stream,
        seed: 1,
        meter: &Unmetered,
    };
    let mut recorder = Recorder::default();
    (run(Kind::Transcription, &attempt, &provider, &mut recorder).await, recorder)
}

#[tokio::test]
async fn a_transcript_becomes_a_result_with_every_attempt() {
    let (outcome, recorder) = outcome(0.0, true).await;
    let Outcome::Done(result) = outcome else { panic!("{outcome:?}") };
    let result: Value = serde_json::from_str(result.get()).unwrap();
    assert_eq!(result["schema_version"], "ai.transcription_result.v1");
    assert_eq!(
        (&result["provider"], &result["model"], &result["language"]),
        (&json!("sim"), &json!("m"), &json!("en"))
    );
    let segments = result["segments"].as_array().unwrap();
    assert_eq!((segments.len(), &segments[2]["end"]), (3, &json!(5.0)), "{result}");
    assert_eq!(recorder.texts.len(), 3);
    let attempts = result["attempts"].as_array().unwrap();
    assert_eq!(
        (&attempts[0]["error"]["code"], &attempts[1]["provider"]),
        (&json!("timeout"), &json!("sim")),
        "{result}"
    );
    assert!(
        result.get("partial").is_none() && attempts[1].get("error").is_none() && attempts[1]["duration_ms"].is_u64()
    );
}

#[tokio::test]
async fn a_failed_attempt_is_kept_for_the_next_one_to_tell_of() {
    let (outcome, recorder) = outcome(1.0, false).await;
    assert_eq!(outcome.error().unwrap().code, ErrorCode::ProviderError);
    let kept = recorder.kept.unwrap();
    assert_eq!((&kept["partial"], &kept["language"], &kept["segments"]), (&json!(true), &json!("unknown"), &json!([])));
    assert_eq!(kept["attempts"][1]["error"]["code"], "provider_error", "{kept}");
}
