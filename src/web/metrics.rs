//! What is measured and counted, for Prometheus: `/metrics`.
//!
//! Names begin with `chancery_` and follow OpenMetrics: base units, counters end in `_total`. A label has few values, and
//! all of them are words of this program, of the configuration or of a ceremony: never a device's name, an account, a
//! serial or an address. What the issuer measured is shown as it said it last; while it is away it is left out.

mod issuer;
mod own;
mod text;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::issuer::IssuerSaid;
use self::own::Own;
use super::listen::Door;
use crate::acme::challenge::ChallengeType;
use crate::acme::problem::ProblemType;
use crate::id::Timestamp;
use crate::ipc::message::Health;

/// The counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Flow, Histogram, Buckets>,
    errors: Family<Kind, Counter>,
    orders: Family<Event, Counter>,
    validations: Family<Attempt, Counter>,
    limited: Family<Limit, Counter>,
    admissions_waiting: Gauge,
    issuance: Histogram,
    connections: Family<At, Counter>,
    connections_open: Family<At, Gauge>,
    connections_refused: Family<At, Counter>,
    pub(crate) handshake_failures: Counter,
    pub(crate) validations_active: Gauge,
    pub(crate) issuances_active: Gauge,
    wrong: Family<Code, Gauge>,
    own: Arc<Own>,
    issuer: Arc<IssuerSaid>,
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
struct Event {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct At {
    door: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: String,
}

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0])
    }
}

/// A connection that is open as long as this lives.
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What stands in /metrics beside what was counted, found when it is asked for.
#[derive(Default)]
pub(crate) struct Scrape {
    pub(crate) health: Option<Box<Health>>,
    /// Codes of what is wrong, the issuer's and this process's.
    pub(crate) wrong: Vec<String>,
    /// Devices that have been given a turn.
    pub(crate) waiting: usize,
    /// Octets of the store's file, and octets free on its disk.
    pub(crate) store: Option<(u64, u64)>,
    /// When the last good backup was made.
    pub(crate) backup: Option<Timestamp>,
}

impl Metrics {
    pub(crate) fn new(started: Timestamp) -> Self {
        let metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(Buckets),
            errors: Family::default(),
            orders: Family::default(),
            validations: Family::default(),
            limited: Family::default(),
            admissions_waiting: Gauge::default(),
            issuance: Buckets.new_metric(),
            connections: Family::default(),
            connections_open: Family::default(),
            connections_refused: Family::default(),
            handshake_failures: Counter::default(),
            validations_active: Gauge::default(),
            issuances_active: Gauge::default(),
            wrong: Family::default(),
            own: Arc::new(Own::new(started)),
            issuer: Arc::default(),
        };
        metrics.begin();
        metrics.registered()
    }

    /// What is counted from the start, so that the first of each is seen as an increase.
    fn begin(&self) {
        for event in ["created", "finalized", "issued", "failed"] {
            drop(self.orders.get_or_create(&Event { event }));
        }
        for method in ChallengeType::VALIDATED {
            for outcome in [MATCHED, FAILED] {
                drop(self.validations.get_or_create(&Attempt { method: method.name(), outcome }));
            }
        }
        for door in [Door::Https, Door::Http, Door::Metrics] {
            let at = At { door: door.name() };
            drop(self.connections.get_or_create(&at));
            drop(self.connections_open.get_or_create(&at));
            drop(self.connections_refused.get_or_create(&at));
        }
    }

    fn registered(mut self) -> Self {
        let mut registry = Registry::with_prefix("chancery");
        let r = &mut registry;
        r.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        r.register("requests", "Answered requests by flow and status", self.requests.clone());
        r.register_with_unit(
            "request_duration",
            "From the whole header to the answer, by flow",
            Unit::Seconds,
            self.durations.clone(),
        );
        r.register(
            "acme_errors",
            "Problem documents to clients (RFC 8555 section 6.7), by type",
            self.errors.clone(),
        );
        r.register("orders", "Orders by what became of them", self.orders.clone());
        r.register(
            "validations",
            "Validation attempts by method and outcome",
            self.validations.clone(),
        );
        r.register("rate_limited", "Requests answered with 429, by limit", self.limited.clone());
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
        r.register("connections", "Accepted connections, by door", self.connections.clone());
        r.register("connections_open", "Connections now, by door", self.connections_open.clone());
        r.register(
            "connections_refused",
            "Connections closed because their peer had as many as it may, by door",
            self.connections_refused.clone(),
        );
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
        r.register(
            "problem",
            "1 while chancery status and /readyz name this code; chancery why CODE explains it",
            self.wrong.clone(),
        );
        r.register_collector(Box::new(Arc::clone(&self.own)));
        r.register_collector(Box::new(Arc::clone(&self.issuer)));
        self.registry = registry;
        self
    }

    /// A limit was exceeded.
    pub(crate) fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&Limit { limit }).inc();
    }

    pub(crate) fn answered(&self, flow: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&Answered { flow, status }).inc();
        self.durations.get_or_create(&Flow { flow }).observe(took.as_secs_f64());
    }

    pub(crate) fn problem(&self, kind: ProblemType) {
        let urn = kind.urn();
        let r#type = urn.rsplit(':').next().unwrap_or(urn);
        self.errors.get_or_create(&Kind { r#type }).inc();
    }

    /// `event` is `created`, `finalized`, `issued` or `failed`.
    pub(crate) fn order(&self, event: &'static str) {
        self.orders.get_or_create(&Event { event }).inc();
    }

    /// One attempt.
    pub(crate) fn validation(&self, method: ChallengeType, matched: bool) {
        let outcome = if matched { MATCHED } else { FAILED };
        self.validations.get_or_create(&Attempt { method: method.name(), outcome }).inc();
    }

    pub(crate) fn issuance(&self, took: Duration) {
        self.issuance.observe(took.as_secs_f64());
    }

    /// A connection was accepted; it is open until the value is dropped.
    pub(crate) fn connected(&self, door: Door) -> OpenConnection {
        let at = At { door: door.name() };
        self.connections.get_or_create(&at).inc();
        let open = self.connections_open.get_or_create(&at).clone();
        open.inc();
        OpenConnection(open)
    }

    /// A peer has as many connections as it may.
    pub(crate) fn turned_away(&self, door: Door) {
        self.connections_refused.get_or_create(&At { door: door.name() }).inc();
    }

    /// The exposition in OpenMetrics text.
    pub(crate) fn text(&self, scrape: Scrape) -> String {
        self.admissions_waiting.set(i64::try_from(scrape.waiting).unwrap_or(i64::MAX));
        self.own.said(scrape.store, scrape.backup);
        // What is over is no longer shown.
        self.wrong.clear();
        for code in scrape.wrong {
            self.wrong.get_or_create(&Code { code }).set(1);
        }
        self.issuer.said(scrape.health);
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// The media type of `text`.
    pub(crate) const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

const MATCHED: &str = "matched";
const FAILED: &str = "failed";

#[cfg(test)]
mod tests;
