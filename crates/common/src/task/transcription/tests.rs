//! Which inputs are taken, and which place a mistake names.

use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::*;

fn parse(input: &Value) -> Result<Transcription, String> {
    Transcription::parse(&to_raw_value(input).unwrap()).map_err(|mistake| mistake.param)
}

fn raw(input: &Value) -> Box<RawValue> {
    to_raw_value(input).unwrap()
}

#[test]
fn an_audio_url_is_http_or_https_with_a_host_and_without_credentials() {
    for good in ["http://a.example/x.mp3", "https://[2001:db8::1]:8443/x?sig=1&y=%20", "HTTPS://A/x"] {
        assert!(parse(&json!({"audio_url": good})).is_ok(), "{good}");
    }
    let long = format!("https://a/{}", "x".repeat(8192));
    for bad in ["", "a.mp3", "/a", "file:///etc/passwd", "ftp://a/b", "https://", "http://u@a/", "http://u:p@a/", &long]
    {
        assert_eq!(parse(&json!({"audio_url": bad})).unwrap_err(), "input.audio_url", "{bad}");
    }
    for input in [json!({}), json!({"audio_url": null}), json!({"audio_url": 7})] {
        assert_eq!(parse(&input).unwrap_err(), "input.audio_url");
    }
}

#[test]
fn each_mistake_names_its_place() {
    for (name, bad) in [
        ("language", json!("e")),
        ("language", json!("english please")),
        ("language", json!(["en"])),
        ("prompt", json!(1)),
        ("prompt", json!("x".repeat(16_385))),
        ("temperature", json!("0.1")),
        ("temperature", json!(1.1)),
        ("extra_body", json!([])),
    ] {
        let place = parse(&json!({"audio_url": "http://a/", name: bad})).unwrap_err();
        assert_eq!(place, format!("input.{name}"));
    }
    let place = parse(&json!({"audio_url": "http://a/", "extra_body": {"response_format": "srt"}})).unwrap_err();
    assert_eq!(place, "input.extra_body.response_format");
}

#[test]
fn what_a_provider_is_told_is_taken_over_and_the_rest_is_the_callers() {
    let input = json!({"audio_url": "http://a/x", "language": "pt-BR", "prompt": "Overshot", "temperature": 0.2,
        "extra_body": {"hotwords": "flume", "beam_size": 5, "tags": ["a", 1]}, "call_id": 7});
    let parsed = parse(&input).unwrap();
    assert_eq!((parsed.language.as_deref(), parsed.prompt.as_deref()), (Some("pt-BR"), Some("Overshot")));
    assert_eq!(parsed.temperature, Some(0.2));
    let extra: Vec<_> = parsed.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(extra, [("beam_size", "5"), ("hotwords", "flume"), ("tags[]", "a"), ("tags[]", "1")]);
    let empty = parse(&json!({"audio_url": "http://a/x", "language": "", "prompt": ""})).unwrap();
    assert_eq!((empty.language, empty.prompt), (None, None));
}

#[test]
fn only_an_upload_may_claim_stored_audio() {
    let stored = raw(&json!({"audio": {"sha256": "00", "bytes": 3}}));
    assert_eq!(validate(&stored).unwrap_err().param, "input.audio");
    assert!(validate_upload(&stored).is_ok());
    let url = raw(&json!({"audio_url": "http://a/"}));
    assert!(validate(&url).is_ok());
    assert_eq!(validate_upload(&url).unwrap_err().param, "input.audio_url");
    let both = raw(&json!({"audio": {"sha256": "00", "bytes": 3}, "audio_url": "http://a/"}));
    assert_eq!(validate_upload(&both).unwrap_err().param, "input.audio_url");
}

#[test]
fn a_replaced_input_keeps_the_upload_unless_it_names_other_audio() {
    let old = raw(&json!({"audio": {"sha256": "00", "bytes": 3}, "language": "en"}));
    let kept = replace(&raw(&json!({"language": "de"})), &old).unwrap();
    assert!(kept.get().contains(r#""bytes":3"#) && kept.get().contains("de") && !kept.get().contains("en"), "{kept}");
    assert!(replace(&old, &old).is_ok(), "as it was read back");
    let url = replace(&raw(&json!({"audio_url": "http://a/"})), &old).unwrap();
    assert!(!url.get().contains("bytes"), "{url}");
    let forged = raw(&json!({"audio": {"sha256": "00", "bytes": 4}}));
    assert_eq!(replace(&forged, &old).unwrap_err().param, "input.audio");
    assert_eq!(replace(&raw(&json!({})), &raw(&json!({}))).unwrap_err().param, "input.audio_url");
}
