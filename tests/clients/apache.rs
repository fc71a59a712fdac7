//! Apache with mod_md, Debian's, as a private server on this site's ports: nothing of the system's is touched.

use std::path::PathBuf;
use std::process::Command;

use super::matrix::{Cannot, Client, NO_KEY_CHANGE, PROFILE, Refused, Skill, Works};
use super::site::{Running, Site, debian, libraries};

pub const CLIENT: Client = Client {
    name: "mod_md",
    from: "Debian",
    version: || {
        let mut server = Command::new(debian("usr/sbin/apache2"));
        let output = server.arg("-v").env("LD_LIBRARY_PATH", libraries()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split("Apache/").nth(1)?.split_whitespace().next()?;
        Some(format!("Apache {version}"))
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            enrol(site, &site.name(), "MDCAChallenges http-01");
            site.verify(CHAIN);
        }),
        Skill::Dns01 => Works(|site| {
            enrol(site, &site.name(), &by_dns(site));
            site.verify(CHAIN);
        }),
        Skill::TlsAlpn01 => Works(|site| {
            enrol(site, &site.name(), "MDCAChallenges tls-alpn-01");
            site.verify(CHAIN);
        }),
        Skill::Wildcard => Works(|site| {
            let name = format!("*.{}", site.name());
            enrol(site, &name, &by_dns(site));
            site.verify_for(CHAIN, &format!("DNS:{name}"));
        }),
        Skill::Ip => Refused("this version asks for an address as if it were a DNS name", |site| {
            let _apache = start(site, &site.address().to_string(), "MDCAChallenges http-01");
            site.wait("the refusal", || {
                let log = std::fs::read_to_string(site.dir.join("error.log")).unwrap_or_default();
                log.contains("an address needs identifier type").then_some(())
            });
        }),
        Skill::Ticket => Works(|site| {
            let (kid, secret) = site.ticket();
            let eab = format!("MDCAChallenges http-01\nMDExternalAccountBinding {kid} {secret}");
            enrol(site, &site.name(), &eab);
            site.verify(CHAIN);
        }),
        Skill::Renew => Works(|site| {
            enrol(site, &site.name(), "MDCAChallenges http-01");
            let first = site.verify(CHAIN);
            // Whatever is younger than the whole lifetime is old enough.
            let _apache = start(site, &site.name(), "MDCAChallenges http-01\nMDRenewWindow 4000d");
            staged(site);
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Ari => Works(|site| {
            enrol(site, &site.name(), "MDCAChallenges http-01");
            let first = site.verify(CHAIN);
            site.recall(&first);
            let _apache = start(site, &site.name(), "MDCAChallenges http-01");
            staged(site);
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Profile => Works(|site| {
            enrol(site, &site.name(), &format!("MDCAChallenges http-01\nMDProfile {PROFILE}"));
            site.verify_profile(CHAIN);
        }),
        Skill::KeyChange => NO_KEY_CHANGE,
        Skill::Deactivate => {
            Cannot("its maker's other tool, a2md, could; this package is without it")
        }
        Skill::Revoke => Cannot("the client has no verb for revocation"),
    },
};

const CHAIN: &str = "chain.pem";

/// What mod_md calls the chain for a key of the type configured below.
const PUBLISHED: &str = "pubcert.secp256r1.pem";

fn by_dns(site: &Site<'_>) -> String {
    format!("MDCAChallenges dns-01\nMDChallengeDns01 {}", site.hook())
}

/// Runs a server until it has the first certificate, then once more, so that it takes it into use.
fn enrol(site: &Site<'_>, name: &str, more: &str) {
    let server = start(site, name, more);
    staged(site);
    drop(server);
    let server = start(site, name, more);
    site.wait("the certificate in use", || {
        kept(site, "domains")?.join(PUBLISHED).exists().then_some(())
    });
    drop(server);
}

/// The directory that mod_md keeps for the one domain, in a part of its store.
fn kept(site: &Site<'_>, part: &str) -> Option<PathBuf> {
    let mut domains = std::fs::read_dir(site.dir.join("md").join(part)).ok()?;
    Some(domains.next()?.ok()?.path())
}

/// Waits for a certificate that is not the last one, and copies it. The last one may still lie there while the server
/// takes it into use.
fn staged(site: &Site<'_>) {
    let last = std::fs::read(site.dir.join(CHAIN)).ok();
    let chain = site.wait("a new certificate", || {
        let staged = kept(site, "staging")?;
        // The job is finished when its file says so; the certificate is older than that.
        let job = std::fs::read_to_string(staged.join("job.json")).ok()?;
        let job: serde_json::Value = serde_json::from_str(&job).ok()?;
        let chain = std::fs::read(staged.join(PUBLISHED)).ok()?;
        (job["finished"] == true && Some(&chain) != last.as_ref()).then_some(chain)
    });
    std::fs::write(site.dir.join(CHAIN), chain).unwrap();
}

fn start(site: &Site<'_>, name: &str, more: &str) -> Running {
    let dir = site.dir.display();
    let root = debian("usr/lib/apache2/modules");
    let modules: String = ["mpm_event", "watchdog", "ssl", "md", "socache_shmcb", "authz_core"]
        .iter()
        .map(|name| (name, root.join(format!("mod_{name}.so"))))
        .filter(|(_, file)| file.exists())
        .map(|(name, file)| format!("LoadModule {name}_module {}\n", file.display()))
        .collect();
    let user = if super::site::is_root() { "User www-data\nGroup www-data\n" } else { "" };
    let server_name = name.replace('*', "any");
    let alias = if server_name == name { String::new() } else { format!("ServerAlias {name}\n") };
    let config = format!(
        "{modules}{user}ServerRoot {dir}\nServerName {server_name}\nPidFile {dir}/apache.pid\n\
        ErrorLog {dir}/error.log\nLogLevel warn md:info\nDocumentRoot {dir}/www\nMutex file:{dir}\n\
        Listen {http}\nListen {tls} https\nStartServers 1\nServerLimit 1\nThreadsPerChild 8\nMaxRequestWorkers 8\nMinSpareThreads 1\nMaxSpareThreads 8\n\
        MDCertificateAuthority {ca}\nMDCertificateAgreement accepted\nMDContactEmail admin@lab.test\n\
        MDCACertificateFile {root}\nMDStoreDir {dir}/md\nMDPortMap http:{http_port} https:{tls_port}\n\
        MDPrivateKeys secp256r1\nMDInitialDelay 0s\nMDCheckInterval 1s\nMDRetryDelay 1s\nMDStapling off\n{more}\n\
        <MDomain {name}>\nMDMembers manual\n</MDomain>\n\
        Protocols http/1.1 acme-tls/1\n\
        <VirtualHost {tls}>\nServerName {server_name}\n{alias}SSLEngine on\n</VirtualHost>\n",
        http = site.http(),
        tls = site.tls(),
        ca = site.directory(),
        root = site.root().display(),
        http_port = site.house.http_port,
        tls_port = site.house.tls_port,
    );
    std::fs::write(site.dir.join("apache.conf"), config).unwrap();
    let mut command = Command::new(debian("usr/sbin/apache2"));
    command.args(["-D", "FOREGROUND", "-f"]).arg(site.dir.join("apache.conf"));
    site.spawn("apache", command.env("LD_LIBRARY_PATH", libraries()))
}
