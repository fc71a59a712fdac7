//! lego: Debian's, which everybody with Debian has, and its newest version 4, built from its module.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{
    Cannot, Cell, Client, NO_DEACTIVATION, NO_KEY_CHANGE, NO_PROFILES, PROFILE, Refused, Skill,
    Works,
};
use super::site::{Site, tool};

pub const DEBIAN: Client = Client {
    name: "lego (Debian)",
    from: "Debian",
    version: || {
        // Its own `--version` says "dev".
        let mut query = Command::new("dpkg-query");
        let output = query.args(["--show", "--showformat=${Version}", "lego"]).output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !version.is_empty()).then_some(version)
    },
    cell: cell::<false>,
};

pub const NEWEST: Client = Client {
    name: "lego",
    from: "Go module",
    version: || {
        let output = Command::new(tool("lego/lego")).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.split_whitespace().nth(2).map(str::to_owned)
    },
    cell: cell::<true>,
};

fn cell<const NEWEST: bool>(skill: Skill) -> Cell {
    match skill {
        Skill::Http01 => Works(|site| {
            succeed(&mut enrol::<NEWEST>(site, &site.name(), ""));
            site.verify(chain(site));
        }),
        Skill::Dns01 => Works(|site| {
            by_dns::<NEWEST>(site, &site.name());
            site.verify(chain(site));
        }),
        Skill::TlsAlpn01 => Works(|site| {
            let mut command = lego::<NEWEST>(site);
            command.args(["--tls", "--tls.port", &site.tls(), "--domains", &site.name(), "run"]);
            succeed(&mut command);
            site.verify(chain(site));
        }),
        Skill::Wildcard => Works(|site| {
            by_dns::<NEWEST>(site, &format!("*.{}", site.name()));
            let file = format!("lego/certificates/_.{}.crt", site.name());
            site.verify_for(file, &format!("DNS:*.{}", site.name()));
        }),
        // Debian's lego says `{"type": "dns", "value": "127.0.0.1"}` where RFC 8738 section 3 says `ip`.
        Skill::Ip if NEWEST => Works(|site| {
            let address = site.address().to_string();
            succeed(&mut enrol::<NEWEST>(site, &address, ""));
            let file = format!("lego/certificates/{address}.crt");
            site.verify_for(file, &format!("IP Address:{address}"));
        }),
        Skill::Ip => Refused("this version asks for an address as if it were a DNS name", |site| {
            let output = enrol::<NEWEST>(site, &site.address().to_string(), "").output().unwrap();
            assert!(!output.status.success());
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("400 :: POST"), "{text}");
            assert!(text.contains("urn:ietf:params:acme:error:malformed"), "{text}");
            assert!(text.contains(r#"an address needs identifier type "ip""#), "{text}");
        }),
        Skill::Ticket => Works(|site| {
            let (kid, secret) = site.ticket();
            let more = format!("--eab --kid {kid} --hmac {secret}");
            succeed(&mut enrol::<NEWEST>(site, &site.name(), &more));
            site.verify(chain(site));
        }),
        Skill::Renew => Works(|site| {
            succeed(&mut enrol::<NEWEST>(site, &site.name(), ""));
            let first = site.verify(chain(site));
            let mut command = lego::<NEWEST>(site);
            command.args(["--http", "--http.port", &site.http(), "--domains", &site.name()]);
            succeed(command.args(["renew", "--days", "400", "--no-random-sleep"]));
            assert_ne!(site.verify(chain(site)), first);
        }),
        Skill::Ari if NEWEST => Works(|site| {
            succeed(&mut enrol::<NEWEST>(site, &site.name(), ""));
            let first = site.verify(chain(site));
            site.recall(&first);
            let mut command = lego::<NEWEST>(site);
            command.args(["--http", "--http.port", &site.http(), "--domains", &site.name()]);
            succeed(command.args(["renew", "--days", "1", "--no-random-sleep"]));
            assert_ne!(site.verify(chain(site)), first);
        }),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile if NEWEST => Works(|site| {
            let mut command = lego::<NEWEST>(site);
            command.args(["--http", "--http.port", &site.http(), "--domains", &site.name()]);
            succeed(command.args(["run", "--profile", PROFILE]));
            site.verify_profile(chain(site));
        }),
        Skill::Profile => NO_PROFILES,
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => NO_DEACTIVATION,
        Skill::Revoke => Works(|site| {
            succeed(&mut enrol::<NEWEST>(site, &site.name(), ""));
            let mut command = lego::<NEWEST>(site);
            succeed(command.args(["--domains", &site.name(), "revoke", "--keep"]));
            site.revoked(chain(site));
        }),
    }
}

fn chain(site: &Site<'_>) -> String {
    format!("lego/certificates/{}.crt", site.name())
}

/// The README's recipe.
fn enrol<const NEWEST: bool>(site: &Site<'_>, name: &str, more: &str) -> Command {
    let more = format!("--path lego --http.port {} {more}", site.http());
    from::<NEWEST>(site, site.recipe("lego", name, &more))
}

/// Whose lego is found by that name.
fn from<const NEWEST: bool>(site: &Site<'_>, mut command: Command) -> Command {
    if NEWEST {
        command.env("PATH", site.path_with(&tool("lego")));
    }
    command
}

fn lego<const NEWEST: bool>(site: &Site<'_>) -> Command {
    let mut command = from::<NEWEST>(site, site.command("lego"));
    command.args(["--server", &site.directory(), "--accept-tos", "--email", "admin@lab.test"]);
    command.args(["--path", "lego"]).env("LEGO_CA_CERTIFICATES", site.root());
    command
}

fn by_dns<const NEWEST: bool>(site: &Site<'_>, name: &str) {
    let mut command = lego::<NEWEST>(site);
    command.args(["--dns", "exec", "--dns.disable-cp", "--domains", name]);
    command.args(["--dns.resolvers", &site.house.lab.dns.to_string()]).arg("run");
    // The record is there when the hook has ended; lego waits all the same.
    command.env("EXEC_PATH", site.hook()).env("EXEC_POLLING_INTERVAL", "1");
    succeed(command.env("EXEC_PROPAGATION_TIMEOUT", "5"));
}
