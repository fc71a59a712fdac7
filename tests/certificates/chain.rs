//! A root, an issuing CA, and the verifiers that judge them.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RSA_PSS_SHA384, RsaKeyPair, RsaSignatureEncoding};
use base64ct::{Base64, Encoding};
use chancery::id::{Serial, Timestamp};
use chancery::pki::certificate::Certificate;
use chancery::pki::crl::{self, RevokedEntry};
use chancery::pki::key::{PublicKey, SignatureAlgorithm};
use chancery::pki::name::Identifier;
use chancery::pki::profile::{ExtendedUsage, Profile};
use chancery::pki::rehearse::{self, Ca, CaTemplate, Leaf};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, KeyUsage,
    RevocationOptionsBuilder, anchor_from_trusted_cert,
};

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const DAY: u64 = 86_400;

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

/// A throw-away key in software.
pub(crate) struct Key {
    pub(crate) pair: KeyPair,
    pub(crate) public: PublicKey,
    /// Set where it signs PSS, which rcgen cannot.
    pss: Option<(RsaKeyPair, &'static RsaSignatureEncoding)>,
}

impl Key {
    pub(crate) fn new(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let public = PublicKey::from_spki(&pair.subject_public_key_info()).unwrap();
        Self { pair, public, pss: None }
    }

    /// An RSA key that signs PSS.
    pub(crate) fn pss(algorithm: SignatureAlgorithm) -> Self {
        let encoding = match algorithm {
            SignatureAlgorithm::RsaPssSha256 => &RSA_PSS_SHA256,
            _ => &RSA_PSS_SHA384,
        };
        let key = Self::new(&rcgen::PKCS_RSA_SHA256);
        let pair = RsaKeyPair::from_pkcs8(key.pair.serialized_der()).unwrap();
        let public = key.public.signing_with(algorithm).unwrap();
        Self { pair: key.pair, public, pss: Some((pair, encoding)) }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let Some((pair, encoding)) = &self.pss else { return self.pair.sign(message).unwrap() };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(*encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    pub(crate) fn certificate(&self, tbs: &[u8]) -> Certificate {
        let signature = self.sign(tbs);
        let algorithm = self.public.preferred_algorithm();
        Certificate::assemble(tbs, algorithm, &signature).unwrap().whose_key_signs_as(&self.public)
    }

    pub(crate) fn crl(&self, tbs: &[u8]) -> Vec<u8> {
        let signature = self.sign(tbs);
        crl::assemble(tbs, self.public.preferred_algorithm(), &signature)
    }
}

/// Root and issuing CA with their CRLs.
pub(crate) struct Chain {
    pub(crate) root_key: Key,
    pub(crate) root: Certificate,
    pub(crate) root_crl: Vec<u8>,
    pub(crate) issuing_key: Key,
    pub(crate) issuing: Certificate,
}

pub(crate) fn root_template() -> CaTemplate {
    CaTemplate {
        common_name: "Sample Root".to_owned(),
        organization: Some("Chancery".to_owned()),
        lifetime_days: 7300,
        path_length: None,
        permitted_names: Vec::new(),
        permitted_networks: Vec::new(),
    }
}

pub(crate) fn issuing_template() -> CaTemplate {
    CaTemplate {
        common_name: "Sample Issuing CA 1".to_owned(),
        organization: Some("Chancery".to_owned()),
        lifetime_days: 3650,
        path_length: Some(0),
        permitted_names: ["lan", "home.arpa", "local"].map(str::to_owned).to_vec(),
        permitted_networks: ["10.0.0.0/8", "192.168.0.0/16", "fc00::/7"]
            .map(str::to_owned)
            .to_vec(),
    }
}

impl Chain {
    pub(crate) fn new(
        algorithm: &'static rcgen::SignatureAlgorithm,
        template: &CaTemplate,
    ) -> Self {
        Self::of(Key::new(algorithm), Key::new(algorithm), template)
    }

    pub(crate) fn of(root_key: Key, issuing_key: Key, template: &CaTemplate) -> Self {
        let mut ca = Ca {
            template: &root_template(),
            key: &root_key.public,
            serial: Serial::from_random([1; 16]),
            now: at(NOW - 30 * DAY),
            issuer: None,
            aia_url: None,
            crl_url: None,
        };
        let root = root_key.certificate(rehearse::ca(&ca).unwrap().der());
        ca.template = template;
        ca.key = &issuing_key.public;
        ca.serial = Serial::from_random([2; 16]);
        ca.issuer = Some(&root);
        ca.aia_url = Some("http://ca.lan/root.crt");
        ca.crl_url = Some("http://ca.lan/root.crl");
        let issuing = root_key.certificate(rehearse::ca(&ca).unwrap().der());
        let issuing = issuing.whose_key_signs_as(&issuing_key.public);
        let root_crl = root_key.crl(&crl::tbs(&root, 1, at(NOW - DAY), at(NOW + 90 * DAY), &[]));
        Self { root_key, root, root_crl, issuing_key, issuing }
    }

    pub(crate) fn issue(&self, profile: &Profile, names: &[&str], key: &PublicKey) -> Certificate {
        let identifiers: Vec<Identifier> = names.iter().map(|name| identifier(name)).collect();
        let tbs = rehearse::leaf(&self.leaf(profile, &identifiers, key)).unwrap();
        self.issuing_key.certificate(tbs.der())
    }

    pub(crate) fn leaf<'a>(
        &'a self,
        profile: &'a Profile,
        identifiers: &'a [Identifier],
        key: &'a PublicKey,
    ) -> Leaf<'a> {
        Leaf {
            profile,
            identifiers,
            key,
            serial: Serial::from_random([3; 16]),
            now: at(NOW),
            not_before: None,
            not_after: None,
            issuer: &self.issuing,
            aia_url: "http://ca.lan/issuing.crt",
            crl_url: "http://ca.lan/issuing.crl",
        }
    }

    pub(crate) fn issuing_crl(&self, revoked: &[RevokedEntry]) -> Vec<u8> {
        let tbs = crl::tbs(&self.issuing, 7, at(NOW - DAY), at(NOW + 6 * DAY), revoked);
        self.issuing_key.crl(&tbs)
    }

    pub(crate) fn shard_crl(&self, url: &str, revoked: &[RevokedEntry]) -> Vec<u8> {
        let (from, until) = (at(NOW - DAY), at(NOW + 6 * DAY));
        self.issuing_key.crl(&crl::shard_tbs(&self.issuing, url, 7, from, until, revoked))
    }

    /// What `openssl verify -x509_strict -crl_check_all` says: nothing, or its complaint.
    pub(crate) fn openssl(&self, leaf_pem: &str, issuing_crl: &[u8]) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: String| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let crls = pem("X509 CRL", &self.root_crl) + &pem("X509 CRL", issuing_crl);
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-crl_check_all", "-attime"])
            .arg(NOW.to_string())
            .arg("-CAfile")
            .arg(file("root.pem", self.root.pem()))
            .arg("-untrusted")
            .arg(file("issuing.pem", self.issuing.pem()))
            .arg("-CRLfile")
            .arg(file("crls.pem", crls))
            .arg(file("leaf.pem", leaf_pem.to_owned()))
            .output()
            .expect("the openssl command is installed");
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr))
    }

    /// Whether `openssl x509 -purpose` grants the usage.
    pub(crate) fn has_purpose(&self, leaf: &Certificate, usage: ExtendedUsage) -> bool {
        let line = match usage {
            ExtendedUsage::Server => "SSL server : Yes",
            ExtendedUsage::Client => "SSL client : Yes",
            // OpenSSL 3.0 knows no such purpose; the extension's text does.
            ExtendedUsage::CodeSigning => "Code Signing",
        };
        self.text(leaf).contains(line)
    }

    /// The certificate as `openssl x509 -text -purpose` prints it.
    pub(crate) fn text(&self, leaf: &Certificate) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), leaf.pem()).unwrap();
        let output = Command::new("openssl")
            .args(["x509", "-noout", "-text", "-purpose", "-in"])
            .arg(file.path())
            .output()
            .expect("the openssl command is installed");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What rustls-webpki says, revocation of every certificate included.
    pub(crate) fn webpki(
        &self,
        leaf: &[u8],
        usage: KeyUsage,
        issuing_crl: &[u8],
    ) -> Result<(), webpki::Error> {
        let crls = [&self.root_crl[..], issuing_crl].map(|der| {
            CertRevocationList::from(BorrowedCertRevocationList::from_der(der).unwrap())
        });
        let crls: Vec<&CertRevocationList<'_>> = crls.iter().collect();
        let root = CertificateDer::from(self.root.der());
        let issuing = CertificateDer::from(self.issuing.der());
        let leaf = CertificateDer::from(leaf);
        EndEntityCert::try_from(&leaf)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor_from_trusted_cert(&root)?],
                &[issuing],
                UnixTime::since_unix_epoch(Duration::from_secs(NOW)),
                usage,
                Some(RevocationOptionsBuilder::new(&crls).unwrap().build()),
                None,
            )
            .map(|_| ())
    }
}

pub(crate) fn identifier(text: &str) -> Identifier {
    let kind = if text.parse::<IpAddr>().is_ok() { "ip" } else { "dns" };
    Identifier::parse(kind, text).unwrap()
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let digits = Base64::encode_string(der);
    let lines: Vec<&str> =
        digits.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Every profile of `firmware-config/profile`.
pub(crate) fn shipped_profiles() -> Vec<Profile> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-config/profile");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| chancery::config::read_profile(file).unwrap()).collect()
}

pub(crate) fn named() -> Profile {
    Profile { common_name: true, ..Profile::server() }
}
