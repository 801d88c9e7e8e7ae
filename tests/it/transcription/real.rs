//! A real speech model, real speech, and what is none.

use serde_json::{Value, json};
use support::{Fleet, OpenAiStub, Sounds, SpeechServer};

use super::{fleet, verbose};

const WORDS: &str = "Good morning, this is a call about the order from last week. The parcel arrived on Monday, but one \
    of the two lamps was broken.";

async fn end(fleet: &Fleet, file: Vec<u8>) -> Value {
    let answer = fleet.client.upload(&[("max_attempts", "1")], file).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let patience = std::time::Duration::from_secs(60);
    fleet.client.wait_until(&answer.id(), patience, |job| job["completed_at"].is_string()).await
}

fn text(job: &Value) -> String {
    let segments = job["result"]["segments"].as_array().cloned().unwrap_or_default();
    segments.iter().filter_map(|segment| segment["text"].as_str()).collect::<Vec<_>>().join(" ").to_lowercase()
}

#[tokio::test]
async fn a_real_model_hears_speech_in_every_form_and_nothing_in_silence_noise_and_garbage() {
    let (Some(server), Some(sounds)) = (SpeechServer::start().await, Sounds::new()) else { return };
    let config = format!("{}\n[pools.speech]\nproviders = [\"speech\"]\nconcurrency = 2\n", server.provider());
    let fleet = Fleet::start(config).await;
    let speech = sounds.say(WORDS);
    for file in [
        speech.clone(),
        sounds.convert(&speech, "mp3"),
        sounds.convert(&speech, "flac"),
        sounds.convert(&speech, "ogg"),
    ] {
        let job = end(&fleet, file).await;
        assert_eq!(job["status"], "completed", "{job}");
        let heard = text(&job);
        for word in ["good morning", "order", "parcel", "monday", "broken"] {
            assert!(heard.contains(word), "no `{word}` in `{heard}`");
        }
        let result = &job["result"];
        let last = result["segments"].as_array().unwrap().last().unwrap()["end"].as_f64().unwrap();
        assert!((5.0..12.0).contains(&last) && result["language"] == "en", "{result}");
    }
    for (name, sound) in [
        ("silence", sounds.synthesize(&["trim", "0", "5"])),
        ("noise", sounds.synthesize(&["synth", "5", "whitenoise", "vol", "0.1"])),
        ("a tone", sounds.synthesize(&["synth", "5", "sine", "440", "vol", "0.3"])),
    ] {
        let job = end(&fleet, sound).await;
        let refused = job["error"]["code"] == "transcript_hallucination";
        assert!(refused || (job["status"] == "completed" && text(&job).is_empty()), "{name}: {job}");
    }
    let garbage = end(&fleet, b"this is no audio ".repeat(500)).await;
    assert_eq!((&garbage["status"], &garbage["error"]["code"]), (&json!("failed"), &json!("bad_audio")), "{garbage}");
}

#[tokio::test]
async fn a_transcript_without_most_of_real_speech_is_incomplete() {
    let Some(sounds) = Sounds::new() else { return };
    let speech = sounds.say(&[WORDS; 2].join(" "));
    let stub = OpenAiStub::start().await;
    stub.always(verbose(&[(0.0, 1.0, "Good morning.")]));
    let job = end(&fleet(&stub).await, speech).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("transcript_incomplete")), "{job}");
    assert_eq!(job["result"]["attempts"][0]["text"], "Good morning.", "{job}");
}
