//! Instants as RFC 8555 objects carry them (RFC 3339 section 5.6). `Timestamp` prints them.

use crate::id::Timestamp;

/// Parses a `date-time`: `T` and `Z` in upper case or an offset, fractions of a second cut after
/// the millisecond, no leap second, nothing before 1970. `None` for any other text.
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() > MAX || bytes.len() < 20 {
        return None;
    }
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| bytes[*at] != *separator) {
        return None;
    }
    let year = number(&bytes[0..4])?;
    let month = number(&bytes[5..7])?;
    let day = number(&bytes[8..10])?;
    let hour = number(&bytes[11..13])?;
    let minute = number(&bytes[14..16])?;
    let second = number(&bytes[17..19])?;
    if !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (milliseconds, rest) = fraction(&bytes[19..])?;
    let offset = offset_seconds(rest)?;
    let seconds =
        i64::from(days_since_epoch(year, month, day)) * 86_400 + hour * 3600 + minute * 60 + second
            - offset;
    let seconds = u64::try_from(seconds).ok()?;
    Some(Timestamp(seconds * 1000 + milliseconds))
}

/// More characters than any sensible instant has.
const MAX: usize = 40;

/// Decimal digits only.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Civil date to days, proleptic Gregorian, counted from 0000-03-01 in years that end in February.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let shifted_month = (month + 9) % 12;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * shifted_month + 2) / 5
        + day
        - 1;
    // Four-digit years keep this within a few million days.
    i32::try_from(days - 719_468).unwrap_or(i32::MIN)
}

/// The milliseconds of an optional fraction, and what follows it.
fn fraction(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let Some(digits) = bytes.strip_prefix(b".") else {
        return Some((0, bytes));
    };
    let length = digits.iter().take_while(|digit| digit.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let (digits, rest) = digits.split_at(length);
    let milliseconds = (0..3).fold(0, |sum, place| {
        sum * 10 + digits.get(place).map_or(0, |digit| u64::from(digit - b'0'))
    });
    Some((milliseconds, rest))
}

/// `Z` or `±hh:mm`, as seconds east of Greenwich.
fn offset_seconds(bytes: &[u8]) -> Option<i64> {
    match bytes {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            Some(if *sign == b'+' { seconds } else { -seconds })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn instants() {
        for (text, milliseconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696_000),
            ("2026-11-21T23:59:59.999999Z", 1_795_305_599_999),
            ("2026-11-22T01:29:59.5+01:30", 1_795_305_599_500),
            ("2026-11-21T23:59:59-00:00", 1_795_305_599_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ] {
            assert_eq!(parse(text), Some(Timestamp(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_instant() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T23:59:59",
            "2026-11-21t23:59:59z",
            "2026-11-21 23:59:59Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2016-12-31T23:59:60Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00ZZ",
            "+026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "2026-01-01T00:00:00.0000000000000000000000000000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_timestamps_print(seconds in 0..253_402_300_800u64) {
            let instant = Timestamp::from_unix_seconds(seconds);
            prop_assert_eq!(parse(&instant.to_string()), Some(instant));
        }

        #[test]
        fn never_panics(text in ".{0,45}") {
            let _ = parse(&text);
        }
    }
}
