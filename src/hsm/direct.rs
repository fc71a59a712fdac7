//! One session without a pool: for ceremonies and for the doctor, who run once, watched by a person.
//!
//! Nothing is recovered here; an error ends the work. What is signed is verified all the same.

use std::sync::{Arc, Mutex, PoisonError};

use super::epoch::{self, Epoch, Held};
use super::inspect::{TRIAL, Unwatched, Wanted, inspect};
use super::pool::{Pin, Quirks, Settings};
use super::token::{
    Generate, Handle, KeyAttributes, Module, ModuleInfo, Remedy, Session, Slot, TokenError,
    TokenInfo, TokenName,
};
use super::{SignError, Signer, software};
use crate::pki::key::{KeyKind, PublicKey, SignatureAlgorithm};

/// An open, logged-in session with one token. Ends with the process.
pub struct Direct {
    /// The module as it says it is.
    pub module: ModuleInfo,
    /// The token as it was before the login.
    pub token: TokenInfo,
    settings: Settings,
    loaded: Module,
    slot: Slot,
    pin: Pin,
    session: Mutex<Session>,
}

/// What is left of a key: nothing, as far as the token can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Objects that were destroyed.
    pub objects: usize,
    /// What the token said to a signature with the handle that the key had.
    pub signature: String,
    /// Whether it was looked for again after logging out and in.
    pub logged_in_again: bool,
}

/// A key of that session.
#[derive(Clone)]
pub struct DirectKey {
    direct: Arc<Direct>,
    handle: Handle,
    public: PublicKey,
    /// As read back from the token.
    pub attributes: KeyAttributes,
}

impl Direct {
    /// Loads the module, finds the token, logs in once. The session may generate keys if `writing`.
    pub fn open(
        settings: &Settings,
        name: &TokenName,
        pin: &Pin,
        writing: bool,
    ) -> Result<Arc<Self>, TokenError> {
        let module = Module::load(&settings.module)?;
        module.initialize()?;
        let (slot, token) = module.find(name)?;
        let info = module.info()?;
        if settings.refuse_software {
            software::refuse(&info, &token)?;
        }
        let session = if writing { module.open_writing(slot)? } else { module.open(slot)? };
        if !session.is_logged_in()? {
            token.may_log_in(false)?;
            session.login((!token.pin_pad).then_some(&pin.0))?;
        }
        Ok(Arc::new(Self {
            module: info,
            loaded: module,
            slot,
            token,
            settings: settings.clone(),
            pin: pin.clone(),
            session: Mutex::new(session),
        }))
    }

    /// Whether a private key carries this label.
    pub fn holds(&self, label: &str) -> Result<bool, TokenError> {
        Ok(!self.session().keys_labelled(label)?.is_empty())
    }

    /// Generates a key by this model's quirks, and judges what the token then holds as strictly as at every start;
    /// a key just made is no clone.
    pub fn generate(
        self: &Arc<Self>,
        kind: KeyKind,
        label: &str,
        id: &[u8],
    ) -> Result<DirectKey, TokenError> {
        let quirks = &self.settings.quirks;
        let what = Generate {
            kind,
            label,
            id,
            omit: &quirks.omit,
            ed25519_as_name: quirks.ed25519_as_name,
        };
        let (_, public) = self.session().generate(&what)?;
        self.judged(label, id, public, &Quirks { cloned: false, ..quirks.clone() }).map_err(|why| {
            let message = format!(
                "the token made a key that reads back otherwise than asked for: {}",
                why.message
            );
            TokenError::new(why.remedy, "CHY-CEREMONY-ATTRIBUTES", message)
        })
    }

    /// The key with this CKA_ID, judged by `inspect` under the public key it must have. `name` is for the message.
    pub fn key(
        self: &Arc<Self>,
        name: &str,
        id: &[u8],
        public: PublicKey,
    ) -> Result<DirectKey, TokenError> {
        self.judged(name, id, public, &self.settings.quirks)
    }

    /// The epochs of a CA that the token holds.
    pub fn epochs(&self, ca: &[u8; 32]) -> Result<Vec<Epoch>, TokenError> {
        epoch::read(&self.session(), ca, &Unwatched)
    }

    /// Makes an epoch the token's; it must have been opened for writing.
    pub fn take_epoch(&self, ca: &[u8; 32], taken: Epoch) -> Result<Held, TokenError> {
        epoch::write(&self.session(), ca, taken, &Unwatched)
    }

    /// Removes both halves of a key.
    pub fn destroy(&self, id: &[u8]) -> Result<(), TokenError> {
        self.session().destroy(id).map(drop)
    }

    /// Removes both halves of a key and looks for what may be left: by CKA_ID, by label, by a signature with the
    /// handle it had, and by CKA_ID again behind another login. The login is the whole process's: handles that others
    /// hold of private keys end.
    pub fn remove(
        &self,
        label: &str,
        id: &[u8],
        public: &PublicKey,
    ) -> Result<Removal, TokenError> {
        let session = self.session();
        let remains = |what: String| {
            Err(TokenError::new(
                Remedy::Operator,
                "CHY-KEY-REMAINS",
                format!("key {label:?} on token {:?}: {what}", self.token.label),
            ))
        };
        let handle = session.find_key(id).ok();
        let objects = session.destroy(id)?;
        let found = session.count(id)?;
        if found > 0 {
            return remains(format!(
                "{found} objects of its CKA_ID are still there after C_DestroyObject"
            ));
        }
        let labelled = session.keys_labelled(label)?;
        if !labelled.is_empty() {
            return remains(
                "another private key of the same label is there, which no ceremony of this box made and which may be a copy; find out what it is, remove it by hand, and run this again".to_owned(),
            );
        }
        let algorithm = public.preferred_algorithm();
        let signature = match handle.map(|handle| session.sign(handle, algorithm, TRIAL)) {
            None => "not asked: there was no such key".to_owned(),
            Some(Ok(signature)) if public.verify(algorithm, TRIAL, &signature) => {
                return remains("it is found no more, but still signs".to_owned());
            }
            Some(Ok(_)) => "octets that are no signature of it".to_owned(),
            Some(Err(why)) => format!("refused: {why}"),
        };
        // At a token with its own keypad a second login would call its holders together once more.
        let logged_in_again = !self.token.pin_pad;
        if logged_in_again {
            session.logout()?;
            session.login(Some(&self.pin.0))?;
            let found = session.count(id)?;
            if found > 0 {
                return remains(format!(
                    "{found} objects of its CKA_ID are back after another login"
                ));
            }
        }
        Ok(Removal { objects, signature, logged_in_again })
    }

    /// The PKCS#11 URI's token part is this token.
    pub fn is_named_by(&self, uri: &crate::pki::uri::Pkcs11Uri) -> bool {
        let same = |want: &Option<String>, have: &str| want.as_deref().is_none_or(|w| w == have);
        uri.token.is_some()
            && same(&uri.token, &self.token.label)
            && same(&uri.serial, &self.token.serial)
    }

    /// The mechanisms that the token lacks to generate such keys and to sign with them so.
    pub fn lacks(
        &self,
        kind: KeyKind,
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<&'static str>, TokenError> {
        self.loaded.lacks(self.slot, kind, algorithm)
    }

    fn judged(
        self: &Arc<Self>,
        name: &str,
        id: &[u8],
        public: PublicKey,
        quirks: &Quirks,
    ) -> Result<DirectKey, TokenError> {
        let wanted = Wanted { name, id, public: &public, token: &self.token, quirks };
        let found = inspect(&self.session(), &wanted, &Unwatched)?;
        Ok(DirectKey {
            direct: Arc::clone(self),
            handle: found.handle,
            public,
            attributes: found.attributes,
        })
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectKey {
    /// The same key, signing with `algorithm`; `None` if such a key cannot.
    pub fn signing_with(mut self, algorithm: SignatureAlgorithm) -> Option<Self> {
        self.public = self.public.signing_with(algorithm)?;
        Some(self)
    }
}

impl Signer for DirectKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let algorithm = self.public.preferred_algorithm();
        let signature = self
            .direct
            .session()
            .sign(self.handle, algorithm, message)
            .map_err(|error| SignError::Refuse(error.to_string()))?;
        if self.public.verify(algorithm, message, &signature) {
            Ok(signature)
        } else {
            Err(SignError::Refuse(
                "CHY-KEY-MISMATCH: the token's signature does not verify under the key's public half"
                    .to_owned(),
            ))
        }
    }
}
