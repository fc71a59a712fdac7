//! The admin socket with a peer that may ask, and with those that may not.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::client::{AdminError, Client};
use super::server::{Options, Server};
use super::{AdminAnswer, AdminKey, AdminQuestion, AdminRefusal, AdminService, Operator};
use crate::ipc::frame::{self, Hello};

#[derive(Default)]
struct Desk {
    asked: AtomicUsize,
    busy: bool,
}

impl AdminService for Desk {
    fn answer(&self, operator: &Operator, _: AdminQuestion) -> Result<AdminAnswer, AdminRefusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.busy {
            return Err(AdminRefusal::Retry("CHY-DISK-FULL: busy".into()));
        }
        Ok(AdminAnswer::Operator(operator.clone()))
    }
}

struct Box {
    desk: Arc<Desk>,
    dir: tempfile::TempDir,
    server: Option<Server>,
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl Box {
    fn start(desk: Desk, uids: Vec<u32>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let desk = Arc::new(desk);
        let mut new = Self { desk, dir, server: None };
        new.serve(7, uids);
        new
    }

    fn serve(&mut self, key: u8, uids: Vec<u32>) {
        self.server = None;
        let options = Options {
            path: self.socket(),
            key_file: self.key(),
            key: AdminKey([key; 32]),
            uids,
            name: |uid| format!("user-{uid}"),
        };
        self.server = Some(Server::start(options, Arc::clone(&self.desk) as Arc<_>).unwrap());
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    fn connect(&self) -> Result<Client, AdminError> {
        Client::connect(&self.socket(), &self.key(), &[uid()])
    }

    /// What comes back after `hello` and a question, until the end.
    fn raw(&self, sent: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.write_all(sent);
        let mut back = Vec::new();
        let _ = stream.read_to_end(&mut back);
        back
    }
}

#[test]
fn the_operator_is_whom_the_kernel_says() {
    let mut house = Box::start(Desk::default(), vec![uid()]);
    let mut client = house.connect().unwrap();
    let me = Operator { uid: uid(), user: format!("user-{}", uid()) };
    for _ in 0..2 {
        assert_eq!(client.ask(&AdminQuestion::Who), Ok(AdminAnswer::Operator(me.clone())));
    }
    for path in [house.socket(), house.key()] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    house.server = None;
    assert!(!house.socket().exists() && !house.key().exists());
    assert!(matches!(client.ask(&AdminQuestion::Who), Err(AdminError::Retry(_))));
    assert!(matches!(house.connect(), Err(AdminError::Retry(_))));
}

#[test]
fn a_refusal_keeps_its_words() {
    let house = Box::start(Desk { busy: true, ..Desk::default() }, vec![uid()]);
    let answer = house.connect().unwrap().ask(&AdminQuestion::Who);
    assert_eq!(answer, Err(AdminError::Retry("CHY-DISK-FULL: busy".into())));
}

/// Who got as far as the socket but cannot read the key is told nothing, not even a hello.
#[test]
fn without_the_key_nothing_is_answered() {
    let house = Box::start(Desk::default(), vec![uid()]);
    let question = frame::encode(&AdminQuestion::Who).unwrap();
    let with = |hello: Hello| [hello.frame(), question.clone()].concat();
    for digest in [[0; 32], [8; 32]] {
        assert_eq!(house.raw(&with(Hello::new(digest))), b"");
    }
    assert_eq!(
        house.raw(b"GET / HTTP/1.1\r\nHost: issuer\r\nAccept: */*\r\nConnection: close\r\n\r\n"),
        b""
    );
    assert_eq!(house.desk.asked.load(Ordering::SeqCst), 0);
    // With the key but of another version: a hello, so that it can say why, and nothing more.
    let older = Hello { version: 0, digest: [7; 32] };
    assert_eq!(house.raw(&with(older)), Hello::new([7; 32]).frame());
    // The control.
    let mut good = with(Hello::new([7; 32]));
    good.extend_from_slice(&[0xff; 4]);
    assert!(house.raw(&good).len() > Hello::new([7; 32]).frame().len());
    assert_eq!(house.desk.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn the_key_of_an_earlier_start_opens_nothing() {
    let mut house = Box::start(Desk::default(), vec![uid()]);
    let old = std::fs::read(house.key()).unwrap();
    house.serve(9, vec![uid()]);
    house.connect().unwrap().ask(&AdminQuestion::Who).unwrap();
    std::fs::write(house.key(), old).unwrap();
    assert!(matches!(house.connect(), Err(AdminError::Retry(_))));
}

#[test]
fn another_user_is_turned_away_on_either_side() {
    let house = Box::start(Desk::default(), vec![uid() + 1]);
    assert!(matches!(house.connect(), Err(AdminError::Retry(_))));
    assert_eq!(house.desk.asked.load(Ordering::SeqCst), 0);
    let house = Box::start(Desk::default(), vec![uid()]);
    let wrong = Client::connect(&house.socket(), &house.key(), &[uid() + 1]);
    assert!(matches!(wrong, Err(AdminError::Refused(text)) if text.starts_with("CHY-IPC-PEER")));
}

#[test]
fn what_is_no_question_ends_the_connection_and_nothing_else() {
    let house = Box::start(Desk::default(), vec![uid()]);
    let hello = Hello::new([7; 32]).frame();
    for bad in [&[0, 0, 0, 0][..], &[0xff; 4], &[0, 0, 0, 1, 0xee], &[0, 0, 0, 2, 0, 0]] {
        assert_eq!(house.raw(&[&hello, bad].concat()), hello, "{bad:?}");
    }
    assert_eq!(house.desk.asked.load(Ordering::SeqCst), 0);
    house.connect().unwrap().ask(&AdminQuestion::Who).unwrap();
}
