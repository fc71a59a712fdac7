use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{CAA, CNAME, TXT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

type Questions = Arc<Mutex<Vec<String>>>;

/// A DNS server on a free port, over UDP and TCP. Knows `four.test` (A), `both.test` (A, AAAA),
/// `none.test` (nothing), `alias.test` (CNAME to both.test), `text.test` (TXT), `big.test`
/// (truncated over UDP), `fail.test` (SERVFAIL), `caa.test` (CAA), `flood.test` (300 TXT), `ring.test`
/// (CNAME to itself by way of another) and `abroad.test` (CNAME to `text.other`, which it does not
/// follow); other names do not exist.
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
    let alias = |to: &str| RData::CNAME(CNAME(Name::from_ascii(to).unwrap()));
    let four = RData::A(Ipv4Addr::new(10, 0, 0, 4).into());
    let six = RData::AAAA("fd00::6".parse::<Ipv6Addr>().unwrap().into());
    match (name.as_str(), query.query_type()) {
        ("four.test." | "both.test.", RecordType::A) => put(&name, four),
        ("both.test.", RecordType::AAAA) => put(&name, six),
        ("alias.test.", kind @ (RecordType::A | RecordType::AAAA)) => {
            let target = Name::from_ascii("both.test.").unwrap();
            put(&name, RData::CNAME(CNAME(target)));
            put("both.test.", if kind == RecordType::A { four } else { six });
        }
        ("text.test.", RecordType::TXT) => {
            put(&name, RData::TXT(TXT::new(vec!["one ".to_owned(), "value".to_owned()])));
            put(&name, RData::TXT(TXT::new(vec!["other".to_owned()])));
        }
        ("big.test.", RecordType::A) if udp => reply.metadata.truncation = true,
        ("big.test.", RecordType::A) => put(&name, four),
        ("caa.test.", RecordType::CAA) => {
            let mut caa = CAA::new_issue(true, None, Vec::new());
            caa.value = b"ca.lan; accounturi=x".to_vec();
            put(&name, RData::CAA(caa));
        }
        ("flood.test.", RecordType::TXT) if udp => reply.metadata.truncation = true,
        ("flood.test.", RecordType::TXT) => {
            for n in 0..300 {
                put(&name, RData::TXT(TXT::new(vec![n.to_string()])));
            }
        }
        ("ring.test.", _) => {
            put(&name, alias("gnir.test."));
            put("gnir.test.", alias("ring.test."));
        }
        ("abroad.test.", _) => put(&name, alias("text.other.")),
        ("text.other.", RecordType::TXT) => {
            put(&name, RData::TXT(TXT::new(vec!["from abroad".to_owned()])));
        }
        ("fail.test.", _) => reply.metadata.response_code = ResponseCode::ServFail,
        ("four.test." | "none.test." | "big.test.", _) => {}
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply.to_vec().unwrap()
}

/// A resolver with these servers for these zones.
fn resolver(zones: &[(&str, SocketAddr)]) -> SystemResolver {
    let zones = zones.iter().map(|(zone, server)| ZoneServers {
        zone: (*zone).to_owned(),
        servers: vec![*server],
        tcp: false,
    });
    let timeout = Duration::from_secs(2);
    SystemResolver::new(&Resolving { zones: zones.collect(), timeout, ..Resolving::default() })
        .unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn names_resolve_over_the_network_ipv6_first() {
    let (server, questions) = dns_server().await;
    let resolver = resolver(&[("test", server)]);
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
    let resolver = resolver(&[(".", server)]);
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
    let resolver = resolver(&[(".", other), ("test", server)]);
    resolver.addresses("four.test").await.unwrap();
    assert!(others.lock().unwrap().is_empty());
    assert!(!questions.lock().unwrap().is_empty());
    assert_eq!(resolver.addresses("attest").await, Err(ResolveError::NoSuchName));
    assert!(others.lock().unwrap().iter().any(|question| question.starts_with("attest. ")));
}

#[test]
fn zones_without_servers_or_twice_are_refused() {
    let server: SocketAddr = "127.0.0.1:53".parse().unwrap();
    let zone = |zone: &str, servers| ZoneServers { zone: zone.to_owned(), servers, tcp: false };
    for zones in
        [vec![zone("lan", vec![])], vec![zone("lan", vec![server]), zone("LAN.", vec![server])]]
    {
        assert!(SystemResolver::new(&Resolving { zones, ..Resolving::default() }).is_err());
    }
}

#[tokio::test]
async fn answers_are_bounded_and_rings_end() {
    let (server, _) = dns_server().await;
    let resolver = resolver(&[("test", server)]);
    assert_eq!(resolver.txt("flood.test").await, Err(ResolveError::TooManyRecords));
    assert_eq!(resolver.txt("ring.test").await, Err(ResolveError::TooManyAliases));
    assert_eq!(resolver.addresses("ring.test").await, Err(ResolveError::TooManyAliases));
}

#[tokio::test]
async fn an_alias_is_followed_into_the_zone_it_leads_to() {
    let (server, questions) = dns_server().await;
    let (abroad, asked_abroad) = dns_server().await;
    let resolver = resolver(&[("test", server), ("other", abroad)]);
    assert_eq!(resolver.txt("abroad.test").await, Ok(vec![b"from abroad".to_vec()]));
    assert_eq!(*questions.lock().unwrap(), ["abroad.test. TXT udp"]);
    assert_eq!(*asked_abroad.lock().unwrap(), ["text.other. TXT udp"]);
}

#[tokio::test]
async fn caa_properties_come_as_they_stand() {
    let (server, _) = dns_server().await;
    let resolver = resolver(&[("test", server)]);
    let property = CaaRecord {
        critical: true,
        tag: "issue".to_owned(),
        value: b"ca.lan; accounturi=x".to_vec(),
    };
    assert_eq!(resolver.caa("caa.test").await, Ok(vec![property]));
    assert_eq!(resolver.caa("none.test").await, Ok(vec![]));
    assert!(resolver.caa("fail.test").await.is_err());
}

#[tokio::test]
async fn tcp_is_asked_from_the_start_where_it_is_wished() {
    let (server, questions) = dns_server().await;
    let zones = vec![ZoneServers { zone: ".".to_owned(), servers: vec![server], tcp: true }];
    let timeout = Duration::from_secs(2);
    let resolver =
        SystemResolver::new(&Resolving { zones, timeout, ..Resolving::default() }).unwrap();
    assert_eq!(resolver.addresses("four.test").await, Ok(vec![ip("10.0.0.4")]));
    assert!(questions.lock().unwrap().iter().all(|question| question.ends_with(" tcp")));
}

#[tokio::test]
async fn names_below_local_are_multicast_unless_a_zone_covers_them() {
    let (server, questions) = dns_server().await;
    let zone =
        |zone: &str| ZoneServers { zone: zone.to_owned(), servers: vec![server], tcp: false };
    let resolver = |zones| {
        let timeout = Duration::from_millis(50);
        let multicast = vec!["lo".to_owned()];
        SystemResolver::new(&Resolving { zones, timeout, multicast }).unwrap()
    };
    let multicast = resolver(vec![zone(".")]);
    assert_eq!(multicast.txt("_acme-challenge.a.local").await, Err(ResolveError::Multicast));
    assert!(multicast.addresses("nobody.local").await.is_err());
    assert!(questions.lock().unwrap().is_empty(), "no server is asked");
    let covered = resolver(vec![zone("."), zone("local")]);
    assert_eq!(covered.addresses("a.local").await, Err(ResolveError::NoSuchName));
    assert!(!questions.lock().unwrap().is_empty());
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
