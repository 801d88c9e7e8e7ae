//! What the pages say is shown by tests, against the tests that there are.

use std::collections::BTreeMap;

use overshot_common::code::ErrorCode;

use super::docs::{names, rows, section};
use super::{read, rust_files};

/// Every test of the repository, by its name, with its text up to the next one.
fn tests() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in rust_files() {
        let text = read(path).replace("#[tokio::test", "#[test]");
        let after = text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn "));
        found.extend(after.filter_map(|(_, rest)| Some((rest.split_once('(')?.0.to_owned(), rest.to_owned()))));
    }
    assert!(found.len() > 200, "the tests were not read: {found:?}");
    found
}

#[test]
fn every_failure_mode_names_tests_that_exist_or_says_why_it_has_none() {
    let (page, tests) = (read("docs/RELIABILITY.md"), tests());
    let modes = rows(section(&page, "Failure modes"));
    let numbers: Vec<String> = modes.iter().skip(1).map(|row| row[0].clone()).collect();
    assert_eq!(numbers, (1..=47).map(|number| number.to_string()).collect::<Vec<_>>());
    for row in modes.iter().skip(1) {
        let (number, proof) = (&row[0], &row[3]);
        if let Some(why) = ["no test: ", "does not apply: "].iter().find_map(|word| proof.strip_prefix(word)) {
            assert!(why.len() > 20, "row {number} says too little");
            continue;
        }
        let named = names(proof);
        assert!(!named.is_empty(), "row {number} names no test");
        for name in named {
            assert!(tests.contains_key(name), "row {number} names {name}, which is no test");
        }
    }
}

// A name that somebody would look for in vain.
#[test]
fn every_test_that_the_reliability_page_names_exists() {
    let (page, tests) = (read("docs/RELIABILITY.md"), tests());
    let sentences = names(&page).into_iter().filter(|name| name.matches('_').count() > 3);
    let missing: Vec<_> = sentences.filter(|name| !tests.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_error_code_names_tests_that_reach_it() {
    let (page, tests) = (read("docs/ERRORS.md"), tests());
    let codes = rows(section(&page, "Why jobs fail"));
    for code in ErrorCode::ALL {
        let row = codes.iter().find(|row| names(&row[0]) == [code.as_str()]).expect("another test compares the codes");
        let named = names(&row[4]);
        assert!(!named.is_empty(), "{code} names no test");
        for name in named {
            let text = tests.get(name).unwrap_or_else(|| panic!("{code} names {name}, which is no test"));
            let says = text.contains(&format!("\"{code}\"")) || text.contains(&format!("{code:?}"));
            assert!(says, "{name} does not speak of {code}");
        }
    }
}
