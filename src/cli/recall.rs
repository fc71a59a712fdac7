//! `chancery recall`: have devices replace certificates before their time (RFC 9773).

use std::time::Duration;

use clap::{Args, Subcommand};

use super::admin::{Issuer, unexpected};
use super::{Context, Failure, confirm, print, print_json};
use crate::acme::rfc3339;
use crate::env::Clock;
use crate::env::system::SystemClock;
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::ipc::admin::recalls::{Recall, RecallAnswer, RecallQuestion};
use crate::ipc::admin::{AdminAnswer, AdminQuestion};

/// `chancery recall …`.
#[derive(Clone, Debug, Subcommand)]
pub enum RecallCommand {
    /// Tell clients to replace certificates: all that were issued until now, or those that the options mean.
    /// Clients learn of it when they next ask for renewal information, within [web] renewal-info-hours.
    Start(StartArguments),
    /// The recalls that count.
    List,
    /// Let a recall count no more.
    End {
        /// Its number, as `list` shows it.
        recall: u64,
        /// Do it; without, say what would be done.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub struct StartArguments {
    /// Only certificates of this profile.
    #[arg(long)]
    profile: Option<String>,
    /// Only the certificate with this serial number, as OpenSSL prints it.
    #[arg(long)]
    serial: Option<Serial>,
    /// Only certificates issued at this instant or later, such as 2026-11-22T00:00:00Z.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    issued_from: Option<Timestamp>,
    /// Only certificates issued at this instant or before.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    issued_until: Option<Timestamp>,
    /// When to begin; without, at once.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    begin: Option<Timestamp>,
    /// Over how many hours clients spread their renewals; 0: all at the next chance.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    over_hours: u32,
    /// An http or https URL where people can read why.
    #[arg(long, value_name = "URL")]
    explanation: Option<String>,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
}

pub fn run(command: &RecallCommand, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    match command {
        RecallCommand::Start(arguments) => {
            let recall = arguments.recall(SystemClock::new().now());
            confirm(arguments.yes, &format!("certificates would be recalled: {}", said(&recall)))?;
            let mut issuer = Issuer::connect(&config)?;
            match ask(&mut issuer, RecallQuestion::Start(Box::new(recall)))? {
                RecallAnswer::Started(leaf) if context.json => {
                    print_json(&serde_json::json!({ "recall": leaf.0 }))
                }
                RecallAnswer::Started(leaf) => print(&format!("recall {leaf}")),
                _ => Err(unexpected()),
            }
        }
        RecallCommand::List => {
            let mut issuer = Issuer::connect(&config)?;
            let RecallAnswer::List(recalls) = ask(&mut issuer, RecallQuestion::List)? else {
                return Err(unexpected());
            };
            if context.json {
                return print_json(&recalls.iter().map(json).collect::<Vec<_>>());
            }
            recalls
                .iter()
                .try_for_each(|(leaf, recall)| print(&format!("{leaf:>8}  {}", said(recall))))
        }
        RecallCommand::End { recall, yes } => {
            confirm(*yes, &format!("recall {recall} would end"))?;
            let mut issuer = Issuer::connect(&config)?;
            match ask(&mut issuer, RecallQuestion::End(LeafIndex(*recall)))? {
                RecallAnswer::Ended => print(&format!("recall {recall} ended")),
                _ => Err(unexpected()),
            }
        }
    }
}

impl StartArguments {
    /// At once means a window that is over: clients renew when they see it.
    fn recall(&self, now: Timestamp) -> Recall {
        let (start, end) = match (self.begin, self.over_hours) {
            (None, 0) => (now.minus(HOUR), now),
            (begin, hours) => {
                let start = begin.unwrap_or(now);
                (start, start.plus((hours * HOUR).max(MINUTE)))
            }
        };
        Recall {
            profile: self.profile.clone(),
            serial: self.serial,
            issued_from: self.issued_from,
            issued_until: self.issued_until,
            start,
            end,
            explanation: self.explanation.clone(),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn ask(issuer: &mut Issuer, question: RecallQuestion) -> Result<RecallAnswer, Failure> {
    match issuer.ask(&AdminQuestion::Recall(question))? {
        AdminAnswer::Recall(answer) => Ok(answer),
        _ => Err(unexpected()),
    }
}

/// A recall in words.
fn said(recall: &Recall) -> String {
    let mut words = vec![format!("from {} to {}", recall.start, recall.end)];
    words.extend(recall.profile.as_ref().map(|name| format!("profile {name}")));
    words.extend(recall.serial.map(|serial| format!("serial {serial}")));
    words.extend(recall.issued_from.map(|at| format!("issued from {at}")));
    words.push(match recall.issued_until {
        Some(at) => format!("issued until {at}"),
        None => "issued until now".to_owned(),
    });
    words.extend(recall.explanation.as_ref().map(|url| format!("see {url}")));
    words.join(", ")
}

fn json((leaf, recall): &(LeafIndex, Recall)) -> serde_json::Value {
    serde_json::json!({
        "recall": leaf.0,
        "profile": recall.profile,
        "serial": recall.serial.map(|serial| serial.to_string()),
        "issued_from": recall.issued_from.map(|at| at.to_string()),
        "issued_until": recall.issued_until.map(|at| at.to_string()),
        "start": recall.start.to_string(),
        "end": recall.end.to_string(),
        "explanation": recall.explanation,
    })
}

fn instant(text: &str) -> Result<Timestamp, String> {
    rfc3339::parse(text).ok_or_else(|| "write an instant as 2026-11-22T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_305_599_000);

    fn arguments(over_hours: u32, begin: Option<Timestamp>) -> StartArguments {
        StartArguments {
            profile: None,
            serial: None,
            issued_from: None,
            issued_until: None,
            begin,
            over_hours,
            explanation: None,
            yes: true,
        }
    }

    #[test]
    fn a_window_lies_in_the_past_or_is_spread() {
        let window = |arguments: StartArguments| {
            let recall = arguments.recall(NOW);
            (recall.start, recall.end)
        };
        assert_eq!(window(arguments(0, None)), (NOW.minus(HOUR), NOW));
        assert_eq!(window(arguments(24, None)), (NOW, NOW.plus(24 * HOUR)));
        let later = NOW.plus(48 * HOUR);
        assert_eq!(window(arguments(2, Some(later))), (later, later.plus(2 * HOUR)));
        assert_eq!(window(arguments(0, Some(later))), (later, later.plus(MINUTE)));
    }
}
