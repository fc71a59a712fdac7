//! Devices that enrol and revoke for as long as the test lasts, as patient as RFC 8555 makes them, and a log that
//! wants its checkpoints cosigned.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use chancery::id::Timestamp;
use chancery::pki::certificate::Certificate;
use chancery::pki::csr::Csr;
use chancery::pki::name::Identifier;
use chancery::tlog::checkpoint::Checkpoint;
use chancery::tlog::note::{NoteSignature, VerifierKey};
use chancery::tlog::tree::TreeHead;
use chancery::tlog::witness::parse_lines;

use crate::plant::client::{Client, Failure, Responder, request};
use crate::plant::lab::now;

/// What all devices share.
pub struct Load {
    pub server: SocketAddr,
    pub issuing: Certificate,
    pub responder: Responder,
    pub stop: AtomicBool,
    /// No new order is begun while this is set.
    pub pause: AtomicBool,
    pub under_way: AtomicUsize,
    pub done: Mutex<Vec<Done>>,
    /// What must never happen, should it.
    pub violations: Mutex<Vec<String>>,
    /// Answers by status that asked a client to come again.
    pub put_off: AtomicUsize,
    /// Connections that broke or were not made.
    pub broken: AtomicUsize,
    /// Certificates whose revocation was answered.
    pub revoked: Mutex<Vec<Certificate>>,
}

/// An order that became a certificate.
pub struct Done {
    /// When the attempt began that got it.
    pub attempt: Instant,
    pub at: Instant,
    /// From newOrder.
    pub took: Duration,
    pub leaf: Certificate,
}

impl Load {
    pub fn violation(&self, what: String) {
        eprintln!("violation: {what}");
        self.violations.lock().unwrap().push(what);
    }

    /// The first order that an attempt begun after `since` has brought to its end.
    pub fn first_since(&self, since: Instant) -> Option<Instant> {
        let done = self.done.lock().unwrap();
        done.iter()
            .rev()
            .take_while(|done| done.at > since)
            .filter(|d| d.attempt > since)
            .map(|d| d.at)
            .min()
    }
}

/// A device that wants a new certificate again and again; every tenth time it is another device.
pub async fn enrol(load: Arc<Load>, number: usize) {
    let fresh = || Client::new(load.server, "localhost", "/acme/directory", load.responder.clone());
    let mut client = fresh();
    for serial in 1.. {
        while load.pause.load(Ordering::SeqCst) && !load.stop.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if load.stop.load(Ordering::SeqCst) || !load.violations.lock().unwrap().is_empty() {
            return;
        }
        if serial % 10 == 0 {
            client = fresh();
        }
        client.poll = Duration::from_millis(25);
        load.under_way.fetch_add(1, Ordering::SeqCst);
        let leaf = chase(&load, &mut client, &format!("d{serial}-{number}.faults.test")).await;
        if let Some(leaf) = leaf
            && serial % 5 == 0
        {
            revoke(&load, &mut client, &leaf).await;
        }
        load.under_way.fetch_sub(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

/// One order to its end, whatever breaks on the way.
pub async fn chase(load: &Load, client: &mut Client, name: &str) -> Option<Certificate> {
    let csr = request(&[name]);
    let began = now();
    let mut url: Option<String> = None;
    loop {
        // Every attempt is a new connection, and a whole handshake, which the token signs: a resumed one would not ask it.
        client.forget_connection();
        let attempt = now();
        let step = async {
            if client.account.is_none() {
                client.register().await?;
            }
            let (at, order) = match url.clone() {
                Some(at) => (at.clone(), client.fetch(&at).await?),
                None => client.create(&[name]).await?,
            };
            url = Some(at.clone());
            client.pursue(&at, order, &csr).await
        };
        match tokio::time::timeout(PATIENCE, step).await {
            Ok(Ok(issued)) => {
                let at = now();
                let leaf = judge(load, name, &csr, &issued.chain)?;
                let took = at.duration_since(began);
                load.done.lock().unwrap().push(Done { attempt, at, took, leaf: leaf.clone() });
                return Some(leaf);
            }
            Ok(Err(failure)) => {
                if !again(load, name, failure).await {
                    return None;
                }
            }
            Err(_) => {
                load.broken.fetch_add(1, Ordering::Relaxed);
            }
        }
        if began.elapsed() > FOR_EVER {
            load.violation(format!("{name}: the order does not end: {url:?}"));
            return None;
        }
    }
}

/// Whether the failure is one that a client waits out; it has waited.
async fn again(load: &Load, what: &str, failure: Failure) -> bool {
    match failure {
        Failure::Problem { status, retry_after: Some(seconds), .. } if status == 503 => {
            load.put_off.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(seconds.min(LONGEST_OBEDIENCE))).await;
            true
        }
        Failure::Connection(_) => {
            load.broken.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            true
        }
        other => {
            load.violation(format!("{what}: {other:?}"));
            false
        }
    }
}

pub async fn revoke(load: &Load, client: &mut Client, leaf: &Certificate) {
    let began = now();
    while began.elapsed() < FOR_EVER {
        let asked = client.revoke(leaf.der(), 4);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(_)) => return load.revoked.lock().unwrap().push(leaf.clone()),
            // The answer to an earlier attempt was lost.
            Ok(Err(Failure::Problem { body, .. }))
                if body["type"].as_str().unwrap_or_default().ends_with(":alreadyRevoked") =>
            {
                return load.revoked.lock().unwrap().push(leaf.clone());
            }
            Ok(Err(failure)) => {
                if !again(load, "revocation", failure).await {
                    return;
                }
            }
            Err(_) => client.forget_connection(),
        }
    }
    load.violation("a revocation does not end".into());
}

/// The certificate, if it is the right one.
fn judge(load: &Load, name: &str, csr: &[u8], chain: &str) -> Option<Certificate> {
    let first = chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap_or_default();
    let leaf = match Certificate::parse_pem(first) {
        Ok(leaf) => leaf,
        Err(why) => {
            load.violation(format!("{name}: no certificate: {why:?}"));
            return None;
        }
    };
    let wanted = Csr::parse(csr).unwrap();
    for (right, what) in [
        (leaf.verify_issued_by(&load.issuing), "the signature is wrong"),
        (leaf.public_key() == wanted.key(), "the key is another's"),
        (leaf.identifiers() == [Identifier::parse("dns", name).unwrap()], "the name is another's"),
    ] {
        if !right {
            load.violation(format!("{name}: {what}"));
        }
    }
    Some(leaf)
}

/// A log elsewhere whose checkpoints this box cosigns.
pub struct Neighbour {
    pair: Ed25519KeyPair,
    key: VerifierKey,
    /// Requests so far.
    asked: u64,
}

impl Neighbour {
    pub fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend_from_slice(pair.public_key().as_ref());
        let key = VerifierKey::from_spki("neighbour.test/log", &spki).unwrap();
        Self { pair, key, asked: 0 }
    }

    /// For `[issuer] watched-logs`.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Asks once for a cosignature of a text that never was before; whether a right one came.
    pub fn ask(&mut self, server: SocketAddr, witness: &VerifierKey) -> Result<bool, String> {
        let head = TreeHead { size: 1, root: [9; 32] };
        let mut checkpoint = Checkpoint::new(self.key.name(), head);
        // The tree stays as it is; the extension makes it another text, to be signed again.
        checkpoint.extensions.push(format!("request {}", self.asked));
        let text = checkpoint.text();
        let message = self.key.message(text.as_bytes(), &head, Timestamp(0));
        let octets = self.key.signature_octets(self.pair.sign(&message).as_ref(), Timestamp(0));
        let line = NoteSignature { name: self.key.name().to_owned(), id: self.key.id(), octets };
        let old = u8::from(self.asked > 0);
        self.asked += 1;
        let Some((status, body)) = post(server, &format!("old {old}\n\n{text}\n{line}\n")) else {
            return Ok(false);
        };
        match status {
            200 => {
                let good = parse_lines(body.as_bytes())
                    .iter()
                    .any(|line| witness.verify(text.as_bytes(), &head, &line.octets));
                if good { Ok(true) } else { Err(format!("a wrong cosignature: {body}")) }
            }
            // The first request was heeded and its answer lost.
            409 => Ok(false),
            503 => Ok(false),
            other => Err(format!("{other}: {body}")),
        }
    }
}

fn post(server: SocketAddr, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(
        stream,
        "POST /witness/add-checkpoint HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

const PATIENCE: Duration = Duration::from_secs(20);
/// Seconds of a Retry-After that are waited out at most, for the test's own sake.
const LONGEST_OBEDIENCE: u64 = 10;
/// An order that has not ended by then does not end by itself.
const FOR_EVER: Duration = Duration::from_secs(120);
