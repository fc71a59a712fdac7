//! Another issuing CA for a box that has its CA: one that takes over from the newest of its line, or begins a line. Made
//! at once where the root key is, or as a request that the root elsewhere signs. What makes it count is
//! `authority.json`; the issuer, at its next start, adds it to the log before it issues anything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::CeremonyError;
use super::certificates::{Subordinate, certify, dressed};
use super::execute::Outcome;
use super::keys::{AtHand, Keys, make_keys};
use super::later::{
    YET, bad, begun, broken, check_name, commit, key_of, refuse_name, refused, taken_files,
    unchanged,
};
use super::plan::{KeyFile, TokenEntry, Urls, check_label, check_url, is_name, published_as};
use super::request;
use super::state::{Place, Tokens, token};
use super::transcript::{CertificateLine, SuccessionLine, Title, Transcript};
use crate::hsm::Signer;
use crate::id::{LeafIndex, Timestamp, hex};
use crate::log::reader::Reader;
use crate::log::record::Record;
use crate::pki::authority::{Authority, FurtherIssuer, Root};
use crate::pki::certificate::Certificate;
use crate::pki::policy::Policy;
use crate::pki::rehearse::CaTemplate;

/// `hsm/ceremony/issuing-2.toml`, as written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Document {
    /// What the box will call the issuing CA: its key, its files, its records.
    pub name: String,
    pub description: String,
    /// The key file of the new key, relative to this one. Its name is `issuing`, its label is new.
    pub key: PathBuf,
    /// The line that it stands in: it takes over from the newest of it, or begins one.
    #[serde(default = "usual_line")]
    pub line: String,
    /// By role: the one of the key file, and `root` where the root key is here.
    pub tokens: BTreeMap<String, TokenEntry>,
    pub urls: IssuerUrls,
    /// What its certificate says; where the root is elsewhere, its file says it.
    #[serde(default)]
    pub issuing: Option<CaTemplate>,
}

/// What its certificates say about where to look; for good, as for the first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IssuerUrls {
    pub aia: String,
    pub crl: String,
}

fn usual_line() -> String {
    Authority::FIRST_ISSUING.to_owned()
}

/// One that can be held.
#[derive(Clone, Debug, PartialEq)]
pub struct Succession {
    pub document: Document,
    pub key: KeyFile,
}

impl Succession {
    /// Checks everything that can be checked without the box.
    pub fn new(document: Document, key: KeyFile) -> Result<Self, CeremonyError> {
        if key.name != "issuing" {
            return bad("the key file is not one of an issuing key: name \"issuing\"");
        }
        key.check()?;
        check_label(&key)?;
        if !document.tokens.contains_key(&key.token) {
            return bad("[tokens] lacks the token of the key file");
        }
        if document.tokens.keys().any(|role| *role != key.token && role != ROOT) {
            return bad("[tokens] has more than the token of the key file and `root`");
        }
        if document.issuing.is_some() && !document.tokens.contains_key(ROOT) {
            return bad("[issuing] is for who has the root key, and [tokens.root] is missing");
        }
        check_name(&document.name)?;
        if !is_name(&document.line) {
            return bad("line is not 1 to 32 of a-z, 0-9 and -");
        }
        if document.issuing.as_ref().is_some_and(|issuing| issuing.path_length != Some(0)) {
            return bad("issuing.path-length is not 0");
        }
        check_url("urls.aia", &document.urls.aia, &["cer", "crt", "der"])?;
        check_url("urls.crl", &document.urls.crl, &["crl"])?;
        Ok(Self { document, key })
    }

    /// What it would do, for people.
    pub fn effect(&self) -> String {
        let Document { name, line, issuing, .. } = &self.document;
        let how = match issuing {
            Some(template) => format!(
                "its certificate {:?} for {} days, by the root key here; from the next start of both processes on it \
                 issues what the line {line:?} issues",
                template.common_name, template.lifetime_days
            ),
            None => "a request for its certificate, which the root signs elsewhere".to_owned(),
        };
        format!("ceremony {name:?} would make key {:?} and {how}", self.key.label)
    }

    fn transcript(
        &self,
        authority: &Authority,
        tokens: &Tokens,
        keys: &Keys,
        act: &str,
        now: Timestamp,
    ) -> Transcript {
        let Document { name, description, line, urls, .. } = &self.document;
        let title = Title {
            ceremony: name,
            description,
            understood: serde_json::to_vec(&(&self.document, &self.key)).unwrap_or_default(),
            origin: &authority.origin,
            urls: Urls {
                aia: urls.aia.clone(),
                crl: urls.crl.clone(),
                root_crl: newest_root(authority)
                    .map_or_else(String::new, |root| root.crl_url.into()),
            },
        };
        let mut transcript = Transcript::of(title, tokens, keys, act, now);
        transcript.succession = Some(SuccessionLine {
            name: name.clone(),
            line: line.clone(),
            takes_over_from: authority.newest_of(line).map(|former| former.name.to_owned()),
        });
        transcript
    }

    /// Refuses what does not fit beside what the box has.
    fn check_beside(&self, authority: &Authority) -> Result<(), CeremonyError> {
        let Document { name, urls, .. } = &self.document;
        if let Some(open) = authority.further_issuers.iter().find(|open| open.certificate.is_none())
        {
            return Err(refused(&format!(
                "CHY-ISSUER-REQUESTED: the certificate of {:?} was requested and not imported yet; import it, or give it up with \
                 --withdraw",
                open.name
            )));
        }
        refuse_name(name, authority)?;
        let mut files = taken_files(authority);
        for url in [&urls.aia, &urls.crl] {
            let file = published_as(url).unwrap_or_default();
            if files.contains(&file) {
                return bad(&format!("{url:?} names a file that is published already"));
            }
            files.push(file);
        }
        Ok(())
    }

    /// The issuer has one token: the new key must be where the others are.
    fn check_token(&self, authority: &Authority, tokens: &Tokens) -> Result<(), CeremonyError> {
        let uri = authority.tls_key.parsed_uri().map_err(|why| broken(&why))?;
        let direct = token(tokens, &self.key.token)?;
        if !direct.is_named_by(&uri) {
            return Err(refused(&format!(
                "CHY-CEREMONY-TOKEN: the key is to be made on token {:?} with serial number {:?}, but this box signs with \
                 another; nothing was changed",
                direct.token.label, direct.token.serial
            )));
        }
        Ok(())
    }
}

/// Makes key and certificate, by the root key of this box.
pub fn add(
    succession: &Succession,
    tokens: &Tokens,
    place: &Place,
    policy: &Policy,
) -> Result<Outcome, CeremonyError> {
    let mut authority = begun(place, YET)?;
    let Document { name, line, urls, issuing, .. } = &succession.document;
    let Some(template) = issuing else { return request(succession, tokens, place, authority) };
    succession.check_beside(&authority)?;
    succession.check_token(&authority, tokens)?;
    let (root, root_certificate) = root(&authority)?;
    let root_name = root.name.to_owned();
    let record = root.key.ok_or_else(|| {
        refused("CHY-CA-ABSENT: the root key of this CA is on another box; leave [issuing] out: then a request is made here")
    })?;
    let crl_url = root.crl_url.to_owned();
    let files = std::slice::from_ref(&succession.key);
    place.refuse_keys(files, tokens)?;
    let signer = key_of("root", record, ROOT, tokens)?;
    if signer.public_key() != root_certificate.public_key() {
        return Err(broken("the root key is not the root certificate's"));
    }
    let now = place.clock.now();
    let dressed = dressed(template, &root_certificate, &crl_url, now)?;
    fits(&dressed, &authority, policy)?;

    let keys = make_keys(name, files, tokens, place)?;
    let key = keys.get("issuing")?.public_key();
    let subordinate = Subordinate { issuer: &root_certificate, key, crl_url: &crl_url };
    let certificate = certify(place, now, template, &signer, Some(subordinate))?;
    let mut transcript = succession.transcript(&authority, tokens, &keys, "add-issuer", now);
    transcript.certificates.push(CertificateLine::of("root", &root_certificate));
    transcript.certificates.push(CertificateLine::of("issuing", &certificate));
    let sha256 = transcript.store(place)?;
    authority.further_issuers.push(FurtherIssuer {
        name: name.clone(),
        line: line.clone(),
        root: root_name,
        certificate: Some(certificate.pem()),
        key: keys.record("issuing")?,
        aia_url: urls.aia.clone(),
        crl_url: urls.crl.clone(),
        transcript_sha256: hex(&sha256),
    });
    commit(place, &mut authority)?;
    place.end()?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// Makes the key and a request for its certificate.
fn request(
    succession: &Succession,
    tokens: &Tokens,
    place: &Place,
    mut authority: Authority,
) -> Result<Outcome, CeremonyError> {
    let Document { name, line, urls, .. } = &succession.document;
    succession.check_beside(&authority)?;
    succession.check_token(&authority, tokens)?;
    let (root, root_certificate) = root(&authority)?;
    let root_name = root.name.to_owned();
    let files = std::slice::from_ref(&succession.key);
    place.refuse_keys(files, tokens)?;
    let now = place.clock.now();
    let keys = make_keys(name, files, tokens, place)?;
    let pem = request::make(keys.get("issuing")?)?;
    let mut transcript = succession.transcript(&authority, tokens, &keys, "request-issuer", now);
    transcript.certificates.push(CertificateLine::of("root (given)", &root_certificate));
    let sha256 = transcript.store(place)?;
    place.write(&place.ca.join(format!("{name}.csr")), pem.as_bytes())?;
    authority.further_issuers.push(FurtherIssuer {
        name: name.clone(),
        line: line.clone(),
        root: root_name,
        certificate: None,
        key: keys.record("issuing")?,
        aia_url: urls.aia.clone(),
        crl_url: urls.crl.clone(),
        transcript_sha256: hex(&sha256),
    });
    commit(place, &mut authority)?;
    place.end()?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: Some(pem) })
}

/// Takes in the certificate that the root signed elsewhere.
pub fn import(
    succession: &Succession,
    tokens: &Tokens,
    place: &Place,
    policy: &Policy,
    certificate: &Certificate,
) -> Result<Outcome, CeremonyError> {
    let refuse = |why: &str| refused(&format!("CHY-CEREMONY-IMPORT: {why}"));
    let mut authority = begun(place, YET)?;
    let Document { name, line, urls, .. } = &succession.document;
    let root = authority.roots().filter(|root| !root.done).find_map(|root| {
        let read = Certificate::parse_pem(root.certificate).ok()?;
        let (name, url) = (root.name.to_owned(), root.crl_url.to_owned());
        certificate.verify_issued_by(&read).then_some((name, url, read))
    });
    let (root_name, crl_url, root_certificate) =
        root.ok_or_else(|| refuse("the certificate was signed by no root of this box"))?;
    let open = authority.further_issuers.last().filter(|open| open.name == *name);
    let open = open.filter(|open| open.certificate.is_none());
    let open = open.ok_or_else(|| refuse("no request for this issuing CA waits here"))?;
    if (&open.line, &open.aia_url, &open.crl_url) != (line, &urls.aia, &urls.crl) {
        return Err(refuse("line or [urls] differ from what the request fixed"));
    }
    let key = key_of("issuing", &open.key, &succession.key.token, tokens)?;
    if certificate.public_key().spki() != key.public_key().spki() {
        return Err(refuse(
            "the certificate is for another key than the one this box's token holds",
        ));
    }
    if !certificate.is_ca() || certificate.path_length() != Some(0) {
        return Err(refuse("the certificate is not one of an issuing CA with path length 0"));
    }
    let now = place.clock.now();
    if certificate.validity().1 < now {
        return Err(refuse("the certificate has expired"));
    }
    if certificate.crl_url() != Some(crl_url.as_str()) {
        return Err(refuse("the certificate does not name the CRL of its root as this box has it"));
    }
    fits(certificate, &authority, policy)?;
    let at_hand = AtHand {
        uri: open.key.parsed_uri().map_err(|why| broken(&why))?,
        label: succession.key.label.clone(),
        key,
    };
    let keys = Keys(BTreeMap::from([("issuing".to_owned(), at_hand)]));
    let mut transcript = succession.transcript(&authority, tokens, &keys, "import-issuer", now);
    transcript.certificates.push(CertificateLine::of("root", &root_certificate));
    transcript.certificates.push(CertificateLine::of("issuing (given)", certificate));
    let sha256 = transcript.store(place).map_err(unchanged)?;
    if let Some(open) = authority.further_issuers.last_mut() {
        open.certificate = Some(certificate.pem());
        open.root = root_name;
        open.transcript_sha256 = hex(&sha256);
    }
    commit(place, &mut authority).map_err(unchanged)?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// Gives up a request whose certificate shall not come: its key is removed.
pub fn withdraw(
    succession: &Succession,
    tokens: &Tokens,
    place: &Place,
) -> Result<String, CeremonyError> {
    let mut authority = begun(place, YET)?;
    let name = &succession.document.name;
    let open =
        authority.further_issuers.pop_if(|open| open.name == *name && open.certificate.is_none());
    let open = open
        .ok_or_else(|| refused("CHY-CEREMONY-IMPORT: no request for this issuing CA waits here"))?;
    // A key that is gone already is no error: asked again, it goes on.
    token(tokens, &succession.key.token)?
        .destroy(&open.key.id().map_err(|why| broken(&why))?)
        .map_err(|why| refused(&why.to_string()))?;
    commit(place, &mut authority).map_err(unchanged)?;
    Ok(format!("the request for {name:?} was given up, and its key removed"))
}

/// Notes that the issuing CA before this one in its line is done with, as soon as the log has retired it; and removes its
/// key from its token if `remove`. Asked again, it goes on where it was cut short.
pub fn finish(
    succession: &Succession,
    tokens: &Tokens,
    place: &Place,
    remove: bool,
) -> Result<String, CeremonyError> {
    let mut authority = begun(place, YET)?;
    let Document { name, line, .. } = &succession.document;
    let line: Vec<_> = authority.issuers().filter(|issuing| issuing.line == *line).collect();
    let at = line.iter().position(|issuing| issuing.name == name);
    let former = at
        .and_then(|at| line.get(at.checked_sub(1)?))
        .ok_or_else(|| refused(&format!("CHY-ISSUER-FIRST: {name:?} took over from nobody")))?;
    let certificate = former.certificate.map(Certificate::parse_pem).transpose();
    let certificate = certificate.map_err(|why| broken(&why.0))?;
    let sha256 = certificate.map(|certificate| certificate.fingerprint());
    let leaf = match sha256 {
        Some(sha256) => retirement(place, &sha256)?,
        None => None,
    };
    let leaf = leaf.ok_or_else(|| {
        refused(&format!(
            "CHY-ISSUER-SUPERSEDED: {:?} still signs CRLs; the issuer retires it by itself, one CRL after the end of its last certificate",
            former.name
        ))
    })?;
    let (former, key, done) = (former.name.to_owned(), former.key.clone(), former.done);
    let mut said = Vec::new();
    if !done {
        authority.done.push(former.clone());
        commit(place, &mut authority).map_err(unchanged)?;
        said.push(format!(
            "{former:?} is done with (leaf {leaf}); restart the issuer, which then asks the token for its key no more"
        ));
    }
    if remove {
        token(tokens, &succession.key.token)?
            .destroy(&key.id().map_err(|why| broken(&why))?)
            .map_err(|why| refused(&why.to_string()))?;
        said.push("its key was removed from its token".to_owned());
    }
    Ok(if said.is_empty() { "nothing was left to do".to_owned() } else { said.join("; ") })
}

/// The leaf that retires the root or issuing CA with this SHA-256 over its certificate.
pub(super) fn retirement(
    place: &Place,
    sha256: &[u8; 32],
) -> Result<Option<LeafIndex>, CeremonyError> {
    let unread = |why: crate::log::OpenError| refused(&why.to_string());
    let reader = Reader::open(std::sync::Arc::clone(&place.disk), &place.log).map_err(unread)?;
    for entry in reader.entries(LeafIndex(0)) {
        let entry = entry.map_err(unread)?;
        if let Ok(Record::AuthorityRetiredV1(retired)) = &entry.record
            && retired.certificate_sha256 == *sha256
        {
            return Ok(Some(entry.leaf));
        }
    }
    Ok(None)
}

/// What the new issuing certificate must be beside those there are.
fn fits(
    certificate: &Certificate,
    authority: &Authority,
    policy: &Policy,
) -> Result<(), CeremonyError> {
    policy.check_within(certificate).map_err(|why| {
        refused(&format!(
            "CHY-CONFIG-POLICY: the policy allows what the new issuing certificate would not permit: {why}; permit it in \
             [issuing], or narrow [policy] first"
        ))
    })?;
    for issuing in authority.issuers() {
        let other = issuing.certificate.map(Certificate::parse_pem).transpose();
        let other = other.map_err(|why| broken(&why.0))?;
        if other.is_some_and(|other| other.subject_der() == certificate.subject_der()) {
            return bad(&format!(
                "the issuing certificate has the name of {:?}; give it one of its own, or CRLs of the two are mistaken for each other",
                issuing.name
            ));
        }
    }
    Ok(())
}

fn newest_root(authority: &Authority) -> Option<Root<'_>> {
    authority.roots().last()
}

/// The root that signs: the newest.
fn root(authority: &Authority) -> Result<(Root<'_>, Certificate), CeremonyError> {
    let root = newest_root(authority).ok_or_else(|| broken("it names no root"))?;
    let certificate = Certificate::parse_pem(root.certificate).map_err(|why| broken(&why.0))?;
    Ok((root, certificate))
}

/// The role of the root's token.
const ROOT: &str = "root";
