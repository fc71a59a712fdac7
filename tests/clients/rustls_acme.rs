//! rustls-acme, by the program in `programs/rustls-acme`.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{Cannot, Client, NO_DEACTIVATION, NO_KEY_CHANGE, NO_PROFILES, Skill, Works};
use super::site::{REPOSITORY, Site, tool};

pub const CLIENT: Client = Client {
    name: "rustls-acme",
    from: "crates.io",
    version: || {
        let lock = format!("{REPOSITORY}/tests/clients/programs/rustls-acme/Cargo.lock");
        let lock = std::fs::read_to_string(lock).ok()?;
        let after = lock.split("name = \"rustls-acme\"\nversion = \"").nth(1)?;
        tool("bin/rustls-acme").exists().then(|| after.split('"').next().map(str::to_owned))?
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            enrol(site, &site.name(), "http-01");
            site.verify(chain(site));
        }),
        Skill::TlsAlpn01 => Works(|site| {
            enrol(site, &site.name(), "tls-alpn-01");
            site.verify(chain(site));
        }),
        Skill::Dns01 | Skill::Wildcard => Cannot("the client has http-01 and tls-alpn-01 only"),
        Skill::Ip => Cannot("the client serves names only"),
        Skill::Ticket => Cannot("the client has no external account binding"),
        Skill::Renew => Cannot("the client renews by itself near the end; nothing forces it"),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile => NO_PROFILES,
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => NO_DEACTIVATION,
        Skill::Revoke => Cannot("the client has no verb for revocation"),
    },
};

fn enrol(site: &Site<'_>, name: &str, method: &str) {
    let mut command: Command = site.command(tool("bin/rustls-acme"));
    command.args([name, method]).env("DIRECTORY", site.directory());
    succeed(command.env("ROOT", site.root()).env("HTTP", site.http()));
}

/// The certificates of the one file that is in the cache beside the account; the key comes first in it.
fn chain(site: &Site<'_>) -> &'static str {
    let files = std::fs::read_dir(site.dir.join("cache")).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let file = files
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("cached_cert_"))
        .expect("a certificate in the cache");
    let text = std::fs::read_to_string(file).unwrap();
    let at = text.find("-----BEGIN CERTIFICATE-----").unwrap();
    std::fs::write(site.dir.join("chain.pem"), &text[at..]).unwrap();
    "chain.pem"
}
