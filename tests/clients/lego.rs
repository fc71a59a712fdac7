//! lego, Debian's: the newest module is not to be had from every proxy.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{
    Cannot, Client, NO_DEACTIVATION, NO_KEY_CHANGE, NO_PROFILES, Refused, Skill, Works,
};
use super::site::Site;

pub const CLIENT: Client = Client {
    name: "lego",
    from: "Debian",
    version: || {
        // Its own `--version` says "dev".
        let mut query = Command::new("dpkg-query");
        let output = query.args(["--show", "--showformat=${Version}", "lego"]).output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !version.is_empty()).then_some(version)
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            succeed(&mut enrol(site, &site.name(), ""));
            site.verify(chain(site));
        }),
        Skill::Dns01 => Works(|site| {
            by_dns(site, &site.name());
            site.verify(chain(site));
        }),
        Skill::TlsAlpn01 => Works(|site| {
            let mut command = lego(site);
            command.args(["--tls", "--tls.port", &site.tls(), "--domains", &site.name(), "run"]);
            succeed(&mut command);
            site.verify(chain(site));
        }),
        Skill::Wildcard => Works(|site| {
            by_dns(site, &format!("*.{}", site.name()));
            let file = format!("lego/certificates/_.{}.crt", site.name());
            site.verify_for(file, &format!("DNS:*.{}", site.name()));
        }),
        // Debian's lego says `{"type": "dns", "value": "127.0.0.1"}` where RFC 8738 section 3 says `ip`.
        Skill::Ip => Refused("this version asks for an address as if it were a DNS name", |site| {
            let output = enrol(site, &site.address().to_string(), "").output().unwrap();
            assert!(!output.status.success());
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("400 :: POST"), "{text}");
            assert!(text.contains("urn:ietf:params:acme:error:malformed"), "{text}");
            assert!(text.contains(r#"an address needs identifier type "ip""#), "{text}");
        }),
        Skill::Ticket => Works(|site| {
            let (kid, secret) = site.ticket();
            let more = format!("--eab --kid {kid} --hmac {secret}");
            succeed(&mut enrol(site, &site.name(), &more));
            site.verify(chain(site));
        }),
        Skill::Renew => Works(|site| {
            succeed(&mut enrol(site, &site.name(), ""));
            let first = site.verify(chain(site));
            let mut command = lego(site);
            command.args(["--http", "--http.port", &site.http(), "--domains", &site.name()]);
            succeed(command.args(["renew", "--days", "400", "--no-random-sleep"]));
            assert_ne!(site.verify(chain(site)), first);
        }),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile => NO_PROFILES,
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => NO_DEACTIVATION,
        Skill::Revoke => Works(|site| {
            succeed(&mut enrol(site, &site.name(), ""));
            let mut command = lego(site);
            succeed(command.args(["--domains", &site.name(), "revoke", "--keep"]));
            site.revoked(chain(site));
        }),
    },
};

fn chain(site: &Site<'_>) -> String {
    format!("lego/certificates/{}.crt", site.name())
}

/// The README's recipe.
fn enrol(site: &Site<'_>, name: &str, more: &str) -> Command {
    site.recipe("lego", name, &format!("--path lego --http.port {} {more}", site.http()))
}

fn lego(site: &Site<'_>) -> Command {
    let mut command = site.command("lego");
    command.args(["--server", &site.directory(), "--accept-tos", "--email", "admin@lab.test"]);
    command.args(["--path", "lego"]).env("LEGO_CA_CERTIFICATES", site.root());
    command
}

fn by_dns(site: &Site<'_>, name: &str) {
    let mut command = lego(site);
    command.args(["--dns", "exec", "--dns.disable-cp", "--domains", name]);
    command.args(["--dns.resolvers", &site.house.lab.dns.to_string()]).arg("run");
    // The record is there when the hook has ended; lego waits all the same.
    command.env("EXEC_PATH", site.hook()).env("EXEC_POLLING_INTERVAL", "1");
    succeed(command.env("EXEC_PROPAGATION_TIMEOUT", "5"));
}
