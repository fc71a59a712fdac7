//! Metrics whose values are known when they are asked for: written as they are, kept nowhere.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
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

impl Writer<'_> {
    pub(super) fn gauges(
        &mut self,
        (name, help, unit): (impl AsRef<str>, impl AsRef<str>, Option<Unit>),
        values: Vec<(Labels<'_>, f64)>,
    ) -> fmt::Result {
        if values.is_empty() {
            return Ok(());
        }
        let (name, help) = (name.as_ref(), help.as_ref());
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in values {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    pub(super) fn counters(
        &mut self,
        (name, help, unit): (impl AsRef<str>, impl AsRef<str>, Option<Unit>),
        values: Vec<(Labels<'_>, f64)>,
    ) -> fmt::Result {
        if values.is_empty() {
            return Ok(());
        }
        const NONE: Option<&Exemplar<NoLabelSet, f64>> = None;
        let (name, help) = (name.as_ref(), help.as_ref());
        let mut family =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in values {
            if labels.is_empty() {
                family.encode_counter(&value, NONE)?;
            } else {
                family.encode_family(&labels)?.encode_counter(&value, NONE)?;
            }
        }
        Ok(())
    }

    /// Durations; the unit is seconds.
    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        values: Vec<(Labels<'_>, &Spread)>,
    ) -> fmt::Result {
        if values.is_empty() {
            return Ok(());
        }
        let seconds = Some(&Unit::Seconds);
        let mut family = self.0.encode_descriptor(name, help, seconds, MetricType::Histogram)?;
        for (labels, spread) in values {
            let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
            // An issuer that has measured nothing said no counts.
            let counts = spread.counts.iter().copied().chain(std::iter::repeat(0));
            let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = spread.micros as f64 / 1e6;
            if labels.is_empty() {
                family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            } else {
                let mut one = family.encode_family(&labels)?;
                one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}
