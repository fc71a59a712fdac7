//! The payload of a keyChange request (RFC 8555 section 7.3.5): a JWS by the new key inside the one by the old.

use serde::Deserialize;

use crate::acme::json::{self, Object};
use crate::acme::jws::{self, Jwk, Jws, KeyRef, Payload};
use crate::acme::problem::{Problem, ProblemType};

/// A key change that both keys signed. Whether another account has the new key is for a store to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyChange {
    /// The key from now on.
    pub key: Jwk,
}

impl KeyChange {
    /// Judges the payload of an outer request that is verified and whose `url` and `kid` are these: the inner JWS
    /// has `jwk` and no nonce, verifies under that, has the same `url`, and names the account and its present key.
    pub fn parse(payload: &[u8], url: &str, kid: &str, present: &Jwk) -> Result<Self, Problem> {
        let inner = Jws::parse_inner(payload).map_err(Problem::from)?;
        let KeyRef::Jwk(key) = inner.key() else {
            return Err(Problem::malformed("the inner JWS must name its key by jwk"));
        };
        let signed = match inner.verify(key).map_err(Problem::from)? {
            Payload::Json(signed) => signed,
            Payload::PostAsGet => {
                return Err(Problem::malformed("the inner JWS has no payload"));
            }
        };
        if inner.url() != url {
            return Err(Problem::malformed("the inner and the outer JWS have different urls"));
        }
        let members: Members = json::object(&signed).map_err(|_| {
            Problem::malformed("the inner payload is not an object with account and oldKey")
        })?;
        if members.account != kid {
            return Err(Problem::malformed("account is not the account of the outer JWS"));
        }
        let Object(old) = members.old_key;
        let old = Jwk::from_members(old).map_err(Problem::from)?;
        if old.thumbprint() != present.thumbprint() {
            return Err(Problem::malformed("oldKey is not the account's present key"));
        }
        Ok(Self { key: (**key).clone() })
    }

    /// The new key is somebody's: 409 (RFC 8555 section 7.3.5). Its `Location` is the flow's to add.
    pub fn in_use() -> Problem {
        Problem::new(ProblemType::Malformed, "an account has this key already").with_status(409)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    account: String,
    old_key: Object<jws::Members>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use base64ct::{Base64UrlUnpadded, Encoding};
    use serde_json::{Value, json};

    const URL: &str = "https://ca.lan/acme/key-change";
    const KID: &str = "https://ca.lan/acme/acct/AAAAAAAAAAAAAAAAAAAAAA";

    struct Key(EcdsaKeyPair);

    impl Key {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn json(&self) -> Value {
            let point = self.0.public_key().as_ref();
            let text = |octets: &[u8]| Base64UrlUnpadded::encode_string(octets);
            json!({ "kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]) })
        }

        fn jwk(&self) -> Jwk {
            Jwk::parse(self.json().to_string().as_bytes()).unwrap()
        }

        fn sign(&self, header: &Value, payload: &str) -> Vec<u8> {
            let text = |octets: &[u8]| Base64UrlUnpadded::encode_string(octets);
            let (header, payload) = (text(header.to_string().as_bytes()), text(payload.as_bytes()));
            let signed = format!("{header}.{payload}");
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            json!({ "protected": header, "payload": payload, "signature": text(signature.as_ref()) })
                .to_string()
                .into_bytes()
        }
    }

    #[test]
    fn every_condition_counts() {
        let (old, new, other) = (Key::new(), Key::new(), Key::new());
        let header = |key: &Key| json!({ "alg": "ES256", "jwk": key.json(), "url": URL });
        let payload = json!({ "account": KID, "oldKey": old.json() });
        let judge = |inner: &[u8]| KeyChange::parse(inner, URL, KID, &old.jwk());
        let with = |change: &dyn Fn(&mut Value, &mut Value)| {
            let (mut header, mut payload) = (header(&new), payload.clone());
            change(&mut header, &mut payload);
            judge(&new.sign(&header, &payload.to_string())).map_err(|problem| problem.kind)
        };
        assert_eq!(with(&|_, _| {}), Ok(KeyChange { key: new.jwk() }));
        assert_eq!(with(&|_, p| p["more"] = json!(1)), Ok(KeyChange { key: new.jwk() }));
        use ProblemType::*;
        type Change<'a> = &'a dyn Fn(&mut Value, &mut Value);
        let cases: [(&str, Change<'_>, ProblemType); 11] = [
            ("nonce", &|h, _| h["nonce"] = json!("AAAA"), Malformed),
            ("another url", &|h, _| h["url"] = json!("https://ca.lan/acme/new-order"), Malformed),
            ("no url", &|h, _| drop(h.as_object_mut().unwrap().remove("url")), Malformed),
            ("kid", &|h, _| h["kid"] = json!(KID), Malformed),
            ("another jwk", &|h, _| h["jwk"] = other.json(), Unauthorized),
            ("alg none", &|h, _| h["alg"] = json!("none"), BadSignatureAlgorithm),
            ("a MAC", &|h, _| h["alg"] = json!("HS256"), BadSignatureAlgorithm),
            ("another account", &|_, p| p["account"] = json!(format!("{KID}B")), Malformed),
            ("no account", &|_, p| drop(p.as_object_mut().unwrap().remove("account")), Malformed),
            ("another old key", &|_, p| p["oldKey"] = other.json(), Malformed),
            ("no old key", &|_, p| drop(p.as_object_mut().unwrap().remove("oldKey")), Malformed),
        ];
        for (what, change, kind) in cases {
            assert_eq!(with(change), Err(kind), "{what}");
        }
        let empty = new.sign(&header(&new), "");
        assert_eq!(judge(&empty).unwrap_err().kind, Malformed);
        let text = payload.to_string();
        assert_eq!(judge(text.as_bytes()).unwrap_err().kind, Malformed, "not signed at all");
        let mut cut = new.sign(&header(&new), &text);
        cut.truncate(cut.len() - 9);
        assert_eq!(judge(&cut).unwrap_err().kind, Malformed);
        assert_eq!(KeyChange::in_use().status, 409);
    }
}
