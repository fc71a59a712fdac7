//! Keys that are too weak to sign requests (RFC 8555 section 6.2) or to be certified.

use num_bigint::BigUint;
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use serde_json::{Value, json};

use super::{Book, b64};
use crate::support::raw::csr_by;

/// An RSA public key as a JWK.
fn rsa(modulus: &BigUint, exponent: &[u8]) -> Value {
    json!({ "kty": "RSA", "n": b64(modulus.to_bytes_be()), "e": b64(exponent) })
}

/// A number of so many bits, odd, with the two highest set.
fn number(bits: u64, seed: u8) -> BigUint {
    let octets = (0..bits / 8).map(|n| (n as u8).wrapping_mul(seed).wrapping_add(seed));
    let mut octets: Vec<u8> = octets.collect();
    octets[0] |= 0xc0;
    *octets.last_mut().unwrap() |= 1;
    BigUint::from_bytes_be(&octets)
}

/// As the flawed generator makes them (CVE-2017-15361): a power of 65537 modulo the primorial of 167.
fn roca() -> BigUint {
    let is_prime = |n: &u32| (2..*n).all(|d| !n.is_multiple_of(d));
    let primorial: BigUint = (2..=167u32).filter(is_prime).map(BigUint::from).product();
    let power = BigUint::from(65_537u32).modpow(&BigUint::from(0x1234_5678u32), &primorial);
    let mut n = number(2048, 77);
    n = &n - (&n % &primorial) + power;
    let small: Vec<u32> = (2..752).filter(is_prime).collect();
    while small.iter().any(|prime| &n % prime == BigUint::ZERO) {
        n += &primorial;
    }
    n
}

/// Two factors next to each other, neither of them divisible by a small prime.
fn close_primes() -> BigUint {
    let small: Vec<u32> = (2..752u32).filter(|n| (2..*n).all(|d| !n.is_multiple_of(d))).collect();
    let next = |mut n: BigUint| {
        while small.iter().any(|prime| &n % prime == BigUint::ZERO) {
            n += 2u32;
        }
        n
    };
    let p = next(number(1024, 93));
    let q = next(&p + 2u32);
    p * q
}

/// RFC 8555 section 6.2: a key that the server is unwilling to accept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_6_2_account_keys_that_are_too_weak() {
    let mut book = Book::open().await;
    let url = book.alice.new_account_url();
    let good = book.alice.key.jwk();
    let with = |member: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[member] = value;
        jwk
    };
    let even = number(2048, 3) + 1u32;
    for (what, alg, jwk, problem) in [
        ("RSA of 1024 bits", "RS256", rsa(&number(1024, 3), &[1, 0, 1]), "badPublicKey"),
        ("RSA of 2040 bits", "RS256", rsa(&number(2040, 3), &[1, 0, 1]), "badPublicKey"),
        ("RSA with an even modulus", "RS256", rsa(&even, &[1, 0, 1]), "badPublicKey"),
        ("RSA with exponent 3", "RS256", rsa(&number(2048, 3), &[3]), "badPublicKey"),
        ("RSA as ROCA makes it", "RS256", rsa(&roca(), &[1, 0, 1]), "badPublicKey"),
        ("RSA with close primes", "RS256", rsa(&close_primes(), &[1, 0, 1]), "badPublicKey"),
        ("a point off the curve", "ES256", with("y", json!(b64([7; 32]))), "badPublicKey"),
        ("the point at infinity", "ES256", with("x", json!(b64([0; 32]))), "badPublicKey"),
        ("a short coordinate", "ES256", with("x", json!(b64([7; 31]))), "badPublicKey"),
        ("another curve's name", "ES256", with("crv", json!("P-384")), "badPublicKey"),
        ("an unknown curve", "ES256", with("crv", json!("secp256k1")), "badPublicKey"),
        ("a symmetric key", "ES256", json!({ "kty": "oct", "k": "AAAA" }), "badPublicKey"),
        (
            "an Ed25519 point of small order",
            "EdDSA",
            json!({ "kty": "OKP", "crv": "Ed25519", "x": b64([0; 32]) }),
            "badPublicKey",
        ),
    ] {
        let nonce = book.alice.nonce().await;
        let header = json!({ "alg": alg, "nonce": nonce, "url": url, "jwk": jwk });
        let jws = book.alice.key.sign(&header, "{}");
        let answer = book.alice.post_jws(&url, &jws).await;
        book.case(what, answer, 400, problem).await;
    }
    book.close();
}

/// A key that somebody else has, if anybody, so that the signature is none; the key is judged first.
struct Foreign(Vec<u8>, &'static SignatureAlgorithm);

impl PublicKeyData for Foreign {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1
    }
}

impl SigningKey for Foreign {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(vec![7; 64])
    }
}

/// An RSAPublicKey (RFC 8017 appendix A.1.1).
fn rsa_key(modulus: &BigUint, exponent: u32) -> Foreign {
    let element = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        match content.len() {
            short @ 0..=127 => [&[tag, short as u8], content].concat(),
            middle @ 128..=255 => [&[tag, 0x81, middle as u8], content].concat(),
            _ => [&[tag, 0x82, length[0], length[1]], content].concat(),
        }
    };
    let integer = |n: &BigUint| {
        let octets = n.to_bytes_be();
        let sign: &[u8] = if octets[0] & 0x80 == 0 { &[] } else { &[0] };
        element(2, &[sign, &octets].concat())
    };
    let numbers = [integer(modulus), integer(&BigUint::from(exponent))].concat();
    Foreign(element(0x30, &numbers), &PKCS_RSA_SHA256)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_4_certificate_keys_that_are_too_weak() {
    let mut book = Book::open().await;
    let finalize = book.finalize.clone();
    let point =
        |x: [u8; 32], y: [u8; 32]| Foreign([&[4][..], &x, &y].concat(), &PKCS_ECDSA_P256_SHA256);
    for (what, key) in [
        ("RSA of 1024 bits", rsa_key(&number(1024, 3), 65_537)),
        ("RSA of 2040 bits", rsa_key(&number(2040, 3), 65_537)),
        ("RSA with an even modulus", rsa_key(&(number(2048, 3) + 1u32), 65_537)),
        ("RSA with exponent 3", rsa_key(&number(2048, 3), 3)),
        ("RSA as ROCA makes it", rsa_key(&roca(), 65_537)),
        ("RSA with close primes", rsa_key(&close_primes(), 65_537)),
        ("a point off the curve", point([7; 32], [7; 32])),
        ("the point at infinity", point([0; 32], [0; 32])),
        ("half a point", Foreign(vec![4; 33], &PKCS_ECDSA_P256_SHA256)),
    ] {
        let csr = csr_by(&key, &["a.test", "b.test"]);
        let answer = book.alice.post(&finalize, &json!({ "csr": csr })).await;
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        // For the key's sake, not for the signature's.
        assert!(detail.contains("public key"), "{what}: {detail}");
        book.case(what, answer, 400, "badCSR").await;
    }
    book.close();
}
