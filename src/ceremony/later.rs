//! What the ceremonies share that a box holds after its first: the authority that they change, keys that an earlier one
//! made, and how they refuse.

use super::CeremonyError;
use super::state::{Place, Tokens, token};
use crate::hsm::direct::DirectKey;
use crate::pki::authority::{Authority, KeyRecord};

/// The authority of a box that has its CA; where there is none, `without` says what is missing.
pub(super) fn begun(place: &Place, without: &str) -> Result<Authority, CeremonyError> {
    place
        .authority()?
        .filter(|authority| authority.issuing.is_some())
        .ok_or_else(|| refused(&format!("CHY-CA-ABSENT: this box has no CA {without}")))
}

/// What is missing where there is no CA.
pub(super) const YET: &str = "yet: hold its own ceremony first, then this one";

/// From here on it counts.
pub(super) fn commit(place: &Place, authority: &mut Authority) -> Result<(), CeremonyError> {
    authority.version = authority.least_version();
    place.write_json(&place.authority_path(), authority)
}

/// A key that an earlier ceremony made, on the token of `role`, judged again.
pub(super) fn key_of(
    name: &str,
    record: &KeyRecord,
    role: &str,
    tokens: &Tokens,
) -> Result<DirectKey, CeremonyError> {
    let broken = |why: &str| broken(&format!("the {name} key: {why}"));
    let public = record.public_key().map_err(broken)?;
    let id = record.id().map_err(|why| broken(&why))?;
    token(tokens, role)?.key(name, &id, public).map_err(|why| refused(&why.to_string()))
}

/// No key was made: nothing is left behind that a next run would have to discard.
pub(super) fn unchanged(error: CeremonyError) -> CeremonyError {
    match error {
        CeremonyError::Refused(why) | CeremonyError::Unfinished(why) => CeremonyError::Refused(why),
    }
}

pub(super) fn broken(why: &str) -> CeremonyError {
    refused(&format!("CHY-CA-BROKEN: ca/authority.json: {why}"))
}

pub(super) fn bad<T>(why: &str) -> Result<T, CeremonyError> {
    Err(refused(&format!("CHY-CEREMONY-FILE: {why}")))
}

pub(super) fn refused(why: &str) -> CeremonyError {
    CeremonyError::Refused(why.to_owned())
}
