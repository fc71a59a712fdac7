//! What the log says of starts and configurations.

use std::time::Duration;

use chancery::env::Disk;
use chancery::id::LeafIndex;
use chancery::log::Record;
use chancery::log::record::{ConfigChangedV1, PreviousEnd, StartedV1};
use serde_json::json;

use crate::HOUR;
use crate::house::{House, Office, eventually};

#[test]
fn every_start_is_a_record_before_anything_else_and_says_how_the_last_one_ended() {
    let mut house = House::new();
    let office = house.start();
    let Ok(Record::ConfigChangedV1(config)) = office.log.read(LeafIndex(1)) else { panic!() };
    assert_eq!((config.former, &config.changed), (None, &None));
    assert_eq!(config.parts.len(), 1);
    let Ok(Record::StartedV1(first)) = office.log.read(LeafIndex(2)) else { panic!() };
    assert_eq!(first.previous, PreviousEnd::Unknown);
    assert_eq!((first.found, first.torn, first.starts), (1, false, 1));
    assert_eq!((first.config_sha256, &*first.version), (config.sha256, "0.0.0"));
    let running = house.disk.read(&house.dir.join("starts.json"), 1 << 20).unwrap();
    drop(office);

    house.configuration = json!({"issuer": {"crl-shards": 4}, "policy": {"allow": []}});
    let office = house.start();
    let (started, configs) = said(&office);
    assert_eq!((started.len(), configs.len()), (2, 2));
    assert_eq!(started[1].previous, PreviousEnd::Clean);
    assert_eq!(configs[1].former, Some(config.sha256));
    let changed = configs[1].changed.as_ref().unwrap();
    assert_eq!(*changed, ["issuer.crl-shards", "policy.allow"]);
    assert_eq!(started[1].config_sha256, configs[1].sha256);
    drop(office);

    // As a process leaves it that is killed.
    house.disk.replace(&house.dir.join("starts.json"), &running, true).unwrap();
    let office = house.start();
    let (started, configs) = said(&office);
    assert_eq!(started[2].previous, PreviousEnd::Unclean);
    // The memory is that of before the change: the change is told once more, from what it was then.
    assert_eq!(configs.len(), 3);
    assert_eq!((configs[2].former, configs[2].sha256), (configs[1].former, configs[1].sha256));
}

#[test]
fn a_box_that_starts_again_and_again_does_not_fill_its_log() {
    let house = House::new();
    for _ in 0..10 {
        drop(house.start());
        house.clock.advance(Duration::from_secs(5));
    }
    house.clock.advance(HOUR);
    let office = house.start();
    let (started, configs) = said(&office);
    assert_eq!(configs.len(), 1);
    assert_eq!(started.iter().map(|start| start.starts).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 1, 5]);
}

#[test]
fn a_start_that_was_put_off_is_recorded_while_the_process_runs() {
    let house = House::new();
    (0..6).for_each(|_| drop(house.start()));
    let office = house.start();
    assert_eq!(said(&office).0.len(), 6);
    house.clock.advance(HOUR);
    office.running.nudge();
    eventually(|| said(&office).0.len() == 7);
}

#[test]
fn without_its_memory_the_issuer_states_its_configuration_again() {
    let house = House::new();
    drop(house.start());
    house.disk.replace(&house.dir.join("starts.json"), b"{", true).unwrap();
    let office = house.start();
    let (started, configs) = said(&office);
    assert_eq!(started[1].previous, PreviousEnd::Unknown);
    assert_eq!(configs[1], ConfigChangedV1 { at: configs[1].at, ..configs[0].clone() });
}

/// Records of starts and configurations, in order.
fn said(office: &Office) -> (Vec<StartedV1>, Vec<ConfigChangedV1>) {
    let (mut started, mut configs) = (Vec::new(), Vec::new());
    for leaf in 0..office.log.head().size {
        match office.log.read(LeafIndex(leaf)).unwrap() {
            Record::StartedV1(record) => started.push(record),
            Record::ConfigChangedV1(record) => configs.push(record),
            _ => {}
        }
    }
    (started, configs)
}
