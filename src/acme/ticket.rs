//! Enrolment tickets: external account binding (RFC 8555 section 7.3.4). What a client's binding
//! says and whether a secret verifies it; minting and spending tickets live with the issuer.

mod bindings;
mod constraints;
mod secret;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use super::json::{self, present};
use super::jws::{Flattened, Jwk, JwsError, decode};

pub use bindings::{Bindings, first_clash};
pub use constraints::{BadConstraint, Constraints};
pub use secret::Secret;

/// The `kid` of a ticket.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TicketId(pub String);

/// An externalAccountBinding that parsed. It binds nothing until `verify` returns `Ok`.
#[derive(Clone, Debug)]
pub struct Binding {
    ticket: TicketId,
    url: String,
    key: Jwk,
    algorithm: hmac::Algorithm,
    signed: String,
    mac: Vec<u8>,
}

impl Binding {
    /// Parses the flattened JWS: a MAC algorithm, `kid`, `url`, no `nonce`, no `jwk`; its payload is a JWK.
    pub fn parse(json: &[u8]) -> Result<Self, JwsError> {
        let Flattened { protected, payload, signature } = Flattened::parse(json)?;
        let header = decode(&protected, "the binding's protected header is not base64url")?;
        let header: Header = json::object(&header).map_err(|_| {
            JwsError::Malformed("the binding's header needs exactly alg, kid and url")
        })?;
        let algorithm = match header.alg.as_str() {
            "HS256" => hmac::HMAC_SHA256,
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            _ => return Err(JwsError::Malformed("a binding's alg is HS256, HS384 or HS512")),
        };
        if header.kid.len() > MAX_KID {
            return Err(JwsError::Malformed("the binding's kid is too long"));
        }
        Ok(Self {
            ticket: TicketId(header.kid),
            url: header.url,
            key: Jwk::parse(&decode(&payload, "the binding's payload is not base64url")?)?,
            algorithm,
            mac: decode(&signature, "the binding's signature is not base64url")?,
            signed: [protected.as_ref(), ".", payload.as_ref()].concat(),
        })
    }

    /// The ticket that it claims.
    pub fn ticket(&self) -> &TicketId {
        &self.ticket
    }

    /// Whether the ticket's secret made this binding, for this outer `url` and this account key.
    pub fn verify(&self, secret: &[u8], url: &str, account_key: &Jwk) -> bool {
        secret.len() >= Secret::MIN
            && self.url == url
            && self.key.thumbprint() == account_key.thumbprint()
            && hmac::verify(
                &hmac::Key::new(self.algorithm, secret),
                self.signed.as_bytes(),
                &self.mac,
            )
            .is_ok()
    }
}

/// Longer than any key identifier this server hands out, in octets.
const MAX_KID: usize = 128;

/// `nonce`, `jwk`, `crit` and whatever else are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    url: String,
    #[serde(default, deserialize_with = "present")]
    #[expect(dead_code, reason = "some clients send it; it says nothing")]
    typ: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::{Base64UrlUnpadded, Encoding};

    const KEY: &str =
        r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const OTHER: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    const URL: &str = "https://ca.lan/acme/new-account";
    const SECRET: [u8; 32] = [7; 32];

    fn binding(header: &str, payload: &str) -> Vec<u8> {
        let protected = Base64UrlUnpadded::encode_string(header.as_bytes());
        let payload = Base64UrlUnpadded::encode_string(payload.as_bytes());
        let signed = format!("{protected}.{payload}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
        let mac = Base64UrlUnpadded::encode_string(hmac::sign(&key, signed.as_bytes()).as_ref());
        format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{mac}"}}"#).into()
    }

    fn header(alg: &str, extra: &str) -> String {
        format!(r#"{{"alg":"{alg}","kid":"t-1","url":"{URL}"{extra}}}"#)
    }

    #[test]
    fn a_binding_holds_for_one_secret_url_and_key() {
        let key = Jwk::parse(KEY.as_bytes()).unwrap();
        let other = Jwk::parse(OTHER.as_bytes()).unwrap();
        let binding = Binding::parse(&binding(&header("HS256", ""), KEY)).unwrap();
        assert_eq!(binding.ticket(), &TicketId("t-1".into()));
        assert!(binding.verify(&SECRET, URL, &key));
        assert!(!binding.verify(&[8; 32], URL, &key));
        assert!(!binding.verify(&SECRET[..31], URL, &key));
        assert!(!binding.verify(&SECRET, "https://ca.lan/acme/new-order", &key));
        assert!(!binding.verify(&SECRET, URL, &other));
    }

    #[test]
    fn what_is_no_binding() {
        for (header, payload) in [
            (header("ES256", ""), KEY),
            (header("none", ""), KEY),
            (header("HS256", r#","nonce":"x""#), KEY),
            (header("HS256", r#","crit":["b64"]"#), KEY),
            (r#"{"alg":"HS256","kid":"t-1"}"#.into(), KEY),
            (header("HS256", "").replace("t-1", &"t".repeat(MAX_KID + 1)), KEY),
            (header("HS256", ""), "{}"),
            (header("HS256", ""), ""),
        ] {
            assert!(Binding::parse(&binding(&header, payload)).is_err(), "{header}");
        }
    }
}
