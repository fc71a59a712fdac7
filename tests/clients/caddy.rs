//! Caddy, Debian's: the README's global options, a site, and the certificate in Caddy's own storage.

use std::process::Command;

use super::matrix::{Cannot, Client, NO_DEACTIVATION, NO_KEY_CHANGE, NO_PROFILES, Skill, Works};
use super::site::{Running, Site, debian, recipe};

pub const CLIENT: Client = Client {
    name: "Caddy",
    from: "Debian",
    version: || {
        let output = Command::new(debian("usr/bin/caddy")).arg("version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Some(text.split_whitespace().next()?.trim_start_matches('v').to_owned())
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            let caddy = start(site, &site.name(), "", "disable_tlsalpn_challenge");
            wait(site, caddy, &site.name());
            site.verify(CHAIN);
        }),
        Skill::TlsAlpn01 => Works(|site| {
            let caddy = start(site, &site.name(), "", "disable_http_challenge");
            wait(site, caddy, &site.name());
            site.verify(CHAIN);
        }),
        Skill::Dns01 | Skill::Wildcard => Cannot("the build has no DNS module; with one it would"),
        Skill::Ip => Works(|site| {
            // Without an issuer of its own, Caddy gives an address a certificate that it makes itself.
            let address = site.address().to_string();
            let caddy = start(site, &address, "", "disable_tlsalpn_challenge");
            wait(site, caddy, &address);
            site.verify_for(CHAIN, &format!("IP Address:{address}"));
        }),
        Skill::Ticket => Works(|site| {
            let (kid, secret) = site.ticket();
            let eab = format!("acme_eab {{\n key_id {kid}\n mac_key {secret}\n}}");
            let caddy = start(site, &site.name(), &eab, "");
            wait(site, caddy, &site.name());
            site.verify(CHAIN);
        }),
        Skill::Renew => Works(|site| {
            let caddy = start(site, &site.name(), "", "");
            wait(site, caddy, &site.name());
            let first = site.verify(CHAIN);
            // Whatever is younger than the whole lifetime is old enough: Caddy renews at its start.
            let caddy = start_renewing(site);
            site.wait("another certificate", || {
                let text = std::fs::read_to_string(stored(site, &site.name())).ok()?;
                std::fs::write(site.dir.join(CHAIN), text).unwrap();
                (super::judge::serial(&site.dir.join(CHAIN)) != first).then_some(())
            });
            drop(caddy);
            site.verify(CHAIN);
        }),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile => NO_PROFILES,
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => NO_DEACTIVATION,
        Skill::Revoke => Cannot("the client has no verb for revocation"),
    },
};

const CHAIN: &str = "chain.pem";

/// The README's global options, those that keep Caddy at this site's ports, and a site block.
fn caddyfile(site: &Site<'_>, name: &str, more: &str, issuer: &str) -> String {
    let global = site.adapt(&recipe("Caddy"), name);
    let inner = global.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap();
    let issuer = match issuer {
        "" => String::new(),
        option => format!("tls {{\n issuer acme {{\n {option}\n }}\n }}"),
    };
    format!(
        "{{\n{inner}\n{more}\nadmin off\nskip_install_trust\nhttp_port {}\nhttps_port {}\ndefault_bind {}\n\
        storage file_system {}\n}}\n{name} {{\n respond \"hello\"\n {issuer}\n}}\n",
        site.house.http_port,
        site.house.tls_port,
        site.address(),
        site.dir.join("storage").display(),
    )
}

fn start(site: &Site<'_>, name: &str, more: &str, issuer: &str) -> Running {
    std::fs::write(site.dir.join("Caddyfile"), caddyfile(site, name, more, issuer)).unwrap();
    let mut command = Command::new(debian("usr/bin/caddy"));
    site.spawn("caddy", command.args(["run", "--config", "Caddyfile"]))
}

/// The same configuration as JSON, which can say what the Caddyfile cannot: when it is time to renew.
fn start_renewing(site: &Site<'_>) -> Running {
    let mut command = site.command(debian("usr/bin/caddy"));
    let json = super::lab::succeed(command.args(["adapt", "--config", "Caddyfile"]));
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let policies = json["apps"]["tls"]["automation"]["policies"].as_array_mut().unwrap();
    for policy in policies {
        policy["renewal_window_ratio"] = 0.99999.into();
    }
    std::fs::write(site.dir.join("caddy.json"), json.to_string()).unwrap();
    let mut command = Command::new(debian("usr/bin/caddy"));
    site.spawn("caddy", command.args(["run", "--config", "caddy.json"]))
}

fn stored(site: &Site<'_>, name: &str) -> std::path::PathBuf {
    let port = site.house.lab.acme.port();
    let ca = format!("storage/certificates/localhost-{port}-acme-directory");
    site.dir.join(format!("{ca}/{name}/{name}.crt"))
}

/// Waits for the certificate, copies it and lets Caddy end.
fn wait(site: &Site<'_>, caddy: Running, name: &str) {
    let file = stored(site, name);
    site.wait("the certificate", || file.with_extension("json").exists().then_some(()));
    drop(caddy);
    std::fs::copy(file, site.dir.join(CHAIN)).unwrap();
}
