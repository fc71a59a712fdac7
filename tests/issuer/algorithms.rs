//! An issuing key of each algorithm that no other test here uses, ML-DSA with its long signatures among them: order,
//! revocation, restart, and the log verified from outside.

use std::sync::Arc;

use chancery::audit::verify::{Evidence, Means, verify};
use chancery::env::system::SystemDisk;
use chancery::ipc::message::{Answer, Question};
use chancery::pki::certificate::Certificate;
use chancery::pki::key::SignatureAlgorithm;

use crate::certificate;
use crate::house::{Csr, House, SoftKey, eventually};

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
            log_key: Some(house.log_key.spki().to_vec()),
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
