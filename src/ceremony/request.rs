//! The request that travels to the offline root: PKCS#10 (RFC 2986) with an empty subject and no attributes.
//! It says one thing: whoever sent it holds the issuing key. What the certificate says, the root's file decides.

use der::asn1::BitString;
use der::{Decode, Encode};
use spki::AlgorithmIdentifierOwned;
use x509_cert::request::{CertReq, CertReqInfo, Version};

use super::CeremonyError;
use crate::hsm::Signer;
use crate::pki::key::{PublicKey, SignatureAlgorithm};

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";
const MAX: usize = 16 * 1024;

/// A request for the key of `signer`, as PEM.
pub fn make(signer: &dyn Signer) -> Result<String, CeremonyError> {
    let bad = |why: der::Error| refused(&why.to_string());
    let spki =
        spki::SubjectPublicKeyInfoOwned::from_der(signer.public_key().spki()).map_err(bad)?;
    let info = CertReqInfo {
        version: Version::V1,
        subject: x509_cert::name::Name::default(),
        public_key: spki,
        attributes: Default::default(),
    };
    let message = info.to_der().map_err(bad)?;
    let signature = signer
        .sign(&message)
        .map_err(|why| CeremonyError::Unfinished(super::keys::sign_error(why)))?;
    let algorithm = signer.public_key().preferred_algorithm().identifier_der();
    let request = CertReq {
        info,
        algorithm: AlgorithmIdentifierOwned::from_der(algorithm).map_err(bad)?,
        signature: BitString::from_bytes(&signature).map_err(bad)?,
    };
    let der = request.to_der().map_err(bad)?;
    let mut text = format!("{BEGIN}\n");
    let encoded = <base64ct::Base64 as base64ct::Encoding>::encode_string(&der);
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    Ok(text)
}

/// The key that a request proves possession of.
pub fn parse(pem: &str) -> Result<PublicKey, CeremonyError> {
    if pem.len() > MAX {
        return Err(refused("it is longer than any request"));
    }
    let body = pem
        .trim()
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .ok_or_else(|| refused("it is not one PEM block CERTIFICATE REQUEST"))?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = <base64ct::Base64 as base64ct::Encoding>::decode_vec(&body)
        .map_err(|_| refused("it is not base64"))?;
    let bad = |why: der::Error| refused(&why.to_string());
    let request = CertReq::from_der(&der).map_err(bad)?;
    let key = PublicKey::from_spki(&request.info.public_key.to_der().map_err(bad)?)
        .map_err(|why| refused(why.0))?;
    key.check_strength().map_err(|why| refused(&format!("its key is weak: {why:?}")))?;
    let algorithm =
        SignatureAlgorithm::from_identifier_der(&request.algorithm.to_der().map_err(bad)?)
            .ok_or_else(|| refused("its signature algorithm is not known"))?;
    // Parsed and written again it must be what came in, or the signature was over something else.
    let message = request.info.to_der().map_err(bad)?;
    if request.to_der().map_err(bad)? != der {
        return Err(refused("it is not canonical DER"));
    }
    if !key.verify(algorithm, &message, request.signature.raw_bytes()) {
        return Err(refused("its signature does not verify under the key it names"));
    }
    Ok(key)
}

fn refused(why: &str) -> CeremonyError {
    CeremonyError::Refused(format!("CHY-CEREMONY-REQUEST: the certificate request: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::SignError;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    /// A key in memory; the token's turn is in tests/ceremony.rs.
    struct Soft(EcdsaKeyPair, PublicKey);

    impl Soft {
        fn new() -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
            let params = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
            let spki =
                crate::hsm::token::form::ec_spki(&params, pair.public_key().as_ref()).unwrap();
            let public = PublicKey::from_spki(&spki).unwrap();
            Self(pair, public)
        }
    }

    impl Signer for Soft {
        fn public_key(&self) -> &PublicKey {
            &self.1
        }
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
            Ok(self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
        }
    }

    #[test]
    fn a_request_proves_its_key_and_nothing_else_does() {
        let signer = Soft::new();
        let pem = make(&signer).unwrap();
        assert_eq!(parse(&pem).unwrap().spki(), signer.public_key().spki());
        let other = Soft::new();
        let forged = Soft(other.0, signer.1);
        let forged = make(&forged).unwrap();
        assert!(parse(&forged).unwrap_err().to_string().contains("does not verify"));
        for broken in ["", "x", &pem[..pem.len() / 2], &pem.replace('M', "!")] {
            assert!(parse(broken).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn foreign_text_never_panics(text: String) {
            let _ = parse(&text);
            let _ = parse(&format!("{BEGIN}\n{text}\n{END}\n"));
        }
    }
}
