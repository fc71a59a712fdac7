//! The step CLI, built from the newest module that the proxies have.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{Cannot, Client, NO_DEACTIVATION, NO_KEY_CHANGE, NO_PROFILES, Skill, Works};
use super::site::{Site, tool};

pub const CLIENT: Client = Client {
    name: "step",
    from: "Go module",
    version: || {
        let output = Command::new("go").args(["version", "-m"]).arg(tool("bin/step")).output();
        let text = String::from_utf8(output.ok()?.stdout).ok()?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("mod\t"))?.to_owned();
        Some(line.split('\t').nth(1)?.trim_start_matches('v').to_owned())
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            enrol(site, &site.name());
            site.verify(CHAIN);
        }),
        Skill::Ip => Works(|site| {
            let address = site.address().to_string();
            enrol(site, &address);
            site.verify_for(CHAIN, &format!("IP Address:{address}"));
        }),
        Skill::Dns01 | Skill::TlsAlpn01 | Skill::Wildcard => Cannot("the client has http-01 only"),
        Skill::Ticket => Cannot("the client has no external account binding"),
        Skill::Renew => Works(|site| {
            enrol(site, &site.name());
            let first = site.verify(CHAIN);
            enrol(site, &site.name());
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile => NO_PROFILES,
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => NO_DEACTIVATION,
        Skill::Revoke => Cannot("the client revokes at its maker's own CA only"),
    },
};

const CHAIN: &str = "crt.pem";

fn enrol(site: &Site<'_>, name: &str) {
    let mut command = site.command(tool("bin/step"));
    command.args(["ca", "certificate", name, CHAIN, "key.pem", "--force", "--standalone"]);
    command.args(["--acme", &site.directory(), "--http-listen", &site.http(), "--root"]);
    succeed(command.arg(site.root()).env("STEPPATH", site.dir.join("step")));
}
