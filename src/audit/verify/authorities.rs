//! Roots and issuing CAs as the records tell of them: which there are, which of them may issue, which are done with.

use std::sync::{Arc, PoisonError, RwLock};

use super::Evidence;
use crate::log::record::{AuthorityRetiredV1, CeremonyV1, IssuerAddedV1, RootAddedV1};
use crate::pki::authority::Authority;
use crate::pki::certificate::Certificate;
use crate::tlog::tree::{Hash, sha256};

/// The issuing certificates that signatures are verified under: those given, and those that the log adds.
pub(super) struct Issuers(RwLock<Vec<(Hash, Arc<Certificate>)>>);

impl Issuers {
    pub(super) fn given(evidence: &Evidence) -> Self {
        let given = evidence.issuers.iter();
        Self(RwLock::new(given.map(|own| (own.fingerprint(), Arc::new(own.clone()))).collect()))
    }

    pub(super) fn by(&self, fingerprint: &Hash) -> Option<Arc<Certificate>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(own, _)| own == fingerprint).map(|(_, issuer)| Arc::clone(issuer))
    }

    fn add(&self, fingerprint: Hash, certificate: Certificate) {
        if self.by(&fingerprint).is_none() {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            known.push((fingerprint, Arc::new(certificate)));
        }
    }
}

/// What is known at one place of the log.
#[derive(Default)]
pub(super) struct Authorities {
    roots: Vec<Root>,
    issuers: Vec<Issuer>,
}

struct Root {
    sha256: Hash,
    /// `None` where only its digest is known.
    certificate: Option<Certificate>,
}

struct Issuer {
    sha256: Hash,
    line: String,
    retired: bool,
}

impl Authorities {
    /// The ceremony's own.
    pub(super) fn begin(&mut self, ceremony: &CeremonyV1, evidence: &Evidence) {
        let given = |root: &&Certificate| root.fingerprint() == ceremony.root_sha256;
        let certificate = evidence.roots.iter().find(given).cloned();
        self.roots.push(Root { sha256: ceremony.root_sha256, certificate });
        self.issuers.push(Issuer {
            sha256: ceremony.issuing_sha256,
            line: Authority::FIRST_ISSUING.to_owned(),
            retired: false,
        });
    }

    /// A new root is certified by the one before it, and certifies that.
    pub(super) fn root_added(&mut self, r: &RootAddedV1) -> Result<(), String> {
        let parse = |what: &str, der: &[u8]| {
            Certificate::parse(der).map_err(|why| format!("{what} does not parse: {}", why.0))
        };
        let root = parse("the root certificate", &r.certificate)?;
        let by_former = parse("its certificate by the former root", &r.by_former)?;
        let of_former = parse("the former root's certificate by it", &r.of_former)?;
        if !root.is_ca() || !root.verify_issued_by(&root) {
            return Err("the root certificate is not a CA's that signed itself".into());
        }
        let same = |one: &Certificate, other: &Certificate| {
            one.subject_der() == other.subject_der() && one.public_key() == other.public_key()
        };
        let former = self.roots.last().filter(|former| former.sha256 == r.former_sha256);
        let former = former.ok_or("the root before it is another than it says")?;
        let signed = former
            .certificate
            .as_ref()
            .is_none_or(|former| by_former.verify_issued_by(former) && same(&of_former, former));
        if !signed || !same(&by_former, &root) || !of_former.verify_issued_by(&root) {
            return Err("the former root and the new one do not certify each other".into());
        }
        self.roots.push(Root { sha256: sha256(&r.certificate), certificate: Some(root) });
        Ok(())
    }

    /// A new issuing CA is certified by a root of this log, and takes over from the newest of its line.
    pub(super) fn issuer_added(
        &mut self,
        r: &IssuerAddedV1,
        issuers: &Issuers,
    ) -> Result<(), String> {
        let certificate = Certificate::parse(&r.certificate)
            .map_err(|why| format!("the issuing certificate does not parse: {}", why.0))?;
        let fingerprint = sha256(&r.certificate);
        let root = self.roots.iter().find(|root| root.sha256 == r.root_sha256);
        let root = root.ok_or("it names a root that the log does not know")?;
        let certified = root.certificate.as_ref().is_none_or(|r| certificate.verify_issued_by(r));
        if !certificate.is_ca() || !certified {
            return Err("the issuing certificate is not its root's".into());
        }
        if self.issuers.iter().any(|known| known.sha256 == fingerprint) {
            return Err("the issuing CA was there already".into());
        }
        let former = self.issuers.iter().rev().find(|known| known.line == r.line);
        if former.map(|former| former.sha256) != r.supersedes {
            return Err("the issuing CA before it in its line is another than it says".into());
        }
        let line = r.line.clone();
        self.issuers.push(Issuer { sha256: fingerprint, line, retired: false });
        issuers.add(fingerprint, certificate);
        Ok(())
    }

    pub(super) fn retired(&mut self, r: &AuthorityRetiredV1) -> Result<(), String> {
        if let Some(issuer) = self.issuers.iter_mut().find(|i| i.sha256 == r.certificate_sha256) {
            if issuer.retired {
                return Err("the issuing CA was retired already".into());
            }
            issuer.retired = true;
            return Ok(());
        }
        if self.roots.iter().any(|root| root.sha256 == r.certificate_sha256) {
            return Ok(());
        }
        Err("it retires what the log does not know".into())
    }

    /// Whether an issuing CA may have an intent here: of its line it is the newest.
    pub(super) fn intended(&self, issuer: &Hash) -> Result<(), String> {
        let Some(at) = self.issuers.iter().position(|known| known.sha256 == *issuer) else {
            // Said of it elsewhere, by who knows the certificates.
            return Ok(());
        };
        let (before, later) = self.issuers.split_at(at + 1);
        let superseded =
            before.last().is_some_and(|own| later.iter().any(|other| other.line == own.line));
        if superseded {
            return Err("the intent is of an issuing CA that another took over from".into());
        }
        self.signs(issuer)
    }

    /// Whether an issuing CA may sign here.
    pub(super) fn signs(&self, issuer: &Hash) -> Result<(), String> {
        if self.issuers.iter().any(|known| known.sha256 == *issuer && known.retired) {
            return Err("an issuing CA signed after it was retired".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer as Signer, KeyPair};

    use super::*;
    use crate::id::Timestamp;

    fn ca(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn signed(name: &str, key: &KeyPair, by: &str, signer: &KeyPair) -> Vec<u8> {
        let by = ca(by);
        let made = ca(name).signed_by(key, &Signer::from_params(&by, signer)).unwrap();
        made.der().to_vec()
    }

    struct Scene {
        keys: [KeyPair; 4],
        root: Vec<u8>,
        second_root: Vec<u8>,
        first: Vec<u8>,
        authorities: Authorities,
        issuers: Issuers,
    }

    fn scene(knows_root: bool) -> Scene {
        let keys = [(); 4].map(|()| KeyPair::generate().unwrap());
        let root = ca("Root").self_signed(&keys[0]).unwrap().der().to_vec();
        let second_root = ca("Root 2").self_signed(&keys[1]).unwrap().der().to_vec();
        let first = signed("Issuing", &keys[2], "Root", &keys[0]);
        let mut evidence =
            Evidence { issuers: vec![Certificate::parse(&first).unwrap()], ..Evidence::default() };
        if knows_root {
            evidence.roots.push(Certificate::parse(&root).unwrap());
        }
        let ceremony = CeremonyV1 {
            at: Timestamp(1),
            origin: "ca.lan/log".into(),
            root_sha256: sha256(&root),
            issuing_sha256: sha256(&first),
            log_key: Vec::new(),
            transcript_sha256: [0; 32],
        };
        let mut authorities = Authorities::default();
        authorities.begin(&ceremony, &evidence);
        let issuers = Issuers::given(&evidence);
        Scene { keys, root, second_root, first, authorities, issuers }
    }

    fn added(scene: &Scene, certificate: Vec<u8>) -> IssuerAddedV1 {
        IssuerAddedV1 {
            at: Timestamp(2),
            name: "issuing-2".into(),
            line: Authority::FIRST_ISSUING.into(),
            certificate,
            root_sha256: sha256(&scene.root),
            supersedes: Some(sha256(&scene.first)),
            crl: "http://ca.lan/issuing-2.crl".into(),
            transcript_sha256: [0; 32],
        }
    }

    #[test]
    fn a_successor_is_of_a_known_root_and_ends_the_intents_of_the_one_before() {
        let mut scene = scene(true);
        let certificate = signed("Issuing 2", &scene.keys[3], "Root", &scene.keys[0]);
        let (old, new) = (sha256(&scene.first), sha256(&certificate));
        let good = added(&scene, certificate);
        let forged = signed("Issuing 2", &scene.keys[3], "Root", &scene.keys[1]);
        for wrong in [
            added(&scene, forged),
            added(&scene, b"no certificate".to_vec()),
            added(&scene, scene.first.clone()),
            IssuerAddedV1 { root_sha256: [7; 32], ..good.clone() },
            IssuerAddedV1 { supersedes: None, ..good.clone() },
            IssuerAddedV1 { line: "other".into(), ..good.clone() },
        ] {
            assert!(scene.authorities.issuer_added(&wrong, &scene.issuers).is_err(), "{wrong:?}");
        }
        assert_eq!(scene.authorities.intended(&old), Ok(()));
        scene.authorities.issuer_added(&good, &scene.issuers).unwrap();
        assert!(scene.issuers.by(&new).is_some(), "its signatures are verified from here on");
        assert!(scene.authorities.intended(&old).is_err());
        assert_eq!(scene.authorities.signs(&old), Ok(()), "what it began it finishes");
        assert_eq!(scene.authorities.intended(&new), Ok(()));
        let end =
            |sha256| AuthorityRetiredV1 { at: Timestamp(3), certificate_sha256: sha256, by: None };
        assert!(scene.authorities.retired(&end([9; 32])).is_err());
        scene.authorities.retired(&end(old)).unwrap();
        assert!(scene.authorities.retired(&end(old)).is_err());
        assert!(scene.authorities.signs(&old).is_err());
    }

    #[test]
    fn a_new_root_and_the_one_before_certify_each_other() {
        for knows_root in [true, false] {
            let mut scene = scene(knows_root);
            let [old, new, ..] = &scene.keys;
            let good = RootAddedV1 {
                at: Timestamp(2),
                name: "root-2".into(),
                certificate: scene.second_root.clone(),
                former_sha256: sha256(&scene.root),
                by_former: signed("Root 2", new, "Root", old),
                of_former: signed("Root", old, "Root 2", new),
                transcript_sha256: [0; 32],
            };
            let forged = signed("Root 2", new, "Root", new);
            for wrong in [
                RootAddedV1 { former_sha256: [7; 32], ..good.clone() },
                RootAddedV1 { of_former: good.by_former.clone(), ..good.clone() },
                RootAddedV1 { by_former: good.of_former.clone(), ..good.clone() },
                RootAddedV1 { certificate: good.by_former.clone(), ..good.clone() },
            ] {
                assert!(scene.authorities.root_added(&wrong).is_err(), "{wrong:?}");
            }
            let not_endorsed = RootAddedV1 { by_former: forged, ..good.clone() };
            assert_eq!(scene.authorities.root_added(&not_endorsed).is_err(), knows_root);
            if knows_root {
                scene.authorities.root_added(&good).unwrap();
            }
        }
    }
}
