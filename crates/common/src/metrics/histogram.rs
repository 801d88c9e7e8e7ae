//! Histograms that count into fixed buckets as they are told, and their part of the page.
//!
//! They are those of the crate `prometheus`. The exporter's own keep every sample until somebody folds them: each costs a
//! clock, a pinned epoch and a place in a list, and later its folding; together four times as much, on every job.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, Registry, TextEncoder};

use super::{ALL, BUCKETS_SECONDS, Kind, Metric};

/// The histogram of one series.
#[derive(Debug, Clone)]
pub(super) struct Histogram(prometheus::Histogram);

impl Histogram {
    /// Counts a duration.
    pub(super) fn record(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

/// The histograms of a process, by name.
#[derive(Debug)]
pub(super) struct Histograms {
    registry: Registry,
    by_name: BTreeMap<&'static str, HistogramVec>,
}

impl Histograms {
    /// Every declared one, without a series.
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let declare = |metric: &Metric| {
            let options = HistogramOpts::new(metric.name, metric.help).buckets(BUCKETS_SECONDS.to_vec());
            let series = HistogramVec::new(options, metric.labels).expect("names and buckets are well-formed");
            registry.register(Box::new(series.clone())).expect("each is declared once");
            (metric.name, series)
        };
        let by_name = ALL.iter().filter(|metric| metric.kind == Kind::Histogram).map(declare).collect();
        Self { registry, by_name }
    }

    /// The series of these values of the labels, in the order in which they are declared; from now on it is on the page.
    pub(super) fn of(&self, name: &'static str, labels: &[&str]) -> Histogram {
        let declared = self.by_name.get(name).expect("every histogram is declared");
        Histogram(declared.with_label_values(labels))
    }

    /// Their part of the page.
    pub(super) fn render(&self, page: &mut String) {
        let written = TextEncoder::new().encode_utf8(&self.registry.gather(), page);
        written.expect("what is registered can be written, and a text takes all of it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(of: &Histograms) -> String {
        let mut page = String::new();
        of.render(&mut page);
        page
    }

    #[test]
    fn a_duration_counts_in_every_bucket_that_it_fits() {
        let of = Histograms::new();
        let histogram = of.of(super::super::QUEUE_WAIT, &["a \"b\"\\\n"]);
        for duration in [Duration::ZERO, Duration::from_secs(1), Duration::from_millis(1500)] {
            histogram.record(duration);
        }
        histogram.record(Duration::from_secs(3600));
        histogram.record(Duration::from_secs(4000));
        let page = page(&of);
        let labels = r#"pool="a \"b\"\\\n""#;
        for line in [
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"1\"}} 2"),
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"2.5\"}} 3"),
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"1800\"}} 3"),
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"3600\"}} 4"),
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"+Inf\"}} 5"),
            format!("overshot_queue_wait_seconds_sum{{{labels}}} 7602.5"),
            format!("overshot_queue_wait_seconds_count{{{labels}}} 5"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    #[test]
    fn a_series_is_one_whoever_asks_for_it() {
        let of = Histograms::new();
        of.of(super::super::EVENT_LOOP_LAG, &[]).record(Duration::from_secs(1));
        of.of(super::super::EVENT_LOOP_LAG, &[]).record(Duration::from_secs(1));
        let page = page(&of);
        assert!(
            page.contains("\novershot_event_loop_lag_seconds_sum 2\novershot_event_loop_lag_seconds_count 2\n"),
            "{page}"
        );
        assert!(page.contains("\novershot_event_loop_lag_seconds_bucket{le=\"1\"} 2\n"), "{page}");
    }
}
