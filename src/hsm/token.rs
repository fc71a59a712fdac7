//! The one room that names cryptoki: module, slot by label and serial, login, keys by CKA_ID,
//! signatures, key generation, attributes. Vocabulary out of here is our own.
//!
//! Everything here blocks, and may block for ever in a bad module: callers stand under a watchdog.
//! C_Initialize is done with OS locking; the process must never fork afterwards.

pub mod ckr;
pub mod form;
pub mod session;
pub mod survey;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Info, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::slot::Slot as CkSlot;
use serde::{Deserialize, Serialize};

use crate::pki::key::{KeyKind, SignatureAlgorithm};
use crate::pki::uri::Pkcs11Uri;

pub use session::{Generate, Handle, KeyAttributes, Session};

/// A loaded PKCS#11 module. Clones share the library, which stays loaded for the life of the process.
#[derive(Clone)]
pub struct Module {
    pkcs11: Pkcs11,
    path: Arc<PathBuf>,
}

/// A slot whose token was found by label and serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(CkSlot);

/// Who a token says it is, and the state of its user PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    pub label: String,
    pub serial: String,
    pub manufacturer: String,
    pub model: String,
    pub hardware: String,
    pub firmware: String,
    /// At least one wrong PIN since the last right one (CKF_USER_PIN_COUNT_LOW).
    pub pin_count_low: bool,
    /// The next wrong PIN locks the token (CKF_USER_PIN_FINAL_TRY).
    pub pin_final_try: bool,
    /// The token takes no PIN any more (CKF_USER_PIN_LOCKED).
    pub pin_locked: bool,
    /// The user PIN was never set.
    pub pin_unset: bool,
    /// The PIN is typed on the token itself.
    pub pin_pad: bool,
}

/// Who a module says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    pub path: String,
    pub description: String,
    pub manufacturer: String,
    pub version: String,
    pub cryptoki: String,
}

/// Which token is meant: what an RFC 7512 URI says of library, slot and token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenName(Pkcs11Uri);

/// What may mend an error, weakest first. The pool's recovery climbs from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// Open another session.
    NewSession,
    /// Handles are stale: find the keys again.
    FindAgain,
    /// Log in again.
    LogIn,
    /// The token is short of something: ask less, later.
    Throttle,
    /// C_Finalize and C_Initialize.
    Reinitialize,
    /// The PIN was not accepted: never tried again by a machine.
    Pin,
    /// Configuration or token contents are wrong: an operator must act.
    Operator,
}

/// An error of a token call: what may mend it, a stable code, and words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenError {
    pub remedy: Remedy,
    pub code: &'static str,
    pub message: String,
}

impl TokenError {
    pub(crate) fn new(remedy: Remedy, code: &'static str, message: impl Into<String>) -> Self {
        Self { remedy, code, message: message.into() }
    }

    /// Puts cryptoki's error into our words; `call` is the C function or the step under way.
    fn from_cryptoki(call: &'static str, error: &Error) -> Self {
        match error {
            Error::Pkcs11(rv, _) => {
                let told = ckr::explain(rv);
                Self::new(
                    told.remedy,
                    told.code,
                    format!("{call}: {} ({}); {}", told.name, told.means, told.do_this),
                )
            }
            Error::LibraryLoading(why) => Self::new(
                Remedy::Operator,
                "CHY-MODULE-LOAD",
                format!("the PKCS#11 module cannot be loaded: {why}; check [token] module"),
            ),
            Error::MissingSymbol(symbol) => Self::new(
                Remedy::Operator,
                "CHY-MODULE-LOAD",
                format!(
                    "the file is a library but no PKCS#11 module: it has no {symbol}; check [token] module"
                ),
            ),
            Error::NullFunctionPointer | Error::NotSupported => Self::new(
                Remedy::Operator,
                "CHY-TOKEN-MECHANISM",
                format!("{call}: this module does not offer that function"),
            ),
            other => Self::new(
                Remedy::Reinitialize,
                "CHY-TOKEN-ERROR",
                format!("{call}: the module answered what makes no sense: {other}"),
            ),
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for TokenError {}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.path).finish()
    }
}

impl Module {
    /// Loads the library; calls nothing in it but C_GetInterface or C_GetFunctionList.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        if !path.is_file() {
            return Err(TokenError::new(
                Remedy::Operator,
                "CHY-MODULE-ABSENT",
                format!(
                    "there is no PKCS#11 module at {}; install it (Debian: apt install softhsm2) or correct [token] module",
                    path.display()
                ),
            ));
        }
        let pkcs11 = Pkcs11::new(path).map_err(|e| TokenError::from_cryptoki("load", &e))?;
        // Never unloaded: a module leaves destructors behind for the threads that called it, and the process dies when
        // such a thread ends after them (kryoptic's OpenSSL does that).
        std::mem::forget(pkcs11.clone());
        Ok(Self { pkcs11, path: Arc::new(path.to_owned()) })
    }

    /// C_Initialize; that it is already initialized counts as success.
    pub fn initialize(&self) -> Result<(), TokenError> {
        match self.pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
            Err(error) => Err(TokenError::from_cryptoki("C_Initialize", &error)),
        }
    }

    /// C_Finalize; that it was not initialized counts as success. Every session, handle and login of
    /// the process ends; session numbers may be given out anew afterwards.
    pub fn finalize(&self) -> Result<(), TokenError> {
        match self.pkcs11.clone().finalize() {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _)) => Ok(()),
            Err(error) => Err(TokenError::from_cryptoki("C_Finalize", &error)),
        }
    }

    /// C_GetInfo.
    pub fn info(&self) -> Result<ModuleInfo, TokenError> {
        let info = self.library()?;
        Ok(ModuleInfo {
            path: self.path.display().to_string(),
            description: info.library_description().trim_end().to_owned(),
            manufacturer: info.manufacturer_id().trim_end().to_owned(),
            version: info.library_version().to_string(),
            cryptoki: info.cryptoki_version().to_string(),
        })
    }

    fn library(&self) -> Result<Info, TokenError> {
        self.pkcs11.get_library_info().map_err(|e| TokenError::from_cryptoki("C_GetInfo", &e))
    }

    /// Every initialized token that can be read; an error where none can. A module may front several tokens (p11-kit's
    /// proxy does), and what ails one of them is no matter of the others.
    pub fn tokens(&self) -> Result<Vec<(Slot, TokenInfo)>, TokenError> {
        let slots = self
            .pkcs11
            .get_slots_with_token()
            .map_err(|e| TokenError::from_cryptoki("C_GetSlotList", &e))?;
        let mut tokens = Vec::new();
        let mut unreadable = None;
        for slot in slots {
            match self.pkcs11.get_token_info(slot) {
                Ok(info) if info.token_initialized() => {
                    tokens.push((Slot(slot), TokenInfo::of(&info)));
                }
                Ok(_) => {}
                Err(error) => {
                    let error = TokenError::from_cryptoki("C_GetTokenInfo", &error);
                    tracing::debug!(slot = slot.id(), %error, "a token cannot be read");
                    unreadable = unreadable.or(Some(error));
                }
            }
        }
        match unreadable {
            Some(error) if tokens.is_empty() => Err(error),
            _ => Ok(tokens),
        }
    }

    /// The one token of this name: absent is worth waiting for, ambiguous is not.
    pub fn find(&self, name: &TokenName) -> Result<(Slot, TokenInfo), TokenError> {
        let all = self.tokens()?;
        let mut hits = Vec::new();
        for found @ (slot, info) in &all {
            if name.matches(self, *slot, info)? {
                hits.push(found);
            }
        }
        match (hits.pop(), hits.len()) {
            (Some(hit), 0) => Ok(hit.clone()),
            (None, _) => {
                let seen: Vec<String> =
                    all.iter().map(|(_, info)| info.uri().to_string()).collect();
                let seen = if seen.is_empty() { "no token at all".into() } else { seen.join(", ") };
                Err(TokenError::new(
                    Remedy::Reinitialize,
                    "CHY-TOKEN-ABSENT",
                    format!(
                        "no token {name} in any slot of {}; seen: {seen}. Plug it in, or correct what names it",
                        self.path.display()
                    ),
                ))
            }
            (Some(_), more) => Err(TokenError::new(
                Remedy::Operator,
                "CHY-TOKEN-AMBIGUOUS",
                format!("{} tokens answer to {name}; name it by its serial too", more + 1),
            )),
        }
    }

    /// C_GetTokenInfo, read anew.
    pub fn token_info(&self, slot: Slot) -> Result<TokenInfo, TokenError> {
        let info = self
            .pkcs11
            .get_token_info(slot.0)
            .map_err(|e| TokenError::from_cryptoki("C_GetTokenInfo", &e))?;
        Ok(TokenInfo::of(&info))
    }

    /// The names of the signing and key generation mechanisms of ours that the token offers.
    pub fn mechanisms(&self, slot: Slot) -> Result<Vec<&'static str>, TokenError> {
        let list = self
            .pkcs11
            .get_mechanism_list(slot.0)
            .map_err(|e| TokenError::from_cryptoki("C_GetMechanismList", &e))?;
        Ok(session::MECHANISMS
            .iter()
            .filter(|(_, mechanism)| list.contains(mechanism))
            .map(|(name, _)| *name)
            .collect())
    }

    /// The mechanisms that the token lacks to generate keys of this kind and to sign with them so, by the names
    /// above.
    pub fn lacks(
        &self,
        slot: Slot,
        kind: KeyKind,
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<&'static str>, TokenError> {
        let listed = self.mechanisms(slot)?;
        let mut needed = session::needed(kind, algorithm).to_vec();
        needed.retain(|name| !listed.contains(name));
        Ok(needed)
    }

    /// Opens a session that only reads and signs.
    pub fn open(&self, slot: Slot) -> Result<Session, TokenError> {
        let session = self
            .pkcs11
            .open_ro_session_no_drop(slot.0)
            .map_err(|e| TokenError::from_cryptoki("C_OpenSession", &e))?;
        Ok(Session::new(session))
    }

    /// Opens a session that may generate keys.
    pub fn open_writing(&self, slot: Slot) -> Result<Session, TokenError> {
        let session = self
            .pkcs11
            .open_rw_session_no_drop(slot.0)
            .map_err(|e| TokenError::from_cryptoki("C_OpenSession", &e))?;
        Ok(Session::new(session))
    }
}

impl TokenName {
    /// The token that a URI names, be it a token's or a key's.
    pub fn of(uri: &Pkcs11Uri) -> Self {
        Self(Pkcs11Uri {
            object: None,
            object_type: None,
            id: None,
            module_name: None,
            module_path: None,
            pin_source: None,
            ..uri.clone()
        })
    }

    /// The token of this label, whatever else it is.
    pub fn labelled(label: &str) -> Self {
        Self(Pkcs11Uri { token: Some(label.to_owned()), ..Pkcs11Uri::default() })
    }

    fn matches(&self, module: &Module, slot: Slot, info: &TokenInfo) -> Result<bool, TokenError> {
        Ok(self.matches_token(info)
            && self.matches_library(module)?
            && self.matches_slot(module, slot)?)
    }

    fn matches_token(&self, info: &TokenInfo) -> bool {
        let uri = &self.0;
        is(&uri.token, &info.label)
            && is(&uri.serial, &info.serial)
            && is(&uri.manufacturer, &info.manufacturer)
            && is(&uri.model, &info.model)
    }

    fn matches_library(&self, module: &Module) -> Result<bool, TokenError> {
        let uri = &self.0;
        if (&uri.library_manufacturer, &uri.library_description, uri.library_version)
            == (&None, &None, None)
        {
            return Ok(true);
        }
        let info = module.library()?;
        let version = (info.library_version().major(), info.library_version().minor());
        Ok(is(&uri.library_manufacturer, info.manufacturer_id().trim_end())
            && is(&uri.library_description, info.library_description().trim_end())
            && uri.library_version.is_none_or(|wanted| wanted == version))
    }

    fn matches_slot(&self, module: &Module, slot: Slot) -> Result<bool, TokenError> {
        let uri = &self.0;
        if uri.slot_id.is_some_and(|wanted| wanted != slot.0.id()) {
            return Ok(false);
        }
        if (&uri.slot_manufacturer, &uri.slot_description) == (&None, &None) {
            return Ok(true);
        }
        let info = module
            .pkcs11
            .get_slot_info(slot.0)
            .map_err(|e| TokenError::from_cryptoki("C_GetSlotInfo", &e))?;
        Ok(is(&uri.slot_manufacturer, info.manufacturer_id().trim_end())
            && is(&uri.slot_description, info.slot_description().trim_end()))
    }
}

/// What a URI does not say matches everything.
fn is(wanted: &Option<String>, have: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == have)
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TokenInfo {
    fn of(info: &cryptoki::slot::TokenInfo) -> Self {
        Self {
            label: unpadded(info.label()),
            serial: unpadded(info.serial_number()),
            manufacturer: unpadded(info.manufacturer_id()),
            model: unpadded(info.model()),
            hardware: info.hardware_version().to_string(),
            firmware: info.firmware_version().to_string(),
            pin_count_low: info.user_pin_count_low(),
            pin_final_try: info.user_pin_final_try(),
            pin_locked: info.user_pin_locked(),
            pin_unset: !info.user_pin_initialized(),
            pin_pad: info.protected_authentication_path(),
        }
    }

    /// The name to know it by again: label and serial.
    pub fn uri(&self) -> Pkcs11Uri {
        Pkcs11Uri {
            token: Some(self.label.clone()),
            serial: Some(self.serial.clone()),
            ..Pkcs11Uri::default()
        }
    }

    /// Whether one may log in by machine: not when the PIN is locked or unset, and not when a wrong one
    /// would lock the token, unless `force`.
    pub fn may_log_in(&self, force: bool) -> Result<(), TokenError> {
        let refuse = |code, message: String| Err(TokenError::new(Remedy::Pin, code, message));
        if self.pin_locked {
            return refuse(
                "CHY-PIN-LOCKED",
                format!(
                    "the user PIN of token {:?} is locked; the security officer must set a new one",
                    self.label
                ),
            );
        }
        if self.pin_unset {
            return refuse(
                "CHY-PIN-UNSET",
                format!("token {:?} has no user PIN; initialize it first", self.label),
            );
        }
        if self.pin_final_try && !force {
            return refuse(
                "CHY-PIN-FINAL-TRY",
                format!(
                    "one more wrong PIN locks token {:?}, so none was tried; check the PIN by hand (pkcs11-tool --login), which resets the counter",
                    self.label
                ),
            );
        }
        Ok(())
    }
}

/// Fields have a fixed width and blanks behind; some tokens put NULs there.
fn unpadded(field: &str) -> String {
    field.trim_end_matches([' ', '\0']).to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::hsm) fn info() -> TokenInfo {
        TokenInfo {
            label: "lab".into(),
            serial: "01".into(),
            manufacturer: String::new(),
            model: String::new(),
            hardware: String::new(),
            firmware: String::new(),
            pin_count_low: false,
            pin_final_try: false,
            pin_locked: false,
            pin_unset: false,
            pin_pad: false,
        }
    }

    #[test]
    fn no_pin_is_tried_where_a_wrong_one_would_lock() {
        assert_eq!(info().may_log_in(false), Ok(()));
        let final_try = TokenInfo { pin_final_try: true, ..info() };
        assert_eq!(final_try.may_log_in(false).unwrap_err().code, "CHY-PIN-FINAL-TRY");
        assert_eq!(final_try.may_log_in(true), Ok(()));
        let locked = TokenInfo { pin_locked: true, ..info() };
        assert_eq!(locked.may_log_in(true).unwrap_err().code, "CHY-PIN-LOCKED");
        let unset = TokenInfo { pin_unset: true, ..info() };
        assert_eq!(unset.may_log_in(true).unwrap_err().code, "CHY-PIN-UNSET");
    }

    #[test]
    fn padding_is_no_part_of_a_name() {
        assert_eq!(unpadded("chancery                        "), "chancery");
        assert_eq!(unpadded("chancery\0\0 \0"), "chancery");
        assert_eq!(unpadded(" two words"), " two words");
    }

    #[test]
    fn names_match_on_what_they_state() {
        let info = TokenInfo { manufacturer: "Acme".into(), model: "M1".into(), ..info() };
        let matches =
            |uri: &str| TokenName::of(&Pkcs11Uri::parse(uri).unwrap()).matches_token(&info);
        for good in [
            "pkcs11:token=lab",
            "pkcs11:token=lab;serial=01",
            "pkcs11:manufacturer=%41cme;model=M1",
            // A key's URI names the token that the key is on.
            "pkcs11:token=lab;object=key;type=private;id=%01?module-name=other",
        ] {
            assert!(matches(good), "{good}");
        }
        for bad in [
            "pkcs11:token=la",
            "pkcs11:token=LAB",
            "pkcs11:token=",
            "pkcs11:token=lab;serial=02",
            "pkcs11:token=lab;model=M2",
            "pkcs11:manufacturer=Acme%20",
        ] {
            assert!(!matches(bad), "{bad}");
        }
        assert!(TokenName::labelled("lab").matches_token(&info));
        assert_eq!(TokenName::labelled("my lab").to_string(), "pkcs11:token=my%20lab");
    }

    #[test]
    fn a_missing_module_and_a_file_that_is_none_are_told_apart() {
        let missing = Module::load(Path::new("/nonexistent/module.so")).unwrap_err();
        assert_eq!(missing.code, "CHY-MODULE-ABSENT");
        let text = Module::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")));
        assert_eq!(text.unwrap_err().code, "CHY-MODULE-LOAD");
    }
}
