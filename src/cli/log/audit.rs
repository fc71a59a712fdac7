//! `chancery log audit`: a report over a period, for an auditor.

use std::io::Write;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::verify::{self, Against};
use super::{Stop, select};
use crate::acme::directory::Urls;
use crate::acme::rfc3339;
use crate::app::Failure;
use crate::audit::report::{self, Form, Period, ReportError, Request};
use crate::config::Config;
use crate::env::Clock;
use crate::env::system::{SystemClock, SystemDisk};
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::reader::Reader;

/// What to report, and how.
#[derive(Debug, Args)]
pub struct Audit {
    /// From this day or instant on (UTC); the log's beginning, if not given.
    #[arg(long, value_name = "DATE", value_parser = instant)]
    since: Option<Timestamp>,
    /// Up to this day or instant, without it; now, if not given.
    #[arg(long, value_name = "DATE", value_parser = instant)]
    until: Option<Timestamp>,
    /// The form; with --json one JSON object.
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    format: Shape,
    /// With each certificate, where the web process gives its proof (`chancery log prove` writes the same).
    #[arg(long)]
    proofs: bool,
    /// Verify the whole log first, and say in the report what was found. Exit code 1 if anything is wrong.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    against: Against,
}

/// Forms of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Shape {
    /// Text.
    Table,
    /// One row a record, RFC 4180; no counts.
    Csv,
    /// Counts and records as one object.
    Json,
    /// A page to print: one file, nothing to load.
    Html,
}

/// Writes the report; what a verification finds wrong is a failure afterwards.
pub(super) fn run(
    arguments: &Audit,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let verified = if arguments.verify {
        Some(verify::verdict(&arguments.against, None, config)?)
    } else {
        None
    };
    let dir = arguments.against.dir.clone().unwrap_or_else(|| config.paths.log());
    let reader = Reader::open(Arc::new(SystemDisk), &dir)?;
    let made = SystemClock::new().now();
    let urls = Urls::new(&config.web.base_url).map_err(|why| {
        Stop::Failed(Failure::operator(format!("CHY-CONFIG-VALUE: web.base-url: {why}")))
    })?;
    let places = |intents: &[(Serial, LeafIndex)]| select::places(intents, config);
    let proof = |serial| urls.proof(serial);
    let request = Request {
        period: Period {
            since: arguments.since.unwrap_or_default(),
            until: arguments.until.unwrap_or(made),
        },
        // An archive or a copy has no index of its own.
        places: arguments.against.dir.is_none().then_some(&places as _),
        form: match arguments.format {
            _ if json => Form::Json,
            Shape::Table => Form::Table,
            Shape::Csv => Form::Csv,
            Shape::Json => Form::Json,
            Shape::Html => Form::Page,
        },
        proof: arguments.proofs.then_some(&proof as &dyn Fn(Serial) -> String),
        made,
        verdict: verified.as_ref().map(|(_, verdict)| verdict),
    };
    report::write(&reader, &request, out).map_err(|error| match error {
        ReportError::Log(error) => error.into(),
        ReportError::Output(error) => Stop::Output(error),
    })?;
    match &verified {
        Some((dir, verdict)) => verify::sound(dir, verdict),
        None => Ok(()),
    }
}

/// A day in UTC, or an instant.
fn instant(text: &str) -> Result<Timestamp, String> {
    rfc3339::parse(text).or_else(|| rfc3339::parse(&format!("{text}T00:00:00Z"))).ok_or_else(|| {
        "write a day as 2026-11-22, or an instant as 2026-11-22T08:00:00Z".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight() {
        assert_eq!(instant("2026-11-22"), instant("2026-11-22T00:00:00Z"));
        assert_eq!(instant("1970-01-02"), Ok(Timestamp(86_400_000)));
        for text in ["", "yesterday", "2026-11", "2026-11-31", "2026-11-22 08:00"] {
            assert!(instant(text).is_err(), "{text}");
        }
    }
}
