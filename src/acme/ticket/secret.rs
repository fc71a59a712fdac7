//! A ticket's MAC key.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Never printed, wiped when dropped. Serialized as base64url, which is how clients take it.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(Vec<u8>);

impl Secret {
    /// It has at least this many octets.
    pub const MIN: usize = 32;

    /// Octets of one that is made here: as many as HMAC-SHA-512 puts out, which RFC 7518 section 3.2 demands of
    /// an HS512 key.
    pub const LENGTH: usize = 64;

    /// Makes one out of random octets; asks for more until the text does not begin with a hyphen, which command
    /// lines take for an option.
    pub fn generate(fill: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut octets = vec![0; Self::LENGTH];
        loop {
            fill(&mut octets);
            let made = Self(std::mem::take(&mut octets));
            if !made.text().starts_with('-') {
                return made;
            }
            octets = made.0.clone();
        }
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// base64url, without padding.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64UrlUnpadded::encode_string(&self.0))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl TryFrom<String> for Secret {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = Zeroizing::new(text);
        let octets = Base64UrlUnpadded::decode_vec(&text).map_err(|_| "not base64url")?;
        let secret = Self(octets);
        if secret.0.len() < Self::MIN {
            return Err("too short for a MAC key");
        }
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_only_where_it_must() {
        // 0xf8 is `-` as the first six bits of base64url.
        let mut calls = 0;
        let secret = Secret::generate(&mut |octets| {
            octets.fill(if calls == 0 { 0xf8 } else { 0x2a });
            calls += 1;
        });
        assert_eq!((calls, secret.octets()), (2, &[0x2a; Secret::LENGTH][..]));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        let json = serde_json::to_string(&secret).unwrap();
        assert_eq!(json, format!("{:?}", *secret.text()));
        assert!(serde_json::from_str::<Secret>(&json).unwrap() == secret);
        for bad in ["\"\"", "\"KioqKg\"", "\"Kio=\"", "7"] {
            assert!(serde_json::from_str::<Secret>(bad).is_err(), "{bad}");
        }
    }
}
