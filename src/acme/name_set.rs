//! The names of an order as one value: two orders for the same names are one and the same here.

use aws_lc_rs::digest;

use crate::pki::name::Identifier;

/// Half of a SHA-256 over the sorted names; whoever finds two orders with the same has a renewal more that does
/// not count against a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NameSet(pub [u8; 16]);

impl NameSet {
    /// Order and repetition do not matter; `*.` does.
    pub fn of(identifiers: &[Identifier]) -> Self {
        let mut names: Vec<String> = identifiers
            .iter()
            .map(|identifier| format!("{}:{}\n", identifier.kind(), identifier.value()))
            .collect();
        names.sort_unstable();
        names.dedup();
        let sum = digest::digest(&digest::SHA256, names.concat().as_bytes());
        let mut set = [0; 16];
        set.copy_from_slice(&sum.as_ref()[..16]);
        Self(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> NameSet {
        let parse = |name: &&str| {
            let kind = if name.starts_with("10.") { "ip" } else { "dns" };
            Identifier::parse(kind, name).unwrap()
        };
        NameSet::of(&names.iter().map(parse).collect::<Vec<_>>())
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        assert_eq!(set(&["a.lan", "10.0.0.1"]), set(&["10.0.0.1", "A.LAN", "a.lan"]));
        assert_ne!(set(&["a.lan"]), set(&["*.a.lan"]));
        assert_ne!(set(&["a.lan"]), set(&["a.lan", "b.lan"]));
        assert_ne!(set(&["a.lan", "b.lan"]), set(&["a.lan.b.lan"]));
    }
}
