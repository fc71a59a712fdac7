//! What grows on a box, for each device, each renewal and each revocation, and what that makes a year. Prints a table; with
//! `CHANCERY_GROWTH=1000` for docs/figures.md:
//!
//!     CHANCERY_GROWTH=1000 cargo test --test growth -- --nocapture

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::path::Path;

use chancery::pki::certificate::Certificate;
use chancery::pki::crl;
use plant::Plant;
use plant::lab::{Options, get};

/// Octets of what grows.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    log: f64,
    index: f64,
    store: f64,
    tiles: f64,
    crls: f64,
}

impl Sizes {
    /// Of a box that is stopped for it, so that all is in its files, and started again.
    fn of(plant: &mut Plant) -> Self {
        let metrics = get(plant.lab.http, "/metrics").unwrap();
        let log = metrics.lines().find_map(|line| line.strip_prefix("chancery_log_size_bytes "));
        let log = log.unwrap().parse().unwrap();
        plant.lab.stop();
        let state = plant.lab.dir.join("state");
        let length = |file: &str| std::fs::metadata(state.join(file)).unwrap().len() as f64;
        let (index, store) = (length("issuer/log/index.redb"), length("web/store.redb"));
        let public = state.join("public");
        let crls = files(&public).filter(|(path, _)| path.ends_with(".crl"));
        let crls = crls.map(|(_, octets)| octets).sum::<f64>();
        let all = files(&public).map(|(_, octets)| octets).sum::<f64>();
        plant.lab.serve();
        // What else is there has the size it has: certificates, chains, the checkpoint.
        Self { log, index, store, tiles: all - crls, crls }
    }

    fn since(self, before: Self, times: usize) -> Self {
        let each = |now: f64, then: f64| (now - then) / times as f64;
        Self {
            log: each(self.log, before.log),
            index: each(self.index, before.index),
            store: each(self.store, before.store),
            tiles: each(self.tiles, before.tiles),
            crls: each(self.crls, before.crls),
        }
    }
}

/// Every file below, with its length. What a running box renames or deletes meanwhile is left out.
fn files(dir: &Path) -> Box<dyn Iterator<Item = (String, f64)>> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    Box::new(entries.flat_map(|path| -> Box<dyn Iterator<Item = (String, f64)>> {
        if path.is_dir() {
            return files(&path);
        }
        let metadata = path.metadata().into_iter();
        Box::new(metadata.map(move |found| (path.display().to_string(), found.len() as f64)))
    }))
}

/// Entries of the published shards.
fn listed(plant: &Plant) -> usize {
    let public = plant.lab.dir.join("state/public");
    let issuing = Certificate::parse(&std::fs::read(public.join("issuing.der")).unwrap()).unwrap();
    let crls = files(&public).filter(|(path, _)| path.ends_with(".crl"));
    let crls = crls.filter_map(|(path, _)| std::fs::read(path).ok());
    let crls = crls.filter_map(|der| crl::parse_verified(&der, &issuing).ok());
    crls.filter(|crl| crl.shard.is_some()).map(|crl| crl.revoked.len()).sum()
}

#[test]
fn what_grows_is_small_and_nothing_else_grows() {
    let devices = std::env::var("CHANCERY_GROWTH").map_or(24, |text| text.parse().unwrap());
    let mut plant = Plant::start(Options::default());
    let begun = Sizes::of(&mut plant);
    let mut clients = Vec::new();
    for n in 0..devices {
        let mut client = plant.registered();
        plant.enrol(&mut client, &[&format!("device-{n}.plant.lan")]);
        client.forget_connection();
        clients.push(client);
    }
    let enrolled = Sizes::of(&mut plant);
    let mut last = Vec::new();
    const RENEWALS: usize = 3;
    for _ in 0..RENEWALS {
        last.clear();
        for (n, client) in clients.iter_mut().enumerate() {
            last.push(plant.enrol(client, &[&format!("device-{n}.plant.lan")]));
            client.forget_connection();
        }
    }
    let renewed = Sizes::of(&mut plant);
    for (client, certificate) in clients.iter_mut().zip(&last) {
        plant.runtime.block_on(client.revoke(certificate.der(), 4)).unwrap();
        client.forget_connection();
    }
    let listed = || listed(&plant) >= devices;
    plant::lab::eventually(&plant.lab, "every revocation in its CRL", listed);
    let revoked = Sizes::of(&mut plant);

    let rows = [
        ("a device's first certificate", enrolled.since(begun, devices)),
        ("a renewal", renewed.since(enrolled, devices * RENEWALS)),
        ("a revocation", revoked.since(renewed, devices)),
    ];
    println!(
        "| octets for | log | index | tiles | orders and accounts | CRLs |\n|---|---|---|---|---|---|"
    );
    for (what, each) in &rows {
        let Sizes { log, index, store, tiles, crls } = each;
        println!("| {what} | {log:.0} | {index:.0} | {tiles:.0} | {store:.0} | {crls:.0} |");
    }
    let mib = 1024.0 * 1024.0;
    println!("\n| a year of 1,000 devices, MiB | log | index | tiles |\n|---|---|---|---|");
    for days in [90.0, 30.0, 7.0] {
        // Renewed at two thirds of the lifetime.
        let renewals = 1000.0 * 365.0 / (days * 2.0 / 3.0);
        let sum =
            |of: fn(&Sizes) -> f64| (1000.0 * of(&rows[0].1) + renewals * of(&rows[1].1)) / mib;
        let (log, index, tiles) = (sum(|s| s.log), sum(|s| s.index), sum(|s| s.tiles));
        println!("| certificates of {days:.0} days | {log:.1} | {index:.1} | {tiles:.1} |");
    }

    // Bounds that a change of form must not pass unnoticed.
    let [(_, first), (_, renewal), (_, revocation)] = rows;
    assert!((600.0..4_000.0).contains(&first.log), "{first:?}");
    assert!((600.0..3_000.0).contains(&renewal.log), "{renewal:?}");
    assert!((100.0..1_500.0).contains(&revocation.log), "{revocation:?}");
    // Two leaves of 32 octets, and a 256th of that for each level above.
    assert!((60.0..130.0).contains(&renewal.tiles), "{renewal:?}");
    // One entry in its shard, one in the complete CRL once that is due.
    assert!((20.0..150.0).contains(&revocation.crls), "{revocation:?}");
}
