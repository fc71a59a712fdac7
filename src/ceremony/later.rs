//! What the ceremonies share that a box holds after its first: the authority that they change, keys that an earlier one
//! made, and how they refuse.

use std::path::PathBuf;

use super::CeremonyError;
use super::plan::{is_name, published_as};
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

/// Refuses a name that no root or issuing CA can have, wherever it may be.
pub(super) fn check_name(name: &str) -> Result<(), CeremonyError> {
    if is_name(name) && !RESERVED.contains(&name) {
        return Ok(());
    }
    bad("name is not 1 to 32 of a-z, 0-9 and -, or is what something else is called")
}

/// Refuses the name that a root or issuing CA of this box has, and one whose files are another's.
pub(super) fn refuse_name(name: &str, authority: &Authority) -> Result<(), CeremonyError> {
    let roots = authority.roots().map(|root| root.name);
    if roots.chain(authority.issuers().map(|issuing| issuing.name)).any(|other| other == name) {
        return Err(refused(&format!(
            "CHY-CEREMONY-DONE: this box has {name:?} already; nothing was changed"
        )));
    }
    let taken = taken_files(authority);
    match files_of(name).into_iter().find(|file| taken.contains(file)) {
        None => Ok(()),
        Some(file) => bad(&format!(
            "name is {name:?}, whose file {} is another's that is published already",
            file.display()
        )),
    }
}

/// The files below `public/` that what there is has already.
pub(super) fn taken_files(authority: &Authority) -> Vec<PathBuf> {
    let issuers = authority.issuers().flat_map(|issuing| [issuing.aia_url, issuing.crl_url]);
    let roots = authority.roots().map(|root| root.crl_url);
    let mut files: Vec<PathBuf> = issuers.chain(roots).filter_map(published_as).collect();
    let roots: Vec<&str> = authority.roots().map(|root| root.name).collect();
    for name in authority.issuers().map(|issuing| issuing.name).chain(roots.iter().copied()) {
        files.extend(files_of(name));
    }
    for pair in roots.windows(2) {
        let [former, root] = pair else { continue };
        files.push(format!("{root}-by-{former}.pem").into());
        files.push(format!("{former}-by-{root}.pem").into());
    }
    files.push("chain.pem".into());
    files
}

/// What a root or issuing CA is published as under its own name.
fn files_of(name: &str) -> [PathBuf; 3] {
    [".pem", ".der", "-chain.pem"].map(|end| format!("{name}{end}").into())
}

/// What keys and files of the box are called.
const RESERVED: [&str; 8] =
    ["root", "issuing", "chain", "log", "log-former", "tls", "tls-former", "witness"];

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

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Authority {
        let key = r#"{"uri":"pkcs11:object=x","spki":""}"#;
        let text = format!(
            r#"{{"version":3,"origin":"ca.lan/log","aia_url":"http://ca.lan/first.der",
            "crl_url":"http://ca.lan/crl/issuing.crl","root_crl_url":"http://ca.lan/crl/root.crl","root":"",
            "issuing":"","root_key":{key},"issuing_key":{key},"log_key":{key},"tls_key":{key},
            "transcript_sha256":"","further_roots":[{{"name":"root-2","certificate":"","key":{key},
            "crl_url":"http://ca.lan/crl/root-2.crl","by_former":"","of_former":"","transcript_sha256":""}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_name_is_refused_that_something_has_or_whose_files_are_anothers() {
        let authority = authority();
        for taken in ["issuing", "root-2"] {
            let why = refuse_name(taken, &authority).unwrap_err().to_string();
            assert!(why.starts_with("CHY-CEREMONY-DONE: "), "{why}");
        }
        // What a URL names, what two roots certify of each other, and what is published under a longer name.
        for taken in ["first", "root-2-by-root", "root-by-root-2", "issuing-chain", "root-2-chain"]
        {
            let why = refuse_name(taken, &authority).unwrap_err().to_string();
            assert!(why.starts_with("CHY-CEREMONY-FILE: "), "{why}");
        }
        assert_eq!(refuse_name("root-3", &authority), Ok(()));
        for name in ["tls", "log-former", "chain", "A", ""] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert_eq!(check_name("issuing-2"), Ok(()));
    }
}
