//! Rate limits (RFC 8555 section 6.6): how much of this box one account, one address or one part of the name space
//! may have in an hour, and how fast devices are let in when a whole plant is switched on.
//!
//! Every limit that a request exceeds is looked at, and Retry-After is of the latest: asked again then, no other
//! one is in the way. Renewals do not count. What is counted is in memory and bounded: a restart forgets it, and
//! so allows more, never less; what makes an order a renewal is in the store.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Server;
use super::flow::{Fault, Signed};
use super::listen::Origin;
use crate::acme::admission::Admission;
use crate::acme::limit::Hourly;
use crate::acme::name_set::NameSet;
use crate::acme::problem::{Problem, ProblemType};
use crate::id::AccountId;
use crate::pki::name::Identifier;

/// The `[web.limits]` table. Counts are within an hour; 0: no limit.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Orders one account may place.
    pub orders_per_account: u32,
    /// Orders that may come from one address.
    pub orders_per_address: u32,
    /// Orders that may name one name tree.
    pub orders_per_name_tree: u32,
    /// What a name tree is: an entry of `[policy] allow-names` with so many labels below it.
    pub name_tree_labels: usize,
    /// Challenges of one account for one name that may become invalid.
    pub failed_validations: u32,
    /// Accounts registered from one address. The issuer has a limit over all.
    pub registrations_per_address: u32,
    /// Orders of one account for names that were certified before, set for set, that do not count above.
    pub renewals_per_name_set: u32,
    /// Checkpoints of other logs that one address may have cosigned, or refused.
    pub cosignatures_per_address: u32,
    /// New orders and registrations let in within a second; 0: no limit.
    pub admissions_per_second: u32,
    /// Let in at once after a quiet time.
    pub admission_burst: u32,
    /// Who has its turn so soon is kept waiting; others are told when to come back.
    pub admission_patience_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            orders_per_account: 3600,
            orders_per_address: 3600,
            orders_per_name_tree: 3600,
            name_tree_labels: 1,
            failed_validations: 60,
            registrations_per_address: 100,
            renewals_per_name_set: 10,
            cosignatures_per_address: 3600,
            admissions_per_second: 50,
            admission_burst: 200,
            admission_patience_seconds: 8,
        }
    }
}

/// What was counted.
pub(crate) struct Limits {
    settings: Settings,
    accounts: Hourly<AccountId>,
    addresses: Hourly<IpAddr>,
    trees: Hourly<String>,
    failures: Hourly<(AccountId, String)>,
    registrations: Hourly<IpAddr>,
    cosignatures: Hourly<IpAddr>,
    /// Of one account: nobody uses up the renewals of another's names.
    renewals: Hourly<(AccountId, NameSet)>,
    pub(crate) admission: Admission<[u8; 16]>,
}

/// An order, as far as limits know it.
struct Asked<'a> {
    account: AccountId,
    address: IpAddr,
    identifiers: &'a [Identifier],
    trees: &'a [String],
    /// Its names, where it renews a certificate.
    renewal: Option<NameSet>,
}

/// What one order took.
#[derive(Default)]
struct Taken {
    renewal: bool,
    account: bool,
    address: bool,
    trees: Vec<String>,
}

/// A limit that was exceeded.
struct Exceeded {
    name: &'static str,
    detail: String,
    wait: Duration,
}

/// Of all limits that were exceeded, the one that lasts longest.
#[derive(Default)]
struct Latest(Option<Exceeded>);

impl Latest {
    /// Whether the limit was kept.
    fn heed(
        &mut self,
        name: &'static str,
        taken: Result<(), Duration>,
        detail: impl FnOnce() -> String,
    ) -> bool {
        let Err(wait) = taken else {
            return true;
        };
        if self.0.as_ref().is_none_or(|latest| wait > latest.wait) {
            self.0 = Some(Exceeded { name, detail: detail(), wait });
        }
        false
    }
}

impl Limits {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            accounts: Hourly::new(settings.orders_per_account),
            addresses: Hourly::new(settings.orders_per_address),
            trees: Hourly::new(settings.orders_per_name_tree),
            failures: Hourly::new(settings.failed_validations),
            registrations: Hourly::new(settings.registrations_per_address),
            cosignatures: Hourly::new(settings.cosignatures_per_address),
            renewals: Hourly::new(settings.renewals_per_name_set),
            admission: Admission::new(settings.admissions_per_second, settings.admission_burst),
            settings,
        }
    }

    /// A challenge of this account for this name has become invalid.
    pub(crate) fn failed(&self, account: AccountId, identifier: &Identifier, monotonic: Duration) {
        // Beyond the limit there is nothing more to count.
        let _ = self.failures.take((account, identifier.base().value()), monotonic);
    }

    /// Takes everything that an order takes, or nothing.
    fn take(&self, order: &Asked<'_>, monotonic: Duration) -> Result<Taken, Exceeded> {
        let Asked { account, address, identifiers, trees, renewal } = order;
        let mut latest = Latest::default();
        for identifier in *identifiers {
            let name = identifier.base().value();
            let failures = self.failures.look(&(*account, name), monotonic);
            latest.heed("failed-validations", failures, || {
                format!("this account has failed too often to prove control of {identifier}")
            });
        }
        let mut taken = Taken::default();
        let renews = renewal.filter(|set| self.renewals.take((*account, *set), monotonic).is_ok());
        taken.renewal = renews.is_some();
        if !taken.renewal {
            taken.account =
                latest.heed("orders-per-account", self.accounts.take(*account, monotonic), || {
                    "this account has placed all the orders it may in an hour".to_owned()
                });
            taken.address =
                latest.heed("orders-per-address", self.addresses.take(*address, monotonic), || {
                    "all the orders that may come from this address in an hour were placed"
                        .to_owned()
                });
            for tree in *trees {
                let tree_taken = self.trees.take(tree.clone(), monotonic);
                if latest.heed("orders-per-name-tree", tree_taken, || {
                    format!(
                        "all the orders there may be in an hour for names below {tree} were placed"
                    )
                }) {
                    taken.trees.push(tree.clone());
                }
            }
        }
        match latest.0 {
            None => Ok(taken),
            Some(exceeded) => {
                self.give_back(order, taken);
                Err(exceeded)
            }
        }
    }

    /// No order comes of it.
    fn give_back(&self, order: &Asked<'_>, taken: Taken) {
        if let Some(set) = order.renewal.filter(|_| taken.renewal) {
            self.renewals.give_back(&(order.account, set));
        }
        if taken.account {
            self.accounts.give_back(&order.account);
        }
        if taken.address {
            self.addresses.give_back(&order.address);
        }
        taken.trees.iter().for_each(|tree| self.trees.give_back(tree));
    }
}

/// Lets a request to this box as a witness in.
pub(crate) fn cosignature(server: &Server, address: IpAddr) -> Result<(), Fault> {
    let Err(wait) = server.limits.cosignatures.take(address, server.clock.monotonic()) else {
        return Ok(());
    };
    server.metrics.limited("cosignatures-per-address");
    let detail = "all the checkpoints that may come from this address in an hour came";
    Err(Fault::Limited(Problem::new(ProblemType::RateLimited, detail), wait))
}

/// Lets a new order in, or an authorization before one. `renews`: it is to replace a certificate of this server
/// (RFC 9773); if it may not, no order comes of it.
pub(crate) async fn order(
    server: &Server,
    signed: &Signed,
    identifiers: &[Identifier],
    renews: bool,
) -> Result<(), Fault> {
    let limits = &server.limits;
    let set = NameSet::of(identifiers);
    let renews = renews || server.store.held(set).await?.is_some();
    let labels = limits.settings.name_tree_labels;
    let mut trees: Vec<String> =
        identifiers.iter().filter_map(|name| server.policy.tree(name, labels)).collect();
    trees.sort_unstable();
    trees.dedup();
    let asked = Asked {
        account: signed.account.id,
        address: signed.peer.to_canonical(),
        identifiers,
        trees: &trees,
        renewal: renews.then_some(set),
    };
    let taken = limits
        .take(&asked, server.clock.monotonic())
        .map_err(|exceeded| limited(server, exceeded))?;
    let admitted = admitted(server, asked.account.0).await;
    if admitted.is_err() {
        limits.give_back(&asked, taken);
    }
    admitted
}

/// Takes a registration of this peer, and lets it in.
pub(crate) async fn registration(
    server: &Server,
    origin: Origin,
    key: [u8; 16],
) -> Result<(), Fault> {
    // An IPv4 peer of an IPv6 socket is the same peer.
    let peer = origin.peer.to_canonical();
    server.limits.registrations.take(peer, server.clock.monotonic()).map_err(|wait| {
        let detail = "this address has registered all the accounts it may in an hour".to_owned();
        limited(server, Exceeded { name: "registrations-per-address", detail, wait })
    })?;
    let admitted = admitted(server, key).await;
    if admitted.is_err() {
        server.limits.registrations.give_back(&peer);
    }
    admitted
}

/// The registration did not happen.
pub(crate) fn no_registration(server: &Server, origin: Origin) {
    server.limits.registrations.give_back(&origin.peer.to_canonical());
}

/// Waits for a turn that comes soon; otherwise says when it comes.
async fn admitted(server: &Server, who: [u8; 16]) -> Result<(), Fault> {
    let limits = &server.limits;
    let patience = Duration::from_secs(limits.settings.admission_patience_seconds);
    let mut waited = Duration::ZERO;
    loop {
        let Err(wait) = limits.admission.admit(who, server.clock.monotonic()) else {
            return Ok(());
        };
        // The second look is for a timer that was a little early.
        if waited + wait > patience + Duration::from_millis(100) {
            let detail = "many devices ask at once; this one has its turn then".to_owned();
            return Err(limited(server, Exceeded { name: "admission", detail, wait }));
        }
        waited += wait;
        tokio::time::sleep(wait).await;
    }
}

fn limited(server: &Server, exceeded: Exceeded) -> Fault {
    server.metrics.limited(exceeded.name);
    Fault::Limited(Problem::new(ProblemType::RateLimited, exceeded.detail), exceeded.wait)
}

/// Rows of a table for people: what each limit is. The page is where `Link: rel="help"` points.
pub(crate) fn rows(settings: &Settings) -> Vec<(&'static str, String)> {
    let hourly = |most: u32| match most {
        0 => "no limit".to_owned(),
        most => format!("{most} an hour"),
    };
    let admission = match settings.admissions_per_second {
        0 => "no limit".to_owned(),
        rate => format!("{} at once, then {rate} a second", settings.admission_burst.max(1)),
    };
    vec![
        ("Orders of one account", hourly(settings.orders_per_account)),
        ("Orders from one address", hourly(settings.orders_per_address)),
        ("Orders for names below one domain", hourly(settings.orders_per_name_tree)),
        ("Accounts registered from one address", hourly(settings.registrations_per_address)),
        ("Failed validations of one name", hourly(settings.failed_validations)),
        ("Orders and registrations let in", admission),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    fn name(text: &str) -> Identifier {
        Identifier::parse("dns", text).unwrap()
    }

    fn limits() -> Limits {
        Limits::new(Settings {
            orders_per_account: 2,
            orders_per_address: 3,
            orders_per_name_tree: 4,
            failed_validations: 1,
            ..Settings::default()
        })
    }

    fn take(
        limits: &Limits,
        account: u8,
        address: u8,
        text: &str,
        minutes: u64,
    ) -> Result<(), (&'static str, Duration)> {
        let trees = [text.split_once('.').unwrap().1.to_owned()];
        let address = IpAddr::from([10, 0, 0, address]);
        let asked = Asked {
            account: AccountId([account; 16]),
            address,
            identifiers: &[name(text)],
            trees: &trees,
            renewal: None,
        };
        let taken = limits.take(&asked, at(minutes));
        taken.map(drop).map_err(|exceeded| (exceeded.name, exceeded.wait))
    }

    #[test]
    fn each_limit_counts_for_itself() {
        let limits = limits();
        assert_eq!(take(&limits, 1, 1, "a.x.lan", 0), Ok(()));
        assert_eq!(take(&limits, 1, 1, "b.x.lan", 1), Ok(()));
        assert_eq!(take(&limits, 1, 2, "c.y.lan", 2), Err(("orders-per-account", at(58))));
        assert_eq!(take(&limits, 2, 1, "c.x.lan", 3), Ok(()));
        assert_eq!(take(&limits, 3, 1, "d.y.lan", 4), Err(("orders-per-address", at(56))));
        assert_eq!(take(&limits, 3, 2, "d.x.lan", 5), Ok(()));
        assert_eq!(take(&limits, 4, 3, "e.x.lan", 6), Err(("orders-per-name-tree", at(54))));
        assert_eq!(take(&limits, 4, 3, "e.y.lan", 7), Ok(()));
        assert_eq!(take(&limits, 1, 1, "f.x.lan", 61), Ok(()));
    }

    #[test]
    fn the_latest_of_all_limits_answers_and_a_refused_order_takes_nothing() {
        let limits = limits();
        assert_eq!(take(&limits, 1, 1, "a.x.lan", 0), Ok(()));
        assert_eq!(take(&limits, 9, 2, "a.y.lan", 10), Ok(()));
        assert_eq!(take(&limits, 9, 3, "a.z.lan", 20), Ok(()));
        assert_eq!(take(&limits, 8, 2, "b.y.lan", 20), Ok(()));
        assert_eq!(take(&limits, 7, 2, "c.y.lan", 20), Ok(()));
        // Account 9's hour ends at 70, the address's at 70 too, and the failure's at 85.
        limits.failed(AccountId([9; 16]), &name("d.y.lan"), at(25));
        assert_eq!(take(&limits, 9, 2, "d.y.lan", 30), Err(("failed-validations", at(55))));
        assert_eq!(take(&limits, 9, 2, "e.y.lan", 30), Err(("orders-per-account", at(40))));
        // The tree had one left, and has it still.
        assert_eq!(take(&limits, 6, 4, "e.y.lan", 31), Ok(()));
        assert_eq!(take(&limits, 5, 5, "f.y.lan", 32), Err(("orders-per-name-tree", at(38))));
    }

    #[test]
    fn failures_are_of_one_account_and_one_name() {
        let limits = limits();
        limits.failed(AccountId([1; 16]), &name("a.x.lan"), at(0));
        assert_eq!(take(&limits, 1, 1, "a.x.lan", 1), Err(("failed-validations", at(59))));
        assert_eq!(take(&limits, 2, 1, "a.x.lan", 1), Ok(()));
        assert_eq!(take(&limits, 1, 1, "b.x.lan", 1), Ok(()));
        assert_eq!(take(&limits, 1, 1, "a.x.lan", 60), Ok(()));
        assert_eq!(HOUR, at(60));
    }

    #[test]
    fn a_renewal_takes_its_mark_alone_and_failures_hold_it_too() {
        let limits = limits();
        let account = AccountId([1; 16]);
        let names = [name("a.x.lan")];
        let renewal = Asked {
            account,
            address: IpAddr::from([10, 0, 0, 1]),
            identifiers: &names,
            trees: &["x.lan".into()],
            renewal: Some(NameSet::of(&names)),
        };
        for _ in 0..9 {
            assert!(limits.take(&renewal, at(0)).is_ok_and(|taken| taken.renewal));
        }
        assert_eq!(take(&limits, 1, 1, "b.x.lan", 1), Ok(()));
        limits.failed(account, &names[0], at(2));
        for _ in 0..9 {
            assert!(limits.take(&renewal, at(3)).is_err());
        }
        // Refused nine times, it has its last mark still; and again when no order came of it.
        let later = Asked { identifiers: &[], ..renewal };
        let taken = limits.take(&later, at(4)).ok().unwrap();
        assert!(taken.renewal);
        limits.give_back(&later, taken);
        assert!(limits.take(&later, at(5)).is_ok_and(|taken| taken.renewal));
        // Without a mark it is an order like all: the second of this account, and then one too many.
        assert!(limits.take(&later, at(6)).is_ok_and(|taken| !taken.renewal && taken.account));
        assert!(limits.take(&later, at(7)).is_err());
    }
}
