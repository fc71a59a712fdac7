//! What `firmware-config/unit/` and `firmware-config/net/` say, judged by the tools that will read them, and by what
//! the processes really do. A tool that is missing is named and passed over, but not where `CI` is set.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plant::Plant;
use plant::lab::{self, Lab, Options, succeed};

const UNITS: [&str; 2] = ["chancery-issuer", "chancery-web"];

/// Whether the tool is there.
fn has(tool: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("PATH=$PATH:/usr/sbin command -v {tool}")])
        .output()
        .unwrap()
        .status
        .success();
    assert!(found || std::env::var_os("CI").is_none(), "{tool} is missing");
    if !found {
        eprintln!("not run: {tool} is missing (images/packages.sh test)");
    }
    found
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not run: needs root");
    }
    root
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

fn unit(name: &str) -> String {
    read(&format!("firmware-config/unit/{name}.service"))
}

/// The drop-ins for the issuer's unit, by name.
fn drop_ins() -> Vec<(String, String)> {
    let directory = std::fs::read_dir(repository("firmware-config/unit/token")).unwrap();
    let mut names: Vec<String> = directory
        .map(|entry| format!("token/{}", entry.unwrap().file_name().into_string().unwrap()))
        .collect();
    names.push("pin-sealed.conf".to_owned());
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    let read = |name: String| {
        let text = read(&format!("firmware-config/unit/{name}"));
        (name, text)
    };
    names.into_iter().map(read).collect()
}

/// What systemd says of units in a directory of their own; and each service's exposure, in tenths, must not be above 1.4.
fn judge(units: &[(String, String)]) {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = units
        .iter()
        .map(|(name, text)| {
            let path = directory.path().join(name);
            let program = env!("CARGO_BIN_EXE_chancery");
            // Not where they may be executed: there, the program is elsewhere.
            let text = text.replace("=/usr/bin/chancery", &format!("={program}"));
            std::fs::write(&path, text.replace("+/usr/bin/chancery", &format!("+{program}")))
                .unwrap();
            path
        })
        .collect();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&paths).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("chancery")).collect();
    assert!(output.status.success() && ours.is_empty(), "{units:?}: {said}");
    for service in paths.iter().filter(|path| path.extension().is_some_and(|it| it == "service")) {
        succeed(
            Command::new("systemd-analyze")
                .args(["security", "--offline=true", "--threshold=14", "--no-pager"])
                .arg(service),
        );
    }
}

#[test]
fn systemd_understands_the_units_and_finds_little_exposed() {
    if !has("systemd-analyze") {
        return;
    }
    let socket =
        ("chancery-web.socket".to_owned(), read("firmware-config/unit/chancery-web.socket"));
    let services = UNITS.map(|name| (format!("{name}.service"), unit(name)));
    let [issuer, web] = services;
    judge(&[issuer.clone(), web, socket]);
    let backup = ["chancery-backup.service", "chancery-backup.timer"];
    judge(&backup.map(|name| (name.to_owned(), read(&format!("firmware-config/unit/{name}")))));
    // Each drop-in as if it stood at the unit's end, which is how systemd reads it.
    for (name, text) in drop_ins() {
        println!("{name}");
        judge(&[(issuer.0.clone(), format!("{}\n{text}", issuer.1))]);
    }
}

/// Where the socket unit listens is where a box listens that says nothing else, or its connections would have nobody.
#[test]
fn the_socket_unit_listens_where_the_configuration_does() {
    let socket = read("firmware-config/unit/chancery-web.socket");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chancery.toml");
    let [board, token] =
        ["firmware-config/board/generic.toml", "hsm/token/tpm2-pkcs11.toml"].map(repository);
    std::fs::write(&file, format!("inherit = [{board:?}]\ntoken = {token:?}\n")).unwrap();
    let web = chancery::config::load(&file).unwrap().web;
    let ports = web.listen.iter().chain(&web.listen_http).map(|address| address.port().to_string());
    assert_eq!(setting(&socket, "ListenStream"), ports.collect::<Vec<_>>());
    let every = |address: &std::net::SocketAddr| address.ip().is_unspecified();
    assert!(web.listen.iter().chain(&web.listen_http).all(every));
    // So the process needs no capability for them.
    assert_eq!(setting(&unit("chancery-web"), "CapabilityBoundingSet"), [""; 0]);
    assert_eq!(setting(&unit("chancery-web"), "Requires"), ["chancery-web.socket"]);
}

#[test]
fn users_and_directories_are_made_as_the_units_want_them() {
    if !has("systemd-sysusers") || !has("systemd-tmpfiles") || !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("etc")).unwrap();
    let root = format!("--root={}", directory.path().display());
    let conf = |name: &str| repository(&format!("firmware-config/unit/{name}.conf"));
    succeed(Command::new("systemd-sysusers").arg(&root).arg(conf("sysusers")));
    succeed(Command::new("systemd-tmpfiles").args([&root, "--create"]).arg(conf("tmpfiles")));
    let passwd = std::fs::read_to_string(directory.path().join("etc/passwd")).unwrap();
    for name in UNITS {
        assert!(passwd.lines().any(|line| line.starts_with(&format!("{name}:"))), "{passwd}");
        let unit = unit(name);
        assert!(unit.contains(&format!("User={name}\n")));
        for path in setting(&unit, "ReadWritePaths") {
            assert!(directory.path().join(path.trim_start_matches('/')).is_dir(), "{path}");
        }
    }
}

#[test]
fn nft_understands_the_firewall() {
    if !has("nft") || !is_root() {
        return;
    }
    let sample = repository("firmware-config/net/firewall.nft");
    let text = std::fs::read_to_string(&sample).unwrap();
    assert!(text.contains("\"chancery-web\""));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firewall.nft");
    // The user does not exist here.
    std::fs::write(&path, text.replace("\"chancery-web\"", "\"nobody\"")).unwrap();
    // A name space of its own, loaded twice: the sample replaces what it made before.
    let load = "PATH=$PATH:/usr/sbin; nft -f $0 && nft -f $0 && nft list table inet chancery";
    let listed = succeed(Command::new("unshare").args(["-n", "sh", "-c", load]).arg(&path));
    assert_eq!(listed.matches("policy drop").count(), 2, "{listed}");
}

/// Each unit's SystemCallFilter= lets through what its process calls from start to end, an enrolment between.
#[test]
fn the_units_allow_every_system_call_that_is_made() {
    if !has("systemd-analyze") || !has("strace") {
        return;
    }
    let plant = Plant::prepare(Options::default());
    let lab = &plant.lab;
    let traced: Vec<Traced> =
        ["issuer", "web"].into_iter().map(|role| Traced::start(lab, role)).collect();
    lab.wait_ready(Duration::from_secs(60));
    plant.enrol(&mut plant.registered(), &["traced.lab.test"]);
    let groups = groups();
    let called = backup_under_strace(lab);
    let allowed = |name: &str| allowed(&unit(name), &groups);
    let refused: Vec<_> = called.difference(&allowed("chancery-backup")).cloned().collect();
    assert!(called.contains("renameat2") && refused.is_empty(), "backup: {refused:?}");
    for (mut process, name) in traced.into_iter().zip(UNITS) {
        let called = process.end();
        assert!(called.contains("fdatasync") || name == "chancery-web", "{called:?}");
        assert!(called.contains("landlock_restrict_self") == (name == "chancery-web"));
        let allowed = allowed(name);
        let refused: Vec<_> = called.difference(&allowed).collect();
        assert!(refused.is_empty(), "{name}: {refused:?}");
    }
}

/// A process of the box under strace.
struct Traced {
    strace: Child,
    names: PathBuf,
}

impl Traced {
    fn start(lab: &Lab, role: &str) -> Self {
        let names = lab.dir.join(format!("{role}.calls"));
        let arguments = ["-f", "-qq", "-c", "-U", "name", "-o", names.to_str().unwrap()];
        let strace = lab
            .chancery_under("strace", &arguments)
            .arg(role)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { strace, names }
    }

    /// Asks the process to stop; the names of all it has called.
    fn end(&mut self) -> BTreeSet<String> {
        let id = self.strace.id();
        let children = format!("/proc/{id}/task/{id}/children");
        for child in std::fs::read_to_string(children).unwrap().split_whitespace() {
            lab::signal(child.parse().unwrap(), "TERM");
        }
        self.strace.wait().unwrap();
        called(&self.names)
    }
}

/// The names in what `strace -c -U name` wrote.
fn called(names: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(names).unwrap();
    let words = text.split_whitespace().filter(|word| {
        word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    });
    words.filter(|word| *word != "syscall" && *word != "total").map(str::to_owned).collect()
}

/// What `chancery backup` calls, the box serving.
fn backup_under_strace(lab: &Lab) -> BTreeSet<String> {
    let names = lab.dir.join("backup.calls");
    let arguments = ["-f", "-qq", "-c", "-U", "name", "-o", names.to_str().unwrap()];
    let mut command = lab.chancery_under("strace", &arguments);
    command.args(["backup", "--to", "archive.age", "--recipient"]);
    succeed(command.arg("age1qykh3afkrn3k0pvaptw793dtvudpvfzf2kd5ed23q8ur99vng59sq4klhf"));
    called(&names)
}

impl Drop for Traced {
    fn drop(&mut self) {
        // What it traces ends with it.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// The values of a setting, all its lines in order.
fn setting<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).collect()
}

/// systemd's groups of system calls, by name.
fn groups() -> BTreeMap<String, Vec<String>> {
    let text = succeed(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]));
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut group = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        match line.strip_prefix(' ') {
            None => group = line.to_owned(),
            Some(member) => {
                groups.entry(group.clone()).or_default().push(member.trim().to_owned());
            }
        }
    }
    assert!(groups.contains_key("@system-service"), "{text}");
    groups
}

fn expand(name: &str, groups: &BTreeMap<String, Vec<String>>, into: &mut BTreeSet<String>) {
    match groups.get(name) {
        None => drop(into.insert(name.to_owned())),
        Some(members) => members.iter().for_each(|member| expand(member, groups, into)),
    }
}

/// What a unit's filter lets through; systemd adds @default by itself.
fn allowed(unit: &str, groups: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    expand("@default", groups, &mut allowed);
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let mut named = BTreeSet::new();
        for name in line.trim_start_matches('~').split_whitespace() {
            expand(name, groups, &mut named);
        }
        match line.starts_with('~') {
            true => allowed.retain(|name| !named.contains(name)),
            false => allowed.extend(named),
        }
    }
    allowed
}
