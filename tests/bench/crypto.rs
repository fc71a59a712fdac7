//! What cannot be avoided: the token's raw rate, and the verifications one order demands.
//!
//! The raw rate is taken by a second process of this program, because SoftHSM2 reads its
//! configuration from the environment.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;

use super::{lab::Lab, now};

/// Seconds per operation.
pub struct Unavoidable {
    verify: Duration,
    sign_certificate: Duration,
    sign_checkpoint: Duration,
    /// Key label, signatures a second on one session and on two.
    rates: Vec<(String, f64, f64)>,
}

/// The argument by which this program knows it is the second process.
pub const RAW: &str = "--raw-token";

pub fn measure(lab: &Lab) -> Unavoidable {
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .arg(RAW)
        .arg(lab.dir.join("token"))
        .env("SOFTHSM2_CONF", lab.dir.join("token/softhsm2.conf"))
        .output()
        .expect("the second process starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rates: Vec<(String, f64, f64)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            Some((
                fields.next()?.to_owned(),
                fields.next()?.parse().ok()?,
                fields.next()?.parse().ok()?,
            ))
        })
        .collect();
    assert!(!rates.is_empty(), "no rates: {}", String::from_utf8_lossy(&output.stderr));
    let of = |label: &str| {
        let rate =
            rates.iter().find(|(name, ..)| name.contains(label)).map_or(f64::NAN, |row| row.1);
        Duration::try_from_secs_f64(1.0 / rate).unwrap_or_default()
    };
    Unavoidable {
        verify: verification(),
        sign_certificate: of("issuing"),
        sign_checkpoint: of("log"),
        rates,
    }
}

/// Prints the sum for one order as this load makes it: six signed requests (newOrder, authorization twice,
/// challenge, finalize, certificate), the finalize request once more at the issuer, the CSR,
/// the certificate's signature made and checked, and a checkpoint's.
pub fn print(unavoidable: &Unavoidable) {
    println!("\nraw token, C_Sign a second (one session, two sessions):");
    for (label, one, two) in &unavoidable.rates {
        println!("{label:>28} {one:>9.0} {two:>9.0}");
    }
    let verifications = 6 + 1 + 1 + 1 + 1;
    let sum = unavoidable.verify * verifications
        + unavoidable.sign_certificate
        + unavoidable.sign_checkpoint;
    println!(
        "unavoidable cryptography of one order: {verifications} ES256 verifications of {:.0} us, one certificate \
         signature of {:.0} us, one checkpoint signature of {:.0} us (shared under load): {:.2} ms",
        micros(unavoidable.verify),
        micros(unavoidable.sign_certificate),
        micros(unavoidable.sign_checkpoint),
        super::milliseconds(sum)
    );
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn verification() -> Duration {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let message = [7u8; 600];
    let signature = key.sign(&SystemRandom::new(), &message).expect("a signature");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref());
    let start = now();
    for _ in 0..2000 {
        public.verify(&message, signature.as_ref()).expect("it verifies");
    }
    start.elapsed() / 2000
}

/// The second process: a line per private key of the token.
pub fn raw(token: &Path) {
    let module =
        ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("libsofthsm2.so is installed");
    let p11 = Pkcs11::new(module).expect("the module loads");
    p11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).expect("C_Initialize");
    let slot = p11.get_slots_with_initialized_token().expect("slots")[0];
    let pin = std::fs::read_to_string(token.join("pin")).expect("the sandbox has a pin file");
    let anchor = p11.open_ro_session(slot).expect("a session");
    anchor.login(UserType::User, Some(&AuthPin::from(pin.trim().to_owned()))).expect("login");
    for key in anchor.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).expect("keys") {
        let attributes = anchor
            .get_attributes(key, &[AttributeType::Label, AttributeType::KeyType])
            .expect("attributes");
        let (mut label, mut edwards) = (String::new(), false);
        for attribute in attributes {
            match attribute {
                Attribute::Label(bytes) => label = String::from_utf8_lossy(&bytes).into_owned(),
                Attribute::KeyType(kind) => edwards = kind == KeyType::EC_EDWARDS,
                _ => {}
            }
        }
        let rate = |threads: usize| {
            let signed: f64 = std::thread::scope(|scope| {
                let sessions: Vec<_> = (0..threads)
                    .map(|_| {
                        let session = p11.open_ro_session(slot).expect("a session");
                        scope.spawn(move || {
                            let (start, mut signed) = (now(), 0u32);
                            while start.elapsed() < Duration::from_millis(700) {
                                let mechanism = if edwards {
                                    Mechanism::Eddsa(EddsaParams::new(
                                        EddsaSignatureScheme::Ed25519,
                                    ))
                                } else {
                                    Mechanism::Ecdsa
                                };
                                session.sign(&mechanism, key, &[7; 32]).expect("C_Sign");
                                signed += 1;
                            }
                            f64::from(signed) / start.elapsed().as_secs_f64()
                        })
                    })
                    .collect();
                sessions.into_iter().map(|thread| thread.join().expect("a signer")).sum()
            });
            signed
        };
        println!("{label}\t{:.1}\t{:.1}", rate(1), rate(2));
    }
}
