//! What the embedding task takes and refuses, and what its keys tell apart.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

/// The input is refused, at that place.
#[track_caller]
fn refused(value: &Value, param: &str) {
    assert_eq!(validate(&raw(value)).unwrap_err().param, param, "{value}");
}

fn keys(value: &Value, model: Option<&str>) -> Vec<Key> {
    Input::parse(&raw(value)).unwrap().keys(model)
}

#[test]
fn a_text_a_list_and_texts_with_ids_are_taken() {
    for (value, count) in [
        (json!({"input": "one"}), 1),
        (json!({"input": ["one", "t\u{e9}xt \"quoted\"\n"]}), 2),
        (json!({"texts": ["one", "two", "three"]}), 3),
        (json!({"input": [{"id": "a", "text": "one", "page": 3}, {"id": "b", "text": "two"}]}), 2),
        (json!({"input": {"id": "a", "text": "one"}, "collection": "docs.v1"}), 1),
        (json!({"input": "x", "dimensions": null, "case_number": "A-17", "extra_body": {"input_type": "query"}}), 1),
    ] {
        let input = raw(&value);
        let input = Input::parse(&input).unwrap_or_else(|error| panic!("{value}: {error}"));
        assert_eq!(input.items.len(), count, "{value}");
    }
}

#[test]
fn a_wrong_input_is_refused_at_its_place() {
    for (value, param) in [
        (json!({}), "input.input"),
        (json!({"input": []}), "input.input"),
        (json!({"input": [1, 2, 3]}), "input.input[0]"),
        (json!({"input": 7}), "input.input"),
        (json!({"input": "x", "texts": ["y"]}), "input.texts"),
        (json!({"texts": ["x", ""]}), "input.texts[1]"),
        (json!({"input": ["x", {"id": "a", "text": "y"}]}), "input.input[1]"),
        (json!({"input": [{"id": "a"}]}), "input.input[0].text"),
        (json!({"input": [{"text": "a"}]}), "input.input[0].id"),
        (json!({"input": [{"id": 7, "text": "a"}]}), "input.input[0].id"),
        (json!({"input": [{"id": "", "text": "a"}]}), "input.input[0].id"),
        (json!({"input": [{"id": "a", "text": ""}]}), "input.input[0].text"),
        (json!({"input": ["x"], "collection": "docs"}), "input.input"),
        (json!({"input": [{"id": "a", "text": "x"}], "collection": "no/slash"}), "input.collection"),
        (json!({"input": [{"id": "a", "text": "x"}], "collection": "{tag}"}), "input.collection"),
        (
            json!({"input": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], "collection": "c"}),
            "input.input[1].id",
        ),
        (json!({"input": "x", "encoding_format": "int8"}), "input.encoding_format"),
        (json!({"input": "x", "dimensions": 0}), "input.dimensions"),
        (json!({"input": "x", "batch_size": 2049}), "input.batch_size"),
        (json!({"input": "x", "user": 1}), "input.user"),
        (json!({"input": "x", "extra_body": {"model": "other"}}), "input.extra_body.model"),
    ] {
        refused(&value, param);
    }
    let many = vec!["x"; TEXTS_MAX + 1];
    refused(&json!({ "input": many }), "input.input");
}

#[test]
fn a_key_tells_texts_models_and_parameters_apart_and_nothing_else() {
    let plain = keys(&json!({"input": ["a", "b", "a"]}), Some("m"));
    assert_eq!(plain[0], plain[2]);
    assert_ne!(plain[0], plain[1]);
    let same = [
        json!({"input": [{"id": "1", "text": "a"}], "collection": "c"}),
        json!({"texts": "a", "encoding_format": "base64", "batch_size": 7, "user": "u-1"}),
    ];
    for value in same {
        assert_eq!(keys(&value, Some("m"))[0], plain[0], "{value}");
    }
    assert_ne!(keys(&json!({"input": "a"}), Some("n"))[0], plain[0]);
    assert_ne!(keys(&json!({"input": "a"}), None)[0], plain[0]);
    assert_ne!(keys(&json!({"input": "a", "dimensions": 64}), Some("m"))[0], plain[0]);
    assert_ne!(keys(&json!({"input": "a", "extra_body": {"input_type": "query"}}), Some("m"))[0], plain[0]);
}

#[test]
fn vectors_of_another_length_or_without_a_value_are_refused() {
    let mut vectors = Vectors::default();
    vectors.push([1.0, 2.0]).unwrap();
    assert!(vectors.push([1.0]).is_err());
    assert!(vectors.push([1.0, f32::NAN]).is_err());
    assert!(vectors.push([]).is_err());
    assert!(vectors.push_base64(b"****").is_err());
    assert!(vectors.push_base64(b"AAAA").is_err());
    assert_eq!((vectors.len(), vectors.dimensions()), (1, 2));
}

proptest! {
    #[test]
    fn both_forms_carry_the_same_numbers(list in proptest::collection::vec(-1e30f32..1e30, 1..50)) {
        let mut vectors = Vectors::default();
        vectors.push(list.iter().copied()).unwrap();
        let packed = vectors.iter().next().unwrap();
        let (mut float, mut base64) = (Vec::new(), Vec::new());
        Encoding::Float.write(packed, &mut float);
        Encoding::Base64.write(packed, &mut base64);
        prop_assert_eq!(serde_json::from_slice::<Vec<f32>>(&float).unwrap(), list);
        let text: String = serde_json::from_slice(&base64).unwrap();
        let mut read = Vectors::default();
        read.push_base64(text.as_bytes()).unwrap();
        prop_assert_eq!(read, vectors);
    }
}
