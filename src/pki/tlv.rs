//! DER written by hand, for the few structures whose bytes must be exactly so: the frame around a
//! signed body, CRLs, and the extensions that rcgen cannot express. Reading is x509-cert's part.

use std::ops::Range;

use der::{Decode, Reader, SliceReader, Tag, Tagged};

use crate::id::Timestamp;

pub(super) const BOOLEAN_TRUE: [u8; 3] = [0x01, 0x01, 0xff];
pub(super) const NULL: [u8; 2] = [0x05, 0x00];

/// id-ce-authorityKeyIdentifier 2.5.29.35, as a DER OBJECT IDENTIFIER.
pub(super) const OID_AUTHORITY_KEY_ID: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x23];
/// id-ce-cRLNumber 2.5.29.20.
pub(super) const OID_CRL_NUMBER: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x14];
/// id-ce-issuingDistributionPoint 2.5.29.28.
pub(super) const OID_ISSUING_DISTRIBUTION_POINT: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x1c];
/// id-ce-cRLReasons 2.5.29.21.
pub(super) const OID_REASON_CODE: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x15];
/// id-ad-caIssuers 1.3.6.1.5.5.7.48.2.
pub(super) const OID_CA_ISSUERS: [u8; 10] =
    [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];

/// The last second DER can name: 9999-12-31T23:59:59Z (RFC 5280 section 4.1.2.5).
pub(super) const LAST_SECOND: u64 = 253_402_300_799;

/// One element: the tag, the shortest length, the parts one after another.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut der = Vec::with_capacity(length + 6);
    der.push(tag);
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        der.push(short);
    } else {
        let octets = length.to_be_bytes();
        let octets = &octets[length.leading_zeros() as usize / 8..];
        // At most eight octets, so the sum fits.
        der.push(0x80 | octets.len() as u8);
        der.extend_from_slice(octets);
    }
    parts.iter().for_each(|part| der.extend_from_slice(part));
    der
}

/// A SEQUENCE (or SEQUENCE OF) of elements already encoded.
pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, parts)
}

/// An OCTET STRING.
pub(super) fn octet_string(content: &[u8]) -> Vec<u8> {
    element(0x04, &[content])
}

/// A BIT STRING of whole octets.
pub(super) fn bit_string(content: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], content])
}

/// A non-negative INTEGER.
pub(super) fn integer(value: u64) -> Vec<u8> {
    let octets = value.to_be_bytes();
    let significant = &octets[(value.leading_zeros() as usize / 8).min(7)..];
    // A set top bit would read as a negative number.
    let pad: &[u8] = if significant[0] & 0x80 == 0 { &[] } else { &[0] };
    element(0x02, &[pad, significant])
}

/// A Time: UTCTime through 2049, GeneralizedTime after (RFC 5280 section 4.1.2.5).
pub(super) fn time(at: Timestamp) -> Vec<u8> {
    let at = Timestamp::from_unix_seconds(at.unix_seconds().min(LAST_SECOND));
    let digits: String = at.to_string().chars().filter(char::is_ascii_digit).collect();
    match digits.strip_prefix("19").or_else(|| digits.strip_prefix("20")) {
        Some(short) if digits.as_str() < "2050" => element(0x17, &[short.as_bytes(), b"Z"]),
        _ => element(0x18, &[digits.as_bytes(), b"Z"]),
    }
}

/// An Extension; `critical` FALSE is the default and left out.
pub(super) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &BOOLEAN_TRUE } else { &[] };
    sequence(&[oid, critical, &octet_string(value)])
}

/// `SEQUENCE { body, algorithm, BIT STRING signature }`: what X.509 calls SIGNED.
pub(super) fn signed(body: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    sequence(&[body, algorithm, &bit_string(signature)])
}

/// Where the first element of a SIGNED structure stands: what its signature is over.
pub(super) fn signed_body(der: &[u8]) -> Option<Range<usize>> {
    let outer = der::asn1::AnyRef::from_der(der).ok()?;
    if outer.tag() != Tag::Sequence {
        return None;
    }
    let start = der.len() - outer.value().len();
    let body = SliceReader::new(outer.value()).ok()?.tlv_bytes().ok()?;
    Some(start..start + body.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use der::{Encode, asn1};
    use proptest::prelude::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (length, head) in [
            (0usize, vec![0x04, 0x00]),
            (127, vec![0x04, 0x7f]),
            (128, vec![0x04, 0x81, 0x80]),
            (255, vec![0x04, 0x81, 0xff]),
            (256, vec![0x04, 0x82, 0x01, 0x00]),
            (65_536, vec![0x04, 0x83, 0x01, 0x00, 0x00]),
        ] {
            let der = octet_string(&vec![7; length]);
            assert_eq!(der[..der.len() - length], head);
        }
    }

    #[test]
    fn times_change_their_form_with_2050() {
        for (seconds, tag, text) in [
            (0, 0x17, "700101000000Z"),
            (2_524_607_999, 0x17, "491231235959Z"),
            (2_524_608_000, 0x18, "20500101000000Z"),
            (u64::MAX / 1000, 0x18, "99991231235959Z"),
        ] {
            let der = time(Timestamp::from_unix_seconds(seconds));
            assert_eq!((der[0], &der[2..]), (tag, text.as_bytes()));
        }
    }

    #[test]
    fn a_signed_body_is_found_and_nothing_else_is() {
        let der = signed(&octet_string(b"body"), &[5, 0], b"signature");
        assert_eq!(signed_body(&der).map(|body| der[body].to_vec()), Some(octet_string(b"body")));
        assert_eq!(signed_body(&octet_string(&octet_string(b"body"))), None);
        assert_eq!(signed_body(&sequence(&[])), None);
        assert_eq!(signed_body(&[]), None);
    }

    proptest! {
        #[test]
        fn integers_are_what_another_encoder_writes(value: u64) {
            prop_assert_eq!(integer(value), value.to_der().unwrap());
        }

        #[test]
        fn octet_strings_read_back(content in proptest::collection::vec(any::<u8>(), 0..700)) {
            let der = octet_string(&content);
            let read = asn1::OctetString::from_der(&der).unwrap();
            prop_assert_eq!(read.as_bytes(), &content[..]);
        }
    }
}
