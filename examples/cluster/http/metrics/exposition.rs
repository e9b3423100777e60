//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write as _};
use std::time::Duration;

/// The media type of what [`Exposition`] writes.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// It counts by size.
    Histogram,
}

/// Labels and their values.
pub(crate) type Labels<'a> = [(&'a str, &'a str)];

/// The text as it is written.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

/// The samples of one metric.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Exposition {
    /// Begins a metric; each is written once.
    pub(crate) fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family { text: &mut self.text, name }
    }

    /// The whole text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.text, "{line}").expect("a string takes whatever is written to it");
    }
}

impl Family<'_> {
    /// Writes one sample.
    pub(crate) fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.line("", labels, value);
    }

    /// Writes one histogram: `counts` has one number for each bound and one for what is above the
    /// last.
    pub(crate) fn histogram(
        &mut self,
        labels: &Labels<'_>,
        bounds_micros: &[u64],
        counts: &[u64],
        sum: Duration,
    ) {
        let bounds = bounds_micros
            .iter()
            .map(|micros| Duration::from_micros(*micros).as_secs_f64().to_string())
            .chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bound, count) in bounds.zip(counts) {
            total += count;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line("_bucket", &labels, total);
        }
        self.line("_sum", labels, sum.as_secs_f64());
        self.line("_count", labels, total);
    }

    fn line(&mut self, suffix: &str, labels: &Labels<'_>, value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.text, "{}{suffix}{labels} {value}", self.name)
            .expect("a string takes whatever is written to it");
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_below_what_describes_them() {
        let mut exposition = Exposition::default();
        let mut family = exposition.family("dss_x", Kind::Gauge, "One\nline.");
        family.sample(&[], 1);
        family.sample(&[("group", "a\"b\\c\nd"), ("role", "leader")], 0.5);
        let expected = "# HELP dss_x One\\nline.\n# TYPE dss_x gauge\ndss_x 1\n\
                        dss_x{group=\"a\\\"b\\\\c\\nd\",role=\"leader\"} 0.5\n";
        assert_eq!(exposition.finish(), expected);
    }

    #[test]
    fn buckets_of_a_histogram_are_cumulative() {
        let mut exposition = Exposition::default();
        let mut family = exposition.family("dss_t", Kind::Histogram, "Time.");
        family.histogram(&[], &[100, 1_000_000], &[1, 2, 3], Duration::from_millis(1500));
        let expected = "# HELP dss_t Time.\n# TYPE dss_t histogram\n\
                        dss_t_bucket{le=\"0.0001\"} 1\ndss_t_bucket{le=\"1\"} 3\n\
                        dss_t_bucket{le=\"+Inf\"} 6\ndss_t_sum 1.5\ndss_t_count 6\n";
        assert_eq!(exposition.finish(), expected);
    }
}
