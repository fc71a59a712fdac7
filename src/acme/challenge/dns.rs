//! What dns-01 and dns-account-01 ask for: names of TXT records, and what one of them must say.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64ct::{Base64UrlUnpadded, Encoding};

use crate::pki::name::DnsName;

/// Where dns-01 looks (RFC 8555 section 8.4). A wildcard is proven at its base.
pub fn dns_01_name(domain: &DnsName) -> String {
    format!("_acme-challenge.{}", domain.base())
}

/// Where dns-account-01 looks (draft-ietf-acme-dns-account-label-03): beside the records of other accounts.
pub fn dns_account_01_name(domain: &DnsName, account_url: &str) -> String {
    format!("{}._acme-challenge.{}", account_label(account_url), domain.base())
}

/// `_` and the first ten octets of the account URL's SHA-256 in base32.
pub fn account_label(account_url: &str) -> String {
    let hash = digest(&SHA256, account_url.as_bytes());
    let mut label = String::from("_");
    // Each five octets are eight characters, and there is nothing left over.
    for group in hash.as_ref()[..10].chunks(5) {
        let bits = group.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
        for at in (0..8).rev() {
            let index = (bits >> (at * 5)) & 31;
            label.push(char::from(BASE32[index as usize]));
        }
    }
    label
}

/// What one of the records must be: base64url of the key authorization's SHA-256.
pub fn txt_value(key_authorization: &str) -> String {
    Base64UrlUnpadded::encode_string(digest(&SHA256, key_authorization.as_bytes()).as_ref())
}

/// Whether one of several records, each with its character-strings joined, is what was asked for.
pub fn any_matches(records: &[Vec<u8>], key_authorization: &str) -> bool {
    let due = txt_value(key_authorization);
    // All are compared: how long it takes says nothing about which it was.
    records
        .iter()
        .map(|record| verify_slices_are_equal(record, due.as_bytes()).is_ok())
        .fold(false, |any, equal| any | equal)
}

/// RFC 4648 section 6, in lower case as names are.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_records() {
        let name = |text| DnsName::parse(text).unwrap();
        assert_eq!(dns_01_name(&name("a.lan")), "_acme-challenge.a.lan");
        assert_eq!(dns_01_name(&name("*.a.lan")), "_acme-challenge.a.lan");
        // The vector of the draft.
        let account = "https://example.com/acme/acct/ExampleAccount";
        assert_eq!(
            dns_account_01_name(&name("*.example.org"), account),
            "_ujmmovf2vn55tgye._acme-challenge.example.org"
        );
    }

    #[test]
    fn one_of_several_records_is_enough() {
        let key_authorization = "token.thumbprint";
        // Said by openssl dgst.
        assert_eq!(txt_value(key_authorization), "61rBZ_4knHblO0MNoxFsXZ_eTFUHum0B6IVRbhvUn5I");
        let right = txt_value(key_authorization).into_bytes();
        let other = txt_value("another.thumbprint").into_bytes();
        assert!(any_matches(&[other.clone(), right.clone()], key_authorization));
        assert!(any_matches(&[right.clone(), other.clone()], key_authorization));
        assert!(!any_matches(std::slice::from_ref(&other), key_authorization));
        assert!(!any_matches(&[], key_authorization));
        let spaced = [right, b" ".to_vec()].concat();
        assert!(!any_matches(&[spaced], key_authorization), "a record is what it is");
    }
}
