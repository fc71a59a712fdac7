//! Who is next, when many parties ask for one thing: each in turn, however much each asks for. Whoever asks for a
//! hundred waits behind himself, not others behind him.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What parties wait for. Within one party first come, first served; among parties a round, in which one that is
/// new comes last.
#[derive(Debug)]
pub struct Turns<K, T> {
    parties: HashMap<K, VecDeque<T>>,
    /// Parties that have something, each once: the first is next.
    round: VecDeque<K>,
    length: usize,
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self { parties: HashMap::new(), round: VecDeque::new(), length: 0 }
    }
}

impl<K: Eq + Hash + Clone, T> Turns<K, T> {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Behind what the party asked for before.
    pub fn push(&mut self, party: K, item: T) {
        let waiting = self.parties.entry(party.clone()).or_default();
        if waiting.is_empty() {
            self.round.push_back(party);
        }
        waiting.push_back(item);
        self.length += 1;
    }

    /// Back where it was taken from: it is next.
    pub fn put_back(&mut self, party: K, item: T) {
        self.round.retain(|other| *other != party);
        self.round.push_front(party.clone());
        self.parties.entry(party).or_default().push_front(item);
        self.length += 1;
    }

    /// The next in turn.
    pub fn pop(&mut self) -> Option<(K, T)> {
        self.pop_fit(|_| true, |_| {})
    }

    /// The next in turn that is fit. What is not goes to `unfit`, and costs its party no turn.
    pub fn pop_fit(
        &mut self,
        mut fit: impl FnMut(&T) -> bool,
        mut unfit: impl FnMut(T),
    ) -> Option<(K, T)> {
        while let Some(party) = self.round.pop_front() {
            let waiting = self.parties.entry(party.clone()).or_default();
            let mut next = None;
            while let Some(item) = waiting.pop_front() {
                self.length -= 1;
                if fit(&item) {
                    next = Some(item);
                    break;
                }
                unfit(item);
            }
            if waiting.is_empty() {
                self.parties.remove(&party);
            } else {
                self.round.push_back(party.clone());
            }
            if let Some(item) = next {
                return Some((party, item));
            }
        }
        None
    }

    /// How much a party has waiting.
    pub fn count(&self, party: &K) -> usize {
        self.parties.get(party).map_or(0, VecDeque::len)
    }

    /// The party that has most waiting, and how much.
    pub fn longest(&self) -> Option<(K, usize)> {
        let most = self.round.iter().max_by_key(|party| self.count(party))?;
        Some((most.clone(), self.count(most)))
    }

    /// Takes what a party asked for last.
    pub fn take_newest(&mut self, party: &K) -> Option<T> {
        let waiting = self.parties.get_mut(party)?;
        let item = waiting.pop_back()?;
        if waiting.is_empty() {
            self.parties.remove(party);
            self.round.retain(|other| other != party);
        }
        self.length -= 1;
        Some(item)
    }

    /// Takes everything that is no longer to be kept; what stays, stays in its order.
    pub fn extract(&mut self, mut keep: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for waiting in self.parties.values_mut() {
            let (kept, gone) = std::mem::take(waiting).into_iter().partition(|item| keep(item));
            *waiting = kept;
            taken.extend::<VecDeque<T>>(gone);
        }
        self.parties.retain(|_, waiting| !waiting.is_empty());
        self.round.retain(|party| self.parties.contains_key(party));
        self.length -= taken.len();
        taken
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.parties.values().flatten()
    }

    /// Everything, in no order.
    pub fn drain(&mut self) -> Vec<T> {
        self.round.clear();
        self.length = 0;
        self.parties.drain().flat_map(|(_, waiting)| waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_newcomer_waits_for_one_of_each_and_not_for_a_backlog() {
        let mut turns = Turns::default();
        for n in 0..100 {
            turns.push("bulk", n);
        }
        turns.push("other", 0);
        turns.push("new", 0);
        let order: Vec<&str> = (0..4).filter_map(|_| turns.pop()).map(|(party, _)| party).collect();
        assert_eq!(order, ["bulk", "other", "new", "bulk"]);
    }

    #[test]
    fn what_is_put_back_is_next() {
        let mut turns = Turns::default();
        turns.push('a', 1);
        turns.push('a', 2);
        turns.push('b', 1);
        let (party, item) = turns.pop().unwrap();
        turns.put_back(party, item);
        let order: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, [('a', 1), ('b', 1), ('a', 2)]);
        assert!(turns.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Event {
        Push(u8),
        Pop,
        PutBack,
        TakeNewest(u8),
        Extract(u8),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let party = 0u8..4;
        proptest::collection::vec(
            prop_oneof![
                4 => party.clone().prop_map(Event::Push),
                3 => Just(Event::Pop),
                1 => Just(Event::PutBack),
                1 => party.clone().prop_map(Event::TakeNewest),
                1 => party.prop_map(Event::Extract),
            ],
            0..200,
        )
    }

    proptest! {
        /// Nothing is lost or doubled, each party's own order stays, and nobody with something waiting is passed
        /// over twice by the same other party.
        #[test]
        fn turns_are_fair_and_lose_nothing(events in events()) {
            let mut turns = Turns::default();
            let mut model: [Vec<u32>; 4] = Default::default();
            let mut passed = [[0u32; 4]; 4];
            let mut last = None;
            for (n, event) in (0u32..).zip(events) {
                match event {
                    Event::Push(party) => {
                        turns.push(party, n);
                        model[usize::from(party)].push(n);
                    }
                    Event::Pop => {
                        let popped = turns.pop();
                        prop_assert_eq!(popped.is_none(), model.iter().all(Vec::is_empty));
                        if let Some((party, item)) = popped {
                            let at = usize::from(party);
                            prop_assert_eq!(model[at].remove(0), item);
                            passed[at] = [0; 4];
                            for other in (0..4).filter(|other| *other != at) {
                                let waits = !model[other].is_empty();
                                passed[other][at] = if waits { passed[other][at] + 1 } else { 0 };
                                prop_assert!(passed[other][at] <= 1, "{} passed over", other);
                            }
                            last = Some((party, item));
                        }
                        continue;
                    }
                    Event::PutBack => {
                        if let Some((party, item)) = last.take() {
                            turns.put_back(party, item);
                            model[usize::from(party)].insert(0, item);
                            // Served again without having had its turn.
                            passed = Default::default();
                        }
                    }
                    Event::TakeNewest(party) => {
                        let taken = turns.take_newest(&party);
                        prop_assert_eq!(taken, model[usize::from(party)].pop());
                    }
                    Event::Extract(parity) => {
                        let gone = turns.extract(|item| item % 4 != u32::from(parity));
                        prop_assert!(gone.iter().all(|item| item % 4 == u32::from(parity)));
                        model.iter_mut().for_each(|m| m.retain(|item| item % 4 != u32::from(parity)));
                    }
                }
                last = None;
                prop_assert_eq!(turns.len(), model.iter().map(Vec::len).sum::<usize>());
                for party in 0..4u8 {
                    prop_assert_eq!(turns.count(&party), model[usize::from(party)].len());
                    if model[usize::from(party)].is_empty() {
                        passed[usize::from(party)] = [0; 4];
                    }
                }
            }
            let mut left = turns.drain();
            left.sort_unstable();
            let mut expected = model.concat();
            expected.sort_unstable();
            prop_assert_eq!(left, expected);
        }
    }
}
