//! What the kernel says of this process.

use std::fs;

/// What this process uses. What the kernel does not say is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProcessFigures {
    /// Octets of memory that are in RAM, pages of files included.
    pub resident: u64,
    /// Processor time, in hundredths of a second.
    pub cpu_centiseconds: u64,
    pub threads: u64,
    /// Open file descriptors, and how many there may be.
    pub files: u64,
    pub most_files: u64,
}

/// Reads them in /proc.
pub fn own_process() -> ProcessFigures {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // One of them is the directory that is read.
    let files = fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    ProcessFigures {
        resident: field(&status, "VmRSS:").saturating_mul(1024),
        cpu_centiseconds: cpu(&stat),
        threads: field(&status, "Threads:"),
        files: u64::try_from(files).unwrap_or(u64::MAX),
        most_files: limit.current.unwrap_or_default(),
    }
}

/// The number behind a name.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// utime and stime (proc_pid_stat(5)): the twelfth and thirteenth field behind the name, which may have any character
/// in it. The kernel's clock ticks that it tells are hundredths of a second on every architecture we run on.
fn cpu(stat: &str) -> u64 {
    let Some((_, behind)) = stat.rsplit_once(')') else { return 0 };
    let times = behind.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let own = own_process();
        assert!(own.resident > 1 << 20 && own.resident < 1 << 40, "{own:?}");
        assert!(own.files >= 3 && own.most_files >= own.files, "{own:?}");
        assert!(own.threads >= 1, "{own:?}");
    }

    #[test]
    fn a_name_with_brackets_moves_no_field() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 3 0 900 1000 250";
        assert_eq!(cpu(stat), 281);
        assert_eq!(cpu("nonsense"), 0);
        assert_eq!(field("Name:\tx\nVmRSS:\t   5432 kB\nThreads:\t4\n", "VmRSS:"), 5432);
        assert_eq!(field("", "Threads:"), 0);
    }
}
