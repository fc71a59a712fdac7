//! Ten years of certificates: real signatures over real TBSCertificates, of which all but the first are
//! copies with other serials, names and dates.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use chancery::env::system::{SystemClock, SystemDisk};
use chancery::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};
use chancery::log::record::{
    AccountRegisteredV1, Actor, CeremonyV1, IntentV1, IssuedV1, Record, Requester, RevokedV1,
    ValidationV1,
};
use chancery::log::{AppendError, Appended, Log, Opening, Release, Settings};
use chancery::pki::certificate::Certificate;
use chancery::pki::key::PublicKey;
use chancery::pki::name::Identifier;
use chancery::pki::profile::Profile;
use chancery::pki::rehearse::{self, Ca, CaTemplate, Leaf};
use chancery::tlog::note::{NoteSignError, NoteSigner, VerifierKey};
use chancery::tlog::tree::sha256;
use rcgen::{KeyPair, PublicKeyData, SigningKey};

use crate::{Place, pause};

pub const ORIGIN: &str = "scale.lan/log";
/// 2026-01-01.
const START: u64 = 1_767_225_600;
const DAY: u64 = 86_400;
const YEARS: u64 = 10;
/// Every device gets so many certificates, every account has so many devices.
const RENEWALS: u64 = 40;
const DEVICES: u64 = 4;
/// Devices of one subdomain.
const SUBDOMAIN: u64 = 16;
/// One certificate in so many is revoked.
const REVOKED: u64 = 100;
/// Records under way at once.
const WINDOW: usize = 2048;
/// Certificates that come between two points of the index where a box is not at its limit.
pub const LAST: u64 = 3_000;
/// Longer than the index waits for more before it is written.
const POINT: Duration = Duration::from_secs(11);

/// The log key, in memory.
pub struct Signer {
    pair: Ed25519KeyPair,
    key: VerifierKey,
}

impl Signer {
    pub fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend_from_slice(pair.public_key().as_ref());
        let key = VerifierKey::from_spki(ORIGIN, &spki).unwrap();
        Self { pair, key }
    }

    pub fn spki(&self) -> &[u8] {
        self.key.spki()
    }
}

impl NoteSigner for Signer {
    fn verifier_key(&self) -> &VerifierKey {
        &self.key
    }
    fn sign(&self, message: Vec<u8>) -> Result<Vec<u8>, NoteSignError> {
        Ok(self.pair.sign(&message).as_ref().to_vec())
    }
}

pub fn opening(place: &Place) -> Opening {
    Opening {
        disk: Arc::new(SystemDisk),
        dir: place.log.clone(),
        public: place.public.clone(),
        settings: Settings { queue: 2 * WINDOW, ..Settings::default() },
        format: chancery::state::Format::OWN,
        signers: vec![Arc::new(Signer::new())],
        clock: Arc::new(SystemClock::new()),
        read_tbs: chancery::issuer::read_tbs,
        on_halt: Box::new(|why| panic!("{why}")),
    }
}

/// What the n-th certificate is about; anyone can compute it again.
pub struct Subject {
    pub serial: Serial,
    pub order: OrderId,
    pub account: AccountId,
    pub name: String,
    pub subdomain: String,
    pub at: Timestamp,
}

impl Subject {
    /// Of a log that was grown to `of` certificates in this step; dates follow from the number alone.
    pub fn new(n: u64) -> Self {
        let random = |what: &str, n: u64| -> [u8; 16] {
            sha256(format!("{what} {n}").as_bytes())[..16].try_into().unwrap()
        };
        // Devices renew in turn; a block of the log has its own, so that their number grows with it.
        let block = n / (RENEWALS * BLOCK);
        let device = block * BLOCK + n % BLOCK;
        let subdomain = format!("r{:06}.lan", device / SUBDOMAIN);
        Self {
            serial: Serial::from_random(random("serial", n)),
            order: OrderId(random("order", n)),
            account: AccountId(random("account", device / DEVICES)),
            name: format!("h{device:08}.{subdomain}"),
            subdomain,
            at: at(n),
        }
    }
}

/// Devices that renew in turn.
const BLOCK: u64 = 1000;
/// Certificates of ten years, whatever the size of this run: one every 32 seconds.
const TEN_MILLION: u64 = 10_000_000;

fn at(n: u64) -> Timestamp {
    Timestamp(START * 1000 + n * (YEARS * 365 * DAY * 1000 / TEN_MILLION))
}

/// `YYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5.1).
fn utc_time(at: Timestamp) -> Vec<u8> {
    let text = at.to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    format!("{}Z", &digits[2..]).into_bytes()
}

/// A TBSCertificate with holes, and the key that signs it.
struct Press {
    issuing_key: KeyPair,
    issuing: Certificate,
    tbs: Vec<u8>,
    serial: usize,
    dates: [usize; 2],
    name: usize,
    crl: usize,
    lifetime: Duration,
}

impl Press {
    /// The issuing key is made once, and kept beside the log.
    fn new(place: &Place) -> Self {
        let key_file = place.issuing.with_extension("key");
        let issuing_key = match std::fs::read_to_string(&key_file) {
            Ok(pem) => KeyPair::from_pem(&pem).unwrap(),
            Err(_) => {
                let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
                std::fs::write(&key_file, key.serialize_pem()).unwrap();
                key
            }
        };
        let public = PublicKey::from_spki(&issuing_key.subject_public_key_info()).unwrap();
        let now = Timestamp::from_unix_seconds(START);
        let issuing = match std::fs::read_to_string(&place.issuing) {
            Ok(pem) => Certificate::parse_pem(&pem).unwrap(),
            Err(_) => {
                let template = CaTemplate {
                    common_name: "Scale CA".to_owned(),
                    organization: None,
                    lifetime_days: 7300,
                    path_length: None,
                    permitted_names: vec!["lan".to_owned()],
                    permitted_networks: Vec::new(),
                };
                let ca = Ca {
                    template: &template,
                    key: &public,
                    serial: Serial::from_random([1; 16]),
                    now,
                    issuer: None,
                    aia_url: None,
                    crl_url: None,
                };
                let tbs = rehearse::ca(&ca).unwrap();
                let signature = issuing_key.sign(tbs.der()).unwrap();
                let algorithm = public.preferred_algorithm();
                let issuing = Certificate::assemble(tbs.der(), algorithm, &signature).unwrap();
                std::fs::write(&place.issuing, issuing.pem()).unwrap();
                issuing
            }
        };
        let leaf_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let leaf_key = PublicKey::from_spki(&leaf_key.subject_public_key_info()).unwrap();
        let (profile, subject) = (Profile::server(), Subject::new(0));
        let leaf = Leaf {
            profile: &profile,
            identifiers: &[Identifier::parse("dns", &subject.name).unwrap()],
            key: &leaf_key,
            serial: subject.serial,
            now: now.plus(Duration::from_secs(DAY)),
            not_before: None,
            not_after: None,
            issuer: &issuing,
            aia_url: "http://ca.lan/issuing.crt",
            crl_url: "http://ca.lan/issuing-128/000.crl",
        };
        let tbs = rehearse::leaf(&leaf).unwrap();
        let (from, until) = tbs.validity();
        let tbs = tbs.der().to_vec();
        let find = |what: &[u8]| tbs.windows(what.len()).position(|w| w == what).unwrap();
        Self {
            serial: find(subject.serial.octets()),
            dates: [find(&utc_time(from)), find(&utc_time(until))],
            name: find(subject.name.as_bytes()),
            crl: find(b"000.crl"),
            lifetime: until.since(from),
            issuing_key,
            issuing,
            tbs,
        }
    }

    /// The TBSCertificate of a subject, its end, and the URL of its CRL.
    fn tbs(&self, n: u64, subject: &Subject) -> (Vec<u8>, Timestamp, String) {
        let mut tbs = self.tbs.clone();
        let mut put = |at: usize, what: &[u8]| tbs[at..at + what.len()].copy_from_slice(what);
        let until = Timestamp::from_unix_seconds(subject.at.plus(self.lifetime).unix_seconds());
        let shard = format!("{:03}.crl", n % 128);
        put(self.serial, subject.serial.octets());
        put(self.dates[0], &utc_time(subject.at));
        put(self.dates[1], &utc_time(until));
        put(self.name, subject.name.as_bytes());
        put(self.crl, shard.as_bytes());
        (tbs, until, format!("http://ca.lan/issuing-128/{shard}"))
    }
}

/// What one certificate still needs after its intent.
struct Half {
    serial: Serial,
    signature: Vec<u8>,
    crl: String,
    not_after: Timestamp,
    is_revoked: bool,
}

/// What became of a record.
enum Done {
    Intent(Half, LeafIndex),
    /// A certificate that is to be revoked; not before, for both may have to be put once more.
    Issued(Box<RevokedV1>),
    Last,
    /// The log takes no more until its index has caught up.
    Again(Box<Record>, Release, Then),
}

/// Says what the leaf of a record means.
type Then = Box<dyn FnOnce(LeafIndex) -> Done + Send>;

fn put(log: &Log, sender: &mpsc::Sender<Done>, record: Record, release: Release, then: Then) {
    let (again, sender) = (Box::new(record.clone()), sender.clone());
    let told = move |answer: Result<Appended, AppendError>| {
        let done = match answer {
            Ok(appended) => then(appended.leaf),
            Err(AppendError::Retry) => Done::Again(again, release, then),
            Err(error) => panic!("{error:?}"),
        };
        sender.send(done).unwrap();
    };
    log.append(record, release, Box::new(told));
}

/// Grows the log to certificates `from..to`; the records that took.
pub fn grow(place: &Place, from: u64, to: u64) -> u64 {
    let press = Press::new(place);
    let log = match from {
        0 => {
            let signer = Signer::new();
            let ceremony = CeremonyV1 {
                at: Timestamp::from_unix_seconds(START),
                origin: ORIGIN.into(),
                root_sha256: press.issuing.fingerprint(),
                issuing_sha256: press.issuing.fingerprint(),
                log_key: signer.spki().to_vec(),
                transcript_sha256: [0; 32],
            };
            Log::create(opening(place), ceremony).unwrap()
        }
        _ => Log::open(opening(place)).unwrap(),
    };
    let before = log.head().size;
    append(&log, &press, from, to);
    let after = log.head().size;
    // Also what moves the last records of the index into its file belongs to the time taken.
    drop(log);
    after - before
}

/// Appends twice [`LAST`] as a box does that issues less than it could, and not as a loop that is ahead of its index:
/// where a start begins to read then says something about a start.
pub fn settle(place: &Place, log: &Log, from: u64) {
    let press = Press::new(place);
    for from in [from, from + LAST] {
        append(log, &press, from, from + LAST);
        pause(POINT);
    }
}

/// Appends [`LAST`] that the index does not get.
pub fn append_last(place: &Place, log: &Log, from: u64) {
    append(log, &Press::new(place), from, from + LAST);
}

/// Registers the accounts of the devices that begin with certificate `n`, and returns when each is registered: no
/// order comes before its account, however often the log puts a registration off.
fn register(log: &Log, n: u64) {
    let (sender, receiver) = mpsc::channel();
    for n in (n..n + BLOCK).step_by(usize::try_from(DEVICES).unwrap()) {
        let record = Record::AccountRegisteredV1(AccountRegisteredV1 {
            at: at(n - n % BLOCK),
            account: Subject::new(n).account,
            jwk: format!(
                "{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{n:0>43}\",\"y\":\"{n:0>43}\"}}"
            ),
        });
        put(log, &sender, record, Release::Durable, Box::new(|_| Done::Last));
    }
    let mut left = BLOCK / DEVICES;
    while left > 0 {
        match receiver.recv().unwrap() {
            Done::Again(record, release, then) => {
                pause(Duration::from_millis(1));
                put(log, &sender, *record, release, then);
            }
            _ => left -= 1,
        }
    }
}

fn append(log: &Log, press: &Press, from: u64, to: u64) {
    let (sender, receiver) = mpsc::channel();
    let mut under_way = 0;
    let mut next = from;
    let algorithm = PublicKey::from_spki(&press.issuing_key.subject_public_key_info()).unwrap();
    let algorithm = algorithm.preferred_algorithm().identifier_der().to_vec();
    let last = || -> Then { Box::new(|_| Done::Last) };
    while next < to || under_way > 0 {
        while next < to && under_way < WINDOW {
            let n = next;
            next += 1;
            let subject = Subject::new(n);
            if n.is_multiple_of(RENEWALS * BLOCK) {
                register(log, n);
            }
            let (tbs, not_after, crl) = press.tbs(n, &subject);
            let half = Half {
                serial: subject.serial,
                signature: press.issuing_key.sign(&tbs).unwrap(),
                crl,
                not_after,
                is_revoked: n % REVOKED == REVOKED - 1,
            };
            let intent = Record::IntentV1(IntentV1 {
                at: subject.at,
                serial: subject.serial,
                requester: Requester::Order {
                    order: subject.order,
                    account: subject.account,
                    jws_sha256: sha256(&n.to_be_bytes()),
                },
                profile: "server".into(),
                issuer_sha256: press.issuing.fingerprint(),
                tbs,
                validations: vec![ValidationV1 {
                    identifier: subject.name,
                    method: "http-01".into(),
                    at: subject.at,
                }],
            });
            let then = Box::new(|leaf| Done::Intent(half, leaf));
            put(log, &sender, intent, Release::Durable, then);
            under_way += 1;
        }
        let (half, intent) = match receiver.recv().unwrap() {
            Done::Intent(half, intent) => (half, intent),
            Done::Issued(mut revoked) => {
                revoked.at = at(next.saturating_sub(1));
                put(log, &sender, Record::RevokedV1(*revoked), Release::Durable, last());
                continue;
            }
            Done::Last => {
                under_way -= 1;
                continue;
            }
            Done::Again(mut record, release, then) => {
                pause(Duration::from_millis(1));
                // What was recorded meanwhile is later than it was.
                match &mut *record {
                    Record::IntentV1(r) => r.at = at(next.saturating_sub(1)),
                    Record::IssuedV1(r) => r.at = at(next.saturating_sub(1)),
                    Record::RevokedV1(r) => r.at = at(next.saturating_sub(1)),
                    other => panic!("{other:?}"),
                }
                put(log, &sender, *record, release, then);
                continue;
            }
        };
        let Half { serial, signature, crl, not_after, is_revoked } = half;
        // The log's clock does not go back: what was intended meanwhile is later.
        let at = at(next.saturating_sub(1));
        let issued = IssuedV1 { at, intent, serial, algorithm: algorithm.clone(), signature };
        let revoked = is_revoked.then(|| {
            Box::new(RevokedV1 {
                at,
                serial,
                intent,
                reason: Some(4),
                by: Actor::Operator { uid: 0, user: "root".into() },
                validations: Vec::new(),
                crl: Some(crl),
                not_after,
                blocked_key: None,
            })
        });
        let then = Box::new(move |_| revoked.map_or(Done::Last, Done::Issued));
        put(log, &sender, Record::IssuedV1(issued), Release::Covered, then);
    }
}
