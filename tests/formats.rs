//! What a release writes before it is kept, the one before it can read: no record of a newer format gets into the log until
//! an operator says that there is no going back, and a state that is too new is refused before anything of it is read.
//!
//! `tests/upgrade/` has boxes as former releases left them: state and token of a lab, whose keys are nobody's secret. This program
//! goes on with each.
//!
//! `make former` does it with two programs: this one, and another release, built from this repository's history.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use chancery::env::system::SystemDisk;
use chancery::id::LeafIndex;
use chancery::log::reader::Reader;
use chancery::log::record::format_of;
use chancery::state::{Format, Written};
use plant::Plant;
use plant::lab::{Lab, Options, chancery, done, eventually, refused, succeed};
use serde_json::Value;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

fn ca(lab: &Lab) -> PathBuf {
    lab.dir.join("state/ca")
}

fn written(lab: &Lab) -> Written {
    Written::read(&SystemDisk, &ca(lab)).unwrap()
}

/// The newest format of any record in the log.
fn newest_in_log(lab: &Lab) -> Format {
    let reader = Reader::open(Arc::new(SystemDisk), &lab.dir.join("state/issuer/log")).unwrap();
    let formats =
        reader.entries(LeafIndex(0)).map(|entry| format_of(&entry.unwrap().payload).unwrap());
    formats.max().unwrap()
}

/// A CA of a release that knew no formats: nothing that its ceremony writes is of a newer one.
fn of_a_former_release() -> Plant {
    let plant = Plant::prepare(Options::default());
    assert_eq!(written(&plant.lab), Written::NEW);
    std::fs::remove_file(ca(&plant.lab).join("format.json")).unwrap();
    assert_eq!(newest_in_log(&plant.lab), Format::FIRST);
    plant
}

/// All that devices and operators do in a day.
fn a_day(plant: &Plant) {
    let name: &[&str] = &["day.plant.lan"];
    let mut client = plant.registered();
    plant.enrol(&mut client, name);
    let renewed = plant.enrol(&mut client, name);
    plant.runtime.block_on(client.revoke(renewed.der(), 4)).unwrap();
    let mut other = plant.registered();
    plant.enrol(&mut other, &["other.plant.lan"]);
    let lab = &plant.lab;
    done(chancery(lab, &["ticket", "create"]));
    let serial = plant.enrol(&mut other, &["third.plant.lan"]).serial().unwrap().to_string();
    done(chancery(lab, &["recall", "start", "--serial", &serial, "--yes"]));
    done(chancery(lab, &["cert", "revoke", &serial, "--yes"]));
}

fn show(lab: &Lab) -> Value {
    serde_json::from_str(&done(chancery(lab, &["--json", "state", "show"]))).unwrap()
}

#[test]
fn nothing_newer_is_written_until_the_release_is_kept() {
    let mut plant = of_a_former_release();
    plant.lab.serve();
    a_day(&plant);
    let lab = &plant.lab;
    assert_eq!(show(lab)["format"], 1);
    assert_eq!(show(lab)["newest"], Format::OWN.0);
    assert!(done(chancery(lab, &["doctor", "--no-login"])).contains("a former release can run"));
    assert_eq!(newest_in_log(lab), Format::FIRST);

    let unsure = chancery(lab, &["state", "keep"]);
    assert!(!unsure.status.success(), "kept without a yes");
    assert_eq!(written(lab).format, Format::FIRST);
    let said = done(chancery(lab, &["state", "keep", "--yes"]));
    assert!(said.starts_with("format 2 instead of 1, with leaf "), "{said}");
    assert_eq!((written(lab).format, newest_in_log(lab)), (Format::OWN, Format::OWN));
    let leaf = written(lab).raised.unwrap().leaf.unwrap();
    let shown = done(chancery(lab, &["log", "show", &leaf.to_string()]));
    assert!(shown.contains("FormatRaisedV1"), "{shown}");
    let again = done(chancery(lab, &["state", "keep", "--yes"]));
    assert!(again.contains("already"), "{again}");
    assert!(done(chancery(lab, &["log", "verify"])).contains("sound"));

    plant.lab.stop();
    plant.lab.serve();
    a_day(&plant);
    assert_eq!(show(&plant.lab)["raised"]["leaf"], leaf.0);
    plant.lab.stop();
    // A stranger's reader knows the record too.
    let read = succeed(&mut plant.lab.stranger());
    assert_eq!(read.matches("\"FormatRaisedV1\"").count(), 1, "{read}");
}

#[test]
fn a_raise_that_the_log_does_not_know_is_recorded_at_the_next_start() {
    let mut plant = of_a_former_release();
    let file = ca(&plant.lab).join("format.json");
    let raised = r#"{"format": 2, "raised": {"from": 1, "uid": 7, "user": "ops", "leaf": null}}"#;
    std::fs::write(file, raised).unwrap();
    plant.lab.serve();
    let recorded = || written(&plant.lab).raised.unwrap().leaf.is_some();
    eventually(&plant.lab, "the record of the raise", recorded);
    assert_eq!(newest_in_log(&plant.lab), Format::OWN);
    let listed = done(chancery(&plant.lab, &["log", "list", "--kind", "format"]));
    assert!(listed.contains("ops"), "{listed}");
}

#[test]
fn a_state_of_a_newer_release_is_refused() {
    let plant = Plant::prepare(Options::default());
    let newer = format!(r#"{{"format": {}, "of": "a later release"}}"#, Format::OWN.0 + 1);
    std::fs::write(ca(&plant.lab).join("format.json"), newer).unwrap();
    // Not even this can be read here.
    std::fs::write(ca(&plant.lab).join("authority.json"), "{}").unwrap();
    let yes = format!("{REPOSITORY}/hsm/ceremony/lab.toml");
    for arguments in [
        &["issuer"][..],
        &["web"],
        &["serve"],
        &["state", "keep", "--yes"],
        &["ceremony", "run", &yes, "--yes"],
        &["log", "list"],
    ] {
        refused(&chancery(&plant.lab, arguments), "CHY-STATE-FORMAT: ");
    }
    let doctor = chancery(&plant.lab, &["doctor", "--no-login"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("CHY-STATE-FORMAT"), "{doctor:?}");
}

/// Every box that a release left behind goes on.
#[test]
fn the_boxes_of_former_releases_go_on() {
    let boxes = std::fs::read_dir(format!("{REPOSITORY}/tests/upgrade")).unwrap();
    let mut boxes: Vec<PathBuf> = boxes.map(|entry| entry.unwrap().path()).collect();
    boxes.sort();
    assert!(boxes.iter().any(|path| path.ends_with("format-1.tar.gz")), "{boxes:?}");
    for packed in boxes {
        let mut plant = Plant::without_ceremony(Options::default());
        let lab = &plant.lab;
        // The token's place is in its configuration, which stays that of this directory.
        std::fs::remove_dir_all(lab.dir.join("token/tokens")).unwrap();
        succeed(Command::new("tar").arg("-C").arg(&lab.dir).arg("-xzf").arg(&packed));
        let before = written(lab);
        assert_eq!(newest_in_log(lab), before.format);
        let found = done(chancery(lab, &["log", "verify"]));
        assert!(found.contains("sound"), "{}: {found}", packed.display());
        if !chancery(lab, &["clock", "show"]).status.success() {
            done(chancery(lab, &["clock", "accept", "--yes"]));
        }
        plant.lab.serve();
        a_day(&plant);
        assert_eq!(
            (written(&plant.lab), newest_in_log(&plant.lab)),
            (before.clone(), before.format)
        );
        if before.format < Format::OWN {
            done(chancery(&plant.lab, &["state", "keep", "--yes"]));
        }
        plant.lab.stop();
        assert!(done(chancery(&plant.lab, &["log", "verify"])).contains("sound"));
    }
}

/// Packs a box of another release, for `tests/upgrade/`: `CHANCERY_FORMER` is as below, `CHANCERY_PACK` the file.
#[test]
#[ignore = "needs another release: tests/former.sh"]
fn pack_a_box_of_a_former_release() {
    let Some(packed) = std::env::var_os("CHANCERY_PACK") else { return };
    let former = PathBuf::from(std::env::var_os("CHANCERY_FORMER").unwrap());
    let mut plant = held_by(&former, &former.join("target/debug/chancery"));
    plant.lab.serve();
    a_day(&plant);
    plant.lab.stop();
    let leave_out = ["state/run", "state/issuer/admin", "token/softhsm2.conf"];
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&plant.lab.dir).args(leave_out.map(|path| format!("--exclude={path}")));
    succeed(tar.args(["--owner=0", "--group=0", "-czf"]).arg(packed).args(["state", "token"]));
}

/// Makes the box that of another release, or of this one again: program and shipped configuration are of one release, as
/// in an appliance's slot.
fn release(lab: &mut Lab, repository: &Path, program: &Path) {
    let file = lab.dir.join("chancery.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    let board = repository.join("firmware-config/board/lab.toml");
    std::fs::write(file, format!("inherit = [\"{}\"]\n{rest}", board.display())).unwrap();
    lab.program = program.to_owned();
}

/// A CA whose ceremony another release has held.
fn held_by(repository: &Path, program: &Path) -> Plant {
    let mut plant = Plant::without_ceremony(Options::default());
    release(&mut plant.lab, repository, program);
    let file = repository.join("hsm/ceremony/lab.toml");
    succeed(plant.lab.chancery().args(["ceremony", "run"]).arg(file).arg("--yes"));
    plant
}

/// `CHANCERY_FORMER` is a checkout of another release with its program in `target/debug`.
#[test]
#[ignore = "needs another release: make former"]
fn a_former_release_reads_what_this_one_writes_until_it_is_kept() {
    let former = PathBuf::from(std::env::var_os("CHANCERY_FORMER").unwrap());
    let program = former.join("target/debug/chancery");
    let own = (Path::new(REPOSITORY), Path::new(env!("CARGO_BIN_EXE_chancery")));
    let mut plant = held_by(&former, &program);
    for turn in 0..3 {
        let (repository, program) = if turn % 2 == 0 { (&*former, &*program) } else { own };
        release(&mut plant.lab, repository, program);
        plant.lab.serve();
        a_day(&plant);
        plant.lab.stop();
        assert!(done(chancery(&plant.lab, &["log", "verify"])).contains("sound"), "turn {turn}");
    }
    release(&mut plant.lab, own.0, own.1);
    plant.lab.serve();
    done(chancery(&plant.lab, &["state", "keep", "--yes"]));
    a_day(&plant);
    plant.lab.stop();
    // The one before formats meets the record; one that knows them would refuse the number.
    release(&mut plant.lab, &former, &program);
    let refusal = chancery(&plant.lab, &["issuer"]);
    let text = String::from_utf8_lossy(&refusal.stderr);
    assert!(!refusal.status.success() && text.contains("run the version that wrote it"), "{text}");
    release(&mut plant.lab, own.0, own.1);
    plant.lab.serve();
    a_day(&plant);
}
