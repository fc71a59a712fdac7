//! Every way to prove a name against a whole box, two processes and Landlock included, with Debian's lego as the
//! device: what the tests of the web process alone cannot show is that the confined process may do it.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod lab;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lab::{Lab, Options, get, succeed};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A box with wildcards, that looks for tls-alpn-01 at this port.
fn start(dir: &std::path::Path, tls_port: u16) -> Lab {
    let more = format!("tls-port = {tls_port}\n\n[policy]\nwildcards = true\n");
    let lab = Lab::start_in(dir, Options { more, ..Options::default() });
    let answer = get(lab.http, "/root.pem").unwrap();
    std::fs::write(lab.dir.join("root.pem"), answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    lab
}

fn lego(lab: &Lab, name: &str) -> Command {
    let mut command = Command::new("lego");
    command
        .args(["--server", &format!("https://localhost:{}/acme/directory", lab.acme.port())])
        .args(["--accept-tos", "--email", "admin@lab.test", "--domains", name, "--path"])
        .arg(lab.dir.join("lego"))
        .env("LEGO_CA_CERTIFICATES", lab.dir.join("root.pem"));
    command
}

/// The names of the certificate, as OpenSSL reads them.
fn names(lab: &Lab, file: &str) -> String {
    let path = lab.dir.join("lego/certificates").join(file);
    succeed(
        Command::new("openssl").args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(path),
    )
}

#[test]
fn lego_proves_a_name_by_tls_alpn() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let lab = start(dir.path(), port);
    succeed(lego(&lab, "tls.test").args([
        "--tls",
        "--tls.port",
        &format!("127.0.0.1:{port}"),
        "run",
    ]));
    assert!(names(&lab, "tls.test.crt").contains("DNS:tls.test"));
}

#[test]
fn lego_proves_a_wildcard_by_dns() {
    let dir = tempfile::tempdir().unwrap();
    let lab = start(dir.path(), free_port());
    // What lego calls to publish and to remove a record: `present|cleanup NAME. VALUE`.
    let hook = lab.dir.join("hook.sh");
    let script = format!(
        "#!/bin/sh\nfile={}/dns/${{2%.}}\ncase $1 in\npresent) echo \"TXT $3\" >>\"$file\" ;;\n*) rm -f \"$file\" ;;\nesac\n",
        lab.dir.display()
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    succeed(
        lego(&lab, "*.wild.test")
            .args(["--dns", "exec", "--dns.disable-cp", "--dns.resolvers", &lab.dns.to_string()])
            .arg("run")
            .env("EXEC_PATH", &hook),
    );
    assert!(names(&lab, "_.wild.test.crt").contains("DNS:*.wild.test"));
}
