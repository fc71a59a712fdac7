//! Names below `local` against Avahi: two network namespaces with a cable between them, the responder and a device's
//! web server on one side, this code on the other; and a second neighbour that claims the same name. Where the kernel
//! lets nobody make namespaces, the test says so and proves nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chancery::acme::challenge::ChallengeType;
use chancery::acme::jws::Thumbprint;
use chancery::acme::problem::ProblemType;
use chancery::env::Resolver;
use chancery::env::net::ResolveError;
use chancery::env::system::{Resolving, SystemDialer, SystemResolver};
use chancery::id::{AccountId, Timestamp};
use chancery::pki::name::Identifier;
use chancery::validate::{Asker, Attempt, Observation, Settings, Validator};

/// Runs `inside` again as the only test of a process in a namespace of its own.
#[test]
fn avahi_s_names_resolve_on_the_interface_that_is_told() {
    let flags = ["-nm", "-rnm"].into_iter().find(|flags| {
        let tried = Command::new("unshare").args([flags, "true"]).output();
        tried.is_ok_and(|output| output.status.success())
    });
    let Some(flags) = flags else {
        eprintln!("no network namespaces here: multicast DNS is not tested");
        return;
    };
    let output = Command::new("unshare")
        .arg(flags)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn inside() {
    let dir = tempfile::tempdir().unwrap();
    // The other side of the cable, with a /run of its own: a machine may have an Avahi already.
    let mut device = Device::new(dir.path());
    run("ip link set lo up");
    run("ip link add here type veth peer name there");
    run(&format!("ip link set there netns {}", device.0.id()));
    run("ip addr add 10.99.0.2/24 dev here");
    run("ip link set here up");
    let served = dir.path().join(".well-known/acme-challenge");
    std::fs::create_dir_all(&served).unwrap();
    std::fs::write(served.join("token"), "token.thumbprint").unwrap();
    device.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let web = format!("python3 -m http.server 80 --directory {}", dir.path().display());
    let mut web = spawn(&format!("nsenter -t {} -n {web}", device.0.id()));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(resolve_and_validate());
        let second = Claimant::start(dir.path(), device.0.id());
        runtime.block_on(two_claimants_are_none());
        drop(second);
        runtime.block_on(resolve_and_validate());
    }));
    let _ = web.kill();
    let _ = web.wait();
    drop(device);
    if let Err(panic) = judged {
        std::panic::resume_unwind(panic);
    }
}

fn resolver() -> Arc<SystemResolver> {
    let timeout = Duration::from_secs(2);
    let multicast = vec!["here".to_owned()];
    let resolving = Resolving { multicast, timeout, ..Resolving::default() };
    Arc::new(SystemResolver::new(&resolving).unwrap())
}

fn attempt(kind: ChallengeType) -> Attempt {
    Attempt {
        kind,
        identifier: Identifier::parse("dns", "printer.local").unwrap(),
        wildcard: false,
        subdomains: false,
        token: "token".to_owned(),
        key_authorization: "token.thumbprint".to_owned(),
        asker: Asker {
            id: AccountId([7; 16]),
            url: "https://ca.lan/acme/acct/7".to_owned(),
            thumbprints: vec![Thumbprint([1; 32])],
            hash_prefix: "https://ca.lan/acme/account-hash/".to_owned(),
        },
        now: Timestamp(1_795_305_599_000),
    }
}

fn validator(resolver: Arc<SystemResolver>) -> Validator {
    let settings = Settings { connect_timeout_seconds: 2, ..Settings::default() };
    Validator::new(settings, resolver, Arc::new(SystemDialer)).unwrap()
}

/// Somebody else on the link says that the name is theirs: it is nobody's until one of the two is silent, and neither
/// is connected to.
async fn two_claimants_are_none() {
    let resolver = resolver();
    let mut found = resolver.addresses("printer.local").await;
    for _ in 0..8 {
        if found.is_err() {
            break;
        }
        // It takes a moment to be up.
        tokio::time::sleep(Duration::from_millis(250)).await;
        found = resolver.addresses("printer.local").await;
    }
    for _ in 0..3 {
        let Err(ResolveError::Failed(why)) = &found else { panic!("{found:?}") };
        assert!(why.contains("two hosts of the link claim this name"), "{why}");
        found = resolver.addresses("printer.local").await;
    }
    let observed = validator(resolver).attempt(attempt(ChallengeType::Http01)).await;
    let Observation::Failed(problem) = observed else { panic!("matched") };
    assert_eq!(problem.kind, ProblemType::Dns, "{problem:?}");
}

async fn resolve_and_validate() {
    let resolver = resolver();
    // Avahi asks whether the name is free before it answers for it.
    let mut found = Err(ResolveError::Timeout);
    for _ in 0..8 {
        found = resolver.addresses("printer.local").await;
        if found.is_ok() {
            break;
        }
    }
    let found = found.unwrap();
    assert!(found.contains(&"10.99.0.1".parse().unwrap()), "{found:?}");
    assert_eq!(resolver.addresses("PRINTER.local").await.map(|a| a.len()), Ok(found.len()));
    assert_eq!(resolver.addresses("nobody.local").await, Err(ResolveError::Timeout));

    let validator = validator(resolver);
    let observed = validator.attempt(attempt(ChallengeType::Http01)).await;
    let from = Some("10.99.0.1".parse().unwrap());
    assert_eq!(observed, Observation::Matched { from, until: None });
    // Whoever is on the link could answer for TXT records: they prove nothing.
    let observed = validator.attempt(attempt(ChallengeType::Dns01)).await;
    let Observation::Failed(problem) = observed else { panic!("matched") };
    assert!(problem.detail.contains("multicast DNS"), "{}", problem.detail);
}

/// Avahi in a namespace of its own, as `printer.local` at 10.99.0.1, once it is given a line on its stdin.
struct Device(Child);

impl Device {
    fn new(dir: &Path) -> Self {
        let configuration = "[server]\nhost-name=printer\nallow-interfaces=there\nenable-dbus=no\n\
                             [publish]\npublish-hinfo=no\npublish-workstation=no\n";
        let file = dir.join("avahi.conf");
        std::fs::write(&file, configuration).unwrap();
        let script = format!(
            "mount -t tmpfs run /run && mkdir /run/avahi-daemon && read go && ip link set lo up && \
             ip addr add 10.99.0.1/24 dev there && ip link set there up && \
             exec avahi-daemon -f {} --no-drop-root --no-chroot --no-rlimits",
            file.display()
        );
        let child = Command::new("unshare")
            .args(["-nm", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
        let own = namespace("self").unwrap();
        for _ in 0..200 {
            if namespace(&child.id().to_string()).is_ok_and(|theirs| theirs != own) {
                break;
            }
            pause(Duration::from_millis(20));
        }
        Self(child)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A neighbour at 10.99.0.9 that answers for `printer.local` whenever it is asked.
struct Claimant(Child);

impl Claimant {
    fn start(dir: &Path, device: u32) -> Self {
        let program = r#"
import socket
def door(address):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        s.setsockopt(socket.SOL_SOCKET, option, 1)
    s.bind((address, 5353))
    return s
ear, mouth = door("224.0.0.251"), door("10.99.0.9")
group = socket.inet_aton("224.0.0.251") + socket.inet_aton("10.99.0.1")
ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
name = b"\x07printer\x05local\x00"
while True:
    question, asker = ear.recvfrom(9000)
    if question[2] & 0x80 == 0 and name in question:
        head = question[:2] + bytes.fromhex("84000000000100000000")
        mouth.sendto(head + name + bytes.fromhex("000180010000000a0004") + bytes([10, 99, 0, 9]), asker)
"#;
        // An address that is not on the cable is none that Avahi answers with.
        run(&format!("nsenter -t {device} -n ip addr add 10.99.0.9/32 dev lo"));
        let file = dir.join("claimant.py");
        std::fs::write(&file, program).unwrap();
        Self(spawn(&format!("nsenter -t {device} -n python3 {}", file.display())))
    }
}

impl Drop for Claimant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(line: &str) {
    let status = spawn(line).wait().unwrap();
    assert!(status.success(), "{line}: {status}");
}

fn spawn(line: &str) -> Child {
    let mut words = line.split(' ');
    Command::new(words.next().unwrap())
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[expect(clippy::disallowed_methods, reason = "tests wait for real processes")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
