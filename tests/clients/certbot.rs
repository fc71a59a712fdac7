//! certbot, the newest from PyPI: Debian 12's own knows no addresses.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{Cannot, Client, NO_KEY_CHANGE, PROFILE, Skill, Works};
use super::site::{Site, tool};

pub const CLIENT: Client = Client {
    name: "certbot",
    from: "PyPI",
    version: || {
        let output = Command::new(program()).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Some(text.trim().trim_start_matches("certbot ").to_owned())
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            enrol(site, "");
            site.verify(CHAIN);
        }),
        Skill::Dns01 => Works(|site| {
            by_dns(site, &site.name());
            site.verify(CHAIN);
        }),
        Skill::TlsAlpn01 => Cannot("the client has no tls-alpn-01"),
        Skill::Wildcard => Works(|site| {
            let name = format!("*.{}", site.name());
            by_dns(site, &name);
            site.verify_for(CHAIN, &format!("DNS:{name}"));
        }),
        Skill::Ip => Works(|site| {
            let address = site.address().to_string();
            let mut command = certbot(site, "certonly");
            standalone(site, &mut command);
            succeed(command.args(["--preferred-profile", "server", "--ip-address", &address]));
            site.verify_for(CHAIN, &format!("IP Address:{address}"));
        }),
        Skill::Ticket => Works(|site| {
            let (kid, secret) = site.ticket();
            enrol(site, &format!("--eab-kid {kid} --eab-hmac-key {secret}"));
            site.verify(CHAIN);
        }),
        Skill::Renew => Works(|site| {
            enrol(site, "");
            let first = site.verify(CHAIN);
            succeed(&mut renew(site));
            assert_eq!(site.verify(CHAIN), first, "nothing asked for a renewal");
            succeed(renew(site).arg("--force-renewal"));
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Ari => Works(|site| {
            enrol(site, "");
            let first = site.verify(CHAIN);
            site.recall(&first);
            succeed(&mut renew(site));
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Profile => Works(|site| {
            enrol(site, &format!("--required-profile {PROFILE}"));
            site.verify_profile(CHAIN);
        }),
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => Works(|site| {
            enrol(site, "");
            site.deactivates(CHAIN, || drop(succeed(&mut certbot(site, "unregister"))));
        }),
        Skill::Revoke => Works(|site| {
            enrol(site, "");
            let mut command = certbot(site, "revoke");
            command.args(["--cert-name", "device", "--reason", "superseded"]);
            succeed(command.arg("--no-delete-after-revoke"));
            site.revoked(CHAIN);
        }),
    },
};

const CHAIN: &str = "etc/live/device/fullchain.pem";

fn program() -> std::path::PathBuf {
    tool("certbot/bin/certbot")
}

/// What keeps certbot out of the system's directories and from asking.
fn options(site: &Site<'_>) -> String {
    let dir = site.dir.display();
    format!(
        "--non-interactive --agree-tos -m admin@lab.test \
        --config-dir {dir}/etc --work-dir {dir}/work --logs-dir {dir}/log"
    )
}

/// The README's recipe.
fn enrol(site: &Site<'_>, more: &str) {
    let more = format!(
        "{} --cert-name device --http-01-address {} --http-01-port {} {more}",
        options(site),
        site.address(),
        site.house.http_port
    );
    let mut command = site.recipe("certbot", &site.name(), &more);
    succeed(command.env("PATH", site.path_with(&tool("certbot/bin"))));
}

fn certbot(site: &Site<'_>, verb: &str) -> Command {
    let mut command = site.command(program());
    command.arg(verb).args(options(site).split_whitespace());
    command.args(["--server", &site.directory()]).env("REQUESTS_CA_BUNDLE", site.root());
    if verb == "certonly" {
        command.args(["--cert-name", "device"]);
    }
    command
}

fn renew(site: &Site<'_>) -> Command {
    let mut command = certbot(site, "renew");
    command.arg("--no-random-sleep-on-renew");
    command
}

fn standalone(site: &Site<'_>, command: &mut Command) {
    command.args(["--standalone", "--http-01-address", &site.address().to_string()]);
    command.args(["--http-01-port", &site.house.http_port.to_string()]);
}

fn by_dns(site: &Site<'_>, name: &str) {
    let mut command = certbot(site, "certonly");
    command.args(["--manual", "--preferred-challenges", "dns", "-d", name]);
    command.args(["--manual-auth-hook", &format!("{} certbot", site.hook())]);
    succeed(&mut command);
}
