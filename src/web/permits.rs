//! Room for so many questions at once, in which accounts take turns: one that finalizes a thousand orders waits
//! behind itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::id::AccountId;
use crate::turns::Turns;

pub(crate) struct Permits {
    state: Mutex<State>,
}

struct State {
    free: usize,
    waiting: Turns<AccountId, oneshot::Sender<Permit>>,
}

/// The right to ask; dropped, it is the next one's.
#[derive(Debug)]
pub(crate) struct Permit(Option<Arc<Permits>>);

impl std::fmt::Debug for Permits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permits")
    }
}

impl Permits {
    pub(crate) fn new(free: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { free, waiting: Turns::default() }) })
    }

    /// Waits for the account's turn.
    pub(crate) async fn acquire(self: &Arc<Self>, account: AccountId) -> Permit {
        let told = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Permit(Some(Arc::clone(self)));
            }
            let (tell, told) = oneshot::channel();
            state.waiting.push(account, tell);
            told
        };
        // The sender is dropped only with the permits, which this task holds.
        told.await.unwrap_or(Permit(None))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(permits) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = permits.state();
                let next = state.waiting.pop();
                state.free += usize::from(next.is_none());
                next
            };
            let Some((_, tell)) = next else { return };
            match tell.send(Self(Some(Arc::clone(&permits)))) {
                Ok(()) => return,
                // Who waited has gone: its turn is another's.
                Err(mut unheard) => drop(unheard.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const BULK: AccountId = AccountId([1; 16]);
    const OTHER: AccountId = AccountId([2; 16]);

    #[tokio::test(start_paused = true)]
    async fn an_account_in_bulk_waits_behind_itself() {
        let permits = Permits::new(1);
        let held = permits.acquire(BULK).await;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for account in [BULK, BULK, BULK, OTHER] {
            let (tell, waits) = (tell.clone(), Arc::clone(&permits));
            tasks.push(tokio::spawn(async move {
                let _permit = waits.acquire(account).await;
                tell.send(account).unwrap();
            }));
            // Each is in the queue before the next comes.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tasks[1].abort();
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(held);
        let order = [told.recv().await, told.recv().await, told.recv().await];
        assert_eq!(order, [Some(BULK), Some(OTHER), Some(BULK)]);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(permits.state().free, 1);
    }
}
