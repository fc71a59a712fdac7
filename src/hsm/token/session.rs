//! One session: login, keys by CKA_ID, signatures, key generation, attributes.

use std::fmt;

use aws_lc_rs::digest;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::dsa::{HedgeType, SignAdditionalContext};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{
    Attribute, AttributeType, KeyType, MlDsaParameterSetType, ObjectClass, ObjectHandle,
};
use cryptoki::session::{Session as CkSession, SessionState, UserType};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::form::{self, NotUnderstood};
use super::{Remedy, TokenError};
use crate::pki::key::{KeyKind, PublicKey, SignatureAlgorithm};

/// A session, owned by one thread. Dropping it does not call C_CloseSession: after a C_Finalize its
/// number may be another session's. Call `close` while it is known to be ours.
pub struct Session {
    inner: CkSession,
}

/// A private key object, valid in one login epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(ObjectHandle);

/// What shall be generated.
#[derive(Clone, Debug)]
pub struct Generate<'a> {
    pub kind: KeyKind,
    pub label: &'a str,
    /// CKA_ID, chosen beforehand.
    pub id: &'a [u8],
    /// Attributes this model refuses in a template: `copyable`, `modifiable`, `sign-recover`, `unwrap`,
    /// `derive`, `decrypt`.
    pub omit: &'a [String],
    /// The token wants Ed25519 named by a PrintableString instead of an OID.
    pub ed25519_as_name: bool,
}

/// The attributes of a private key as read back; `None` where the token does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAttributes {
    pub token: Option<bool>,
    pub private: Option<bool>,
    pub sensitive: Option<bool>,
    pub always_sensitive: Option<bool>,
    pub extractable: Option<bool>,
    pub never_extractable: Option<bool>,
    pub local: Option<bool>,
    pub sign: Option<bool>,
    pub decrypt: Option<bool>,
    pub unwrap: Option<bool>,
    pub derive: Option<bool>,
    pub sign_recover: Option<bool>,
    pub modifiable: Option<bool>,
    pub copyable: Option<bool>,
    pub always_authenticate: Option<bool>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.inner.handle()).finish()
    }
}

impl Session {
    pub(super) fn new(inner: CkSession) -> Self {
        Self { inner }
    }

    /// C_CloseSession; its failure changes nothing for us.
    pub fn close(self) {
        let _ = self.inner.close();
    }

    /// C_Login as user, for the whole process. That someone is logged in already counts as success.
    /// With `None` the PIN is typed on the token.
    pub fn login(&self, pin: Option<&SecretString>) -> Result<(), TokenError> {
        match self.inner.login(UserType::User, pin) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) => Err(TokenError::from_cryptoki("C_Login", &error)),
        }
    }

    /// C_Logout, for the whole process.
    pub fn logout(&self) -> Result<(), TokenError> {
        self.inner.logout().map_err(|e| TokenError::from_cryptoki("C_Logout", &e))
    }

    /// Whether the user is logged in, asked of the token.
    pub fn is_logged_in(&self) -> Result<bool, TokenError> {
        let info = self
            .inner
            .get_session_info()
            .map_err(|e| TokenError::from_cryptoki("C_GetSessionInfo", &e))?;
        Ok(matches!(info.session_state(), SessionState::RoUser | SessionState::RwUser))
    }

    /// The one private key with this CKA_ID.
    pub fn find_key(&self, id: &[u8]) -> Result<Handle, TokenError> {
        let hits =
            self.find(&[Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id.to_vec())])?;
        match hits.as_slice() {
            [one] => Ok(Handle(*one)),
            [] => Err(TokenError::new(
                Remedy::Reinitialize,
                "CHY-KEY-MISSING",
                format!(
                    "the token holds no private key with CKA_ID {}; is it the right token?",
                    Hex(id)
                ),
            )),
            more => Err(TokenError::new(
                Remedy::Operator,
                "CHY-KEY-AMBIGUOUS",
                format!(
                    "the token holds {} private keys with CKA_ID {}; one id must name one key: remove the other",
                    more.len(),
                    Hex(id)
                ),
            )),
        }
    }

    /// What has this CKA_ID on a token that shows no private key of it; empty if nothing has.
    pub fn without_private_key(&self, id: &[u8]) -> Result<Vec<&'static str>, TokenError> {
        let mut others = Vec::new();
        for (class, name) in [
            (ObjectClass::PUBLIC_KEY, "a public key"),
            (ObjectClass::CERTIFICATE, "a certificate"),
            (ObjectClass::SECRET_KEY, "a secret key"),
        ] {
            if !self.find(&[Attribute::Class(class), Attribute::Id(id.to_vec())])?.is_empty() {
                others.push(name);
            }
        }
        Ok(others)
    }

    /// The CKA_IDs of private keys with this label.
    pub fn keys_labelled(&self, label: &str) -> Result<Vec<Vec<u8>>, TokenError> {
        self.find(&[
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Label(label.as_bytes().to_vec()),
        ])?
        .into_iter()
        .map(|handle| {
            let id = self.attributes(handle, &[AttributeType::Id])?.into_iter().next();
            Ok(match id {
                Some(Attribute::Id(id)) => id,
                _ => Vec::new(),
            })
        })
        .collect()
    }

    /// The public key stored beside the private key with this CKA_ID; `None` if the token keeps none.
    pub fn public_key(&self, id: &[u8]) -> Result<Option<PublicKey>, TokenError> {
        let hits =
            self.find(&[Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(id.to_vec())])?;
        let handle = match hits.as_slice() {
            [one] => *one,
            [] => return Ok(None),
            more => {
                return Err(TokenError::new(
                    Remedy::Operator,
                    "CHY-KEY-AMBIGUOUS",
                    format!("the token holds {} public keys with CKA_ID {}", more.len(), Hex(id)),
                ));
            }
        };
        let spki = self.spki(handle).map_err(|error| match error {
            Unreadable::Token(error) => error,
            Unreadable::Form(NotUnderstood(why)) => TokenError::new(
                Remedy::Operator,
                "CHY-KEY-UNUSABLE",
                format!("the public key with CKA_ID {} cannot be read: {why}", Hex(id)),
            ),
        })?;
        PublicKey::from_spki(&spki).map(Some).map_err(|why| {
            TokenError::new(
                Remedy::Operator,
                "CHY-KEY-UNUSABLE",
                format!("the public key with CKA_ID {} is none: {}", Hex(id), why.0),
            )
        })
    }

    /// The attributes of a private key that matter here.
    pub fn key_attributes(&self, key: Handle) -> Result<KeyAttributes, TokenError> {
        let mut read = KeyAttributes::default();
        for attribute in self.attributes(key.0, ATTRIBUTES)? {
            match attribute {
                Attribute::Token(v) => read.token = Some(v),
                Attribute::Private(v) => read.private = Some(v),
                Attribute::Sensitive(v) => read.sensitive = Some(v),
                Attribute::AlwaysSensitive(v) => read.always_sensitive = Some(v),
                Attribute::Extractable(v) => read.extractable = Some(v),
                Attribute::NeverExtractable(v) => read.never_extractable = Some(v),
                Attribute::Local(v) => read.local = Some(v),
                Attribute::Sign(v) => read.sign = Some(v),
                Attribute::Decrypt(v) => read.decrypt = Some(v),
                Attribute::Unwrap(v) => read.unwrap = Some(v),
                Attribute::Derive(v) => read.derive = Some(v),
                Attribute::SignRecover(v) => read.sign_recover = Some(v),
                Attribute::Modifiable(v) => read.modifiable = Some(v),
                Attribute::Copyable(v) => read.copyable = Some(v),
                Attribute::AlwaysAuthenticate(v) => read.always_authenticate = Some(v),
                _ => {}
            }
        }
        Ok(read)
    }

    /// Signs `message` (not its digest) and gives the signature in X.509 form, **not verified**: the
    /// caller verifies before it lets it out.
    pub fn sign(
        &self,
        key: Handle,
        algorithm: SignatureAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, TokenError> {
        // Digests are made here: some tokens have only the bare mechanisms, and a CRL of megabytes
        // need not travel to a token on the network.
        let of = |hash: &'static digest::Algorithm| digest::digest(hash, message);
        let call = |mechanism: &Mechanism<'_>, data: &[u8]| {
            self.inner
                .sign(mechanism, key.0, data)
                .map_err(|e| TokenError::from_cryptoki("C_Sign", &e))
        };
        let ecdsa = |hash| {
            let raw = call(&Mechanism::Ecdsa, of(hash).as_ref())?;
            form::ecdsa_der(&raw).map_err(|NotUnderstood(why)| {
                TokenError::new(Remedy::Reinitialize, "CHY-TOKEN-ERROR", format!("C_Sign: {why}"))
            })
        };
        let rsa = |prefix: &[u8], hash| {
            let digest = of(hash);
            call(&Mechanism::RsaPkcs, &[prefix, digest.as_ref()].concat())
        };
        let pss = |hash: &'static digest::Algorithm, hash_alg, mgf| {
            let digest = of(hash);
            // RFC 4055 section 3.1: the salt is as long as the digest.
            let s_len = (digest.as_ref().len() as u64).into();
            let params = PkcsPssParams { hash_alg, mgf, s_len };
            call(&Mechanism::RsaPkcsPss(params), digest.as_ref())
        };
        match algorithm {
            SignatureAlgorithm::EcdsaSha256 => ecdsa(&digest::SHA256),
            SignatureAlgorithm::EcdsaSha384 => ecdsa(&digest::SHA384),
            SignatureAlgorithm::EcdsaSha512 => ecdsa(&digest::SHA512),
            SignatureAlgorithm::Ed25519 => {
                call(&Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)), message)
            }
            SignatureAlgorithm::RsaSha256 => rsa(DIGEST_INFO_SHA256, &digest::SHA256),
            SignatureAlgorithm::RsaSha384 => rsa(DIGEST_INFO_SHA384, &digest::SHA384),
            SignatureAlgorithm::RsaSha512 => rsa(DIGEST_INFO_SHA512, &digest::SHA512),
            SignatureAlgorithm::RsaPssSha256 => {
                pss(&digest::SHA256, MechanismType::SHA256, PkcsMgfType::MGF1_SHA256)
            }
            SignatureAlgorithm::RsaPssSha384 => {
                pss(&digest::SHA384, MechanismType::SHA384, PkcsMgfType::MGF1_SHA384)
            }
            // No parameter: an empty context, hedged if the token can (PKCS#11 3.2 section 6.67.6).
            SignatureAlgorithm::MlDsa44
            | SignatureAlgorithm::MlDsa65
            | SignatureAlgorithm::MlDsa87 => {
                let plain = SignAdditionalContext::new(HedgeType::Preferred, None);
                call(&Mechanism::MlDsa(plain), message)
            }
        }
    }

    /// Generates a key pair on the token: sensitive, not extractable, for signing only. Both halves carry
    /// label and id. Returns the public key as the token then gives it.
    pub fn generate(&self, what: &Generate<'_>) -> Result<(Handle, PublicKey), TokenError> {
        let omitted = |name: &str| what.omit.iter().any(|o| o == name);
        let mut public = vec![
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::Label(what.label.as_bytes().to_vec()),
            Attribute::Id(what.id.to_vec()),
        ];
        let mut private = vec![
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Label(what.label.as_bytes().to_vec()),
            Attribute::Id(what.id.to_vec()),
        ];
        for (name, attribute) in [
            ("decrypt", Attribute::Decrypt(false)),
            ("unwrap", Attribute::Unwrap(false)),
            ("derive", Attribute::Derive(false)),
            ("sign-recover", Attribute::SignRecover(false)),
            ("modifiable", Attribute::Modifiable(false)),
            ("copyable", Attribute::Copyable(false)),
        ] {
            if !omitted(name) {
                private.push(attribute);
            }
        }
        let mechanism = match what.kind {
            KeyKind::Rsa(bits) => {
                public.push(Attribute::ModulusBits(u64::from(bits).into()));
                public.push(Attribute::PublicExponent(vec![1, 0, 1]));
                Mechanism::RsaPkcsKeyPairGen
            }
            KeyKind::Ed25519 => Mechanism::EccEdwardsKeyPairGen,
            KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => Mechanism::EccKeyPairGen,
            KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => Mechanism::MlDsaKeyPairGen,
        };
        if let Some((_, set)) = ML_DSA.iter().find(|(kind, _)| *kind == what.kind) {
            public.push(Attribute::ParameterSet((*set).into()));
        }
        if let Some(params) = form::ec_params(what.kind, what.ed25519_as_name) {
            public.push(Attribute::EcParams(params));
        }
        let (_, key) = self
            .inner
            .generate_key_pair(&mechanism, &public, &private)
            .map_err(|e| TokenError::from_cryptoki("C_GenerateKeyPair", &e))?;
        let public = self.public_key(what.id)?.ok_or_else(|| {
            TokenError::new(
                Remedy::Operator,
                "CHY-KEY-UNUSABLE",
                "the token generated a key pair but keeps no public key",
            )
        })?;
        Ok((Handle(key), public))
    }

    /// Removes every object with this CKA_ID: both halves of a key. Says how many there were.
    pub fn destroy(&self, id: &[u8]) -> Result<usize, TokenError> {
        let objects = self.find(&[Attribute::Id(id.to_vec())])?;
        for handle in &objects {
            self.inner
                .destroy_object(*handle)
                .map_err(|e| TokenError::from_cryptoki("C_DestroyObject", &e))?;
        }
        Ok(objects.len())
    }

    /// The values of the private data objects with this label that are ours.
    pub fn data(&self, label: &str) -> Result<Vec<Vec<u8>>, TokenError> {
        let handles = self.find(&data_template(label))?;
        handles.into_iter().map(|handle| self.value(handle)).collect()
    }

    /// Makes a data object that stays, and that only who logged in sees. The session must be a writing one.
    pub fn create_data(&self, label: &str, value: &[u8]) -> Result<(), TokenError> {
        let mut template = data_template(label);
        template.push(Attribute::Value(value.to_vec()));
        self.inner
            .create_object(&template)
            .map(drop)
            .map_err(|e| TokenError::from_cryptoki("C_CreateObject", &e))
    }

    /// Removes those of these data objects whose value is `such`.
    pub fn destroy_data(
        &self,
        label: &str,
        such: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), TokenError> {
        for handle in self.find(&data_template(label))? {
            if such(&self.value(handle)?) {
                self.inner
                    .destroy_object(handle)
                    .map_err(|e| TokenError::from_cryptoki("C_DestroyObject", &e))?;
            }
        }
        Ok(())
    }

    fn value(&self, object: ObjectHandle) -> Result<Vec<u8>, TokenError> {
        let found = self.attributes(object, &[AttributeType::Value])?.into_iter().next();
        Ok(match found {
            Some(Attribute::Value(value)) => value,
            _ => Vec::new(),
        })
    }

    /// Objects of any class with this CKA_ID.
    pub fn count(&self, id: &[u8]) -> Result<usize, TokenError> {
        Ok(self.find(&[Attribute::Id(id.to_vec())])?.len())
    }

    fn find(&self, template: &[Attribute]) -> Result<Vec<ObjectHandle>, TokenError> {
        self.inner
            .find_objects(template)
            .map_err(|e| TokenError::from_cryptoki("C_FindObjects", &e))
    }

    fn attributes(
        &self,
        object: ObjectHandle,
        types: &[AttributeType],
    ) -> Result<Vec<Attribute>, TokenError> {
        self.inner
            .get_attributes(object, types)
            .map_err(|e| TokenError::from_cryptoki("C_GetAttributeValue", &e))
    }

    fn spki(&self, public: ObjectHandle) -> Result<Vec<u8>, Unreadable> {
        let (mut params, mut point, mut modulus, mut exponent) = (None, None, None, None);
        let (mut set, mut value) = (None, None);
        let kind = self.attributes(public, &[AttributeType::KeyType])?;
        // Asked for what its kind has not, a token may fail the whole call.
        let wanted = match kind.as_slice() {
            [Attribute::KeyType(KeyType::RSA)] => {
                [AttributeType::Modulus, AttributeType::PublicExponent]
            }
            [Attribute::KeyType(KeyType::ML_DSA)] => {
                [AttributeType::ParameterSet, AttributeType::Value]
            }
            _ => [AttributeType::EcParams, AttributeType::EcPoint],
        };
        for attribute in self.attributes(public, &wanted)? {
            match attribute {
                Attribute::ParameterSet(v) => set = Some(v),
                Attribute::Value(v) => value = Some(v),
                Attribute::EcParams(v) => params = Some(v),
                Attribute::EcPoint(v) => point = Some(v),
                Attribute::Modulus(v) => modulus = Some(v),
                Attribute::PublicExponent(v) => exponent = Some(v),
                _ => {}
            }
        }
        if let (Some(set), Some(value)) = (set, value) {
            let known = ML_DSA.iter().find(|(_, known)| *known == set.into());
            let (kind, _) =
                known.ok_or(NotUnderstood("CKA_PARAMETER_SET names no ML-DSA known here"))?;
            return Ok(form::ml_dsa_spki(*kind, &value)?);
        }
        match (params, point, modulus, exponent) {
            (Some(params), Some(point), None, None) => Ok(form::ec_spki(&params, &point)?),
            (None, None, Some(modulus), Some(exponent)) => Ok(form::rsa_spki(&modulus, &exponent)?),
            _ => {
                Err(NotUnderstood("it is neither an EC, an Edwards, an RSA nor an ML-DSA key")
                    .into())
            }
        }
    }
}

/// What finds a data object of ours, and makes it.
fn data_template(label: &str) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Application(b"chancery".to_vec()),
    ]
}

/// Octets in lower-case hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

enum Unreadable {
    Token(TokenError),
    Form(NotUnderstood),
}

impl From<TokenError> for Unreadable {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<NotUnderstood> for Unreadable {
    fn from(error: NotUnderstood) -> Self {
        Self::Form(error)
    }
}

/// The mechanisms used here, by the names of the token settings.
pub(super) const MECHANISMS: &[(&str, MechanismType)] = &[
    ("ecdsa", MechanismType::ECDSA),
    ("eddsa", MechanismType::EDDSA),
    ("rsa-pkcs", MechanismType::RSA_PKCS),
    ("rsa-pkcs-pss", MechanismType::RSA_PKCS_PSS),
    ("ec-key-pair-gen", MechanismType::ECC_KEY_PAIR_GEN),
    ("ec-edwards-key-pair-gen", MechanismType::ECC_EDWARDS_KEY_PAIR_GEN),
    ("rsa-pkcs-key-pair-gen", MechanismType::RSA_PKCS_KEY_PAIR_GEN),
    ("ml-dsa", MechanismType::ML_DSA),
    ("ml-dsa-key-pair-gen", MechanismType::ML_DSA_KEY_PAIR_GEN),
];

/// The mechanisms, by those names, to generate a key of this kind and to sign with it so.
pub(super) fn needed(kind: KeyKind, algorithm: SignatureAlgorithm) -> [&'static str; 2] {
    use SignatureAlgorithm as S;
    let generate = match kind {
        KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => "ec-key-pair-gen",
        KeyKind::Rsa(_) => "rsa-pkcs-key-pair-gen",
        KeyKind::Ed25519 => "ec-edwards-key-pair-gen",
        KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => "ml-dsa-key-pair-gen",
    };
    let sign = match algorithm {
        S::EcdsaSha256 | S::EcdsaSha384 | S::EcdsaSha512 => "ecdsa",
        S::RsaSha256 | S::RsaSha384 | S::RsaSha512 => "rsa-pkcs",
        S::RsaPssSha256 | S::RsaPssSha384 => "rsa-pkcs-pss",
        S::Ed25519 => "eddsa",
        S::MlDsa44 | S::MlDsa65 | S::MlDsa87 => "ml-dsa",
    };
    [generate, sign]
}

/// CKA_PARAMETER_SET of each kind.
const ML_DSA: [(KeyKind, MlDsaParameterSetType); 3] = [
    (KeyKind::MlDsa44, MlDsaParameterSetType::ML_DSA_44),
    (KeyKind::MlDsa65, MlDsaParameterSetType::ML_DSA_65),
    (KeyKind::MlDsa87, MlDsaParameterSetType::ML_DSA_87),
];

const ATTRIBUTES: &[AttributeType] = &[
    AttributeType::Token,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::AlwaysSensitive,
    AttributeType::Extractable,
    AttributeType::NeverExtractable,
    AttributeType::Local,
    AttributeType::Sign,
    AttributeType::Decrypt,
    AttributeType::Unwrap,
    AttributeType::Derive,
    AttributeType::SignRecover,
    AttributeType::Modifiable,
    AttributeType::Copyable,
    AttributeType::AlwaysAuthenticate,
];

/// DigestInfo up to the digest (RFC 8017 section 9.2, note 1).
const DIGEST_INFO_SHA256: &[u8] = &[
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
const DIGEST_INFO_SHA384: &[u8] = &[
    0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, 0x04, 0x30,
];
const DIGEST_INFO_SHA512: &[u8] = &[
    0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05,
    0x00, 0x04, 0x40,
];
