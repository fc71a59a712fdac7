//! What a box does when the machine beneath it fails it: a full disk, a clock that was set, files wiped away,
//! two users. Real processes; what needs root or a tool is left out, with a line that says so.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plant::Plant;
use plant::client::Failure;
use plant::lab::{self, Lab, Options};

fn is_root() -> bool {
    lab::succeed(Command::new("id").arg("-u")).trim() == "0"
}

fn left_out(why: &str) {
    eprintln!("left out: {why}");
}

/// Waits until `/readyz` answers 503 with a line that begins with the code; gives the answer.
fn wait_trouble(lab: &Lab, code: &str) -> String {
    let began = lab::now();
    let mut last = None;
    while began.elapsed() < Duration::from_secs(30) {
        last = lab::get(lab.http, "/readyz");
        if let Some(answer) = &last
            && answer.starts_with("HTTP/1.1 503")
            && answer.lines().any(|line| line.starts_with(&format!("{code}: ")))
        {
            return answer.clone();
        }
        lab::pause(Duration::from_millis(50));
    }
    panic!("/readyz does not say {code} but {last:?}\n{}", lab.log_tail());
}

/// `chancery status` fails and says the code.
fn status_says(lab: &Lab, code: &str) {
    let output = lab.chancery().arg("status").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(code), "{text}");
}

/// A file system of its own, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(at)
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Writes until there is no room for one more octet.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for chunk in [1 << 20, 1 << 12, 1] {
        let octets = vec![0x5a; chunk];
        while file.write_all(&octets).is_ok() {}
    }
}

fn unavailable(failure: Failure) {
    match failure {
        Failure::Problem { status, body, retry_after } => {
            assert_eq!(status, 503, "{body}");
            assert_eq!(body["type"], "urn:ietf:params:acme:error:serverInternal", "{body}");
            assert!(retry_after.is_some(), "no Retry-After: {body}");
        }
        other => panic!("no problem document: {other:?}"),
    }
}

#[test]
fn a_full_disk_stops_orders_but_not_the_crl_and_passes_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().canonicalize().unwrap().join("state");
    let Some(_mounted) = is_root().then(|| Mounted::tmpfs(&state, 40)).flatten() else {
        return left_out("the full disk: only root may mount a small file system");
    };
    let more = "\n[log]\nsegment-mib = 1\nreserve-mib = 1\n".to_owned();
    let mut plant = Plant::prepare_in(directory.path(), Options { more, ..Options::default() });
    plant.lab.serve();
    let mut client = plant.registered();
    let (lab, runtime) = (&mut plant.lab, &plant.runtime);
    runtime.block_on(client.order(&["before.test"])).unwrap();

    fill(&state.join("ballast"));
    let failure = runtime.block_on(client.order(&["during.test"])).err().unwrap();
    unavailable(failure);
    wait_trouble(lab, "CHY-DISK-FULL");
    status_says(lab, "CHY-DISK-FULL");
    let (serve, web) = (lab.processes()[0].1, lab.process("web"));

    // A new issuer finds no CRL and makes one, full as the disk is.
    let crl = state.join("public/crl/issuing.crl");
    std::fs::remove_file(&crl).unwrap();
    fill(&state.join("ballast-2"));
    lab::signal(lab.process("issuer").unwrap(), "TERM");
    let began = lab::now();
    while !crl.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "no CRL:\n{}", lab.log_tail());
        lab::pause(Duration::from_millis(50));
    }
    wait_trouble(lab, "CHY-DISK-FULL");

    for ballast in ["ballast", "ballast-2"] {
        std::fs::remove_file(state.join(ballast)).unwrap();
    }
    lab.wait_ready(Duration::from_secs(30));
    runtime.block_on(client.order(&["after.test"])).unwrap();
    assert_eq!((serve, web), (lab.processes()[0].1, lab.process("web")), "{}", lab.log_tail());
    lab::succeed(lab.chancery().args(["log", "verify"]));
    lab.stop();
}

#[test]
fn a_clock_set_forward_must_be_accepted_and_one_set_back_signs_nothing() {
    // The `faketime` command stays in between and passes no signal on; its library does all the work.
    let Some(library) = lab::faketime() else {
        return left_out("the clock: Debian's faketime is not installed");
    };
    let mut plant = Plant::prepare(Options::default());
    let (mut newcomer, mut client) = (plant.client(), plant.client());
    let (lab, runtime) = (&mut plant.lab, &plant.runtime);
    let later = |lab: &Lab, arguments: &[&str]| {
        let mut command = lab.chancery();
        command.args(arguments).env("LD_PRELOAD", &library).env("FAKETIME", "+3d");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    };

    // Three days ahead of the ceremony: perhaps right, and for a person to say.
    let mut serve = later(lab, &["serve"]);
    lab.run(&mut serve);
    wait_trouble(lab, "CHY-CLOCK-JUMP");
    status_says(lab, "CHY-CLOCK-JUMP");
    let output = later(lab, &["clock", "accept"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("--yes"), "{text}");
    // Both times: hours and minutes stand in both, whatever the dates are.
    assert_eq!(text.matches('Z').count(), 2, "not both times: {text}");
    lab::succeed(&mut later(lab, &["clock", "accept", "--yes"]));
    lab.wait_ready(Duration::from_secs(30));
    runtime.block_on(client.register()).unwrap();
    runtime.block_on(client.order(&["ahead.test"])).unwrap();
    lab.stop();

    // Today again: every record made from now on would lie before the last one.
    let size = || lab::succeed(lab.chancery().args(["log", "list"])).lines().count();
    let before = size();
    let mut serve = lab.chancery();
    serve.arg("serve");
    lab.run(&mut serve);
    wait_trouble(lab, "CHY-CLOCK-BACK");
    status_says(lab, "CHY-CLOCK-BACK");
    assert!(lab.log_tail().contains("CHY-CLOCK-BACK: "), "{}", lab.log_tail());
    unavailable(runtime.block_on(newcomer.register()).err().unwrap());
    // An order is taken and waits: nothing is lost, and nothing is signed.
    let waits = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(12), client.order(&["behind.test"])).await
    });
    assert!(!matches!(waits, Ok(Ok(_))), "a certificate was issued");
    lab.stop();
    let size = || lab::succeed(lab.chancery().args(["log", "list"])).lines().count();
    assert_eq!(size(), before, "something was recorded");
}

fn contents(dir: &Path, below: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents(&path, below, into);
        } else {
            let name = path.strip_prefix(below).unwrap().to_owned();
            into.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

#[test]
fn wiped_public_files_are_made_whole_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut lab =
        Lab::start_in(directory.path(), Options { http_port: 5002, ..Options::default() });
    lab.stop();
    let public = lab.dir.join("state/public");
    let files = || {
        let mut files = BTreeMap::new();
        contents(&public, &public, &mut files);
        files
    };
    let before = files();
    std::fs::remove_dir_all(&public).unwrap();
    lab.serve();
    lab.stop();
    let after = files();
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, octets) in &before {
        // Checkpoint and the issuing CA's CRLs, shards included, are of this moment.
        let fresh = name == Path::new("checkpoint")
            || name.to_str().is_some_and(|name| name.starts_with("crl/issuing"));
        // A tile has what it had, and what this start recorded.
        let grown = name.starts_with("tiles") && after[name].starts_with(octets);
        assert!(fresh || grown || after[name] == *octets, "{}", name.display());
    }
    assert!(after.contains_key(Path::new("crl/root.crl")), "{:?}", after.keys());
}

/// Ends with the value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        lab::signal(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

#[test]
fn two_users_work_together_and_the_log_is_closed_to_the_web_process() {
    const USERS: (&str, &str) = ("daemon", "nobody");
    if !is_root() {
        return left_out("two users: only root may become others");
    }
    let directory = tempfile::tempdir().unwrap();
    let more = format!("\n[process]\nissuer-user = \"{}\"\nweb-user = \"{}\"\n", USERS.0, USERS.1);
    let options = Options { http_port: 5002, more, ..Options::default() };
    let lab = Lab::prepare(directory.path(), &options);
    // As the systemd-tmpfiles of firmware-config/unit/ do it.
    let (issuer, web) = (format!("{}:daemon", USERS.0), format!("{}:daemon", USERS.1));
    let state = lab.dir.join("state");
    let shell = format!(
        "chmod 755 {dir}; mkdir -p {state}/run {state}/web; chown -R {issuer} {dir}/token {state}; \
         chown {web} {state}/web; chmod 750 {state}/run; chmod 700 {state}/web {state}/issuer",
        dir = lab.dir.display(),
        state = state.display(),
    );
    lab::succeed(Command::new("sh").args(["-ec", &shell]));
    let as_user = |user: &str, verb: &[&str]| {
        let user = format!("--reuid={user}");
        let mut command =
            lab.chancery_under("setpriv", &[&user, "--regid=daemon", "--clear-groups"]);
        command.args(verb);
        command
    };
    if !as_user(USERS.1, &["config", "check"]).output().unwrap().status.success() {
        return left_out("two users: the program or its files cannot be read by others here");
    }
    let start = |user, role: &str| {
        let log = std::fs::File::create(lab.dir.join(format!("{role}.log"))).unwrap();
        Process(as_user(user, &[role]).stdin(Stdio::null()).stderr(log).spawn().unwrap())
    };
    let _web = start(USERS.1, "web");
    {
        let _issuer = start(USERS.0, "issuer");
        let began = lab::now();
        while !lab::get(lab.http, "/readyz").is_some_and(|a| a.starts_with("HTTP/1.1 200")) {
            let said = |role| std::fs::read_to_string(lab.dir.join(format!("{role}.log"))).unwrap();
            let late = began.elapsed() > Duration::from_secs(30);
            assert!(!late, "{}\n{}", said("issuer"), said("web"));
            lab::pause(Duration::from_millis(50));
        }
        let segment = std::fs::read_dir(state.join("issuer/log")).unwrap().next().unwrap().unwrap();
        let read = |user: &str| {
            let user = format!("--reuid={user}");
            Command::new("setpriv")
                .args([&user, "--regid=daemon", "--clear-groups", "head", "-c1"])
                .arg(segment.path())
                .output()
                .unwrap()
                .status
                .success()
        };
        assert!(read(USERS.0) && !read(USERS.1), "{}", segment.path().display());
    }
    // One whom nobody named sits at the socket in the issuer's place, and is not believed.
    let shell = format!(
        "chown -R bin:daemon {}/token {0}/state/issuer {0}/state/run {0}/state/public",
        lab.dir.display()
    );
    lab::succeed(Command::new("sh").args(["-ec", &shell]));
    let _stranger = start("bin", "issuer");
    let began = lab::now();
    loop {
        let said = std::fs::read_to_string(lab.dir.join("web.log")).unwrap();
        if said.contains("CHY-IPC-PEER: ") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{said}");
        lab::pause(Duration::from_millis(50));
    }
}
