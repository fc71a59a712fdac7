//! The issuer's half of the messages with keys in software, and faults on demand.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use chancery::acme::account::{AccountUpdate, KeyChange, NewAccount};
use chancery::acme::jws::{Jwk, Jws, KeyRef, Payload};
use chancery::acme::order::Order;
use chancery::acme::problem::{Problem, ProblemType, Subproblem};
use chancery::acme::renewal::Certified;
use chancery::env::system::{SystemClock, SystemRng};
use chancery::env::{Clock, random_16};
use chancery::id::{AccountId, LeafIndex, OrderId, Serial};
use chancery::ipc::message::{
    Answer, Ended, Finalize, Health, Permits, Question, Refusal, Revoke, Standing, Which,
};
use chancery::ipc::{Reply, Service};
use chancery::pki::certificate::Certificate;
use chancery::pki::name::Identifier;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm, SigningKey,
};

/// A root, an issuing certificate, a TLS certificate, and what was registered and issued.
pub struct SoftIssuer {
    pub root: Certificate,
    pub issuing: Certificate,
    authority: Issuer<'static, KeyPair>,
    tls: KeyPair,
    tls_leaf: Vec<u8>,
    accounts: Mutex<Vec<Registered>>,
    /// Names that are bound to a ticket of nobody here.
    pub bound: Mutex<Vec<String>>,
    /// The next change of an account is made, and its answer lost.
    pub loses: AtomicBool,
    issued: Mutex<HashMap<OrderId, Answer>>,
    /// What renewal questions are answered with; tests revoke and recall here.
    pub certified: Mutex<HashMap<Serial, Certified>>,
    /// Answers nothing but Retry.
    pub away: AtomicBool,
    /// Panics when asked to register.
    pub panics: AtomicBool,
    /// Refuses every finalize and revocation with this.
    pub refuses: Mutex<Option<Problem>>,
    /// What it was asked to revoke.
    pub revokes: Mutex<Vec<Revoke>>,
    /// Milliseconds a finalize takes.
    pub slow: AtomicU64,
    /// Finalize questions that were asked.
    pub asked: AtomicUsize,
}

/// An account as the issuer has it.
struct Registered {
    id: AccountId,
    key: Jwk,
    bound: bool,
    ended: Option<Ended>,
}

impl SoftIssuer {
    pub fn new() -> Self {
        let root_key = KeyPair::generate().unwrap();
        let root = ca("Test Root");
        let root_der = root.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root, root_key);
        let issuing_key = KeyPair::generate().unwrap();
        let issuing = ca("Test Issuing");
        let issuing_der = issuing.signed_by(&issuing_key, &root_issuer).unwrap();
        let authority = Issuer::new(issuing, issuing_key);
        let tls = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(vec!["ca.test".into(), "127.0.0.1".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let tls_leaf = params.signed_by(&tls, &authority).unwrap().der().to_vec();
        Self {
            root: Certificate::parse(root_der.der()).unwrap(),
            issuing: Certificate::parse(issuing_der.der()).unwrap(),
            authority,
            tls,
            tls_leaf,
            accounts: Mutex::default(),
            bound: Mutex::default(),
            loses: AtomicBool::new(false),
            issued: Mutex::default(),
            certified: Mutex::default(),
            away: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            refuses: Mutex::default(),
            revokes: Mutex::default(),
            slow: AtomicU64::new(0),
            asked: AtomicUsize::new(0),
        }
    }

    fn answer(&self, question: Question) -> Result<Answer, Refusal> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Refusal::Retry(50));
        }
        match question {
            Question::Register { jws } => self.register(&jws),
            Question::ChangeKey { jws } => self.change_key(&jws),
            Question::Deactivate { jws } => self.deactivate(&jws),
            Question::Permits(asked) => self.permits(&asked),
            Question::Standings(which) => Ok(self.standings(which)),
            Question::Finalize(finalize) => self.finalize(&finalize),
            Question::Revoke(revoke) => {
                self.revokes.lock().unwrap().push(*revoke);
                match self.refuses.lock().unwrap().clone() {
                    Some(problem) => Err(Refusal::Refused(problem)),
                    None => Ok(Answer::Revoked),
                }
            }
            Question::SignTlsBy { message, .. } => {
                let signature = self.tls.sign(&message).unwrap();
                Ok(Answer::TlsSignature { signature, stale: false })
            }
            Question::TlsChain => Ok(Answer::TlsChain {
                chain: [self.tls_leaf.clone(), self.issuing.der().to_vec()]
                    .map(serde_bytes::ByteBuf::from)
                    .to_vec(),
                not_after: SystemClock::new().now().plus(Duration::from_secs(86_400)),
            }),
            Question::Health => Ok(Answer::Health(Box::new(Health {
                ready: true,
                issued: self.issued.lock().unwrap().len() as u64,
                ..Health::default()
            }))),
            Question::Renewal { serial } => {
                let found = self.certified.lock().unwrap().get(&serial).cloned();
                Ok(Answer::Renewal(found.map(Box::new)))
            }
            #[allow(unreachable_patterns)]
            _ => Err(Refusal::Refused(Problem::malformed("not in this test"))),
        }
    }

    fn register(&self, jws: &[u8]) -> Result<Answer, Refusal> {
        assert!(!self.panics.load(Ordering::SeqCst), "told to");
        let jws = Jws::parse(jws).unwrap();
        let KeyRef::Jwk(jwk) = jws.key() else { panic!("registered without a jwk") };
        let Payload::Json(payload) = jws.verify(jwk).unwrap() else { panic!("no payload") };
        let asked = NewAccount::parse(&payload).unwrap();
        let mut accounts = self.accounts.lock().unwrap();
        if let Some(found) = accounts.iter().find(|account| account.key == **jwk) {
            let bound = found.bound;
            return Ok(Answer::Account { account: found.id, existing: true, bound });
        }
        if asked.only_return_existing {
            let none = Problem::new(ProblemType::AccountDoesNotExist, "no account has this key");
            return Err(Refusal::Refused(none));
        }
        let (id, key) = (AccountId(random_16(&SystemRng)), (**jwk).clone());
        let bound = asked.external_account_binding.is_some();
        accounts.push(Registered { id, key, bound, ended: None });
        Ok(Answer::Account { account: id, existing: false, bound })
    }

    /// The account that signed this, and what.
    fn signed<'a>(
        accounts: &'a mut [Registered],
        jws: &[u8],
    ) -> Result<(&'a mut Registered, Vec<u8>), Refusal> {
        let jws = Jws::parse(jws).unwrap();
        let KeyRef::Kid(kid) = jws.key() else { panic!("no kid") };
        let id: AccountId = kid.rsplit('/').next().unwrap().parse().unwrap();
        let account = accounts.iter_mut().find(|account| account.id == id).unwrap();
        match jws.verify(&account.key) {
            Ok(Payload::Json(payload)) => Ok((account, payload)),
            Ok(Payload::PostAsGet) => panic!("no payload"),
            Err(why) => Err(Refusal::Refused(why.into())),
        }
    }

    fn change_key(&self, jws: &[u8]) -> Result<Answer, Refusal> {
        let mut accounts = self.accounts.lock().unwrap();
        let (account, payload) = Self::signed(&mut accounts, jws)?;
        let outer = Jws::parse(jws).unwrap();
        let KeyRef::Kid(kid) = outer.key() else { panic!("no kid") };
        let change = KeyChange::parse(&payload, outer.url(), kid, &account.key).unwrap();
        let id = account.id;
        if let Some(holder) = accounts.iter().find(|account| account.key == change.key) {
            return Ok(Answer::KeyInUse { account: holder.id });
        }
        accounts.iter_mut().find(|account| account.id == id).unwrap().key = change.key;
        drop(accounts);
        self.lost()?;
        Ok(Answer::KeyChanged)
    }

    fn deactivate(&self, jws: &[u8]) -> Result<Answer, Refusal> {
        let mut accounts = self.accounts.lock().unwrap();
        let (account, payload) = Self::signed(&mut accounts, jws)?;
        assert!(AccountUpdate::parse(&payload).unwrap().deactivate);
        let now = Ended { at: SystemClock::new().now(), by_operator: false };
        let ended = *account.ended.get_or_insert(now);
        drop(accounts);
        self.lost()?;
        Ok(Answer::Deactivated(ended))
    }

    /// As an operator does it.
    pub fn end(&self, id: AccountId) {
        let mut accounts = self.accounts.lock().unwrap();
        let account = accounts.iter_mut().find(|account| account.id == id).unwrap();
        account.ended = Some(Ended { at: SystemClock::new().now(), by_operator: true });
    }

    fn permits(&self, asked: &Permits) -> Result<Answer, Refusal> {
        let bound = self.bound.lock().unwrap();
        let refused = asked.identifiers.iter().filter(|name| bound.contains(&name.value()));
        let parts: Vec<Subproblem> = refused
            .map(|name| Subproblem::of(ProblemType::RejectedIdentifier, "bound to another", name))
            .collect();
        if parts.is_empty() {
            Ok(Answer::Permitted { profile: None })
        } else {
            Err(Refusal::Refused(Problem::compound(parts)))
        }
    }

    fn standings(&self, which: Which) -> Answer {
        let accounts = self.accounts.lock().unwrap();
        let standings = accounts
            .iter()
            .filter(|account| match which {
                Which::One(id) => account.id == id,
                Which::ChangedFrom(_) => true,
            })
            .map(|account| Standing {
                account: account.id,
                jwk: account.key.canonical_json().to_owned(),
                ended: account.ended,
            })
            .collect();
        Answer::Standings { standings, next: LeafIndex(0), more: false }
    }

    /// Whether what was done is answered.
    fn lost(&self) -> Result<(), Refusal> {
        if self.loses.swap(false, Ordering::SeqCst) { Err(Refusal::Retry(50)) } else { Ok(()) }
    }

    fn finalize(&self, question: &Finalize) -> Result<Answer, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(problem) = self.refuses.lock().unwrap().clone() {
            return Err(Refusal::Refused(problem));
        }
        assert!(!question.validations.is_empty());
        let jws = Jws::parse(&question.jws).unwrap();
        let accounts = self.accounts.lock().unwrap();
        let key = &accounts.iter().find(|account| account.id == question.account).unwrap().key;
        let Payload::Json(payload) = jws.verify(key).unwrap() else { panic!("no payload") };
        let csr = Order::parse_finalize(&payload).unwrap();
        let mut issued = self.issued.lock().unwrap();
        let leaf = LeafIndex(issued.len() as u64);
        let answer = issued.entry(question.order).or_insert_with(|| {
            let serial = Serial::from_random(random_16(&SystemRng));
            let mut params = CertificateParams::default();
            params.serial_number = Some(SerialNumber::from_slice(serial.octets()));
            params.subject_alt_names = csr
                .identifiers()
                .iter()
                .map(|identifier| match identifier {
                    Identifier::Dns(name) => {
                        SanType::DnsName(name.as_str().to_owned().try_into().unwrap())
                    }
                    Identifier::Ip(address) => SanType::IpAddress(*address),
                })
                .collect();
            params.use_authority_key_identifier_extension = true;
            // Ninety days around now, as whole seconds.
            let now = SystemClock::new().now().unix_seconds();
            let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
            params.not_before = at(question.not_before.map_or(now - 3600, |t| t.unix_seconds()));
            let until = now - 3601 + 90 * 86_400;
            params.not_after = at(question.not_after.map_or(until, |t| t.unix_seconds()));
            let key = P256(csr.key().key_bits().to_vec());
            let der = params.signed_by(&key, &self.authority).unwrap().der().to_vec();
            let certificate = Certificate::parse(&der).unwrap();
            let (not_before, not_after) = certificate.validity();
            let certified = Certified {
                account: question.account,
                identifiers: certificate.identifiers(),
                not_before,
                not_after,
                revoked: None,
                recall: None,
            };
            self.certified.lock().unwrap().insert(serial, certified);
            Answer::Certificate { der, serial, leaf, at: SystemClock::new().now() }
        });
        Ok(answer.clone())
    }
}

impl Service for SoftIssuer {
    fn call(&self, question: Question, reply: Reply) {
        let slow = match &question {
            Question::Finalize(_) => self.slow.load(Ordering::SeqCst),
            _ => 0,
        };
        let answer = self.answer(question);
        if slow == 0 {
            return reply(answer);
        }
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(slow)).await;
            reply(answer);
        });
    }
}

/// The point of a P-256 key, to certify.
struct P256(Vec<u8>);

impl PublicKeyData for P256 {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
