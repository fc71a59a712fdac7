//! Another root for a box whose root key is here: made, signed by itself, and tied to the one before it by two
//! certificates, so that a device that has one of them finds a way from certificates below the other. Issuing CAs that
//! are added afterwards are the new root's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::CeremonyError;
use super::certificates::{NextCrl, Subordinate, certify, dressed, dressed_root, sign_root_crl};
use super::execute::Outcome;
use super::keys::make_keys;
use super::later::{
    YET, bad, begun, broken, check_name, commit, key_of, refuse_name, refused, taken_files,
};
use super::plan::{KeyFile, TokenEntry, Urls, check_label, check_url, published_as};
use super::state::{Place, Tokens};
use super::transcript::{CertificateLine, Title, Transcript};
use crate::hsm::Signer;
use crate::id::hex;
use crate::pki::authority::FurtherRoot;
use crate::pki::certificate::Certificate;
use crate::pki::policy::Policy;
use crate::pki::rehearse::CaTemplate;

/// `hsm/ceremony/root-2.toml`, as written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Document {
    /// What the box will call the root: its files, its records.
    pub name: String,
    pub description: String,
    /// The key file of the new key, relative to this one. Its name is `root`, its label is new.
    pub key: PathBuf,
    /// Lifetime of its first CRL.
    pub root_crl_days: u32,
    /// By role: the one of the key file, and `former` where the former root's key is on another.
    pub tokens: BTreeMap<String, TokenEntry>,
    pub urls: RootUrls,
    pub root: CaTemplate,
    /// The name of the root before it, as its own ceremony wrote it.
    pub former: Former,
    pub cross: Cross,
}

/// What certificates below it say about where to look; for good.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RootUrls {
    pub root_crl: String,
}

/// A subject.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Former {
    pub common_name: String,
    #[serde(default)]
    pub organization: Option<String>,
}

/// What both cross-certificates say: they vouch for what is issued here, and for no more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cross {
    pub lifetime_days: u32,
    #[serde(default)]
    pub permitted_names: Vec<String>,
    #[serde(default)]
    pub permitted_networks: Vec<String>,
}

/// One that can be held.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRoot {
    pub document: Document,
    pub key: KeyFile,
}

impl NewRoot {
    /// Checks everything that can be checked without the box.
    pub fn new(document: Document, key: KeyFile) -> Result<Self, CeremonyError> {
        if key.name != "root" {
            return bad("the key file is not one of a root key: name \"root\"");
        }
        key.check()?;
        check_label(&key)?;
        if !document.tokens.contains_key(&key.token) {
            return bad("[tokens] lacks the token of the key file");
        }
        if document.tokens.keys().any(|role| *role != key.token && role != FORMER) {
            return bad("[tokens] has more than the token of the key file and `former`");
        }
        check_name(&document.name)?;
        if !(1..=36_600).contains(&document.root_crl_days) {
            return bad("root-crl-days is not 1 to 36600");
        }
        if document.root.path_length.is_some() {
            return bad("root.path-length belongs into no root");
        }
        if document.cross.permitted_names.is_empty() && document.cross.permitted_networks.is_empty()
        {
            return bad("[cross] permits no name at all");
        }
        check_url("urls.root-crl", &document.urls.root_crl, &["crl"])?;
        Ok(Self { document, key })
    }

    /// What it would do, for people.
    pub fn effect(&self) -> String {
        let Document { name, root, cross, .. } = &self.document;
        format!(
            "ceremony {name:?} would make key {:?}, the root certificate {:?} for {} days, and for {} days a certificate of \
             each root by the other; what is issued by now stays as it is",
            self.key.label, root.common_name, root.lifetime_days, cross.lifetime_days
        )
    }

    /// What the certificates of each of the two roots by the other say: of the new one, and of the former.
    pub(super) fn crosses(&self) -> (CaTemplate, CaTemplate) {
        let Document { root, former, .. } = &self.document;
        (
            self.cross(&root.common_name, root.organization.as_deref()),
            self.cross(&former.common_name, former.organization.as_deref()),
        )
    }

    fn cross(&self, common_name: &str, organization: Option<&str>) -> CaTemplate {
        let Cross { lifetime_days, permitted_names, permitted_networks } = &self.document.cross;
        CaTemplate {
            common_name: common_name.to_owned(),
            organization: organization.map(str::to_owned),
            lifetime_days: *lifetime_days,
            // An issuing CA below it, and nothing below that.
            path_length: Some(1),
            permitted_names: permitted_names.clone(),
            permitted_networks: permitted_networks.clone(),
        }
    }
}

/// Makes it.
pub fn add(
    new: &NewRoot,
    tokens: &Tokens,
    place: &Place,
    policy: &Policy,
) -> Result<Outcome, CeremonyError> {
    let mut authority = begun(place, YET)?;
    let Document { name, description, urls, root: template, .. } = &new.document;
    let before = authority.roots().last().ok_or_else(|| broken("it names no root"))?;
    let (before_name, before_crl) = (before.name.to_owned(), before.crl_url.to_owned());
    let before_certificate =
        Certificate::parse_pem(before.certificate).map_err(|why| broken(&why.0))?;
    let record = before.key.ok_or_else(|| {
        refused("CHY-CA-ABSENT: the root key of this CA is on another box, and only that one can certify a new root")
    })?;
    refuse_name(name, &authority)?;
    if published_as(&urls.root_crl).is_some_and(|file| taken_files(&authority).contains(&file)) {
        return bad("urls.root-crl names a file that is published already");
    }
    let files = std::slice::from_ref(&new.key);
    place.refuse_keys(files, tokens)?;
    let role = if tokens.contains_key(FORMER) { FORMER } else { new.key.token.as_str() };
    let before_key = key_of("root", record, role, tokens)?;
    if before_key.public_key() != before_certificate.public_key() {
        return Err(broken("the root key is not the root certificate's"));
    }

    let now = place.clock.now();
    let (by_former, of_former) = new.crosses();
    let rehearsed = dressed(&by_former, &before_certificate, &before_crl, now)?;
    policy.check_within(&rehearsed).map_err(|why| {
        refused(&format!(
            "CHY-CONFIG-POLICY: the policy allows what [cross] does not permit: {why}"
        ))
    })?;
    let rehearsed = dressed(&of_former, &dressed_root(template, now)?, &urls.root_crl, now)?;
    if rehearsed.subject_der() != before_certificate.subject_der() {
        return bad(&format!(
            "[former] is not the name of the root before this one, {}",
            before_certificate.subject()
        ));
    }

    let keys = make_keys(name, files, tokens, place)?;
    let key = keys.get("root")?;
    let root = certify(place, now, template, key, None)?;
    let next = NextCrl { number: 1, days: new.document.root_crl_days, revoked: Vec::new() };
    let crl = sign_root_crl(&next, now, key, &root)?;
    let below =
        Subordinate { issuer: &before_certificate, key: key.public_key(), crl_url: &before_crl };
    let by_former = certify(place, now, &by_former, &before_key, Some(below))?;
    let below =
        Subordinate { issuer: &root, key: before_key.public_key(), crl_url: &urls.root_crl };
    let of_former = certify(place, now, &of_former, key, Some(below))?;

    let title = Title {
        ceremony: name,
        description,
        understood: serde_json::to_vec(&(&new.document, &new.key)).unwrap_or_default(),
        origin: &authority.origin,
        urls: Urls { root_crl: urls.root_crl.clone(), ..Urls::default() },
    };
    let mut transcript = Transcript::of(title, tokens, &keys, "add-root", now);
    for (what, certificate) in [
        (before_name.as_str(), &before_certificate),
        (name.as_str(), &root),
        (&format!("{name} by {before_name}"), &by_former),
        (&format!("{before_name} by {name}"), &of_former),
    ] {
        transcript.certificates.push(CertificateLine::of(what, certificate));
    }
    transcript.root_crl = Some(crl.line.clone());
    let sha256 = transcript.store(place)?;
    place.write(&place.crl_path(name), &crl.der)?;
    authority.further_roots.push(FurtherRoot {
        name: name.clone(),
        certificate: root.pem(),
        key: Some(keys.record("root")?),
        crl_url: urls.root_crl.clone(),
        by_former: by_former.pem(),
        of_former: of_former.pem(),
        transcript_sha256: hex(&sha256),
    });
    commit(place, &mut authority)?;
    place.end()?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// Notes that the root before this one is done with: devices have the new one, and no issuing CA is the former's.
pub fn finish(new: &NewRoot, place: &Place) -> Result<String, CeremonyError> {
    let mut authority = begun(place, YET)?;
    let name = &new.document.name;
    let roots: Vec<_> = authority.roots().collect();
    let at = roots.iter().position(|root| root.name == name);
    let former =
        at.and_then(|at| roots.get(at.checked_sub(1)?)).map(|former| former.name.to_owned());
    let former = former.ok_or_else(|| {
        refused(&format!("CHY-ROOT-FIRST: {name:?} took over from no root of this box"))
    })?;
    if let Some(issuing) = authority.issuers().find(|i| i.root == former && !i.done) {
        return Err(refused(&format!(
            "CHY-ROOT-BUSY: the issuing CA {:?} is of the root {former:?} and not done with",
            issuing.name
        )));
    }
    if authority.done.contains(&former) {
        return Ok("nothing was left to do".to_owned());
    }
    authority.done.push(former.clone());
    commit(place, &mut authority)?;
    Ok(format!(
        "{former:?} is done with; restart both processes: chains lead to {name:?} alone from then on"
    ))
}

/// The role of the token with the former root's key, where that is another.
pub(super) const FORMER: &str = "former";
