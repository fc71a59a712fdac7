//! Metrics whose values are known when they are asked for: written as they are, kept nowhere.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::env::spread::BOUNDS;
use crate::ipc::figures::Spread;

/// Label and value; none or one.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes families one after the other.
pub(super) struct Writer<'a>(pub(super) DescriptorEncoder<'a>);

/// No label.
pub(super) fn alone<'a, T>(value: T) -> Vec<(Labels<'a>, T)> {
    vec![(Labels::new(), value)]
}

/// Name, help and unit of a family.
pub(super) type About<N, H> = (N, H, Option<Unit>);

impl Writer<'_> {
    pub(super) fn gauges(
        &mut self,
        about: About<impl AsRef<str>, impl AsRef<str>>,
        values: Vec<(Labels<'_>, f64)>,
    ) -> fmt::Result {
        self.family(about, MetricType::Gauge, values, |one, value| one.encode_gauge(&value))
    }

    pub(super) fn counters(
        &mut self,
        about: About<impl AsRef<str>, impl AsRef<str>>,
        values: Vec<(Labels<'_>, f64)>,
    ) -> fmt::Result {
        const NONE: Option<&Exemplar<NoLabelSet, f64>> = None;
        self.family(about, MetricType::Counter, values, |one, value| {
            one.encode_counter(&value, NONE)
        })
    }

    /// Durations; the unit is seconds.
    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        values: Vec<(Labels<'_>, &Spread)>,
    ) -> fmt::Result {
        let about = (name, help, Some(Unit::Seconds));
        self.family(about, MetricType::Histogram, values, |one, spread| {
            let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
            // An issuer that has measured nothing said no counts.
            let counts = spread.counts.iter().copied().chain(std::iter::repeat(0));
            let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = spread.micros as f64 / 1e6;
            one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })
    }

    /// A family with its values, each by `write`; none at all without a value.
    fn family<T>(
        &mut self,
        (name, help, unit): About<impl AsRef<str>, impl AsRef<str>>,
        kind: MetricType,
        values: Vec<(Labels<'_>, T)>,
        write: impl Fn(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        if values.is_empty() {
            return Ok(());
        }
        let (name, help) = (name.as_ref(), help.as_ref());
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in values {
            if labels.is_empty() {
                write(&mut family, value)?;
            } else {
                write(&mut family.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }
}
