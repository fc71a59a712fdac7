use proptest::prelude::*;

use super::*;
use crate::env::simulated::SeededRng;

/// `age-keygen`'s form of a secret.
fn identity(fill: u8) -> Identity {
    bech32::encode("age-secret-key-", &[fill; 32]).to_ascii_uppercase().parse().unwrap()
}

fn seal(plain: &[u8], to: &[Recipient]) -> Vec<u8> {
    let mut sealer = Sealer::new(Vec::new(), to, &SeededRng::new(7)).unwrap();
    sealer.write_all(plain).unwrap();
    sealer.finish().unwrap()
}

fn open(sealed: &[u8], with: &[Identity]) -> Result<Vec<u8>, String> {
    let mut opener = Opener::new(sealed, with).map_err(|why| why.to_string())?;
    let mut plain = Vec::new();
    opener.read_to_end(&mut plain).map_err(|why| why.to_string())?;
    Ok(plain)
}

/// RFC 7748 section 6.1: Alice's keys, in age's spelling.
#[test]
fn keys_read_and_write_as_age_keygen_writes_them() {
    let secret = [
        0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66,
        0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9,
        0x2c, 0x2a,
    ];
    let text = bech32::encode("age-secret-key-", &secret).to_ascii_uppercase();
    let identity = Identity::read(&format!("# created: today\n# public key: …\n{text}\n")).unwrap();
    assert_eq!(identity.public[..4], [0x85, 0x20, 0xf0, 0x09]);
    let recipient = identity.recipient();
    assert_eq!(recipient.to_string().parse::<Recipient>(), Ok(recipient.clone()));
    assert!(recipient.to_string().to_uppercase().parse::<Recipient>().is_err());
    assert!(!format!("{identity:?}").contains(&text));
    // An example of the specification's page.
    let known = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    assert_eq!(known.parse::<Recipient>().unwrap().to_string(), known);
    for n in 0..known.len() {
        let mut other = known.to_owned().into_bytes();
        other[n] = if other[n] == b'q' { b'p' } else { b'q' };
        assert!(String::from_utf8(other).unwrap().parse::<Recipient>().is_err(), "{n}");
    }
    assert!(Identity::read("# nothing\n").is_err());
}

#[test]
fn every_recipient_opens_it_and_nobody_else() {
    let [one, two, other] = [identity(1), identity(2), identity(3)];
    let plain = vec![9; 3 * CHUNK + 5];
    let sealed = seal(&plain, &[one.recipient(), two.recipient()]);
    for own in [one, two] {
        assert_eq!(open(&sealed, &[own]), Ok(plain.clone()));
    }
    assert!(matches!(Opener::new(&*sealed, &[other]), Err(AgeError::NotForUs)));
}

#[test]
fn chunks_end_where_the_format_has_them_end() {
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
        let sealed = seal(&vec![5; length], &[identity(1).recipient()]);
        let header = sealed.windows(4).position(|w| w == b"--- ").unwrap();
        let body = sealed.len() - header - 48 - 16;
        assert_eq!(body, length + TAG * length.div_ceil(CHUNK).max(1), "{length}");
        assert_eq!(open(&sealed, &[identity(1)]).unwrap().len(), length);
    }
}

#[test]
fn what_was_cut_is_not_taken_for_whole() {
    let sealed = seal(&vec![5; 2 * CHUNK], &[identity(1).recipient()]);
    for cut in [10, 100, 180, 200, CHUNK, sealed.len() - CHUNK - TAG, sealed.len() - 1] {
        assert!(open(&sealed[..cut], &[identity(1)]).is_err(), "{cut}");
    }
    assert!(open(&[&sealed[..], b"x"].concat(), &[identity(1)]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_changed_octet_is_seen(at: prop::sample::Index, bit in 0..8u8) {
        let plain = vec![7; 1000];
        let mut sealed = seal(&plain, &[identity(1).recipient()]);
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(open(&sealed, &[identity(1)]).is_err());
    }

    #[test]
    fn any_octets_are_no_archive(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = open(&octets, &[identity(1)]);
    }
}
