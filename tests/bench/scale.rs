//! `make scale`: a log as it is after ten years, and what it costs then.
//!
//! Grows one log through several sizes with the real writer and real signatures, made in software, and
//! measures at each size, in fresh processes: how fast records are appended, how long a start takes, also
//! after a kill, how long each index needs to find something, how fast all is verified and the index built
//! again, how much memory that takes, and how many octets a certificate costs on disk.
//!
//! `CHANCERY_SCALE` is the number of certificates, ten million unless it says otherwise; sizes are powers
//! of ten from ten thousand on. The log is in `target/scale` and removed at the end. Figures are of this run on
//! this machine; what must not grow with the log is held by assertions.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a program of its own")]

#[path = "scale/fill.rs"]
mod fill;
#[path = "scale/measure.rs"]
mod measure;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use measure::Figures;

/// Where the log and its files are.
pub struct Place {
    pub log: PathBuf,
    pub public: PathBuf,
    pub issuing: PathBuf,
}

impl Place {
    fn new(root: &Path) -> Self {
        Self {
            log: root.join("log"),
            public: root.join("public"),
            issuing: root.join("issuing.pem"),
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/scale");
    let place = Place::new(&root);
    if let Some((role, certificates)) = arguments.split_first().filter(|(a, _)| !a.starts_with('-'))
    {
        let certificates = certificates.first().map_or(0, |text| text.parse().unwrap());
        return measure::child(role, &place, certificates);
    }
    let most: u64 = std::env::var("CHANCERY_SCALE")
        .map_or(10_000_000, |text| text.replace('_', "").parse().unwrap());
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root).unwrap();
    let mut all = Vec::new();
    let mut certificates = 0;
    for size in sizes(most) {
        let began = now();
        let appended = fill::grow(&place, certificates, size);
        let took = began.elapsed();
        certificates = size;
        let mut figures = Figures {
            certificates: size,
            append_rate: appended as f64 / took.as_secs_f64(),
            ..Figures::default()
        };
        measure::disk(&place, &mut figures);
        assert!(child("settle", certificates).is_empty());
        certificates += 2 * fill::LAST;
        for role in ["open", "find"] {
            figures.of_role.insert(role, child(role, certificates));
        }
        // Killed with a few thousand certificates that the index has not, and started again. Before the index is
        // rebuilt: the points of a new one lie further apart.
        let killed = child("die", certificates);
        assert!(killed.is_empty(), "the child that should die did not");
        certificates += fill::LAST;
        figures.of_role.insert("after a kill", child("open", certificates));
        for role in ["verify", "rebuild"] {
            figures.of_role.insert(role, child(role, certificates));
        }
        println!("{figures}");
        all.push(figures);
    }
    println!("{}", measure::Table(&all));
    measure::flat(&all);
    std::fs::remove_dir_all(&root).unwrap();
}

/// Ten thousand and its powers of ten, up to `most`, and `most`.
fn sizes(most: u64) -> Vec<u64> {
    let mut sizes: Vec<u64> =
        (4..).map(|power| 10_u64.pow(power)).take_while(|n| *n < most).collect();
    sizes.push(most);
    sizes
}

/// Runs this program in a role, in a process of its own; its figures by name.
fn child(role: &str, certificates: u64) -> BTreeMap<String, f64> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([role, &certificates.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() || role == "die", "{role}: {}: {text}", output.status);
    text.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, figure)| (name.to_owned(), figure.parse().unwrap()))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark goes by real time")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

pub fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
