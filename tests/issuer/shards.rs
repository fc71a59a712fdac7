//! What revocation costs when much is revoked: counted in rows read, octets signed, CRLs made and records
//! appended, which no other load on the machine changes. And that OpenSSL takes what comes of it.
//!
//! `CHANCERY_REVOCATIONS` says how many certificates are revoked (default: a few hundred; `make slow`: 50,000 over
//! 128 shards).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chancery::env::Clock;
use chancery::env::system::SystemClock;
use chancery::id::{OrderId, Serial};
use chancery::ipc::message::{Answer, Question};
use chancery::pki::certificate::Certificate;
use chancery::pki::crl;

use crate::house::{Account, Csr, House, NOW, Office, eventually};
use crate::{HOUR, certificate};

/// What one revocation cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cost {
    rows: u64,
    octets: u64,
    crls: u64,
    records: u64,
}

fn totals(office: &Office) -> Cost {
    let health = office.health();
    let count = |name: &str| health.counters.iter().find(|(n, _)| n == name).unwrap().1;
    Cost {
        rows: count("crl_entries"),
        octets: count("crl_octets"),
        crls: count("crls"),
        records: office.log.head().size,
    }
}

fn revoke(office: &Office, account: &Account, device: &Certificate) {
    let question = Question::Revoke(Box::new(account.revoke(device.der(), Some(4))));
    assert_eq!(office.ask(question), Ok(Answer::Revoked));
}

fn is_listed(office: &Office, device: &Certificate) -> bool {
    let serial = device.serial().unwrap();
    office.crl_of(device).is_some_and(|crl| crl.revoked.iter().any(|e| e.serial == serial))
}

/// Waits until no CRL is made any more: what was revoked lately may still be on its way into one.
fn settled(office: &Office) -> Cost {
    let mut before = totals(office);
    eventually(|| {
        std::thread::park_timeout(Duration::from_millis(50));
        let now = totals(office);
        std::mem::replace(&mut before, now) == now
    });
    before
}

/// Revokes one shard's certificates one by one; the cost of each.
fn measured(office: &Office, account: &Account, devices: &[Certificate]) -> Vec<Cost> {
    devices
        .iter()
        .map(|device| {
            let before = settled(office);
            revoke(office, account, device);
            eventually(|| is_listed(office, device));
            // The file is in place an instant before it is counted.
            eventually(|| totals(office).crls > before.crls);
            let after = settled(office);
            Cost {
                rows: after.rows - before.rows,
                octets: after.octets - before.octets,
                crls: after.crls - before.crls,
                records: after.records - before.records,
            }
        })
        .collect()
}

#[test]
fn one_revocation_costs_the_same_at_the_first_and_at_the_last() {
    let wanted = std::env::var("CHANCERY_REVOCATIONS").ok().and_then(|n| n.parse().ok());
    let (count, shards) = match wanted {
        Some(count) if count >= 10_000 => (count, 128u16),
        Some(count) => (count, 16),
        None => (320, 16),
    };
    let dir = tempfile::tempdir().unwrap();
    let mut house = if count >= 10_000 { House::in_dir(dir.path()) } else { House::new() };
    house.settings.crl_shards = shards;
    house.settings.issuance_per_account_per_hour = 0;
    house.settings.issuance_per_hour = 0;
    house.settings.revocations_per_account_per_hour = 0;
    let running = house.start();
    let account = running.register();
    // One key for all: making keys is not what is measured.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut by_shard: BTreeMap<String, Vec<Certificate>> = BTreeMap::new();
    let clock = SystemClock::new();
    let begun = clock.monotonic();
    for n in 0..count {
        let csr = Csr::of_key(&[&format!("d{n}.lan")], &key);
        // The index goes by the end of an id.
        let mut order = [0; 16];
        order[8..].copy_from_slice(&(n as u64).to_be_bytes());
        let device = certificate(running.ask(account.finalize(OrderId(order), &csr))).0;
        by_shard.entry(device.crl_url().unwrap().to_owned()).or_default().push(device);
    }
    println!("{count} issued in {:?}", clock.monotonic() - begun);
    assert_eq!(by_shard.len(), usize::from(shards), "every shard has certificates");
    // Two whose URLs are of one length, so that nothing but the load differs between them.
    let named = |shard: u16| format!("http://ca.lan/issuing-{shards}/{shard}.crl");
    let (first, last) = if shards == 128 { (100, 101) } else { (10, 11) };
    let mut first = by_shard.remove(&named(first)).unwrap();
    let mut last = by_shard.remove(&named(last)).unwrap();
    let few = first.len().min(last.len()).min(12);
    let begun = clock.monotonic();
    let at_first = measured(&running, &account, &first.split_off(first.len() - few));
    println!("the first {few} took {:?}", clock.monotonic() - begun);
    let begun = clock.monotonic();
    let rest = last.split_off(last.len() - few);
    for device in by_shard.values().flatten().chain(&first).chain(&last) {
        revoke(&running, &account, device);
    }
    // `last` has had the others of its shard listed by then: an own shard for the comparison.
    println!("{} more took {:?}", count - 2 * few, clock.monotonic() - begun);
    for devices in by_shard.values() {
        let newest = devices.last().unwrap();
        eventually(|| is_listed(&running, newest));
    }
    let begun = clock.monotonic();
    let at_last = measured(&running, &account, &rest);
    println!("the last {few} took {:?}", clock.monotonic() - begun);

    // The cost of an entry is that of reading and writing its shard again, however many others there are.
    let held = last.len() as u64;
    // The least of the steps: some lengthen a DER length as well.
    let entry = at_first.windows(2).map(|two| two[1].octets - two[0].octets).min().unwrap();
    for (n, (a, z)) in (0..).zip(at_first.iter().zip(&at_last)) {
        assert_eq!((a.rows, a.crls, a.records), (n + 1, 1, 2), "{a:?}");
        assert_eq!((z.rows, z.crls, z.records), (held + n + 1, 1, 2), "{z:?}");
        let more = z.octets - a.octets;
        // Longer DER lengths are the whole difference beside the entries that were there.
        assert!(more.abs_diff(held * entry) <= 8, "{more} octets for {held} entries of {entry}");
    }
    check_files(&house, &running, shards, count);
}

fn check_files(house: &House, running: &Office, shards: u16, count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    put("issuing.pem", house.issuing.pem().as_bytes());
    put("root.pem", house.root.pem().as_bytes());
    let year = 365 * 24 * HOUR;
    let tbs = crl::tbs(&house.root, 1, NOW, NOW.plus(year), &[]);
    let algorithm = house.root.public_key().preferred_algorithm();
    put("root.crl", &crl::assemble(&tbs, algorithm, &house.root_key.sign(&tbs)));
    let mut listed = 0;
    let mut largest = 0;
    for (shard, url) in crl::shard_urls("http://ca.lan/issuing.crl", shards).enumerate() {
        let der = running.public(url.strip_prefix("http://ca.lan/").unwrap()).unwrap();
        assert!(der.len() < 64 * 1024, "{url}: {} octets", der.len());
        largest = largest.max(der.len());
        let read = crl::parse_verified(&der, &house.issuing).unwrap();
        assert_eq!(read.shard.as_deref(), Some(url.as_str()));
        listed += read.revoked.len();
        // Each is asked of OpenSSL where there are few, some where there are many.
        if shards <= 16 || shard % 16 == 0 {
            let name = format!("{shard}.crl");
            put(&name, &der);
            let text = openssl(
                dir.path(),
                &[
                    "crl",
                    "-inform",
                    "DER",
                    "-in",
                    &name,
                    "-noout",
                    "-text",
                    "-CAfile",
                    "issuing.pem",
                ],
            );
            assert!(text.contains("verify OK"), "{text}");
            assert!(text.contains("Issuing Distribution Point: critical"), "{text}");
            assert!(text.contains("Only User Certificates") && text.contains(&url), "{text}");
            assert_eq!(text.matches("Serial Number: ").count(), read.revoked.len());
        }
    }
    assert_eq!(listed, count, "every revocation stands in one shard");
    println!("{count} revocations in {shards} shards, the largest {largest} octets");

    // A device that checks the whole chain: one certificate that is revoked, and one that is not.
    let good = running.tls_chain().remove(0);
    let revoked = house_revoked(running, house);
    for (name, leaf, accepted) in [("good", good, true), ("revoked", revoked, false)] {
        let url = leaf.crl_url().unwrap();
        put("leaf.pem", leaf.pem().as_bytes());
        put("leaf.crl", &running.public(url.strip_prefix("http://ca.lan/").unwrap()).unwrap());
        for list in ["leaf", "root"] {
            let (der, pem) = (format!("{list}.crl"), format!("{list}.crl.pem"));
            openssl(dir.path(), &["crl", "-inform", "DER", "-in", &der, "-out", &pem]);
        }
        let at = NOW.plus(HOUR).unix_seconds().to_string();
        let text = openssl(
            dir.path(),
            &[
                "verify",
                "-x509_strict",
                "-crl_check_all",
                "-extended_crl",
                "-attime",
                &at,
                "-CAfile",
                "root.pem",
                "-untrusted",
                "issuing.pem",
                "-CRLfile",
                "leaf.crl.pem",
                "-CRLfile",
                "root.crl.pem",
                "leaf.pem",
            ],
        );
        assert_eq!(text.contains("leaf.pem: OK"), accepted, "{name}: {text}");
        assert_eq!(text.contains("certificate revoked"), !accepted, "{name}: {text}");
    }
}

/// Any that is revoked, as it was issued.
fn house_revoked(running: &Office, house: &House) -> Certificate {
    let serial: Serial = {
        let url = crl::shard_urls("http://ca.lan/issuing.crl", house.settings.crl_shards).next();
        let name = url.unwrap();
        let der = running.public(name.strip_prefix("http://ca.lan/").unwrap()).unwrap();
        crl::parse_verified(&der, &house.issuing).unwrap().revoked[0].serial
    };
    let operator = chancery::ipc::admin::Operator { uid: 0, user: "root".into() };
    let question = chancery::ipc::admin::certificate::CertificateQuestion::Show(serial);
    let question = chancery::ipc::admin::AdminQuestion::Certificate(question);
    match running.running.admin().answer(&operator, question) {
        Ok(chancery::ipc::admin::AdminAnswer::Certificate(detail)) => {
            Certificate::parse(&detail.der.unwrap()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// Both of its outputs; OpenSSL says of a refused certificate what a caller wants to see, too.
fn openssl(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output().unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
