//! The records of the log. Versioned variants of one outer enum: append only, never reordered, never
//! edited; a golden file holds the bytes of each. What is hashed is the stored bytes, never a re-encoding.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};

/// One leaf. At most 65,535 octets encoded (C2SP tlog-tiles); what is larger is logged by digest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// The first leaf: which CA this log belongs to.
    CeremonyV1(CeremonyV1),
    /// An account key the issuer accepted. No contact data.
    AccountRegisteredV1(AccountRegisteredV1),
    /// The exact TBSCertificate, before any key signs it (promise 2).
    IntentV1(IntentV1),
    /// The signature that was made over an intent's bytes.
    IssuedV1(IssuedV1),
    /// An intent that shall never be signed; its serial counts as revoked.
    AbandonedV1(AbandonedV1),
    /// A CRL that is about to be signed, by digest of its TBSCertList.
    CrlV1(CrlV1),
    /// The operator accepted a clock the rules refused.
    ClockAcceptedV1(ClockAcceptedV1),
    /// An account key the issuer accepted, and the ticket use that it spent. No contact data.
    AccountRegisteredV2(AccountRegisteredV2),
    /// An account has another key from here on (RFC 8555 section 7.3.5).
    KeyChangedV1(KeyChangedV1),
    /// An account may ask for nothing more, ever.
    AccountDeactivatedV1(AccountDeactivatedV1),
    /// An enrolment ticket, by digest of what it is good for; its secret is nowhere in the log.
    TicketMintedV1(TicketMintedV1),
    /// A ticket registers nobody any more; who registered with it stays.
    TicketRevokedV1(TicketRevokedV1),
    /// A certificate that shall be trusted no more. Durable before its CRL is signed.
    RevokedV1(RevokedV1),
    /// The CRL at one URL that is about to be signed, by digest of its TBSCertList.
    CrlV2(CrlV2),
    /// What was asked for and refused within an interval, counted.
    RefusedV1(RefusedV1),
    /// The operator wants certificates replaced within a window (RFC 9773).
    RecallV1(RecallV1),
    /// A recall counts no more.
    RecallEndedV1(RecallEndedV1),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CeremonyV1 {
    pub at: Timestamp,
    pub origin: String,
    /// SHA-256 over the DER of root and issuing certificate.
    pub root_sha256: [u8; 32],
    pub issuing_sha256: [u8; 32],
    /// SubjectPublicKeyInfo of the log key.
    #[serde(with = "serde_bytes")]
    pub log_key: Vec<u8>,
    pub transcript_sha256: [u8; 32],
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountRegisteredV1 {
    pub at: Timestamp,
    pub account: AccountId,
    /// Canonical JWK (RFC 7638 member order).
    pub jwk: String,
}

/// On whose behalf a certificate is made. Order is stored: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Requester {
    /// An ACME order; `jws_sha256` is over the finalize request as it arrived.
    Order { order: OrderId, account: AccountId, jws_sha256: [u8; 32] },
    /// The issuer itself, for its own TLS key.
    Own,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IntentV1 {
    pub at: Timestamp,
    pub serial: Serial,
    pub requester: Requester,
    pub profile: String,
    /// SHA-256 over the issuing certificate.
    pub issuer_sha256: [u8; 32],
    #[serde(with = "serde_bytes")]
    pub tbs: Vec<u8>,
    /// What the web process says was proven, one for each authorization. Claimed, not verified here.
    pub validations: Vec<ValidationV1>,
}

/// One claimed validation: who was proven to control what, how and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ValidationV1 {
    /// The identifier's value as ACME writes it: a DNS name or an address.
    pub identifier: String,
    /// The challenge type's registered name, such as `http-01`.
    pub method: String,
    pub at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IssuedV1 {
    pub at: Timestamp,
    pub intent: LeafIndex,
    pub serial: Serial,
    /// The DER AlgorithmIdentifier and the signature: with the intent's TBS, the certificate.
    #[serde(with = "serde_bytes")]
    pub algorithm: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AbandonedV1 {
    pub at: Timestamp,
    pub intent: LeafIndex,
    pub serial: Serial,
    pub reason: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CrlV1 {
    pub at: Timestamp,
    pub issuer_sha256: [u8; 32],
    pub number: u64,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
    pub entries: u64,
    pub tbs_sha256: [u8; 32],
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClockAcceptedV1 {
    pub at: Timestamp,
    pub floor: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountRegisteredV2 {
    pub at: Timestamp,
    pub account: AccountId,
    /// Canonical JWK (RFC 7638 member order).
    pub jwk: String,
    /// The ticket this registration spent a use of: the count of these records is the count of uses.
    pub ticket: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyChangedV1 {
    pub at: Timestamp,
    pub account: AccountId,
    /// The new key, as in a registration.
    pub jwk: String,
    /// RFC 7638 thumbprint of the key it replaces.
    pub former: [u8; 32],
    /// SHA-256 over the outer request, which the former key signed.
    pub jws_sha256: [u8; 32],
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountDeactivatedV1 {
    pub at: Timestamp,
    pub account: AccountId,
    pub by: Actor,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TicketMintedV1 {
    pub at: Timestamp,
    /// The `kid` of its external account bindings.
    pub ticket: String,
    pub uses: u32,
    pub expires: Timestamp,
    /// SHA-256 over the constraints as the issuer's ticket file writes them.
    pub constraints_sha256: [u8; 32],
    pub by: Actor,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TicketRevokedV1 {
    pub at: Timestamp,
    pub ticket: String,
    pub by: Actor,
}

/// Which certificates: those for which all that is said holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecallV1 {
    pub at: Timestamp,
    pub profile: Option<String>,
    pub serial: Option<Serial>,
    pub issued_from: Option<Timestamp>,
    /// At the latest when this was recorded: what replaces them is not recalled itself.
    pub issued_until: Timestamp,
    /// The window that is suggested; `end` is after `start`.
    pub start: Timestamp,
    pub end: Timestamp,
    /// Where people can read why.
    pub explanation: Option<String>,
    pub by: Actor,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecallEndedV1 {
    pub at: Timestamp,
    /// The leaf of the recall.
    pub recall: LeafIndex,
    pub by: Actor,
}

/// Who had something done. Order is stored: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Actor {
    /// An account, with its own request; SHA-256 over that as it arrived.
    Account { account: AccountId, jws_sha256: [u8; 32] },
    /// An operator at the issuer's admin socket, as the kernel names the peer.
    Operator { uid: u32, user: String },
    /// The holder of the key in question, with a request that it signed.
    Key { jws_sha256: [u8; 32] },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokedV1 {
    pub at: Timestamp,
    pub serial: Serial,
    /// The intent of the certificate.
    pub intent: LeafIndex,
    /// CRLReason (RFC 5280 section 5.3.1); `None` if none was given.
    pub reason: Option<u8>,
    /// RFC 8555 section 7.6. Of an account: the one it was issued to, or another.
    pub by: Actor,
    /// Where another account had it revoked: that it controls every identifier now. Claimed, not verified here.
    pub validations: Vec<ValidationV1>,
    /// The URL in the certificate's CRLDistributionPoints, where the entry will stand; `None` if it names none.
    pub crl: Option<String>,
    /// The certificate's notAfter: the entry stays until one CRL past it.
    pub not_after: Timestamp,
    /// SHA-256 over the SubjectPublicKeyInfo if the key is compromised: it is not certified again, and no
    /// account may have it.
    pub blocked_key: Option<[u8; 32]>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CrlV2 {
    pub at: Timestamp,
    pub issuer_sha256: [u8; 32],
    /// The URL it is published at: that of the certificates it lists.
    pub crl: String,
    pub number: u64,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
    pub entries: u64,
    pub tbs_sha256: [u8; 32],
}

/// Refusals between two instants, aggregated: whoever asks without end cannot fill the disk with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedV1 {
    pub at: Timestamp,
    pub from: Timestamp,
    pub until: Timestamp,
    pub refusals: Vec<RefusalV1>,
}

/// How often something was refused to somebody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusalV1 {
    /// The question's name, such as `finalize`; `socket` where the rules of the socket itself were broken.
    pub asked: String,
    /// The type of the problem document, such as `unauthorized`, or what was broken.
    pub why: String,
    /// Who signed what was asked; `None` where no registered account did.
    pub account: Option<AccountId>,
    pub count: u64,
}

impl Record {
    /// The instant it says it was made.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::CeremonyV1(r) => r.at,
            Self::AccountRegisteredV1(r) => r.at,
            Self::IntentV1(r) => r.at,
            Self::IssuedV1(r) => r.at,
            Self::AbandonedV1(r) => r.at,
            Self::CrlV1(r) => r.at,
            Self::ClockAcceptedV1(r) => r.at,
            Self::AccountRegisteredV2(r) => r.at,
            Self::KeyChangedV1(r) => r.at,
            Self::AccountDeactivatedV1(r) => r.at,
            Self::TicketMintedV1(r) => r.at,
            Self::TicketRevokedV1(r) => r.at,
            Self::RevokedV1(r) => r.at,
            Self::CrlV2(r) => r.at,
            Self::RefusedV1(r) => r.at,
            Self::RecallV1(r) => r.at,
            Self::RecallEndedV1(r) => r.at,
        }
    }
    /// The stored bytes. Fails if they would exceed a leaf.
    pub fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        // Serializing these types into a growing vector has no other way to fail than memory.
        let bytes = postcard::to_stdvec(self).map_err(|_| TooLarge(usize::MAX))?;
        if bytes.len() > MAX_LEAF { Err(TooLarge(bytes.len())) } else { Ok(bytes) }
    }
    /// Decodes exactly one record; trailing octets are refused.
    ///
    /// Integers in a longer form than needed are accepted, as postcard does: never hash a re-encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotARecord> {
        if bytes.len() > MAX_LEAF {
            return Err(NotARecord(format!("{} octets are more than a leaf holds", bytes.len())));
        }
        let (record, rest) =
            postcard::take_from_bytes(bytes).map_err(|e| NotARecord(e.to_string()))?;
        if rest.is_empty() {
            Ok(record)
        } else {
            Err(NotARecord(format!("{} octets follow the record", rest.len())))
        }
    }

    /// The variant's name as it is printed: `ceremony`, `account`, `intent`, `issued`, `abandoned`,
    /// `crl`, `clock`, `keychange`, `deactivated`, `ticket`, `ticket-end`, `revoked`, `refused`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CeremonyV1(_) => "ceremony",
            Self::AccountRegisteredV1(_) | Self::AccountRegisteredV2(_) => "account",
            Self::IntentV1(_) => "intent",
            Self::IssuedV1(_) => "issued",
            Self::AbandonedV1(_) => "abandoned",
            Self::CrlV1(_) | Self::CrlV2(_) => "crl",
            Self::ClockAcceptedV1(_) => "clock",
            Self::KeyChangedV1(_) => "keychange",
            Self::AccountDeactivatedV1(_) => "deactivated",
            Self::TicketMintedV1(_) => "ticket",
            Self::TicketRevokedV1(_) => "ticket-end",
            Self::RevokedV1(_) => "revoked",
            Self::RefusedV1(_) => "refused",
            Self::RecallV1(_) => "recall",
            Self::RecallEndedV1(_) => "recall-end",
        }
    }

    /// Whether it may take the reserve when the disk is full: what withdraws trust, and what says so.
    pub fn is_urgent(&self) -> bool {
        matches!(
            self,
            Self::AbandonedV1(_)
                | Self::CrlV1(_)
                | Self::AccountDeactivatedV1(_)
                | Self::TicketRevokedV1(_)
                | Self::RevokedV1(_)
                | Self::CrlV2(_)
        )
    }
}

/// The most octets a leaf can have: an entry's length in a tile is a uint16 (C2SP tlog-tiles).
pub const MAX_LEAF: usize = 65_535;

/// The encoding exceeds 65,535 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub usize);

/// The octets are not one record of a version known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotARecord(pub String);

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets are more than a leaf holds ({MAX_LEAF})", self.0)
    }
}

impl fmt::Display for NotARecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a record this version knows: {}", self.0)
    }
}

impl std::error::Error for TooLarge {}
impl std::error::Error for NotARecord {}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

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
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
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

    proptest! {
        #[test]
        fn any_octets_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Record::decode(&bytes);
        }
    }
}
