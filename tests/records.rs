//! `chancery log list`, `days` and `rebuild-index` over a real box: what a running issuer's index says, what the file
//! says, and what reading every record says are the same.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod lab;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use lab::{Lab, Options};
use serde_json::Value;

/// Standard output by line, and whether the log had to be read whole.
fn list(lab: &Lab, arguments: &[&str]) -> (Vec<Value>, bool) {
    ask(lab, &["list"], arguments)
}

fn ask(lab: &Lab, verb: &[&str], arguments: &[&str]) -> (Vec<Value>, bool) {
    let mut command = lab.chancery();
    let output = command.args(["--json", "log"]).args(verb).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {told}");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, told.contains("every record is read"))
}

fn days(lab: &Lab) -> Value {
    let text = lab::succeed(lab.chancery().args(["--json", "log", "days"]));
    serde_json::from_str(&text).unwrap()
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["kind"].as_str().unwrap()).collect()
}

#[test]
fn records_are_found_by_what_they_are_about_with_and_without_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let mut lab =
        Lab::start_in(directory.path(), Options { http_port: 5002, ..Options::default() });
    // The box's own certificate is in the log like any other.
    let (own, _) = list(&lab, &["--kind", "issued"]);
    let serial = own[0]["serial"].as_str().unwrap().to_owned();
    let shown = lab::succeed(lab.chancery().args(["--json", "cert", "show", &serial]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let name = shown["names"].as_array().unwrap().iter().filter_map(Value::as_str);
    let name = name.into_iter().find(|name| name.parse::<std::net::IpAddr>().is_err()).unwrap();
    let (_, suffix) = name.split_once('.').unwrap_or(("", name));
    let below = format!("*.{suffix}");
    let questions: [&[&str]; 6] = [
        &["--serial", &serial],
        &["--name", name],
        &["--name", &below],
        &["--serial", &serial, "--kind", "issued"],
        &["--serial", &serial, "--since", "2999-01-01"],
        &["--name", "nobody.lan"],
    ];
    let all = |lab: &Lab, whole: bool| -> Vec<Vec<Value>> {
        let answers = questions.iter().map(|question| {
            let (lines, read) = list(lab, question);
            assert_eq!(read, whole, "{question:?}");
            let (last, read) = ask(lab, &["tail", "-n", "1000"], question);
            assert_eq!((&last, read), (&lines, whole), "{question:?}");
            let (last, _) = ask(lab, &["tail", "-n", "1"], question);
            assert_eq!(last.first(), lines.last(), "{question:?}");
            lines
        });
        answers.collect()
    };
    let running = all(&lab, false);
    assert_eq!(kinds(&running[0]), ["intent", "issued"]);
    assert!(kinds(&running[1]).starts_with(&["intent", "issued"]), "{:?}", running[1]);
    if below.contains("*.") && suffix != name {
        assert_eq!(running[2], running[1]);
    }
    assert_eq!(kinds(&running[3]), ["issued"]);
    assert_eq!((running[4].len(), running[5].len()), (0, 0));
    let counted = days(&lab);
    assert!(counted[0]["issued"].as_u64().unwrap() >= 1, "{counted}");

    let busy = lab.chancery().args(["log", "rebuild-index"]).output().unwrap();
    let told = String::from_utf8(busy.stderr).unwrap();
    assert!(!busy.status.success() && told.contains("CHY-LOG-BUSY: "), "{told}");

    lab.stop();
    assert_eq!(all(&lab, false), running);
    let index = lab.dir.join("state/issuer/log/index.redb");
    std::fs::write(&index, b"no index").unwrap();
    assert_eq!(all(&lab, true), running);
    // What the issuer recorded as it stopped is counted too.
    let stopped = days(&lab);
    assert_eq!(stopped[0]["first"], counted[0]["first"]);
    assert!(stopped[0]["records"].as_u64() >= counted[0]["records"].as_u64());

    let tiles = lab.dir.join("state/public/tiles");
    std::fs::remove_dir_all(&tiles).unwrap();
    let rebuilt = lab::succeed(lab.chancery().args(["--json", "log", "rebuild-index"]));
    let rebuilt: Value = serde_json::from_str(&rebuilt).unwrap();
    assert_eq!(rebuilt["octets"], std::fs::metadata(&index).unwrap().len());
    assert!(tiles.is_dir(), "the tiles are written anew");
    assert_eq!(all(&lab, false), running);
    lab.serve();
    assert_eq!(all(&lab, false), running);
    lab::succeed(lab.chancery().args(["log", "verify"]));
}

#[test]
fn the_end_of_the_log_is_followed_by_kind() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::start_in(directory.path(), Options { http_port: 5002, ..Options::default() });
    lab::succeed(lab.chancery().args(["ticket", "create"]));
    let mut command = lab.chancery();
    command.args(["--json", "log", "tail", "--follow", "-n", "1", "--kind", "ticket,ticket-end"]);
    let mut tail = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["kind"], "ticket");
    // Another kind in between.
    lab::succeed(lab.chancery().args(["recall", "start", "--profile", "server", "--yes"]));
    let made = lab::succeed(lab.chancery().args(["--json", "ticket", "create"]));
    let made: Value = serde_json::from_str(&made).unwrap();
    let followed = next();
    assert_eq!(followed["kind"], "ticket", "{followed}");
    assert!(made.to_string().contains(followed["ticket"].as_str().unwrap()), "{made} {followed}");
    tail.kill().unwrap();
    tail.wait().unwrap();
}
