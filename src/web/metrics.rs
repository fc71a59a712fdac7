//! What is counted, for Prometheus. Names begin with `chancery_`; labels have few values.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::acme::problem::ProblemType;
use crate::ipc::message::Health;

/// The counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Flow, Histogram, Buckets>,
    problems: Family<Kind, Counter>,
    orders: Family<Step, Counter>,
    validations: Family<Step, Counter>,
    limited: Family<Limit, Counter>,
    admissions_waiting: Gauge,
    issuance: Histogram,
    pub(crate) connections: Counter,
    pub(crate) handshake_failures: Counter,
    pub(crate) validations_active: Gauge,
    pub(crate) issuances_active: Gauge,
    issuer_up: Gauge,
    issuer_ready: Gauge,
    issued: Gauge,
    log_size: Gauge,
    checkpoint_size: Gauge,
    issuer_counts: Family<Named, Gauge>,
    witness_leaves: Family<Named, Gauge>,
    witness_seconds: Family<Named, Gauge<f64, AtomicU64>>,
    watched_leaves: Family<Named, Gauge>,
    watched_seconds: Family<Named, Gauge<f64, AtomicU64>>,
    signature_seconds: Family<Named, Gauge<f64, AtomicU64>>,
    token_signed: Family<Named, Gauge>,
    token_unsigned: Family<Named, Gauge>,
    token_waiting: Family<Named, Gauge>,
    token_wait_seconds: Family<Named, Gauge<f64, AtomicU64>>,
    crl_next_update: Gauge<f64, AtomicU64>,
    tls_not_after: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    flow: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Flow {
    flow: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    step: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: String,
}

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0])
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(Buckets),
            problems: Family::default(),
            orders: Family::default(),
            validations: Family::default(),
            limited: Family::default(),
            admissions_waiting: Gauge::default(),
            issuance: Buckets.new_metric(),
            connections: Counter::default(),
            handshake_failures: Counter::default(),
            validations_active: Gauge::default(),
            issuances_active: Gauge::default(),
            issuer_up: Gauge::default(),
            issuer_ready: Gauge::default(),
            issued: Gauge::default(),
            log_size: Gauge::default(),
            checkpoint_size: Gauge::default(),
            issuer_counts: Family::default(),
            witness_leaves: Family::default(),
            witness_seconds: Family::default(),
            watched_leaves: Family::default(),
            watched_seconds: Family::default(),
            signature_seconds: Family::default(),
            token_signed: Family::default(),
            token_unsigned: Family::default(),
            token_waiting: Family::default(),
            token_wait_seconds: Family::default(),
            crl_next_update: Gauge::default(),
            tls_not_after: Gauge::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let mut registry = Registry::with_prefix("chancery");
        let r = &mut registry;
        r.register("requests", "Answered requests by flow and status", self.requests.clone());
        r.register_with_unit(
            "request_duration",
            "From the whole header to the answer, by flow",
            Unit::Seconds,
            self.durations.clone(),
        );
        r.register("problems", "Problem documents by type", self.problems.clone());
        r.register("orders", "Orders by what became of them", self.orders.clone());
        r.register("validations", "Validation attempts by result", self.validations.clone());
        r.register("limited", "Requests answered with 429, by limit", self.limited.clone());
        r.register(
            "admissions_waiting",
            "Devices that have been given a turn and have not come yet",
            self.admissions_waiting.clone(),
        );
        r.register_with_unit(
            "issuance_duration",
            "From an accepted finalize to the stored certificate",
            Unit::Seconds,
            self.issuance.clone(),
        );
        r.register("connections", "Accepted connections", self.connections.clone());
        r.register(
            "tls_handshake_failures",
            "TLS handshakes that failed",
            self.handshake_failures.clone(),
        );
        r.register(
            "validations_active",
            "Challenges being validated",
            self.validations_active.clone(),
        );
        r.register(
            "issuances_active",
            "Orders waiting for the issuer",
            self.issuances_active.clone(),
        );
        r.register("issuer_up", "Whether the issuer answers", self.issuer_up.clone());
        r.register("issuer_ready", "Whether the issuer would issue", self.issuer_ready.clone());
        r.register("certificates", "Certificates in the log", self.issued.clone());
        r.register("log_leaves", "Leaves in the log", self.log_size.clone());
        r.register(
            "log_checkpoint_leaves",
            "Leaves covered by the newest checkpoint",
            self.checkpoint_size.clone(),
        );
        r.register(
            "issuer_count",
            "What the issuer has counted since it started",
            self.issuer_counts.clone(),
        );
        for (name, help, leaves, seconds) in [
            ("witness", "by a witness of this log", &self.witness_leaves, &self.witness_seconds),
            (
                "watched",
                "by this box, of a log it watches",
                &self.watched_leaves,
                &self.watched_seconds,
            ),
        ] {
            r.register(
                format!("{name}_cosigned_leaves"),
                format!("Leaves cosigned last {help}"),
                leaves.clone(),
            );
            r.register_with_unit(
                format!("{name}_cosigned_timestamp"),
                format!("When leaves were cosigned last {help}"),
                Unit::Seconds,
                seconds.clone(),
            );
        }
        r.register_with_unit(
            "token_signature",
            "What a signature takes, by key",
            Unit::Seconds,
            self.signature_seconds.clone(),
        );
        for (name, help, family) in [
            ("token_signed", "Signatures, by class", &self.token_signed),
            ("token_unsigned", "Given back without a signature, by class", &self.token_unsigned),
            ("token_waiting", "Waiting for the token, by class", &self.token_waiting),
        ] {
            r.register(name, help, family.clone());
        }
        r.register_with_unit(
            "token_wait",
            "How long signatures wait for their turn, by class",
            Unit::Seconds,
            self.token_wait_seconds.clone(),
        );
        r.register_with_unit(
            "crl_next_update_timestamp",
            "When the newest CRL ends",
            Unit::Seconds,
            self.crl_next_update.clone(),
        );
        r.register_with_unit(
            "tls_not_after_timestamp",
            "When the server's own certificate ends",
            Unit::Seconds,
            self.tls_not_after.clone(),
        );
        self.registry = registry;
        self
    }

    /// A limit was exceeded.
    pub(crate) fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&Limit { limit }).inc();
    }

    /// So many have a turn that is still to come.
    pub(crate) fn waiting(&self, devices: usize) {
        self.admissions_waiting.set(i64::try_from(devices).unwrap_or(i64::MAX));
    }

    pub(crate) fn answered(&self, flow: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&Answered { flow, status }).inc();
        self.durations.get_or_create(&Flow { flow }).observe(took.as_secs_f64());
    }

    pub(crate) fn problem(&self, kind: ProblemType) {
        let urn = kind.urn();
        let r#type = urn.rsplit(':').next().unwrap_or(urn);
        self.problems.get_or_create(&Kind { r#type }).inc();
    }

    /// `step` is `created`, `finalized`, `issued` or `failed`.
    pub(crate) fn order(&self, step: &'static str) {
        self.orders.get_or_create(&Step { step }).inc();
    }

    /// `step` is `matched` or `failed`.
    pub(crate) fn validation(&self, step: &'static str) {
        self.validations.get_or_create(&Step { step }).inc();
    }

    pub(crate) fn issuance(&self, took: Duration) {
        self.issuance.observe(took.as_secs_f64());
    }

    /// What the issuer said just now, or that it said nothing.
    pub(crate) fn health(&self, health: Option<&Health>) {
        self.issuer_up.set(i64::from(health.is_some()));
        self.issuer_ready.set(i64::from(health.is_some_and(|health| health.ready)));
        let Some(health) = health else { return };
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.issued.set(count(health.issued));
        self.log_size.set(count(health.log_size));
        self.checkpoint_size.set(count(health.checkpoint_size));
        // A new issuer has not counted what the one before it did.
        self.issuer_counts.clear();
        for (name, value) in &health.counters {
            self.issuer_counts.get_or_create(&Named { name: name.clone() }).set(count(*value));
        }
        for (watches, leaves, seconds) in [
            (&health.witnesses, &self.witness_leaves, &self.witness_seconds),
            (&health.watched, &self.watched_leaves, &self.watched_seconds),
        ] {
            for watch in watches {
                let named = Named { name: watch.name.clone() };
                leaves.get_or_create(&named).set(count(watch.size));
                seconds.get_or_create(&named).set(watch.at.unix_seconds() as f64);
            }
        }
        let seconds = |micros: u64| micros as f64 / 1e6;
        for pace in &health.keys {
            let named = Named { name: pace.key.clone() };
            self.signature_seconds.get_or_create(&named).set(seconds(pace.micros));
        }
        for queue in &health.queues {
            let named = Named { name: queue.class.clone() };
            self.token_signed.get_or_create(&named).set(count(queue.signed));
            self.token_unsigned.get_or_create(&named).set(count(queue.unsigned));
            self.token_waiting.get_or_create(&named).set(count(queue.waiting));
            self.token_wait_seconds.get_or_create(&named).set(seconds(queue.waited_micros));
        }
        self.crl_next_update.set(health.crl_next_update.unix_seconds() as f64);
        self.tls_not_after.set(health.tls_not_after.unix_seconds() as f64);
    }

    /// The exposition in OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// The media type of `text`.
    pub(crate) const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::message::{ClassQueue, KeyPace};

    #[test]
    fn the_exposition_names_what_was_counted() {
        let metrics = Metrics::new();
        metrics.answered("new-order", 201, Duration::from_millis(3));
        metrics.problem(ProblemType::BadNonce);
        metrics.order("created");
        metrics.health(Some(&Health {
            keys: vec![KeyPace { key: "issuing".into(), micros: 70_500 }],
            queues: vec![ClassQueue {
                class: "tls".into(),
                signed: 7,
                unsigned: 1,
                waiting: 3,
                waited_micros: 250_000,
            }],
            ..Health::default()
        }));
        metrics.health(None);
        let text = metrics.text();
        for line in [
            "chancery_requests_total{flow=\"new-order\",status=\"201\"} 1",
            "chancery_request_duration_seconds_count{flow=\"new-order\"} 1",
            "chancery_problems_total{type=\"badNonce\"} 1",
            "chancery_orders_total{step=\"created\"} 1",
            "chancery_issuer_up 0",
            "chancery_token_signature_seconds{name=\"issuing\"} 0.0705",
            "chancery_token_signed{name=\"tls\"} 7",
            "chancery_token_unsigned{name=\"tls\"} 1",
            "chancery_token_waiting{name=\"tls\"} 3",
            "chancery_token_wait_seconds{name=\"tls\"} 0.25",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
