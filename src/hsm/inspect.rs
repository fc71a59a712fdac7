//! The one judgement of a key on a token: exactly one object of its CKA_ID, never outside the token, for signing
//! alone, the pinned public key, and a signature that shows it. Start, recovery, ceremonies, the doctor and the check
//! of a restored token all ask here, so that none of them can be more lenient than the others.

use std::fmt;

use super::pool::Quirks;
use super::token::{Handle, KeyAttributes, Remedy, Session, TokenError, TokenInfo};
use crate::pki::key::PublicKey;
use crate::pki::uri::Pkcs11Uri;

/// Signed by every key before it is used. No certificate, CRL, checkpoint or handshake begins so.
pub const TRIAL: &[u8] = b"chancery: trial signature, of no other meaning\n";

/// The code of the error for a key that is the pinned one by its public half, and makes a wrong signature.
pub const SIGNS_WRONG: &str = "CHY-KEY-SIGNS-WRONG";

/// A key, as it has to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What the program calls it.
    pub name: &'a str,
    /// CKA_ID.
    pub id: &'a [u8],
    /// The pinned public key.
    pub public: &'a PublicKey,
    /// The token it was looked for on; for the message.
    pub token: &'a TokenInfo,
    /// What this model is forgiven.
    pub quirks: &'a Quirks,
}

/// A key that is as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    pub handle: Handle,
    /// As read back from the token.
    pub attributes: KeyAttributes,
}

/// Stands over each call into the module, and knows its name.
pub trait Calls {
    fn call<T>(&self, name: &'static str, body: impl FnOnce() -> T) -> T;
}

/// Nobody stands over the calls: a person watches.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Calls for Unwatched {
    fn call<T>(&self, _name: &'static str, body: impl FnOnce() -> T) -> T {
        body()
    }
}

/// Finds the key and judges all of it; the session must be logged in. The error's message names key and token, says
/// what is wrong and what to do.
pub fn inspect(
    session: &Session,
    wanted: &Wanted<'_>,
    calls: &impl Calls,
) -> Result<Inspected, TokenError> {
    examine(session, wanted, calls).map_err(|mut error| {
        error.message = format!("{wanted}: {}", error.message);
        error
    })
}

fn examine(
    session: &Session,
    wanted: &Wanted<'_>,
    calls: &impl Calls,
) -> Result<Inspected, TokenError> {
    let found = calls.call("C_FindObjects", || session.find_key(wanted.id));
    let handle = match found {
        Err(error) if error.code == "CHY-KEY-MISSING" => {
            return Err(half(session, wanted, calls).unwrap_or(error));
        }
        other => other?,
    };
    let attributes = calls.call("C_GetAttributeValue", || session.key_attributes(handle))?;
    judge(&attributes, wanted.quirks)?;
    let stored = calls.call("C_FindObjects", || session.public_key(wanted.id))?;
    let pinned = wanted.public;
    if let Some(stored) = &stored
        && stored.kind() != pinned.kind()
    {
        // It could not even be asked for a signature of the pinned kind.
        return Err(another());
    }
    let algorithm = pinned.preferred_algorithm();
    let signature = calls.call("C_Sign", || session.sign(handle, algorithm, TRIAL))?;
    let made_by = |key: &PublicKey| key.verify(algorithm, TRIAL, &signature);
    let differs = stored.as_ref().is_some_and(|stored| stored.spki() != pinned.spki());
    match (made_by(pinned), stored.as_ref().is_some_and(made_by)) {
        (true, _) if !differs => Ok(Inspected { handle, attributes }),
        (true, _) => Err(refusal(
            "CHY-KEY-MISMATCH",
            "it signs as the pinned key, but the public key stored beside it is another one: somebody changed what the token holds. Remove that public key, after finding out who put it there",
        )),
        (false, true) => Err(another()),
        (false, false) if stored.is_some() && !differs => Err(refusal(
            SIGNS_WRONG,
            "the public key on the token is the pinned one, and what it signs does not verify: the token computes wrongly, or its private half was replaced",
        )),
        (false, false) => Err(refusal(
            "CHY-KEY-MISMATCH",
            "what it signs verifies neither under the pinned public key nor under one the token keeps: the halves do not belong together, or the token computes wrongly. Restore the right key from the token's own backup, or hold a ceremony for a new one",
        )),
    }
}

/// Why there is an id without a private key, if the rest of the key is there. Without a login private objects cannot
/// be seen, and nothing is concluded.
fn half(session: &Session, wanted: &Wanted<'_>, calls: &impl Calls) -> Option<TokenError> {
    let others = calls.call("C_FindObjects", || session.without_private_key(wanted.id)).ok()?;
    let logged_in = calls.call("C_GetSessionInfo", || session.is_logged_in()).ok()?;
    (logged_in && !others.is_empty()).then(|| {
        refusal(
            "CHY-KEY-INCOMPLETE",
            format!(
                "the token holds {} of this id, but no private key: the key was removed, or never made there. Restore it from the token's own backup, or hold a ceremony for a new one",
                others.join(" and ")
            ),
        )
    })
}

/// Promise 1, and what a signing key must not do besides. What a token does not say counts against it where the
/// private half is at stake.
pub fn judge(attributes: &KeyAttributes, quirks: &Quirks) -> Result<(), TokenError> {
    let a = attributes;
    for (name, value, wanted, means) in [
        ("CKA_SENSITIVE", a.sensitive, true, "its private half can be read in the clear"),
        ("CKA_EXTRACTABLE", a.extractable, false, "its private half can be carried off the token"),
    ] {
        if value != Some(wanted) {
            return Err(refusal(
                "CHY-KEY-EXTRACTABLE",
                format!("{name} is {}: {means}. {NOT_USED}", told(value)),
            ));
        }
    }
    for (code, name, value, means) in [
        (
            "CHY-KEY-EXTRACTABLE",
            "CKA_ALWAYS_SENSITIVE",
            a.always_sensitive,
            "its private half could be read once, and copies may exist",
        ),
        (
            "CHY-KEY-EXTRACTABLE",
            "CKA_NEVER_EXTRACTABLE",
            a.never_extractable,
            "its private half could leave the token once, and copies may exist",
        ),
        ("CHY-KEY-NOT-LOCAL", "CKA_LOCAL", a.local, "it was not generated on this token"),
    ] {
        // A clone comes in by C_UnwrapKey, which sets all three to false (PKCS#11 3.2 section 5.18.4).
        if value != Some(true) && !quirks.cloned {
            return Err(refusal(
                code,
                format!(
                    "{name} is {}: {means}. {NOT_USED}. Only if it is a clone made by the maker's own means, set quirks.cloned in the token's settings",
                    told(value)
                ),
            ));
        }
    }
    if a.private == Some(false) {
        return Err(refusal(
            "CHY-KEY-UNPROTECTED",
            format!(
                "CKA_PRIVATE is false: it signs for whoever reaches the token, without a PIN. {NOT_USED}"
            ),
        ));
    }
    for (name, value, wanted, means) in [
        ("CKA_TOKEN", a.token, Some(false), "it ends with the session that made it"),
        ("CKA_SIGN", a.sign, Some(false), "it cannot sign"),
        ("CKA_SIGN", a.sign, None, "it cannot sign"),
        (
            "CKA_ALWAYS_AUTHENTICATE",
            a.always_authenticate,
            Some(true),
            "it wants the PIN for each signature, which this box does not do",
        ),
    ] {
        if value == wanted {
            return Err(refusal(
                "CHY-KEY-UNUSABLE",
                format!("{name} is {}: {means}. Hold a ceremony for a new key", told(value)),
            ));
        }
    }
    for (attribute, name, value) in [
        ("decrypt", "CKA_DECRYPT", a.decrypt),
        ("unwrap", "CKA_UNWRAP", a.unwrap),
        ("derive", "CKA_DERIVE", a.derive),
        ("sign-recover", "CKA_SIGN_RECOVER", a.sign_recover),
    ] {
        // A model that does not take an attribute in a template chooses its value itself.
        if value == Some(true) && !quirks.omit.iter().any(|omitted| omitted == attribute) {
            return Err(refusal(
                "CHY-KEY-PURPOSE",
                format!(
                    "{name} is true: a key of a CA signs and does nothing else, since other uses can be made to yield signatures. {NOT_USED}. If this model cannot make keys without it, name `{attribute}` under quirks.omit"
                ),
            ));
        }
    }
    Ok(())
}

fn another() -> TokenError {
    refusal(
        "CHY-KEY-MISMATCH",
        "it is not the key that the ceremony pinned: its public key is another. Put back the right token or restore the right key; a new CA needs a ceremony",
    )
}

fn refusal(code: &'static str, message: impl Into<String>) -> TokenError {
    TokenError::new(Remedy::Operator, code, message)
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = Pkcs11Uri { id: Some(self.id.to_vec()), ..self.token.uri() };
        write!(f, "key {:?} ({uri})", self.name)
    }
}

fn told(value: Option<bool>) -> &'static str {
    match value {
        Some(true) => "true",
        Some(false) => "false",
        None => "unknown",
    }
}

const NOT_USED: &str = "It is not used; hold a ceremony for a new key";

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> KeyAttributes {
        KeyAttributes {
            sensitive: Some(true),
            always_sensitive: Some(true),
            extractable: Some(false),
            never_extractable: Some(true),
            local: Some(true),
            sign: Some(true),
            ..KeyAttributes::default()
        }
    }

    fn code(attributes: &KeyAttributes, quirks: &Quirks) -> &'static str {
        judge(attributes, quirks).map_or_else(|error| error.code, |()| "")
    }

    #[test]
    fn promise_1_what_can_leave_the_token_is_refused_even_of_a_clone() {
        let cloned = Quirks { cloned: true, ..Quirks::default() };
        assert_eq!(judge(&good(), &Quirks::default()), Ok(()));
        for spoilt in [
            KeyAttributes { sensitive: Some(false), ..good() },
            KeyAttributes { sensitive: None, ..good() },
            KeyAttributes { extractable: Some(true), ..good() },
            KeyAttributes { extractable: None, ..good() },
        ] {
            assert_eq!(code(&spoilt, &Quirks::default()), "CHY-KEY-EXTRACTABLE");
            assert_eq!(code(&spoilt, &cloned), "CHY-KEY-EXTRACTABLE");
        }
    }

    #[test]
    fn promise_1_what_may_have_left_the_token_is_refused_unless_clones_are_allowed() {
        let cloned = Quirks { cloned: true, ..Quirks::default() };
        for (spoilt, wanted) in [
            (KeyAttributes { always_sensitive: Some(false), ..good() }, "CHY-KEY-EXTRACTABLE"),
            (KeyAttributes { always_sensitive: None, ..good() }, "CHY-KEY-EXTRACTABLE"),
            (KeyAttributes { never_extractable: Some(false), ..good() }, "CHY-KEY-EXTRACTABLE"),
            (KeyAttributes { never_extractable: None, ..good() }, "CHY-KEY-EXTRACTABLE"),
            (KeyAttributes { local: Some(false), ..good() }, "CHY-KEY-NOT-LOCAL"),
            (KeyAttributes { local: None, ..good() }, "CHY-KEY-NOT-LOCAL"),
        ] {
            assert_eq!(code(&spoilt, &Quirks::default()), wanted);
            assert_eq!(code(&spoilt, &cloned), "");
        }
    }

    #[test]
    fn a_key_signs_after_a_login_and_does_nothing_else() {
        for (spoilt, wanted) in [
            (KeyAttributes { private: Some(false), ..good() }, "CHY-KEY-UNPROTECTED"),
            (KeyAttributes { token: Some(false), ..good() }, "CHY-KEY-UNUSABLE"),
            (KeyAttributes { sign: Some(false), ..good() }, "CHY-KEY-UNUSABLE"),
            (KeyAttributes { sign: None, ..good() }, "CHY-KEY-UNUSABLE"),
            (KeyAttributes { always_authenticate: Some(true), ..good() }, "CHY-KEY-UNUSABLE"),
            (KeyAttributes { decrypt: Some(true), ..good() }, "CHY-KEY-PURPOSE"),
            (KeyAttributes { unwrap: Some(true), ..good() }, "CHY-KEY-PURPOSE"),
            (KeyAttributes { derive: Some(true), ..good() }, "CHY-KEY-PURPOSE"),
            (KeyAttributes { sign_recover: Some(true), ..good() }, "CHY-KEY-PURPOSE"),
        ] {
            assert_eq!(code(&spoilt, &Quirks::default()), wanted, "{spoilt:?}");
        }
        let stubborn = Quirks { omit: vec!["decrypt".into()], ..Quirks::default() };
        let decrypts = KeyAttributes { decrypt: Some(true), ..good() };
        assert_eq!(code(&decrypts, &stubborn), "");
        let unwraps = KeyAttributes { unwrap: Some(true), ..decrypts };
        assert_eq!(code(&unwraps, &stubborn), "CHY-KEY-PURPOSE");
    }
}
