//! Published tiles and entries that are not the log's.

use super::*;
use crate::log::tiles::Rebuild;

/// 300 records, a full tile and more, and their tiles with entries below /public.
fn published(bench: &Bench) -> (SimulatedDisk, Evidence, Vec<Record>) {
    let mut records = bench.records();
    let filler = records[7].clone();
    let mut number = 2;
    while records.len() < 300 {
        let mut record = filler.clone();
        if let Record::CrlV2(crl) = &mut record {
            number += 1;
            crl.number = number;
        }
        records.push(record);
    }
    let disk = bench.disk(&records, records.len());
    disk.create_dir("/public".as_ref()).unwrap();
    let mut rebuild = Rebuild::begin(Arc::new(disk.clone()), "/public".as_ref(), true).unwrap();
    records.iter().for_each(|record| rebuild.push(&record.encode().unwrap()).unwrap());
    rebuild.close().unwrap();
    let mut evidence = bench.evidence();
    evidence.tiles = Some("/public/tiles".into());
    (disk, evidence, records)
}

#[test]
fn every_file_of_the_tiles_is_held_against_the_log() {
    let bench = Bench::new();
    let (disk, evidence, records) = published(&bench);
    let verdict = bench.verify_with(&disk, &evidence);
    assert!(verdict.is_sound(), "{verdict}");
    assert!(!verdict.notes.iter().any(|note| note.contains("the tiles cover")), "{verdict}");
    let entry = |leaf: usize| {
        records[..leaf].iter().map(|r| 2 + r.encode().unwrap().len() as u64).sum::<u64>()
    };
    // A bit of a leaf's hash, of the hash above 256, of an entry's length, of an entry, of a bundle's place.
    for (file, octet, leaf, expected) in [
        ("0", 32 * 299 + 31, 299, "the published tile has another hash for this record"),
        ("0", 32 * 17, 17, "the published tile has another hash for this record"),
        ("1", 5, 255, "hash 0 of tiles/1"),
        ("entries", entry(290) + 1, 290, "the published entry"),
        ("entries", entry(3) + 100, 3, "the published entry"),
        ("bundles", 15, 256, "another octet for the bundle"),
    ] {
        let path = Path::new("/public/tiles").join(file);
        let opened = disk.open(&path).unwrap();
        let mut bit = [0];
        opened.read_at(octet, &mut bit).unwrap();
        opened.write_at(octet, &[bit[0] ^ 4]).unwrap();
        let verdict = bench.verify_with(&disk, &evidence);
        let [finding] = verdict.findings.as_slice() else { panic!("{file} {octet}: {verdict}") };
        assert_eq!(finding.leaf, Some(LeafIndex(leaf)), "{file} {octet}");
        assert!(finding.text.contains(expected), "{verdict}");
        opened.write_at(octet, &bit).unwrap();
    }
    // Tiles that know more than the log, and tiles that lag.
    let level = disk.open(Path::new("/public/tiles/0")).unwrap();
    level.write_at(32 * 300, &[1; 32]).unwrap();
    found(
        &bench.verify_with(&disk, &evidence),
        "tiles/0 has 301 hashes, but a log of 300 records has 300",
    );
    level.set_len(32 * 290).unwrap();
    let verdict = bench.verify_with(&disk, &evidence);
    assert!(verdict.is_sound(), "{verdict}");
    assert!(verdict.notes.iter().any(|note| note.contains("the tiles cover 290 of 300")));
}

#[test]
fn what_a_power_cut_left_of_the_tiles_is_no_fault() {
    let bench = Bench::new();
    let (disk, evidence, records) = published(&bench);
    let entry = |leaf: usize| {
        records[..leaf].iter().map(|r| 2 + r.encode().unwrap().len() as u64).sum::<u64>()
    };
    // Zeros where nothing was durable, and behind them what was: a hash, one above, an entry from its middle to the middle
    // of the next, the place of a bundle.
    let holes = [
        ("0", 32 * 280, 32),
        ("1", 0, 32),
        ("entries", entry(290) + 9, entry(291) + 9 - entry(290) - 9),
        ("bundles", 8, 8),
    ];
    for (file, octet, length) in holes {
        let opened = disk.open(&Path::new("/public/tiles").join(file)).unwrap();
        opened.write_at(octet, &vec![0; usize::try_from(length).unwrap()]).unwrap();
    }
    let verdict = bench.verify_with(&disk, &evidence);
    assert!(verdict.is_sound(), "{verdict}");
    assert!(verdict.notes.iter().any(|note| note.contains("have 5 holes")), "{verdict}");
    // A part of a hash, which no sector of a disk begins or ends in, is none.
    let level = disk.open(Path::new("/public/tiles/0")).unwrap();
    level.write_at(32 * 17, &[0; 16]).unwrap();
    found(&bench.verify_with(&disk, &evidence), "has another hash for this record");
}

#[test]
fn tiles_name_the_record_that_was_altered() {
    let bench = Bench::new();
    let (disk, evidence, mut records) = published(&bench);
    records.swap(120, 121);
    let altered = bench.disk(&records, records.len());
    let segment = Path::new(DIR).join(file_name(0));
    disk.replace(&segment, &altered.read(&segment, 1 << 24).unwrap(), true).unwrap();
    let verdict = bench.verify_with(&disk, &evidence);
    let named: Vec<u64> = verdict
        .findings
        .iter()
        .filter(|finding| finding.text.contains("has another hash for this record"))
        .filter_map(|finding| Some(finding.leaf?.0))
        .collect();
    assert_eq!(named, [120, 121]);
    found(&verdict, "states another tree");
}
