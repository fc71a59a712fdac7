//! Another key for the box's own TLS certificate, on the token where the one before it is. From its next start on the
//! issuer makes a certificate for the new key and serves the former one until it has it; `finish` is for after that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CeremonyError;
use super::execute::Outcome;
use super::keys::{Keys, make_keys};
use super::later::{self, begun, commit, refused, unchanged};
use super::plan::{KeyFile, TokenEntry, Urls, check_label};
use super::state::{Place, Tokens};
use super::transcript::{GoneLine, RetirementLine, Title, Transcript};
use crate::pki::authority::{Authority, FormerTlsKey};

/// `hsm/ceremony/tls-key.toml`, as written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Document {
    pub name: String,
    pub description: String,
    /// The key file of the new key, relative to this one. Its name is `tls`, its label is new.
    pub key: std::path::PathBuf,
    /// By role: the one of the key file.
    pub tokens: BTreeMap<String, TokenEntry>,
}

/// A rotation that can be held.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    pub document: Document,
    pub key: KeyFile,
}

impl Rotation {
    /// Checks everything that can be checked without a token.
    pub fn new(document: Document, key: KeyFile) -> Result<Self, CeremonyError> {
        let bad = |why: &str| Err(refused(&format!("CHY-CEREMONY-FILE: {why}")));
        if key.name != "tls" {
            return bad("the key file is not one of a TLS key: its name is \"tls\"");
        }
        key.check()?;
        check_label(&key)?;
        if !document.tokens.contains_key(&key.token) || document.tokens.len() != 1 {
            return bad("[tokens] does not have exactly the token of the key file");
        }
        Ok(Self { document, key })
    }

    /// What it would do, for people.
    pub fn effect(&self) -> String {
        format!(
            "ceremony {:?} would make key {:?}; from the issuer's next start on this box has a TLS certificate for it, and serves the former until then",
            self.document.name, self.key.label
        )
    }

    fn title<'a>(&'a self, authority: &'a Authority) -> Title<'a> {
        let Document { name, description, .. } = &self.document;
        Title {
            ceremony: name,
            description,
            understood: serde_json::to_vec(&(&self.document, &self.key)).unwrap_or_default(),
            origin: &authority.origin,
            urls: Urls::of(authority),
        }
    }
}

/// Makes the new key. What makes it count is `authority.json`.
pub fn rotate(
    rotation: &Rotation,
    tokens: &Tokens,
    place: &Place,
) -> Result<Outcome, CeremonyError> {
    let mut authority = begun(place, NO_KEY)?;
    if authority.former_tls_key().is_some() {
        return Err(refused(
            "CHY-TLS-KEY-BUSY: the TLS key was rotated before, and that is not finished: restart the issuer, then use finish-tls-key",
        ));
    }
    let files = std::slice::from_ref(&rotation.key);
    place.refuse_keys(files, tokens)?;
    let uri = authority.tls_key.parsed_uri().map_err(|why| broken(&why))?;
    if !tokens.values().any(|direct| direct.is_named_by(&uri)) {
        return Err(refused(
            "CHY-CEREMONY-FILE: the token of the file is not the one with the present TLS key; the issuer uses one token",
        ));
    }
    let now = place.clock.now();
    let keys = make_keys(&rotation.document.name, files, tokens, place)?;
    let title = rotation.title(&authority);
    let mut transcript = Transcript::of(title, tokens, &keys, "rotate-tls-key", now);
    let sha256 = transcript.store(place)?;
    authority.rotate_tls_key(keys.record("tls")?);
    commit(place, &mut authority)?;
    place.end()?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// Notes that the former key is done with, if `served`, the SubjectPublicKeyInfo of the certificate that this box
/// serves, is the new one's; and destroys it if `remove`. Asked again, it goes on where it was cut short.
pub fn finish(
    rotation: &Rotation,
    tokens: &Tokens,
    place: &Place,
    served: Option<&[u8]>,
    remove: bool,
) -> Result<Outcome, CeremonyError> {
    let mut authority = begun(place, NO_KEY)?;
    let Some(former) = authority.former_tls.clone() else {
        return Err(refused("CHY-TLS-KEY-ALONE: the TLS key was never rotated"));
    };
    let present = authority.tls_key.public_key().map_err(broken)?;
    if !former.done && served != Some(present.spki()) {
        return Err(refused(
            "CHY-TLS-KEY-BUSY: this box has no certificate for the new TLS key yet, and serves that of the former; restart the issuer, and see `chancery status`",
        ));
    }
    if !former.done {
        authority.former_tls = Some(FormerTlsKey { done: true, ..former.clone() });
        commit(place, &mut authority).map_err(unchanged)?;
    }
    let uri = former.key.parsed_uri().map_err(|why| broken(&why))?;
    let label = uri.object.clone().unwrap_or_default();
    let mut lines = RetirementLine { destroyed: Vec::new(), last: Vec::new(), left: Vec::new() };
    if remove {
        let id = uri.id.as_deref().ok_or_else(|| broken("its URI has no id"))?;
        let public = former.key.public_key().map_err(broken)?;
        let direct = tokens.values().find(|direct| direct.is_named_by(&uri)).ok_or_else(|| {
            refused(
                "CHY-CEREMONY-FILE: the token of the file is not the one with the former TLS key",
            )
        })?;
        let removal =
            direct.remove(&label, id, &public).map_err(|why| refused(&why.to_string()))?;
        lines.destroyed.push(GoneLine {
            label,
            uri: former.key.uri.clone(),
            objects: removal.objects,
            signature: removal.signature,
            logged_in_again: removal.logged_in_again,
        });
    } else {
        lines.left.push(former.key.uri.clone());
    }
    let nothing = Keys(BTreeMap::new());
    let title = rotation.title(&authority);
    let now = place.clock.now();
    let mut transcript = Transcript::of(title, tokens, &nothing, "finish-tls-key", now);
    transcript.retirement = Some(lines);
    let sha256 = transcript.store(place).map_err(unchanged)?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

fn broken(why: &str) -> CeremonyError {
    later::broken(&format!("the TLS key: {why}"))
}

const NO_KEY: &str = "whose TLS key could be rotated; hold its ceremony first";
