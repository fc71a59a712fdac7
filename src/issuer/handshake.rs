//! What the TLS key may be asked to sign: the two messages a TLS server signs, by their shape.
//!
//! The TLS key certifies nothing, so a foreign message under it would be worth little; the check keeps
//! it so. It cannot tell whose handshake it is: that is the web process's business.

/// Whether `message` is the content covered by a TLS 1.3 server's CertificateVerify (RFC 8446 section
/// 4.4.3) or by a TLS 1.2 ServerKeyExchange for ECDHE (RFC 8422 section 5.4).
pub(super) fn is_handshake(message: &[u8]) -> bool {
    is_certificate_verify(message) || is_server_key_exchange(message)
}

fn is_certificate_verify(message: &[u8]) -> bool {
    let Some((padding, rest)) = message.split_first_chunk::<64>() else {
        return false;
    };
    let hash = rest.strip_prefix(b"TLS 1.3, server CertificateVerify\0");
    padding.iter().all(|b| *b == b' ') && hash.is_some_and(|h| matches!(h.len(), 32 | 48))
}

fn is_server_key_exchange(message: &[u8]) -> bool {
    // Two randoms, then curve_type named_curve(3), the group, and the point with its length.
    let Some((_, params)) = message.split_first_chunk::<64>() else {
        return false;
    };
    let Some(([3, high, low, length], point)) = params.split_first_chunk::<4>() else {
        return false;
    };
    let uncompressed = point.first() == Some(&4);
    usize::from(*length) == point.len()
        && match u16::from_be_bytes([*high, *low]) {
            0x0017 => point.len() == 65 && uncompressed,
            0x0018 => point.len() == 97 && uncompressed,
            0x0019 => point.len() == 133 && uncompressed,
            0x001d => point.len() == 32,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(context: &[u8], hash: usize) -> Vec<u8> {
        [&[b' '; 64][..], context, &vec![7; hash]].concat()
    }

    fn exchange(group: u16, point: &[u8]) -> Vec<u8> {
        [&[9; 64][..], &[3], &group.to_be_bytes(), &[point.len() as u8], point].concat()
    }

    #[test]
    fn what_tls_servers_sign_is_signed() {
        assert!(is_handshake(&verify(b"TLS 1.3, server CertificateVerify\0", 32)));
        assert!(is_handshake(&verify(b"TLS 1.3, server CertificateVerify\0", 48)));
        assert!(is_handshake(&exchange(0x1d, &[1; 32])));
        assert!(is_handshake(&exchange(0x17, &[4; 65])));
        assert!(is_handshake(&exchange(0x18, &[4; 97])));
    }

    #[test]
    fn nothing_else_is() {
        assert!(!is_handshake(b""));
        assert!(!is_handshake(&verify(b"TLS 1.3, client CertificateVerify\0", 32)));
        assert!(!is_handshake(&verify(b"TLS 1.3, server CertificateVerify\0", 64)));
        assert!(!is_handshake(&verify(b"", 32)));
        let mut padding = verify(b"TLS 1.3, server CertificateVerify\0", 32);
        padding[5] = 0;
        assert!(!is_handshake(&padding));
        assert!(!is_handshake(&exchange(0x1d, &[1; 33])));
        assert!(!is_handshake(&exchange(0x17, &[2; 65])));
        assert!(!is_handshake(&exchange(0x100, &[1; 32])));
        let mut long = exchange(0x1d, &[1; 32]);
        long.push(0);
        assert!(!is_handshake(&long));
        // A TBSCertificate, a TBSCertList, a checkpoint.
        assert!(!is_handshake(&[&[0x30, 0x82, 1, 0, 0xa0, 3, 2, 1, 2][..], &[0; 251]].concat()));
        assert!(!is_handshake(&[&[0x30, 0x60, 2, 1, 1][..], &[0; 93]].concat()));
        assert!(!is_handshake(b"ca.lan/log\n12\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"));
    }
}
