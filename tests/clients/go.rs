//! Go's libraries, by the program in `programs/go`: acmez, which is what Caddy's newest versions carry, and
//! x/crypto's autocert, which many Go servers carry.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{Cannot, Client, PROFILE, Skill, Works};
use super::site::{Site, tool};

pub const ACMEZ: Client = Client {
    name: "acmez",
    from: "Go module",
    version: || version("github.com/mholt/acmez/v3"),
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            acmez(site, &site.name(), "http-01");
            site.verify(CHAIN);
        }),
        Skill::Dns01 => Works(|site| {
            acmez(site, &site.name(), "dns-01");
            site.verify(CHAIN);
        }),
        Skill::TlsAlpn01 => Works(|site| {
            acmez(site, &site.name(), "tls-alpn-01");
            site.verify(CHAIN);
        }),
        Skill::Wildcard => Works(|site| {
            let name = format!("*.{}", site.name());
            acmez(site, &name, "dns-01");
            site.verify_for(CHAIN, &format!("DNS:{name}"));
        }),
        Skill::Ip => Works(|site| {
            let address = site.address().to_string();
            acmez(site, &address, "tls-alpn-01");
            site.verify_for(CHAIN, &format!("IP Address:{address}"));
        }),
        Skill::Ticket => Works(|site| {
            with_ticket(site, "acmez");
            site.verify(CHAIN);
        }),
        Skill::Renew => Works(|site| {
            acmez(site, &site.name(), "http-01");
            let first = site.verify(CHAIN);
            acmez(site, &site.name(), "http-01");
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Ari => Works(|site| {
            acmez(site, &site.name(), "http-01");
            let first = site.verify(CHAIN);
            let _web = site.web_root();
            succeed(client(site, "acmez").args(["renew", &site.name(), "http-01"]));
            assert_eq!(site.verify(CHAIN), first, "nothing asked for a renewal");
            site.recall(&first);
            succeed(client(site, "acmez").args(["renew", &site.name(), "http-01"]));
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Profile => Works(|site| {
            let _web = site.web_root();
            let mut command = client(site, "acmez");
            command.env("PROFILE", PROFILE);
            succeed(command.args(["enrol", &site.name(), "http-01"]));
            site.verify_profile(CHAIN);
        }),
        Skill::KeyChange => Works(|site| {
            let again = || acmez(site, &site.name(), "http-01");
            again();
            site.changes_key(CHAIN, || told(site, "acmez", "rekey"), again);
        }),
        Skill::Deactivate => Works(|site| {
            acmez(site, &site.name(), "http-01");
            site.deactivates(CHAIN, || told(site, "acmez", "deactivate"));
        }),
        Skill::Revoke => Works(|site| {
            acmez(site, &site.name(), "http-01");
            succeed(client(site, "acmez").args(["revoke", &site.name(), "http-01"]));
            site.revoked(CHAIN);
        }),
    },
};

pub const AUTOCERT: Client = Client {
    name: "autocert",
    from: "Go module",
    version: || version("golang.org/x/crypto"),
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            succeed(client(site, "autocert").args(["enrol", &site.name(), "http-01"]));
            site.verify(CHAIN);
        }),
        Skill::TlsAlpn01 => Works(|site| {
            succeed(client(site, "autocert").args(["enrol", &site.name(), "tls-alpn-01"]));
            site.verify(CHAIN);
        }),
        Skill::Ticket => Works(|site| {
            with_ticket(site, "autocert");
            site.verify(CHAIN);
        }),
        // By the package that autocert is built on, with the account's key that autocert keeps.
        Skill::KeyChange => Works(|site| {
            let again = || {
                drop(succeed(client(site, "autocert").args(["enrol", &site.name(), "tls-alpn-01"])))
            };
            again();
            let change = || {
                told(site, "autocert", "rekey");
                std::fs::remove_file(site.dir.join("cache").join(site.name())).unwrap();
            };
            site.changes_key(CHAIN, change, again);
        }),
        Skill::Deactivate => Works(|site| {
            succeed(client(site, "autocert").args(["enrol", &site.name(), "tls-alpn-01"]));
            site.deactivates(CHAIN, || told(site, "autocert", "deactivate"));
        }),
        Skill::Profile => Cannot("the client asks for no profile"),
        Skill::Revoke => Works(|site| {
            succeed(client(site, "autocert").args(["enrol", &site.name(), "http-01"]));
            succeed(client(site, "autocert").args(["revoke", &site.name(), "http-01"]));
            site.revoked(CHAIN);
        }),
        Skill::Dns01 | Skill::Wildcard => Cannot("the client has http-01 and tls-alpn-01 only"),
        Skill::Ip => Cannot("the client serves names only"),
        Skill::Renew => Cannot("the client renews by itself near the end; nothing forces it"),
        Skill::Ari => Cannot("this version knows no renewal information"),
    },
};

const CHAIN: &str = "chain.pem";

fn version(module: &str) -> Option<String> {
    let output = Command::new(tool("bin/client")).arg("version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(module))?;
    Some(line.trim().trim_start_matches('v').to_owned())
}

fn client(site: &Site<'_>, library: &str) -> Command {
    let mut command = site.command(tool("bin/client"));
    command.arg(library).env("SSL_CERT_FILE", site.root()).env("DIRECTORY", site.directory());
    command.env("HTTP", site.http());
    command
}

/// Does what needs no challenge.
fn told(site: &Site<'_>, library: &str, verb: &str) {
    succeed(client(site, library).args([verb, &site.name(), "http-01"]));
}

fn acmez(site: &Site<'_>, name: &str, method: &str) {
    let _web = site.web_root();
    succeed(client(site, "acmez").args(["enrol", name, method]));
}

fn with_ticket(site: &Site<'_>, library: &str) {
    let (kid, secret) = site.ticket();
    let mut command = client(site, library);
    command.env("EAB_KID", kid).env("EAB_SECRET", secret);
    succeed(command.args(["enrol", &site.name(), "tls-alpn-01"]));
}
