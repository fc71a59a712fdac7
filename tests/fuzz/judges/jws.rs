//! Request bodies, inner JWS and JWKs.

use chancery::acme::jws::{Jwk, Jws};

/// True if it is any of the three.
pub(crate) fn judge(data: &[u8]) -> bool {
    let mut any = false;
    if let Ok(jws) = Jws::parse(data) {
        assert!(jws.nonce().is_some() && data.len() <= Jws::MAX);
        any = true;
    }
    if let Ok(jws) = Jws::parse_inner(data) {
        assert!(jws.nonce().is_none());
        any = true;
    }
    if let Ok(jwk) = Jwk::parse(data) {
        // The canonical form is a fixed point, and names the same key.
        let canonical = String::from(jwk.clone());
        assert_eq!(Jwk::parse(canonical.as_bytes()).unwrap(), jwk);
        any = true;
    }
    any
}
