//! Histograms that count into fixed buckets as they are told, and their part of the page.
//!
//! The exporter's own keep every sample until somebody folds them: each costs a clock, a pinned epoch and a place in a list,
//! and later its folding; together four times as much as counting at once, on every job.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use super::{ALL, BUCKETS_SECONDS, Kind, Metric};

const BUCKETS: usize = BUCKETS_SECONDS.len();
/// The same bounds in nanoseconds.
static BOUNDS: LazyLock<[u64; BUCKETS]> =
    LazyLock::new(|| std::array::from_fn(|place| nanos(Duration::from_secs_f64(BUCKETS_SECONDS[place]))));

/// The histogram of one series.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64; BUCKETS],
    /// By bucket, not added up; the last one is for what is beyond all bounds.
    counts: [AtomicU64; BUCKETS + 1],
    sum: AtomicU64,
}

impl Histogram {
    fn new() -> Self {
        Self { bounds: &BOUNDS, counts: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }

    /// Counts a duration.
    pub(super) fn record(&self, duration: Duration) {
        let duration = nanos(duration);
        let bucket = self.bounds.partition_point(|bound| *bound < duration);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(duration, Ordering::Relaxed);
    }

    fn render(&self, page: &mut String, name: &str, labels: &str) {
        let open = if labels.is_empty() { "{".to_owned() } else { format!("{{{labels},") };
        let mut count = 0;
        for (place, bucket) in self.counts.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let _ = match BUCKETS_SECONDS.get(place) {
                Some(bound) => writeln!(page, "{name}_bucket{open}le=\"{bound}\"}} {count}"),
                None => writeln!(page, "{name}_bucket{open}le=\"+Inf\"}} {count}"),
            };
        }
        let sum = Duration::from_nanos(self.sum.load(Ordering::Relaxed)).as_secs_f64();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(page, "{name}_sum{labels} {sum}\n{name}_count{labels} {count}");
    }
}

/// 584 years are more than enough.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The histograms of a process, by name and labels.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    series: Mutex<BTreeMap<&'static str, BTreeMap<String, Arc<Histogram>>>>,
}

impl Histograms {
    /// A series; from now on it is on the page.
    pub(super) fn of(&self, name: &'static str, labels: &[(&str, &str)]) -> Arc<Histogram> {
        let pair = |(label, value): &(&str, &str)| format!("{label}=\"{}\"", escaped(value));
        let labels = labels.iter().map(pair).collect::<Vec<_>>().join(",");
        let mut all = self.lock();
        Arc::clone(all.entry(name).or_default().entry(labels).or_insert_with(|| Arc::new(Histogram::new())))
    }

    /// Their part of the page.
    pub(super) fn render(&self, page: &mut String) {
        let all = self.lock();
        for Metric { name, help, .. } in ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
            let Some(series) = all.get(name) else { continue };
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} histogram");
            series.iter().for_each(|(labels, histogram)| histogram.render(page, name, labels));
            page.push('\n');
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, BTreeMap<String, Arc<Histogram>>>> {
        self.series.lock().expect("no holder of this lock can panic")
    }
}

/// A label's value as it stands on the page.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
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
        let of = Histograms::default();
        let histogram = of.of(super::super::QUEUE_WAIT, &[("pool", "a \"b\"\\\n")]);
        for duration in [Duration::ZERO, Duration::from_micros(500), Duration::from_nanos(500_001)] {
            histogram.record(duration);
        }
        histogram.record(Duration::from_secs(3600));
        histogram.record(Duration::from_secs(4000));
        let page = page(&of);
        let labels = r#"pool="a \"b\"\\\n""#;
        for line in [
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"0.0005\"}} 2"),
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"0.001\"}} 3"),
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"1800\"}} 3"),
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"3600\"}} 4"),
            format!("overshot_queue_wait_seconds_bucket{{{labels},le=\"+Inf\"}} 5"),
            format!("overshot_queue_wait_seconds_sum{{{labels}}} 7600.001000001"),
            format!("overshot_queue_wait_seconds_count{{{labels}}} 5"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    #[test]
    fn a_series_is_one_whoever_asks_for_it() {
        let of = Histograms::default();
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
