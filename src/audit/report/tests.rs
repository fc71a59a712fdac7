//! Every form of one report, byte for byte, and what belongs to a period.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::audit::bench::{Bench, DIR, NOW, SHARD, account, operator, serial};
use crate::env::simulated::SimulatedDisk;
use crate::id::LeafIndex;
use crate::log::record::{
    AccountRegisteredV2, ClockAcceptedV1, RecallV1, RefusalV1, RefusedV1, TicketMintedV1,
    ValidationV1,
};

fn records(bench: &Bench) -> Vec<Record> {
    let mut records = bench.records();
    let Record::IntentV1(intent) = records[2].clone() else { panic!() };
    let at = |seconds: u64| Timestamp(NOW + seconds * 1000);
    let refusal = |why: &str, account, count| RefusalV1 {
        asked: "finalize".into(),
        why: why.into(),
        account,
        count,
    };
    records.extend([
        Record::TicketMintedV1(TicketMintedV1 {
            at: at(10),
            ticket: "=cmd|' /C calc'!A0".into(),
            uses: 1,
            expires: at(1000),
            constraints_sha256: [0; 32],
            by: operator(),
        }),
        Record::AccountRegisteredV2(AccountRegisteredV2 {
            at: at(11),
            account: account(2),
            jwk: "{\"x\":1}".into(),
            ticket: Some("=cmd|' /C calc'!A0".into()),
        }),
        Record::RecallV1(RecallV1 {
            at: at(12),
            profile: Some("server".into()),
            serial: None,
            issued_from: None,
            issued_until: at(12),
            start: at(12),
            end: at(99),
            explanation: Some("https://ca.lan/\"><script>alert(1)</script>".into()),
            by: operator(),
        }),
        Record::RevokedV1(bench.revoked(&intent, 2, NOW + 86_400_000)),
        Record::ClockAcceptedV1(ClockAcceptedV1 { at: at(86_401), floor: at(86_400) }),
        Record::RefusedV1(RefusedV1 {
            at: at(86_402),
            from: at(0),
            until: at(86_402),
            refusals: vec![
                refusal("unauthorized", Some(account(2)), 5),
                refusal("malformed", None, 2),
            ],
        }),
    ]);
    records
}

fn report(disk: &SimulatedDisk, request: &Request<'_>) -> String {
    let reader = Reader::open(Arc::new(disk.clone()), DIR.as_ref()).unwrap();
    let mut out = Vec::new();
    write(&reader, request, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn place(serial: Serial) -> String {
    format!("https://ca.lan/proof/{serial}.tlog-proof")
}

fn request(form: Form) -> Request<'static> {
    let period = Period { since: Timestamp(0), until: Timestamp(NOW + 10 * 86_400_000) };
    Request {
        period,
        form,
        proof: Some(&place),
        places: None,
        made: Timestamp(NOW + 86_500_000),
        verdict: None,
    }
}

#[test]
fn golden_reports() {
    let bench = Bench::new();
    let records = records(&bench);
    let disk = bench.disk(&records, records.len());
    let verdict = Verdict {
        notes: vec!["a note with <b>markup</b>".into()],
        origin: "ca.lan/log".into(),
        ..Verdict::default()
    };
    for (form, name) in [
        (Form::Table, "table.txt"),
        (Form::Csv, "rows-2.csv"),
        (Form::Json, "report.json"),
        (Form::Page, "page-2.html"),
    ] {
        let request = Request { verdict: Some(&verdict), ..request(form) };
        let text = report(&disk, &request);
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/audit").join(name);
        if std::env::var_os("BLESS").is_some() && !golden.exists() {
            std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
            std::fs::write(&golden, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&golden).unwrap(), text, "{name}");
        match form {
            Form::Json => drop(serde_json::from_str::<serde_json::Value>(&text).unwrap()),
            Form::Page => {
                // Nothing to run, nothing to load.
                for forbidden in ["<script", "<b>", "src=", "href=", "url(", "@import"] {
                    assert!(!text.contains(forbidden), "{forbidden}");
                }
            }
            Form::Csv => assert!(text.lines().count() > 10 && text.ends_with("\r\n")),
            Form::Table => {}
        }
    }
}

#[test]
fn a_period_begins_with_its_first_instant_and_ends_before_its_last() {
    let bench = Bench::new();
    let records = records(&bench);
    let disk = bench.disk_of(&[&records[..4], &records[4..9], &records[9..]], records.len());
    let leaves = |since: u64, until: u64| -> Vec<u64> {
        let period = Period { since: Timestamp(since), until: Timestamp(until) };
        let text = report(&disk, &Request { period, ..request(Form::Csv) });
        text.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(leaves(0, u64::MAX / 2), [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert_eq!(leaves(NOW + 10_000, NOW + 12_000), [8, 9]);
    assert_eq!(leaves(NOW + 86_400_000, NOW + 86_401_000), [11]);
    assert_eq!(leaves(NOW + 86_403_000, u64::MAX / 2), [0; 0]);
    // A revocation names what was issued long before its period.
    let period = Period { since: Timestamp(NOW + 86_400_000), until: Timestamp(NOW + 86_401_000) };
    let text = report(&disk, &Request { period, ..request(Form::Csv) });
    assert!(text.contains("printer.lan,server"), "{text}");
}

/// How each name was proven, in every form; and an index spares looking for intents.
#[test]
fn certificates_say_how_their_names_were_proven() {
    let bench = Bench::new();
    let mut records = records(&bench);
    let at = Timestamp(NOW - 1_000);
    let proven = |identifier: &str, method: &str| ValidationV1 {
        identifier: identifier.into(),
        method: method.into(),
        at,
    };
    let Record::IntentV1(intent) = &mut records[2] else { panic!() };
    intent.validations = vec![proven("printer.lan", "http-01"), proven("10.0.0.1", "http-01")];
    let Record::IntentV1(intent) = &mut records[3] else { panic!() };
    intent.validations = vec![proven("camera.lan", "dns-01"), proven("10.0.0.2", "http-01")];
    let disk = bench.disk(&records, records.len());
    let (each, all) = ("camera.lan dns-01, 10.0.0.2 http-01", "http-01");
    let table = report(&disk, &request(Form::Table));
    assert_eq!(table.matches("  proven by http-01  ").count(), 2, "{table}");
    assert!(table.contains(&format!("  proven by {each}  ")), "{table}");
    let csv = report(&disk, &request(Form::Csv));
    assert!(csv.contains(&format!(",\"{each}\"\r\n")) && csv.contains(&format!(",{all}\r\n")));
    let page = report(&disk, &request(Form::Page));
    assert_eq!(page.matches(&format!("<td class=\"t\">{all}</td>")).count(), 2, "{page}");
    let json: serde_json::Value =
        serde_json::from_str(&report(&disk, &request(Form::Json))).unwrap();
    let expected = serde_json::json!(
        {"identifier": "10.0.0.1", "method": "http-01", "at": at.to_string()}
    );
    assert_eq!(json["records"][2]["validations"][1], expected);

    // The place that an index tells is believed where an intent of that serial is there, and only there.
    let reader = Reader::open(Arc::new(disk.clone()), DIR.as_ref()).unwrap();
    let first = reader.entries(LeafIndex(2)).next().unwrap().unwrap().octet;
    let second = reader.entries(LeafIndex(3)).next().unwrap().unwrap().octet;
    let whole = report(&disk, &request(Form::Csv));
    for (octet, expected) in [(first, true), (first + 1, true), (second, false)] {
        let asked = std::cell::Cell::new(0);
        let places = |intents: &[(Serial, LeafIndex)]| {
            asked.set(intents.len());
            assert_eq!(intents, [(serial(3), LeafIndex(2))]);
            Places::from([(LeafIndex(2), octet - crate::log::segment::HEADER)])
        };
        let told = report(&disk, &Request { places: Some(&places), ..request(Form::Csv) });
        assert_eq!((told == whole, asked.get()), (expected, 1), "octet {octet}");
    }
}

#[test]
fn counts_are_by_day_profile_account_and_reason() {
    let bench = Bench::new();
    let records = records(&bench);
    let disk = bench.disk(&records, records.len());
    let text = report(&disk, &request(Form::Json));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let summary = &report["summary"];
    let tally = |issued: u64, abandoned: u64, revoked: u64, refused: u64| {
        serde_json::json!({
            "issued": issued, "abandoned": abandoned, "revoked": revoked, "refused": refused,
        })
    };
    assert_eq!(summary["total"], tally(1, 1, 1, 7));
    assert_eq!(summary["days"]["2027-01-15"], tally(1, 1, 0, 0));
    assert_eq!(summary["days"]["2027-01-16"], tally(0, 0, 1, 7));
    assert_eq!(summary["profiles"]["server"], tally(1, 1, 1, 0));
    assert_eq!(summary["accounts"][account(1).to_string()], tally(1, 1, 1, 0));
    assert_eq!(summary["accounts"][account(2).to_string()], tally(0, 0, 0, 5));
    assert_eq!(summary["refusals"]["finalize unauthorized"], 5);
    assert_eq!(summary["crls"][SHARD], serde_json::json!({"made": 2, "number": 2}));
    assert_eq!(summary["kinds"]["issued"], 1);
    let issued = &report["records"][2];
    assert_eq!(issued["names"][0], "printer.lan");
    assert_eq!(issued["proof"], place(serial(3)));
    assert_eq!(report["records"][6]["actor"], "operator root (uid 0)");
}

#[test]
fn a_bad_record_is_a_row_and_a_broken_log_an_error() {
    let bench = Bench::new();
    let records = records(&bench);
    let disk = bench.disk_of(&[&records[..4], &records[4..]], records.len());
    let segment = Path::new(DIR).join(crate::log::segment::file_name(0));
    crate::env::Disk::open(&disk, &segment).unwrap().write_at(200, &[0xff]).unwrap();
    let reader = Reader::open(Arc::new(disk), DIR.as_ref()).unwrap();
    let broken = write(&reader, &request(Form::Csv), &mut Vec::new());
    assert!(matches!(broken, Err(ReportError::Log(_))));
    let entry = Entry {
        leaf: LeafIndex(7),
        segment: String::new(),
        octet: 0,
        payload: vec![0xff],
        record: Record::decode(&[0xff]),
    };
    let places = Places::new();
    let row = Rows::new(&reader, None, &places).row(entry).unwrap().unwrap();
    assert_eq!((row.kind, row.at), ("unknown", None));
}
