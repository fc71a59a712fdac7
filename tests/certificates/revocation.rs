//! CRLs, and octets that were touched.

use chancery::id::Serial;
use chancery::pki::certificate::Certificate;
use chancery::pki::crl::{self, RevokedEntry};
use chancery::pki::profile::Profile;
use chancery::pki::rehearse::{self, Leaf};
use webpki::KeyUsage;

use crate::chain::{Chain, DAY, Key, NOW, at, identifier, issuing_template, pem};

#[test]
fn a_revoked_leaf_is_revoked_for_everyone() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let leaf = chain.issue(&Profile::server(), &["nas.lan"], &key.public);
    let entry = |octet, reason| RevokedEntry {
        serial: Serial::from_random([octet; 16]),
        at: at(NOW - 100),
        reason,
    };
    let others = chain.issuing_crl(&[entry(9, Some(1)), entry(8, Some(0))]);
    assert_eq!(chain.openssl(&leaf.pem(), &others), Ok(()));
    let crl = chain.issuing_crl(&[entry(9, Some(1)), entry(3, Some(4)), entry(9, None)]);
    assert!(chain.openssl(&leaf.pem(), &crl).unwrap_err().contains("certificate revoked"));
    assert_eq!(
        chain.webpki(leaf.der(), KeyUsage::server_auth(), &crl),
        Err(webpki::Error::CertRevoked)
    );

    let read = crl::parse_verified(&crl, &chain.issuing).unwrap();
    assert_eq!((read.number, read.this_update), (7, at(NOW - DAY)));
    assert_eq!(read.next_update, at(NOW + 6 * DAY));
    // Sorted, each serial once.
    let serials: Vec<Serial> = read.revoked.iter().map(|entry| entry.serial).collect();
    assert_eq!(serials, [3, 9].map(|octet| Serial::from_random([octet; 16])));
    assert_eq!(read.revoked[0], entry(3, Some(4)));
    let read = crl::parse_verified(&others, &chain.issuing).unwrap();
    assert_eq!(read.revoked[0], entry(8, None), "reason 0 is written as nothing");
}

/// A shard says nothing of certificates that name another, and all of those that name it.
#[test]
fn a_shard_is_for_the_certificates_that_name_it() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (url, other) = ("http://ca.lan/issuing-8/3.crl", "http://ca.lan/issuing-8/4.crl");
    let (profile, names) = (Profile::server(), [identifier("nas.lan")]);
    let named = Leaf { crl_url: url, ..chain.leaf(&profile, &names, &key.public) };
    let leaf = chain.issuing_key.certificate(rehearse::leaf(&named).unwrap().der());
    assert_eq!(leaf.crl_url(), Some(url));
    let entry = |octet| RevokedEntry {
        serial: Serial::from_random([octet; 16]),
        at: at(NOW - 100),
        reason: Some(1),
    };
    let good = chain.shard_crl(url, &[entry(9)]);
    assert_eq!(chain.openssl(&leaf.pem(), &good), Ok(()));
    assert_eq!(chain.webpki(leaf.der(), KeyUsage::server_auth(), &good), Ok(()));
    let bad = chain.shard_crl(url, &[entry(3)]);
    assert!(chain.openssl(&leaf.pem(), &bad).unwrap_err().contains("certificate revoked"));
    let revoked = chain.webpki(leaf.der(), KeyUsage::server_auth(), &bad);
    assert_eq!(revoked, Err(webpki::Error::CertRevoked));
    // Another shard's word is none, whatever it says.
    for list in [chain.shard_crl(other, &[]), chain.shard_crl(other, &[entry(3)])] {
        let said = chain.openssl(&leaf.pem(), &list).unwrap_err();
        assert!(!said.contains("certificate revoked"), "{said}");
    }
    let read = crl::parse_verified(&good, &chain.issuing).unwrap();
    assert_eq!((read.shard.as_deref(), read.revoked.len()), (Some(url), 1));
    // OpenSSL reads the extension as it is meant.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("crl"), &good).unwrap();
    let text = std::process::Command::new("openssl")
        .args(["crl", "-inform", "DER", "-in", "crl", "-noout", "-text"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in ["Issuing Distribution Point: critical", "Only User Certificates", url] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_crl_that_was_touched_is_refused() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let entry = RevokedEntry { serial: Serial::from_random([9; 16]), at: at(NOW), reason: Some(1) };
    let crl = chain.issuing_crl(&[entry]);
    assert!(crl::parse_verified(&crl, &chain.issuing).is_ok());
    assert!(crl::parse_verified(&crl, &chain.root).is_err());
    for i in 0..crl.len() {
        let mut touched = crl.clone();
        touched[i] ^= 1;
        assert!(crl::parse_verified(&touched, &chain.issuing).is_err(), "octet {i}");
        assert!(crl::parse_verified(&crl[..i], &chain.issuing).is_err());
    }
    // An issuer's CRL under the name of another, signed by the right key.
    let tbs = crl::tbs(&chain.root, 1, at(NOW), at(NOW + DAY), &[]);
    let crossed = chain.issuing_key.crl(&tbs);
    assert!(crl::parse_verified(&crossed, &chain.issuing).is_err());
}

#[test]
fn a_certificate_that_was_touched_is_refused() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let leaf = chain.issue(&Profile::server(), &["nas.lan"], &key.public);
    for i in 0..leaf.der().len() {
        let mut touched = leaf.der().to_vec();
        touched[i] ^= 1;
        let verifies =
            Certificate::parse(&touched).is_ok_and(|leaf| leaf.verify_issued_by(&chain.issuing));
        assert!(!verifies, "octet {i}");
        assert!(Certificate::parse(&leaf.der()[..i]).is_err());
    }
    assert!(Certificate::parse(&[leaf.der(), &[0]].concat()).is_err());
}

#[test]
fn pem_has_one_block_and_nothing_else() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let text = chain.issuing.pem();
    assert_eq!(text, pem("CERTIFICATE", chain.issuing.der()));
    assert_eq!(Certificate::parse_pem(&text).unwrap(), chain.issuing);
    assert_eq!(
        Certificate::parse_pem(&format!("\n{}\r\n", text.replace('\n', "\r\n"))).unwrap(),
        chain.issuing
    );
    for bad in [
        format!("{text}{text}"),
        format!("subject=x\n{text}"),
        format!("{text}x"),
        text.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        text.replacen('M', "*", 1),
        String::new(),
    ] {
        assert!(Certificate::parse_pem(&bad).is_err(), "{bad}");
    }
}
