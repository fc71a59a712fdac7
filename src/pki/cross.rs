//! Cross-certificates: other ways from a leaf to something a device trusts already.

use super::certificate::{Certificate, NotACertificate};

/// Every certificate of a PEM text, in order.
pub fn parse_bundle(pem: &str) -> Result<Vec<Certificate>, NotACertificate> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END)
        .filter(|block| block.contains("-----BEGIN"))
        .map(Certificate::parse_pem)
        .collect()
}

/// What stands behind a leaf by way of a cross-certificate. `bundle` begins with it, and each of the certificates
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
    let stands_for = |own: &Certificate| {
        cross.subject_der() == own.subject_der()
            && cross.public_key() == own.public_key()
            && cross.der() != own.der()
    };
    if stands_for(issuing) {
        Ok(bundle)
    } else if stands_for(root) {
        Ok([vec![issuing.clone()], bundle].concat())
    } else {
        Err(format!(
            "{} is no cross-certificate: it has name and key of neither the issuing certificate nor the root, or is one \
             of these",
            cross.subject()
        ))
    }
}
