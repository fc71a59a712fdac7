//! Promises of a whole box.
//!
//! - promise_2: what the log holds, read back as JSON and compared with what clients downloaded.
//! - promise_3: with each download, the checkpoint that is public at that moment.
//! - promise_4: attempts from inside the web process. By its own word (`web --try-escape` confines itself exactly as
//!   it does before it listens, then tries); where the test is root and gdb is there, by calling `open` inside the web
//!   process that is really serving; and under users of their own, by file permissions alone.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64ct::{Base64, Encoding};
use chancery::log::checkpoint::Checkpoint;
use chancery::log::note::VerifierKey;
use plant::Plant;
use plant::lab::{Lab, Options, get, softhsm, succeed};

/// Several clients at once, so that certificates share cycles of the log. With each chain, the checkpoint that
/// was public right after it was downloaded.
fn enrol(plant: &Plant) -> Vec<(Vec<u8>, String)> {
    let runtime = &plant.runtime;
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (mut client, http) = (plant.client(), plant.lab.http);
            runtime.spawn(async move {
                client.register().await.unwrap();
                let mut seen = Vec::new();
                for serial in 0..4 {
                    let name = format!("d{serial}-{number}.promise.test");
                    let chain = client.order(&[&name]).await.unwrap().chain;
                    let checkpoint = tokio::task::spawn_blocking(move || get(http, "/checkpoint"));
                    let checkpoint = checkpoint.await.unwrap().expect("the checkpoint is served");
                    let (head, note) = checkpoint.split_once("\r\n\r\n").unwrap();
                    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                    seen.push((der(&chain), note.to_owned()));
                }
                seen
            })
        })
        .collect();
    clients.into_iter().flat_map(|client| runtime.block_on(client).unwrap()).collect()
}

#[test]
fn promise_2_and_3_hold_for_every_certificate_that_left_the_box() {
    let plant = Plant::start(Options::default());
    let lab = &plant.lab;
    let seen = enrol(&plant);
    assert_eq!(seen.len(), 16);

    let export = succeed(lab.chancery().args(["log", "export", "--format", "jsonl"]));
    let records: Vec<serde_json::Value> =
        export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let authority = std::fs::read_to_string(lab.dir.join("state/ca/authority.json")).unwrap();
    let authority: serde_json::Value = serde_json::from_str(&authority).unwrap();
    let spki = Base64::decode_vec(authority["log_key"]["spki"].as_str().unwrap()).unwrap();
    let key = VerifierKey::from_spki(authority["origin"].as_str().unwrap(), &spki).unwrap();

    // By serial: the leaf of the intent with its TBS, the leaf of the signature with algorithm and octets.
    let mut intents = HashMap::new();
    let mut issued = HashMap::new();
    for record in &records {
        let text = |member: &str| record[member].as_str().unwrap_or_default().to_owned();
        let leaf = record["leaf"].as_u64().unwrap();
        match record["kind"].as_str().unwrap() {
            "intent" => {
                assert!(intents.insert(text("serial"), (leaf, text("tbs"))).is_none());
            }
            "issued" => {
                let (intent, _) = intents.get(&text("serial")).expect("an intent comes before");
                assert!(*intent < leaf && record["intent"] == *intent, "{record}");
                let made = (text("algorithm"), text("signature"));
                assert!(issued.insert(text("serial"), (leaf, made)).is_none());
            }
            _ => {}
        }
    }
    let mut covered = 0;
    for (certificate, checkpoint) in &seen {
        let [tbs, algorithm, signature] = parts(certificate);
        let serial = serial(tbs);
        assert_eq!(
            intents[&serial].1,
            hex(tbs),
            "promise 2: the certificate's TBS is the intent's"
        );
        let (leaf, logged) = &issued[&serial];
        assert_eq!(
            *logged,
            (hex(algorithm), hex(&signature[1..])),
            "the signature is the one logged"
        );
        let checkpoint = Checkpoint::open(checkpoint.as_bytes(), &key).unwrap();
        assert!(
            checkpoint.head.size > *leaf,
            "promise 3: {} does not cover {leaf}",
            checkpoint.head.size
        );
        covered = covered.max(checkpoint.head.size);
    }
    assert!(covered <= records.len() as u64, "a checkpoint covers what is not there");
    succeed(lab.chancery().args(["log", "verify"]));
}

/// The DER of a chain's first certificate.
fn der(chain: &str) -> Vec<u8> {
    let base64: String = chain
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    Base64::decode_vec(&base64).unwrap()
}

/// TBSCertificate and AlgorithmIdentifier with their headers, and the content of the BIT STRING. Read by hand: no
/// library's idea of these bytes shall stand between the log's and the client's.
fn parts(certificate: &[u8]) -> [&[u8]; 3] {
    let [_, inside, after] = element(certificate);
    assert!(after.is_empty());
    let [tbs, _, rest] = element(inside);
    let [algorithm, _, rest] = element(rest);
    let [_, signature, after] = element(rest);
    assert!(after.is_empty());
    [tbs, algorithm, signature]
}

/// The serial number as 32 hexadecimal digits.
fn serial(tbs: &[u8]) -> String {
    let [_, _version, rest] = element(element(tbs)[1]);
    let text = hex(element(rest)[1]);
    format!("{:0>32}", text.trim_start_matches("00"))
}

/// The first DER element with its header, its content, and what follows it.
fn element(der: &[u8]) -> [&[u8]; 3] {
    let (header, length) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(der[2])),
        0x82 => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
        other => panic!("a length of {other:#x}"),
    };
    let end = header + length;
    [&der[..end], &der[header..end], &der[end..]]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What a thief would want: log, index, PIN, token, module.
fn treasures(lab: &Lab) -> Vec<PathBuf> {
    let log = lab.dir.join("state/issuer/log");
    let segment = std::fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file())
        .expect("the log has a segment");
    let found = vec![
        segment,
        lab.dir.join("state/issuer/log/index.redb"),
        lab.dir.join("state/issuer/admin/key"),
        lab.dir.join("token/pin"),
        lab.dir.join("token/softhsm2.conf"),
        key_object(&lab.dir.join("token/tokens")),
        softhsm(),
    ];
    for path in &found {
        assert!(path.exists(), "{} does not exist, so refusing it proves nothing", path.display());
    }
    found
}

/// A file of the token with an object in it.
fn key_object(tokens: &Path) -> PathBuf {
    let token = std::fs::read_dir(tokens).unwrap().next().unwrap().unwrap().path();
    let mut objects = std::fs::read_dir(token).unwrap().map(|entry| entry.unwrap().path());
    objects.find(|path| path.extension().is_some_and(|it| it == "object")).expect("an object")
}

#[test]
fn promise_4_the_confined_web_process_reaches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // It runs while this is tried: an issuer that answers is the one to be asked.
    let lab = Lab::start_in(dir.path(), Options::default());
    let targets = treasures(&lab);
    let mut command = lab.chancery();
    command.args(["--json", "web", "--try-escape"]);
    for path in &targets {
        command.arg("--target").arg(path);
    }
    let text = succeed(&mut command);
    let attempts: serde_json::Value = serde_json::from_str(&text).unwrap();
    let attempts = attempts["attempts"].as_array().unwrap_or_else(|| attempts.as_array().unwrap());
    assert!(attempts.len() >= 2 * targets.len() + 6, "{text}");
    for attempt in attempts {
        assert!(attempt["refused"].is_string(), "let through: {attempt}");
    }
    assert!(
        attempts.iter().any(|it| it["attempt"].as_str().unwrap().contains("admin socket")),
        "{text}"
    );
}

/// Whether this test can look into other processes.
fn is_root_with_gdb() -> bool {
    let able = cfg!(target_arch = "x86_64")
        && rustix::process::geteuid().is_root()
        && Command::new("gdb").arg("--version").output().is_ok();
    if !able {
        eprintln!("not run: needs root and gdb on x86-64");
    }
    able
}

#[test]
fn promise_4_the_serving_web_process_reaches_nothing() {
    if !is_root_with_gdb() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::start_in(dir.path(), Options::default());
    let web = lab.process("web").expect("the web process runs");
    assert_eq!(status(web, "NoNewPrivs"), ["1"]);
    refused_inside(web, &lab);
}

/// With users of their own, file permissions say the same as the confinement does: tried from inside the serving
/// process, and by another process that has its user and groups but no confinement.
#[test]
fn promise_4_under_separate_users_permissions_alone_refuse_too() {
    if !is_root_with_gdb() {
        return;
    }
    let (issuer_user, web_user) = ("daemon", "nobody");
    let dir = tempfile::tempdir().unwrap();
    // Both must get as far as their state.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let more = format!("[process]\nissuer-user = {issuer_user:?}\nweb-user = {web_user:?}\n");
    let mut lab = Lab::prepare(dir.path(), &Options { more, ..Options::default() });
    // Root held the ceremony, which gave token and PIN to the issuer.
    lab.serve();

    let (issuer, web) = (lab.process("issuer").unwrap(), lab.process("web").unwrap());
    let number = |user: &str, what: &str| -> u32 {
        succeed(Command::new("id").args([what, user])).trim().parse().unwrap()
    };
    for (pid, user) in [(issuer, issuer_user), (web, web_user)] {
        // Real, effective, saved and file system's: there is no way back to root.
        let (uid, gid) = (number(user, "-u").to_string(), number(user, "-g").to_string());
        assert_eq!(status(pid, "Uid"), vec![uid.as_str(); 4], "{user}");
        assert_eq!(status(pid, "Gid"), vec![gid.as_str(); 4], "{user}");
        assert!(status(pid, "Groups").is_empty(), "{user} keeps groups");
        assert_eq!(status(pid, "CapEff"), ["0000000000000000"], "{user}");
        assert_eq!(status(pid, "CapPrm"), ["0000000000000000"], "{user}");
    }
    assert_ne!(status(issuer, "Uid"), status(web, "Uid"));

    let (uid, gid) = (number(web_user, "-u"), number(web_user, "-g"));
    let issuer_uid = number(issuer_user, "-u");
    for (path, owner, group, mode) in [
        ("state/ca", issuer_uid, None, 0o755),
        ("state/issuer", issuer_uid, None, 0o700),
        ("state/issuer/log", issuer_uid, None, 0o700),
        ("state/issuer/admin", issuer_uid, None, 0o700),
        ("state/issuer/admin/key", issuer_uid, None, 0o600),
        ("state/issuer/admin/socket", issuer_uid, None, 0o600),
        ("state/public", issuer_uid, None, 0o755),
        ("state/run", issuer_uid, Some(gid), 0o750),
        ("state/web", uid, Some(gid), 0o700),
        ("token/pin", issuer_uid, None, 0o600),
    ] {
        let found = std::fs::metadata(lab.dir.join(path)).unwrap();
        assert_eq!(found.uid(), owner, "{path}");
        assert!(group.is_none_or(|group| found.gid() == group), "{path}: {}", found.gid());
        assert_eq!(found.mode() & 0o7777, mode, "{path}: {:o}", found.mode());
    }

    let as_web = |program: &str, arguments: &[&Path]| {
        let mut command = Command::new(program);
        command.args(arguments).uid(uid).gid(gid).current_dir("/");
        command.output().unwrap().status.success()
    };
    refused_inside(web, &lab);
    assert!(as_web("cat", &[&lab.dir.join("state/public/root.pem")]), "the control");
    for path in treasures(&lab) {
        // Everyone may read a library that the system installed; it is no use without PIN and token.
        if path.starts_with(&lab.dir) {
            assert!(!as_web("cat", &[&path]), "readable by {web_user}: {}", path.display());
        }
    }
    for directory in ["state", "state/ca", "state/issuer", "state/public", "state/run", "token"] {
        let path = lab.dir.join(directory).join("attempt");
        assert!(!as_web("touch", &[&path]), "{web_user} writes into {directory}");
    }
    assert!(as_web("touch", &[&lab.dir.join("state/web/attempt")]), "the control");
    lab.stop();
}

/// The words of a line of /proc/PID/status.
fn status(pid: u32, member: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(member)?.strip_prefix(':'));
    line.unwrap().split_whitespace().map(str::to_owned).collect()
}

/// What the kernel answers when the process itself calls `open(path, O_RDONLY)`: a descriptor, or a negative errno.
///
/// gdb's own calls write every register, which fails where it knows the processor less well than the kernel does.
/// So this sets just those that matter to the system call in which the first thread waits, and sets them back.
fn open_inside(pid: u32, paths: &[PathBuf]) -> Vec<i64> {
    let mut script = String::from(
        "set language c\nset scheduler-locking on\nset $back = $rip\n\
         if *(unsigned short *)($rip - 2) != 0x050f\n printf \"not in a system call\\n\"\n quit 1\nend\n",
    );
    let saved = ["rax", "rdi", "rsi", "rdx", "rcx", "r11", "orig_rax"];
    for register in saved {
        script += &format!("set $was_{register} = ${register}\n");
    }
    for path in paths {
        let path = path.to_str().unwrap();
        script += &format!(
            "set {{char [{}]}} ($rsp - 8192) = \"{path}\"\nset $orig_rax = -1\nset $rax = {SYS_OPEN}\n\
             set $rdi = $rsp - 8192\nset $rsi = 0\nset $rdx = 0\nset $rip = $back - 2\nstepi\n\
             printf \"open: %ld\\n\", $rax\n",
            path.len() + 1
        );
    }
    script += "set $rip = $back\n";
    for register in saved {
        script += &format!("set ${register} = $was_{register}\n");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script + "detach\n").unwrap();
    let text = succeed(
        Command::new("gdb").args(["-batch", "-nx", "-p", &pid.to_string(), "-x"]).arg(file.path()),
    );
    let answers: Vec<i64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("open: "))
        .map(|answer| answer.trim().parse().unwrap())
        .collect();
    assert_eq!(answers.len(), paths.len(), "gdb said:\n{text}");
    answers
}

/// `open` of x86-64.
const SYS_OPEN: u32 = 2;
const EACCES: i64 = 13;

/// The public file can be opened from inside, so the refusals mean something; the treasures cannot.
fn refused_inside(web: u32, lab: &Lab) {
    let mut paths = vec![lab.dir.join("state/public/root.pem")];
    paths.extend(treasures(lab));
    let answers = open_inside(web, &paths);
    assert!(answers[0] >= 0, "{}: {}", paths[0].display(), answers[0]);
    for (path, answer) in paths.iter().zip(answers).skip(1) {
        assert_eq!(answer, -EACCES, "opened from inside: {}", path.display());
    }
    // It was asked as it runs, and runs on.
    assert_eq!(lab.process("web"), Some(web));
    lab.wait_ready(std::time::Duration::from_secs(5));
}
