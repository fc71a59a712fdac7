//! `/healthz`, `/readyz` and `/metrics`.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::CACHE_CONTROL;

use super::{Fault, Reply};
use crate::id::Timestamp;
use crate::ipc::message::Health;
use crate::ipc::witness::Watch;
use crate::ipc::{Answer, Question};
use crate::web::Server;
use crate::web::metrics::{Metrics, Scrape};
use crate::web::route::Probe;

/// How long a probe waits for the issuer.
const PATIENCE: Duration = Duration::from_secs(2);
const TEXT: &str = "text/plain; charset=utf-8";
/// Below the published directory, and how long it is at most.
const LAST_BACKUP: &str = "last-backup.json";
const MAX_BACKUP: u64 = 64 * 1024;

pub(super) async fn answer(server: &Server, probe: Probe) -> Result<Reply, Fault> {
    let reply = match probe {
        Probe::Alive => Reply::new(StatusCode::OK, TEXT, "alive\n"),
        Probe::Ready => ready(server, health(server).await),
        Probe::Metrics => {
            let health = health(server).await;
            let wrong = wrong(server, health.as_deref());
            let code = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
            let mut codes: Vec<String> = wrong.iter().map(code).collect();
            let said = health.iter().flat_map(|health| &health.problems);
            codes.extend(said.map(|(code, _)| code.clone()));
            let scrape = Scrape {
                wrong: codes,
                waiting: server.limits.admission.waiting(),
                store: server.store.disk(),
                backup: last_backup(server).await,
                health,
            };
            Reply::new(StatusCode::OK, Metrics::CONTENT_TYPE, server.metrics.text(scrape))
        }
    };
    Ok(reply.header(CACHE_CONTROL, "no-store"))
}

async fn health(server: &Server) -> Option<Box<Health>> {
    match tokio::time::timeout(PATIENCE, server.issuer.ask(Question::Health)).await {
        Ok(Ok(Answer::Health(health))) => Some(health),
        _ => None,
    }
}

/// When the last archive that was written whole was begun: what makes backups leaves it in the published directory.
async fn last_backup(server: &Server) -> Option<Timestamp> {
    let path = server.public.join(LAST_BACKUP);
    let read = move || {
        let mut text = String::new();
        File::open(path)?.take(MAX_BACKUP).read_to_string(&mut text).map(|_| text)
    };
    let text = tokio::task::spawn_blocking(read).await.ok()?.ok()?;
    made(&text)
}

fn made(text: &str) -> Option<Timestamp> {
    let last: serde_json::Value = serde_json::from_str(text).ok()?;
    last.get("made")?.as_u64().map(Timestamp)
}

/// What was cosigned last, by a witness of this log or by this box: a line.
fn said(kind: &str, watch: &Watch) -> String {
    let Watch { name, size, at, problem } = watch;
    let state = match (*at, problem.as_str()) {
        (Timestamp(0), "") => "nothing yet".to_owned(),
        (Timestamp(0), problem) => problem.to_owned(),
        (at, "") => format!("{size} records cosigned {at}"),
        (at, problem) => format!("{size} records cosigned {at}; now {problem}"),
    };
    format!("{kind} {name}: {state}\n")
}

/// How often the token was brought up again since the issuer started, from what, and how long that took in all: a
/// line, or nothing to say.
fn recovered(counters: &[(String, u64)]) -> String {
    let count =
        |name: &str| counters.iter().find(|(n, _)| n == name).map_or(0, |(_, count)| *count);
    let (times, wrong) = (count("token_recoveries"), count("token_wrong_signatures"));
    if times + wrong == 0 {
        return String::new();
    }
    let by_code = counters.iter().filter_map(|(name, count)| {
        Some(format!("{} {count}", name.strip_prefix("token_recovered/")?))
    });
    let codes = by_code.collect::<Vec<_>>().join(", ");
    let seconds = Duration::from_millis(count("token_recovering_ms")).as_secs_f64();
    format!(
        "token recovered {times} times ({codes}), {seconds:.1} s in all; {wrong} wrong signatures thrown away\n"
    )
}

/// Why no certificate could be issued now: a line each, which begins with its code.
fn wrong(server: &Server, health: Option<&Health>) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(why) = &*server.halt.borrow() {
        wrong.push(format!("CHY-STORE: {why}"));
    }
    if server.store.is_full() {
        wrong.push(
            "CHY-DISK-FULL: the disk of the web directory is full, so no order is taken; free some space".to_owned(),
        );
    }
    if health.is_some() && !server.tls.is_ready() {
        wrong.push(
            "CHY-TLS-PENDING: the issuer answers but has not made this box's TLS certificate yet"
                .to_owned(),
        );
    }
    match health {
        None => wrong.push("CHY-ISSUER-AWAY: the issuer does not answer".to_owned()),
        Some(health) if health.ready => {}
        Some(health) => {
            wrong
                .extend(health.problems.iter().map(|(code, message)| format!("{code}: {message}")));
            if health.problems.is_empty() {
                wrong.push(format!("CHY-TOKEN-RECOVERING: {}", health.token));
            }
        }
    }
    wrong
}

/// 200, or 503; with a line per thing that is wrong.
fn ready(server: &Server, health: Option<Box<Health>>) -> Reply {
    let wrong = wrong(server, health.as_deref());
    let mut notes = String::new();
    if let Some(health) = health.filter(|health| health.ready) {
        // Issuing, and still something an operator should know: below `ready`, for `chancery status`.
        let line = |(code, message): &(String, String)| format!("{code}: {message}\n");
        notes = health.problems.iter().map(line).collect();
        notes.push_str(&recovered(&health.counters));
        let kinds = [("witness", &health.witnesses), ("watches", &health.watched)];
        for (kind, watch) in kinds.iter().flat_map(|(kind, all)| all.iter().map(move |w| (kind, w)))
        {
            notes.push_str(&said(kind, watch));
        }
    }
    if wrong.is_empty() {
        return Reply::new(StatusCode::OK, TEXT, format!("ready\n{notes}"));
    }
    Reply::new(StatusCode::SERVICE_UNAVAILABLE, TEXT, wrong.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_as_old_as_it_says_and_noise_is_none() {
        assert_eq!(
            made("{\"made\": 1700000000000, \"records\": 3}"),
            Some(Timestamp(1_700_000_000_000))
        );
        for noise in ["", "{}", "[1]", "{\"made\": \"soon\"}", "{\"made\": -1}", "not JSON"] {
            assert_eq!(made(noise), None, "{noise}");
        }
    }

    #[test]
    fn recoveries_are_said_by_code_and_a_token_without_trouble_says_nothing() {
        let counters = |all: &[(&str, u64)]| -> Vec<(String, u64)> {
            all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        assert_eq!(recovered(&counters(&[("issued", 9), ("token_recoveries", 0)])), "");
        let said = recovered(&counters(&[
            ("token_recoveries", 3),
            ("token_recovering_ms", 1250),
            ("token_wrong_signatures", 1),
            ("token_recovered/CHY-TOKEN-SESSION", 2),
            ("token_recovered/CHY-KEY-QUARANTINED", 1),
        ]));
        assert_eq!(
            said,
            "token recovered 3 times (CHY-TOKEN-SESSION 2, CHY-KEY-QUARANTINED 1), 1.2 s in all; 1 wrong signatures thrown away\n"
        );
    }
}
