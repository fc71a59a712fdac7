//! instant-acme, a library of this program's own language: driven in this process.

use std::path::Path;
use std::process::Command;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, RetryPolicy, RevocationReason,
    RevocationRequest,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::AuthorityKeyIdentifier;

use super::matrix::{Client, PROFILE, Skill, Works};
use super::site::{REPOSITORY, Running, Site};

pub const CLIENT: Client = Client {
    name: "instant-acme",
    from: "crates.io",
    version: || {
        let lock = std::fs::read_to_string(format!("{REPOSITORY}/Cargo.lock")).ok()?;
        let after = lock.split("name = \"instant-acme\"\nversion = \"").nth(1)?;
        after.split('"').next().map(str::to_owned)
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            enrol(site, Identifier::Dns(site.name()), ChallengeType::Http01);
            site.verify(CHAIN);
        }),
        Skill::Dns01 => Works(|site| {
            enrol(site, Identifier::Dns(site.name()), ChallengeType::Dns01);
            site.verify(CHAIN);
        }),
        Skill::TlsAlpn01 => Works(|site| {
            enrol(site, Identifier::Dns(site.name()), ChallengeType::TlsAlpn01);
            site.verify(CHAIN);
        }),
        Skill::Wildcard => Works(|site| {
            let name = format!("*.{}", site.name());
            enrol(site, Identifier::Dns(name.clone()), ChallengeType::Dns01);
            site.verify_for(CHAIN, &format!("DNS:{name}"));
        }),
        Skill::Ip => Works(|site| {
            enrol(site, Identifier::Ip(site.address().into()), ChallengeType::Http01);
            site.verify_for(CHAIN, &format!("IP Address:{}", site.address()));
        }),
        Skill::Ticket => Works(|site| {
            enrol(site, Identifier::Dns(site.name()), ChallengeType::Http01);
            site.verify(CHAIN);
        }),
        Skill::Renew => Works(|site| {
            enrol(site, Identifier::Dns(site.name()), ChallengeType::Http01);
            let first = site.verify(CHAIN);
            enrol(site, Identifier::Dns(site.name()), ChallengeType::Http01);
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Ari => Works(|site| {
            enrol(site, Identifier::Dns(site.name()), ChallengeType::Http01);
            let first = site.verify(CHAIN);
            assert!(!asked_to_renew(site), "nothing asked for a renewal");
            site.recall(&first);
            assert!(asked_to_renew(site));
            replace(site, Identifier::Dns(site.name()));
            assert_ne!(site.verify(CHAIN), first);
        }),
        Skill::Profile => Works(|site| {
            run(async {
                let identifiers = [Identifier::Dns(site.name())];
                let new = NewOrder::new(&identifiers).profile(PROFILE);
                order(site, &account(site).await, new, ChallengeType::Http01).await;
            });
            site.verify_profile(CHAIN);
        }),
        Skill::KeyChange => Works(|site| {
            let again = || enrol(site, Identifier::Dns(site.name()), ChallengeType::Http01);
            again();
            site.changes_key(CHAIN, || run(change_key(site)), again);
        }),
        Skill::Deactivate => Works(|site| {
            enrol(site, Identifier::Dns(site.name()), ChallengeType::Http01);
            site.deactivates(CHAIN, || {
                run(async { account(site).await.deactivate().await.unwrap() });
            });
        }),
        Skill::Revoke => Works(|site| {
            enrol(site, Identifier::Dns(site.name()), ChallengeType::Http01);
            run(async {
                let certificate = leaf(site);
                let reason = Some(RevocationReason::Superseded);
                let request = RevocationRequest { certificate: &certificate, reason };
                account(site).await.revoke(&request).await.unwrap();
            });
            site.revoked(CHAIN);
        }),
    },
};

const CHAIN: &str = "chain.pem";

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The account that the site keeps, or a new one; the ticket column's is bound to a ticket.
async fn account(site: &Site<'_>) -> Account {
    let builder = Account::builder_with_root(site.root()).unwrap();
    let kept = site.dir.join("account.json");
    if let Ok(text) = std::fs::read(&kept) {
        let credentials: AccountCredentials = serde_json::from_slice(&text).unwrap();
        return builder.from_credentials(credentials).await.unwrap();
    }
    let binding = site.name().starts_with("ticket").then(|| {
        let (kid, secret) = site.ticket();
        use base64ct::{Base64UrlUnpadded, Encoding};
        ExternalAccountKey::new(kid, &Base64UrlUnpadded::decode_vec(&secret).unwrap())
    });
    let new =
        NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) =
        builder.create(&new, site.directory(), binding.as_ref()).await.unwrap();
    std::fs::write(kept, serde_json::to_vec(&credentials).unwrap()).unwrap();
    account
}

fn enrol(site: &Site<'_>, identifier: Identifier, method: ChallengeType) {
    run(async {
        let account = account(site).await;
        order(site, &account, NewOrder::new(&[identifier]), method).await;
    });
}

async fn change_key(site: &Site<'_>) {
    let credentials = account(site).await.update_key().await.unwrap();
    std::fs::write(site.dir.join("account.json"), serde_json::to_vec(&credentials).unwrap())
        .unwrap();
}

/// Orders the certificate that replaces the one this site has.
fn replace(site: &Site<'_>, identifier: Identifier) {
    run(async {
        let account = account(site).await;
        let id = certificate_id(&leaf(site));
        let identifiers = [identifier];
        let new = NewOrder::new(&identifiers).replaces(id);
        order(site, &account, new, ChallengeType::Http01).await;
    });
}

async fn order(site: &Site<'_>, account: &Account, new: NewOrder<'_>, method: ChallengeType) {
    let _web = site.web_root();
    let mut servers: Vec<Running> = Vec::new();
    let mut order = account.new_order(&new).await.unwrap();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.unwrap();
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge = authorization.challenge(method.clone()).unwrap();
        let proof = challenge.key_authorization();
        let name = challenge.identifier().to_string();
        let name = name.trim_start_matches("*.");
        match method {
            ChallengeType::Http01 => {
                let file = site.dir.join("www/.well-known/acme-challenge").join(&challenge.token);
                std::fs::write(file, proof.as_str()).unwrap();
            }
            ChallengeType::Dns01 => {
                let file = site.records().join(format!("_acme-challenge.{name}"));
                std::fs::write(file, format!("TXT {}\n", proof.dns_value())).unwrap();
            }
            _ => servers.push(answer_tls(site, name, proof.digest().as_ref())),
        }
        challenge.set_ready().await.unwrap();
    }
    order.poll_ready(&RetryPolicy::default()).await.unwrap();
    order.finalize().await.unwrap();
    let chain = order.poll_certificate(&RetryPolicy::default()).await.unwrap();
    std::fs::write(site.dir.join(CHAIN), chain).unwrap();
}

/// `openssl s_server` with the certificate of RFC 8737 section 3: the library leaves that to its user.
fn answer_tls(site: &Site<'_>, name: &str, digest: &[u8]) -> Running {
    let digest: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    let san = format!("subjectAltName=DNS:{name}");
    let identifier = format!("1.3.6.1.5.5.7.1.31=critical,DER:0420{digest}");
    let request =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let names = ["-subj", "/CN=challenge", "-addext", &san, "-addext", &identifier];
    let files = ["-days", "1", "-keyout", "alpn.key", "-out", "alpn.pem"];
    site.openssl(&[&request[..], &names, &files].concat());
    let mut server = Command::new("openssl");
    server.args(["s_server", "-accept", &site.tls(), "-alpn", "acme-tls/1", "-www"]);
    let running = site.spawn("s_server", server.args(["-cert", "alpn.pem", "-key", "alpn.key"]));
    let log = site.dir.join("s_server.log");
    site.wait("s_server", || {
        std::fs::read_to_string(&log).unwrap_or_default().contains("ACCEPT").then_some(())
    });
    running
}

fn leaf(site: &Site<'_>) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(Path::new(&site.dir).join(CHAIN)).unwrap()
}

/// RFC 9773 section 4.1.
fn certificate_id(leaf: &CertificateDer<'_>) -> CertificateIdentifier<'static> {
    let certificate = x509_cert::Certificate::from_der(leaf).unwrap();
    let body = certificate.tbs_certificate();
    let (_, authority) = body.get_extension::<AuthorityKeyIdentifier>().unwrap().unwrap();
    let key = authority.key_identifier.unwrap();
    let mut serial = body.serial_number().as_bytes().to_vec();
    if serial[0] & 0x80 != 0 {
        serial.insert(0, 0);
    }
    CertificateIdentifier::new(key.as_bytes().into(), serial.as_slice().into()).into_owned()
}

fn asked_to_renew(site: &Site<'_>) -> bool {
    run(async {
        let id = certificate_id(&leaf(site));
        let (information, _) = account(site).await.renewal_info(&id).await.unwrap();
        information.suggested_window.start.unix_timestamp() <= site.unix_time()
    })
}
