//! Another root where the root keys are not all here: each root's box signs the other root's certificate by one file,
//! and the box that serves takes in what was carried to it. What it has then is what `new_root::add` makes at once.

use std::collections::BTreeMap;

use super::CeremonyError;
use super::certificates::{Subordinate, certify, dressed, dressed_root};
use super::execute::Outcome;
use super::keys::Keys;
use super::later::{
    YET, bad, begun, broken, commit, key_of, refuse_name, refused, taken_files, unchanged,
};
use super::new_root::{FORMER, NewRoot};
use super::plan::{Urls, published_as};
use super::state::{Place, RootRecord, Tokens};
use super::transcript::{CertificateLine, CrlLine, Title, Transcript};
use crate::id::{Timestamp, hex};
use crate::pki::authority::{FurtherRoot, KeyRecord, Root};
use crate::pki::certificate::Certificate;
use crate::pki::crl;
use crate::pki::cross::{Tied, is_for};
use crate::pki::policy::Policy;

/// What is carried to the box that serves.
pub struct Carried {
    pub root: Certificate,
    /// For name and key of the new root, by the former; and of the former, by the new one.
    pub by_former: Certificate,
    pub of_former: Certificate,
    /// The new root's CRL, DER.
    pub crl: Vec<u8>,
}

/// A root whose key is on a token of this box.
struct Own {
    certificate: Certificate,
    key: KeyRecord,
    crl_url: String,
}

/// Signs name and key of the other root, as the file's [cross] says, with the root key of this box: which of the two
/// roots that is follows from the names.
pub fn sign(
    new: &NewRoot,
    tokens: &Tokens,
    place: &Place,
    other: &Certificate,
) -> Result<Outcome, CeremonyError> {
    let own = own(place)?;
    let now = place.clock.now();
    is_root(other, now).map_err(|why| refused(&format!("CHY-CEREMONY-IMPORT: {why}")))?;
    let (by_former, of_former) = new.crosses();
    let root = dressed_root(&new.document.root, now)?;
    let former = dressed(&of_former, &root, &new.document.urls.root_crl, now)?;
    let named = |one: &Certificate, like: &Certificate| one.subject_der() == like.subject_der();
    let (template, role) = if named(&own.certificate, &former) && named(other, &root) {
        let role = if tokens.contains_key(FORMER) { FORMER } else { &new.key.token };
        (by_former, role)
    } else if named(&own.certificate, &root) && named(other, &former) {
        (of_former, new.key.token.as_str())
    } else {
        return bad(&format!(
            "[root] and [former] are not the names of this box's root, {}, and of the other, {}",
            own.certificate.subject(),
            other.subject()
        ));
    };
    let key = key_of("root", &own.key, role, tokens)?;
    let below =
        Subordinate { issuer: &own.certificate, key: other.public_key(), crl_url: &own.crl_url };
    let cross = certify(place, now, &template, &key, Some(below)).map_err(unchanged)?;
    if cross.subject_key_id() != other.subject_key_id() {
        return Err(refused(
            "CHY-CEREMONY-IMPORT: the other root has another key identifier than its key has here: what is below it would not be \
             found below this certificate",
        ));
    }
    let mut transcript = transcript(new, "", tokens, "sign-cross", now);
    for (what, certificate) in
        [("root", &own.certificate), ("root (given)", other), ("cross-certificate", &cross)]
    {
        transcript.certificates.push(CertificateLine::of(what, certificate));
    }
    let sha256 = transcript.store(place).map_err(unchanged)?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: Some(cross.pem()) })
}

/// Takes in another root that was made elsewhere, tied to the newest that this box has.
pub fn import(
    new: &NewRoot,
    place: &Place,
    policy: &Policy,
    carried: &Carried,
) -> Result<Outcome, CeremonyError> {
    let refuse = |why: &str| refused(&format!("CHY-CEREMONY-IMPORT: {why}"));
    let mut authority = begun(place, YET)?;
    let name = &new.document.name;
    let url = &new.document.urls.root_crl;
    refuse_name(name, &authority)?;
    if published_as(url).is_some_and(|file| taken_files(&authority).contains(&file)) {
        return bad("urls.root-crl names a file that is published already");
    }
    let now = place.clock.now();
    let Carried { root, by_former, of_former, crl: der } = carried;
    is_root(root, now).map_err(|why| refuse(&why))?;
    if root.subject_der() != dressed_root(&new.document.root, now)?.subject_der() {
        return bad(&format!("[root] is not the name of the new root, {}", root.subject()));
    }
    let before = authority.roots().last().ok_or_else(|| broken("it names no root"))?;
    let former = Certificate::parse_pem(before.certificate).map_err(|why| broken(&why.0))?;
    // What every start asks of it, asked before it is written.
    let pem = [root, by_former, of_former].map(Certificate::pem);
    let tied = Root {
        name,
        certificate: &pem[0],
        key: None,
        crl_url: url,
        cross: Some((&pem[1], &pem[2])),
        transcript_sha256: "",
        done: false,
    };
    Tied::read(&tied).map_err(|why| refuse(&why))?;
    if !by_former.verify_issued_by(&former) || !is_for(of_former, &former) {
        return Err(refuse(&format!(
            "the cross-certificates do not tie it to {}, the root before it",
            former.subject()
        )));
    }
    for (cross, whose, names) in
        [(by_former, root, before.crl_url), (of_former, &former, url.as_str())]
    {
        let subject = cross.subject();
        if cross.subject_key_id() != whose.subject_key_id() {
            return Err(refuse(&format!("the cross-certificate of {subject} names another key")));
        }
        if cross.path_length() != Some(1) {
            return Err(refuse(&format!(
                "the cross-certificate of {subject} has not path length 1"
            )));
        }
        if cross.crl_url() != Some(names) {
            return Err(refuse(&format!(
                "the cross-certificate of {subject} does not name {names}"
            )));
        }
        if cross.validity().1 <= now {
            return Err(refuse(&format!("the cross-certificate of {subject} has expired")));
        }
        policy.check_within(cross).map_err(|why| {
            refused(&format!(
                "CHY-CONFIG-POLICY: the policy allows what the cross-certificate of {subject} does not permit: {why}"
            ))
        })?;
    }
    let list = crl::parse_verified(der, root)
        .map_err(|why| refuse(&format!("the new root's CRL: it does not stand: {why}")))?;
    if list.shard.is_some() || list.next_update <= now {
        return Err(refuse("the new root's CRL is a part, or has ended"));
    }

    let (former_name, origin) = (before.name.to_owned(), authority.origin.clone());
    let mut transcript = transcript(new, &origin, &Tokens::new(), "import-root", now);
    for (what, certificate) in [
        (former_name.as_str(), &former),
        (&format!("{name} (given)"), root),
        (&format!("{name} by {former_name} (given)"), by_former),
        (&format!("{former_name} by {name} (given)"), of_former),
    ] {
        transcript.certificates.push(CertificateLine::of(what, certificate));
    }
    transcript.root_crl = Some(CrlLine::of(&list, der));
    let sha256 = transcript.store(place).map_err(unchanged)?;
    place.write(&place.crl_path(name), der).map_err(unchanged)?;
    let [certificate, by_former, of_former] = pem;
    authority.further_roots.push(FurtherRoot {
        name: name.clone(),
        certificate,
        key: None,
        crl_url: url.clone(),
        by_former,
        of_former,
        transcript_sha256: hex(&sha256),
    });
    commit(place, &mut authority).map_err(unchanged)?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// The root that this box signs as: an offline box's own, or the newest of one that serves.
fn own(place: &Place) -> Result<Own, CeremonyError> {
    let parse = |pem: &str| Certificate::parse_pem(pem).map_err(|why| broken(&why.0));
    if let Some(own) = place.read_json::<RootRecord>(&place.root_path())? {
        let certificate = parse(&own.root)?;
        return Ok(Own { certificate, key: own.root_key, crl_url: own.root_crl_url });
    }
    let authority = begun(place, "and no root: hold the root's ceremony first")?;
    let newest = authority.roots().last().ok_or_else(|| broken("it names no root"))?;
    let key = newest.key.cloned().ok_or_else(|| {
        refused("CHY-CA-ABSENT: the root key of this CA is on another box; sign there")
    })?;
    let certificate = parse(newest.certificate)?;
    Ok(Own { certificate, key, crl_url: newest.crl_url.to_owned() })
}

/// Whether it is one, for now.
fn is_root(certificate: &Certificate, now: Timestamp) -> Result<(), String> {
    let subject = certificate.subject();
    if !certificate.is_ca() || !certificate.verify_issued_by(certificate) {
        return Err(format!("the certificate of {subject} is no root's"));
    }
    if certificate.validity().1 <= now {
        return Err(format!("the certificate of {subject} has expired"));
    }
    let weak = |why| format!("the key of {subject} is weak: {why:?}");
    certificate.public_key().check_strength().map_err(weak)
}

fn transcript(
    new: &NewRoot,
    origin: &str,
    tokens: &Tokens,
    act: &str,
    now: Timestamp,
) -> Transcript {
    let title = Title {
        ceremony: &new.document.name,
        description: &new.document.description,
        understood: serde_json::to_vec(&(&new.document, &new.key)).unwrap_or_default(),
        origin,
        urls: Urls { root_crl: new.document.urls.root_crl.clone(), ..Urls::default() },
    };
    Transcript::of(title, tokens, &Keys(BTreeMap::new()), act, now)
}
