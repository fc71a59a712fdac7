//! What the issuer said of itself.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::text::{Labels, Writer, alone};
use crate::id::Timestamp;
use crate::ipc::figures::{CrlAge, LogFigures, Process};
use crate::ipc::message::Health;
use crate::ipc::witness::Watch;

/// The newest health, or that there is none.
#[derive(Debug, Default)]
pub(super) struct IssuerSaid(Mutex<Option<Box<Health>>>);

impl IssuerSaid {
    pub(super) fn said(&self, health: Option<Box<Health>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

impl Collector for IssuerSaid {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let health = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Writer(encoder);
        let up = f64::from(u8::from(health.is_some()));
        let ready = f64::from(u8::from(health.as_ref().is_some_and(|health| health.ready)));
        out.gauges(("issuer_up", "Whether the issuer answers.", None), alone(up))?;
        out.gauges(("issuer_ready", "Whether the issuer would issue.", None), alone(ready))?;
        let Some(health) = &*health else { return Ok(()) };
        events(&mut out, health)?;
        log(&mut out, health)?;
        certificates(&mut out, health)?;
        crls(&mut out, &health.figures.crls)?;
        token(&mut out, health)?;
        token_troubles(&mut out, &health.counters)?;
        clock(&mut out, health)?;
        watches(
            &mut out,
            ["witness_cosigned", "by a witness of this log"],
            "witness",
            &health.witnesses,
        )?;
        watches(
            &mut out,
            ["watched_cosigned", "by this box, of a log it watches"],
            "log",
            &health.watched,
        )
    }
}

fn events(out: &mut Writer<'_>, health: &Health) -> fmt::Result {
    // What begins so has a metric of its own.
    let events = health.counters.iter().filter(|(name, _)| !name.starts_with(TOKEN));
    out.counters(
        ("issuer_events", "What the issuer has done since it started.", None),
        events.map(|(name, count)| (vec![("event", name.as_str())], *count as f64)).collect(),
    )
}

fn log(out: &mut Writer<'_>, health: &Health) -> fmt::Result {
    let LogFigures { octets, segments, reserve, syncs, checkpointed, index, free } =
        &health.figures.log;
    out.gauges(
        ("log_leaves", "Records of the log, which are leaves of its tree.", None),
        alone(health.log_size as f64),
    )?;
    out.gauges(
        ("log_checkpoint_leaves", "Leaves that the newest checkpoint covers.", None),
        alone(health.checkpoint_size as f64),
    )?;
    out.gauges(
        ("log_size", "Records of the log, framed.", Some(Unit::Bytes)),
        alone(*octets as f64),
    )?;
    out.gauges(("log_segments", "Files that the log lies in.", None), alone(*segments as f64))?;
    out.gauges(
        (
            "log_reserve",
            "1: revocations and CRLs have room of their own on a full disk; 0: the disk is full, and it is in use or missing.",
            None,
        ),
        alone(f64::from(u8::from(*reserve))),
    )?;
    out.gauges(("log_index_size", "The log's index.", Some(Unit::Bytes)), alone(*index as f64))?;
    let free = free.map(|free| (Labels::new(), free as f64));
    out.gauges(
        ("log_free", "Free on the log's disk.", Some(Unit::Bytes)),
        free.into_iter().collect(),
    )?;
    out.histograms(
        "log_sync_duration",
        "What making records durable took (fdatasync).",
        alone(syncs),
    )?;
    out.gauges(
        at("log_checkpoint", "When the newest checkpoint was signed, or later."),
        instant(Labels::new(), *checkpointed).into_iter().collect(),
    )
}

fn certificates(out: &mut Writer<'_>, health: &Health) -> fmt::Result {
    let figures = &health.figures;
    let days: Vec<(String, u64)> =
        figures.ending.iter().map(|end| (end.days.to_string(), end.certificates)).collect();
    out.gauges(
        (
            "certificates_ending",
            "Certificates, neither revoked nor abandoned, that end from today on within so many days more; to whole days (UTC).",
            None,
        ),
        days.iter().map(|(days, count)| (vec![("days", days.as_str())], *count as f64)).collect(),
    )?;
    let kind = |is_root: bool| if is_root { "root" } else { "issuing" };
    let authorities = figures.authorities.iter();
    out.gauges(
        at("ca_not_after", "When the certificate of a root or an issuing CA ends."),
        authorities
            .filter_map(|ca| {
                let active = if ca.active { "true" } else { "false" };
                let labels =
                    vec![("ca", ca.name.as_str()), ("kind", kind(ca.is_root)), ("active", active)];
                instant(labels, ca.not_after)
            })
            .collect(),
    )?;
    out.gauges(
        at("tls_not_after", "When the certificate ends that this box has for itself."),
        instant(Labels::new(), health.tls_not_after).into_iter().collect(),
    )
}

fn crls(out: &mut Writer<'_>, crls: &[CrlAge]) -> fmt::Result {
    fn labels(crl: &CrlAge) -> Labels<'_> {
        let kind = if crl.is_root { "root" } else { "issuing" };
        vec![("ca", crl.issuer.as_str()), ("kind", kind)]
    }
    // Missing is 0, which is long ago: it must not be mistaken for a CA without CRLs.
    let all = |of: fn(&CrlAge) -> Timestamp| -> Vec<_> {
        crls.iter().map(|crl| (labels(crl), of(crl).unix_seconds() as f64)).collect()
    };
    out.gauges(
        at("crl_this_update", "When the oldest CRL of a CA was made; 0 while one is missing."),
        all(|crl| crl.this_update),
    )?;
    out.gauges(
        at("crl_next_update", "When the first CRL of a CA ends; 0 while one is missing."),
        all(|crl| crl.next_update),
    )?;
    out.gauges(
        ("crl_files", "CRLs of a CA that are published: the complete one and the shards.", None),
        crls.iter().map(|crl| (labels(crl), crl.count as f64)).collect(),
    )
}

fn token(out: &mut Writer<'_>, health: &Health) -> fmt::Result {
    let figures = &health.figures;
    let state =
        |name: &'static str| (vec![("state", name)], f64::from(u8::from(figures.token == name)));
    out.gauges(
        ("token_state", "1 for the state that the token is in.", None),
        STATES.map(state).to_vec(),
    )?;
    let keys = figures.keys.iter();
    out.gauges(
        (
            "token_key_signs",
            "Whether the token signs with a key: 0 while it is away, or the key is quarantined.",
            None,
        ),
        keys.map(|(key, signs)| (vec![("key", key.as_str())], f64::from(u8::from(*signs))))
            .collect(),
    )?;
    out.histograms(
        "token_signature_duration",
        "What a signature took with its verification, by key.",
        health.keys.iter().map(|pace| (vec![("key", pace.key.as_str())], &pace.took)).collect(),
    )?;
    let queues = || {
        health
            .queues
            .iter()
            .map(|queue| -> (Labels<'_>, _) { (vec![("class", queue.class.as_str())], queue) })
    };
    out.counters(
        ("token_signatures", "Signatures, by class.", None),
        queues().map(|(labels, queue)| (labels, queue.signed as f64)).collect(),
    )?;
    out.counters(
        ("token_unsigned", "Given back without a signature, by class.", None),
        queues().map(|(labels, queue)| (labels, queue.unsigned as f64)).collect(),
    )?;
    out.gauges(
        ("token_waiting", "Waiting for the token, by class.", None),
        queues().map(|(labels, queue)| (labels, queue.waiting as f64)).collect(),
    )?;
    out.histograms(
        "token_wait_duration",
        "How long signatures waited for their turn, by class.",
        queues().map(|(labels, queue)| (labels, &queue.waits)).collect(),
    )
}

/// From the counters that are about the token.
fn token_troubles(out: &mut Writer<'_>, counters: &[(String, u64)]) -> fmt::Result {
    let count =
        |name: &str| counters.iter().find(|(n, _)| n == name).map_or(0, |(_, count)| *count);
    let by_code = counters
        .iter()
        .filter_map(|(name, count)| Some((name.strip_prefix("token_recovered/")?, *count)));
    out.counters(
        (
            "token_recoveries",
            "Times the token was brought up again, by the code of what was wrong.",
            None,
        ),
        by_code.map(|(code, count)| (vec![("code", code)], count as f64)).collect(),
    )?;
    out.counters(
        ("token_recovering", "Time without a token that signs.", Some(Unit::Seconds)),
        alone(count("token_recovering_ms") as f64 / 1e3),
    )?;
    out.counters(
        ("token_wrong_signatures", "Signatures that did not verify and were thrown away.", None),
        alone(count("token_wrong_signatures") as f64),
    )
}

fn clock(out: &mut Writer<'_>, health: &Health) -> fmt::Result {
    let clock = &health.figures.clock;
    out.gauges(
        ("clock_believed", "Whether the issuer believes the clock.", None),
        alone(f64::from(u8::from(clock.believed))),
    )?;
    out.gauges(
        at("clock", "What the issuer's clock shows."),
        instant(Labels::new(), clock.now).into_iter().collect(),
    )?;
    out.gauges(
        at("clock_floor", "Below this nothing is signed."),
        instant(Labels::new(), clock.floor).into_iter().collect(),
    )?;
    out.gauges(
        at("issuer_started", "When the issuer started."),
        instant(Labels::new(), health.started).into_iter().collect(),
    )?;
    used(out, "issuer", &health.figures.process)
}

fn watches(
    out: &mut Writer<'_>,
    [name, help]: [&str; 2],
    label: &'static str,
    watches: &[Watch],
) -> fmt::Result {
    let all = |of: fn(&Watch) -> f64| -> Vec<_> {
        watches.iter().map(|watch| (vec![(label, watch.name.as_str())], of(watch))).collect()
    };
    out.gauges(
        (&format!("{name}_leaves"), &format!("Leaves cosigned last {help}."), None),
        all(|watch| watch.size as f64),
    )?;
    out.gauges(
        at(name, &format!("When leaves were cosigned last {help}; 0: not since the start.")),
        all(|watch| watch.at.unix_seconds() as f64),
    )
}

/// The usual figures of a process, under names that say which: a scrape is of both.
pub(super) fn used(out: &mut Writer<'_>, which: &str, process: &Process) -> fmt::Result {
    let Process { resident, cpu_centiseconds, threads, files, most_files } = process;
    out.gauges(
        (&format!("{which}_resident_memory"), "Memory in RAM.", Some(Unit::Bytes)),
        alone(*resident as f64),
    )?;
    out.counters(
        (&format!("{which}_cpu"), "Processor time, user and system.", Some(Unit::Seconds)),
        alone(*cpu_centiseconds as f64 / 1e2),
    )?;
    out.gauges((&format!("{which}_threads"), "Threads.", None), alone(*threads as f64))?;
    out.gauges(
        (&format!("{which}_open_fds"), "Open file descriptors.", None),
        alone(*files as f64),
    )?;
    out.gauges(
        (&format!("{which}_max_fds"), "File descriptors there may be.", None),
        alone(*most_files as f64),
    )
}

/// An instant; the unit is seconds since 1970-01-01.
pub(super) fn at<'a>(name: &str, help: &'a str) -> (String, &'a str, Option<Unit>) {
    (format!("{name}_timestamp"), help, Some(Unit::Seconds))
}

/// Left out where it is not known.
pub(super) fn instant(labels: Labels<'_>, at: Timestamp) -> Option<(Labels<'_>, f64)> {
    (at != Timestamp(0)).then(|| (labels, at.unix_seconds() as f64))
}

const TOKEN: &str = "token_";
const STATES: [&str; 6] = ["starting", "ready", "recovering", "stopped", "degraded", "halted"];
