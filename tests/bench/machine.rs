//! What the machine says: processor time and memory of processes, the disk under the state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{milliseconds, now};

/// A fresh directory under `target/`, which must not be in memory.
pub fn state_directory() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    let _ = std::fs::remove_dir_all(&target);
    std::fs::create_dir_all(&target).expect("target/bench can be made");
    target
}

/// Prints the file system and the median fdatasync of a small append; refuses tmpfs, on which no
/// figure for a durable log means anything.
pub fn print_disk(state: &Path) {
    use std::io::Write;
    let kind = file_system(state);
    assert!(
        kind != "tmpfs" && kind != "ramfs",
        "{} is on {kind}: durable writes cost nothing there",
        state.display()
    );
    let path = state.join("fdatasync");
    let mut file = std::fs::File::create(&path).expect("a file in the state directory");
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let start = now();
            file.write_all(&[1; 700]).and_then(|()| file.sync_data()).expect("fdatasync");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let _ = std::fs::remove_file(&path);
    println!(
        "state on {kind}; fdatasync after a 700-octet append: median {:.3} ms",
        milliseconds(times[100])
    );
}

/// The type of the file system `path` is on, from the longest mount point above it.
fn file_system(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map_or_else(|| "unknown".into(), |(_, kind)| kind.to_owned())
}

/// User and system time of the processes so far.
pub fn cpu(processes: &[(String, u32)]) -> Duration {
    let ticks: u64 = processes.iter().map(|(_, pid)| ticks(*pid).unwrap_or(0)).sum();
    // USER_HZ is 100 on every Linux that Rust runs on.
    Duration::from_millis(ticks * 10)
}

fn ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Memory of the processes now, in KiB: resident sizes added up, in which the one program file that all
/// of them map counts once for each; and proportional sizes added up, in which it counts once.
pub fn memory_kib(processes: &[(String, u32)]) -> (u64, u64) {
    let field = |pid: u32, file: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let sum = |file: &str, name: &str| {
        processes.iter().map(|(_, pid)| field(*pid, file, name).unwrap_or(0)).sum()
    };
    (sum("status", "VmRSS:"), sum("smaps_rollup", "Pss:"))
}
