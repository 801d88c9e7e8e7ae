//! The page that Prometheus reads holds what is declared, and no more.

use std::collections::BTreeSet;

use super::*;
use crate::code::ErrorCode;
use crate::job::Status;

const LABELS: [&str; 10] =
    ["pool", "task", "model", "status", "code", "provider", "limit", "priority", "script", "version"];

/// The page of a process that has just started.
fn first_page() -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let hot = metrics::with_local_recorder(&recorder, || {
        let config = Config::load(None, []).unwrap();
        describe_all();
        let hot = hot::Hot::new(&config);
        zeroes::register_zeroes(&config, &hot);
        hot
    });
    let mut page = recorder.handle().render();
    hot.render(&mut page);
    page
}

fn label_names(line: &str) -> BTreeSet<String> {
    let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inside, _)| inside);
    let pairs = inside.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, _)| name.to_owned()).filter(|name| name != "le").collect()
}

#[test]
fn every_metric_is_on_the_page_from_the_start_with_help_type_and_its_own_labels() {
    let page = first_page();
    for metric in ALL {
        let name = metric.name;
        let kind = format!("{:?}", metric.kind).to_lowercase();
        assert!(page.contains(&format!("# HELP {name} {}\n", metric.help)), "{name}\n{page}");
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name}\n{page}");
        let sample = if metric.kind == Kind::Histogram { format!("{name}_count") } else { name.to_owned() };
        let lines = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(&sample));
        let lines: Vec<_> = lines.collect();
        assert!(!lines.is_empty(), "no series of {name}");
        let declared: BTreeSet<_> = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        for line in lines {
            assert_eq!(label_names(line), declared, "{line}");
            let zero = if [BUILD_INFO, POOL_PROVIDER_INFO].contains(&name) { " 1" } else { " 0" };
            assert!(line.ends_with(zero), "{line}");
        }
    }
}

#[test]
fn names_carry_prefix_and_unit_and_labels_are_those_of_the_contract() {
    for metric in ALL {
        assert!(metric.name.starts_with("overshot_"), "{}", metric.name);
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        assert!(metric.kind != Kind::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
        assert!(metric.labels.iter().all(|label| LABELS.contains(label)), "{}", metric.name);
    }
}

// The only one that uses the recorder of the process.
#[test]
fn what_happens_is_counted_and_adds_no_series_to_those_at_zero() {
    let series = |page: &str| -> BTreeSet<String> {
        page.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    let limit = ("OVERSHOT__PROVIDERS__SIM__MAX_IN_FLIGHT".to_owned(), "4".to_owned());
    let config = Config::load(None, [limit]).unwrap();
    let (pool, second) = (config.default_pool().unwrap(), Duration::from_secs(1));
    start(&config);
    let zeroes = series(&super::page().unwrap());
    job_submitted(pool, "chat");
    job_finished(pool, "chat", Status::Completed, None, second);
    job_finished(pool, "chat", Status::Failed, Some(ErrorCode::BadInput), second);
    job_finished(pool, "another process' task", Status::Failed, Some(ErrorCode::Unknown), second);
    job_finished(&"elsewhere".parse().unwrap(), "chat", Status::Completed, None, second);
    submit_refused(pool, Refusal::QueueFull);
    attempt_ended(pool, "chat", Some(ErrorCode::Timeout), second);
    attempt_ended(pool, "chat", None, second);
    settled(pool, second);
    retried(pool, Some(ErrorCode::Timeout));
    handed_back(pool);
    snoozed(pool);
    queue_wait(pool, second);
    time_to_first_token(pool, model_label(&config, pool, Some("made-up")), second);
    tokens(pool, model_label(&config, pool, None), 3, 4);
    worker_slots(pool, 8, 2);
    pool_numbers(pool, &crate::queue::PoolNumbers::default());
    let (provider, settings) = config.providers.iter().next().unwrap();
    let open = crate::queue::Circuit { opened: 1, until: 1, ..Default::default() };
    let mut status = crate::queue::ProviderStatus::default();
    status.facts.insert("reported".to_owned(), "1".to_owned());
    status.circuits.insert("some model".to_owned(), open);
    (status.in_flight, status.requests) = (3, 9);
    provider_status(provider, settings, &status);
    redis_call("claim", second);
    http_request(202, second);
    let page = super::page().unwrap();
    for line in [
        "overshot_tokens_prompt_total{pool=\"chat\",model=\"other\"} 3",
        "overshot_job_duration_seconds_sum{pool=\"chat\",status=\"failed\",task=\"chat\"} 1",
        "overshot_jobs_finished_total{pool=\"chat\",task=\"chat\",status=\"completed\",code=\"none\"} 1",
        "overshot_jobs_finished_total{pool=\"chat\",task=\"other\",status=\"failed\",code=\"unknown\"} 1",
        "overshot_attempts_total{pool=\"chat\",code=\"timeout\"} 1",
        "overshot_attempts_total{pool=\"chat\",code=\"none\"} 1",
        &format!("overshot_provider_up{{provider=\"{provider}\"}} 1"),
        &format!("overshot_provider_breaker_state{{provider=\"{provider}\"}} 2"),
        &format!("overshot_provider_limit_used_ratio{{provider=\"{provider}\"}} 0.75"),
        &format!("overshot_provider_limit{{provider=\"{provider}\",limit=\"max_in_flight\"}} 4"),
        &format!("overshot_provider_limit_used{{provider=\"{provider}\",limit=\"max_in_flight\"}} 3"),
        &format!("overshot_provider_limit_used{{provider=\"{provider}\",limit=\"requests_per_minute\"}} 0"),
        &format!("overshot_pool_provider_info{{pool=\"chat\",provider=\"{provider}\"}} 1"),
        "overshot_redis_call_duration_seconds_count{script=\"claim\"} 1",
        "overshot_jobs_submitted_total{pool=\"chat\",task=\"chat\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
    let new: Vec<_> = series(&page).difference(&zeroes).cloned().collect();
    assert!(new.is_empty(), "{new:?}");
}
