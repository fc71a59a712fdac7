//! One contract, held by the socket and by the shortcut within a process; and a peer that means harm.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::client::{self, Client};
use super::frame::{self, Hello, Request, Response};
use super::local::Local;
use super::message::{Answer, MAX_FRAME, Question, Refusal};
use super::server::{self, Server};
use super::{AskError, Issuer, Reply, Service, Trespass};
use crate::acme::problem::{Problem, ProblemType};

/// Answers by what is asked to be signed.
#[derive(Default)]
struct Parrot {
    kept: Mutex<Vec<Reply>>,
    calls: AtomicUsize,
}

impl Service for Parrot {
    fn call(&self, question: Question, reply: Reply) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match question {
            Question::SignTls { message } => match message.as_slice() {
                b"refuse" => reply(Err(Refusal::Refused(problem()))),
                b"busy" => reply(Err(Refusal::Retry(1234))),
                b"drop" => drop(reply),
                b"keep" => self.kept.lock().unwrap().push(reply),
                b"panic" => panic!("asked to"),
                b"large" => reply(Ok(Answer::Signature(vec![3; MAX_FRAME - 64]))),
                b"too large" => reply(Ok(Answer::Signature(vec![3; MAX_FRAME]))),
                _ => drop(thread::spawn(move || reply(Ok(Answer::Signature(message))))),
            },
            _ => reply(Ok(Answer::Health(Box::default()))),
        }
    }
}

fn problem() -> Problem {
    Problem::new(ProblemType::BadCsr, "no")
}

fn sign(message: &[u8]) -> Question {
    Question::SignTls { message: message.to_vec() }
}

const LONG: Duration = Duration::from_secs(20);

struct Pair {
    parrot: Arc<Parrot>,
    server: Server,
    client: Client,
    dir: tempfile::TempDir,
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn serve(dir: &tempfile::TempDir, parrot: Arc<Parrot>, digest: u8, uids: Vec<u32>) -> Server {
    let path = dir.path().join("s");
    Server::start(server::Options { path, mode: 0o600, digest: [digest; 32], uids }, parrot)
        .unwrap()
}

fn connect(dir: &tempfile::TempDir, digest: u8, uids: Vec<u32>) -> Client {
    Client::start(client::Options { path: dir.path().join("s"), digest: [digest; 32], uids })
        .unwrap()
}

fn pair() -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let parrot = Arc::new(Parrot::default());
    let server = serve(&dir, Arc::clone(&parrot), 1, vec![uid()]);
    let client = connect(&dir, 1, vec![uid()]);
    client.wait_connected(LONG).unwrap();
    Pair { parrot, server, client, dir }
}

async fn contract(issuer: &dyn Issuer) {
    assert_eq!(issuer.ask(Question::Health).await, Ok(Answer::Health(Box::default())));
    assert_eq!(issuer.ask(sign(b"m")).await, Ok(Answer::Signature(b"m".to_vec())));
    assert_eq!(issuer.ask(sign(b"refuse")).await, Err(AskError::Refused(problem())));
    assert_eq!(issuer.ask(sign(b"busy")).await, Err(AskError::Retry(Duration::from_millis(1234))));
    assert!(matches!(issuer.ask(sign(b"drop")).await, Err(AskError::Retry(_))));
    assert!(
        matches!(issuer.ask(sign(b"large")).await, Ok(Answer::Signature(s)) if s.len() > 200_000)
    );
    // A question never answered costs the asker its deadline and nothing else.
    assert!(matches!(
        issuer.ask_blocking(sign(b"keep"), Duration::from_millis(20)),
        Err(AskError::Retry(_))
    ));
    assert_eq!(issuer.ask_blocking(sign(b"n"), LONG), Ok(Answer::Signature(b"n".to_vec())));
    // Many at once, each its own answer, and one abandoned half way.
    let abandoned = issuer.ask(sign(b"keep"));
    assert!(tokio::time::timeout(Duration::from_millis(5), abandoned).await.is_err());
    let mut asks = Vec::new();
    for i in 0..200u32 {
        asks.push((i, issuer.ask(sign(&i.to_be_bytes()))));
    }
    for (i, ask) in asks {
        assert_eq!(ask.await, Ok(Answer::Signature(i.to_be_bytes().to_vec())));
    }
}

#[tokio::test]
async fn the_contract_holds_within_a_process() {
    contract(&Local::new(Arc::new(Parrot::default()))).await;
}

#[tokio::test]
async fn the_contract_holds_over_a_socket() {
    let pair = pair();
    contract(&pair.client).await;
    drop(pair.server);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_a_retry() {
    let pair = pair();
    assert!(matches!(pair.client.ask(sign(b"too large")).await, Err(AskError::Retry(_))));
}

#[tokio::test]
async fn a_question_that_does_not_fit_is_not_sent() {
    let pair = pair();
    let asked = pair.client.ask(Question::SignTls { message: vec![0; MAX_FRAME] }).await;
    assert!(matches!(asked, Err(AskError::Broken(_))));
    assert_eq!(pair.parrot.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_broken_connection_fails_what_is_under_way_and_heals() {
    let pair = pair();
    let under_way = pair.client.ask(sign(b"keep"));
    let Pair { parrot, server, client, dir } = &pair;
    tokio::pin!(under_way);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut under_way).await.is_err());
    assert_eq!(parrot.kept.lock().unwrap().len(), 1);
    let _ = server;
    // A panic in the service takes its connection, not the process.
    assert!(matches!(client.ask(sign(b"panic")).await, Err(AskError::Retry(_))));
    assert!(matches!(under_way.await, Err(AskError::Retry(_))));
    client.wait_connected(LONG).unwrap();
    assert!(client.ask(sign(b"again")).await.is_ok());
    assert!(dir.path().join("s").exists());
}

#[tokio::test]
async fn while_the_issuer_is_away_the_answer_is_retry_at_once() {
    let Pair { parrot, server, client, dir } = pair();
    drop(server);
    assert!(!dir.path().join("s").exists(), "a stopped server leaves no socket");
    while client.is_connected() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = tokio::time::timeout(Duration::from_millis(500), client.ask(Question::Health));
    assert!(matches!(asked.await, Ok(Err(AskError::Retry(_)))));
    assert!(matches!(client.ask_blocking(Question::Health, LONG), Err(AskError::Retry(_))));
    let _server = serve(&dir, parrot, 1, vec![uid()]);
    client.wait_connected(LONG).unwrap();
    assert!(client.ask(Question::Health).await.is_ok());
}

#[test]
fn two_processes_of_different_configurations_do_not_talk() {
    let dir = tempfile::tempdir().unwrap();
    let parrot = Arc::new(Parrot::default());
    let _server = serve(&dir, Arc::clone(&parrot), 1, vec![uid()]);
    let client = connect(&dir, 2, vec![uid()]);
    let Err(AskError::Broken(why)) = client.wait_connected(LONG) else {
        panic!("connected");
    };
    assert!(why.starts_with("CHY-IPC-MISMATCH"), "{why}");
    assert_eq!(client.ask_blocking(Question::Health, LONG), Err(AskError::Broken(why)));
    assert_eq!(parrot.calls.load(Ordering::SeqCst), 0);
}

#[test]
fn both_sides_look_at_the_user_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let parrot = Arc::new(Parrot::default());
    let server = serve(&dir, Arc::clone(&parrot), 1, vec![uid()]);
    let stranger = connect(&dir, 1, vec![uid() + 1]);
    let Err(AskError::Broken(why)) = stranger.wait_connected(LONG) else {
        panic!("trusted a stranger's socket");
    };
    assert!(why.starts_with("CHY-IPC-PEER"), "{why}");
    drop(server);
    let _server = serve(&dir, Arc::clone(&parrot), 1, vec![uid() + 1]);
    let mut stream = UnixStream::connect(dir.path().join("s")).unwrap();
    let _ = stream.write_all(&Hello::new([1; 32]).frame());
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"", "answered a user it must not");
    assert_eq!(parrot.calls.load(Ordering::SeqCst), 0);
}

#[test]
fn a_second_issuer_on_the_same_socket_is_refused_and_a_stale_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let parrot = Arc::new(Parrot::default());
    let options =
        server::Options { path: path.clone(), mode: 0o600, digest: [1; 32], uids: vec![uid()] };
    let server = Server::start(options.clone(), Arc::clone(&parrot) as Arc<dyn Service>).unwrap();
    let Err(why) = Server::start(options.clone(), Arc::clone(&parrot) as Arc<dyn Service>) else {
        panic!("two servers");
    };
    assert!(why.starts_with("CHY-SOCKET-IN-USE"), "{why}");
    drop(server);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the stale socket of a process that was killed");
    drop(Server::start(options.clone(), Arc::clone(&parrot) as Arc<dyn Service>).unwrap());
    std::fs::write(&path, b"data").unwrap();
    assert!(Server::start(options, parrot).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"data", "removed a file that is no socket");
}

/// A peer that writes whatever it likes.
fn raw(dir: &tempfile::TempDir, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(dir.path().join("s")).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let _ = stream.write_all(bytes);
    stream
}

#[tokio::test]
async fn nonsense_costs_its_sender_the_connection_and_nobody_else() {
    let pair = pair();
    let hello = Hello::new([1; 32]).frame();
    let good = frame::encode(&Request { id: 1, question: Question::Health }).unwrap();
    let mut old = hello.clone();
    old[13] = 0xff;
    let cases: [Vec<u8>; 6] = [
        b"GET / HTTP/1.1\r\nHost: issuer\r\nAccept: */*\r\nConnection: close\r\n\r\n".to_vec(),
        old,
        [&hello[..], &u32::MAX.to_be_bytes()].concat(),
        [&hello[..], &0u32.to_be_bytes()].concat(),
        [&hello[..], &[0, 0, 0, 3, 0xff, 0xff, 0xff]].concat(),
        [&hello[..], &good[..], &(MAX_FRAME as u32 + 1).to_be_bytes(), &[0; 64]].concat(),
    ];
    for (i, bytes) in cases.iter().enumerate() {
        let mut stream = raw(&pair.dir, bytes);
        // Closed with or without octets unread: the end comes as an end or as a reset.
        let mut rest = Vec::new();
        if let Err(e) = stream.read_to_end(&mut rest) {
            assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "case {i}");
        }
    }
    assert!(pair.client.ask(sign(b"still here")).await.is_ok());
}

#[tokio::test]
async fn one_who_asks_and_never_reads_is_bounded() {
    let pair = pair();
    let mut stream = raw(&pair.dir, &Hello::new([1; 32]).frame());
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let keep = frame::encode(&Request { id: 1, question: sign(b"keep") }).unwrap();
    let flood = keep.repeat(4000);
    let mut sent = 0;
    while sent < 50 * flood.len() {
        match stream.write(&flood) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent < 50 * flood.len(), "the server read without bound");
    assert_eq!(pair.parrot.kept.lock().unwrap().len(), server::MAX_IN_FLIGHT);
    assert!(pair.client.ask(sign(b"still here")).await.is_ok());
    // Answers make room again.
    let kept = std::mem::take(&mut *pair.parrot.kept.lock().unwrap());
    for reply in kept {
        reply(Err(Refusal::Retry(1)));
    }
    assert_eq!(frame::read_hello(&mut stream).unwrap(), Hello::new([1; 32]));
    let mut payload = Vec::new();
    assert!(frame::read(&mut stream, &mut payload).unwrap());
    assert_eq!(
        frame::decode::<Response>(&payload),
        Ok(Response { id: 1, result: Err(Refusal::Retry(1)) })
    );
}

/// Keeps what it is told of trespasses.
#[derive(Default)]
struct Witness(Mutex<Vec<Trespass>>);

impl Service for Witness {
    fn call(&self, _: Question, reply: Reply) {
        reply(Ok(Answer::Health(Box::default())));
    }

    fn trespassed(&self, what: Trespass) {
        self.0.lock().unwrap().push(what);
    }
}

impl Witness {
    fn saw(&self, what: Trespass) {
        for _ in 0..2000 {
            if self.0.lock().unwrap().contains(&what) {
                return;
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        panic!("{what:?} was not told of: {:?}", self.0.lock().unwrap());
    }
}

#[test]
fn no_process_holds_all_connections() {
    const HERE: &str = "CHANCERY_TEST_SOCKET";
    let hello = Hello::new([1; 32]);
    if let Some(socket) = std::env::var_os(HERE) {
        // The other process: there is room for it.
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(&hello.frame()).unwrap();
        assert_eq!(frame::read_hello(&mut stream).unwrap(), hello);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let witness = Arc::new(Witness::default());
    let path = dir.path().join("s");
    let options =
        server::Options { path: path.clone(), mode: 0o600, digest: [1; 32], uids: vec![uid()] };
    let _server = Server::start(options, Arc::clone(&witness) as Arc<dyn Service>).unwrap();
    let mut open: Vec<UnixStream> =
        (0..server::MAX_PER_PROCESS).map(|_| raw(&dir, &hello.frame())).collect();
    for stream in &mut open {
        assert_eq!(frame::read_hello(stream).unwrap(), hello);
    }
    assert!(frame::read_hello(&mut raw(&dir, &hello.frame())).is_err());
    witness.saw(Trespass::Connections);
    let other = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ipc::tests::no_process_holds_all_connections"])
        .env(HERE, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(other.status.success() && said.contains("1 passed"), "{said}");
    drop(open);
    // Room comes back once the server has seen them go.
    let again = (0..200).any(|_| frame::read_hello(&mut raw(&dir, &hello.frame())).is_ok());
    assert!(again);
}

#[test]
fn whoever_breaks_the_rules_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let start = |uid, witness: &Arc<Witness>| {
        let options =
            server::Options { path: path.clone(), mode: 0o600, digest: [1; 32], uids: vec![uid] };
        Server::start(options, Arc::clone(witness) as Arc<dyn Service>).unwrap()
    };
    let hello = Hello::new([1; 32]).frame();
    for nonsense in [
        Hello::new([2; 32]).frame(),
        b"GET / HTTP/1.1\r\nHost: issuer\r\nAccept: */*\r\nConnection: close\r\n\r\n".to_vec(),
        [&hello[..], &(MAX_FRAME as u32 + 1).to_be_bytes()].concat(),
        [&hello[..], &[0, 0, 0, 3, 0xff, 0xff, 0xff]].concat(),
    ] {
        let witness = Arc::new(Witness::default());
        let server = start(uid(), &witness);
        let _stream = raw(&dir, &nonsense);
        witness.saw(Trespass::Frame);
        drop(server);
    }
    let witness = Arc::new(Witness::default());
    let _server = start(uid() + 1, &witness);
    let _stream = raw(&dir, &hello);
    witness.saw(Trespass::Peer);
}
