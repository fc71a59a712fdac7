//! The certificate of tls-alpn-01: as it comes, and with whatever the fuzzer made for its extensions.

use chancery::acme::challenge::alpn::AlpnCertificate;
use chancery::pki::name::Identifier;

const KEY_AUTHORIZATION: &str = "token.thumbprint";
/// SHA-256 of that, from openssl.
const DIGEST: [u8; 32] = [
    0xeb, 0x5a, 0xc1, 0x67, 0xfe, 0x24, 0x9c, 0x76, 0xe5, 0x3b, 0x43, 0x0d, 0xa3, 0x11, 0x6c, 0x5d,
    0x9f, 0xde, 0x4c, 0x55, 0x07, 0xba, 0x6d, 0x01, 0xe8, 0x85, 0x51, 0x6e, 0x1b, 0xd4, 0x9f, 0x92,
];

/// True if it could be read.
pub(crate) fn judge(data: &[u8]) -> bool {
    let Ok(certificate) = AlpnCertificate::parse(data) else { return false };
    let contains = |part: &[u8]| data.windows(part.len()).any(|window| window == part);
    let name = Identifier::parse("dns", "a.lan").unwrap();
    if certificate.judge(&name, KEY_AUTHORIZATION).is_ok() {
        assert!(contains(&DIGEST), "a digest that is not there was believed");
        let lower = data.to_ascii_lowercase();
        assert!(lower.windows(5).any(|window| window == b"a.lan"), "so was a name");
        // One certificate is the answer to one question.
        assert!(certificate.judge(&name, "token.other").is_err());
        let other = Identifier::parse("dns", "b.lan").unwrap();
        assert!(certificate.judge(&other, KEY_AUTHORIZATION).is_err());
    }
    true
}
