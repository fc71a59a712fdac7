//! The exposition as a whole: names, what is counted, what comes and goes.

use super::*;
use crate::ipc::figures::{Authority, CrlAge, Ending, Figures, LogFigures, Spread};
use crate::ipc::message::{ClassQueue, KeyPace};
use crate::ipc::witness::Watch;

fn health() -> Health {
    let mut spread = Spread { counts: vec![0; 19], micros: 70_500 };
    spread.counts[0] = 2;
    spread.counts[18] = 1;
    Health {
        ready: true,
        log_size: 17,
        checkpoint_size: 16,
        tls_not_after: Timestamp(1_900_000_000_000),
        counters: vec![
            ("issued".into(), 5),
            ("token_recoveries".into(), 3),
            ("token_recovering_ms".into(), 1250),
            ("token_wrong_signatures".into(), 1),
            ("token_recovered/CHY-TOKEN-SESSION".into(), 2),
        ],
        witnesses: vec![Watch {
            name: "w.test".into(),
            size: 9,
            at: Timestamp(1_800_000_000_000),
            ..Watch::default()
        }],
        keys: vec![KeyPace { key: "issuing".into(), took: spread.clone() }],
        queues: vec![ClassQueue {
            class: "tls".into(),
            signed: 7,
            unsigned: 1,
            waiting: 3,
            waits: Spread::default(),
        }],
        figures: Figures {
            authorities: vec![Authority {
                name: "root".into(),
                is_root: true,
                active: true,
                not_after: Timestamp(2_000_000_000_000),
            }],
            crls: vec![CrlAge {
                issuer: "issuing".into(),
                is_root: false,
                this_update: Timestamp(0),
                next_update: Timestamp(0),
                count: 0,
            }],
            log: LogFigures { octets: 4096, reserve: true, syncs: spread, ..Default::default() },
            token: "degraded".into(),
            keys: vec![("issuing".into(), false)],
            ending: vec![Ending { days: 7, certificates: 4 }],
            ..Figures::default()
        },
        ..Health::default()
    }
}

#[test]
fn the_exposition_names_what_was_counted() {
    let metrics = Metrics::new(Timestamp(1_700_000_000_000));
    metrics.answered("new-order", 201, Duration::from_millis(3));
    metrics.problem(ProblemType::BadNonce);
    metrics.order("created");
    metrics.validation(ChallengeType::Dns01, true);
    metrics.limited("orders-per-account");
    metrics.turned_away(Door::Http);
    let open = metrics.connected(Door::Https);
    let text = metrics.text(Scrape {
        health: Some(Box::new(health())),
        wrong: vec!["CHY-ROOT-CRL".into()],
        waiting: 6,
        store: Some((1, 2)),
        backup: Some(Timestamp(1_750_000_000_000)),
    });
    for line in [
        concat!("chancery_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "chancery_requests_total{flow=\"new-order\",status=\"201\"} 1",
        "chancery_request_duration_seconds_count{flow=\"new-order\"} 1",
        "chancery_acme_errors_total{type=\"badNonce\"} 1",
        "chancery_orders_total{event=\"created\"} 1",
        "chancery_orders_total{event=\"failed\"} 0",
        "chancery_validations_total{method=\"dns-01\",outcome=\"matched\"} 1",
        "chancery_validations_total{method=\"tls-alpn-01\",outcome=\"failed\"} 0",
        "chancery_rate_limited_total{limit=\"orders-per-account\"} 1",
        "chancery_admissions_waiting 6",
        "chancery_connections_total{door=\"https\"} 1",
        "chancery_connections_open{door=\"https\"} 1",
        "chancery_connections_refused_total{door=\"http\"} 1",
        "chancery_problem{code=\"CHY-ROOT-CRL\"} 1",
        "chancery_store_size_bytes 1.0",
        "chancery_store_free_bytes 2.0",
        "chancery_backup_last_success_timestamp_seconds 1750000000.0",
        "chancery_web_started_timestamp_seconds 1700000000.0",
        "chancery_issuer_up 1.0",
        "chancery_issuer_ready 1.0",
        "chancery_issuer_events_total{event=\"issued\"} 5.0",
        "chancery_log_leaves 17.0",
        "chancery_log_checkpoint_leaves 16.0",
        "chancery_log_size_bytes 4096.0",
        "chancery_log_reserve 1.0",
        "chancery_log_sync_duration_seconds_sum 0.0705",
        "chancery_log_sync_duration_seconds_count 3",
        "chancery_log_sync_duration_seconds_bucket{le=\"0.0001\"} 2",
        "chancery_log_sync_duration_seconds_bucket{le=\"60.0\"} 2",
        "chancery_log_sync_duration_seconds_bucket{le=\"+Inf\"} 3",
        "chancery_certificates_ending{days=\"7\"} 4.0",
        "chancery_ca_not_after_timestamp_seconds{ca=\"root\",kind=\"root\",active=\"true\"} 2000000000.0",
        "chancery_tls_not_after_timestamp_seconds 1900000000.0",
        "chancery_crl_next_update_timestamp_seconds{ca=\"issuing\",kind=\"issuing\"} 0.0",
        "chancery_token_state{state=\"degraded\"} 1.0",
        "chancery_token_state{state=\"ready\"} 0.0",
        "chancery_token_key_signs{key=\"issuing\"} 0.0",
        "chancery_token_signature_duration_seconds_count{key=\"issuing\"} 3",
        "chancery_token_signature_duration_seconds_bucket{le=\"+Inf\",key=\"issuing\"} 3",
        "chancery_token_signatures_total{class=\"tls\"} 7.0",
        "chancery_token_unsigned_total{class=\"tls\"} 1.0",
        "chancery_token_waiting{class=\"tls\"} 3.0",
        "chancery_token_wait_duration_seconds_count{class=\"tls\"} 0",
        "chancery_token_recoveries_total{code=\"CHY-TOKEN-SESSION\"} 2.0",
        "chancery_token_recovering_seconds_total 1.25",
        "chancery_token_wrong_signatures_total 1.0",
        "chancery_clock_believed 0.0",
        "chancery_witness_cosigned_leaves{witness=\"w.test\"} 9.0",
        "chancery_witness_cosigned_timestamp_seconds{witness=\"w.test\"} 1800000000.0",
    ] {
        assert!(text.lines().any(|had| had == line), "{line} in {text}");
    }
    assert!(text.ends_with("# EOF\n"));

    // What is over, or not known any more, is gone.
    drop(open);
    let text = metrics.text(Scrape::default());
    for line in ["chancery_issuer_up 0.0", "chancery_connections_open{door=\"https\"} 0"] {
        assert!(text.lines().any(|had| had == line), "{line} in {text}");
    }
    for gone in ["chancery_problem{", "chancery_log_", "chancery_store_", "chancery_backup_"] {
        assert!(!text.contains(&format!("\n{gone}")), "{gone} in {text}");
    }
}

/// Names, HELP, TYPE and units, as Prometheus's own linter and OpenMetrics want them, over every family there is.
#[test]
fn the_families_keep_the_conventions() {
    let metrics = Metrics::new(Timestamp(1));
    metrics.answered("new-order", 201, Duration::from_millis(3));
    let scrape = Scrape {
        health: Some(Box::new(health())),
        wrong: vec!["CHY-ROOT-CRL".into()],
        store: Some((1, 2)),
        backup: Some(Timestamp(2_000)),
        waiting: 0,
    };
    let text = metrics.text(scrape);
    let mut seen = std::collections::BTreeSet::new();
    let mut lines = text.lines().peekable();
    let mut families = 0;
    while let Some(line) = lines.next() {
        let Some(help) = line.strip_prefix("# HELP ") else { continue };
        families += 1;
        let (name, help) = help.split_once(' ').unwrap();
        assert!(seen.insert(name.to_owned()), "{name} twice");
        assert!(name.starts_with("chancery_") && !name.contains("__"), "{name}");
        assert!(help.ends_with('.') && help.len() > 5, "{name}: {help:?}");
        let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).unwrap();
        let (of, kind) = kind.split_once(' ').unwrap();
        assert_eq!(of, name);
        assert!(!name.ends_with("_total") && !name.ends_with("_count"), "{name}");
        if let Some(unit) = lines.peek().and_then(|line| line.strip_prefix("# UNIT ")) {
            let (of, unit) = unit.split_once(' ').unwrap();
            assert!(of == name && name.ends_with(&format!("_{unit}")), "{name} in {unit}");
            assert!(["seconds", "bytes"].contains(&unit), "{unit} is no base unit");
            lines.next();
        } else {
            assert!(!name.ends_with("seconds") && !name.ends_with("bytes"), "{name} has no unit");
        }
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let rest = sample.strip_prefix(name).unwrap();
            let suffix = rest.split(['{', ' ']).next().unwrap();
            let fits = match kind {
                "counter" => suffix == "_total",
                "gauge" => suffix.is_empty(),
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                "info" => suffix == "_info",
                other => panic!("{name} is a {other}"),
            };
            assert!(fits, "{sample} of a {kind}");
        }
    }
    assert!(families > 50, "{families}");
}
