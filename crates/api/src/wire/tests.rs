//! What callers may send, and what they are told when they may not.

use serde_json::value::RawValue;

use super::filter::{Listing, Wanted};
use super::job::{SubmitRequest, changes};
use crate::access::Caller;
use crate::error::ApiError;
use crate::params::Pairs;

/// The status, code and place of a refusal.
fn told(error: &ApiError) -> (u16, String, Option<String>) {
    let object = serde_json::to_value(error.object()).unwrap();
    let text = |name: &str| object[name].as_str().map(str::to_owned);
    (error.status().as_u16(), text("code").unwrap(), text("param"))
}

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

/// Where a submit with these members more is refused.
#[track_caller]
fn refused_at(members: &str, param: &str) {
    let body = format!(r#"{{"task":"chat","input":{{}},{members}}}"#);
    let (status, _, place) = told(&SubmitRequest::read(&body, &Caller::anonymous()).unwrap_err());
    assert_eq!((status, place.as_deref()), (422, Some(param)), "{members:.80}");
}

#[test]
fn a_submit_needs_an_object_with_task_and_input() {
    for (body, param) in [
        ("[]", None),
        ("\"x\"", None),
        ("1", None),
        ("{}", Some("task")),
        (r#"{"task":null,"input":{}}"#, Some("task")),
        (r#"{"task":"chat"}"#, Some("input")),
        (r#"{"task":"chat","input":null}"#, Some("input")),
    ] {
        let (status, _, place) = told(&SubmitRequest::read(body, &Caller::anonymous()).unwrap_err());
        assert_eq!((status, place.as_deref()), (422, param), "{body}");
    }
}

#[test]
fn every_field_of_a_wrong_type_is_named() {
    let texts = ["pool", "model", "provider", "idempotency_key", "concurrency_key", "run_at"];
    let durations = ["delay", "timeout", "expires_in", "result_ttl"];
    let others = ["priority", "max_attempts", "on_conflict", "fail_fast", "owner", "metadata", "stream"];
    for name in texts.into_iter().chain(durations).chain(others) {
        refused_at(&format!("\"{name}\":[1]"), name);
        refused_at(&format!("\"{name}\":1.5"), name);
    }
}

#[test]
fn unknown_and_repeated_fields_are_refused_by_name() {
    refused_at(r#""priorty":"high""#, "priorty");
    refused_at(r#""task":"chat""#, "task");
    refused_at(r#""owner":{"service":"s","ref":"r","tenant":"t"}"#, "owner.tenant");
}

#[test]
fn lengths_are_limited() {
    let long = "k".repeat(257);
    for name in ["idempotency_key", "concurrency_key", "pool", "model"] {
        refused_at(&format!("\"{name}\":\"{long}\""), name);
        refused_at(&format!("\"{name}\":\"\""), name);
    }
    let long = "k".repeat(65);
    refused_at(&format!(r#""owner":{{"service":"{long}","ref":"r"}}"#), "owner.service");
    refused_at(&format!(r#""owner":{{"service":"s","ref":"{long}"}}"#), "owner.ref");
    refused_at(r#""owner":{"service":"s","ref":""}"#, "owner.ref");
    refused_at(r#""owner":{"service":"s"}"#, "owner.ref");
    refused_at(&format!(r#""owner":{{"service":"s","ref":"r","agent":"{long}"}}"#), "owner.agent");
}

#[test]
fn metadata_is_up_to_sixteen_pairs_of_texts() {
    refused_at(r#""metadata":{"k":1}"#, "metadata.k");
    refused_at(r#""metadata":{"":"v"}"#, "metadata.");
    refused_at(&format!(r#""metadata":{{"k":"{}"}}"#, "v".repeat(513)), "metadata.k");
    refused_at(&format!(r#""metadata":{{"{0}":"v"}}"#, "k".repeat(65)), &format!("metadata.{}", "k".repeat(65)));
    let pairs: Vec<_> = (0..17).map(|n| format!("\"k{n}\":\"v\"")).collect();
    refused_at(&format!(r#""metadata":{{{}}}"#, pairs.join(",")), "metadata");
    let pairs: Vec<_> = (0..16).map(|n| format!("\"k{n}\":\"{}\"", "é".repeat(512))).collect();
    let body = format!(r#"{{"task":"chat","input":{{}},"metadata":{{{}}}}}"#, pairs.join(","));
    assert_eq!(SubmitRequest::read(&body, &Caller::anonymous()).unwrap().metadata.len(), 16);
}

#[test]
fn a_patch_of_metadata_may_remove() {
    let changes = changes(raw(r#"{"a":"1","b":null}"#)).unwrap();
    assert_eq!(changes, [("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)]);
}

#[test]
fn durations_are_texts_above_zero_up_to_thirty_days() {
    for name in ["timeout", "expires_in", "result_ttl"] {
        for bad in ["\"0s\"", "\"-1s\"", "\"31d\"", "\"5\"", "5", "\"\"", "\"1us\"", "\"99999999999999999999d\""] {
            refused_at(&format!("\"{name}\":{bad}"), name);
        }
    }
    refused_at(r#""delay":"-1s""#, "delay");
    refused_at(r#""delay":"31d""#, "delay");
    let body = r#"{"task":"chat","input":{},"delay":"0s","timeout":"500ms","expires_in":"30d","result_ttl":"10m"}"#;
    let request = SubmitRequest::read(body, &Caller::anonymous()).unwrap();
    assert_eq!(request.timeout.unwrap().as_millis(), 500);
    assert_eq!(request.expires_in.unwrap().as_secs(), 30 * 24 * 3600);
    assert_eq!(request.result_ttl.unwrap().as_secs(), 600);
}

#[test]
fn a_time_is_rfc_3339_and_excludes_a_delay() {
    refused_at(r#""run_at":"tomorrow""#, "run_at");
    refused_at(r#""run_at":"2030-01-01T00:00:00""#, "run_at");
    refused_at(r#""run_at":"2030-01-01T00:00:00Z","delay":"1s""#, "delay");
    let body = r#"{"task":"chat","input":{},"run_at":"2030-01-01T02:00:00+02:00"}"#;
    assert_eq!(
        SubmitRequest::read(body, &Caller::anonymous()).unwrap().run_at.unwrap().to_string(),
        "2030-01-01T00:00:00Z"
    );
}

#[test]
fn numbers_and_choices_keep_to_what_there_is() {
    for bad in ["0", "101", "-1", "\"5\"", "1e2"] {
        refused_at(&format!("\"max_attempts\":{bad}"), "max_attempts");
    }
    refused_at(r#""priority":"urgent""#, "priority");
    refused_at(r#""on_conflict":"drop""#, "on_conflict");
    refused_at(r#""fail_fast":"true""#, "fail_fast");
}

fn query(pairs: &[(&str, &str)]) -> Result<Listing, ApiError> {
    Listing::read(&Pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()))
}

#[test]
fn a_listing_takes_several_statuses_and_its_limits() {
    let listing = query(&[("status", "failed,expired"), ("status", "queued"), ("limit", "200")]).unwrap();
    assert_eq!((listing.wanted.filter.statuses.len(), listing.limit), (3, 200));
    assert_eq!(query(&[]).unwrap().limit, 50);
}

#[test]
fn a_listing_refuses_what_it_does_not_know_by_name() {
    for (name, value) in [
        ("stauts", "failed"),
        ("status", "done"),
        ("status", ""),
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "x"),
        ("after", "x"),
        ("task", ""),
    ] {
        let (status, _, param) = told(&query(&[(name, value)]).unwrap_err());
        assert_eq!((status, param.as_deref()), (422, Some(name)), "{name}={value}");
    }
    assert_eq!(told(&query(&[("task", "a"), ("task", "b")]).unwrap_err()).2.as_deref(), Some("task"));
}

#[test]
fn a_bulk_call_needs_a_filter() {
    for body in ["{}", r#"{"pool":null}"#] {
        assert_eq!(told(&Wanted::read(body).unwrap_err()).0, 422);
    }
    for (body, param) in [
        (r#"{"nope":"x"}"#, "nope"),
        (r#"{"pool":1}"#, "pool"),
        (r#"{"status":[]}"#, "status"),
        (r#"{"status":5}"#, "status"),
        (r#"{"status":["done"]}"#, "status"),
    ] {
        assert_eq!(told(&Wanted::read(body).unwrap_err()).2.as_deref(), Some(param), "{body}");
    }
    let wanted = Wanted::read(r#"{"status":["failed","expired"],"owner_ref":"r","pool":"chat"}"#).unwrap();
    assert_eq!(wanted.filter.statuses.len(), 2);
    assert_eq!((wanted.pool.as_deref(), wanted.filter.owner_ref.as_deref()), (Some("chat"), Some("r")));
}
