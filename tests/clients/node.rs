//! acme-client of npm, by the script in `programs/node`.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{Cannot, Client, PROFILE, Refused, Skill, Works};
use super::site::{Site, tool};

pub const CLIENT: Client = Client {
    name: "acme-client",
    from: "npm",
    version: || {
        let package = tool("node/node_modules/acme-client/package.json");
        let package: serde_json::Value =
            serde_json::from_slice(&std::fs::read(package).ok()?).ok()?;
        Some(package["version"].as_str()?.to_owned())
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            enrol(site, &site.name(), "http-01");
            site.verify(CHAIN);
        }),
        Skill::Dns01 => Works(|site| {
            enrol(site, &site.name(), "dns-01");
            site.verify(CHAIN);
        }),
        Skill::TlsAlpn01 => Works(|site| {
            enrol(site, &site.name(), "tls-alpn-01");
            site.verify(CHAIN);
        }),
        Skill::Wildcard => Works(|site| {
            let name = format!("*.{}", site.name());
            enrol(site, &name, "dns-01");
            site.verify_for(CHAIN, &format!("DNS:{name}"));
        }),
        Skill::Ip => Refused("this version asks for an address as if it were a DNS name", |site| {
            let mut command = client(site);
            command.args(["enrol", &site.address().to_string(), "http-01"]);
            let output = command.output().unwrap();
            assert!(!output.status.success());
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains(r#"an address needs identifier type "ip""#), "{text}");
        }),
        Skill::Ticket => Works(|site| {
            let (kid, secret) = site.ticket();
            let _web = site.web_root();
            let mut command = client(site);
            command.env("EAB_KID", kid).env("EAB_SECRET", secret);
            succeed(command.args(["enrol", &site.name(), "http-01"]));
            site.verify(CHAIN);
        }),
        Skill::Renew => Works(|site| {
            enrol(site, &site.name(), "http-01");
            let first = site.verify(CHAIN);
            enrol(site, &site.name(), "http-01");
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile => Works(|site| {
            let _web = site.web_root();
            let mut command = client(site);
            command.env("PROFILE", PROFILE);
            succeed(command.args(["enrol", &site.name(), "http-01"]));
            site.verify_profile(CHAIN);
        }),
        Skill::KeyChange => Works(|site| {
            let again = || enrol(site, &site.name(), "http-01");
            again();
            site.changes_key(CHAIN, || drop(succeed(client(site).arg("rekey"))), again);
        }),
        Skill::Deactivate => Works(|site| {
            enrol(site, &site.name(), "http-01");
            site.deactivates(CHAIN, || drop(succeed(client(site).arg("deactivate"))));
        }),
        Skill::Revoke => Works(|site| {
            enrol(site, &site.name(), "http-01");
            succeed(client(site).arg("revoke"));
            site.revoked(CHAIN);
        }),
    },
};

const CHAIN: &str = "chain.pem";

fn client(site: &Site<'_>) -> Command {
    let mut command = site.command("node");
    command.arg(tool("node/client.mjs"));
    command.env("NODE_EXTRA_CA_CERTS", site.root()).env("DIRECTORY", site.directory());
    command
}

fn enrol(site: &Site<'_>, name: &str, method: &str) {
    let _web = site.web_root();
    succeed(client(site).args(["enrol", name, method]));
}
