use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::TXT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

type Questions = Arc<Mutex<Vec<String>>>;

/// A DNS server on a free port, over UDP and TCP. Knows `four.test` (A), `both.test` (A, AAAA),
/// `none.test` (nothing), `alias.test` (CNAME to both.test), `text.test` (TXT), `big.test`
/// (truncated over UDP) and `fail.test` (SERVFAIL); other names do not exist.
async fn dns_server() -> (SocketAddr, Questions) {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let questions = Questions::default();
    let seen = Arc::clone(&questions);
    tokio::spawn(async move {
        let mut buffer = [0u8; 1500];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
            let answer = answer(&buffer[..length], true, &seen);
            udp.send_to(&answer, peer).await.unwrap();
        }
    });
    let seen = Arc::clone(&questions);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut question = vec![0; usize::from(length)];
                    stream.read_exact(&mut question).await.unwrap();
                    let answer = answer(&question, false, &seen);
                    stream.write_u16(answer.len() as u16).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            });
        }
    });
    (address, questions)
}

fn answer(question: &[u8], udp: bool, seen: &Questions) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let name = query.name().to_ascii();
    let transport = if udp { "udp" } else { "tcp" };
    seen.lock().unwrap().push(format!("{name} {} {transport}", query.query_type()));
    let mut reply = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    reply.add_query(query.clone());
    let mut put = |owner: &str, data: RData| {
        let owner = Name::from_ascii(owner).unwrap();
        reply.add_answer(Record::from_rdata(owner, 60, data));
    };
    let four = RData::A(Ipv4Addr::new(10, 0, 0, 4).into());
    let six = RData::AAAA("fd00::6".parse::<Ipv6Addr>().unwrap().into());
    match (name.as_str(), query.query_type()) {
        ("four.test." | "both.test.", RecordType::A) => put(&name, four),
        ("both.test.", RecordType::AAAA) => put(&name, six),
        ("alias.test.", kind @ (RecordType::A | RecordType::AAAA)) => {
            let target = Name::from_ascii("both.test.").unwrap();
            put(&name, RData::CNAME(hickory_resolver::proto::rr::rdata::CNAME(target)));
            put("both.test.", if kind == RecordType::A { four } else { six });
        }
        ("text.test.", RecordType::TXT) => {
            put(&name, RData::TXT(TXT::new(vec!["one ".to_owned(), "value".to_owned()])));
            put(&name, RData::TXT(TXT::new(vec!["other".to_owned()])));
        }
        ("big.test.", RecordType::A) if udp => reply.metadata.truncation = true,
        ("big.test.", RecordType::A) => put(&name, four),
        ("fail.test.", _) => reply.metadata.response_code = ResponseCode::ServFail,
        ("four.test." | "none.test." | "big.test.", _) => {}
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply.to_vec().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn names_resolve_over_the_network_ipv6_first() {
    let (server, questions) = dns_server().await;
    let resolver =
        SystemResolver::new(&[("test".to_owned(), vec![server])], Duration::from_secs(2)).unwrap();
    assert_eq!(resolver.addresses("both.test").await, Ok(vec![ip("fd00::6"), ip("10.0.0.4")]));
    assert_eq!(resolver.addresses("four.test").await, Ok(vec![ip("10.0.0.4")]));
    assert_eq!(resolver.addresses("none.test").await, Ok(vec![]));
    assert_eq!(resolver.addresses("gone.test").await, Err(ResolveError::NoSuchName));
    assert_eq!(resolver.addresses("alias.test").await, Ok(vec![ip("fd00::6"), ip("10.0.0.4")]));
    assert!(matches!(
        resolver.addresses("fail.test").await,
        Err(ResolveError::Failed(_) | ResolveError::Timeout)
    ));
    // Nothing is cached: the same question is asked again.
    questions.lock().unwrap().clear();
    resolver.addresses("four.test").await.unwrap();
    assert!(questions.lock().unwrap().contains(&"four.test. A udp".to_owned()));
}

#[tokio::test]
async fn text_records_are_joined_and_truncation_leads_to_tcp() {
    let (server, questions) = dns_server().await;
    let resolver =
        SystemResolver::new(&[(".".to_owned(), vec![server])], Duration::from_secs(2)).unwrap();
    let mut texts = resolver.txt("text.test").await.unwrap();
    texts.sort();
    assert_eq!(texts, [b"one value".to_vec(), b"other".to_vec()]);
    assert_eq!(resolver.txt("none.test").await, Ok(vec![]));
    assert_eq!(resolver.addresses("big.test").await, Ok(vec![ip("10.0.0.4")]));
    assert!(questions.lock().unwrap().contains(&"big.test. A tcp".to_owned()));
}

#[tokio::test]
async fn the_longest_zone_is_asked() {
    let (server, questions) = dns_server().await;
    let (other, others) = dns_server().await;
    let zones = [(".".to_owned(), vec![other]), ("test".to_owned(), vec![server])];
    let resolver = SystemResolver::new(&zones, Duration::from_secs(2)).unwrap();
    resolver.addresses("four.test").await.unwrap();
    assert!(others.lock().unwrap().is_empty());
    assert!(!questions.lock().unwrap().is_empty());
    assert_eq!(resolver.addresses("attest").await, Err(ResolveError::NoSuchName));
    assert!(others.lock().unwrap().iter().any(|question| question.starts_with("attest. ")));
}

#[test]
fn zones_without_servers_or_twice_are_refused() {
    let server: SocketAddr = "127.0.0.1:53".parse().unwrap();
    for zones in [
        vec![("lan".to_owned(), vec![])],
        vec![("lan".to_owned(), vec![server]), ("LAN.".to_owned(), vec![server])],
    ] {
        assert!(SystemResolver::new(&zones, Duration::from_secs(1)).is_err());
    }
}

#[tokio::test]
async fn the_dialer_connects_to_the_address_it_is_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut stream = SystemDialer.connect(address, Duration::from_secs(5)).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut read = [0; 5];
    peer.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"hello");
    drop(listener);
    assert!(SystemDialer.connect(address, Duration::from_secs(5)).await.is_err());
}
