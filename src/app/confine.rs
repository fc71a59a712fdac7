//! How a process gives up what it does not need, before it does anything a stranger can influence.
//!
//! The web process reads `public/` and `ca/`, reads and writes `web/`, talks to the issuer's socket, listens on
//! its configured ports and dials the ports that validation and its log's witnesses need. Everything else (the log, the PIN's file,
//! the PKCS#11 module, any program) is out of its reach, whoever runs its code, even on one user account.

use std::collections::BTreeSet;
use std::fmt;
use std::net::TcpListener;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::Failure;
use crate::config::Config;

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// In words, for the log and for `doctor`.
    pub words: String,
    /// Whether files are confined at all.
    pub enforced: bool,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// No core dumps, and no process of the same user may read this one's memory.
pub fn no_dumps() -> Result<(), Failure> {
    let failed = |what: &str, error: rustix::io::Errno| {
        Failure::failed(format!("CHY-OS: {what} is refused: {error}"))
    };
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| failed("switching core dumps off", error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| failed("closing this process to others of its user", error))
}

/// Confines the calling thread, and every thread it starts from now on, to what the web process needs.
/// Must be called before any other thread exists. `given` are the sockets that are listened on already.
pub fn web(config: &Config, given: &[TcpListener]) -> Result<Confinement, Failure> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| Failure::failed(format!("CHY-OS: no_new_privs is refused: {error}")))?;
    let confinement = restrict(config, given).map_err(|error| {
        Failure::operator(format!("CHY-CONFINE: the web process cannot confine itself: {error}"))
    })?;
    if !confinement.enforced && !config.process.unconfined {
        return Err(Failure::operator(
            "CHY-CONFINE: this kernel has no Landlock, so a taken-over web process could read what its user can; \
             use a kernel with it (5.13 or newer), or for a lab set [process] unconfined = true"
                .into(),
        ));
    }
    Ok(confinement)
}

/// The kernel's Landlock ABI, if it has one that is switched on. Found out on a thread that ends with it.
pub fn available() -> Option<i32> {
    let probe = || {
        let rules = Ruleset::default().handle_access(AccessFs::Execute).ok()?.create().ok()?;
        match rules.restrict_self().ok()?.landlock {
            LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as i32),
            _ => None,
        }
    };
    std::thread::spawn(probe).join().ok().flatten()
}

fn restrict(
    config: &Config,
    given: &[TcpListener],
) -> Result<Confinement, Box<dyn std::error::Error>> {
    let abi = NEWEST;
    let files = AccessFs::from_all(abi);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = files
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files)?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    let paths = &config.paths;
    for (path, access) in [(paths.public(), read), (paths.ca(), read), (paths.web(), write)] {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(&path)?, access))?;
    }
    for path in READABLE {
        // Those that are not there need no rule.
        if let Ok(opened) = PathFd::new(path) {
            let access: BitFlags<AccessFs> =
                if Path::new(path).is_dir() { read } else { AccessFs::ReadFile.into() };
            rules = rules.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    let ports = Ports::of(config, given);
    for port in &ports.listen {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    for port in &ports.dial {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    let status = rules.restrict_self()?;
    let kernel = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        _ => 0,
    };
    let enforced = status.ruleset != RulesetStatus::NotEnforced;
    let words = if enforced {
        let net = if kernel >= 4 { "TCP ports" } else { "no ports (kernel too old)" };
        let scope = if kernel >= 6 {
            "signals and abstract sockets"
        } else {
            "no signals (kernel too old)"
        };
        format!("Landlock ABI {kernel}: files, {net}, {scope}; no_new_privs; no core dumps")
    } else {
        "no Landlock in this kernel: only no_new_privs and no core dumps".to_owned()
    };
    Ok(Confinement { words, enforced })
}

/// The newest ABI whose rights these rules were written for.
const NEWEST: ABI = ABI::V6;

/// What name resolution and the process's own statistics read.
const READABLE: &[&str] = &[
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/hosts",
    "/proc/self",
    "/proc/stat",
    "/sys/fs/cgroup",
    "/dev/null",
    "/dev/urandom",
];

/// TCP ports by what may be done with them.
struct Ports {
    listen: BTreeSet<u16>,
    dial: BTreeSet<u16>,
}

impl Ports {
    /// A port that is listened on already need not be bound.
    fn of(config: &Config, given: &[TcpListener]) -> Self {
        let given: BTreeSet<u16> =
            given.iter().filter_map(|it| Some(it.local_addr().ok()?.port())).collect();
        let (web, validation) = (&config.web, &config.validation);
        let listen = [&web.listen, &web.listen_http, &web.listen_metrics];
        let resolvers = validation.resolvers.iter().flat_map(|zone| &zone.servers);
        Self {
            listen: listen
                .into_iter()
                .flatten()
                .map(std::net::SocketAddr::port)
                .filter(|port| !given.contains(port))
                .collect(),
            dial: [validation.http_port, validation.tls_port, DNS]
                .into_iter()
                .chain(validation.redirect_ports.iter().copied())
                .chain(resolvers.map(std::net::SocketAddr::port))
                .chain(
                    web.witnesses.iter().filter_map(|witness| Some(witness.place().ok()?.port())),
                )
                .collect(),
        }
    }
}

const DNS: u16 = 53;
