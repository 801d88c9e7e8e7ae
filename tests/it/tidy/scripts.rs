//! The form of the Lua scripts.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{files, none, read, root};

const SCRIPTS: &str = "crates/common/src/queue/scripts";

/// Every script, fragments left out, with its name.
fn moves() -> Vec<(String, PathBuf)> {
    let all = files(SCRIPTS, ".lua").into_iter().filter(|path| !path.starts_with(format!("{SCRIPTS}/lib")));
    all.map(|path| (name(&path), path)).collect()
}

fn name(path: &std::path::Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// The comment at the top.
fn header(text: &str) -> String {
    text.lines().take_while(|line| line.starts_with("--")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_script_says_what_it_does_takes_and_returns_and_why_it_is_atomic() {
    let mut offenders = Vec::new();
    for (name, path) in moves() {
        let header = header(&read(&path));
        if !header.starts_with(&format!("-- {name}: ")) {
            offenders.push(format!("{name}.lua does not open with `-- {name}: <purpose>`"));
        }
        for part in ["ARGV", "\n-- Returns ", "\n-- Atomic because "] {
            if !header.contains(part) {
                offenders.push(format!("{name}.lua does not say: {}", part.trim_start_matches("\n-- ")));
            }
        }
    }
    none(&offenders, "a script's header is complete");
}

#[test]
fn a_fragment_says_what_it_is() {
    let fragments = files(&format!("{SCRIPTS}/lib"), ".lua");
    let offenders = fragments.iter().filter(|path| !read(path).starts_with(&format!("-- {}: ", name(path))));
    none(&offenders.map(|path| path.display().to_string()).collect::<Vec<_>>(), "a fragment opens with its name");
}

#[test]
fn every_script_is_one_that_the_queue_loads() {
    let source = read("crates/common/src/queue/scripts.rs");
    let list = source.split("\nscripts! {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("the list");
    let loaded: BTreeSet<_> =
        list.lines().filter_map(|line| line.trim().split_once(": \"")).map(|(name, _)| name).collect();
    let moves = moves();
    let there: BTreeSet<_> = moves.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(loaded, there);
}

#[test]
fn no_stream_of_jobs_is_trimmed_of_what_nobody_read() {
    let sources = files(SCRIPTS, ".lua").into_iter().chain(files("crates/common/src", ".rs"));
    // What takes guards out for a test names them.
    let sources = sources.filter(|path| !path.ends_with("scripts/sabotage.rs"));
    let trims = |path: &PathBuf| {
        let text = read(path);
        // Up to an entry that was settled, before which nothing runs: see `drop_all` there.
        let trims = text.matches("XTRIM").count() > text.matches("'XTRIM', name, 'MINID', '='").count();
        trims
            || (text.contains("XTRIM") && name(path) != "settle")
            || (text.contains("MAXLEN") && name(path) != "publish")
    };
    let offenders: Vec<_> = sources.filter(trims).map(|path| path.display().to_string()).collect();
    none(&offenders, "only the chunks of publish.lua have a cap");
    assert_eq!(read(format!("{SCRIPTS}/publish.lua")).matches("MAXLEN").count(), 1);
}

#[test]
fn no_script_walks_the_whole_of_redis() {
    let walks = |text: &str| ["'SCAN'", "'KEYS'", "'FLUSHALL'", "'FLUSHDB'"].iter().any(|word| text.contains(word));
    let offenders = files(SCRIPTS, ".lua").into_iter().filter(|path| walks(&read(path)));
    none(&offenders.map(|path| path.display().to_string()).collect::<Vec<_>>(), "no SCAN, no KEYS, no FLUSH");
}

/// Without the compiler, the tests of the queue still run every script.
#[test]
fn every_script_parses() {
    let luac = |arguments: &[&std::ffi::OsStr]| {
        Command::new("luac5.1").args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).output()
    };
    if luac(&["-v".as_ref()]).is_err() {
        return;
    }
    let mut offenders = Vec::new();
    for path in files(SCRIPTS, ".lua") {
        let output = luac(&["-p".as_ref(), root().join(&path).as_os_str()]).unwrap();
        if !output.status.success() {
            offenders.push(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
    }
    none(&offenders, "Lua 5.1 parses every script");
}
