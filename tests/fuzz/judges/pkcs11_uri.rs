//! PKCS#11 URIs (RFC 7512), as an operator may write or paste them.

use std::path::Path;

use chancery::pki::uri::{Pkcs11Uri, UriError};

/// True if it is one.
pub(crate) fn judge(data: &[u8]) -> bool {
    let text = match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap(),
    };
    let uri = match Pkcs11Uri::parse(text) {
        Ok(uri) => uri,
        Err(error) => {
            // What it says is words of the program's own: no value, which may be a PIN, is repeated.
            if let Some(pin) = text.split("pin-value=").nth(1).and_then(|rest| rest.get(..4)) {
                let digits = pin.bytes().all(|b| b.is_ascii_digit());
                assert!(!digits || !error.to_string().contains(pin), "{error}");
            }
            assert!(["CHY-URI", "CHY-URI-PIN-VALUE"].contains(&error.code()));
            return false;
        }
    };
    assert!(!text.contains("pin-value="), "a PIN was let in");
    let printed = uri.to_string();
    assert!(printed.is_ascii() && !printed.contains("pin-value="));
    // Values that had no percent sign can triple in length.
    match Pkcs11Uri::parse(&printed) {
        Ok(again) => assert_eq!(again, uri),
        Err(UriError::Bad(_)) => assert!(printed.len() > 2048),
        Err(UriError::PinValue) => panic!("a PIN was printed"),
    }
    if let Ok(token) = Pkcs11Uri::parse_token(text) {
        assert!(token.id.is_none() && token.object.is_none());
    }
    if let Ok(Some(file)) = uri.pin_file() {
        assert!(file.is_absolute());
    }
    let _ = uri.allows_module(Path::new("/usr/lib/libmodule.so"));
    true
}
