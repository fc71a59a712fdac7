//! acme-tiny, 200 lines of Python, from PyPI.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{Cannot, Client, NO_DEACTIVATION, NO_KEY_CHANGE, NO_PROFILES, Skill, Works};
use super::site::{Site, tool};

pub const CLIENT: Client = Client {
    name: "acme-tiny",
    from: "PyPI",
    version: || {
        let mut python = Command::new(tool("python/bin/python"));
        let query = "import importlib.metadata as m; print(m.version('acme-tiny'))";
        let output = python.args(["-c", query]).output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| version.trim().to_owned())
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            prepare(site);
            enrol(site);
            site.verify(CHAIN);
        }),
        Skill::Renew => Works(|site| {
            prepare(site);
            enrol(site);
            let first = site.verify(CHAIN);
            enrol(site);
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Dns01 | Skill::TlsAlpn01 | Skill::Wildcard => Cannot("the client has http-01 only"),
        Skill::Ip => Cannot("the client takes only the DNS names out of a CSR"),
        Skill::Ticket => Cannot("the client has no external account binding"),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile => NO_PROFILES,
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => NO_DEACTIVATION,
        Skill::Revoke => Cannot("the client has no verb for revocation"),
    },
};

const CHAIN: &str = "chain.pem";

fn prepare(site: &Site<'_>) {
    site.openssl(&["genrsa", "-out", "account.key", "2048"]);
    let san = format!("subjectAltName=DNS:{}", site.name());
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let request = ["req", "-new", "-subj", "/", "-addext", &san, "-keyout", "key", "-out", "csr"];
    site.openssl(&[&request[..], &key[..]].concat());
}

fn enrol(site: &Site<'_>) {
    let _web = site.web_root();
    let mut command = site.command(tool("python/bin/acme-tiny"));
    command.args(["--directory-url", &site.directory(), "--account-key", "account.key"]);
    command.args(["--csr", "csr", "--acme-dir", "www/.well-known/acme-challenge"]);
    command.arg("--disable-check").env("SSL_CERT_FILE", site.root());
    std::fs::write(site.dir.join(CHAIN), succeed(&mut command)).unwrap();
}
