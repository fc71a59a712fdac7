//! ML-DSA, on kryoptic: a whole chain of it, and a post-quantum issuing CA beside the classical one, made by the
//! shipped ceremony and led to by the shipped profile. rustls-webpki judges the chains.

use std::time::Duration;

use chancery::env::Clock;
use chancery::env::system::SystemClock;
use chancery::pki::certificate::Certificate;
use chancery::pki::crl::parse_verified;
use chancery::pki::key::{KeyKind, SignatureAlgorithm};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::plant::Plant;
use crate::plant::client::Client;
use crate::plant::lab::{chancery, done, eventually, refused, succeed};
use crate::{Keys, REPOSITORY, ceremony, kryoptic, openssl};

/// Every certificate of a chain.
fn certificates(chain: &str) -> Vec<Certificate> {
    let blocks = chain.split_inclusive("-----END CERTIFICATE-----\n");
    blocks.map(|block| Certificate::parse_pem(block).unwrap()).collect()
}

/// Whether the chain leads to the box's root, for a TLS server.
fn stands(plant: &Plant, chain: &[Certificate]) -> bool {
    let root = std::fs::read_to_string(plant.lab.dir.join("state/public/root.pem")).unwrap();
    let root = Certificate::parse_pem(&root).unwrap();
    let [leaf, issuing] = chain else { panic!("a chain of {}", chain.len()) };
    let (leaf, issuing) = (CertificateDer::from(leaf.der()), CertificateDer::from(issuing.der()));
    let anchor = CertificateDer::from(root.der());
    let now = Duration::from_secs(SystemClock::new().now().unix_seconds());
    webpki::EndEntityCert::try_from(&leaf)
        .unwrap()
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[webpki::anchor_from_trusted_cert(&anchor).unwrap()],
            &[issuing],
            UnixTime::since_unix_epoch(now),
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )
        .is_ok()
}

/// Orders to the end; the chain as it is offered first.
fn order(plant: &Plant, client: &mut Client, name: &str) -> Vec<Certificate> {
    certificates(&plant.runtime.block_on(client.order(&[name])).unwrap().chain)
}

#[test]
fn ml_dsa_from_the_root_to_the_device() {
    let Some(mut plant) = kryoptic::plant() else { return };
    let keys = Keys {
        root: ("ml-dsa-87", None),
        issuing: ("ml-dsa-65", None),
        log: "ed25519",
        tls: "ec-p256",
    };
    let file = ceremony(&plant.lab, &keys);
    let told = succeed(plant.lab.chancery().args(["ceremony", "run"]).arg(file).arg("--yes"));
    assert!(told.contains("ml-dsa-87, signs ML-DSA-87"), "{told}");
    plant.lab.serve();
    let mut client = plant.registered();
    let chain = order(&plant, &mut client, "nas.test");
    assert!(stands(&plant, &chain));
    assert_eq!(chain[0].signature().1.len(), 3309);
    let (status, _) = plant.runtime.block_on(client.revoke(chain[0].der(), 4)).unwrap();
    assert_eq!(status, 200);
    plant.lab.stop();
    succeed(plant.lab.chancery().args(["log", "verify"]));
}

/// A shipped ceremony for another issuing CA, for this box: its URLs, names and token.
fn further(plant: &Plant, name: &str, replaced: &[(&str, &str)]) -> String {
    let text = std::fs::read_to_string(format!("{REPOSITORY}/hsm/ceremony/post-quantum.toml"));
    let mut text = text
        .unwrap()
        .replace("../key/", &format!("{REPOSITORY}/hsm/key/"))
        .replace("http://ca.lan/", "http://localhost:8080/")
        .replace("\"ROOT-TOKEN\"", "\"chancery\"")
        .replace("\"ONLINE-TOKEN\"", "\"chancery\"")
        .replace("pin = { prompt = true }", "")
        .replace("\"test\"]", "\"test\", \"localhost\"]")
        .replace("[\"10.0.0.0/8\"", "[\"127.0.0.0/8\", \"::1/128\", \"10.0.0.0/8\"")
        .replace("lifetime-days = 3650", "lifetime-days = 1500");
    for (from, to) in replaced {
        assert!(text.contains(from), "{from} does not stand in post-quantum.toml");
        text = text.replace(from, to);
    }
    let file = plant.lab.dir.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Waits until the CRL that the certificate names lists it, signed by its issuer.
fn is_listed(plant: &Plant, leaf: &Certificate, issuing: &Certificate) {
    let file = leaf.crl_url().unwrap().strip_prefix("http://localhost:8080/").unwrap().to_owned();
    let path = plant.lab.dir.join("state/public").join(file);
    eventually(&plant.lab, "its CRL lists it", || {
        let read = std::fs::read(&path).map(|der| parse_verified(&der, issuing).unwrap());
        read.is_ok_and(|crl| crl.revoked.iter().any(|entry| Some(entry.serial) == leaf.serial()))
    });
}

#[test]
fn a_post_quantum_issuing_ca_stands_beside_the_classical_one() {
    let Some(mut plant) = kryoptic::plant() else { return };
    let lab = format!("{REPOSITORY}/hsm/ceremony/lab.toml");
    done(chancery(&plant.lab, &["ceremony", "run", &lab, "--yes"]));

    // The profile alone leads nowhere: first the ceremony, then the profile.
    let path = plant.lab.dir.join("chancery.toml");
    let without = std::fs::read_to_string(&path).unwrap();
    let profile = |name: &str| format!("\"{REPOSITORY}/firmware-config/profile/{name}.toml\"");
    let profiles = [profile("server"), profile("post-quantum")].join(", ");
    let with = format!("profiles = [{profiles}]\n{without}");
    std::fs::write(&path, &with).unwrap();
    refused(&chancery(&plant.lab, &["issuer"]), "CHY-CONFIG-PROFILE");
    std::fs::write(&path, without).unwrap();

    let file = further(&plant, "post-quantum", &[]);
    let told = done(chancery(&plant.lab, &["ceremony", "add-issuer", &file, "--yes"]));
    assert!(told.contains("ml-dsa-65, signs ML-DSA-65"), "{told}");
    assert!(!told.contains("takes over"), "a line of its own: {told}");
    std::fs::write(&path, with).unwrap();
    plant.lab.serve();
    let public = |name: &str| {
        let path = plant.lab.dir.join(format!("state/public/{name}.pem"));
        Certificate::parse_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let (classical, quantum) = (public("issuing"), public("post-quantum"));
    assert_eq!(quantum.public_key().kind(), KeyKind::MlDsa65);

    // Two devices side by side: one that names no profile, one that names this.
    let (mut old, mut new) = (plant.registered(), plant.registered());
    new.profile = Some("post-quantum".to_owned());
    let of_old = order(&plant, &mut old, "old.test");
    let of_new = order(&plant, &mut new, "new.test");
    assert_eq!((&of_old[1], &of_new[1]), (&classical, &quantum));
    assert!(stands(&plant, &of_old) && stands(&plant, &of_new));
    assert_eq!(of_new[0].signature().0, SignatureAlgorithm::MlDsa65);
    assert_eq!(of_new[0].public_key().kind(), KeyKind::EcP256);
    let swapped = [of_new[0].clone(), classical.clone()];
    assert!(!stands(&plant, &swapped), "a leaf below an issuer that is not its own");

    // One with an ML-DSA key of its own, which only this profile takes.
    let csr = |name: &str| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ML_DSA_44).unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serialize_request(&key).unwrap().der().to_vec()
    };
    let whole = plant.runtime.block_on(async {
        let (url, order) = new.create(&["whole.test"]).await.unwrap();
        let issued = new.pursue(&url, order, &csr("whole.test")).await.unwrap();
        let (url, order) = old.create(&["mixed.test"]).await.unwrap();
        let refused = old.pursue(&url, order, &csr("mixed.test")).await.err().unwrap();
        assert!(format!("{refused:?}").contains("badCSR"), "{refused:?}");
        certificates(&issued.chain)
    });
    assert_eq!(whole[0].public_key().kind(), KeyKind::MlDsa44);
    assert!(stands(&plant, &whole));

    // The box itself stays where every device reaches it.
    let address = plant.lab.acme.to_string();
    let root = ["-CAfile", "state/public/root.pem", "-verify_return_error"];
    let connect = ["s_client", "-connect", &address, "-servername", "localhost"];
    let said = openssl(&plant.lab, &[&connect[..], &root].concat());
    assert!(said.contains("Verify return code: 0"), "{said}");

    for (client, chain) in [(&mut old, &of_old), (&mut new, &of_new)] {
        let (status, _) = plant.runtime.block_on(client.revoke(chain[0].der(), 4)).unwrap();
        assert_eq!(status, 200);
        is_listed(&plant, &chain[0], &chain[1]);
    }

    // Years later another takes over in that line, and in no other.
    let key = std::fs::read_to_string(format!("{REPOSITORY}/hsm/key/issuing-post-quantum.toml"));
    let key = key.unwrap().replace("ml-dsa-65", "ml-dsa-87").replace("post-quantum", "pq-2");
    let path = plant.lab.dir.join("pq-2-key.toml");
    std::fs::write(&path, key).unwrap();
    let shipped = format!("{REPOSITORY}/hsm/key/issuing-post-quantum.toml");
    let second = further(
        &plant,
        "pq-2",
        &[
            (&shipped, path.to_str().unwrap()),
            ("name = \"post-quantum\"", "name = \"pq-2\""),
            ("/post-quantum.cer", "/pq-2.cer"),
            ("/post-quantum.crl", "/pq-2.crl"),
            ("Post-Quantum CA 1", "Post-Quantum CA 2"),
        ],
    );
    let told = done(chancery(&plant.lab, &["ceremony", "add-issuer", &second, "--yes"]));
    assert!(told.contains("takes over    from post-quantum"), "{told}");
    plant.lab.stop();
    plant.lab.serve();
    for client in [&mut old, &mut new] {
        client.forget_connection();
    }
    let (of_old, of_new) =
        (order(&plant, &mut old, "old.test"), order(&plant, &mut new, "new.test"));
    assert_eq!(of_old[1], classical);
    assert_eq!(of_new[1].public_key().kind(), KeyKind::MlDsa87);
    assert!(stands(&plant, &of_old) && stands(&plant, &of_new));

    let listed = done(chancery(&plant.lab, &["log", "list", "--kind", "issuer"]));
    assert!(listed.contains("pq-2 takes over"), "{listed}");
    plant.lab.stop();
    done(chancery(&plant.lab, &["log", "verify"]));
    succeed(&mut plant.lab.stranger());
}
