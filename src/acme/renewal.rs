//! When a certificate should be renewed (RFC 9773): computed from its dates, unless it was revoked or its
//! operator wants it replaced.

use std::time::Duration;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::json;
use crate::id::{AccountId, Serial, Timestamp};
use crate::pki::name::Identifier;

/// What is known of a certificate that was issued for an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Certified {
    pub account: AccountId,
    pub identifiers: Vec<Identifier>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub revoked: Option<Timestamp>,
    /// The window the operator set for it.
    pub recall: Option<Window>,
}

/// When to renew, and where a person can read why then. It ends after it begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
    pub explanation: Option<String>,
}

impl Certified {
    /// The suggested window. Without cause it lies around two thirds of the lifetime (half, below ten days),
    /// for each certificate at another place and always at the same: devices that enrolled together do not
    /// renew together. Revoked: an hour before that. Recalled: as the operator said, unless its own is earlier.
    pub fn window(&self, serial: Serial) -> Window {
        let usual = usual(self.not_before, self.not_after, serial);
        if let Some(at) = self.revoked {
            return Window { start: at.minus(HOUR), end: at, explanation: None };
        }
        match &self.recall {
            Some(recall) if recall.start < usual.start => recall.clone(),
            _ => usual,
        }
    }
}

impl Window {
    /// The renewal information object (RFC 9773 section 4.2).
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct RenewalInfo<'a> {
            suggested_window: Suggested,
            #[serde(rename = "explanationURL", skip_serializing_if = "Option::is_none")]
            explanation: Option<&'a str>,
        }
        #[derive(Serialize)]
        struct Suggested {
            start: String,
            end: String,
        }

        json::text(&RenewalInfo {
            suggested_window: Suggested {
                start: self.start.to_string(),
                end: self.end.to_string(),
            },
            explanation: self.explanation.as_deref(),
        })
    }
}

/// The window by lifetime alone. All divisions are of whole milliseconds: the same for ever.
fn usual(not_before: Timestamp, not_after: Timestamp, serial: Serial) -> Window {
    let life = not_after.since(not_before);
    let (from, width) =
        if life >= SHORT { (life * 2 / 3, life / 24) } else { (life / 2, life / 12) };
    // A certificate has whole seconds; one of a few seconds still gets a window with an inside.
    let width = width.max(Duration::from_secs(1));
    let spread = Duration::from_millis(jitter(serial) % millis(life / 24).max(1));
    let start = not_before.plus(from.saturating_sub(spread));
    Window { start, end: start.plus(width), explanation: None }
}

/// A number that follows from the serial and from nothing else.
fn jitter(serial: Serial) -> u64 {
    let hash = digest::digest(&digest::SHA256, serial.octets());
    hash.as_ref().iter().take(7).fold(0, |sum, octet| sum << 8 | u64::from(*octet))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const HOUR: Duration = Duration::from_secs(3600);
/// Below it a certificate is short-lived, and renewed at half its life.
const SHORT: Duration = Duration::from_secs(10 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const FROM: Timestamp = Timestamp(1_795_305_599_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn certified(days: u32) -> Certified {
        Certified {
            account: AccountId([1; 16]),
            identifiers: Vec::new(),
            not_before: FROM,
            not_after: FROM.plus(days * DAY),
            revoked: None,
            recall: None,
        }
    }

    fn serial(seed: u8) -> Serial {
        Serial::from_random([seed; 16])
    }

    #[test]
    fn ninety_days_are_renewed_about_two_thirds_in() {
        let windows: Vec<Window> = (0..=u8::MAX).map(|n| certified(90).window(serial(n))).collect();
        for window in &windows {
            assert!(window.start > FROM.plus(56 * DAY) && window.start <= FROM.plus(60 * DAY));
            assert_eq!(window.end.since(window.start), 90 * DAY / 24);
        }
        let mut starts: Vec<Timestamp> = windows.iter().map(|window| window.start).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), 256, "each at another place");
        assert!(starts[255].since(starts[0]) > 3 * DAY, "spread over a twenty-fourth of the life");
        assert_eq!(certified(90).window(serial(7)), certified(90).window(serial(7)));
    }

    #[test]
    fn six_days_are_renewed_about_half_in() {
        let window = certified(6).window(serial(7));
        assert!(window.start > FROM.plus(2 * DAY) && window.start <= FROM.plus(3 * DAY));
        assert_eq!(window.end.since(window.start), DAY / 2);
    }

    #[test]
    fn a_revoked_one_is_renewed_at_once_and_a_recalled_one_when_the_operator_says() {
        let at = FROM.plus(DAY);
        let revoked = Certified { revoked: Some(at), ..certified(90) };
        let window = revoked.window(serial(1));
        assert_eq!((window.start, window.end), (at.minus(HOUR), at));
        let recall = Window {
            start: FROM.plus(2 * DAY),
            end: FROM.plus(3 * DAY),
            explanation: Some("https://ca.lan/why".into()),
        };
        let recalled = Certified { recall: Some(recall.clone()), ..certified(90) };
        assert_eq!(recalled.window(serial(1)), recall);
        let both = Certified { revoked: Some(at), ..recalled };
        assert_eq!(both.window(serial(1)), window);
        // Not postponed: six days are over before the operator's window begins.
        let late = Window { start: FROM.plus(5 * DAY), end: FROM.plus(9 * DAY), explanation: None };
        let short = Certified { recall: Some(late), ..certified(6) };
        assert_eq!(short.window(serial(1)), certified(6).window(serial(1)));
    }

    #[test]
    fn a_renewal_information_object() {
        let mut window = Window { start: FROM, end: FROM.plus(DAY), explanation: None };
        let object =
            |window: &Window| -> Value { serde_json::from_str(&window.to_json()).unwrap() };
        let suggested = json!({"start": "2026-11-21T23:59:59Z", "end": "2026-11-22T23:59:59Z"});
        assert_eq!(object(&window), json!({ "suggestedWindow": suggested }));
        window.explanation = Some("https://ca.lan/why".into());
        let explained =
            json!({ "suggestedWindow": suggested, "explanationURL": "https://ca.lan/why" });
        assert_eq!(object(&window), explained);
    }

    proptest! {
        #[test]
        fn a_window_lies_within_the_life_and_has_an_inside(
            octets in any::<[u8; 16]>(), seconds in 60..400_000_000u64,
        ) {
            let not_after = FROM.plus(Duration::from_secs(seconds));
            let certified = Certified { not_after, ..certified(0) };
            let window = certified.window(Serial::from_random(octets));
            prop_assert!(window.start > FROM);
            prop_assert!(window.end > window.start);
            prop_assert!(window.end < not_after);
        }
    }
}
