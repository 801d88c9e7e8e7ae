//! What the chat task takes, refuses, and shows to a provider.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::{request_body, validate};

fn input(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

fn body(value: &Value, stream: bool) -> Value {
    serde_json::to_value(request_body(&input(value), Some("m"), stream).unwrap()).unwrap()
}

/// The input is refused, at that place.
#[track_caller]
fn refused(value: &Value, param: &str) {
    assert_eq!(validate(&input(value)).unwrap_err().param, param, "{value}");
}

/// An input with messages and one more member.
fn with(name: &str, value: Value) -> Value {
    let mut input = json!({"messages": [{"role": "user", "content": "hi"}]});
    input[name] = value;
    input
}

#[test]
fn compact_input_becomes_messages_and_its_user_is_no_parameter() {
    let body = body(&json!({"system": "be brief", "user": "hi"}), false);
    let messages = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]);
    assert_eq!(body, json!({"model": "m", "stream": false, "messages": messages}));
}

#[test]
fn user_beside_messages_is_the_parameter_and_system_is_a_mistake() {
    assert_eq!(body(&with("user", json!("u-1")), false)["user"], "u-1");
    refused(&with("system", json!("be brief")), "input.system");
}

#[test]
fn domain_data_stays_and_parameters_pass() {
    let mut given = with("call_id", json!(7));
    given["temperature"] = json!(0.5);
    given["stream"] = json!("no matter");
    given["max_tokens"] = Value::Null;
    let body = body(&given, false);
    assert_eq!(body["temperature"], 0.5);
    assert_eq!(body["stream"], false);
    assert!(body.get("call_id").is_none() && body.get("max_tokens").is_none(), "{body}");
}

#[test]
fn streams_always_ask_for_usage_and_keep_the_callers_options() {
    let given = with("stream_options", json!({"include_usage": false, "include_obfuscation": false}));
    let options = json!({"include_usage": true, "include_obfuscation": false});
    assert_eq!(body(&given, true)["stream_options"], options);
    assert!(body(&given, false).get("stream_options").is_none());
}

#[test]
fn extra_body_wins_over_parameters_but_never_over_the_task() {
    let mut given = with("extra_body", json!({"cache_prompt": false, "temperature": 1}));
    given["temperature"] = json!(0);
    let body = body(&given, true);
    assert_eq!((&body["cache_prompt"], &body["temperature"]), (&json!(false), &json!(1)));
    for name in ["model", "messages", "stream", "stream_options", "n"] {
        refused(&with("extra_body", json!({name: 1})), &format!("input.extra_body.{name}"));
    }
}

#[test]
fn a_schema_keeps_the_order_of_its_properties() {
    let text = r#"{"user":"hi","response_format":{"type":"json_schema","z":1,"a":{"y":1,"b":1.50}}}"#;
    let input = RawValue::from_string(text.to_owned()).unwrap();
    let body = request_body(&input, None, false).unwrap();
    let format = body.get("response_format").unwrap().get();
    assert_eq!(format, r#"{"type":"json_schema","z":1,"a":{"y":1,"b":1.50}}"#);
}

#[test]
fn every_mistake_names_its_place() {
    refused(&json!([]), "input");
    refused(&json!({"call_id": 7}), "input.messages");
    refused(&json!({"messages": []}), "input.messages");
    refused(&json!({"messages": "hi"}), "input.messages");
    refused(&json!({"messages": [{"role": "user"}, ["user"]]}), "input.messages[1]");
    refused(&json!({"messages": [{"content": "hi"}]}), "input.messages[0].role");
    refused(&json!({"messages": [{"role": 1}]}), "input.messages[0].role");
    refused(&json!({"user": 1}), "input.user");
    for (name, value) in [
        ("n", json!(2)),
        ("temperature", json!(2.1)),
        ("temperature", json!("0.5")),
        ("top_p", json!(-0.1)),
        ("max_tokens", json!(0)),
        ("max_completion_tokens", json!(1.5)),
        ("seed", json!("1")),
        ("stop", json!(1)),
        ("tools", json!({})),
        ("response_format", json!("json")),
        ("presence_penalty", json!(-3)),
        ("logit_bias", json!([])),
        ("parallel_tool_calls", json!(1)),
        ("top_logprobs", json!(21)),
        ("tool_choice", json!([])),
        ("extra_body", json!([])),
        ("stream_options", json!(true)),
    ] {
        refused(&with(name, value), &format!("input.{name}"));
    }
    refused(&with("tools", json!([{}, 1])), "input.tools[1]");
    refused(&with("stop", json!(["a", 1])), "input.stop[1]");
}

#[test]
fn values_at_the_bounds_pass() {
    for (name, value) in [
        ("n", json!(1)),
        ("temperature", json!(2)),
        ("top_p", json!(0)),
        ("max_tokens", json!(1)),
        ("seed", json!(-1)),
        ("stop", json!(["a", "b"])),
        ("stop", json!("a")),
        ("presence_penalty", json!(-2)),
        ("top_logprobs", json!(20)),
        ("tool_choice", json!("auto")),
    ] {
        assert_eq!(body(&with(name, value.clone()), true)[name], value, "{name}");
    }
}
