//! The place where one client lives: an address of loopback and a zone of its own, so that clients run side by
//! side, and whatever a device has around it (a web root, a DNS server that takes records, its own processes).

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::judge;
use super::lab::{Lab, Options, now, pause, signal, succeed};
use super::matrix::PROFILE;

pub const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// The box that all clients use, and where the tools are.
pub struct House {
    pub lab: Lab,
    /// Where the box looks for http-01 and tls-alpn-01, on every address.
    pub http_port: u16,
    pub tls_port: u16,
}

impl House {
    pub fn start(dir: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (http, tls) = (free(), free());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (http_port, tls_port) = (port(&http), port(&tls));
        drop((http, tls));
        let more = format!("tls-port = {tls_port}\n[policy]\nwildcards = true\n");
        let mut lab = Lab::prepare(dir, &Options { http_port, more, ..Options::default() });
        profiles(&lab);
        lab.serve();
        judge::save_root(&lab);
        // A server that root starts is another user when it calls its hook.
        open(&lab.dir, 0o755);
        open(&lab.dir.join("dns"), 0o777);
        Self { lab, http_port, tls_port }
    }
}

/// Gives the box a second profile; keys of the document's top stand before its tables.
fn profiles(lab: &Lab) {
    let (file, own) =
        (lab.dir.join("chancery.toml"), format!("{REPOSITORY}/firmware-config/profile"));
    let text = std::fs::read_to_string(&file).unwrap();
    let names = format!("profiles = [\"{own}/server.toml\", \"{own}/{PROFILE}.toml\"]");
    std::fs::write(file, format!("{names}\ndefault-profile = \"server\"\n{text}")).unwrap();
}

/// Where `tests/clients/tools.sh` put something.
pub fn tool(path: &str) -> PathBuf {
    Path::new(REPOSITORY).join("target/tools").join(path)
}

/// A program that `tests/clients/tools.sh` unpacked from a Debian package.
pub fn debian(path: &str) -> PathBuf {
    tool("debian").join(path)
}

/// Where the shared libraries of those programs are.
pub fn libraries() -> PathBuf {
    let machine = std::env::consts::ARCH;
    debian(&format!("usr/lib/{machine}-linux-gnu"))
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn write_script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    open(path, 0o755);
}

fn open(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// One client's place for one purpose.
pub struct Site<'a> {
    pub house: &'a House,
    /// The client's address: 127.0.1.number.
    number: u8,
    /// The purpose, which is also the first label of the name.
    purpose: String,
    /// An empty directory.
    pub dir: PathBuf,
}

impl<'a> Site<'a> {
    pub fn new(house: &'a House, number: u8, purpose: &str) -> Self {
        let dir = house.lab.dir.join(format!("c{number}/{purpose}"));
        std::fs::create_dir_all(dir.join("www/.well-known/acme-challenge")).unwrap();
        let this = Self { house, number, purpose: purpose.to_owned(), dir };
        let records = format!("A {}\n", this.address());
        for zone in [this.zone(), this.name()] {
            std::fs::write(this.records().join(format!("*.{zone}")), &records).unwrap();
        }
        this
    }

    pub fn address(&self) -> Ipv4Addr {
        [127, 0, 1, self.number].into()
    }

    fn zone(&self) -> String {
        format!("c{}.test", self.number)
    }

    /// A name that leads to this site.
    pub fn name(&self) -> String {
        format!("{}.{}", self.purpose, self.zone())
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}/acme/directory", self.house.lab.acme.port())
    }

    /// The CA's root certificate, as a file.
    pub fn root(&self) -> PathBuf {
        self.house.lab.dir.join("root.pem")
    }

    /// `address:port` where the box looks for http-01.
    pub fn http(&self) -> String {
        format!("{}:{}", self.address(), self.house.http_port)
    }

    /// `address:port` where the box looks for tls-alpn-01.
    pub fn tls(&self) -> String {
        format!("{}:{}", self.address(), self.house.tls_port)
    }

    /// The directory whose files the test DNS answers from.
    pub fn records(&self) -> PathBuf {
        self.house.lab.dir.join("dns")
    }

    /// The script that stands for whatever an operator's hook would do: it publishes http-01 files and TXT
    /// records for the clients that leave that to a hook.
    pub fn hook(&self) -> String {
        format!("{REPOSITORY}/tests/clients/hook.sh")
    }

    /// A command that ends within 90 seconds, at home in this site's directory, with what the hook needs.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "90"]).arg(program);
        self.settle(&mut command);
        command
    }

    fn settle(&self, command: &mut Command) {
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .env("HOME", &self.dir)
            .env("HOOK_RECORDS", self.records())
            .env("HOOK_WWW", self.dir.join("www"))
            .env("HOOK_TLS", self.tls());
    }

    /// A command whose first word the caller adds, in a mount namespace where the CA's root is the system's only
    /// one: for a client that trusts what the system trusts and cannot be told otherwise.
    pub fn trusting_system(&self) -> Command {
        let mut command = self.command("unshare");
        command.arg("--mount").args((!is_root()).then_some("--map-root-user"));
        let script = r#"mount --bind "$0" /etc/ssl/certs/ca-certificates.crt && exec "$@""#;
        command.args(["sh", "-c", script]).arg(self.root());
        command
    }

    /// `PATH` with a directory before all others.
    pub fn path_with(&self, first: &Path) -> String {
        format!("{}:{}", first.display(), std::env::var("PATH").unwrap_or_default())
    }

    #[expect(clippy::disallowed_methods, reason = "the window is compared with the real time")]
    pub fn unix_time(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap().as_secs() as i64
    }

    /// A fresh ticket for one account, to which this site's name belongs from then on: its key identifier and its
    /// secret in base64url.
    pub fn ticket(&self) -> (String, String) {
        let mut command = self.house.lab.chancery();
        let text = succeed(command.args(["ticket", "create", "--json", "--name", &self.name()]));
        let minted: serde_json::Value = serde_json::from_str(&text).unwrap();
        let field = |name: &str| minted["tickets"][0][name].as_str().unwrap().to_owned();
        (field("kid"), field("hmac_key"))
    }

    /// The operator recalls the certificate with this serial, so that its renewal information says: now.
    pub fn recall(&self, serial: &str) {
        let mut command = self.house.lab.chancery();
        succeed(command.args([
            "recall",
            "start",
            "--serial",
            serial,
            "--over-hours",
            "0",
            "--yes",
        ]));
    }

    /// What the README tells the user of a client, for this box and name. `more` goes before the last word if
    /// that is a verb (`run`), else to the end: what a test needs beside the recipe.
    pub fn recipe(&self, client: &str, name: &str, more: &str) -> Command {
        let text = self.adapt(&recipe(client), name);
        let text = match text.strip_suffix(" run") {
            Some(options) => format!("{options} {more} run"),
            None => format!("{text} {more}"),
        };
        let mut command = self.command("sh");
        command.args(["-ec", &text]);
        command
    }

    /// The README's box and device, replaced by this box and this site's.
    pub fn adapt(&self, text: &str, name: &str) -> String {
        let mut text = text
            .replace("https://ca.lan/acme/directory", &self.directory())
            .replace("example.lan", "lab.test")
            .replace("/etc/ssl/ca-lan.pem", self.root().to_str().unwrap());
        for device in ["printer.lan", "camera.lan", "nas.lan"] {
            text = text.replace(device, name);
        }
        assert!(!text.contains(".lan"), "what is not replaced: {text}");
        text
    }

    /// Starts a program that stays until the value is dropped. What it says goes to `NAME.log`.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Running {
        self.settle(command);
        let log = std::fs::File::create(self.dir.join(format!("{name}.log"))).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// The ends of all logs that were written here.
    pub fn logs(&self) -> String {
        let files = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let logs =
            files.map(|file| file.path()).filter(|path| path.extension() == Some("log".as_ref()));
        logs.map(|path| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(25)..].join("\n");
            format!("\n-- {}\n{end}\n", path.display())
        })
        .collect()
    }

    /// Waits until `done` gives something, at most 30 seconds; panics if it does not.
    pub fn wait<T>(&self, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let began = now();
        loop {
            if let Some(value) = done() {
                return value;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
            pause(Duration::from_millis(50));
        }
    }

    /// Serves `dir/www` at the address and port where the box looks for http-01, until the value is dropped.
    pub fn web_root(&self) -> WebRoot {
        WebRoot::start(&self.http(), self.dir.join("www"))
    }

    /// The chain is good and for this site's name. Returns its serial.
    pub fn verify(&self, chain: impl AsRef<Path>) -> String {
        self.verify_for(chain, &format!("DNS:{}", self.name()))
    }

    /// The chain is good and for this SAN. Returns its serial.
    pub fn verify_for(&self, chain: impl AsRef<Path>, san: &str) -> String {
        judge::verify(&self.house.lab, &self.dir.join(chain), san)
    }

    /// The box lists the certificate as revoked.
    pub fn revoked(&self, chain: impl AsRef<Path>) {
        judge::revoked(&self.house.lab, &self.dir.join(chain));
    }

    /// The chain is good, for this site's name, and of the other profile.
    pub fn verify_profile(&self, chain: impl AsRef<Path>) {
        let serial = self.verify(&chain);
        assert_eq!(self.certificate(&serial)["profile"], PROFILE);
        let usages = judge::extension(&self.dir.join(chain), "extendedKeyUsage");
        assert!(usages.contains("TLS Web Client Authentication"), "{usages}");
    }

    /// The account that the certificate with this serial was issued to, as the issuer knows it.
    pub fn account(&self, serial: &str) -> serde_json::Value {
        let account = self.certificate(serial)["account"].as_str().unwrap().to_owned();
        self.asked(&["account", "show", &account])
    }

    fn certificate(&self, serial: &str) -> serde_json::Value {
        self.asked(&["cert", "show", serial])
    }

    fn asked(&self, arguments: &[&str]) -> serde_json::Value {
        let mut command = self.house.lab.chancery();
        serde_json::from_str(&succeed(command.args(arguments).arg("--json"))).unwrap()
    }

    /// `change` gives the account that has this chain another key, with which `enrol` gets another chain.
    pub fn changes_key(
        &self,
        chain: impl AsRef<Path>,
        change: impl FnOnce(),
        enrol: impl FnOnce(),
    ) {
        let first = self.verify(&chain);
        let before = self.account(&first);
        change();
        enrol();
        let second = self.verify(&chain);
        let after = self.account(&second);
        assert_ne!(first, second);
        assert_eq!(before["account"], after["account"]);
        assert_ne!(before["thumbprint"], after["thumbprint"]);
        assert!(before["key_changed"].is_null() && after["key_changed"].is_string(), "{after}");
    }

    /// `end` ends the account that has this chain.
    pub fn deactivates(&self, chain: impl AsRef<Path>, end: impl FnOnce()) {
        let serial = self.verify(chain);
        assert_eq!(self.account(&serial)["state"], "valid");
        end();
        assert_eq!(self.account(&serial)["state"], "deactivated");
    }

    /// `openssl` on the CSR or key that a client of few talents wants to be given.
    pub fn openssl(&self, arguments: &[&str]) {
        succeed(self.command("openssl").args(arguments));
    }
}

/// The README's code block that begins with `# CLIENT`, without that line.
pub fn recipe(client: &str) -> String {
    let readme = std::fs::read_to_string(format!("{REPOSITORY}/README.md")).unwrap();
    let heading = format!("# {client}");
    let lines = readme.lines().skip_while(|line| !line.starts_with(&heading)).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("```") && !line.trim().is_empty());
    let text = lines.collect::<Vec<_>>().join("\n");
    assert!(!text.is_empty(), "the README has no recipe for {client}");
    text
}

/// A process of a site; told to end, and waited for, when dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        signal(self.0.id(), "TERM");
        let began = now();
        while began.elapsed() < Duration::from_secs(5) && matches!(self.0.try_wait(), Ok(None)) {
            pause(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A web server for files, of the smallest kind.
pub struct WebRoot {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl WebRoot {
    fn start(address: &str, root: PathBuf) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(serve(&stream, &root)),
                    Err(_) => pause(Duration::from_millis(5)),
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for WebRoot {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn serve(mut stream: &TcpStream, root: &Path) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/');
    let (status, body) = match std::fs::read(root.join(path)) {
        Ok(body) if !path.contains("..") => ("200 OK", body),
        _ => ("404 Not Found", Vec::new()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}
