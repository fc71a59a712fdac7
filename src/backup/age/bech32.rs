//! Bech32 (BIP 173) as age uses it: no limit of 90 characters, otherwise to the letter.

const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// The human-readable part in lower case and the 32 octets; `None` for any other text.
pub(super) fn decode(text: &str) -> Option<(String, zeroize::Zeroizing<[u8; 32]>)> {
    let lower = text.to_ascii_lowercase();
    if text != lower && text != text.to_ascii_uppercase() {
        return None;
    }
    let (prefix, data) = lower.rsplit_once('1')?;
    // 32 octets are 52 digits, and six are the checksum.
    if prefix.is_empty() || prefix.len() > 32 || data.len() != 58 || !text.is_ascii() {
        return None;
    }
    let digits: Vec<u8> = data
        .bytes()
        .map(|c| CHARSET.iter().position(|known| *known == c).map(|n| n as u8))
        .collect::<Option<_>>()?;
    let digits = zeroize::Zeroizing::new(digits);
    if polymod(&[expand(prefix), digits.to_vec()].concat()) != 1 {
        return None;
    }
    let mut octets = zeroize::Zeroizing::new([0u8; 32]);
    let (mut bits, mut held, mut at) = (0u32, 0u32, 0);
    for digit in &digits[..52] {
        bits = bits << 5 | u32::from(*digit);
        held += 5;
        if held >= 8 {
            held -= 8;
            *octets.get_mut(at)? = (bits >> held) as u8;
            at += 1;
            bits &= (1 << held) - 1;
        }
    }
    // What is left over must be zeros.
    (at == 32 && bits == 0).then(|| (prefix.to_owned(), octets))
}

/// The text of 32 octets, in lower case.
pub(super) fn encode(prefix: &str, octets: &[u8; 32]) -> String {
    let mut digits = Vec::with_capacity(58);
    let (mut bits, mut held) = (0u32, 0u32);
    for octet in octets {
        bits = bits << 8 | u32::from(*octet);
        held += 8;
        while held >= 5 {
            held -= 5;
            digits.push((bits >> held & 31) as u8);
        }
        bits &= (1 << held) - 1;
    }
    digits.push((bits << (5 - held) & 31) as u8);
    let sum = polymod(&[expand(prefix), digits.clone(), vec![0; 6]].concat()) ^ 1;
    digits.extend((0..6).map(|n| (sum >> (5 * (5 - n)) & 31) as u8));
    let data = digits.iter().map(|digit| char::from(CHARSET[usize::from(*digit)]));
    format!("{prefix}1{}", data.collect::<String>())
}

fn expand(prefix: &str) -> Vec<u8> {
    let high = prefix.bytes().map(|c| c >> 5);
    high.chain([0]).chain(prefix.bytes().map(|c| c & 31)).collect()
}

fn polymod(values: &[u8]) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.iter().fold(1u32, |sum, value| {
        let top = sum >> 25;
        let shifted = (sum & 0x01ff_ffff) << 5 ^ u32::from(*value);
        let chosen = GENERATOR.iter().enumerate().filter(|(n, _)| top >> n & 1 == 1);
        chosen.fold(shifted, |sum, (_, generator)| sum ^ generator)
    })
}
