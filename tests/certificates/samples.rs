//! Samples for the linters.

use std::fs;
use std::path::{Path, PathBuf};

use chancery::id::Serial;
use chancery::pki::crl::RevokedEntry;
use chancery::pki::profile::{ExtendedUsage, Profile};
use chancery::pki::rehearse::CaTemplate;

use crate::chain::{Chain, DAY, Key, NOW, at, issuing_template, named, pem, shipped_profiles};

const SHARD: &str = "http://ca.lan/issuing-8/3.crl";

#[test]
fn samples_for_the_linters() {
    let dir = match std::env::var_os("CHANCERY_SAMPLES") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("samples"),
    };
    fs::create_dir_all(&dir).unwrap();
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let p256 = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let rsa = Key::new(&rcgen::PKCS_RSA_SHA256);
    let narrow = CaTemplate {
        permitted_networks: Vec::new(),
        common_name: "Sample Issuing CA 2".to_owned(),
        ..issuing_template()
    };
    let narrow = Chain::new(&rcgen::PKCS_ECDSA_P384_SHA384, &narrow);
    let client = Profile { usages: vec![ExtendedUsage::Client], ..Profile::server() };
    let names = ["nas.lan", "printer.home.arpa", "192.168.1.7", "fd00::7"];
    let revoked = RevokedEntry {
        serial: Serial::from_random([9; 16]),
        at: at(NOW - 2 * DAY),
        reason: Some(1),
    };
    for profile in shipped_profiles() {
        let name = format!("profile-{}.pem", profile.name);
        let certificate = chain.issue(&profile, &["nas.lan"], &p256.public);
        fs::write(dir.join(name), certificate.pem()).unwrap();
    }
    for (name, certificate) in [
        ("root", chain.root.clone()),
        ("issuing", chain.issuing.clone()),
        ("issuing-names-only", narrow.issuing.clone()),
        ("leaf", chain.issue(&Profile::server(), &names, &p256.public)),
        ("leaf-rsa-named", chain.issue(&named(), &["nas.lan"], &rsa.public)),
        ("leaf-address", chain.issue(&named(), &["10.0.0.9"], &p256.public)),
        ("leaf-client", chain.issue(&client, &["nas.lan"], &p256.public)),
    ] {
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
    }
    for (name, der) in [
        ("root", &chain.root_crl),
        ("issuing", &chain.issuing_crl(&[revoked])),
        ("issuing-empty", &chain.issuing_crl(&[])),
        ("issuing-shard", &chain.shard_crl(SHARD, &[revoked])),
        ("issuing-shard-empty", &chain.shard_crl(SHARD, &[])),
    ] {
        fs::write(dir.join(format!("{name}.crl")), pem("X509 CRL", der)).unwrap();
    }
}
