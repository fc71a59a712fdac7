//! External account bindings, the payloads of accounts and of key changes, and what a ticket file says of names.

use chancery::acme::account::{AccountUpdate, KeyChange, NewAccount};
use chancery::acme::jws::Jwk;
use chancery::acme::ticket::{Binding, Constraints};

/// True if it is any of them.
pub(crate) fn judge(data: &[u8]) -> bool {
    let key = Jwk::parse(KEY.as_bytes()).unwrap();
    let mut any = false;
    if let Ok(binding) = Binding::parse(data) {
        // A secret that is too short, or another's, binds nothing, whatever the MAC is.
        for secret in [&[][..], &[0; 31], &[0x5a; 64]] {
            assert!(!binding.verify(secret, URL, &key));
        }
        any = true;
    }
    if let Ok(asked) = NewAccount::parse(data) {
        // What is kept of a binding is an object that reads as it did.
        if let Some(text) = &asked.external_account_binding {
            let again = format!("{{\"externalAccountBinding\":{text}}}");
            let again = NewAccount::parse(again.as_bytes()).unwrap();
            assert_eq!(again.external_account_binding.as_ref(), Some(text));
        }
        any = true;
    }
    any |= AccountUpdate::parse(data).is_ok();
    if let Ok(change) = KeyChange::parse(data, URL, KID, &key) {
        assert_ne!(change.key, key, "signed by a key whose secret nobody has");
        any = true;
    }
    if let Ok(constraints) = serde_json::from_slice::<Constraints>(data) {
        let text = serde_json::to_string(&constraints).unwrap();
        assert_eq!(serde_json::from_str::<Constraints>(&text).unwrap(), constraints);
        let _ = constraints.to_string();
        any = true;
    }
    any
}

/// RFC 8037's key.
const KEY: &str =
    r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const URL: &str = "https://ca.lan/acme/key-change";
const KID: &str = "https://ca.lan/acme/acct/AAAAAAAAAAAAAAAAAAAAAA";
