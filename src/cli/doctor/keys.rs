//! A key's part of `doctor`: judged as at every start, its attributes, and how fast it signs.

use std::time::Duration;

use serde_json::json;

use super::token::Subject;
use super::{Level, Report};
use crate::env::Clock;
use crate::env::system::SystemClock;
use crate::hsm::inspect::{Inspected, Unwatched, Wanted, inspect};
use crate::hsm::pool::KeyPin;
use crate::hsm::token::{KeyAttributes, Session, TokenInfo};
use crate::pki::key::PublicKey;

/// Judges one key and has it sign.
pub(super) fn examine(
    session: &Session,
    token: &TokenInfo,
    pin: &KeyPin,
    subject: &Subject,
    signatures: u32,
    report: &mut Report<'_>,
) {
    let public = PublicKey::from_spki(&pin.spki).ok().and_then(|key| match pin.algorithm {
        Some(algorithm) => key.signing_with(algorithm),
        None => Some(key),
    });
    let (Some(public), Some(id)) = (public, &pin.uri.id) else {
        let text = format!("CHY-CA-BROKEN: ca/authority.json: the {} key makes no sense", pin.name);
        return report.fail("key", text);
    };
    let quirks = &subject.settings.quirks;
    let wanted = Wanted { name: &pin.name, id, public: &public, token, quirks };
    let found = match inspect(session, &wanted, &Unwatched) {
        Ok(found) => found,
        Err(error) => return report.fail("key", error.to_string()),
    };
    let budget = if subject.running { BESIDE_THE_ISSUER } else { ALONE };
    let pace = match measure(session, &found, &public, signatures, budget) {
        Ok(pace) => pace,
        Err(text) => return report.fail("key", format!("{text} (key {:?})", pin.name)),
    };
    let attributes = &found.attributes;
    let rate = f64::from(pace.count) / pace.whole.as_secs_f64().max(1e-9);
    let (median, slowest) = (pace.median.as_secs_f64() * 1e3, pace.slowest.as_secs_f64() * 1e3);
    let text = format!(
        "{}: {:?}, {}; {} trial signatures, {rate:.0}/s, median {median:.1} ms, slowest {slowest:.1} ms{}",
        pin.name,
        public.kind(),
        nature(attributes),
        pace.count,
        if subject.running { ", beside the running issuer" } else { "" },
    );
    let details = json!({
        "name": pin.name, "uri": pin.uri.to_string(), "kind": format!("{:?}", public.kind()),
        "algorithm": format!("{:?}", public.preferred_algorithm()), "attributes": attributes,
        "signatures": pace.count, "signatures-per-second": rate, "median-ms": median, "slowest-ms": slowest,
    });
    let deadline = Duration::from_secs(subject.settings.deadline_seconds);
    if pace.slowest > deadline / 2 {
        let text = format!(
            "CHY-TOKEN-SLOW: {text}; calls are taken for hung after {} s",
            deadline.as_secs()
        );
        return report.put("key", Level::Warn, text, Some(details));
    }
    report.put("key", Level::Ok, text, Some(details));
}

/// What an operator wants to know of the attributes, when `inspect` found nothing to refuse.
fn nature(attributes: &KeyAttributes) -> String {
    let mut words = vec!["sensitive", "not extractable"];
    if attributes.never_extractable == Some(true) && attributes.local == Some(true) {
        words[1] = "never extractable";
        words.push("made on this token");
    } else {
        words.push("a clone, as quirks.cloned allows");
    }
    if attributes.modifiable == Some(true) {
        words.push("label and id may be changed");
    }
    if attributes.decrypt == Some(true)
        || attributes.unwrap == Some(true)
        || attributes.derive == Some(true)
        || attributes.sign_recover == Some(true)
    {
        words.push("may do more than sign, as quirks.omit forgives");
    }
    words.join(", ")
}

struct Pace {
    count: u32,
    whole: Duration,
    median: Duration,
    slowest: Duration,
}

/// Signs up to `count` times, at least once, and not much longer than `budget`.
fn measure(
    session: &Session,
    key: &Inspected,
    public: &PublicKey,
    count: u32,
    budget: Duration,
) -> Result<Pace, String> {
    let (clock, algorithm) = (SystemClock::new(), public.preferred_algorithm());
    let began = clock.monotonic();
    let mut times = Vec::new();
    for number in 0..count.clamp(1, 10_000) {
        let message = format!("chancery doctor: trial signature {number}, worth nothing");
        let before = clock.monotonic();
        let signature = session
            .sign(key.handle, algorithm, message.as_bytes())
            .map_err(|error| error.to_string())?;
        let now = clock.monotonic();
        times.push(now.saturating_sub(before));
        if !public.verify(algorithm, message.as_bytes(), &signature) {
            return Err(format!(
                "CHY-KEY-MISMATCH: of {} trial signatures one does not verify: suspect the token, its firmware or this machine's memory",
                number + 1
            ));
        }
        if now.saturating_sub(began) > budget {
            break;
        }
    }
    let whole = times.iter().sum();
    times.sort_unstable();
    Ok(Pace {
        count: u32::try_from(times.len()).unwrap_or(u32::MAX),
        whole,
        median: times.get(times.len() / 2).copied().unwrap_or_default(),
        slowest: times.last().copied().unwrap_or_default(),
    })
}

const ALONE: Duration = Duration::from_secs(5);
/// Devices wait for the same token.
const BESIDE_THE_ISSUER: Duration = Duration::from_millis(500);
