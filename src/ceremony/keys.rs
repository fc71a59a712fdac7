//! The keys a ceremony makes on its tokens, or finds there again.

use std::collections::BTreeMap;

use super::CeremonyError;
use super::plan::{KeyFile, Plan};
use super::state::{Place, Tokens, token};
use crate::hsm::direct::DirectKey;
use crate::hsm::{SignError, Signer};
use crate::id::unhex;
use crate::pki::authority::KeyRecord;
use crate::pki::uri::Pkcs11Uri;

/// The keys at hand, by name.
pub(super) struct Keys(pub(super) BTreeMap<String, AtHand>);

pub(super) struct AtHand {
    pub(super) key: DirectKey,
    pub(super) label: String,
    pub(super) uri: Pkcs11Uri,
}

impl Keys {
    pub(super) fn get(&self, name: &str) -> Result<&DirectKey, CeremonyError> {
        self.at_hand(name).map(|at_hand| &at_hand.key)
    }

    pub(super) fn at_hand(&self, name: &str) -> Result<&AtHand, CeremonyError> {
        self.0.get(name).ok_or_else(|| {
            CeremonyError::Unfinished(format!("CHY-INTERNAL: the plan has no key {name:?}"))
        })
    }

    pub(super) fn record(&self, name: &str) -> Result<KeyRecord, CeremonyError> {
        let AtHand { key, uri, .. } = self.at_hand(name)?;
        Ok(KeyRecord::new(uri, key.public_key()))
    }
}

/// Makes keys, under the ids that `ca/unfinished.json` names, and reads its attributes back.
pub(super) fn make_keys(
    name: &str,
    files: &[KeyFile],
    tokens: &Tokens,
    place: &Place,
) -> Result<Keys, CeremonyError> {
    let planned = place.begin(name, files)?;
    let unfinished = |why: String| CeremonyError::Unfinished(why);
    let mut keys = BTreeMap::new();
    for (file, planned) in files.iter().zip(&planned.keys) {
        let direct = token(tokens, &file.token)?;
        let id = unhex(&planned.id)
            .ok_or_else(|| unfinished("CHY-INTERNAL: an id is not hexadecimal".to_owned()))?;
        tracing::info!(key = file.name, label = file.label, "generating");
        let key = direct
            .generate(file.kind.into(), &file.label, &id)
            .map_err(|why| unfinished(why.to_string()))?;
        let key = key.signing_with(file.algorithm()?).ok_or_else(|| {
            unfinished("CHY-INTERNAL: the plan's algorithm does not fit the key".to_owned())
        })?;
        let uri = Pkcs11Uri {
            object: Some(file.label.clone()),
            object_type: Some("private".to_owned()),
            id: Some(id),
            ..direct.token.uri()
        };
        keys.insert(file.name.clone(), AtHand { key, label: file.label.clone(), uri });
    }
    Ok(Keys(keys))
}

/// The key `name` that an earlier act made, judged again.
pub(super) fn find_key(
    plan: &Plan,
    tokens: &Tokens,
    name: &str,
    record: &KeyRecord,
) -> Result<AtHand, CeremonyError> {
    let refused = |why: String| CeremonyError::Refused(why);
    let broken =
        |why: &str| refused(format!("CHY-CA-BROKEN: ca/authority.json: key {name:?}: {why}"));
    let file = plan
        .keys
        .iter()
        .find(|key| key.name == name)
        .ok_or_else(|| refused(format!("CHY-CEREMONY-FILE: no key {name:?}")))?;
    let uri = record.parsed_uri().map_err(|why| broken(&why))?;
    let id = record.id().map_err(|why| broken(&why))?;
    let public = record.public_key().map_err(broken)?;
    let direct = token(tokens, &file.token)?;
    let key = direct.key(name, &id, public).map_err(|why| refused(why.to_string()))?;
    Ok(AtHand { key, label: file.label.clone(), uri })
}

/// The words of a signer that did not sign.
pub(super) fn sign_error(error: SignError) -> String {
    match error {
        SignError::Refuse(why) | SignError::Halt(why) => why,
        SignError::Retry(_) => "CHY-TOKEN-ERROR: the token is away".to_owned(),
    }
}
