//! What the documents say of codes, metrics, settings and targets, against the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::{Config, PoolConfig, ProviderConfig, ProviderKind, SimulatedProvider, WorkerConfig};
use overshot_common::metrics;

use super::{code, files, is_test_file, quoted_after, read};

/// The rows of a page's tables: their cells, heads and rules left out.
pub(super) fn rows(page: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(inner.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
    };
    page.lines().filter_map(cells).filter(|row| !row[0].starts_with("---")).collect()
}

/// The names in back quotes of a cell.
pub(super) fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The text under a heading of the second level.
pub(super) fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let rest = page.split(&format!("\n## {title}\n")).nth(1).unwrap_or_else(|| panic!("no section `{title}`"));
    rest.split("\n## ").next().unwrap_or_default()
}

#[test]
fn every_error_code_stands_in_the_errors_page_with_its_delay() {
    let page = read("docs/ERRORS.md");
    let told: BTreeMap<String, String> = rows(section(&page, "Why jobs fail"))
        .into_iter()
        .skip(1)
        .map(|row| (names(&row[0])[0].to_owned(), row[2].clone()))
        .collect();
    let known: BTreeSet<String> = ErrorCode::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), known);
    for code in ErrorCode::ALL {
        let delay = match code.default_retry_delay().map(|delay| delay.as_secs()) {
            None => "never".to_owned(),
            Some(seconds) if seconds % 60 == 0 => format!("{} min", seconds / 60),
            Some(seconds) => format!("{seconds} s"),
        };
        assert!(told[code.as_str()].ends_with(&delay), "{code} is retried after {delay}, not {}", told[code.as_str()]);
    }
}

#[test]
fn every_code_of_the_api_stands_in_the_errors_page() {
    let mut used = BTreeSet::new();
    for path in files("crates/api/src", ".rs").into_iter().filter(|path| !is_test_file(path)) {
        let code = code(&path);
        for constructor in ["conflict(", "unavailable(", "unprocessable("] {
            used.extend(quoted_after(&code, constructor).into_iter().map(str::to_owned));
        }
        for rest in code.split("StatusCode::").skip(1) {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_uppercase() || c == '_');
            used.extend(rest.strip_prefix(", \"").and_then(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    // The titles and types of the envelope are no codes.
    used.retain(|code| code.contains('_') && !code.ends_with("_error") || code == "draining");
    used.insert("internal_error".to_owned());
    let page = read("docs/ERRORS.md");
    let told = rows(section(&page, "What the API answers")).into_iter().skip(1).map(|row| names(&row[1])[0].to_owned());
    assert_eq!(told.collect::<BTreeSet<_>>(), used);
}

#[test]
fn the_metrics_page_is_the_list_of_metrics() {
    let told =
        rows(&read("docs/METRICS.md")).into_iter().filter(|row| row.len() == 4 && row[0].starts_with("`overshot_"));
    let told: Vec<_> = told
        .map(|row| (names(&row[0])[0].to_owned(), row[1].clone(), names(&row[2]).join(" "), row[3].clone()))
        .collect();
    let known = metrics::ALL.iter().map(|metric| {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        (metric.name.to_owned(), kind, metric.labels.join(" "), metric.help.to_owned())
    });
    assert_eq!(told, known.collect::<Vec<_>>());
}

/// The keys that the readers of the configuration take, and the names of their sections.
fn configured() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut keys, mut sections) = (BTreeSet::new(), BTreeSet::new());
    for path in files("crates/common/src", ".rs") {
        let place = path.strip_prefix("crates/common/src").unwrap();
        if !(place.starts_with("config") || place == Path::new("config.rs")) || is_test_file(&path) {
            continue;
        }
        let code = code(&path).replace("( ", "(").replace("&mut mistakes", "mistakes");
        for reader in ["duration", "bytes", "integer", "share", "text", "texts", "choice", "number_or_text", "json"] {
            keys.extend(quoted_after(&code, &format!(".{reader}(mistakes,")).into_iter().map(str::to_owned));
        }
        for reader in ["section", "sections", "members", "section_or"] {
            sections.extend(quoted_after(&code, &format!(".{reader}(mistakes,")).into_iter().map(str::to_owned));
        }
    }
    assert!(keys.contains("max_body_bytes") && keys.contains("error_rate"), "the keys were not read: {keys:?}");
    (keys, sections)
}

#[test]
fn every_setting_stands_in_the_configuration_page_and_in_the_readme() {
    let (keys, sections) = configured();
    let (page, readme) = (read("docs/CONFIGURATION.md"), read("README.md"));
    let file = section(&page, "The file");
    let told = rows(file).into_iter().filter(|row| row[0].starts_with('`')).map(|row| names(&row[0])[0].to_owned());
    assert_eq!(told.collect::<BTreeSet<_>>(), keys);
    for key in &keys {
        let set = readme.lines().any(|line| line.split_once('=').is_some_and(|(name, _)| name.trim() == key));
        assert!(set, "README.md shows no `{key} =`");
    }
    for name in &sections {
        for (which, text) in [("docs/CONFIGURATION.md", file), ("README.md", readme.as_str())] {
            let shown = [format!("[{name}]"), format!("[{name}."), format!(".{name}]")];
            assert!(shown.iter().any(|form| text.contains(form)), "{which} shows no section `{name}`");
        }
    }
}

#[test]
fn every_variable_stands_in_the_configuration_page_and_in_the_readme() {
    let mut known = BTreeSet::new();
    for file in ["config.rs", "config/environment.rs", "config/redis_tls.rs"] {
        let path = format!("crates/common/src/{file}");
        let code = code(Path::new(&path));
        let names = code.split('"').skip(1).step_by(2).filter(|text| text.starts_with("OVERSHOT_"));
        known.extend(names.filter(|name| !name.ends_with('_')).map(str::to_owned));
    }
    assert!(known.len() > 5, "the variables were not read: {known:?}");
    let page = read("docs/CONFIGURATION.md");
    let told = rows(section(&page, "The environment")).into_iter().skip(1).map(|row| names(&row[0])[0].to_owned());
    assert_eq!(told.collect::<BTreeSet<_>>(), known);
    let readme = read("README.md");
    for name in &known {
        assert!(readme.contains(&format!("`{name}`")), "README.md does not name {name}");
    }
}

/// The file of the README's configuration section.
#[test]
fn the_configuration_in_the_readme_is_valid_and_shows_the_defaults() {
    let readme = read("README.md");
    let blocks: Vec<_> = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let load = |text: &str| Config::load(Some((Path::new("README.md"), text)), []).unwrap();
    let config = blocks.iter().map(|text| load(text)).next_back().expect("a TOML block");
    assert_eq!(config.max_body_bytes, Config::MAX_BODY_BYTES);
    assert_eq!(config.worker, WorkerConfig::default());
    let pool = config.pools.values().next().unwrap();
    assert_eq!(
        *pool,
        PoolConfig { providers: vec!["local".into()], retry: config.retry.clone(), ..PoolConfig::default() }
    );
    for code in ErrorCode::ALL {
        assert_eq!(config.retry.delay(*code), code.default_retry_delay(), "{code}");
    }
    assert_eq!(config.providers["sim"].kind, ProviderKind::Simulated(SimulatedProvider::default()));
    assert_eq!(config.providers["local"].request_timeout, ProviderConfig::REQUEST_TIMEOUT);
    assert!(ProviderConfig::REQUEST_TIMEOUT > Duration::ZERO);
}

#[test]
fn the_readme_names_every_make_target_and_every_route() {
    let readme = read("README.md");
    let makefile = read("Makefile");
    let targets = makefile.lines().filter(|line| line.contains("## ")).filter_map(|line| line.split_once(':'));
    for (target, _) in targets.filter(|(target, _)| *target != "help" && !target.starts_with(['#', '\t'])) {
        assert!(readme.contains(&format!("make {target}")), "README.md does not name make {target}");
    }
    let handlers: Vec<_> = files("crates/api/src/handlers", ".rs").iter().map(|path| code(path)).collect();
    let routes: BTreeSet<&str> = handlers.iter().flat_map(|code| quoted_after(code, "path = ")).collect();
    assert!(routes.len() > 10, "the routes were not read: {routes:?}");
    // The files of the page and the page itself are named by where one goes.
    let routes = routes.into_iter().filter(|route| !route.starts_with("/docs/"));
    for route in routes {
        let told = route.replace("{*", "{").replace("/api/v1/pools/{pool}/resume", "…/resume");
        assert!(readme.contains(&told), "README.md does not name {told}");
    }
}

/// Requests are read field by field; what the API document says of them is written beside.
#[test]
fn the_api_document_tells_every_field_that_a_request_may_have() {
    let bodies = read("crates/api/src/openapi/bodies.rs");
    let described = |name: &str| -> BTreeSet<String> {
        let body = bodies.split(&format!("pub(crate) struct {name} {{\n")).nth(1).unwrap_or_default();
        let body = body.split("\n}\n").next().unwrap_or_default();
        let fields = body.lines().filter_map(|line| line.trim().split_once(": "));
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        fields.map(|(name, _)| name.to_owned()).filter(|name| is_name(name)).collect()
    };
    let reader = code(Path::new("crates/api/src/wire/job.rs"));
    let submit =
        reader.split("fn read(").nth(1).and_then(|rest| rest.split("from.finish()").next()).unwrap_or_default();
    let mut read = BTreeSet::new();
    for take in ["text", "raw", "duration", "choice", "integer", "boolean"] {
        read.extend(quoted_after(submit, &format!("from.{take}(")).into_iter().map(str::to_owned));
    }
    assert!(read.len() > 15, "{read:?}");
    assert_eq!(described("Submit"), read);
    let filter = code(Path::new("crates/api/src/wire/filter.rs"));
    let slots = filter.split("Some(match name {").nth(1).and_then(|rest| rest.split("_ =>").next()).unwrap_or_default();
    let mut read: BTreeSet<String> = slots.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    read.insert("status".to_owned());
    assert_eq!(described("Filter"), read);
    read.extend(["limit", "after"].map(str::to_owned));
    assert_eq!(described("ListQuery"), read);
}
