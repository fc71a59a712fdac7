//! `chancery serve`: starts issuer and web process of this same binary, restarts them, ends with them.
//!
//! No runtime and no lock: one thread waits for events (a signal, a child that ended or spoke, a time that came).
//!
//! Each child's standard input is one end of a socket pair, over which it says once that it is ready. So the
//! supervisor can tell a process that worked and was killed, which is wanted back at once, from one that cannot
//! start, which must not be hammered: see [`Backoff`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Failure;
use super::directories::{self, Owner};
use super::logging::Format;
use super::notify::Manager;
use crate::config::Config;
use crate::env::Clock;
use crate::env::system::SystemClock;

/// Whether this process was started by the supervisor.
pub(super) fn is_supervised() -> bool {
    std::env::var_os(SUPERVISED).is_some()
}

/// Asks the kernel to end this process when its supervisor ends; ends it now if it already has.
pub(super) fn die_with_supervisor() -> Result<(), Failure> {
    let Some(expected) = std::env::var(SUPERVISED).ok().and_then(|text| text.parse::<i32>().ok())
    else {
        return Ok(());
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| {
        Failure::failed(format!("CHY-OS: cannot follow the supervisor: {error}"))
    })?;
    // It may have ended before the line above.
    match rustix::process::getppid() {
        Some(parent) if parent.as_raw_nonzero().get() == expected => Ok(()),
        _ => Err(Failure::retry("CHY-OS: the supervisor is gone".into())),
    }
}

/// Tells the supervisor, if there is one, that this process is ready.
pub(super) fn tell_ready() {
    if is_supervised() {
        // A supervisor that is gone has ended this process already.
        let _ = rustix::io::write(std::io::stdin(), READY);
    }
}

const READY: &[u8] = b"R";

/// Holds the supervisor's process id.
const SUPERVISED: &str = "CHANCERY_SUPERVISOR";

/// Runs both processes until SIGTERM or SIGINT. Fails if one of them refuses to start at all.
pub fn run(config: &Config, file: &Path, format: Format) -> Result<(), Failure> {
    let (sender, events, _signals) = listen()?;
    let user = |name: &Option<String>| name.as_deref().map(directories::owner).transpose();
    let (issuer, web) = (user(&config.process.issuer_user)?, user(&config.process.web_user)?);
    if (issuer.is_some() || web.is_some()) && !rustix::process::geteuid().is_root() {
        return Err(Failure::operator(
            "CHY-NOT-ROOT: [process] names users for the two processes, and only root can change to them; start \
             `serve` as root, or leave them out"
                .into(),
        ));
    }
    directories::prepare(&config.paths, issuer, web)?;
    let clock = SystemClock::new();
    let mut house = House {
        children: [("issuer", issuer), ("web", web)]
            .into_iter()
            .map(|(name, owner)| Slot::new(name, owner, file, format))
            .collect(),
        manager: Manager::from_env(),
        clock: &clock,
        sender,
        is_announced: false,
        told: String::new(),
    };
    let failure = house.keep(&events);
    house.manager.stopping();
    house.stop(&events, Duration::from_secs(config.web.grace_seconds) + MARGIN);
    failure.map_or(Ok(()), Err)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Stop,
    ChildEnded,
    /// A child has said that it is ready, or its line has closed.
    ChildSpoke,
}

type Heard = (Sender<Event>, Receiver<Event>, signal_hook::iterator::Handle);

/// Signals as events, from a thread that ends with the process.
fn listen() -> Result<Heard, Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(format!("CHY-OS: cannot wait for signals: {error}"))
    };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGCHLD]).map_err(failed)?;
    let handle = signals.handle();
    let (sender, events) = channel();
    let of_signals = sender.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let event = if signal == SIGCHLD { Event::ChildEnded } else { Event::Stop };
                if of_signals.send(event).is_err() {
                    return;
                }
            }
        })
        .map_err(failed)?;
    Ok((sender, events, handle))
}

struct House<'a> {
    manager: Manager,
    children: Vec<Slot>,
    clock: &'a dyn Clock,
    /// For what the children say.
    sender: Sender<Event>,
    /// Whether the service manager was told that all is ready.
    is_announced: bool,
    /// The status it was told last.
    told: String,
}

impl House<'_> {
    /// Keeps the children running until told to stop (`None`) or until one refuses from the start.
    fn keep(&mut self, events: &Receiver<Event>) -> Option<Failure> {
        loop {
            let now = self.clock.monotonic();
            for slot in &mut self.children {
                if let Err(error) = slot.start_if_due(now, &self.sender) {
                    tracing::error!(process = slot.name, "CHY-OS: cannot be started: {error}");
                }
            }
            self.announce();
            let next = self.children.iter().filter_map(|slot| slot.due).min();
            let wait = next.map_or(IDLE, |due| due.saturating_sub(now));
            match events.recv_timeout(wait) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(Event::ChildEnded) => {
                    if let Some(failure) = self.reap() {
                        return Some(failure);
                    }
                }
                Ok(Event::ChildSpoke) => self.children.iter_mut().for_each(Slot::listen),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Tells the service manager which children are awaited; ready, once, when both are.
    fn announce(&mut self) {
        let status = status(&self.children);
        if status == self.told {
            return;
        }
        if self.children.iter().all(|slot| slot.is_ready) && !self.is_announced {
            self.is_announced = true;
            self.manager.ready(&status);
        } else {
            self.manager.status(&status);
        }
        self.told = status;
    }

    fn reap(&mut self) -> Option<Failure> {
        let now = self.clock.monotonic();
        for slot in &mut self.children {
            slot.listen();
        }
        // Once all was well, a process that refuses to start does not take the other with it.
        let settled = self.children.iter().all(|slot| slot.was_ever_ready);
        for slot in &mut self.children {
            let Some(status) = slot.ended() else { continue };
            let refused = status.code() == Some(super::failure::OPERATOR.into());
            if refused && !settled {
                return Some(Failure::operator(format!(
                    "CHY-SERVE-REFUSED: the {} process refuses to start until an operator acts; its message stands \
                     above",
                    slot.name
                )));
            }
            let ran = now.saturating_sub(slot.started);
            let wait = match refused {
                true => slot.backoff.after_refusal(ran),
                false => slot.backoff.after(slot.is_ready, ran),
            };
            slot.due = Some(now + wait);
            tracing::warn!(
                process = slot.name,
                %status,
                was_ready = slot.is_ready,
                ?wait,
                "ended; is started again after the wait{}",
                if refused { ", though it said that an operator must act first" } else { "" }
            );
        }
        None
    }

    /// Stops web before issuer: requests under way still need their answers.
    fn stop(&mut self, events: &Receiver<Event>, patience: Duration) {
        for slot in self.children.iter_mut().rev() {
            slot.signal(Signal::TERM);
            let deadline = self.clock.monotonic() + patience;
            while slot.ended().is_none() && slot.child.is_some() {
                let left = deadline.saturating_sub(self.clock.monotonic());
                if left.is_zero() {
                    tracing::error!(process = slot.name, "did not stop in time and is killed");
                    slot.signal(Signal::KILL);
                    if let Some(mut child) = slot.child.take() {
                        let _ = child.wait();
                    }
                    break;
                }
                let _ = events.recv_timeout(left.min(Duration::from_millis(200)));
            }
        }
    }
}

/// One line on all children.
fn status(children: &[Slot]) -> String {
    let states = children.iter().map(|slot| {
        let state = match (&slot.child, slot.is_ready) {
            (Some(_), true) => "ready",
            (Some(_), false) => "starting",
            (None, _) => "ended, to be started again",
        };
        format!("{}: {state}", slot.name)
    });
    states.collect::<Vec<_>>().join("; ")
}

/// A child process, running or due.
struct Slot {
    name: &'static str,
    owner: Option<Owner>,
    file: PathBuf,
    format: Format,
    child: Option<Child>,
    started: Duration,
    due: Option<Duration>,
    /// Our end of the child's standard input.
    line: Option<UnixStream>,
    /// Whether the child that runs, or ran last, said that it was ready.
    is_ready: bool,
    was_ever_ready: bool,
    backoff: Backoff,
}

impl Slot {
    fn new(name: &'static str, owner: Option<Owner>, file: &Path, format: Format) -> Self {
        Self {
            name,
            owner,
            file: file.to_owned(),
            format,
            child: None,
            started: Duration::ZERO,
            due: Some(Duration::ZERO),
            line: None,
            is_ready: false,
            was_ever_ready: false,
            backoff: Backoff::default(),
        }
    }

    /// Notices whether the child has said that it is ready; it may have ended since.
    fn listen(&mut self) {
        let said = self.line.as_mut().is_some_and(|line| {
            let mut octet = [0; READY.len()];
            line.read_exact(&mut octet).is_ok() && octet == READY
        });
        self.is_ready |= said;
        self.was_ever_ready |= said;
    }

    fn start_if_due(&mut self, now: Duration, sender: &Sender<Event>) -> std::io::Result<()> {
        if self.due.is_none_or(|due| due > now) {
            return Ok(());
        }
        self.due = Some(now + LONGEST);
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(format!("chancery-{}", self.name))
            .arg("--config")
            .arg(&self.file)
            .args(["--log-format", self.format.as_str(), self.name])
            .stdin(OwnedFd::from(theirs));
        if self.name == "web" {
            // What the issuer is told by its environment (credentials, the token's own settings) is not for it.
            let kept =
                |name: &String| KEPT.contains(&name.as_str()) || name.starts_with("CHANCERY_");
            let kept: BTreeMap<_, _> = std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .filter(|(name, _)| kept(name))
                .collect();
            command.env_clear().envs(kept);
        }
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env(SUPERVISED, std::process::id().to_string())
            // Each arena of the allocator keeps what it once had: few threads, few arenas.
            .env("MALLOC_ARENA_MAX", "2");
        if let Some(Owner { uid, gid }) = self.owner {
            command.gid(gid).uid(uid);
        }
        if self.format == Format::Human {
            command.stderr(Stdio::piped());
        }
        let mut child = command.spawn()?;
        if let Some(lines) = child.stderr.take() {
            let name = self.name;
            std::thread::Builder::new()
                .name(format!("{name} log"))
                .spawn(move || pass_on(name, lines))?;
        }
        wake_when_heard(self.name, &ours, sender.clone())?;
        tracing::info!(process = self.name, pid = child.id(), "started");
        self.child = Some(child);
        self.line = Some(ours);
        self.is_ready = false;
        self.started = now;
        self.due = None;
        Ok(())
    }

    /// The status of a child that has ended, once.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) =
            self.child.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed()))
        {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Sends `ChildSpoke` when there is something to read, or the other end has closed.
fn wake_when_heard(name: &str, line: &UnixStream, sender: Sender<Event>) -> std::io::Result<()> {
    let line = line.try_clone()?;
    std::thread::Builder::new().name(format!("{name} ready")).spawn(move || {
        let mut awaited = [PollFd::new(&line, PollFlags::IN)];
        while poll(&mut awaited, None) == Err(rustix::io::Errno::INTR) {}
        // A supervisor that is ending listens no more.
        let _ = sender.send(Event::ChildSpoke);
    })?;
    Ok(())
}

/// Copies lines to standard error, each under the name of who wrote it.
fn pass_on(name: &str, lines: impl Read) {
    let mut lines = BufReader::new(lines);
    let mut line = Vec::new();
    loop {
        line.clear();
        match Read::take(&mut lines, MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let mut out = std::io::stderr().lock();
        let _ = write!(out, "{name:<6} | ")
            .and_then(|()| out.write_all(text))
            .and_then(|()| out.write_all(b"\n"));
    }
}

/// How long to wait before a start. A child that was ready is wanted back: 100 ms, and no more than a second
/// however often it dies young. One that dies before it is ready is tried ever less often, up to every 30 s.
#[derive(Clone, Copy, Debug, Default)]
struct Backoff {
    /// Ends before being ready, in a row.
    stillborn: u32,
    /// Ends soon after being ready, in a row.
    young: u32,
}

impl Backoff {
    /// The wait after a run that took this long.
    fn after(&mut self, was_ready: bool, ran: Duration) -> Duration {
        let (ends, longest) = if was_ready {
            self.stillborn = 0;
            if ran >= YOUNG {
                self.young = 0;
            }
            (&mut self.young, LONGEST_ONCE_READY)
        } else {
            (&mut self.stillborn, LONGEST)
        };
        let wait = FIRST.saturating_mul(1 << (*ends).min(10)).min(longest);
        *ends = ends.saturating_add(1);
        wait
    }

    /// The wait after one that said that an operator must act: as after one that cannot start, and never soon. No
    /// longer either: an operator who has put it right waits for it, and what a token says once it may take back.
    fn after_refusal(&mut self, ran: Duration) -> Duration {
        self.after(false, ran).max(REFUSED)
    }
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
const LONGEST_ONCE_READY: Duration = Duration::from_secs(1);
/// A run shorter than this may be one of a loop.
const YOUNG: Duration = Duration::from_secs(3);
/// At least, after a child has said that an operator must act. No start spends a try of a PIN that was refused.
const REFUSED: Duration = Duration::from_secs(2);
/// Between events there is nothing to do; any length would do.
const IDLE: Duration = Duration::from_secs(60);
/// Beyond the web process's own grace.
const MARGIN: Duration = Duration::from_secs(5);
const MAX_LINE: u64 = 64 * 1024;
const KEPT: &[&str] = &["PATH", "TZ", "LANG", "LC_ALL", "RUST_BACKTRACE", "JOURNAL_STREAM"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_start_is_tried_ever_less_often() {
        let mut backoff = Backoff::default();
        let soon = Duration::from_millis(50);
        let waits: Vec<_> = (0..10).map(|_| backoff.after(false, soon).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]);
        assert_eq!(backoff.after(false, Duration::from_secs(3600)), LONGEST);
        assert_eq!(backoff.after(true, soon), FIRST);
        assert_eq!(backoff.after(false, soon), FIRST);
    }

    #[test]
    fn one_that_waits_for_an_operator_is_tried_ever_less_often_and_still_within_half_a_minute() {
        let mut backoff = Backoff::default();
        let soon = Duration::from_millis(50);
        let waits: Vec<_> = (0..12).map(|_| backoff.after_refusal(soon).as_millis()).collect();
        assert_eq!(waits[..6], [2_000, 2_000, 2_000, 2_000, 2_000, 3_200]);
        assert_eq!(waits[10..], [30_000, 30_000]);
    }

    #[test]
    fn one_that_worked_is_back_soon() {
        let mut backoff = Backoff::default();
        let soon = Duration::from_millis(500);
        let waits: Vec<_> = (0..6).map(|_| backoff.after(true, soon).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.after(true, YOUNG), FIRST);
        assert_eq!(backoff.after(true, soon), FIRST * 2);
    }

    #[test]
    fn what_a_child_said_is_heard_after_its_end() {
        let mut slot = Slot::new("web", None, Path::new("x"), Format::Human);
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        slot.line = Some(ours);
        slot.listen();
        assert!(!slot.is_ready && !slot.was_ever_ready);
        rustix::io::write(&theirs, READY).unwrap();
        drop(theirs);
        slot.listen();
        slot.listen();
        assert!(slot.is_ready && slot.was_ever_ready);
    }
}
