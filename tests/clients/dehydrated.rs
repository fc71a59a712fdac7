//! dehydrated, a client in bash, Debian's.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{Cannot, Client, NO_KEY_CHANGE, NO_PROFILES, Refused, Skill, Works};
use super::site::{Site, debian};

pub const CLIENT: Client = Client {
    name: "dehydrated",
    from: "Debian",
    version: || {
        let output = Command::new(debian("usr/bin/dehydrated")).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find_map(|line| line.strip_prefix("Dehydrated version: ")).map(str::to_owned)
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            enrol(site, "http-01", &[&site.name()]);
            site.verify(chain(site));
        }),
        Skill::Dns01 => Works(|site| {
            enrol(site, "dns-01", &[&site.name()]);
            site.verify(chain(site));
        }),
        Skill::TlsAlpn01 => Works(|site| {
            enrol(site, "tls-alpn-01", &[&site.name()]);
            site.verify(chain(site));
        }),
        Skill::Wildcard => Works(|site| {
            let name = format!("*.{}", site.name());
            enrol(site, "dns-01", &[&name, "--alias", "star"]);
            site.verify_for("certs/star/fullchain.pem", &format!("DNS:{name}"));
        }),
        Skill::Ip => Refused("this version asks for an address as if it were a DNS name", |site| {
            register(site, "http-01", "");
            let address = site.address().to_string();
            let output = issue(site, &[&address]).output().unwrap();
            assert!(!output.status.success());
            let text =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(text.contains(r#"an address needs identifier type \"ip\""#), "{text}");
        }),
        Skill::Ticket => Works(|site| {
            let (kid, secret) = site.ticket();
            let _web = site.web_root();
            register(site, "http-01", &format!("EAB_KID={kid}\nEAB_HMAC_KEY={secret}\n"));
            succeed(&mut issue(site, &[&site.name()]));
            site.verify(chain(site));
        }),
        Skill::Renew => Works(|site| {
            enrol(site, "http-01", &[&site.name()]);
            let first = site.verify(chain(site));
            succeed(issue(site, &[&site.name()]).arg("--force"));
            assert_ne!(site.verify(chain(site)), first);
        }),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile => NO_PROFILES,
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => Works(|site| {
            enrol(site, "http-01", &[&site.name()]);
            let end = || drop(succeed(dehydrated(site).arg("--deactivate")));
            site.deactivates(chain(site), end);
        }),
        Skill::Revoke => Works(|site| {
            enrol(site, "http-01", &[&site.name()]);
            // It renames what it has revoked.
            std::fs::copy(site.dir.join(chain(site)), site.dir.join("kept.pem")).unwrap();
            let cert = format!("certs/{}/cert.pem", site.name());
            succeed(dehydrated(site).args(["--revoke", &cert]));
            site.revoked("kept.pem");
        }),
    },
};

fn chain(site: &Site<'_>) -> String {
    format!("certs/{}/fullchain.pem", site.name())
}

fn dehydrated(site: &Site<'_>) -> Command {
    let mut command = site.command(debian("usr/bin/dehydrated"));
    command.args(["--config", "config"]);
    command
}

fn register(site: &Site<'_>, method: &str, more: &str) {
    let dir = site.dir.display();
    let config = format!(
        "CA={}\nCURL_OPTS=\"--cacert {}\"\nBASEDIR={dir}\nWELLKNOWN={dir}/www/.well-known/acme-challenge\n\
        CHALLENGETYPE={method}\nexport CHALLENGETYPE\nHOOK={}\nKEY_ALGO=prime256v1\nKEYSIZE=2048\n{more}",
        site.directory(),
        site.root().display(),
        site.hook(),
    );
    std::fs::write(site.dir.join("config"), config).unwrap();
    succeed(dehydrated(site).args(["--register", "--accept-terms"]));
}

fn issue(site: &Site<'_>, name: &[&str]) -> Command {
    let mut command = dehydrated(site);
    command.args(["--cron", "--domain"]).args(name);
    command
}

fn enrol(site: &Site<'_>, method: &str, name: &[&str]) {
    let _web = site.web_root();
    register(site, method, "");
    succeed(&mut issue(site, name));
}
