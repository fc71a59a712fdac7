//! Who may attempt now: so many attempts at once, shared fairly between accounts.
//!
//! Accounts that wait take turns, whatever each has waiting, and none has more than half of the slots. So an account
//! whose thousand devices hang until the timeout delays another's one device by one attempt at most.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::id::AccountId;

/// A number of slots.
pub(super) struct Admission {
    slots: usize,
    /// Slots one account may have.
    share: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    accounts: HashMap<AccountId, Account>,
    /// Accounts that wait, whose turn is next first; each once.
    turns: VecDeque<AccountId>,
}

#[derive(Default)]
struct Account {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

/// A slot, given back when it is dropped.
pub(super) struct Permit {
    admission: Arc<Admission>,
    account: AccountId,
}

impl Admission {
    /// `slots` is at least one.
    pub(super) fn new(slots: usize) -> Arc<Self> {
        let slots = slots.max(1);
        Arc::new(Self { slots, share: slots.div_ceil(2), state: Mutex::default() })
    }

    /// Waits for a slot. Dropping the future gives the place in the queue up.
    pub(super) async fn permit(self: &Arc<Self>, account: AccountId) -> Option<Permit> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            let entry = state.accounts.entry(account).or_default();
            entry.waiting.push_back(sender);
            if entry.waiting.len() == 1 {
                state.turns.push_back(account);
            }
        }
        self.admit();
        receiver.await.ok()
    }

    /// Gives free slots to those whose turn it is.
    fn admit(self: &Arc<Self>) {
        // Sent without the lock: a permit nobody receives is dropped, which takes it.
        while let Some((sender, permit)) = self.next() {
            let _ = sender.send(permit);
        }
    }

    fn next(self: &Arc<Self>) -> Option<(oneshot::Sender<Permit>, Permit)> {
        let mut state = self.lock();
        if state.running >= self.slots {
            return None;
        }
        // Few accounts can have their whole share at once, so this looks at few.
        let State { accounts, turns, .. } = &*state;
        let may = |id: &AccountId| accounts.get(id).is_some_and(|entry| entry.running < self.share);
        let at = turns.iter().position(may)?;
        let account = state.turns.remove(at)?;
        let entry = state.accounts.get_mut(&account)?;
        let sender = entry.waiting.pop_front()?;
        entry.running += 1;
        if !entry.waiting.is_empty() {
            state.turns.push_back(account);
        }
        state.running += 1;
        Some((sender, Permit { admission: Arc::clone(self), account }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.admission.lock();
            state.running = state.running.saturating_sub(1);
            if let Some(entry) = state.accounts.get_mut(&self.account) {
                entry.running = entry.running.saturating_sub(1);
                if entry.running == 0 && entry.waiting.is_empty() {
                    state.accounts.remove(&self.account);
                }
            }
        }
        self.admission.admit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    type Waiting = Pin<Box<dyn Future<Output = Option<Permit>>>>;

    fn poll(waiting: &mut Waiting) -> Option<Permit> {
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => permit,
            Poll::Pending => None,
        }
    }

    /// A request that may have been admitted by the time it is looked at.
    struct Request {
        account: u8,
        waiting: Waiting,
        permit: Option<Permit>,
    }

    impl Request {
        fn new(admission: &Arc<Admission>, account: u8) -> Self {
            let admission = Arc::clone(admission);
            let mut waiting: Waiting =
                Box::pin(async move { admission.permit(AccountId([account; 16])).await });
            let permit = poll(&mut waiting);
            Self { account, waiting, permit }
        }

        fn admitted(&mut self) -> bool {
            if self.permit.is_none() {
                self.permit = poll(&mut self.waiting);
            }
            self.permit.is_some()
        }
    }

    #[test]
    fn one_account_leaves_room_for_another() {
        let admission = Admission::new(4);
        let mut greedy: Vec<_> = (0..100).map(|_| Request::new(&admission, 1)).collect();
        assert_eq!(greedy.iter_mut().filter_map(|r| r.admitted().then_some(())).count(), 2);
        assert!(Request::new(&admission, 2).admitted());
        assert!(Request::new(&admission, 3).admitted());
    }

    #[test]
    fn accounts_take_turns() {
        let admission = Admission::new(1);
        let mut first = Request::new(&admission, 1);
        assert!(first.admitted());
        let mut queue: Vec<_> = [1, 1, 1, 2, 3].map(|a| Request::new(&admission, a)).into();
        drop(first);
        let mut order = Vec::new();
        while let Some(at) = queue.iter_mut().position(Request::admitted) {
            order.push(queue.remove(at).account);
        }
        assert_eq!(order, [1, 2, 3, 1, 1]);
        assert!(admission.lock().accounts.is_empty(), "nothing is kept of those that are gone");
    }

    proptest! {
        /// Whoever comes, goes or gives up in whatever order: never more than the slots, never more than the share,
        /// and no slot stays empty that somebody may have.
        #[test]
        fn slots_are_bounded_and_used(slots in 1..5usize, events in proptest::collection::vec((0..4u8, any::<bool>(), 0..8usize), 0..60)) {
            let admission = Admission::new(slots);
            let share = slots.div_ceil(2);
            let mut requests: Vec<Request> = Vec::new();
            for (account, comes, which) in events {
                if comes || requests.is_empty() {
                    requests.push(Request::new(&admission, account));
                } else {
                    let at = which % requests.len();
                    requests.swap_remove(at);
                }
                let admitted: Vec<u8> = requests.iter_mut().filter_map(|r| r.admitted().then_some(r.account)).collect();
                let of = |account: u8| admitted.iter().filter(|a| **a == account).count();
                prop_assert!(admitted.len() <= slots);
                prop_assert!((0..4).all(|account| of(account) <= share));
                let idle = admitted.len() < slots;
                prop_assert!(!idle || requests.iter().all(|r| r.permit.is_some() || of(r.account) == share));
            }
            drop(requests);
            prop_assert!(admission.lock().accounts.is_empty() && admission.lock().running == 0);
        }
    }
}
