//! Which tickets a name is bound to, among very many of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Constraints;
use super::constraints::host;
use crate::pki::name::{DnsName, Identifier};
use crate::pki::policy::Network;

/// The names of many tickets. `T` is whose they are.
#[derive(Clone, Debug)]
pub struct Bindings<T> {
    /// By the name's labels from the last to the first, each followed by a dot.
    names: BTreeMap<String, Vec<T>>,
    suffixes: BTreeMap<String, Vec<T>>,
    hosts: BTreeMap<IpAddr, Vec<T>>,
    networks: Vec<(Network, T)>,
}

impl<T> Default for Bindings<T> {
    fn default() -> Self {
        Self {
            names: BTreeMap::new(),
            suffixes: BTreeMap::new(),
            hosts: BTreeMap::new(),
            networks: Vec::new(),
        }
    }
}

impl<T: Clone> Bindings<T> {
    /// Binds everything that `constraints` lists.
    pub fn insert(&mut self, constraints: &Constraints, owner: &T) {
        for name in &constraints.names {
            self.names.entry(reversed(name)).or_default().push(owner.clone());
        }
        for suffix in &constraints.suffixes {
            self.suffixes.entry(reversed(suffix)).or_default().push(owner.clone());
        }
        for network in &constraints.networks {
            if Some(*network) == host(network.address()) {
                self.hosts.entry(network.address()).or_default().push(owner.clone());
            } else {
                self.networks.push((*network, owner.clone()));
            }
        }
    }

    /// Everyone to whom the name is bound, or, for a wildcard, a name that it matches.
    pub fn touched_by<'a>(
        &'a self,
        identifier: &Identifier,
    ) -> Box<dyn Iterator<Item = &'a T> + 'a> {
        match identifier {
            Identifier::Ip(address) => {
                let address = address.to_canonical();
                let hosts = self.hosts.get(&address).into_iter().flatten();
                let wider = self.networks.iter().filter(move |(n, _)| n.contains(address));
                Box::new(hosts.chain(wider.map(|(_, owner)| owner)))
            }
            Identifier::Dns(name) => {
                let key = reversed(name);
                let above = self.above(&key);
                if !name.is_wildcard() {
                    return Box::new(above.chain(self.names.get(&key).into_iter().flatten()));
                }
                let one_below = |(bound, _): &(&String, _)| labels(bound) == labels(&key) + 1;
                let below: Vec<&T> = range(&self.names, &key)
                    .chain(range(&self.suffixes, &key))
                    .filter(one_below)
                    .flat_map(|(_, owners)| owners)
                    .collect();
                Box::new(above.chain(below))
            }
        }
    }

    /// Everyone who has some name that `constraints` lists or covers.
    pub fn overlapping(&self, constraints: &Constraints) -> Vec<&T> {
        let mut found = Vec::new();
        for name in &constraints.names {
            let key = reversed(name);
            found.extend(self.above(&key).chain(self.names.get(&key).into_iter().flatten()));
        }
        for suffix in &constraints.suffixes {
            let key = reversed(suffix);
            found.extend(self.above(&key));
            for (_, owners) in range(&self.names, &key).chain(range(&self.suffixes, &key)) {
                found.extend(owners);
            }
        }
        for network in &constraints.networks {
            let hosts = self.hosts.iter().filter(|(address, _)| network.contains(**address));
            found.extend(hosts.flat_map(|(_, owners)| owners));
            let wider =
                self.networks.iter().filter(|(n, _)| n.covers(network) || network.covers(n));
            found.extend(wider.map(|(_, owner)| owner));
        }
        found
    }

    /// The owners of suffixes that are `key` or above it.
    fn above<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let ends: Vec<usize> = key.match_indices('.').map(|(at, _)| at + 1).collect();
        let key = key.to_owned();
        ends.into_iter().filter_map(move |end| self.suffixes.get(&key[..end])).flatten()
    }
}

/// The first two of these that share a name though one of them is exclusive, by their places.
pub fn first_clash<'a>(all: impl IntoIterator<Item = &'a Constraints>) -> Option<(usize, usize)> {
    let (mut exclusive, mut every) = (Bindings::default(), Bindings::default());
    for (n, constraints) in all.into_iter().enumerate() {
        // What is exclusive tolerates nobody, what is shared nobody exclusive.
        let others = if constraints.exclusive { &every } else { &exclusive };
        if let Some(other) = others.overlapping(constraints).first() {
            return Some((**other, n));
        }
        every.insert(constraints, &n);
        if constraints.exclusive {
            exclusive.insert(constraints, &n);
        }
    }
    None
}

/// Entries whose key begins with `prefix`.
fn range<'a, T>(
    map: &'a BTreeMap<String, Vec<T>>,
    prefix: &str,
) -> impl Iterator<Item = (&'a String, &'a Vec<T>)> + use<'a, T> {
    let prefix = prefix.to_owned();
    map.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix))
}

/// `lan.line1.cam.` for `cam.line1.lan`: what is below a name begins as the name does.
fn reversed(name: &DnsName) -> String {
    let mut key = String::with_capacity(name.base().len() + 1);
    for label in name.base().rsplit('.') {
        key.push_str(label);
        key.push('.');
    }
    key
}

fn labels(key: &str) -> usize {
    key.bytes().filter(|octet| *octet == b'.').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec("[ab]", 1..4).prop_map(|labels| labels.join("."))
    }

    fn constraints() -> impl Strategy<Value = Constraints> {
        let network = (0u8..4, 29u8..=32).prop_map(|(last, prefix)| {
            let kept = u32::from(last) & (u32::MAX << (32 - prefix));
            format!("10.0.0.{kept}/{prefix}")
        });
        (
            proptest::collection::vec(name(), 0..3),
            proptest::collection::vec(name(), 0..2),
            proptest::collection::vec(network, 0..2),
        )
            .prop_map(|(names, suffixes, networks)| {
                let texts = |list: &[String]| list.to_vec();
                Constraints::parse(
                    texts(&names).iter().map(String::as_str),
                    texts(&suffixes).iter().map(String::as_str),
                    texts(&networks).iter().map(String::as_str),
                    None,
                    false,
                )
                .unwrap()
            })
    }

    /// Every identifier of the small world the strategies live in.
    fn world() -> Vec<Identifier> {
        let mut names: Vec<String> = vec!["a".into(), "b".into()];
        for _ in 0..3 {
            let longer: Vec<String> =
                names.iter().flat_map(|n| [format!("a.{n}"), format!("b.{n}")]).collect();
            names.extend(longer);
        }
        names.sort();
        names.dedup();
        let plain = names.iter().filter(|n| n.len() < 8).cloned();
        let wild = names.iter().filter(|n| n.len() < 6).map(|n| format!("*.{n}"));
        let dns = plain.chain(wild).map(|n| Identifier::parse("dns", &n).unwrap());
        let ip = (0..8).map(|n| Identifier::parse("ip", &format!("10.0.0.{n}")).unwrap());
        dns.chain(ip).collect()
    }

    /// By definition: some single name is permitted by the constraints and matched by the identifier.
    fn touches(identifier: &Identifier, constraints: &Constraints) -> bool {
        if !constraints.limits_names() {
            return false;
        }
        match identifier {
            Identifier::Dns(name) if name.is_wildcard() => {
                constraints.suffixes.iter().any(|s| name.is_within(s))
                    || constraints.names.iter().chain(&constraints.suffixes).any(|bound| {
                        bound.as_str().split_once('.').is_some_and(|(_, up)| up == name.base())
                    })
            }
            other => constraints.permits(other),
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_is_bound(all in proptest::collection::vec(constraints(), 0..5)) {
            let mut bindings = Bindings::default();
            for (n, one) in all.iter().enumerate() {
                bindings.insert(one, &n);
            }
            for identifier in world() {
                let mut found: Vec<usize> = bindings.touched_by(&identifier).copied().collect();
                found.sort_unstable();
                found.dedup();
                let bound: Vec<usize> =
                    (0..all.len()).filter(|n| touches(&identifier, &all[*n])).collect();
                prop_assert_eq!(found, bound, "{}", identifier);
            }
        }

        #[test]
        fn clashes_are_the_overlaps_of_the_exclusive(
            all in proptest::collection::vec((constraints(), any::<bool>()), 0..5),
        ) {
            let all: Vec<Constraints> = all
                .into_iter()
                .map(|(one, shared)| Constraints { exclusive: one.exclusive && !shared, ..one })
                .collect();
            let overlap = |one: &Constraints, other: &Constraints| {
                let mut bindings = Bindings::default();
                bindings.insert(one, &());
                !bindings.overlapping(other).is_empty()
            };
            let clash = (0..all.len()).any(|n| (0..n).any(|m| {
                (all[n].exclusive || all[m].exclusive) && overlap(&all[m], &all[n])
            }));
            prop_assert_eq!(first_clash(&all).is_some(), clash);
        }

        /// Two tickets overlap exactly when some name could be had under both.
        #[test]
        fn overlaps_are_names_in_common(one in constraints(), other in constraints()) {
            let mut bindings = Bindings::default();
            bindings.insert(&one, &());
            let common = world()
                .iter()
                .any(|i| !i.is_wildcard() && touches(i, &one) && touches(i, &other));
            prop_assert_eq!(!bindings.overlapping(&other).is_empty(), common);
        }
    }
}
