//! The page that Prometheus reads holds what is declared, and no more.

use std::collections::BTreeSet;

use super::*;

const LABELS: [&str; 7] = ["pool", "task", "model", "status", "code", "provider", "priority"];

fn page(act: impl FnOnce(&Config)) -> String {
    let config = Config::load(None, []).unwrap();
    let recorder = builder().unwrap().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe_all();
        act(&config);
    });
    recorder.handle().render()
}

fn label_names(line: &str) -> BTreeSet<String> {
    let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inside, _)| inside);
    let pairs = inside.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, _)| name.to_owned()).filter(|name| name != "le").collect()
}

#[test]
fn every_metric_is_on_the_page_from_the_start_with_help_type_and_its_own_labels() {
    let page = page(register_zeroes);
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
            assert!(line.ends_with(" 0"), "{line}");
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

#[test]
fn what_happens_adds_no_series_to_those_at_zero() {
    let series = |page: &str| -> BTreeSet<String> {
        page.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    let zeroes = series(&page(register_zeroes));
    let happened = page(|config| {
        let pool = config.default_pool().unwrap();
        let second = Duration::from_secs(1);
        job_submitted(pool, "chat");
        job_finished(pool, "chat", Status::Completed, None, second);
        job_finished(pool, "chat", Status::Failed, Some(ErrorCode::BadInput), second);
        submit_refused(pool, Refusal::QueueFull);
        attempt_ended(pool, Some(ErrorCode::Timeout));
        queue_wait(pool, second);
        time_to_first_token(pool, model_label(config, pool, Some("made-up")), second);
        tokens(pool, model_label(config, pool, None), 3, 4);
        worker_slots(pool, 8, 2);
        http_request(202, second);
    });
    assert!(happened.contains("overshot_tokens_prompt_total{pool=\"chat\",model=\"other\"} 3\n"), "{happened}");
    assert!(happened.contains("overshot_job_duration_seconds_sum{pool=\"chat\",task=\"chat\",status=\"failed\"} 1\n"));
    let new: Vec<_> = series(&happened).difference(&zeroes).cloned().collect();
    assert!(new.is_empty(), "{new:?}");
}
