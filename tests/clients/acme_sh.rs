//! acme.sh, where it is on the PATH: no registry of packages carries it.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{Cannot, Client, NO_KEY_CHANGE, PROFILE, Skill, Works};
use super::site::{REPOSITORY, Site};

pub const CLIENT: Client = Client {
    name: "acme.sh",
    from: "its own site",
    version: || {
        let output = Command::new("acme.sh").arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find_map(|line| line.strip_prefix('v')).map(str::to_owned)
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            enrol(site, &site.name(), "");
            site.verify(chain(site));
        }),
        Skill::Dns01 => Works(|site| {
            by_dns(site, &site.name());
            site.verify(chain(site));
        }),
        Skill::TlsAlpn01 => Works(|site| {
            let mut command = acme_sh(site, &["--issue", "--alpn", "-d", &site.name()]);
            command.args(["--local-address", &site.address().to_string()]);
            succeed(command.args(["--tlsport", &site.house.tls_port.to_string()]));
            site.verify(chain(site));
        }),
        Skill::Wildcard => Works(|site| {
            let name = format!("*.{}", site.name());
            by_dns(site, &name);
            site.verify_for(format!("home/{name}_ecc/fullchain.cer"), &format!("DNS:{name}"));
        }),
        Skill::Ip => Works(|site| {
            let address = site.address().to_string();
            enrol(site, &address, "");
            let chain = format!("home/{address}_ecc/fullchain.cer");
            site.verify_for(chain, &format!("IP Address:{address}"));
        }),
        Skill::Ticket => Works(|site| {
            let (kid, secret) = site.ticket();
            let register = ["--register-account", "--eab-kid", &kid, "--eab-hmac-key", &secret];
            succeed(&mut acme_sh(site, &register));
            enrol(site, &site.name(), "");
            site.verify(chain(site));
        }),
        Skill::Renew => Works(|site| {
            enrol(site, &site.name(), "");
            let first = site.verify(chain(site));
            succeed(&mut acme_sh(site, &["--renew", "--force", "-d", &site.name()]));
            assert_ne!(site.verify(chain(site)), first);
        }),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile => Works(|site| {
            enrol(site, &site.name(), &format!("--cert-profile {PROFILE}"));
            site.verify_profile(chain(site));
        }),
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => Works(|site| {
            enrol(site, &site.name(), "");
            let end = || drop(succeed(&mut acme_sh(site, &["--deactivate-account"])));
            site.deactivates(chain(site), end);
        }),
        Skill::Revoke => Works(|site| {
            enrol(site, &site.name(), "");
            succeed(&mut acme_sh(site, &["--revoke", "-d", &site.name()]));
            site.revoked(chain(site));
        }),
    },
};

fn chain(site: &Site<'_>) -> String {
    format!("home/{}_ecc/fullchain.cer", site.name())
}

/// The README's recipe.
fn enrol(site: &Site<'_>, name: &str, more: &str) {
    let more = format!(
        "--home home --httpport {} --local-address {} {more}",
        site.house.http_port,
        site.address()
    );
    succeed(&mut site.recipe("acme.sh", name, &more));
}

fn acme_sh(site: &Site<'_>, arguments: &[&str]) -> Command {
    let mut command = site.command("acme.sh");
    command.args(arguments).args(["--home", "home", "--server", &site.directory()]);
    command.arg("--ca-bundle").arg(site.root());
    command
}

fn by_dns(site: &Site<'_>, name: &str) {
    let dir = site.dir.join("home/dnsapi");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(format!("{REPOSITORY}/tests/clients/dns_hook.sh"), dir.join("dns_hook.sh"))
        .unwrap();
    let mut command = acme_sh(site, &["--issue", "--dns", "dns_hook", "-d", name]);
    succeed(command.args(["--dnssleep", "1"]).env("HOOK", site.hook()));
}
