//! Figures of a store and of what runs behind it, in one registry that is written in the text
//! format of Prometheus.

use std::fmt::{self, Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Figures at one moment: metrics, each with its samples.
///
/// Names begin with `leftfold_` and end in their unit, counters in `_total`. It is written in the
/// text format of Prometheus (version 0.0.4). Of two samples of one metric with the same labels,
/// the later one counts.
///
/// ```
/// use leftfold_core::store::Metrics;
///
/// let mut metrics = Metrics::default();
/// let labels = [("queue", "payouts")];
/// metrics.gauge("leftfold_waiting", "Payouts that wait.", &labels, 3);
/// assert!(metrics.to_string().contains(r#"leftfold_waiting{queue="payouts"} 3"#));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    families: Vec<Family>,
}

/// One metric.
#[derive(Clone, Debug)]
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    /// Name and labels, as they are written.
    key: String,
    value: String,
}

/// The labels of a sample: names and values.
pub type Labels<'l> = &'l [(&'l str, &'l str)];

impl Metrics {
    /// Adds a sample of something that only grows while the program runs.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        value: u64,
    ) {
        self.family(name, "counter", help).put(key(name, "", labels), value);
    }

    /// Adds a sample of something that goes up and down.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        value: impl Display,
    ) {
        self.family(name, "gauge", help).put(key(name, "", labels), value);
    }

    /// Names a metric that may have no sample now, so that readers know of it.
    pub fn declare_gauge(&mut self, name: &'static str, help: &'static str) {
        self.family(name, "gauge", help);
    }

    /// Adds what a histogram has observed.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        histogram: &Histogram,
    ) {
        let family = self.family(name, "histogram", help);
        let mut below = 0;
        for (index, count) in histogram.counts.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            let bound = histogram
                .bounds
                .get(index)
                .map_or_else(|| "+Inf".to_owned(), |bound| histogram.unit.write(*bound));
            let labels = [labels, &[("le", &*bound)]].concat();
            family.put(key(name, "_bucket", &labels), below);
        }
        family.put(
            key(name, "_sum", labels),
            histogram.unit.write(histogram.sum.load(Ordering::Relaxed)),
        );
        family.put(key(name, "_count", labels), below);
    }

    fn family(
        &mut self,
        name: &'static str,
        kind: &'static str,
        help: &'static str,
    ) -> &mut Family {
        let place =
            self.families.iter().position(|family| family.name == name).unwrap_or_else(|| {
                self.families.push(Family { name, kind, help, samples: Vec::new() });
                self.families.len() - 1
            });
        &mut self.families[place]
    }
}

impl Family {
    fn put(&mut self, key: String, value: impl Display) {
        let value = value.to_string();
        match self.samples.iter_mut().find(|sample| sample.key == key) {
            Some(sample) => sample.value = value,
            None => self.samples.push(Sample { key, value }),
        }
    }
}

impl Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Family { name, kind, help, samples } in &self.families {
            write!(f, "# HELP {name} {help}\n# TYPE {name} {kind}\n")?;
            for Sample { key, value } in samples {
                writeln!(f, "{key} {value}")?;
            }
        }
        Ok(())
    }
}

fn key(name: &str, suffix: &str, labels: Labels<'_>) -> String {
    let mut key = format!("{name}{suffix}");
    for (index, (label, value)) in labels.iter().enumerate() {
        // Writing to a text does not fail.
        let _ = write!(key, "{}{label}=\"", if index == 0 { '{' } else { ',' });
        escape(&mut key, value);
        key.push('"');
    }
    if !labels.is_empty() {
        key.push('}');
    }
    key
}

fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

/// Counts of observed values by size. Observing costs three additions without a lock, from any
/// thread.
#[derive(Debug)]
pub struct Histogram {
    unit: Unit,
    bounds: &'static [u64],
    /// One for each bound, and one for what is above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Count,
    /// Observed in microseconds, written in seconds.
    Seconds,
}

impl Histogram {
    /// A histogram of counts or bytes, with the upper bounds of its buckets in ascending order.
    #[must_use]
    pub fn of_counts(bounds: &'static [u64]) -> Self {
        Self::new(Unit::Count, bounds)
    }

    /// A histogram of times, with bounds in microseconds in ascending order; written in seconds.
    #[must_use]
    pub fn of_micros(bounds: &'static [u64]) -> Self {
        Self::new(Unit::Seconds, bounds)
    }

    fn new(unit: Unit, bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { unit, bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value: a count, or microseconds.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }
}

impl Unit {
    fn write(self, value: u64) -> String {
        match self {
            Self::Count => value.to_string(),
            Self::Seconds => (value as f64 / 1e6).to_string(),
        }
    }
}

/// Something beside a store that has figures.
pub(crate) trait Measured: Send + Sync {
    /// Adds what it has now.
    fn measure(&self, metrics: &mut Metrics);
}

/// All that has figures beside a store, as long as it is there.
#[derive(Clone, Default)]
pub(super) struct Sources(Arc<Mutex<Vec<Weak<dyn Measured>>>>);

impl Sources {
    pub(super) fn add(&self, source: &Arc<impl Measured + 'static>) {
        let weak = Arc::downgrade(source);
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| source.strong_count() > 0);
        sources.push(weak);
    }

    pub(super) fn measure(&self, metrics: &mut Metrics) {
        let sources: Vec<_> = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        sources.iter().for_each(|source| source.measure(metrics));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_with_their_metric_and_escaped_labels_and_the_later_one_counts() {
        let mut metrics = Metrics::default();
        metrics.gauge("m", "A.", &[("a", "say \"C:\\x\"\nand"), ("b", "ä")], 7);
        metrics.counter("n_total", "B.", &[], 1);
        metrics.gauge("m", "A.", &[], -0.5);
        metrics.gauge("m", "A.", &[], 2);
        metrics.declare_gauge("o", "C.");
        let text = "# HELP m A.\n# TYPE m gauge\nm{a=\"say \\\"C:\\\\x\\\"\\nand\",b=\"ä\"} 7\nm 2\n\
            # HELP n_total B.\n# TYPE n_total counter\nn_total 1\n# HELP o C.\n# TYPE o gauge\n";
        assert_eq!(metrics.to_string(), text);
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_times_are_written_in_seconds() {
        let histogram = Histogram::of_micros(&[100, 2_000]);
        for micros in [100, 101, 2_000, 5_000_000] {
            histogram.observe(micros);
        }
        let mut metrics = Metrics::default();
        metrics.histogram("t_seconds", "T.", &[], &histogram);
        let text = "# HELP t_seconds T.\n# TYPE t_seconds histogram\nt_seconds_bucket{le=\"0.0001\"} 1\n\
            t_seconds_bucket{le=\"0.002\"} 3\nt_seconds_bucket{le=\"+Inf\"} 4\nt_seconds_sum 5.002201\nt_seconds_count 4\n";
        assert_eq!(metrics.to_string(), text);
    }
}
