//! Request bodies, inner JWS and JWKs.

#![no_main]

use chancery::acme::jws::{Jwk, Jws};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(jws) = Jws::parse(data) {
        assert!(jws.nonce().is_some() && data.len() <= Jws::MAX);
    }
    if let Ok(jws) = Jws::parse_inner(data) {
        assert!(jws.nonce().is_none());
    }
    if let Ok(jwk) = Jwk::parse(data) {
        // The canonical form is a fixed point, and names the same key.
        let canonical = String::from(jwk.clone());
        assert_eq!(Jwk::parse(canonical.as_bytes()).unwrap(), jwk);
    }
});
