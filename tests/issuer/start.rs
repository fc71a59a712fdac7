//! What refuses a start: foreign parts, names outside the constraints, a PIN refused before.

use std::sync::Arc;

use chancery::env::Disk;
use chancery::env::simulated::SimulatedDisk;
use chancery::issuer::refused_pin::RefusedPin;

use crate::house::House;

#[test]
fn the_box_does_not_name_itself_outside_the_constraints() {
    let mut house = House::new();
    for name in ["ca.example.com", "8.8.8.8", "*.lan", "not a name"] {
        house.settings.tls_names = vec![name.into()];
        let why = house.try_start().err().expect(name);
        assert!(why.starts_with("CHY-TLS-NAMES"), "{why}");
    }
}

#[test]
fn what_does_not_belong_together_does_not_start() {
    let mut house = House::new();
    house.policy.allow_names.push("example.com".into());
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-CONFIG-POLICY") && why.contains("example.com"), "{why}");

    let mut house = House::new();
    house.authority.transcript_sha256 = "00".repeat(32);
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-LOG-FOREIGN"), "{why}");

    let mut house = House::new();
    std::mem::swap(&mut house.issuing_key, &mut house.tls_key);
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-KEY-MISMATCH"), "{why}");

    let mut house = House::new();
    house.authority.issuing = None;
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-CA-INCOMPLETE"), "{why}");
}

#[test]
fn a_refused_pin_is_remembered_and_another_tried() {
    let disk = Arc::new(SimulatedDisk::new());
    let dir = std::path::Path::new("/issuer");
    disk.create_dir(dir).unwrap();
    let rng = Arc::new(chancery::env::system::SystemRng);
    let pin = |text: &str| chancery::hsm::pool::Pin(text.to_owned().into());
    let memory = RefusedPin::new(Arc::clone(&disk) as Arc<dyn Disk>, rng, dir);
    assert!(!memory.is_refused(&pin("1234")));
    memory.remember(&pin("1234")).unwrap();
    assert!(memory.is_refused(&pin("1234")));
    assert!(!memory.is_refused(&pin("12345")));
    let stored = disk.read(memory.path(), 1024).unwrap();
    assert!(!stored.windows(4).any(|w| w == b"1234"));
    memory.forget();
    assert!(!memory.is_refused(&pin("1234")));
    disk.replace(memory.path(), b"half", true).unwrap();
    assert!(memory.is_refused(&pin("1234")), "a file that does not parse must not unlock");
}
