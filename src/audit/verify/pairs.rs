//! Intents and what becomes of them: each serial intended once, each intent issued or abandoned once, only what
//! was issued revoked, and once.

use std::collections::{HashMap, VecDeque};

use super::findings::Findings;
use super::ledger::{Fate, Row, Said};
use crate::id::{LeafIndex, Serial};
use crate::log::record::IntentV1;

/// Intents in memory at most. A signature follows its intent within seconds; what comes later is looked up.
pub(super) const OPEN_INTENTS: usize = 1024;

/// The last intents of which nothing was said yet.
#[derive(Default)]
pub(in crate::audit) struct Open {
    intents: HashMap<LeafIndex, IntentV1>,
    /// In the order of the log; some are closed already.
    order: VecDeque<LeafIndex>,
    peak: usize,
}

impl Open {
    /// One more; hands out the oldest if there are too many.
    pub(in crate::audit) fn insert(
        &mut self,
        leaf: LeafIndex,
        intent: IntentV1,
    ) -> Option<(LeafIndex, IntentV1)> {
        self.intents.insert(leaf, intent);
        self.order.push_back(leaf);
        let mut evicted = None;
        while self.intents.len() > OPEN_INTENTS || self.order.len() > 4 * OPEN_INTENTS {
            let Some(leaf) = self.order.pop_front() else { break };
            if let Some(intent) = self.intents.remove(&leaf) {
                evicted = Some((leaf, intent));
                break;
            }
        }
        self.peak = self.peak.max(self.intents.len());
        evicted
    }

    /// The serial of an intent that is at hand.
    pub(super) fn serial(&self, leaf: LeafIndex) -> Option<Serial> {
        self.intents.get(&leaf).map(|intent| intent.serial)
    }

    pub(in crate::audit) fn close(&mut self, leaf: LeafIndex) -> Option<IntentV1> {
        self.intents.remove(&leaf)
    }

    /// All that are left.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (LeafIndex, IntentV1)> {
        self.order.clear();
        self.intents.drain()
    }

    /// The most there ever were.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }
}

/// Judges what was said of one serial; gives how many of its intents are open.
pub(super) fn judge(serial: Serial, rows: &[Row], findings: &Findings) -> u64 {
    let mut intent: Option<(LeafIndex, Option<(Fate, LeafIndex)>)> = None;
    let mut open = 0;
    let mut revoked = false;
    for row in rows {
        let leaf = row.leaf;
        match &row.said {
            Said::Intended(fate) => match intent {
                None => {
                    open = u64::from(fate.is_none());
                    intent = Some((leaf, *fate));
                }
                Some((first, _)) => {
                    let text = format!("serial {serial} was used before, by leaf {first}");
                    findings.find(leaf, text);
                }
            },
            Said::Resolved { intent: of, fate } => match &mut intent {
                Some((first, was)) if first == of => match was {
                    Some((was, _)) => {
                        let was = word(*was);
                        findings.find(leaf, format!("the intent at leaf {of} is {was} already"));
                    }
                    None => {
                        open = 0;
                        *was = Some((*fate, leaf));
                    }
                },
                _ => findings.find(leaf, no_intent(serial, *of)),
            },
            Said::Revoked { intent: of } => match intent {
                Some((first, fate)) if first == *of => {
                    let fate = fate.filter(|(_, at)| *at < leaf).map(|(fate, _)| fate);
                    match fate {
                        Some(Fate::Issued) if !revoked => revoked = true,
                        Some(Fate::Issued) => findings.find(
                            leaf,
                            format!("serial {serial} is revoked, but was revoked before"),
                        ),
                        Some(Fate::Abandoned) => findings
                            .find(leaf, format!("serial {serial} is revoked, but is abandoned")),
                        None => findings.find(
                            leaf,
                            format!("serial {serial} is revoked, but was never issued"),
                        ),
                    }
                }
                _ => findings.find(leaf, no_intent(serial, *of)),
            },
            Said::Due(_) | Said::Listed { .. } => {}
        }
    }
    open
}

pub(super) fn no_intent(serial: Serial, leaf: LeafIndex) -> String {
    format!("there is no intent with serial {serial} at leaf {leaf}")
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Issued => "issued",
        Fate::Abandoned => "abandoned",
    }
}
