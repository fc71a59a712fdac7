//! Multicast DNS (RFC 6762), the part a one-shot querier needs: who on this link has this name?
//!
//! Questions leave from a port of their own, so responders answer it alone and repeat the question's id
//! (section 6.7). The sockets are bound to the configured interface: what arrives elsewhere is not
//! heard, what leaves goes nowhere else, and no group is joined. Every answer is judged as a claim of
//! a neighbour: two neighbours that claim one name with other addresses are both refused.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::env::net::ResolveError;
use crate::env::random_16;
use crate::env::system::SystemRng;

/// Asks on the interfaces it was made for.
#[derive(Debug)]
pub struct MulticastDns {
    interfaces: Vec<String>,
    patience: Duration,
}

impl MulticastDns {
    /// An interface need not be there yet, only be one's name: cables and radios come up late. `patience` bounds the
    /// wait for a first answer.
    pub fn new(interfaces: &[String], patience: Duration) -> Result<Self, String> {
        for name in interfaces {
            // What the kernel calls a name (IFNAMSIZ).
            if name.is_empty() || name.len() > 15 || name.contains(['/', ' ']) {
                return Err(format!(
                    "CHY-CONFIG-VALUE: [validation] mdns-interfaces has `{name}`, which is no interface's name"
                ));
            }
            if let Err(error) = index(name) {
                tracing::warn!(
                    interface = name,
                    %error,
                    "CHY-DNS-MULTICAST: the interface is not there; names below `local` are not asked on it until it is"
                );
            }
        }
        Ok(Self { interfaces: interfaces.to_vec(), patience })
    }

    /// The addresses of a name below `local`, IPv6 first. Nobody's answer is `Timeout`: absence cannot be
    /// told from slowness.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let failed = |why: &dyn std::fmt::Display| ResolveError::Failed(why.to_string());
        let wanted = Name::from_ascii(format!("{name}.")).map_err(|why| failed(&why))?;
        let [low, high, ..] = random_16(&SystemRng);
        let id = u16::from_be_bytes([low, high]);
        let question = question(id, &wanted).map_err(|why| failed(&why))?;
        let mut doors = Vec::new();
        for interface in &self.interfaces {
            for opened in [open_v4(interface).await, open_v6(interface).await] {
                match opened {
                    Ok(door) => doors.push(door),
                    Err(error) => {
                        tracing::debug!(interface, %error, "no multicast DNS");
                    }
                }
            }
        }
        let Some(first) = doors.first() else {
            return Err(ResolveError::Failed("no interface for multicast DNS".to_owned()));
        };
        tracing::trace!(%name, doors = doors.len(), group = %first.1, "asking by multicast DNS");

        let begun = Instant::now();
        let mut ask_again = Some(begun + REPEAT);
        let mut until = begun + self.patience;
        let mut heard = Claims::default();
        send(&doors, &question).await;
        let mut buffer = vec![0; MOST_DATAGRAM];
        while heard.packets < MOST_PACKETS {
            let next = ask_again.map_or(until, |at| at.min(until));
            match timeout_at(next, receive(&doors, &mut buffer)).await {
                Ok((length, from)) => {
                    let fresh = heard.is_empty();
                    heard.packets += 1;
                    // Section 6: responders speak from the port of multicast DNS.
                    if from.port() == PORT
                        && let Some(addresses) = parse(&buffer[..length], id, name)
                    {
                        heard.add(from.ip(), addresses);
                    }
                    if fresh && !heard.is_empty() {
                        // The other family, and whoever else claims the name.
                        until = until.min(Instant::now() + LINGER);
                        ask_again = None;
                    }
                }
                Err(_) if ask_again.is_some_and(|at| at < until) => {
                    ask_again = None;
                    send(&doors, &question).await;
                }
                Err(_) => break,
            }
        }
        heard.settle()
    }
}

async fn open_v4(interface: &str) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_ttl_v4(255)?;
    Ok((socket, SocketAddr::from((GROUP_V4, PORT))))
}

async fn open_v6(interface: &str) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok((socket, SocketAddrV6::new(GROUP_V6, PORT, 0, index(interface)?).into()))
}

fn index(interface: &str) -> io::Result<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let probe = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(&probe, interface)?)
}

/// What neighbours said, by who said it.
#[derive(Default)]
struct Claims {
    by: BTreeMap<IpAddr, BTreeSet<IpAddr>>,
    packets: usize,
}

impl Claims {
    fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    fn add(&mut self, from: IpAddr, addresses: Vec<IpAddr>) {
        self.by.entry(from).or_default().extend(addresses);
    }

    /// A host may answer over IPv4 and over IPv6, and may keep addresses of one family for that family; but all that
    /// answer over the same must say the same, and of each family all answers that have any must have the same.
    fn settle(self) -> Result<Vec<IpAddr>, ResolveError> {
        if self.by.is_empty() {
            return Err(if self.packets < MOST_PACKETS {
                ResolveError::Timeout
            } else {
                ResolveError::TooManyRecords
            });
        }
        let conflict = || {
            ResolveError::Failed(
                "two hosts of the link claim this name with different addresses".to_owned(),
            )
        };
        for over_six in [true, false] {
            let mut said = self.by.iter().filter(|(from, _)| from.is_ipv6() == over_six);
            if let Some((_, first)) = said.next()
                && said.any(|(_, other)| other != first)
            {
                return Err(conflict());
            }
        }
        let mut found = Vec::new();
        for is_six in [true, false] {
            let mut answers = self
                .by
                .values()
                .map(|set| set.iter().filter(|a| a.is_ipv6() == is_six).copied().collect())
                .filter(|set: &Vec<IpAddr>| !set.is_empty());
            let Some(first) = answers.next() else { continue };
            if answers.any(|other| other != first) {
                return Err(conflict());
            }
            found.extend(first);
        }
        Ok(found)
    }
}

/// A, AAAA and their names: `None` unless it is a response to the question of this id with at least
/// one address of `name`.
pub fn parse(datagram: &[u8], id: u16, name: &str) -> Option<Vec<IpAddr>> {
    let message = Message::from_vec(datagram).ok()?;
    let head = &message.metadata;
    if head.message_type != MessageType::Response
        || head.id != id
        || head.op_code != OpCode::Query
        || head.response_code != ResponseCode::NoError
    {
        return None;
    }
    let wanted = Name::from_ascii(format!("{name}.")).ok()?;
    let mut found: Vec<IpAddr> = Vec::new();
    for record in message.answers.iter().take(MOST_RECORDS) {
        // The top bit is the cache-flush bit (section 10.2), which says nothing to who caches nothing.
        if record.name != wanted || u16::from(record.dns_class) & 0x7fff != u16::from(DNSClass::IN)
        {
            continue;
        }
        let address = match &record.data {
            RData::A(a) => IpAddr::V4(a.0),
            RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
            _ => continue,
        };
        if !found.contains(&address) {
            found.push(address);
        }
    }
    (!found.is_empty()).then_some(found)
}

fn question(id: u16, name: &Name) -> Result<Vec<u8>, hickory_resolver::proto::ProtoError> {
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    for kind in [RecordType::A, RecordType::AAAA] {
        question.add_query(Query::query(name.clone(), kind));
    }
    question.to_vec()
}

async fn send(doors: &[(UdpSocket, SocketAddr)], question: &[u8]) {
    for (socket, group) in doors {
        if let Err(error) = socket.send_to(question, group).await {
            tracing::debug!(%group, %error, "a question by multicast DNS was not sent");
        }
    }
}

/// The next datagram at any of the doors.
async fn receive(doors: &[(UdpSocket, SocketAddr)], buffer: &mut [u8]) -> (usize, SocketAddr) {
    std::future::poll_fn(|context| {
        for (socket, _) in doors {
            let mut read = tokio::io::ReadBuf::new(buffer);
            // An error here is of one datagram, never of the socket.
            while let std::task::Poll::Ready(result) = socket.poll_recv_from(context, &mut read) {
                if let Ok(from) = result {
                    return std::task::Poll::Ready((read.filled().len(), from));
                }
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Section 3.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
const PORT: u16 = 5353;
/// Section 5.2: a question is not repeated within a second.
const REPEAT: Duration = Duration::from_secs(1);
/// The wait for other answers after the first.
const LINGER: Duration = Duration::from_millis(250);
/// Section 17: the most a message has.
const MOST_DATAGRAM: usize = 9000;
/// Datagrams read for one question, whatever they are.
const MOST_PACKETS: usize = 64;
/// Addresses of one answer that are looked at.
const MOST_RECORDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::Record;

    fn response(id: u16, change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Response, OpCode::Query);
        change(&mut message);
        message.to_vec().unwrap()
    }

    fn a(name: &str, address: [u8; 4]) -> Record {
        Record::from_rdata(
            Name::from_ascii(name).unwrap(),
            10,
            RData::A(Ipv4Addr::from(address).into()),
        )
    }

    fn claims(said: &[(&str, &[&str])]) -> Result<Vec<IpAddr>, ResolveError> {
        let mut claims = Claims::default();
        for (from, addresses) in said {
            claims.add(
                from.parse().unwrap(),
                addresses.iter().map(|address| address.parse().unwrap()).collect(),
            );
        }
        claims.settle()
    }

    #[test]
    fn an_answer_is_the_question_s_or_none() {
        let answer = response(7, |m| {
            m.add_answer(a("Printer.local.", [10, 0, 0, 1]));
            m.add_answer(a("other.local.", [10, 0, 0, 2]));
            m.add_additional(a("printer.local.", [10, 0, 0, 3]));
        });
        let found = parse(&answer, 7, "printer.local");
        assert_eq!(found, Some(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!(parse(&answer, 8, "printer.local"), None);
        assert_eq!(parse(&answer, 7, "scanner.local"), None);
        let question = Message::new(7, MessageType::Query, OpCode::Query).to_vec().unwrap();
        assert_eq!(parse(&question, 7, "printer.local"), None);
        assert_eq!(parse(b"\x00\x07\xff", 7, "printer.local"), None);
    }

    #[test]
    fn the_cache_flush_bit_is_no_other_class() {
        let mut record = a("printer.local.", [10, 0, 0, 1]);
        record.dns_class = DNSClass::from(0x8001);
        let flushing = response(7, |m| {
            m.add_answer(record.clone());
        });
        assert!(parse(&flushing, 7, "printer.local").is_some());
        record.dns_class = DNSClass::CH;
        let chaos = response(7, |m| {
            m.add_answer(record);
        });
        assert_eq!(parse(&chaos, 7, "printer.local"), None);
    }

    #[test]
    fn neighbours_that_disagree_are_both_refused() {
        assert_eq!(claims(&[]), Err(ResolveError::Timeout));
        let both = claims(&[("10.0.0.1", &["10.0.0.1", "fd00::1"]), ("fe80::1", &["fd00::1"])]);
        assert_eq!(both, Ok(vec!["fd00::1".parse().unwrap(), "10.0.0.1".parse().unwrap()]));
        let conflict = claims(&[("10.0.0.1", &["10.0.0.1"]), ("10.0.0.9", &["10.0.0.9"])]);
        assert!(matches!(conflict, Err(ResolveError::Failed(_))), "{conflict:?}");
        // Not even where the one adds an address of the family that the other has none of.
        for adds in [&["fd00::9"][..], &["10.0.0.1", "fd00::9"]] {
            let conflict = claims(&[("10.0.0.1", &["10.0.0.1"]), ("10.0.0.9", adds)]);
            assert!(matches!(conflict, Err(ResolveError::Failed(_))), "{conflict:?}");
        }
        // One host that keeps the families apart cannot be told from two.
        let apart = claims(&[("10.0.0.1", &["10.0.0.1"]), ("fe80::1", &["fd00::1"])]);
        assert_eq!(apart, Ok(vec!["fd00::1".parse().unwrap(), "10.0.0.1".parse().unwrap()]));
    }

    #[tokio::test]
    async fn an_interface_may_come_later_but_must_be_one() {
        for name in ["", "no such", "../eth0", "sixteen-characte"] {
            let error = MulticastDns::new(&[name.to_owned()], REPEAT).unwrap_err();
            assert!(error.contains(name) && error.starts_with("CHY-CONFIG-VALUE"), "{error}");
        }
        let later = MulticastDns::new(&["nosuch0".to_owned()], REPEAT).unwrap();
        let answer = later.addresses("printer.local").await;
        assert!(matches!(answer, Err(ResolveError::Failed(_))), "{answer:?}");
    }
}
