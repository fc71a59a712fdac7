//! `chancery status`: what the running box says of itself.
//!
//! Asks the web process over HTTP, as any monitor does, and reads the public checkpoint. Needs neither PIN nor
//! token nor access to anything private.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

use super::{Context, Failure, print, print_json, why};
use crate::config::Config;
use crate::env::Clock;
use crate::env::system::SystemClock;
use crate::id::Timestamp;
use crate::pki::authority::Authority;
use crate::pki::certificate::Certificate;
use crate::pki::crl::{self, Crl};

/// `chancery status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArguments {
    /// How long to wait for an answer.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    timeout: u64,
}

pub fn run(arguments: &StatusArguments, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    let timeout = Duration::from_secs(arguments.timeout.clamp(1, 300));
    let asked = ask(&config, "/readyz", timeout);
    let checkpoint = checkpoint(&config);
    let now = SystemClock::new().now();
    let root_crls = root_crls(&config);
    let backup = super::backup::last_made(&config);
    let days = |ends: Timestamp| ends.0.saturating_sub(now.0) / 86_400_000;
    let (state, detail, ok) = match &asked {
        Ok(Answer { status: 200, body }) => ("ready", body.trim().to_owned(), true),
        Ok(Answer { status, body }) => {
            (if *status == 503 { "not ready" } else { "strange" }, body.trim().to_owned(), false)
        }
        Err(error) => ("away", error.clone(), false),
    };
    if context.json {
        let detail: serde_json::Value = serde_json::from_str(&detail)
            .unwrap_or_else(|_| serde_json::Value::String(detail.clone()));
        print_json(&serde_json::json!({
            "state": state,
            "detail": detail,
            "time": now.to_string(),
            "checkpoint": checkpoint.as_ref().map(|(origin, size)| serde_json::json!({
                "origin": origin, "size": size
            })),
            "root_crls": root_crls.iter().map(|(root, crl)| serde_json::json!({
                "root": root,
                "number": crl.number,
                "next_update": crl.next_update.to_string(),
                "days": days(crl.next_update),
                "revoked": crl.revoked.len(),
            })).collect::<Vec<_>>(),
            "backup": backup,
            "base_url": config.web.base_url,
        }))?;
    } else {
        print(&format!("state       {state}"))?;
        // Of a box that is well there is nothing more to say than what may end that.
        let worth = |line: &&str| {
            ["CHY-", "witness ", "watches ", "token "].iter().any(|p| line.starts_with(p))
        };
        for line in detail.lines().filter(|line| !ok || worth(line)) {
            print(&format!("            {line}"))?;
            let entry = line.split_once(": ").and_then(|(code, _)| why::find(code));
            if let Some(entry) = entry {
                print(&format!("            do: {}", entry.do_this))?;
            }
        }
        match &checkpoint {
            Some((origin, size)) => print(&format!("checkpoint  {size} records of {origin}"))?,
            None => print("checkpoint  none published yet")?,
        }
        for (root, crl) in &root_crls {
            let whose = if root_crls.len() > 1 { format!("{root}, ") } else { String::new() };
            let (number, ends) = (crl.number, crl.next_update);
            let left = days(ends);
            print(&format!("root's CRL  {whose}number {number}, until {ends}, {left} days left"))?;
        }
        match &backup {
            Some(last) => print(&format!(
                "backup      {} records at {}, {} days ago",
                last.records,
                last.made_at,
                now.0.saturating_sub(last.made) / 86_400_000
            ))?,
            None => print("backup      none was made yet")?,
        }
        print(&format!("address     {}", config.web.base_url))?;
        print(&format!("time        {now}"))?;
    }
    match (ok, asked) {
        (true, _) => Ok(()),
        (false, Ok(_)) => Err(Failure::failed(
            "CHY-NOT-READY: the box answers but issues nothing now; `chancery doctor` says more"
                .into(),
        )),
        (false, Err(error)) => Err(Failure::retry(format!(
            "CHY-WEB-AWAY: {error}; start it with `chancery serve`, or see why it stopped: journalctl -u chancery-web"
        ))),
    }
}

/// Origin and size of the newest published checkpoint.
fn checkpoint(config: &Config) -> Option<(String, u64)> {
    let text = std::fs::read_to_string(config.paths.public().join("checkpoint")).ok()?;
    let mut lines = text.lines();
    Some((lines.next()?.to_owned(), lines.next()?.parse().ok()?))
}

/// The CRLs of the roots that are not done with, as they are published, by the root's name.
fn root_crls(config: &Config) -> Vec<(String, Crl)> {
    let roots = config.authority.iter().flat_map(Authority::roots).filter(|root| !root.done);
    roots
        .filter_map(|root| {
            let certificate = Certificate::parse_pem(root.certificate).ok()?;
            let file = crl::file_of(root.crl_url).ok()?;
            let der = std::fs::read(config.paths.public().join(file)).ok()?;
            Some((root.name.to_owned(), crl::parse_verified(&der, &certificate).ok()?))
        })
        .collect()
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Asks the first plain HTTP listener that can be reached from here.
pub(super) fn ask(config: &Config, path: &str, timeout: Duration) -> Result<Answer, String> {
    let listeners = config.web.listen_metrics.iter().chain(&config.web.listen_http);
    let mut why = "neither [web] listen-http nor listen-metrics names an address to ask".to_owned();
    for listener in listeners {
        let address = reachable(*listener);
        match get(address, path, timeout) {
            Ok(answer) => return Ok(answer),
            Err(error) => why = format!("http://{address}{path} does not answer: {error}"),
        }
    }
    Err(why)
}

/// Where a listener can be reached from the same machine.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

fn get(address: SocketAddr, path: &str, timeout: Duration) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut octets = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut octets)?;
    let text = String::from_utf8_lossy(&octets);
    parse(&text).ok_or_else(|| std::io::Error::other("what answers is no HTTP server"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

const MAX_ANSWER: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_noise() {
        let answer =
            parse("HTTP/1.1 503 Service Unavailable\r\nretry-after: 3\r\n\r\nno token\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "no token\n"));
        assert!(parse("220 mail.example ESMTP\r\n\r\n").is_none());
        assert!(parse("").is_none());
    }

    #[test]
    fn an_unspecified_listener_is_asked_over_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()), "127.0.0.1:80".parse().unwrap());
        assert_eq!(reachable("[::]:80".parse().unwrap()), "[::1]:80".parse().unwrap());
        assert_eq!(reachable("192.0.2.1:80".parse().unwrap()), "192.0.2.1:80".parse().unwrap());
    }
}
