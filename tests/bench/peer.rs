//! Other CAs under the same load. Pebble as Debian packages it: in memory, software key, told not to misbehave;
//! and Caddy's CA.

mod caddy;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Target;

pub use caddy::Caddy;

pub struct Pebble {
    running: Running,
    server: SocketAddr,
}

/// A process that ends with the value.
struct Running(Child);

impl Pebble {
    /// Starts it, or says why not.
    pub fn start(state: &Path, http_port: u16, dns: SocketAddr) -> Result<Self, String> {
        let said = |error: std::io::Error| error.to_string();
        let dir = state.join("pebble");
        std::fs::create_dir_all(&dir).map_err(said)?;
        let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
            .and_then(|params| params.self_signed(&key))
            .map_err(|error| error.to_string())?;
        let pem = |label: &str, der: &[u8]| {
            use base64ct::{Base64, Encoding};
            let body = Base64::encode_string(der);
            let lines: Vec<&str> = body
                .as_bytes()
                .chunks(64)
                .filter_map(|line| std::str::from_utf8(line).ok())
                .collect();
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
        };
        std::fs::write(dir.join("cert.pem"), pem("CERTIFICATE", certificate.der()))
            .map_err(said)?;
        std::fs::write(dir.join("key.pem"), pem("PRIVATE KEY", key.serialized_der()))
            .map_err(said)?;
        let (server, management) = (free_port()?, free_port()?);
        let config = serde_json::json!({ "pebble": {
            "listenAddress": server.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": dir.join("cert.pem"),
            "privateKey": dir.join("key.pem"),
            "httpPort": http_port,
            "tlsPort": 5001,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        std::fs::write(dir.join("config.json"), config.to_string()).map_err(said)?;
        let child = Command::new("pebble")
            .arg("-config")
            .arg(dir.join("config.json"))
            .args(["-dnsserver", &dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("pebble: {error} (Debian package pebble)"))?;
        let running = Running(child);
        listens("pebble", server)?;
        Ok(Self { running, server })
    }

    pub fn target(&self) -> Target {
        Target {
            name: "pebble",
            server: self.server,
            directory_path: "/dir",
            processes: vec![("pebble".into(), self.running.0.id())],
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something listens there.
fn listens(name: &str, server: SocketAddr) -> Result<(), String> {
    for _ in 0..100 {
        if TcpStream::connect(server).is_ok() {
            return Ok(());
        }
        pause(Duration::from_millis(50));
    }
    Err(format!("{name} does not listen after 5 s"))
}

fn free_port() -> Result<SocketAddr, String> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| error.to_string())
}

#[expect(clippy::disallowed_methods, reason = "waiting for another program's port")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
