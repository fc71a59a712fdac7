use std::collections::BTreeSet;

use super::*;

fn disk() -> (SimulatedDisk, &'static Path) {
    let disk = SimulatedDisk::new();
    disk.create_dir(Path::new("/d")).unwrap();
    (disk, Path::new("/d/f"))
}

#[test]
fn the_contract_holds() {
    let disk = SimulatedDisk::new();
    disk.create_dir(Path::new("/root")).unwrap();
    let lock_files = Path::new("/root");
    crate::env::disk::contract::run(&disk, lock_files);
}

#[test]
fn what_was_not_synced_is_lost_and_a_name_needs_its_directory() {
    let (disk, path) = disk();
    let file = disk.create(path, 4).unwrap();
    file.write_at(0, b"abcd").unwrap();
    file.sync_data().unwrap();
    assert!(disk.crash(CrashMode::Lost, 0).read(path, 9).is_err());

    let (disk, path) = self::disk();
    let file = disk.create(path, 4).unwrap();
    file.write_at(0, b"abcd").unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_at(1, b"XX").unwrap();
    assert_eq!(disk.read(path, 9).unwrap(), b"aXXd");
    assert_eq!(disk.crash(CrashMode::Lost, 0).read(path, 9).unwrap(), b"abcd");
    assert_eq!(disk.crash(CrashMode::Kept, 0).read(path, 9).unwrap(), b"aXXd");
    assert!(disk.read(path, 9).is_err(), "a crashed disk answers no more");
    let torn: BTreeSet<Vec<u8>> =
        (0..64).map(|seed| disk.crash(CrashMode::Torn, seed).read(path, 9).unwrap()).collect();
    assert_eq!(torn.len(), 3, "lost, half and whole: {torn:?}");
}

#[test]
fn later_writes_can_arrive_without_earlier_ones() {
    let (disk, path) = disk();
    let file = disk.create(path, 2).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_at(0, b"a").unwrap();
    file.write_at(1, b"b").unwrap();
    let seen: BTreeSet<Vec<u8>> =
        (0..64).map(|seed| disk.crash(CrashMode::Reordered, seed).read(path, 9).unwrap()).collect();
    assert!(seen.contains(b"\0b".as_slice()));
    assert_eq!(seen.len(), 4);
}

#[test]
fn faults_strike_where_they_are_told() {
    for (fault, expected) in [(Fault::SyncFailsKept, b"ab"), (Fault::SyncFailsLost, b"\0\0")] {
        let (disk, path) = disk();
        let file = disk.create(path, 2).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(0, b"ab").unwrap();
        disk.strike(disk.effects(), fault);
        assert!(file.sync_data().is_err());
        assert_eq!(disk.read(path, 9).unwrap(), b"ab");
        file.sync_data().unwrap();
        assert_eq!(disk.crash(CrashMode::Lost, 0).read(path, 9).unwrap(), expected);
    }
    let (disk, path) = disk();
    disk.strike(disk.effects(), Fault::Stop);
    assert!(disk.create(path, 2).is_err());
    assert!(disk.list(Path::new("/d")).is_err());
}

#[test]
fn a_full_disk_says_so() {
    let (disk, path) = disk();
    disk.limit(Some(10));
    let file = disk.create(path, 8).unwrap();
    let other = disk.create(Path::new("/d/g"), 3).err().unwrap();
    assert!(crate::env::disk::is_full(&other));
    file.write_at(0, &[1; 10]).unwrap();
    assert!(file.write_at(0, &[1; 11]).is_err());
    assert_eq!(disk.free(path).unwrap(), 0);
}
