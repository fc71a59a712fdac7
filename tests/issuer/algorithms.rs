//! An issuing key of each algorithm that no other test here uses, ML-DSA with its long signatures among them: order,
//! revocation, restart, and the log verified from outside.

use std::sync::Arc;

use chancery::acme::problem::ProblemType;
use chancery::audit::verify::{Evidence, Means, verify};
use chancery::env::system::SystemDisk;
use chancery::hsm::Class;
use chancery::id::OrderId;
use chancery::ipc::message::{Answer, Question};
use chancery::pki::certificate::Certificate;
use chancery::pki::crl::parse_verified;
use chancery::pki::key::{KeyKind, SignatureAlgorithm};
use chancery::pki::profile::Profile;

use crate::house::{Csr, House, SoftKey, eventually};
use crate::{certificate, refused};

#[test]
fn every_algorithm_issues_revokes_and_is_verified() {
    for (algorithm, octets) in [
        (SignatureAlgorithm::EcdsaSha384, None),
        (SignatureAlgorithm::Ed25519, Some(64)),
        (SignatureAlgorithm::RsaSha256, Some(256)),
        (SignatureAlgorithm::RsaPssSha256, Some(256)),
        (SignatureAlgorithm::RsaPssSha384, Some(256)),
        (SignatureAlgorithm::MlDsa44, Some(2420)),
        (SignatureAlgorithm::MlDsa65, Some(3309)),
        (SignatureAlgorithm::MlDsa87, Some(4627)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let house = House::issuing_with(SoftKey::of(algorithm), dir.path());
        let running = house.start();
        let account = running.register();
        let csr = Csr::names(&["nas.lan"]);
        let (leaf, ..) = certificate(running.finalize(&account, 1, &csr));
        assert_eq!(leaf.signature().0, algorithm);
        assert!(octets.is_none_or(|octets| octets == leaf.signature().1.len()), "{algorithm:?}");
        assert!(leaf.verify_issued_by(&house.issuing));
        // The box's own certificate is from the same key.
        assert!(running.tls_chain()[0].verify_issued_by(&house.issuing));

        let (revoked, ..) = certificate(running.finalize(&account, 2, &Csr::names(&["old.lan"])));
        let question = Question::Revoke(Box::new(account.revoke(revoked.der(), Some(4))));
        assert!(matches!(running.ask(question), Ok(Answer::Revoked)), "{algorithm:?}");
        let serial = revoked.serial().unwrap();
        eventually(|| {
            let crl = running.crl_of(&revoked);
            crl.is_some_and(|crl| crl.revoked.iter().any(|entry| entry.serial == serial))
        });
        drop(running);

        // Asked again after a restart, it assembles the same certificate from the log.
        let running = house.start();
        let (again, ..) = certificate(running.finalize(&account, 1, &csr));
        assert_eq!(again, leaf, "{algorithm:?}");
        drop(running);
        drop(house.open_log());

        let evidence = Evidence {
            // As whoever verifies has it: from PEM alone, which does not say PSS.
            issuers: vec![Certificate::parse_pem(&house.issuing.pem()).unwrap()],
            origin: Some(house.authority.origin.clone()),
            log_keys: vec![house.log_key.spki().to_vec()],
            checkpoints: vec![house.public.join("checkpoint")],
            published: Some(house.public.join("checkpoint")),
            tiles: Some(house.public.join("tiles")),
            ..Evidence::default()
        };
        let verdict =
            verify(Arc::new(SystemDisk), &house.dir.join("log"), &evidence, Means::default())
                .unwrap();
        assert!(verdict.findings.is_empty(), "{algorithm:?}: {:?}", verdict.findings);
    }
}

/// Two issuing CAs at once: a profile of its own leads to the post-quantum one, for devices with classical keys and for
/// those with ML-DSA keys; everything else stays with the first.
#[test]
fn a_profile_leads_to_a_second_post_quantum_issuing_ca() {
    let mut house = House::new();
    let running = house.start();
    let account = running.register();
    drop(running);
    house.profiles.push(Profile {
        name: "post-quantum".into(),
        issuer: "pq".into(),
        keys: vec!["ec-p256".into(), "ml-dsa-44".into()],
        ..Profile::server()
    });
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-CONFIG-PROFILE") && why.contains("\"pq\""), "{why}");

    let (pq, key) = house.add_issuer_with(SoftKey::of(SignatureAlgorithm::MlDsa65), "pq", "pq");
    let running = house.start();
    let question = |order: u8, profile: &str, csr: &Csr| {
        let Question::Finalize(mut finalize) = account.finalize(OrderId([order; 16]), csr) else {
            unreachable!("a finalize question");
        };
        finalize.profile = profile.into();
        Question::Finalize(finalize)
    };
    let ml_dsa = |name: &str| {
        Csr::of_key(&[name], &rcgen::KeyPair::generate_for(&rcgen::PKCS_ML_DSA_44).unwrap())
    };
    let (a, b) = (Csr::names(&["one.lan"]), Csr::names(&["two.lan"]));
    let (classical, ..) = certificate(running.ask(question(1, "server", &a)));
    assert!(classical.verify_issued_by(&house.issuing));
    let (quantum, ..) = certificate(running.ask(question(2, "post-quantum", &b)));
    assert!(quantum.verify_issued_by(&pq));
    assert_eq!(quantum.signature().0, SignatureAlgorithm::MlDsa65);
    assert!(quantum.crl_url().unwrap().starts_with("http://ca.lan/pq-8/"));
    let (whole, ..) = certificate(running.ask(question(3, "post-quantum", &ml_dsa("three.lan"))));
    assert_eq!(whole.public_key().kind(), KeyKind::MlDsa44);
    assert!(whole.verify_issued_by(&pq));
    assert_eq!(key.asked(Class::Certificate, &["one.lan"]), 0);
    // A classical profile takes no such key; what both issued stands after a restart.
    let other = running.ask(question(4, "server", &ml_dsa("four.lan")));
    assert_eq!(refused(other), ProblemType::BadCsr);
    drop(running);
    let running = house.start();
    assert_eq!(certificate(running.ask(question(2, "post-quantum", &b))).0, quantum);
    // Each has its own CRL.
    let question = Question::Revoke(Box::new(account.revoke(quantum.der(), Some(4))));
    assert!(matches!(running.ask(question), Ok(Answer::Revoked)));
    let file = quantum.crl_url().unwrap().strip_prefix("http://ca.lan/").unwrap().to_owned();
    eventually(|| {
        let read = running.public(&file).map(|der| parse_verified(&der, &pq).unwrap());
        read.is_some_and(|crl| crl.revoked.iter().any(|e| Some(e.serial) == quantum.serial()))
    });
}
