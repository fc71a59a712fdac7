//! Cross-certificates: other ways from a leaf to something a device trusts already.

use super::authority::Root;
use super::certificate::{Certificate, NotACertificate};

/// A root, and how it is tied to the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tied {
    pub certificate: Certificate,
    /// For its name and key, by the root before it; and for name and key of the root before it, by it.
    pub ties: Option<(Certificate, Certificate)>,
    /// Devices need not trust it any more.
    pub done: bool,
}

impl Tied {
    /// Reads what a ceremony fixed of a root.
    pub fn read(root: &Root<'_>) -> Result<Self, String> {
        let parse = |what: &str, pem: &str| {
            Certificate::parse_pem(pem)
                .map_err(|why| format!("{what} of {} does not parse: {why}", root.name))
        };
        let certificate = parse("the certificate", root.certificate)?;
        if !certificate.is_ca() || !certificate.verify_issued_by(&certificate) {
            return Err(format!("the certificate of {} is no root's", root.name));
        }
        let ties = match root.cross {
            None => None,
            Some((by_former, of_former)) => {
                let by_former = parse("the cross-certificate", by_former)?;
                let of_former = parse("the former root's cross-certificate", of_former)?;
                if !is_for(&by_former, &certificate) || !of_former.verify_issued_by(&certificate) {
                    return Err(format!("the cross-certificates of {} are not its own", root.name));
                }
                Some((by_former, of_former))
            }
        };
        Ok(Self { certificate, ties, done: root.done })
    }
}

/// Whether `cross` has name and key of `own` without being it.
pub fn is_for(cross: &Certificate, own: &Certificate) -> bool {
    cross.subject_der() == own.subject_der()
        && cross.public_key() == own.public_key()
        && cross.der() != own.der()
}

/// What may stand behind a leaf of `issuing`: the usual way first, to a root that every device has, which while a new
/// root takes over is the former; then to the issuing certificate's own root without and with it; then to each newer
/// root. `roots` are all there were, oldest first.
pub fn ways(issuing: &Certificate, roots: &[&Tied]) -> Vec<Vec<Certificate>> {
    let own = roots.iter().position(|root| issuing.verify_issued_by(&root.certificate));
    let alone = vec![issuing.clone()];
    let Some(own) = own else { return vec![alone] };
    let mut ways = Vec::new();
    let mut back = alone.clone();
    for n in (1..=own).rev() {
        let (Some((by_former, _)), false) = (&roots[n].ties, roots[n - 1].done) else { break };
        back.push(by_former.clone());
    }
    if back.len() > 1 {
        ways.push(back);
    }
    ways.push(alone.clone());
    ways.push(vec![issuing.clone(), roots[own].certificate.clone()]);
    let mut forth = alone;
    for newer in &roots[own + 1..] {
        let Some((_, of_former)) = &newer.ties else { break };
        forth.push(of_former.clone());
        ways.push(forth.clone());
    }
    ways
}

/// Every certificate of a PEM text, in order.
pub fn parse_bundle(pem: &str) -> Result<Vec<Certificate>, NotACertificate> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END)
        // What people write between the blocks is theirs.
        .filter_map(|block| block.find("-----BEGIN").map(|begin| &block[begin..]))
        .map(Certificate::parse_pem)
        .collect()
}

/// What stands behind a leaf by way of a cross-certificate that came from outside. `bundle` begins with it, and each of the certificates
/// after it certifies the one before. It is for the name and key of the issuing certificate, in whose place it
/// stands, or for those of the root. `Err` says what does not fit.
pub fn chain(
    bundle: Vec<Certificate>,
    issuing: &Certificate,
    root: &Certificate,
) -> Result<Vec<Certificate>, String> {
    let Some(cross) = bundle.first() else {
        return Err("it holds no certificate".to_owned());
    };
    if !cross.is_ca() {
        return Err(format!("{} is not a CA", cross.subject()));
    }
    for pair in bundle.windows(2) {
        if !pair[0].verify_issued_by(&pair[1]) {
            let (below, above) = (pair[0].subject(), pair[1].subject());
            return Err(format!("{below} is not issued by {above}, which follows it"));
        }
    }
    if is_for(cross, issuing) {
        Ok(bundle)
    } else if is_for(cross, root) {
        Ok([vec![issuing.clone()], bundle].concat())
    } else {
        Err(format!(
            "{} is no cross-certificate: it has name and key of neither the issuing certificate nor the root, or is one \
             of these",
            cross.subject()
        ))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn ca(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    #[test]
    fn while_a_root_takes_over_there_is_a_way_to_either() {
        let parse = |made: &rcgen::Certificate| Certificate::parse(made.der()).unwrap();
        let keys = [(); 4].map(|()| KeyPair::generate().unwrap());
        let [old_key, new_key, old_issuing, new_issuing] = &keys;
        let (old_ca, new_ca) = (ca("Old"), ca("New"));
        let by_old = Issuer::from_params(&old_ca, old_key);
        let by_new = Issuer::from_params(&new_ca, new_key);
        let old = parse(&ca("Old").self_signed(old_key).unwrap());
        let new = parse(&ca("New").self_signed(new_key).unwrap());
        let new_by_old = parse(&ca("New").signed_by(new_key, &by_old).unwrap());
        let old_by_new = parse(&ca("Old").signed_by(old_key, &by_new).unwrap());
        let below_old = parse(&ca("Issuing").signed_by(old_issuing, &by_old).unwrap());
        let below_new = parse(&ca("Issuing 2").signed_by(new_issuing, &by_new).unwrap());
        let mut first = Tied { certificate: old.clone(), ties: None, done: false };
        let ties = Some((new_by_old.clone(), old_by_new.clone()));
        let second = Tied { certificate: new.clone(), ties, done: false };

        let alone = |issuing: &Certificate| vec![issuing.clone()];
        assert_eq!(
            ways(&below_old, &[&first]),
            [alone(&below_old), vec![below_old.clone(), old.clone()]]
        );
        assert_eq!(
            ways(&below_old, &[&first, &second]),
            [alone(&below_old), vec![below_old.clone(), old], vec![below_old, old_by_new]]
        );
        let with_new = vec![below_new.clone(), new];
        assert_eq!(
            ways(&below_new, &[&first, &second]),
            [vec![below_new.clone(), new_by_old], alone(&below_new), with_new.clone()]
        );
        first.done = true;
        assert_eq!(ways(&below_new, &[&first, &second]), [alone(&below_new), with_new]);
    }

    #[test]
    fn a_cross_certificate_has_name_and_key_of_ours_and_its_chain_behind_it() {
        let parse = |made: &rcgen::Certificate| Certificate::parse(made.der()).unwrap();
        let [root_key, issuing_key, other_key] = [(); 3].map(|()| KeyPair::generate().unwrap());
        let root = parse(&ca("Root").self_signed(&root_key).unwrap());
        let other = parse(&ca("Other").self_signed(&other_key).unwrap());
        let (root_params, other_params) = (ca("Root"), ca("Other"));
        let by_root = Issuer::from_params(&root_params, &root_key);
        let by_other = Issuer::from_params(&other_params, &other_key);
        let issuing = parse(&ca("Issuing").signed_by(&issuing_key, &by_root).unwrap());
        let issuing_cross = parse(&ca("Issuing").signed_by(&issuing_key, &by_other).unwrap());
        let root_cross = parse(&ca("Root").signed_by(&root_key, &by_other).unwrap());
        let renamed = parse(&ca("Elsewhere").signed_by(&issuing_key, &by_other).unwrap());
        let rekeyed = parse(&ca("Issuing").signed_by(&other_key, &by_root).unwrap());

        let chain_of = |bundle: &[&Certificate]| {
            let bundle = bundle.iter().map(|certificate| (*certificate).clone()).collect();
            let found = chain(bundle, &issuing, &root);
            found.map(|chain| chain.iter().map(|c| c.der().to_vec()).collect::<Vec<_>>())
        };
        let der = |chain: &[&Certificate]| -> Vec<Vec<u8>> {
            chain.iter().map(|c| c.der().to_vec()).collect()
        };
        assert_eq!(chain_of(&[&issuing_cross]), Ok(der(&[&issuing_cross])));
        assert_eq!(chain_of(&[&issuing_cross, &other]), Ok(der(&[&issuing_cross, &other])));
        assert_eq!(chain_of(&[&root_cross]), Ok(der(&[&issuing, &root_cross])));
        for (bundle, why) in [
            (&[][..], "no certificate"),
            (&[&renamed], "neither"),
            (&[&rekeyed], "neither"),
            (&[&issuing], "one of these"),
            (&[&root], "one of these"),
            (&[&issuing_cross, &root], "not issued by"),
        ] {
            assert!(chain_of(bundle).unwrap_err().contains(why), "{why}");
        }
        let text = issuing_cross.pem() + "\n# for the plant\n" + &other.pem();
        assert_eq!(parse_bundle(&text).unwrap().len(), 2);
        assert_eq!(parse_bundle("").unwrap().len(), 0);
        assert!(parse_bundle("-----BEGIN CERTIFICATE-----\nAA==\n").is_err());
    }
}
