use proptest::prelude::*;

use super::*;
use crate::id::{AccountId, OrderId, Serial};
use crate::state::Format;

/// One record of every variant, with fields whose encodings differ in length.
pub(crate) fn samples() -> Vec<(&'static str, Record)> {
    let serial = Serial::from_random([0x5a; 16]);
    vec![
        (
            "ceremony-v1",
            Record::CeremonyV1(CeremonyV1 {
                at: Timestamp(1_795_305_600_123),
                origin: "ca.lan/log".into(),
                root_sha256: [1; 32],
                issuing_sha256: [2; 32],
                log_key: vec![0x30, 0x2a, 0x00, 0xff],
                transcript_sha256: [3; 32],
            }),
        ),
        (
            "account-registered-v1",
            Record::AccountRegisteredV1(AccountRegisteredV1 {
                at: Timestamp(1_795_305_601_000),
                account: AccountId([4; 16]),
                jwk: r#"{"crv":"Ed25519","kty":"OKP","x":"AA"}"#.into(),
            }),
        ),
        (
            "intent-v1-order",
            Record::IntentV1(IntentV1 {
                at: Timestamp(1_795_305_602_000),
                serial,
                requester: Requester::Order {
                    order: OrderId([5; 16]),
                    account: AccountId([4; 16]),
                    jws_sha256: [6; 32],
                },
                profile: "tls-server".into(),
                issuer_sha256: [2; 32],
                tbs: (0..=255).collect(),
                validations: vec![ValidationV1 {
                    identifier: "a.test".into(),
                    method: "http-01".into(),
                    at: Timestamp(1_795_305_601_500),
                }],
            }),
        ),
        (
            "intent-v1-own",
            Record::IntentV1(IntentV1 {
                at: Timestamp(0),
                serial,
                requester: Requester::Own,
                profile: String::new(),
                issuer_sha256: [2; 32],
                tbs: vec![0x30, 0],
                validations: Vec::new(),
            }),
        ),
        (
            "issued-v1",
            Record::IssuedV1(IssuedV1 {
                at: Timestamp(1_795_305_603_000),
                intent: LeafIndex(300),
                serial,
                algorithm: vec![0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70],
                signature: vec![0xab; 64],
            }),
        ),
        (
            "abandoned-v1",
            Record::AbandonedV1(AbandonedV1 {
                at: Timestamp(1_795_305_604_000),
                intent: LeafIndex(7),
                serial,
                reason: "the order is gone".into(),
            }),
        ),
        (
            "crl-v1",
            Record::CrlV1(CrlV1 {
                at: Timestamp(1_795_305_605_000),
                issuer_sha256: [2; 32],
                number: 130,
                this_update: Timestamp(1_795_305_600_000),
                next_update: Timestamp(1_795_910_400_000),
                entries: 1,
                tbs_sha256: [7; 32],
            }),
        ),
        (
            "clock-accepted-v1",
            Record::ClockAcceptedV1(ClockAcceptedV1 {
                at: Timestamp(1_795_305_606_000),
                floor: Timestamp(1_700_000_000_000),
            }),
        ),
        (
            "account-registered-v2",
            Record::AccountRegisteredV2(AccountRegisteredV2 {
                at: Timestamp(1_795_305_607_000),
                account: AccountId([4; 16]),
                jwk: r#"{"crv":"Ed25519","kty":"OKP","x":"AA"}"#.into(),
                ticket: Some("t0123456789abcdef01234567".into()),
            }),
        ),
        (
            "key-changed-v1",
            Record::KeyChangedV1(KeyChangedV1 {
                at: Timestamp(1_795_305_608_000),
                account: AccountId([4; 16]),
                jwk: r#"{"crv":"Ed25519","kty":"OKP","x":"AQ"}"#.into(),
                former: [8; 32],
                jws_sha256: [9; 32],
            }),
        ),
        (
            "account-deactivated-v1",
            Record::AccountDeactivatedV1(AccountDeactivatedV1 {
                at: Timestamp(1_795_305_609_000),
                account: AccountId([4; 16]),
                by: Actor::Account { account: AccountId([4; 16]), jws_sha256: [10; 32] },
            }),
        ),
        (
            "ticket-minted-v1",
            Record::TicketMintedV1(TicketMintedV1 {
                at: Timestamp(1_795_305_610_000),
                ticket: "t0123456789abcdef01234567".into(),
                uses: 300,
                expires: Timestamp(1_797_897_610_000),
                constraints_sha256: [11; 32],
                by: Actor::Operator { uid: 1000, user: "ada".into() },
            }),
        ),
        (
            "ticket-revoked-v1",
            Record::TicketRevokedV1(TicketRevokedV1 {
                at: Timestamp(1_795_305_611_000),
                ticket: "t0123456789abcdef01234567".into(),
                by: Actor::Operator { uid: 0, user: "root".into() },
            }),
        ),
        (
            "revoked-v1-account",
            revoked(
                Actor::Account { account: AccountId([4; 16]), jws_sha256: [8; 32] },
                vec![ValidationV1 {
                    identifier: "a.test".into(),
                    method: "http-01".into(),
                    at: Timestamp(1_795_305_601_500),
                }],
            ),
        ),
        ("revoked-v1-key", revoked(Actor::Key { jws_sha256: [8; 32] }, Vec::new())),
        (
            "revoked-v1-operator",
            Record::RevokedV1(RevokedV1 {
                at: Timestamp(0),
                serial,
                intent: LeafIndex(300),
                reason: None,
                by: Actor::Operator { uid: 1000, user: "ada".into() },
                validations: Vec::new(),
                crl: None,
                not_after: Timestamp(1_803_081_606_000),
                blocked_key: None,
            }),
        ),
        (
            "crl-v2",
            Record::CrlV2(CrlV2 {
                at: Timestamp(1_795_305_605_000),
                issuer_sha256: [2; 32],
                crl: "http://ca.lan/issuing-8/3.crl".into(),
                number: 1_795_305_605_000,
                this_update: Timestamp(1_795_305_600_000),
                next_update: Timestamp(1_795_910_400_000),
                entries: 1,
                tbs_sha256: [7; 32],
            }),
        ),
        (
            "recall-v1",
            Record::RecallV1(RecallV1 {
                at: Timestamp(1_795_305_610_000),
                profile: Some("device".into()),
                serial: Some(serial),
                issued_from: None,
                issued_until: Timestamp(1_795_305_610_000),
                start: Timestamp(1_795_305_610_000),
                end: Timestamp(1_795_392_010_000),
                explanation: Some("https://ca.lan/why".into()),
                by: Actor::Operator { uid: 1000, user: "ops".into() },
            }),
        ),
        (
            "recall-ended-v1",
            Record::RecallEndedV1(RecallEndedV1 {
                at: Timestamp(1_795_305_611_000),
                recall: LeafIndex(300),
                by: Actor::Operator { uid: 0, user: "root".into() },
            }),
        ),
        (
            "log-key-rotated-v1",
            Record::LogKeyRotatedV1(LogKeyRotatedV1 {
                at: Timestamp(1_795_305_612_000),
                former: vec![0x30, 0x2a, 0x00, 0xff],
                key: vec![0x30, 0x2a, 0x00, 0xfe],
                endorsement: vec![0xcd; 64],
                possession: vec![0xef; 64],
                until: Timestamp(1_803_081_612_000),
                transcript_sha256: [3; 32],
            }),
        ),
        (
            "log-key-retired-v1",
            Record::LogKeyRetiredV1(LogKeyRetiredV1 {
                at: Timestamp(1_803_081_612_000),
                key: vec![0x30, 0x2a, 0x00, 0xff],
                by: None,
            }),
        ),
        (
            "log-key-retired-v1-operator",
            Record::LogKeyRetiredV1(LogKeyRetiredV1 {
                at: Timestamp(1_803_081_612_000),
                key: vec![0x30, 0x2a, 0x00, 0xff],
                by: Some(Actor::Operator { uid: 0, user: "root".into() }),
            }),
        ),
        (
            "issuer-added-v1",
            Record::IssuerAddedV1(IssuerAddedV1 {
                at: Timestamp(1_795_305_613_000),
                name: "issuing-2".into(),
                line: "issuing".into(),
                certificate: vec![0x30, 0x03, 0x00, 0xff, 0x80],
                root_sha256: [1; 32],
                supersedes: Some([2; 32]),
                crl: "http://ca.lan/crl/issuing-2.crl".into(),
                transcript_sha256: [3; 32],
            }),
        ),
        (
            "issuer-added-v1-first-of-its-line",
            Record::IssuerAddedV1(IssuerAddedV1 {
                at: Timestamp(1_795_305_613_000),
                name: "post-quantum".into(),
                line: "post-quantum".into(),
                certificate: vec![0x30, 0x00],
                root_sha256: [1; 32],
                supersedes: None,
                crl: "http://ca.lan/crl/post-quantum.crl".into(),
                transcript_sha256: [4; 32],
            }),
        ),
        (
            "root-added-v1",
            Record::RootAddedV1(RootAddedV1 {
                at: Timestamp(1_795_305_614_000),
                name: "root-2".into(),
                certificate: vec![0x30, 0x01, 0xff],
                former_sha256: [1; 32],
                by_former: vec![0x30, 0x01, 0x00],
                of_former: vec![0x30, 0x01, 0x80],
                transcript_sha256: [5; 32],
            }),
        ),
        (
            "authority-retired-v1",
            Record::AuthorityRetiredV1(AuthorityRetiredV1 {
                at: Timestamp(1_803_081_613_000),
                certificate_sha256: [2; 32],
                by: None,
            }),
        ),
        (
            "refused-v1",
            Record::RefusedV1(RefusedV1 {
                at: Timestamp(1_795_305_607_000),
                from: Timestamp(1_795_305_000_000),
                until: Timestamp(1_795_305_607_000),
                refusals: vec![
                    RefusalV1 {
                        asked: "finalize".into(),
                        why: "rejectedIdentifier".into(),
                        account: Some(AccountId([4; 16])),
                        count: 300,
                    },
                    RefusalV1 {
                        asked: "socket".into(),
                        why: "frame".into(),
                        account: None,
                        count: 1,
                    },
                ],
            }),
        ),
        (
            "started-v1",
            Record::StartedV1(StartedV1 {
                at: Timestamp(1_795_305_612_000),
                version: "1.2.3".into(),
                built: Timestamp(1_790_000_000_000),
                program_sha256: Some([12; 32]),
                config_sha256: [13; 32],
                token: Some(TokenV1 {
                    label: "chancery".into(),
                    manufacturer: "Example".into(),
                    model: "HSM 9".into(),
                    serial: "0123456789abcdef".into(),
                    firmware: "2.6".into(),
                    module: "Example PKCS#11".into(),
                    module_version: "4.0".into(),
                }),
                previous: PreviousEnd::Unclean,
                starts: 200,
                found: 70_000,
                torn: true,
            }),
        ),
        (
            "started-v1-first",
            Record::StartedV1(StartedV1 {
                at: Timestamp(1_795_305_612_000),
                version: "1.2.3".into(),
                built: Timestamp(1_790_000_000_000),
                program_sha256: None,
                config_sha256: [13; 32],
                token: None,
                previous: PreviousEnd::Unknown,
                starts: 1,
                found: 1,
                torn: false,
            }),
        ),
        (
            "started-v1-clean",
            Record::StartedV1(StartedV1 {
                at: Timestamp(1_795_305_614_000),
                version: "1.2.3".into(),
                built: Timestamp(1_790_000_000_000),
                program_sha256: None,
                config_sha256: [14; 32],
                token: None,
                previous: PreviousEnd::Clean,
                starts: 1,
                found: 300,
                torn: false,
            }),
        ),
        (
            "config-changed-v1",
            Record::ConfigChangedV1(ConfigChangedV1 {
                at: Timestamp(1_795_305_613_000),
                former: Some([13; 32]),
                sha256: [14; 32],
                parts: vec![
                    ConfigPartV1 { name: "policy".into(), sha256: [15; 32] },
                    ConfigPartV1 { name: "profiles.device".into(), sha256: [16; 32] },
                ],
                changed: Some(vec!["policy.allow".into(), "profiles.device.days".into()]),
                unlisted: 3,
            }),
        ),
        (
            "config-changed-v1-first",
            Record::ConfigChangedV1(ConfigChangedV1 {
                at: Timestamp(1_795_305_612_000),
                former: None,
                sha256: [13; 32],
                parts: vec![ConfigPartV1 { name: "issuer".into(), sha256: [17; 32] }],
                changed: None,
                unlisted: 0,
            }),
        ),
        (
            "ceremony-held-v1",
            Record::CeremonyHeldV1(CeremonyHeldV1 {
                at: Timestamp(1_803_081_613_000),
                act: "rotate-tls-key".into(),
                ceremony: "tls-key".into(),
                held: Timestamp(1_803_081_600_000),
                by: Some(Actor::Operator { uid: 0, user: "root".into() }),
                transcript_sha256: [18; 32],
            }),
        ),
        (
            "ceremony-held-v1-nobody",
            Record::CeremonyHeldV1(CeremonyHeldV1 {
                at: Timestamp(1_803_081_614_000),
                act: "root-crl".into(),
                ceremony: "root".into(),
                held: Timestamp(1_803_081_601_000),
                by: None,
                transcript_sha256: [19; 32],
            }),
        ),
        (
            "restored-v1",
            Record::RestoredV1(RestoredV1 {
                at: Timestamp(1_803_081_615_000),
                size: 70_000,
                root: [20; 32],
                made: Timestamp(1_803_081_600_000),
                backup_sha256: [21; 32],
                shown: ShownBy::Operator,
                by: Actor::Operator { uid: 0, user: "root".into() },
            }),
        ),
        (
            "restored-v1-witness",
            Record::RestoredV1(RestoredV1 {
                at: Timestamp(1_803_081_615_000),
                size: 300,
                root: [20; 32],
                made: Timestamp(1_803_081_600_000),
                backup_sha256: [21; 32],
                shown: ShownBy::Witness {
                    name: "b.lan/witness".into(),
                    cosigned: Timestamp(1_803_081_614_000),
                },
                by: Actor::Operator { uid: 1000, user: "ada".into() },
            }),
        ),
        (
            "log-succeeded-v1",
            Record::LogSucceededV1(LogSucceededV1 {
                ceremony: CeremonyV1 {
                    at: Timestamp(1_795_305_600_123),
                    origin: "ca.lan/log-2".into(),
                    root_sha256: [1; 32],
                    issuing_sha256: [2; 32],
                    log_key: vec![0x30, 0x2a, 0x00, 0xff],
                    transcript_sha256: [3; 32],
                },
                at: Timestamp(1_803_081_615_000),
                origin: "ca.lan/log".into(),
                size: 70_000,
                root: [20; 32],
                first: [22; 32],
                checkpoint: "ca.lan/log\n70000\nFBQ=\n\n\u{2014} ca.lan/log AAAA\n".into(),
                unknown_from: Timestamp(1_803_081_600_000),
                unknown_until: Timestamp(1_803_081_615_000),
                backup_sha256: [21; 32],
                by: Actor::Operator { uid: 0, user: "root".into() },
            }),
        ),
        (
            "epoch-taken-v1",
            Record::EpochTakenV1(EpochTakenV1 {
                at: Timestamp(1_803_081_616_000),
                epoch: 300,
                holder: [23; 16],
                held: true,
                by: Actor::Operator { uid: 0, user: "root".into() },
            }),
        ),
        (
            "format-raised-v1",
            Record::FormatRaisedV1(FormatRaisedV1 {
                at: Timestamp(1_803_081_617_000),
                from: 1,
                to: 300,
                version: "0.2.0".into(),
                by: Actor::Operator { uid: 0, user: "root".into() },
            }),
        ),
    ]
}

fn revoked(by: Actor, validations: Vec<ValidationV1>) -> Record {
    Record::RevokedV1(RevokedV1 {
        at: Timestamp(1_795_305_607_000),
        serial: Serial::from_random([0x5a; 16]),
        intent: LeafIndex(300),
        reason: Some(1),
        by,
        validations,
        crl: Some("http://ca.lan/issuing-8/3.crl".into()),
        not_after: Timestamp(1_803_081_606_000),
        blocked_key: Some([9; 32]),
    })
}

/// The stored form of every variant, for ever: one hexadecimal file each. A change here is a
/// change of format; add a variant instead. `BLESS=1` writes files that are missing, never others.
#[test]
fn golden_octets_of_every_variant() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/records");
    for (name, record) in samples() {
        let bytes = record.encode().unwrap();
        let hex = crate::id::hex(&bytes);
        let path = dir.join(format!("{name}.hex"));
        if std::env::var_os("BLESS").is_some() && !path.exists() {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, format!("{hex}\n")).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(golden.trim_end(), hex, "{name}");
        assert_eq!(Record::decode(&bytes).unwrap(), record, "{name}");
    }
}

/// Nobody adds a variant, to the records or inside them, without a sample of it.
#[test]
fn every_variant_has_a_golden_file() {
    let schema = include_str!("../../../tests/golden/schema.txt");
    let samples = format!("{:?}", samples());
    for line in schema.lines().filter_map(|line| line.strip_prefix("enum ")) {
        let variant = line.split(' ').nth(2).unwrap();
        let name = variant.split('(').next().unwrap();
        assert!(samples.contains(name), "{line}");
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/records"));
    assert_eq!(files.unwrap().count(), self::samples().len(), "a file without a sample");
}

#[test]
fn octets_after_a_record_and_prefixes_of_it_are_refused() {
    for (name, record) in samples() {
        let mut bytes = record.encode().unwrap();
        for cut in 0..bytes.len() {
            assert!(Record::decode(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
        bytes.push(0);
        assert!(Record::decode(&bytes).is_err(), "{name}");
    }
}

#[test]
fn a_record_larger_than_a_leaf_is_refused() {
    let mut record = AbandonedV1 {
        at: Timestamp(0),
        intent: LeafIndex(0),
        serial: Serial::from_random([0; 16]),
        reason: String::new(),
    };
    let overhead = Record::AbandonedV1(record.clone()).encode().unwrap().len() + 2;
    record.reason = "x".repeat(MAX_LEAF - overhead);
    assert_eq!(Record::AbandonedV1(record.clone()).encode().unwrap().len(), MAX_LEAF);
    record.reason.push('x');
    assert_eq!(Record::AbandonedV1(record).encode(), Err(TooLarge(MAX_LEAF + 1)));
    assert!(Record::decode(&vec![0; MAX_LEAF + 1]).is_err());
}

/// Which kinds a format knows was settled when it was released: a new kind needs a new format.
#[test]
fn each_kind_is_of_the_format_that_brought_it() {
    assert_eq!(
        KNOWN,
        [28, 29],
        "formats that were released do not change: add one to `state::Format`"
    );
    let schema = include_str!("../../../tests/golden/schema.txt");
    let kinds = schema.lines().filter(|line| line.starts_with("enum Record ")).count();
    assert_eq!(KNOWN.last().copied(), u64::try_from(kinds).ok(), "a kind that no format knows");
    for (name, record) in samples() {
        let newest = matches!(record, Record::FormatRaisedV1(_));
        let format = if newest { Format(2) } else { Format(1) };
        assert_eq!(format_of(&record.encode().unwrap()), Some(format), "{name}");
    }
    assert_eq!(format_of(&[29]), None);
    assert_eq!(format_of(&[]), None);
}

proptest! {
    #[test]
    fn any_octets_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Record::decode(&bytes);
    }
}
