//! Promise 4 by attempts from inside the web process: once by the process's own word (`web --try-escape`
//! confines itself exactly as it does before it listens, then tries), and, where the test is root and gdb is
//! there, by calling `open` inside the web process that is really serving.

#[path = "support/lab.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod lab;

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Lab, Options, succeed};

/// What a thief would want: log, index, PIN, token, module.
fn treasures(lab: &Lab) -> Vec<PathBuf> {
    let log = lab.dir.join("state/issuer/log");
    let segment = std::fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file())
        .expect("the log has a segment");
    let module =
        ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())
            .unwrap();
    vec![
        segment,
        lab.dir.join("state/issuer/index.redb"),
        lab.dir.join("token/pin"),
        lab.dir.join("token/softhsm2.conf"),
        module,
    ]
}

#[test]
fn promise_4_the_confined_web_process_reaches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut lab = Lab::start_in(dir.path(), Options::default());
    lab.stop();
    let targets = treasures(&lab);
    for path in &targets {
        assert!(path.exists(), "{} does not exist, so refusing it proves nothing", path.display());
    }
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
}

#[test]
fn promise_4_the_serving_web_process_reaches_nothing() {
    if !rustix::process::geteuid().is_root()
        || Command::new("gdb").arg("--version").output().is_err()
    {
        eprintln!("not run: needs root and gdb");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::start_in(dir.path(), Options::default());
    let web = lab.process("web").expect("the web process runs");
    let status = std::fs::read_to_string(format!("/proc/{web}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // The control: what it may read it can, so a refusal below means something.
    assert!(open_inside(web, &lab.dir.join("state/public/root.pem")) >= 0);
    for path in treasures(&lab) {
        assert!(path.exists());
        assert_eq!(open_inside(web, &path), -1, "opened from inside: {}", path.display());
    }
}

/// What `open(path, O_RDONLY)` returns when the process itself calls it.
fn open_inside(pid: u32, path: &Path) -> i32 {
    let call = format!("print ((int(*)(const char*,int))open)(\"{}\", 0)", path.display());
    let text =
        succeed(Command::new("gdb").args(["-batch", "-nx", "-p", &pid.to_string(), "-ex", &call]));
    let value = text.lines().find_map(|line| line.strip_prefix("$1 = "));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("gdb said:\n{text}"))
}
