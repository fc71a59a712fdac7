use der::asn1::{Ia5String, OctetString};
use proptest::prelude::*;
use x509_cert::ext::pkix::NameConstraints;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;

use super::*;
use crate::pki::constraint::NameConstraints as Constraints;

fn policy(change: impl FnOnce(&mut Settings)) -> Policy {
    let mut settings = Settings::default();
    change(&mut settings);
    Policy::new(&settings).unwrap()
}

fn own(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|&entry| entry.to_owned()).collect()
}

fn dns(name: &str) -> Identifier {
    Identifier::parse("dns", name).unwrap()
}

fn ip(address: &str) -> Identifier {
    Identifier::parse("ip", address).unwrap()
}

#[test]
fn the_default_permits_what_a_lan_has_and_nothing_else() {
    let policy = policy(|_| ());
    for name in ["printer.lan", "lan", "a.b.home.arpa", "nas.local", "x.internal", "a.test"] {
        assert_eq!(policy.permits(&dns(name)), Ok(()), "{name}");
    }
    for address in ["10.1.2.3", "172.31.0.1", "192.168.0.1", "fd00::1"] {
        assert_eq!(policy.permits(&ip(address)), Ok(()), "{address}");
    }
    for other in [dns("example.com"), dns("arpa"), dns("plan"), dns("lan.example"), ip("8.8.8.8")]
        .into_iter()
        .chain([ip("172.32.0.1"), ip("127.0.0.1"), ip("169.254.1.1"), ip("fe80::1"), ip("::1")])
    {
        assert_eq!(policy.permits(&other), Err(Refusal::NotAllowed(other.clone())));
    }
    assert_eq!(policy.permits(&dns("*.lan")), Err(Refusal::Wildcard(dns("*.lan"))));
}

#[test]
fn what_is_denied_is_denied_below_too() {
    let policy = policy(|settings| {
        settings.deny_names = own(&["ca.lan"]);
        settings.deny_networks = own(&["10.0.0.0/24"]);
        settings.wildcards = true;
    });
    for (identifier, rule) in [
        (dns("ca.lan"), "ca.lan"),
        (dns("x.ca.lan"), "ca.lan"),
        (dns("*.ca.lan"), "ca.lan"),
        (ip("10.0.0.7"), "10.0.0.0/24"),
        // One label below lan, so the wildcard would match it.
        (dns("*.lan"), "ca.lan"),
    ] {
        assert_eq!(
            policy.permits(&identifier),
            Err(Refusal::Denied(identifier.clone(), rule.to_owned()))
        );
    }
    for fine in [dns("oca.lan"), dns("*.home.arpa"), dns("*.x.lan"), ip("10.0.1.7")] {
        assert_eq!(policy.permits(&fine), Ok(()));
    }
}

#[test]
fn a_bad_entry_is_named_with_its_list() {
    for (settings, list, entry) in [
        (
            Settings { allow_names: own(&["lan", ".lan"]), ..Settings::default() },
            "allow-names",
            ".lan",
        ),
        (Settings { deny_names: own(&["*.lan"]), ..Settings::default() }, "deny-names", "*.lan"),
        (
            Settings { allow_networks: own(&["10.0.0.1/8"]), ..Settings::default() },
            "allow-networks",
            "10.0.0.1/8",
        ),
        (Settings { deny_networks: own(&["x"]), ..Settings::default() }, "deny-networks", "x"),
    ] {
        let bad = Policy::new(&settings).unwrap_err();
        assert_eq!((bad.list, bad.entry.as_str()), (list, entry));
        assert!(bad.to_string().contains(entry));
    }
}

fn constraints(permitted: &[&str], excluded: &[&str]) -> Constraints {
    let subtree = |text: &&str| GeneralSubtree {
        base: match Network::parse(text) {
            None => GeneralName::DnsName(Ia5String::new(*text).unwrap()),
            Some(network) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(network.prefix())).unwrap_or(0);
                let octets = match network.address() {
                    std::net::IpAddr::V4(v4) => {
                        let mask =
                            u32::MAX.checked_shl(32 - u32::from(network.prefix())).unwrap_or(0);
                        [v4.octets(), mask.to_be_bytes()].concat()
                    }
                    std::net::IpAddr::V6(v6) => [v6.octets(), mask.to_be_bytes()].concat(),
                };
                GeneralName::IpAddress(OctetString::new(octets).unwrap())
            }
        },
        minimum: 0,
        maximum: None,
    };
    let list =
        |texts: &[&str]| (!texts.is_empty()).then(|| texts.iter().map(subtree).collect::<Vec<_>>());
    from_value(&NameConstraints {
        permitted_subtrees: list(permitted),
        excluded_subtrees: list(excluded),
    })
    .unwrap()
}

fn from_value(value: &NameConstraints) -> Result<Constraints, String> {
    Constraints::from_der(&der::Encode::to_der(value).unwrap())
}

const LAN: [&str; 9] = [
    "lan",
    "internal",
    "home.arpa",
    "local",
    "test",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
];

#[test]
fn the_default_policy_is_within_the_constraints_made_for_it() {
    assert_eq!(policy(|_| ()).check_within_constraints(&constraints(&LAN, &[])), Ok(()));
    assert_eq!(policy(|_| ()).check_within_constraints(&constraints(&[], &[])), Ok(()));
}

#[test]
fn an_entry_wider_than_the_constraints_is_named() {
    for (change, entry) in [
        ((|s| s.allow_names = own(&["lan", "arpa"])) as fn(&mut Settings), "`arpa`"),
        (|s| s.allow_names = own(&["plan"]), "`plan`"),
        (|s| s.allow_networks = own(&["10.0.0.0/7"]), "`10.0.0.0/7`"),
        (|s| s.allow_networks = own(&["0.0.0.0/0"]), "`0.0.0.0/0`"),
        (|s| s.allow_networks = own(&["2001:db8::/32"]), "`2001:db8::/32`"),
    ] {
        let refused = policy(change).check_within_constraints(&constraints(&LAN, &[]));
        assert!(refused.as_ref().is_err_and(|text| text.contains(entry)), "{refused:?}");
    }
    // Narrower is fine.
    let narrow = policy(|s| {
        s.allow_names = own(&["iot.lan"]);
        s.allow_networks = own(&["10.9.0.0/16"]);
    });
    assert_eq!(narrow.check_within_constraints(&constraints(&LAN, &[])), Ok(()));
}

#[test]
fn permitting_ipv4_alone_leaves_no_ipv6() {
    let only_v4 = constraints(&["10.0.0.0/8"], &[]);
    let policy = policy(|s| s.allow_networks = own(&["10.0.0.0/8", "fc00::/7"]));
    assert!(policy.check_within_constraints(&only_v4).is_err_and(|text| text.contains("fc00::/7")));
}

#[test]
fn a_leading_dot_leaves_out_the_name_itself() {
    let below = constraints(&[".lan"], &[]);
    let lan = policy(|s| s.allow_names = own(&["lan"]));
    assert!(lan.check_within_constraints(&below).is_err());
    let iot = policy(|s| s.allow_names = own(&["iot.lan"]));
    assert_eq!(iot.check_within_constraints(&below), Ok(()));
}

#[test]
fn what_is_excluded_must_be_denied() {
    let holes = constraints(&[], &["ca.lan", "10.0.0.0/24"]);
    let open = policy(|_| ());
    assert!(open.check_within_constraints(&holes).is_err_and(|text| text.contains("`ca.lan`")));
    let closed = policy(|s| {
        s.deny_names = own(&["ca.lan"]);
        s.deny_networks = own(&["10.0.0.0/16"]);
    });
    assert_eq!(closed.check_within_constraints(&holes), Ok(()));
    // Excluded as a whole: no denied entry mends that.
    for all in [constraints(&[], &[""]), constraints(&[], &["0.0.0.0/0", "::/0"])] {
        assert!(closed.check_within_constraints(&all).is_err());
    }
}

#[test]
fn constraints_that_cannot_be_judged_are_refused() {
    let odd_mask = GeneralName::IpAddress(OctetString::new([10, 0, 0, 0, 255, 0, 255, 0]).unwrap());
    let short = GeneralName::IpAddress(OctetString::new([10, 0, 0]).unwrap());
    let lan = GeneralName::DnsName(Ia5String::new("lan").unwrap());
    for (base, maximum) in [(odd_mask, None), (short, None), (lan, Some(1))] {
        let value = NameConstraints {
            permitted_subtrees: Some(vec![GeneralSubtree { base, minimum: 0, maximum }]),
            excluded_subtrees: None,
        };
        assert!(from_value(&value).is_err());
    }
}

#[test]
fn constraints_are_read_from_a_certificate() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let plain = params.clone().self_signed(&key).unwrap();
    let plain = Certificate::parse(plain.der()).unwrap();
    assert_eq!(policy(|_| ()).check_within(&plain), Ok(()));
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![
            rcgen::GeneralSubtree::DnsName("lan".to_owned()),
            rcgen::GeneralSubtree::IpAddress(rcgen::CidrSubnet::V4([10, 0, 0, 0], [255, 0, 0, 0])),
        ],
        excluded_subtrees: vec![],
    });
    let constrained = params.self_signed(&key).unwrap();
    let read = Certificate::parse(constrained.der()).unwrap();
    let lan = policy(|s| {
        s.allow_names = own(&["lan"]);
        s.allow_networks = own(&["10.0.0.0/8"]);
    });
    assert_eq!(lan.check_within(&read), Ok(()));
    assert!(policy(|_| ()).check_within(&read).is_err());
}

proptest! {
    /// Whatever a policy within constraints permits, the constraints permit.
    #[test]
    fn no_name_escapes_the_constraints(
        allowed in proptest::collection::vec("(a|b)(\\.(a|b)){0,2}", 1..3),
        denied in proptest::collection::vec("(a|b)(\\.(a|b)){0,2}", 0..2),
        permitted in proptest::collection::vec("(a|b)(\\.(a|b)){0,1}", 1..3),
        excluded in proptest::collection::vec("(a|b)(\\.(a|b)){0,2}", 0..2),
        name in "(a|b)(\\.(a|b)){0,3}",
    ) {
        let policy = policy(|s| {
            s.allow_names = allowed;
            s.deny_names = denied;
        });
        let p: Vec<&str> = permitted.iter().map(String::as_str).collect();
        let e: Vec<&str> = excluded.iter().map(String::as_str).collect();
        // Networks are left unrestricted, so only names decide.
        if policy.check_within_constraints(&constraints(&p, &e)).is_ok()
            && policy.permits(&dns(&name)).is_ok()
        {
            let below = |base: &&str| name == *base || name.ends_with(&format!(".{base}"));
            prop_assert!(p.iter().any(below));
            prop_assert!(!e.iter().any(below));
        }
    }
}

#[test]
fn a_name_tree_is_an_allowed_entry_and_some_labels() {
    let settings = Settings {
        allow_names: vec!["lan".into(), "home.arpa".into(), "big.lan".into()],
        ..Settings::default()
    };
    let policy = Policy::new(&settings).unwrap();
    for (name, labels, tree) in [
        ("a.b.plant.lan", 1, Some("plant.lan")),
        ("a.b.plant.lan", 2, Some("b.plant.lan")),
        ("a.b.plant.lan", 0, Some("lan")),
        ("plant.lan", 1, Some("plant.lan")),
        ("plant.lan", 9, Some("plant.lan")),
        ("lan", 1, Some("lan")),
        ("*.plant.lan", 1, Some("plant.lan")),
        ("x.home.arpa", 1, Some("x.home.arpa")),
        ("y.x.home.arpa", 1, Some("x.home.arpa")),
        ("z.y.big.lan", 1, Some("y.big.lan")),
        ("example.com", 1, None),
    ] {
        let identifier = Identifier::parse("dns", name).unwrap();
        assert_eq!(policy.tree(&identifier, labels).as_deref(), tree, "{name} {labels}");
    }
    assert_eq!(policy.tree(&Identifier::parse("ip", "10.0.0.1").unwrap(), 1), None);
}
