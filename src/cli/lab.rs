//! `chancery lab`: what a lab lacks. So far a DNS server that gives every test name one address.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use clap::{Args, Subcommand};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};

use super::{Failure, print};

/// `chancery lab …`.
#[derive(Clone, Debug, Args)]
pub struct LabArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Answers DNS over UDP: every name of the zones has the same addresses. Runs until it is stopped.
    Dns(Dns),
}

#[derive(Clone, Debug, Args)]
struct Dns {
    /// Where to listen. Port 0 takes a free one; the first line printed says which.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The addresses of every name.
    #[arg(long = "answer", default_value = "127.0.0.1")]
    answers: Vec<IpAddr>,
    /// The zones, comma-separated; names outside do not exist.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "test,lan,internal,home.arpa,local,localhost"
    )]
    zones: Vec<String>,
}

/// Runs the subcommand.
pub fn run(args: &LabArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Dns(dns) => serve(dns),
    }
}

fn serve(dns: &Dns) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(format!(
            "CHY-PORT: DNS on {}: {error}; choose another with --listen",
            dns.listen
        ))
    };
    let socket = UdpSocket::bind(dns.listen).map_err(failed)?;
    print(&format!("{}", socket.local_addr().map_err(failed)?))?;
    let mut question = [0u8; 512];
    loop {
        // An error here is of one datagram (a peer's port that closed), never of the socket.
        let Ok((length, peer)) = socket.recv_from(&mut question) else { continue };
        if let Some(answer) = answer(dns, &question[..length]) {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// The answer to one datagram; `None` for what is no question.
fn answer(dns: &Dns, datagram: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(datagram).ok()?;
    let query = question.queries.first()?.clone();
    if question.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    let name = query.name().to_lowercase().to_utf8();
    let name = name.trim_end_matches('.');
    let known = dns.zones.iter().any(|zone| {
        name.strip_suffix(zone.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    if question.metadata.op_code != OpCode::Query {
        answer.metadata.response_code = ResponseCode::NotImp;
    } else if !known {
        answer.metadata.response_code = ResponseCode::NXDomain;
    } else {
        for address in &dns.answers {
            let data = match (query.query_type(), address) {
                (RecordType::A, IpAddr::V4(address)) => RData::A((*address).into()),
                (RecordType::AAAA, IpAddr::V6(address)) => RData::AAAA((*address).into()),
                _ => continue,
            };
            answer.add_answer(Record::from_rdata(query.name().clone(), 1, data));
        }
    }
    answer.add_query(query);
    answer.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::Query;

    use super::*;

    fn ask(name: &str, kind: RecordType) -> Message {
        let dns = Dns {
            listen: ([127, 0, 0, 1], 0).into(),
            answers: vec![[127, 0, 0, 1].into()],
            zones: vec!["test".into()],
        };
        let mut question = Message::query();
        question.add_query(Query::query(format!("{name}.").parse().unwrap(), kind));
        Message::from_vec(&answer(&dns, &question.to_vec().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn names_of_a_zone_have_the_address_and_others_do_not_exist() {
        assert_eq!(ask("a.b.test", RecordType::A).answers.len(), 1);
        assert_eq!(ask("A.TEST", RecordType::A).answers.len(), 1);
        let none = ask("a.test", RecordType::AAAA);
        assert_eq!((none.answers.len(), none.metadata.response_code), (0, ResponseCode::NoError));
        assert_eq!(ask("atest", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
        let dns = Dns { listen: ([0; 4], 0).into(), answers: vec![], zones: vec![] };
        assert_eq!(answer(&dns, b"\xff\x00garbage"), None);
    }
}
