//! Whose token it is: a number that only rises, and the box that raised it, in a data object on the token.
//!
//! A box has the same pair in a file of its own. A restore raises the number on the token and gives the new pair to the
//! box that was restored: from then on every other box that has the same keys finds a greater number than its own, and
//! signs nothing more. It is looked at after every login and every half minute, so a box that was left running is stopped
//! too. It keeps apart boxes that are honest and mistaken; whoever has the PIN can write what they like.
//!
//! ```text
//! CKA_CLASS CKO_DATA   CKA_TOKEN true   CKA_PRIVATE true   CKA_APPLICATION "chancery"
//! CKA_LABEL "chancery epoch <the first 16 digits of the CA>"
//! CKA_VALUE "chancery epoch v1\n<CA, 64 hexadecimal digits>\n<number>\n<box, 32 hexadecimal digits>\n"
//! ```
//!
//! The CA is named by the SHA-256 of its first ceremony's transcript: a token may hold the keys of several.
//!
//! An object is never changed: a greater one is made, then the others are removed. Of several the greatest counts.

use std::fmt;

use super::inspect::Calls;
use super::token::{Remedy, Session, TokenError};
use crate::id::{hex, unhex};

/// A number, and the box whose it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Epoch {
    pub number: u64,
    /// Random, new with every restore.
    pub holder: [u8; 16],
}

/// What the box holds against the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fence {
    /// Which CA: a token may hold the keys of several.
    pub ca: [u8; 32],
    /// The box's own.
    pub own: Epoch,
    /// Whether the token once held it: then it must hold it still.
    pub held: bool,
}

/// How a token stands to the box's own epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It holds just that.
    Own,
    /// It holds none, and the box never gave it one.
    Unclaimed,
    /// It holds a lesser one: it is a copy from before.
    Behind,
}

/// What a token does with the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    Yes,
    /// It takes no data objects: it fences nobody.
    Cannot,
}

impl Fence {
    /// Judges what the token holds. An error is for an operator: this box must not sign.
    pub fn judge(&self, found: &[Epoch]) -> Result<Standing, TokenError> {
        let own = self.own;
        match found.iter().max() {
            None if self.held => Err(refusal(
                "CHY-EPOCH-MISSING",
                format!(
                    "this box is at {own}, and the token holds no epoch any more: it was removed, or the token was put back to an earlier state. Find out which box has the right to sign; on that one: chancery backup take-token --yes"
                ),
            )),
            None => Ok(Standing::Unclaimed),
            Some(newest) if newest.number > own.number => Err(refusal(
                "CHY-EPOCH-FENCED",
                format!(
                    "the token is at {newest}, this box at {own}: the CA was restored on another box, which signs now, and this one must not. Switch this box off. Only if that restore was a mistake, and the other box is off and stays so: chancery backup take-token --yes"
                ),
            )),
            Some(newest) if newest.number == own.number && newest.holder != own.holder => {
                Err(refusal(
                    "CHY-EPOCH-FENCED",
                    format!(
                        "the token is at {newest}, this box at {own}: two boxes took the token at the same time. Decide which of them goes on; on that one: chancery backup take-token --yes"
                    ),
                ))
            }
            Some(newest) if *newest == own => Ok(Standing::Own),
            Some(_) => Ok(Standing::Behind),
        }
    }
}

/// The box's own epoch, and what it remembers of the token.
pub trait Fencing: Send + Sync {
    fn fence(&self) -> Fence;
    /// The token holds the box's own epoch, or cannot. Called after each look that does not refuse.
    fn found(&self, held: Held);
}

/// CKA_LABEL of a CA's objects.
pub fn label(ca: &[u8; 32]) -> String {
    format!("chancery epoch {}", hex(&ca[..8]))
}

/// The value of the object.
pub fn encode(ca: &[u8; 32], epoch: Epoch) -> Vec<u8> {
    format!("{HEADING}\n{}\n{}\n{}\n", hex(ca), epoch.number, hex(&epoch.holder)).into_bytes()
}

/// Reads a value back; `None` for any other spelling, or another CA's.
pub fn decode(ca: &[u8; 32], value: &[u8]) -> Option<Epoch> {
    let text = std::str::from_utf8(value).ok()?;
    let mut lines = text.split('\n');
    let (heading, of, number, holder) =
        (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    if heading != HEADING || of != hex(ca) {
        return None;
    }
    let holder = unhex(holder)?.try_into().ok()?;
    let epoch = Epoch { number: number.parse().ok()?, holder };
    // One spelling only, and nothing behind it.
    (encode(ca, epoch) == value).then_some(epoch)
}

/// The epochs of a CA that the token holds; the session must be logged in, or none are seen.
pub fn read(
    session: &Session,
    ca: &[u8; 32],
    calls: &impl Calls,
) -> Result<Vec<Epoch>, TokenError> {
    let values = calls.call("C_FindObjects", || session.data(&label(ca)))?;
    let mut found = Vec::new();
    for value in values {
        let epoch = decode(ca, &value).ok_or_else(|| {
            refusal(
                "CHY-EPOCH-UNREADABLE",
                format!(
                    "the token holds an object labelled {:?} that does not read as an epoch; a later version may have written it, or somebody changed it. Find out, then remove it with the token's own tool",
                    label(ca)
                ),
            )
        })?;
        found.push(epoch);
    }
    Ok(found)
}

/// Looks at the token, and makes the epoch its own where it has none or an earlier one of this box's. `write` opens a
/// writing session. An error is for an operator, or says that the token is away.
pub fn keep(
    session: &Session,
    fence: &Fence,
    write: impl FnOnce() -> Result<Session, TokenError>,
    calls: &impl Calls,
) -> Result<Held, TokenError> {
    if fence.judge(&read(session, &fence.ca, calls)?)? == Standing::Own {
        return Ok(Held::Yes);
    }
    let writing = match write() {
        // A token that is write-protected.
        Err(error) if error.remedy == Remedy::Operator => return Ok(Held::Cannot),
        other => other?,
    };
    let held = self::write(&writing, &fence.ca, fence.own, calls);
    calls.call("C_CloseSession", || writing.close());
    held
}

/// Makes `epoch` the token's; the session must be a writing one. Stopped at any point, it can be done again. That
/// the token takes no such objects is no error.
pub fn write(
    session: &Session,
    ca: &[u8; 32],
    epoch: Epoch,
    calls: &impl Calls,
) -> Result<Held, TokenError> {
    if !read(session, ca, calls)?.contains(&epoch) {
        let value = encode(ca, epoch);
        let made = calls.call("C_CreateObject", || session.create_data(&label(ca), &value));
        match made {
            Err(error) if error.remedy == Remedy::Operator => {
                tracing::warn!(%error, "the token takes no epoch object");
                return Ok(Held::Cannot);
            }
            other => other?,
        }
    }
    // What is not there when it is read back does not count, whatever was said to the call.
    if !read(session, ca, calls)?.contains(&epoch) {
        return Ok(Held::Cannot);
    }
    calls.call("C_DestroyObject", || {
        session
            .destroy_data(&label(ca), &|value| decode(ca, value).is_some_and(|other| other < epoch))
    })?;
    Ok(Held::Yes)
}

fn refusal(code: &'static str, message: String) -> TokenError {
    TokenError::new(Remedy::Operator, code, message)
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of box {}", self.number, hex(&self.holder[..4]))
    }
}

const HEADING: &str = "chancery epoch v1";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CA: [u8; 32] = [7; 32];

    fn epoch(number: u64, holder: u8) -> Epoch {
        Epoch { number, holder: [holder; 16] }
    }

    fn judged(own: Epoch, held: bool, found: &[Epoch]) -> Result<Standing, &'static str> {
        Fence { ca: CA, own, held }.judge(found).map_err(|error| error.code)
    }

    #[test]
    fn only_the_newest_box_signs() {
        let own = epoch(3, 1);
        assert_eq!(judged(own, true, &[own]), Ok(Standing::Own));
        assert_eq!(judged(own, false, &[]), Ok(Standing::Unclaimed));
        assert_eq!(judged(own, true, &[]), Err("CHY-EPOCH-MISSING"));
        assert_eq!(judged(own, true, &[epoch(4, 2)]), Err("CHY-EPOCH-FENCED"));
        // Left behind by a stop between making the one and removing the other.
        assert_eq!(judged(own, true, &[own, epoch(4, 2)]), Err("CHY-EPOCH-FENCED"));
        assert_eq!(judged(own, true, &[epoch(2, 9), own]), Ok(Standing::Own));
        assert_eq!(judged(own, true, &[epoch(3, 2)]), Err("CHY-EPOCH-FENCED"));
        // A copy of the box's disk with the file of another: the same number and another box.
        assert_eq!(judged(own, true, &[epoch(3, 0), own]), Ok(Standing::Own));
        assert_eq!(judged(own, true, &[epoch(3, 2), own]), Err("CHY-EPOCH-FENCED"));
        assert_eq!(judged(own, true, &[epoch(2, 1)]), Ok(Standing::Behind));
    }

    #[test]
    fn a_value_has_one_spelling() {
        let value = encode(&CA, epoch(12, 0xab));
        assert_eq!(decode(&CA, &value), Some(epoch(12, 0xab)));
        assert_eq!(decode(&[8; 32], &value), None);
        let text = String::from_utf8(value).unwrap();
        for bad in [
            text.replace("\n12\n", "\n012\n"),
            text.replace("\n12\n", "\n+12\n"),
            text.replace("ab", "AB"),
            text.replace("v1", "v2"),
            format!("{text}\n"),
            text.trim_end().to_owned(),
        ] {
            assert_eq!(decode(&CA, bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(epoch) = decode(&CA, &value) {
                prop_assert_eq!(encode(&CA, epoch), value);
            }
        }

        #[test]
        fn every_epoch_reads_back(number: u64, holder: [u8; 16]) {
            let epoch = Epoch { number, holder };
            prop_assert_eq!(decode(&CA, &encode(&CA, epoch)), Some(epoch));
        }
    }
}
