//! Keeps the house in order: what the code promises of itself, and what the documents say of the code.
//!
//! Reads the repository's own files; starts nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

mod docs;
mod proofs;
mod scripts;
mod states;

/// More lines than this and a file has two subjects.
const LINES_MAX: usize = 500;

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace")
}

/// A text file of the repository.
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `place` that ends so, as paths from the root of the repository.
fn files(place: &str, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut places) = (Vec::new(), vec![root().join(place)]);
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                places.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {place}: the test looks in the wrong place");
    found
}

fn rust_files() -> Vec<PathBuf> {
    files("crates", ".rs").into_iter().chain(files("tests", ".rs")).collect()
}

/// A Rust file without its tests, every run of white space a single space.
fn code(path: &Path) -> String {
    let text = read(path);
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_test_file(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

/// The texts in quotes that directly follow `before`.
fn quoted_after<'a>(code: &'a str, before: &str) -> Vec<&'a str> {
    let rests = code.split(before).skip(1);
    rests.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

/// The names under `[dependencies]` and `[dev-dependencies]` of a crate.
fn dependencies(package: &str) -> BTreeSet<String> {
    let manifest = read(format!("crates/{package}/Cargo.toml"));
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && let Some(name) = line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty()) {
            names.insert(name.to_owned());
        }
    }
    assert!(names.contains("tokio"), "the dependencies of {package} were not read: {names:?}");
    names
}

/// Fails with all offenders at once.
fn none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn every_rust_file_opens_with_what_it_owns() {
    let offenders = rust_files().into_iter().filter(|path| !read(path).starts_with("//! "));
    none(&offenders.map(|path| path.display().to_string()).collect::<Vec<_>>(), "a file opens with `//! `");
}

#[test]
fn no_file_is_longer_than_one_subject_needs() {
    let sources = rust_files().into_iter().chain(files("crates", ".lua"));
    let lengths = sources.map(|path| (read(&path).lines().count(), path));
    let offenders = lengths.filter(|(lines, _)| *lines > LINES_MAX);
    let offenders: Vec<_> = offenders.map(|(lines, path)| format!("{} has {lines}", path.display())).collect();
    none(&offenders, "a file has at most 500 lines");
}

#[test]
fn only_the_queue_speaks_redis() {
    let may = |path: &Path| {
        path.starts_with("crates/common/src/queue")
            || path == Path::new("crates/common/src/queue.rs")
            || path.starts_with("crates/bench")
            || path.starts_with("crates/chaos")
    };
    let mut offenders = Vec::new();
    for path in files("crates", ".rs").into_iter().filter(|path| !may(path)) {
        for (number, line) in read(&path).lines().enumerate() {
            let speaks = line.match_indices("redis").any(|(at, word)| {
                let before = line[..at].chars().next_back();
                let alone = before.is_none_or(|c| !c.is_alphanumeric() && !"_:".contains(c));
                let after = &line[at + word.len()..];
                alone
                    && (after.starts_with("::") || line[..at].trim_start().ends_with("use ") && after.starts_with(';'))
            });
            if speaks && !line.trim_start().starts_with("//") {
                offenders.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    none(&offenders, "only crates/common/src/queue, the benchmarks and chaos name the crate redis");
    for package in ["api", "worker", "cli"] {
        let own = dependencies(package);
        assert!(!own.contains("redis") && !own.contains("deadpool-redis"), "{package} depends on a Redis client");
    }
}

#[test]
fn no_route_goes_around_the_api_document() {
    let router = code(Path::new("crates/api/src/router.rs"));
    assert!(
        router.contains(".routes(routes!(") && !router.contains(".route(") && !router.contains(".nest"),
        "use routes!"
    );
}

#[test]
fn the_common_crate_knows_no_http() {
    let own = dependencies("common");
    for name in ["axum", "reqwest", "hyper", "tower", "tower-http", "overshot-api", "overshot-worker"] {
        assert!(!own.contains(name), "overshot-common depends on {name}");
    }
}

#[test]
fn api_and_worker_do_not_know_each_other() {
    assert!(!dependencies("api").contains("overshot-worker"));
    assert!(!dependencies("worker").contains("overshot-api"));
    // A URL out of a request is never fetched here.
    let calls = files("crates/api/src", ".rs").into_iter().filter(|path| read(path).contains("reqwest::"));
    assert_eq!(
        calls.collect::<Vec<_>>(),
        [Path::new("crates/api/src/infra.rs")],
        "the API calls nobody but the sidecar"
    );
}
