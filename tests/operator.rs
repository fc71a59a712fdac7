//! What an operator gets wrong, and what the box says: one clear message with a code, where, and what to do.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod lab;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use lab::{Lab, Options};

/// Runs the program to its end, at most 30 s; gives exit code and standard error.
fn run(command: &mut Command) -> (i32, String) {
    let output: Output = Command::new("timeout")
        .arg("30")
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

/// Exactly one line that is not a log line begins with the code, and `why` knows it.
fn says(text: &str, code: &str) {
    let hits = text.lines().filter(|line| line.starts_with(&format!("{code}: "))).count();
    assert_eq!(hits, 1, "not exactly one line begins with {code}:\n{text}");
    let told = lab::succeed(Command::new(env!("CARGO_BIN_EXE_chancery")).args(["why", code]));
    assert!(told.contains("means") && told.contains("do "), "{told}");
}

fn prepared() -> (tempfile::TempDir, Lab) {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::prepare(directory.path(), &Options { http_port: 5002, ..Options::default() });
    (directory, lab)
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} does not stand in {}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_malformed_configuration() {
    let (_directory, lab) = prepared();
    let config = lab.dir.join("chancery.toml");
    edit(&config, "base-url", "base-ulr");
    for verb in ["serve", "web", "issuer", "status"] {
        let (exit, text) = run(lab.chancery().arg(verb));
        assert_eq!(exit, 78, "{verb}: {text}");
        says(&text, "CHY-CONFIG-KEY");
        assert!(text.contains("chancery.toml:8") && text.contains("`base-url`"), "{text}");
    }
}

#[test]
fn before_the_first_ceremony() {
    let (_directory, lab) = prepared();
    std::fs::remove_dir_all(lab.dir.join("state")).unwrap();
    let (exit, text) = run(lab.chancery().arg("serve"));
    assert_eq!(exit, 78, "{text}");
    says(&text, "CHY-CA-ABSENT");
}

#[test]
fn a_missing_module() {
    let (_directory, lab) = prepared();
    edit(
        &lab.dir.join("chancery.toml"),
        "[state]",
        "[token]\nmodule = \"/nowhere/module.so\"\n\n[state]",
    );
    // `token` is a file's name in the board, so the table replaces it whole.
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 78, "{text}");
    says(&text, "CHY-MODULE-ABSENT");
    assert!(text.contains("/nowhere/module.so"), "{text}");
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let (_directory, lab) = prepared();
    let pin = lab.dir.join("token/pin");
    let right = std::fs::read(&pin).unwrap();
    std::fs::write(&pin, "0000-wrong").unwrap();
    let (exit, text) = run(lab.chancery().arg("serve"));
    assert_eq!(exit, 78, "{text}");
    assert!(text.contains("CHY-PIN-REFUSED: ") && text.contains("CHY-SERVE-REFUSED: "), "{text}");
    // SoftHSM2 counts no wrong PIN, so what the second start logs is the evidence that it tried none: with the
    // token out of reach a trial would end otherwise.
    let moved = lab.dir.join("token/tokens-away");
    std::fs::rename(lab.dir.join("token/tokens"), &moved).unwrap();
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 78, "{text}");
    assert!(text.contains("CHY-PIN-REFUSED"), "{text}");
    std::fs::rename(moved, lab.dir.join("token/tokens")).unwrap();
    assert!(!text.contains("0000-wrong"), "{text}");
    // The PIN corrected, the box starts.
    std::fs::write(&pin, right).unwrap();
    let mut lab = lab;
    lab.serve();
    lab.stop();
}

#[test]
fn a_pin_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, lab) = prepared();
    let pin = lab.dir.join("token/pin");
    std::fs::set_permissions(&pin, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 78, "{text}");
    says(&text, "CHY-PIN-FILE");
    assert!(text.contains("0644"), "{text}");
}

#[test]
fn a_port_in_use() {
    let (_directory, lab) = prepared();
    let _taken = TcpListener::bind(lab.http).unwrap();
    let (exit, text) = run(lab.chancery().arg("web"));
    assert_eq!(exit, 78, "{text}");
    assert!(text.contains(&lab.http.to_string()), "{text}");
    says(&text, "CHY-PORT");
}

#[test]
fn the_log_of_another_ca() {
    let (_one, lab) = prepared();
    let (_other, other) = prepared();
    let log = lab.dir.join("state/issuer/log");
    std::fs::remove_dir_all(&log).unwrap();
    lab::succeed(Command::new("cp").arg("-a").arg(other.dir.join("state/issuer/log")).arg(&log));
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 78, "{text}");
    assert!(text.lines().any(|line| line.starts_with("CHY-LOG-")), "{text}");
}

#[test]
fn doctor_names_what_is_wrong() {
    let (_directory, lab) = prepared();
    let out = lab::succeed(lab.chancery().args(["doctor", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["ok"], true, "{out}");
    let keys =
        report["findings"].as_array().unwrap().iter().filter(|f| f["check"] == "key").count();
    assert_eq!(keys, 3, "{out}");
    std::fs::rename(lab.dir.join("token/tokens"), lab.dir.join("token/away")).unwrap();
    std::fs::create_dir(lab.dir.join("token/tokens")).unwrap();
    let output = lab.chancery().args(["doctor", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["ok"]), (Some(1), &serde_json::json!(false)));
    let absent = |f: &serde_json::Value| f["code"] == "CHY-TOKEN-ABSENT" && f["do"].is_string();
    assert!(report["findings"].as_array().unwrap().iter().any(absent), "{report}");
}

#[test]
fn a_pin_and_a_token_that_the_issuers_user_does_not_reach() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: needs root, to have two users");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let more = "[process]\nissuer-user = \"daemon\"\nweb-user = \"nobody\"\n".to_owned();
    let lab = Lab::prepare(directory.path(), &Options { more, ..Options::default() });
    let findings = || {
        let output = lab.chancery().args(["doctor", "--no-login", "--json"]).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["findings"].as_array().unwrap().clone()
    };
    let users = || -> Vec<String> {
        let findings = findings();
        let of_users = findings.iter().filter(|finding| finding["check"] == "users");
        of_users.map(|finding| finding["text"].as_str().unwrap().to_owned()).collect()
    };
    // The ceremony gave them away.
    assert_eq!(users().len(), 1, "{:?}", users());
    assert!(users()[0].starts_with("`daemon` reaches"), "{:?}", users());

    lab::succeed(Command::new("chown").args(["-R", "root:"]).arg(lab.dir.join("token")));
    let found = users();
    assert_eq!(found.len(), 3, "PIN, conf and tokens: {found:?}");
    for text in found {
        assert!(text.starts_with("CHY-OWNER: "), "{text}");
        let command = text.split_once("; ").unwrap().1;
        lab::succeed(Command::new("sh").args(["-c", command]));
    }
    assert!(users()[0].starts_with("`daemon` reaches"), "{:?}", users());
}

#[test]
fn a_ceremony_for_a_user_that_does_not_exist_makes_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: needs root, to hold it for somebody else");
        return;
    }
    let (_directory, lab) = prepared();
    std::fs::remove_dir_all(lab.dir.join("state")).unwrap();
    edit(
        &lab.dir.join("chancery.toml"),
        "[state]",
        "[process]\nissuer-user = \"nobody-of-this-name\"\n\n[state]",
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("hsm/ceremony/lab.toml");
    let (exit, text) = run(lab.chancery().args(["ceremony", "run"]).arg(file).arg("--yes"));
    assert_eq!(exit, 78, "{text}");
    says(&text, "CHY-CONFIG-VALUE");
    assert!(!lab.dir.join("state/ca").exists(), "{text}");
}

/// What a service manager is told: ready only when both processes are, and what is away since.
#[test]
fn serve_is_ready_when_both_processes_are() {
    let (_directory, mut lab) = prepared();
    let socket = UnixDatagram::bind(lab.dir.join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("the service manager is told something");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = lab.chancery();
    command.arg("serve").env("NOTIFY_SOCKET", lab.dir.join("notify"));
    lab.run(&mut command);
    let first = next();
    assert_eq!(first.trim(), "STATUS=issuer: starting; web: starting");
    let ready = loop {
        let said = next();
        if said.contains("READY=1") {
            break said;
        }
        assert!(said.contains("starting"), "{said}");
    };
    assert!(ready.contains("STATUS=issuer: ready; web: ready"), "{ready}");
    let answer = lab::get(lab.http, "/healthz").expect("the web process answers at once");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    lab::signal(lab.process("issuer").unwrap(), "KILL");
    let mut said = Vec::new();
    while said.last().is_none_or(|last: &String| !last.contains("issuer: ready")) {
        said.push(next());
    }
    assert!(said[0].contains("issuer: ended"), "{said:?}");
    assert!(!said.concat().contains("READY=1"), "ready is said once: {said:?}");
    lab.stop();
    assert!(next().contains("STOPPING=1"));
}

#[test]
fn the_web_process_cannot_get_out() {
    let (_directory, lab) = prepared();
    let out = lab::succeed(lab.chancery().args(["web", "--try-escape", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let attempts = report["attempts"].as_array().unwrap();
    assert!(attempts.len() >= 12, "{out}");
    assert!(attempts.iter().all(|attempt| attempt["refused"].is_string()), "{out}");
}

#[test]
fn destructive_verbs_want_a_yes_and_a_needless_one_is_refused() {
    let (_directory, lab) = prepared();
    let (exit, text) = run(lab.chancery().args(["clock", "accept", "--yes"]));
    assert_eq!(exit, 1, "{text}");
    says(&text, "CHY-CLOCK-ACCEPT-NEEDLESS");
}

/// An absent token is a state, not an end: the issuer stays and says which tokens it sees instead.
#[test]
fn a_wrong_token_label() {
    let (_directory, lab) = prepared();
    edit(&lab.dir.join("state/ca/authority.json"), "token=chancery", "token=elsewhere");
    let output = Command::new("timeout")
        .args(["5", env!("CARGO_BIN_EXE_chancery"), "issuer"])
        .envs(lab.chancery().get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("CHY-TOKEN-ABSENT: "), "{text}");
    assert!(text.contains("token=elsewhere") && text.contains("token=chancery;serial="), "{text}");
}

/// What `doctor` tried in vain it remembers for the issuer, and tries no second time.
#[test]
fn doctor_does_not_try_a_refused_pin_again() {
    let (_directory, lab) = prepared();
    std::fs::write(lab.dir.join("token/pin"), "0000-wrong").unwrap();
    let pin = |command: &mut Command| {
        let output = command.args(["doctor", "--json"]).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ok"], false, "{report}");
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|f| f["code"] == "CHY-PIN-REFUSED").cloned();
        found.unwrap_or_else(|| panic!("{report}"))["text"].as_str().unwrap().to_owned()
    };
    assert!(!pin(&mut lab.chancery()).contains("not tried again"));
    assert!(lab.dir.join("state/issuer/pin-refused").exists());
    assert!(pin(&mut lab.chancery()).contains("not tried again"));
    // And the issuer obeys in turn.
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 78, "{text}");
    assert!(text.contains("CHY-PIN-REFUSED"), "{text}");
}
