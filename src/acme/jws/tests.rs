//! RFC vectors, one request per way to be refused, and flipped bits.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use proptest::prelude::*;

use super::*;

const RFC_7515_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const RFC_8037_KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const RFC_7638_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}

/// Signs whatever it is told to.
struct Client {
    key: Ed25519KeyPair,
}

impl Client {
    fn new() -> Self {
        Self { key: Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap() }
    }

    fn jwk(&self) -> String {
        let x = b64(self.key.public_key());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)
    }

    fn body(&self, header: &str, payload: &str) -> String {
        let (protected, payload) = (b64(header), b64(payload));
        let signature = b64(self.key.sign(format!("{protected}.{payload}").as_bytes()));
        format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#)
    }

    fn request(&self) -> String {
        let jwk = self.jwk();
        self.body(
            &format!(r#"{{"alg":"EdDSA","nonce":"bm9uY2U","url":"https://ca/x","jwk":{jwk}}}"#),
            r#"{"termsOfServiceAgreed":true}"#,
        )
    }
}

fn verify_own(body: &[u8]) -> Result<Payload, JwsError> {
    let jws = Jws::parse(body)?;
    match jws.key() {
        KeyRef::Jwk(key) => jws.verify(key),
        KeyRef::Kid(_) => Err(JwsError::Malformed("kid")),
    }
}

#[test]
fn rfc_7515_a_3_verifies() {
    // The example's header carries only alg, so the signature is checked below the header's rules.
    let key = Jwk::parse(RFC_7515_KEY.as_bytes()).unwrap();
    let signed = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let jws = Jws {
        algorithm: Algorithm::Es256,
        key: KeyRef::Kid(String::new()),
        url: String::new(),
        nonce: None,
        payload: Payload::PostAsGet,
        signature: Base64UrlUnpadded::decode_vec(signature).unwrap(),
        signed: signed.into(),
    };
    assert_eq!(jws.verify(&key), Ok(Payload::PostAsGet));
    let wrong = Jws { algorithm: Algorithm::Es384, ..jws };
    assert_eq!(wrong.verify(&key), Err(JwsError::Mismatch));
}

#[test]
fn rfc_8037_a_4_verifies() {
    let key = Jwk::parse(RFC_8037_KEY.as_bytes()).unwrap();
    let jws = Jws {
        algorithm: Algorithm::EdDsa,
        key: KeyRef::Kid(String::new()),
        url: String::new(),
        nonce: None,
        payload: Payload::PostAsGet,
        signature: Base64UrlUnpadded::decode_vec("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg").unwrap(),
        signed: "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".into(),
    };
    assert_eq!(jws.verify(&key), Ok(Payload::PostAsGet));
}

#[test]
fn thumbprints_of_rfc_7638_and_rfc_8037() {
    let rsa = format!(
        r#"{{"kty":"RSA","n":"{RFC_7638_N}","e":"AQAB","alg":"RS256","kid":"2011-04-29"}}"#
    );
    let rsa = Jwk::parse(rsa.as_bytes()).unwrap();
    assert_eq!(rsa.thumbprint().to_string(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(rsa.public_key().kind(), KeyKind::Rsa(2048));
    let okp = Jwk::parse(RFC_8037_KEY.as_bytes()).unwrap();
    assert_eq!(okp.thumbprint().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn leading_zeros_of_rsa_members_do_not_change_the_thumbprint() {
    let n = Base64UrlUnpadded::decode_vec(RFC_7638_N).unwrap();
    let padded = b64([&[0], n.as_slice()].concat());
    let key = |n: &str, e: &str| {
        Jwk::parse(format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"}}"#).as_bytes()).unwrap()
    };
    assert_eq!(key(&padded, "AAEAAQ"), key(RFC_7638_N, "AQAB"));
}

#[test]
fn a_jwk_is_the_same_from_its_key_and_from_storage() {
    for json in [
        RFC_7515_KEY.to_owned(),
        RFC_8037_KEY.to_owned(),
        format!(r#"{{"kty":"RSA","n":"{RFC_7638_N}","e":"AQAB"}}"#),
    ] {
        let jwk = Jwk::parse(json.as_bytes()).unwrap();
        assert_eq!(Jwk::from_public_key(jwk.public_key().clone()).as_ref(), Some(&jwk));
        let stored = postcard::to_stdvec(&jwk).unwrap();
        assert_eq!(postcard::from_bytes::<Jwk>(&stored).unwrap(), jwk);
    }
}

#[test]
fn jwks_that_are_no_public_key_of_ours() {
    let ec = |x: &str, y: &str| format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#);
    let (x, y) = (b64([1; 32]), b64([2; 32]));
    let private =
        RFC_8037_KEY.replace("}", r#","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}"#);
    let null_private = RFC_8037_KEY.replace("}", r#","d":null}"#);
    for bad in [
        ec(&x, &y),            // not on the curve
        ec(&b64([1; 31]), &y), // short
        ec(&b64([1; 33]), &y), // long
        RFC_7515_KEY.replace("P-256", "P-384"),
        RFC_7515_KEY.replace("P-256", "secp256k1"),
        RFC_7515_KEY.replace(r#","y":"#, r#","z":"#),
        RFC_8037_KEY.replace("Ed25519", "X25519"),
        r#"{"kty":"oct","k":"AAAA"}"#.into(),
        r#"{"kty":"RSA","n":"AAAA","e":"AQAB"}"#.into(),
        private,
        null_private,
    ] {
        assert!(matches!(Jwk::parse(bad.as_bytes()), Err(JwsError::PublicKey(_))), "{bad}");
    }
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"kty":1}"#,
        r#"["OKP","Ed25519","11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"]"#,
        r#"{"kty":"OKP","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    ] {
        assert!(matches!(Jwk::parse(bad.as_bytes()), Err(JwsError::Malformed(_))), "{bad}");
    }
}

#[test]
fn every_ecdsa_algorithm_and_only_on_its_curve() {
    let rng = SystemRandom::new();
    let pair =
        |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::generate(algorithm).unwrap();
    let cases = [
        ("ES256", "P-256", pair(&ECDSA_P256_SHA256_FIXED_SIGNING)),
        ("ES384", "P-384", pair(&ECDSA_P384_SHA384_FIXED_SIGNING)),
        ("ES512", "P-521", pair(&ECDSA_P521_SHA512_FIXED_SIGNING)),
    ];
    for (index, (_, crv, pair)) in cases.iter().enumerate() {
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let (x, y) = (b64(x), b64(y));
        for (other, (alg, ..)) in cases.iter().enumerate() {
            let header = format!(
                r#"{{"alg":"{alg}","nonce":"bm9uY2U","url":"u","jwk":{{"kty":"EC","crv":"{crv}","x":"{x}","y":"{y}"}}}}"#
            );
            let signed = format!("{}.", b64(header));
            let signature = pair.sign(&rng, signed.as_bytes()).unwrap();
            let protected = signed.trim_end_matches('.');
            let body = format!(
                r#"{{"protected":"{protected}","payload":"","signature":"{}"}}"#,
                b64(signature)
            );
            let expected =
                if index == other { Ok(Payload::PostAsGet) } else { Err(JwsError::Mismatch) };
            assert_eq!(verify_own(body.as_bytes()), expected);
        }
    }
}

#[test]
fn rs256_of_a_key_with_padded_members() {
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::RSA_PKCS1_SHA256;
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = pair.public_key();
    let n = b64([&[0], public.modulus().big_endian_without_leading_zero()].concat());
    let jwk = format!(r#"{{"kty":"RSA","n":"{n}","e":"AAEAAQ"}}"#);
    let header = format!(r#"{{"alg":"RS256","nonce":"bm9uY2U","url":"u","jwk":{jwk}}}"#);
    let signed = format!("{}.{}", b64(header), b64("{}"));
    let mut signature = vec![0; public.modulus_len()];
    let rng = SystemRandom::new();
    pair.sign(&RSA_PKCS1_SHA256, &rng, signed.as_bytes(), &mut signature).unwrap();
    let body = |signature: &[u8]| {
        let (protected, payload) = signed.split_once('.').unwrap();
        let signature = b64(signature);
        format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#)
    };
    assert_eq!(verify_own(body(&signature).as_bytes()), Ok(Payload::Json(b"{}".to_vec())));
    signature[100] ^= 1;
    assert_eq!(verify_own(body(&signature).as_bytes()), Err(JwsError::Signature));
    // The key's own DER, as a CSR carries it, is the same key.
    let stored = Jwk::parse(jwk.as_bytes()).unwrap();
    assert_eq!(Jwk::from_public_key(stored.public_key().clone()), Some(stored));
}

#[test]
fn a_good_request_gives_its_payload() {
    let client = Client::new();
    let body = client.request();
    let jws = Jws::parse(body.as_bytes()).unwrap();
    assert_eq!(jws.algorithm(), Algorithm::EdDsa);
    assert_eq!((jws.url(), jws.nonce()), ("https://ca/x", Some("bm9uY2U")));
    assert_eq!(
        verify_own(body.as_bytes()),
        Ok(Payload::Json(br#"{"termsOfServiceAgreed":true}"#.to_vec()))
    );
    let by_kid =
        client.body(r#"{"alg":"Ed25519","nonce":"bm9uY2U","url":"u","kid":"k","typ":"x"}"#, "{}");
    let jws = Jws::parse(by_kid.as_bytes()).unwrap();
    assert_eq!(jws.key(), &KeyRef::Kid("k".into()));
    let own = Jwk::parse(client.jwk().as_bytes()).unwrap();
    assert_eq!(jws.verify(&own), Ok(Payload::Json(b"{}".to_vec())));
    let foreign = Jwk::parse(RFC_8037_KEY.as_bytes()).unwrap();
    assert_eq!(jws.verify(&foreign), Err(JwsError::Signature));
    let other_kind = Jwk::parse(RFC_7515_KEY.as_bytes()).unwrap();
    assert_eq!(jws.verify(&other_kind), Err(JwsError::Mismatch));
}

#[test]
fn headers_that_are_refused() {
    let client = Client::new();
    let jwk = client.jwk();
    let rest = format!(r#""nonce":"bm9uY2U","url":"u","jwk":{jwk}"#);
    for bad in [
        "".to_owned(),
        "[]".to_owned(),
        format!("{{{rest}}}"),
        format!(r#"{{"alg":"EdDSA","url":"u","jwk":{jwk}}}"#),
        format!(r#"{{"alg":"EdDSA","nonce":null,"url":"u","jwk":{jwk}}}"#),
        format!(r#"{{"alg":"EdDSA","nonce":"bm9uY2U","jwk":{jwk}}}"#),
        r#"{"alg":"EdDSA","nonce":"bm9uY2U","url":"u"}"#.to_owned(),
        format!(r#"{{"alg":"EdDSA",{rest},"kid":"k"}}"#),
        format!(r#"{{"alg":"EdDSA",{rest},"kid":null}}"#),
        format!(r#"{{"alg":"EdDSA",{rest},"crit":["x"]}}"#),
        format!(r#"{{"alg":"EdDSA",{rest},"crit":null}}"#),
        format!(r#"{{"alg":"EdDSA",{rest},"b64":false}}"#),
        format!(r#"{{"alg":"EdDSA","alg":"EdDSA",{rest}}}"#),
        format!(r#"{{"alg":"EdDSA",{rest}}}x"#),
    ] {
        let body = client.body(&bad, "{}");
        let refused = Jws::parse(body.as_bytes()).unwrap_err();
        assert!(matches!(refused, JwsError::Malformed(_)), "{bad}: {refused:?}");
    }
    for alg in ["none", "HS256", "RS384", "PS256", "es256", ""] {
        let body = client.body(&format!(r#"{{"alg":"{alg}",{rest}}}"#), "{}");
        assert_eq!(Jws::parse(body.as_bytes()).unwrap_err(), JwsError::Algorithm);
    }
    // The algorithm is judged before the key, so that a client with newer ones learns of ours.
    let body = client.body(
        r#"{"alg":"ML-DSA-44","nonce":"bm9uY2U","url":"u","jwk":{"kty":"AKP","pub":"AA"}}"#,
        "{}",
    );
    assert_eq!(Jws::parse(body.as_bytes()).unwrap_err(), JwsError::Algorithm);
    let problem = Problem::from(JwsError::Algorithm);
    assert_eq!((problem.kind, problem.status), (ProblemType::BadSignatureAlgorithm, 400));
}

#[test]
fn serializations_that_are_refused() {
    let good = Client::new().request();
    let open = good.trim_end_matches('}');
    let jws: serde_json::Value = serde_json::from_str(&good).unwrap();
    let member = |name: &str| jws[name].as_str().unwrap().to_owned();
    let (protected, payload, signature) =
        (member("protected"), member("payload"), member("signature"));
    let padded = format!("{signature}==");
    for bad in [
        String::new(),
        "{}".into(),
        format!("{open},\"header\":{{}}}}"),
        format!("{open},\"signatures\":[]}}"),
        format!("{open},\"x\":1}}"),
        format!("{open},\"payload\":\"\"}}"),
        format!("{good}{good}"),
        format!(r#"["{protected}","{payload}","{signature}"]"#),
        format!(r#"{{"protected":"{protected}","signature":"{signature}"}}"#),
        format!(r#"{{"protected":"{protected}","payload":null,"signature":"{signature}"}}"#),
        format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{padded}"}}"#),
        format!(r#"{{"protected":"{protected}","payload":"*","signature":"{signature}"}}"#),
        " ".repeat(Jws::MAX) + &good,
    ] {
        assert!(matches!(Jws::parse(bad.as_bytes()), Err(JwsError::Malformed(_))), "{bad:.80}");
    }
    // White space and escapes are JSON's business.
    let escaped = good.replace("\"payload\"", " \"pay\\u006coad\" ");
    assert!(verify_own(escaped.as_bytes()).is_ok());
}

#[test]
fn an_empty_payload_is_not_an_empty_object() {
    let client = Client::new();
    let header = format!(r#"{{"alg":"EdDSA","nonce":"bm9uY2U","url":"u","jwk":{}}}"#, client.jwk());
    assert_eq!(verify_own(client.body(&header, "").as_bytes()), Ok(Payload::PostAsGet));
    let empty_object = client.body(&header, "{}");
    assert_eq!(verify_own(empty_object.as_bytes()), Ok(Payload::Json(b"{}".to_vec())));
}

#[test]
fn inner_requests_have_a_jwk_and_no_nonce() {
    let client = Client::new();
    let jwk = client.jwk();
    let inner = client.body(&format!(r#"{{"alg":"EdDSA","url":"u","jwk":{jwk}}}"#), "{}");
    assert!(Jws::parse_inner(inner.as_bytes()).is_ok());
    assert!(Jws::parse(inner.as_bytes()).is_err());
    assert!(Jws::parse_inner(client.request().as_bytes()).is_err());
    let by_kid = client.body(r#"{"alg":"EdDSA","url":"u","kid":"k"}"#, "{}");
    assert!(Jws::parse_inner(by_kid.as_bytes()).is_err());
}

#[test]
fn a_weak_account_key_is_a_bad_public_key() {
    // 1024 bits parse as a key or not at all; either way the refusal is badPublicKey.
    let n = b64([0xc5; 128]);
    let client = Client::new();
    let body = client.body(
        &format!(
            r#"{{"alg":"RS256","nonce":"bm9uY2U","url":"u","jwk":{{"kty":"RSA","n":"{n}","e":"AQAB"}}}}"#
        ),
        "{}",
    );
    assert!(matches!(Jws::parse(body.as_bytes()), Err(JwsError::PublicKey(_))));
}

proptest! {
    #[test]
    fn a_changed_octet_is_refused(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let good = Client::new().request();
        let mut body = good.clone().into_bytes();
        let at = at.index(body.len());
        body[at] ^= flip;
        // Every octet of this body belongs to a member's name or value, or to JSON's punctuation.
        prop_assert!(verify_own(&body).is_err());
    }

    #[test]
    fn arbitrary_octets_do_not_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Jws::parse(&body);
        let _ = Jwk::parse(&body);
    }

    #[test]
    fn arbitrary_headers_do_not_panic(header in "\\PC{0,120}", payload in ".{0,40}") {
        let _ = Jws::parse(Client::new().body(&header, &payload).as_bytes());
    }

    #[test]
    fn arbitrary_members_do_not_panic(kty in "EC|OKP|RSA", crv in "P-(256|384|521)|Ed25519", x in "[A-Za-z0-9_-]{0,90}", y in "[A-Za-z0-9_-]{0,90}") {
        let json = format!(r#"{{"kty":"{kty}","crv":"{crv}","x":"{x}","y":"{y}","n":"{x}","e":"{y}"}}"#);
        if let Ok(jwk) = Jwk::parse(json.as_bytes()) {
            prop_assert_eq!(Jwk::parse(jwk.canonical_json().as_bytes()), Ok(jwk));
        }
    }
}
