//! A whole box for a test: its own SoftHSM2 token, a ceremony, `chancery serve` on free ports of
//! loopback, and a DNS server that gives every test name 127.0.0.1. Everything ends with the value.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

include!("softhsm.rs");

/// What a test may want otherwise.
#[derive(Default)]
pub struct Options {
    /// Where http-01 is looked for; 0 (then it is the ordinary port) when no test answers challenges.
    pub http_port: u16,
    /// More configuration, appended as TOML.
    pub more: String,
    /// The log's origin, if not the lab's; a name for good, so two boxes need two.
    pub origin: Option<String>,
}

/// A running box.
pub struct Lab {
    /// The HTTPS listener.
    pub acme: SocketAddr,
    /// The plain HTTP listener.
    pub http: SocketAddr,
    /// The DNS server that validation asks. What `dir/dns/NAME` says of a name, it answers.
    pub dns: SocketAddr,
    pub dir: PathBuf,
    /// What the program's environment says besides: where a token other than SoftHSM2 is.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// The program, this one unless a test takes another release of it.
    pub program: PathBuf,
    serve: Option<Child>,
    name_server: Child,
}

const CHANCERY: &str = env!("CARGO_BIN_EXE_chancery");
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

impl Lab {
    /// Makes token and CA in `dir` (which must exist) and starts the box; panics with what was said if it cannot.
    pub fn start_in(dir: &Path, options: Options) -> Self {
        let mut lab = Self::prepare(dir, &options);
        lab.serve();
        lab
    }

    /// Token and configuration: the ceremony is still to be held.
    pub fn without_ceremony(dir: &Path, options: &Options) -> Self {
        let dir = dir.canonicalize().unwrap();
        succeed(Command::new(format!("{REPOSITORY}/hsm/sandbox.sh")).arg(dir.join("token")));
        std::fs::create_dir_all(dir.join("dns")).unwrap();
        let mut name_server = Command::new(CHANCERY)
            .args(["lab", "dns", "--records"])
            .arg(dir.join("dns"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("chancery lab dns starts");
        let mut line = String::new();
        BufReader::new(name_server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let dns: SocketAddr = line.trim().parse().expect("chancery lab dns prints its address");
        let (acme, http) = (free_port(), free_port());
        let http_port = if options.http_port == 0 { 80 } else { options.http_port };
        let config = format!(
            r#"inherit = ["{REPOSITORY}/firmware-config/board/lab.toml"]

[state]
dir = "{dir}/state"
pin = {{ file = "{dir}/token/pin" }}

[web]
base-url = "https://localhost:{acme_port}"
listen = ["{acme}"]
listen-http = ["{http}"]

[issuer]
tls-names = ["localhost", "127.0.0.1"]

[validation]
http-port = {http_port}
redirect-ports = [{http_port}]
resolvers = [{{ zone = ".", servers = ["{dns}"] }}]
retry-seconds = 1
{more}
"#,
            dir = dir.display(),
            acme_port = acme.port(),
            more = options.more,
        );
        std::fs::write(dir.join("chancery.toml"), config).unwrap();
        let program = CHANCERY.into();
        Self { acme, http, dns, dir, environment: Vec::new(), program, serve: None, name_server }
    }

    /// Token, configuration and the lab's ceremony; nothing serves yet.
    pub fn prepare(dir: &Path, options: &Options) -> Self {
        let lab = Self::without_ceremony(dir, options);
        match &options.origin {
            None => {
                let file = format!("{REPOSITORY}/hsm/ceremony/lab.toml");
                succeed(lab.chancery().args(["ceremony", "run"]).arg(file).arg("--yes"));
            }
            Some(origin) => lab.hold("lab", "localhost/chancery-lab", origin),
        }
        lab
    }

    /// Holds a shipped ceremony with one name in it replaced.
    pub fn hold(&self, ceremony: &str, from: &str, to: &str) {
        let file = self.ceremony_file(ceremony);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from} does not stand in {ceremony}.toml");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        succeed(self.chancery().args(["ceremony", "run"]).arg(file).arg("--yes"));
    }

    /// The shipped file of a ceremony, copied to where this box finds what it names.
    pub fn ceremony_file(&self, ceremony: &str) -> PathBuf {
        let text = std::fs::read_to_string(format!("{REPOSITORY}/hsm/ceremony/{ceremony}.toml"));
        let file = self.dir.join(format!("{ceremony}.toml"));
        let text = text.unwrap().replace("../key/", &format!("{REPOSITORY}/hsm/key/"));
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Starts `chancery serve` and waits until it is ready.
    pub fn serve(&mut self) {
        self.spawn();
        self.wait_ready(Duration::from_secs(30));
    }

    /// Starts `chancery serve`.
    pub fn spawn(&mut self) {
        let mut command = self.chancery();
        self.run(command.arg("serve"));
    }

    /// Starts the box by any command that becomes `chancery serve`; does not wait.
    pub fn run(&mut self, command: &mut Command) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("serve.log"))
            .unwrap();
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("chancery serve starts");
        self.serve = Some(child);
    }

    /// `program ARGUMENTS chancery` with this box's configuration and token.
    pub fn chancery_under(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).arg(&self.program).current_dir(&self.dir);
        let own = self.chancery();
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// Waits for `/readyz` to say 200; panics with the end of the box's log if it does not.
    pub fn wait_ready(&self, at_most: Duration) {
        let began = now();
        while began.elapsed() < at_most {
            if get(self.http, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return;
            }
            pause(Duration::from_millis(20));
        }
        panic!("the box is not ready after {at_most:?}:\n{}", self.log_tail());
    }

    /// The program with this box's configuration and token.
    pub fn chancery(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("SOFTHSM2_CONF", self.dir.join("token/softhsm2.conf"))
            .env("CHANCERY_CONFIG", self.dir.join("chancery.toml"))
            .envs(self.environment.iter().cloned())
            .current_dir(&self.dir);
        command
    }

    /// Role and pid of the supervisor and of each process it keeps.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let Some(serve) = &self.serve else { return Vec::new() };
        let mut found = vec![("serve".to_owned(), serve.id())];
        for role in ["web", "issuer"] {
            found.extend(self.process(role).map(|pid| (role.to_owned(), pid)));
        }
        found
    }

    /// The pid of the supervisor's child with this role, if it runs.
    pub fn process(&self, role: &str) -> Option<u32> {
        let parent = self.serve.as_ref()?.id();
        let children =
            std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).any(|word| word == role.as_bytes())
        })
    }

    /// Asks the box to stop and waits for it; panics if it does not within 20 s.
    pub fn stop(&mut self) {
        let Some(mut serve) = self.serve.take() else { return };
        signal(serve.id(), "TERM");
        let began = now();
        while serve.try_wait().unwrap().is_none() {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "the box does not stop:\n{}",
                self.log_tail()
            );
            pause(Duration::from_millis(20));
        }
    }

    /// Kills the supervisor without warning, and it alone. Returns the ids of its children, which end by themselves.
    pub fn kill_supervisor(&mut self) -> Vec<u32> {
        let children = self.processes().into_iter().filter(|(role, _)| role != "serve");
        let children = children.map(|(_, pid)| pid).collect();
        if let Some(mut serve) = self.serve.take() {
            let _ = serve.kill();
            let _ = serve.wait();
        }
        children
    }

    /// Waits until a process has ended.
    pub fn wait_gone(&self, pid: u32) {
        let began = now();
        while std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            assert!(began.elapsed() < Duration::from_secs(20), "process {pid} does not end");
            pause(Duration::from_millis(2));
        }
    }

    /// `tests/reader/reader.py`, a stranger's reader, on this box's log and published checkpoint, signatures too.
    pub fn stranger(&self) -> Command {
        let state = self.dir.join("state");
        let mut command = Command::new("python3");
        command
            .arg(format!("{REPOSITORY}/tests/reader/reader.py"))
            .arg(state.join("issuer/log"))
            .arg("--signatures")
            .arg("--checkpoint")
            .arg(state.join("public/checkpoint"));
        command
    }

    /// The log's segments, in order.
    pub fn segments(&self) -> Vec<PathBuf> {
        segments(&self.dir.join("state/issuer/log"))
    }

    /// Writes records until another segment is complete; for segments of one MiB.
    pub fn fill_segment(&self) {
        let before = self.segments().len();
        for _ in 0..5 {
            succeed(self.chancery().args(["ticket", "create", "--count", "5000"]));
            if self.segments().len() > before {
                return;
            }
        }
        panic!("no segment is complete: {:?}", self.segments());
    }

    /// The last lines the box logged.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("serve.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut serve) = self.serve.take() {
            signal(serve.id(), "TERM");
            let began = now();
            while began.elapsed() < Duration::from_secs(15) && matches!(serve.try_wait(), Ok(None))
            {
                pause(Duration::from_millis(20));
            }
            let _ = serve.kill();
            let _ = serve.wait();
        }
        let _ = self.name_server.kill();
        let _ = self.name_server.wait();
    }
}

/// The segments in a directory, in order.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        names.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect();
    found.sort();
    found
}

/// A plain GET, whole answer as text; `None` if nothing listens or it breaks off.
pub fn get(server: SocketAddr, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Runs to the end; panics with everything it said unless it succeeded. Returns stdout.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the program with the lab's configuration.
pub fn chancery(lab: &Lab, arguments: &[&str]) -> Output {
    lab.chancery().args(arguments).output().unwrap()
}

/// What it printed; it succeeded.
pub fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// It failed, and the first thing it says is this code.
pub fn refused(output: &Output, code: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.starts_with(code), "not {code}: {text}");
}

/// Within a minute.
pub fn eventually(lab: &Lab, what: &str, holds: impl Fn() -> bool) {
    let began = now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: never\n{}", lab.log_tail());
        pause(Duration::from_millis(50));
    }
}

/// Takes the issuer down without warning; the supervisor starts it again.
pub fn crash_issuer(lab: &Lab) {
    let pid = lab.process("issuer").unwrap();
    signal(pid, "KILL");
    lab.wait_gone(pid);
    lab.wait_ready(Duration::from_secs(60));
}

/// Sends a signal to one process by id.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
}

/// The library of Debian's faketime for programs with threads, wherever this architecture has it.
pub fn faketime() -> Option<PathBuf> {
    let directories = std::fs::read_dir("/usr/lib").ok()?;
    directories
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|path| path.exists())
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests wait for real processes")]
pub fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "tests wait for real processes")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
