//! What was asked of the issuer and not done: counted as it happens, recorded in intervals.
//!
//! Whoever took over the web process can ask as often as it likes. The counts are by what was asked, why it
//! was refused and, where a signature showed it, by account; the record of an interval is one leaf of bounded
//! size, so that refusals cannot fill the disk. What was counted since the last record is lost with a process
//! that is killed, and with nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::{Core, NotNow, count, lock};
use crate::acme::problem::ProblemType;
use crate::id::{AccountId, Timestamp};
use crate::ipc::{Refusal, Reply, Trespass};
use crate::log::Release;
use crate::log::record::{Record, RefusalV1, RefusedV1};

pub(super) struct Refusals {
    core: Arc<Core>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<Row, u64>,
    /// When the first of them was refused.
    from: Option<Timestamp>,
    /// By the monotonic clock: when the last record was made.
    recorded: Option<Duration>,
}

/// What was asked, why not, and who signed it.
type Row = (&'static str, &'static str, Option<AccountId>);

impl Refusals {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, state: Mutex::default() }
    }

    /// Passes an answer on, and counts it if it is a refusal. `account` is the one whose signature verified,
    /// never one that was merely named.
    pub(super) fn watch(
        self: &Arc<Self>,
        asked: &'static str,
        account: Option<AccountId>,
        reply: Reply,
    ) -> Reply {
        let refusals = Arc::clone(self);
        Box::new(move |result| {
            if let Err(Refusal::Refused(problem) | Refusal::Limited(problem, _)) = &result {
                refusals.note(asked, name(problem.kind), account);
            }
            reply(result);
        })
    }

    /// Someone at the socket broke its rules.
    pub(super) fn trespassed(&self, what: Trespass) {
        self.note("socket", what.name(), None);
    }

    fn note(&self, asked: &'static str, why: &'static str, account: Option<AccountId>) {
        count(&self.core.counters.refused);
        let at = self.core.rule.clock().now();
        let mut state = lock(&self.state);
        // There are few rows without an account: words of this program are all they consist of.
        let full =
            state.rows.len() >= MOST_ROWS && !state.rows.contains_key(&(asked, why, account));
        let account = account.filter(|_| !full);
        let row = state.rows.entry((asked, why, account)).or_insert(0);
        *row = row.saturating_add(1);
        state.from.get_or_insert(at);
    }

    /// Records what was counted, if the last record is long enough ago.
    pub(super) fn tend(&self) -> Result<(), NotNow> {
        let now = self.core.rule.clock().monotonic();
        if lock(&self.state).recorded.is_some_and(|last| now < last + EVERY) {
            return Ok(());
        }
        self.flush()
    }

    /// Records what was counted. When it cannot, it stays counted.
    pub(super) fn flush(&self) -> Result<(), NotNow> {
        let (rows, from) = {
            let mut state = lock(&self.state);
            (std::mem::take(&mut state.rows), state.from.take())
        };
        let Some(from) = from else {
            return Ok(());
        };
        let recorded = self.core.now().and_then(|at| {
            let refusals = rows.iter().map(|((asked, why, account), count)| RefusalV1 {
                asked: (*asked).to_owned(),
                why: (*why).to_owned(),
                account: *account,
                count: *count,
            });
            // A clock that was set back meanwhile must not make an interval that ends before it begins.
            let record =
                RefusedV1 { at, from: from.min(at), until: at, refusals: refusals.collect() };
            self.core.append_wait(Record::RefusedV1(record), Release::Durable)
        });
        let mut state = lock(&self.state);
        match recorded {
            Ok(_) => {
                state.recorded = Some(self.core.rule.clock().monotonic());
                Ok(())
            }
            Err(why) => {
                for (row, count) in rows {
                    let sum = state.rows.entry(row).or_insert(0);
                    *sum = sum.saturating_add(count);
                }
                state.from = Some(state.from.map_or(from, |later| later.min(from)));
                Err(why)
            }
        }
    }
}

/// The problem's type without the part that all have.
fn name(kind: ProblemType) -> &'static str {
    kind.urn().rsplit_once(':').map_or("unknown", |(_, name)| name)
}

/// Between two records: with the first refusal of a quiet time at once, at most seven leaves an hour.
const EVERY: Duration = Duration::from_secs(600);
/// Rows that name an account are not added beyond; a leaf holds many times as much.
const MOST_ROWS: usize = 256;
