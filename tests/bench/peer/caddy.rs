//! Caddy's `acme_server` as Debian packages it: smallstep's CA inside, keys in files, its store a database on disk.
//!
//! It looks for http-01 at port 80 and asks the system's resolver, and neither can be told otherwise. So this takes
//! root: the responder stands at 127.0.0.1:80, a DNS server for every name at 127.0.0.1:53, and Caddy runs in a mount
//! namespace of its own whose `resolv.conf` names that.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Running, Target, free_port, listens};
use crate::client::Responder;

pub struct Caddy {
    running: Running,
    _dns: Running,
    server: SocketAddr,
}

impl Caddy {
    /// Starts it with a responder where it looks for one, or says why not.
    pub async fn start(state: &Path) -> Result<(Self, Responder), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it looks for http-01 at port 80, which takes root".into());
        }
        let program =
            program().ok_or("no caddy here (tests/clients/tools.sh all unpacks Debian's)")?;
        let responder = Responder::start(80).await;
        let responder = responder.map_err(|error| format!("127.0.0.1:80: {error}"))?;
        let dns = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(["lab", "dns", "--listen", "127.0.0.1:53"])
            .stdout(Stdio::null())
            .spawn();
        let dns = Running(dns.map_err(|error| error.to_string())?);

        let dir = state.join("caddy");
        std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        let server = free_port()?;
        let port = server.port();
        let config = format!(
            "{{\n admin off\n skip_install_trust\n auto_https disable_redirects\n https_port {port}\n\
             storage file_system {dir}/storage\n log {{\n  output file {dir}/log\n  level WARN\n }}\n}}\n\
             localhost:{port} {{\n bind 127.0.0.1\n tls internal\n acme_server\n}}\n",
            dir = dir.display()
        );
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).map(|()| path).map_err(|error| error.to_string())
        };
        let config = write("Caddyfile", &config)?;
        let resolver = write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1\n")?;
        let script = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(resolver)
            .arg(program)
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(config)
            .env("HOME", &dir)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("stderr")).map_err(|error| error.to_string())?)
            .spawn();
        let running = Running(child.map_err(|error| format!("unshare: {error}"))?);
        listens("caddy", server)?;
        Ok((Self { running, _dns: dns, server }, responder))
    }

    pub fn target(&self) -> Target {
        Target {
            name: "caddy",
            server: self.server,
            directory_path: "/acme/local/directory",
            // unshare and sh became it.
            processes: vec![("caddy".into(), self.running.0.id())],
        }
    }
}

/// Where `tests/clients/tools.sh` unpacks it, or on the PATH.
fn program() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/debian/usr/bin/caddy");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|dir| dir.join("caddy"));
    std::iter::once(unpacked).chain(installed).find(|program| program.exists())
}
