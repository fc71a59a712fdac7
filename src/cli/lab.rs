//! `chancery lab`: what a lab lacks. So far a DNS server that gives every test name one address, and what
//! else the files of a directory say, so that a client's hook can publish a TXT record by writing a line.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, TXT};
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
    /// A directory with a file for each name that has more to say, or other addresses: the file `NAME` or,
    /// where that is missing, `*.PARENT`, of lines `TXT VALUE`, `A ADDRESS`, `AAAA ADDRESS` or `CNAME NAME`.
    /// Read anew for every question.
    #[arg(long, value_name = "DIRECTORY")]
    records: Option<PathBuf>,
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
        let written =
            dns.records.as_deref().map_or_else(Vec::new, |records| written(records, name));
        // Names with an address of their own lose the common one, and an alias has nothing beside it.
        let own = |data: &RData| matches!(data, RData::A(_) | RData::AAAA(_) | RData::CNAME(_));
        let common = if written.iter().any(own) { &[] } else { dns.answers.as_slice() };
        let data = written.into_iter().chain(common.iter().map(|address| match address {
            IpAddr::V4(address) => RData::A((*address).into()),
            IpAddr::V6(address) => RData::AAAA((*address).into()),
        }));
        for data in data {
            if [query.query_type(), RecordType::CNAME].contains(&data.record_type()) {
                answer.add_answer(Record::from_rdata(query.name().clone(), 1, data));
            }
        }
    }
    answer.add_query(query);
    answer.to_vec().ok()
}

/// What the directory says of a name; lines that are no record say nothing.
fn written(records: &Path, name: &str) -> Vec<RData> {
    // A question is no way to another directory, and `*` is no name that is asked for.
    if name.starts_with('.')
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        return Vec::new();
    }
    let above = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
    let text = [Some(name.to_owned()), above]
        .into_iter()
        .flatten()
        .find_map(|file| std::fs::read_to_string(records.join(file)).ok());
    text.unwrap_or_default().lines().filter_map(record).collect()
}

fn record(line: &str) -> Option<RData> {
    let (kind, value) = line.trim().split_once(' ')?;
    let value = value.trim();
    Some(match kind {
        "A" => RData::A(value.parse::<std::net::Ipv4Addr>().ok()?.into()),
        "AAAA" => RData::AAAA(value.parse::<std::net::Ipv6Addr>().ok()?.into()),
        "CNAME" => RData::CNAME(CNAME(value.parse().ok()?)),
        "TXT" => RData::TXT(TXT::from_bytes(value.as_bytes().chunks(255).collect())),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::Query;

    use super::*;

    fn ask(name: &str, kind: RecordType) -> Message {
        ask_beside(None, name, kind)
    }

    fn ask_beside(records: Option<&Path>, name: &str, kind: RecordType) -> Message {
        let dns = Dns {
            listen: ([127, 0, 0, 1], 0).into(),
            answers: vec![[127, 0, 0, 1].into()],
            zones: vec!["test".into()],
            records: records.map(Path::to_owned),
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
        let dns = Dns { listen: ([0; 4], 0).into(), answers: vec![], zones: vec![], records: None };
        assert_eq!(answer(&dns, b"\xff\x00garbage"), None);
    }

    #[test]
    fn a_file_of_records_speaks_for_its_name_and_a_wildcard_for_the_names_below() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("_acme-challenge.a.test", "TXT one\nTXT two words\nno record\nA nonsense\n");
        write("*.plant.test", "A 127.0.1.7\n");
        write("alias.test", "CNAME a.plant.test.\n");
        let ask = |name: &str, kind| {
            let answer = ask_beside(Some(dir.path()), name, kind);
            answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ask("_acme-challenge.A.test", RecordType::TXT), ["one", "two words"]);
        assert_eq!(ask("_acme-challenge.a.test", RecordType::A), ["127.0.0.1"], "the common one");
        assert_eq!(ask("a.plant.test", RecordType::A), ["127.0.1.7"]);
        assert_eq!(ask("a.plant.test", RecordType::TXT), [""; 0]);
        assert_eq!(ask("alias.test", RecordType::A), ["a.plant.test."]);
        assert_eq!(ask("b.test", RecordType::TXT), [""; 0]);
        std::fs::write(dir.path().join("..test"), "A 127.0.0.9").unwrap();
        assert!(
            written(dir.path(), "../x.test").is_empty() && written(dir.path(), "..test").is_empty()
        );
    }
}
