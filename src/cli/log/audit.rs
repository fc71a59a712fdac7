//! `chancery log audit`: a report over a period, for an auditor.

use std::io::Write;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::verify::{self, Against};
use super::{Stop, select};
use crate::acme::directory::Urls;
use crate::app::Failure;
use crate::audit::report::{self, Form, Period, Places, ReportError, Request};
use crate::config::Config;
use crate::env::Clock;
use crate::env::system::{SystemClock, SystemDisk};
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::reader::Reader;

/// What to report, and how.
#[derive(Debug, Args)]
pub struct Audit {
    /// From this day or instant on (UTC); the log's beginning, if not given.
    #[arg(long, value_name = "DATE", value_parser = select::day)]
    since: Option<Timestamp>,
    /// Up to this day or instant, without it; now, if not given.
    #[arg(long, value_name = "DATE", value_parser = select::day)]
    until: Option<Timestamp>,
    /// The form; with --json one JSON object.
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    format: Shape,
    /// With each certificate, where the web process gives its proof (`chancery log prove` writes the same).
    #[arg(long, conflicts_with = "key")]
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

impl Audit {
    /// Whether nothing of this box is asked for.
    pub(super) fn is_outside(&self) -> bool {
        self.against.is_outside()
    }
}

/// Writes the report; what a verification finds wrong is a failure afterwards. Without a configuration the directory is
/// all there is.
pub(super) fn run(
    arguments: &Audit,
    config: Option<&Config>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    if let (Some(since), Some(until)) = (arguments.since, arguments.until)
        && until <= since
    {
        return Err(Stop::Failed(Failure::operator(format!(
            "CHY-USAGE: nothing is between --since {since} and --until {until}; the later one is --until"
        ))));
    }
    let verified = if arguments.verify {
        Some(verify::verdict(&arguments.against, None, config)?)
    } else {
        None
    };
    let dir = arguments.against.directory(config)?;
    let reader = Reader::open(Arc::new(SystemDisk), &dir)?;
    let made = SystemClock::new().now();
    let urls = config.map(|config| Urls::new(&config.web.base_url)).transpose().map_err(|why| {
        Stop::Failed(Failure::operator(format!("CHY-CONFIG-VALUE: web.base-url: {why}")))
    })?;
    // An archive or a copy has no index of its own.
    let indexed = config.filter(|_| arguments.against.dir.is_none());
    let places = |intents: &[(Serial, LeafIndex)]| {
        indexed.map_or_else(Places::new, |config| select::places(intents, config))
    };
    let proof = |serial| urls.as_ref().map(|urls| urls.proof(serial)).unwrap_or_default();
    let request = Request {
        period: Period {
            since: match arguments.since {
                Some(since) => since,
                None => begins(&reader)?,
            },
            until: arguments.until.unwrap_or(made),
        },
        places: indexed.is_some().then_some(&places as _),
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

/// The instant of the log's first record.
fn begins(reader: &Reader) -> Result<Timestamp, Stop> {
    let first = reader.entries(LeafIndex(0)).next().transpose()?;
    Ok(first.and_then(|entry| entry.record.ok()).map(|record| record.at()).unwrap_or_default())
}
