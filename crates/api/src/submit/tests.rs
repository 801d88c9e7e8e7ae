//! What the configuration makes of a submit.

use overshot_common::config::Config;

use super::{Form, Prepared, body_hash, prepare};
use crate::access::Caller;
use crate::error::ApiError;

const CONFIG: &str = r#"
    [pools.chat]
    providers = ["a", "b"]
    [pools.other]
    providers = ["any"]
    [providers.a]
    kind = "simulated"
    models = ["m1", "m2"]
    [providers.b]
    kind = "simulated"
    models = ["m3"]
    [providers.any]
    kind = "simulated"
    [tasks.mine]
    kind = "chat"
    pool = "chat"
    model = "m2"
    [tasks.vectors]
    kind = "embedding"
    pool = "chat"
"#;

fn prepare_text(body: &str) -> Result<Prepared, ApiError> {
    let config = Config::load(Some((std::path::Path::new("test"), CONFIG)), []).unwrap();
    prepare(&config, &Caller::anonymous(), body, None, Form::Json)
}

fn with(members: &str) -> String {
    format!(r#"{{"input":{{"user":"hi"}},{members}}}"#)
}

fn refusal(members: &str) -> (u16, serde_json::Value) {
    let error = prepare_text(&with(members)).unwrap_err();
    (error.status().as_u16(), serde_json::to_value(error.object()).unwrap())
}

#[test]
fn names_and_defaults_are_resolved_at_submit() {
    let job = prepare_text(&with(r#""task":"llm_chat","pool":"chat""#)).unwrap().job;
    assert_eq!((job.spec.task.as_str(), job.spec.model.as_deref()), ("chat", Some("m1")));
    assert!(job.spec.stream);
    let job = prepare_text(&with(r#""task":"mine""#)).unwrap().job;
    assert_eq!((job.spec.task.as_str(), job.spec.model.as_deref()), ("mine", Some("m2")));
    assert_eq!(job.id.shard.pool.as_str(), "chat");
    let job = prepare_text(&with(r#""task":"chat","pool":"chat","provider":"b""#)).unwrap().job;
    assert_eq!(job.spec.model.as_deref(), Some("m3"));
    let job = prepare_text(&with(r#""task":"chat","pool":"other""#)).unwrap().job;
    assert_eq!(job.spec.model, None);
    let job = prepare_text(&with(r#""task":"chat","pool":"other","model":"whatever""#)).unwrap().job;
    assert_eq!(job.spec.model.as_deref(), Some("whatever"));
}

#[test]
fn what_the_configuration_does_not_know_is_refused_by_name() {
    for (members, status, param) in [
        (r#""task":"nope""#, 422, "task"),
        (r#""task":"transcription","pool":"chat""#, 422, "input.audio_url"),
        (r#""task":"vectors""#, 422, "input.input"),
        (r#""task":"chat""#, 422, "pool"),
        (r#""task":"chat","pool":"nope""#, 404, "pool"),
        (r#""task":"chat","pool":"NO}PE""#, 404, "pool"),
        (r#""task":"chat","pool":"chat","provider":"any""#, 422, "provider"),
        (r#""task":"chat","pool":"chat","model":"m4""#, 422, "model"),
        (r#""task":"chat","pool":"chat","provider":"b","model":"m1""#, 422, "model"),
    ] {
        let (found, object) = refusal(members);
        assert_eq!((found, object["param"].as_str()), (status, Some(param)), "{members}");
    }
}

#[test]
fn the_hash_of_a_body_ignores_order_space_and_the_key_itself() {
    let hash = |text: &str| body_hash(text).unwrap();
    assert_eq!(hash(r#"{"a":1,"b":{"c":2,"d":3}}"#), hash(r#"{ "b":{"d":3,"c":2},"idempotency_key":"k","a":1}"#));
    assert_ne!(hash(r#"{"a":1}"#), hash(r#"{"a":2}"#));
}
