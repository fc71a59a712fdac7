//! The nouns every room shares: identifiers, serial numbers, positions and instants.
//!
//! Nothing here decides anything. A value of one of these types is well formed; whether it
//! exists is for a store or a log to say.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};

/// A random 128-bit name, printed as 22 characters of unpadded base64url.
///
/// Resource URLs are made of these, so they are unguessable (RFC 8555 section 10.1... 10.5).
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0u8; 22];
                let text = Base64UrlUnpadded::encode(&self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Accepts exactly what `Display` prints: one spelling per id.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let mut bytes = [0u8; 16];
                if text.len() != 22 {
                    return Err(NotAnId);
                }
                match Base64UrlUnpadded::decode(text, &mut bytes) {
                    Ok(decoded) if decoded.len() == 16 => Ok(Self(bytes)),
                    _ => Err(NotAnId),
                }
            }
        }
    };
}

random_id!(/// An ACME account (RFC 8555 section 7.1.2). Chosen by the issuer at registration.
    AccountId);
random_id!(/// An ACME order (RFC 8555 section 7.1.3); also the idempotency key of its issuance.
    OrderId);
random_id!(/// An ACME authorization (RFC 8555 section 7.1.4).
    AuthzId);
random_id!(/// One challenge of an authorization (RFC 8555 section 7.1.5).
    ChallengeId);

/// The text is not the canonical spelling of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an identifier of this server")
    }
}

impl std::error::Error for NotAnId {}

/// A certificate serial number: 16 octets, the first in `0x40..=0x7f`, the rest random.
///
/// The fixed top bits make it positive and give it one DER length; 126 random bits remain
/// (RFC 5280 section 4.1.2.2 asks for at most 20 octets, CA/Browser practice for at least 64 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Makes a serial from 16 random octets by fixing the two top bits.
    pub fn from_random(mut octets: [u8; 16]) -> Self {
        octets[0] = (octets[0] & 0x3f) | 0x40;
        Self(octets)
    }

    /// The content octets of the DER INTEGER. `None` if this server cannot have chosen them.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let octets: [u8; 16] = octets.try_into().ok()?;
        (octets[0] & 0xc0 == 0x40).then_some(Self(octets))
    }

    /// The content octets of the DER INTEGER, most significant first.
    pub fn octets(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = NotAnId;

    /// Accepts 32 hexadecimal digits in either case, colons between octets allowed, as OpenSSL prints them.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
        if digits.len() != 32 {
            return Err(NotAnId);
        }
        let mut octets = [0u8; 16];
        for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).ok_or(NotAnId);
            *octet = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Self::from_octets(&octets).ok_or(NotAnId)
    }
}

/// The position of a record in the log: the index of its leaf in the RFC 6962 tree, from 0.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct LeafIndex(pub u64);

impl fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An instant of the wall clock: milliseconds since 1970-01-01T00:00:00Z, leap seconds ignored.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Whole seconds since the epoch, rounded down.
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The instant `seconds` after the epoch.
    pub fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// This instant moved forward, stopping at the end of the representable range.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This instant moved back, stopping at the epoch.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time since `earlier`, zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with whole seconds, as RFC 8555 objects carry it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.unix_seconds();
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Civil date from days, proleptic Gregorian, counted in 400-year eras from 0000-03-01.
        let z = days + 719_468;
        let era = z / 146_097;
        let day_of_era = z % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            rest / 3600,
            rest / 60 % 60,
            rest % 60
        )
    }
}

/// Octets as lower-case hexadecimal digits.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The octets of an even number of hexadecimal digits, of either case.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = text.chars().map(digit).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = OrderId([7; 16]);
        assert_eq!(id.to_string().parse::<OrderId>(), Ok(id));
        assert_eq!(format!("{id}=").parse::<OrderId>(), Err(NotAnId));
        // 22 characters carry 132 bits; the four spare ones must be zero.
        let mut text = id.to_string();
        text.pop();
        text.push('x');
        assert_eq!(text.parse::<OrderId>(), Err(NotAnId));
    }

    #[test]
    fn serials_are_positive_and_of_one_length() {
        for first in 0..=255u8 {
            let mut octets = [0xffu8; 16];
            octets[0] = first;
            let serial = Serial::from_random(octets);
            assert!((0x40..=0x7f).contains(&serial.octets()[0]));
            assert_eq!(serial.to_string().parse::<Serial>(), Ok(serial));
        }
        assert!(Serial::from_octets(&[0x80; 16]).is_none());
        assert!(Serial::from_octets(&[0x41; 15]).is_none());
    }

    #[test]
    fn hexadecimal_is_read_in_either_case_and_by_pairs() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(unhex("009FfF"), Some(vec![0, 0x9f, 0xff]));
        assert_eq!(unhex(""), Some(Vec::new()));
        for bad in ["0", "0g", "+1", " 1", "\u{661}1"] {
            assert_eq!(unhex(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn timestamps_print_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_795_305_599, "2026-11-21T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp::from_unix_seconds(seconds).to_string(), text);
        }
    }
}
