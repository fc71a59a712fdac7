//! `chancery log`: the issuance log as an operator reads it. Opens files only; runs beside the issuer.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Context, Failure};
use crate::audit::describe::{self, Described};
use crate::audit::verify::certificate;
use crate::config::Config;
use crate::env::system::SystemDisk;
use crate::id::{LeafIndex, OrderId, Serial};
use crate::log::OpenError;
use crate::log::reader::{Entry, Reader};
use crate::log::record::{IntentV1, IssuedV1, Record};

pub mod archive;
mod audit;
mod days;
pub mod proof;
mod rebuild;
mod select;
#[cfg(test)]
mod tests;
mod trusted;
mod verify;

pub use audit::{Audit, Shape};
pub use days::Days;
pub use select::{Filter, Selection, locate};
pub use verify::Verify;

use crate::issuer::read_tbs;

/// `chancery log …`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// List records, oldest first.
    List(Selection),
    /// Show all of one record: by leaf number, or everything about a serial or an order.
    Show(Show),
    /// The last records, or the last of some sort; with --follow, new ones as they come.
    Tail(Tail),
    /// Check every record, signature and checkpoint of the log. Exit code 1 if anything is wrong.
    Verify(Verify),
    /// Report on a period: counts, certificates, revocations, what operators did, how the CA ran.
    Audit(Audit),
    /// Write records or certificates to stdout.
    Export(Export),
    /// Print the proof that a certificate is in the log (C2SP tlog-proof). Contains no name.
    Prove(proof::Prove),
    /// Check such a proof, with the log's public key alone and no log. Exit code 1 if it does not hold.
    CheckProof(proof::CheckProof),
    /// Print the log's public key (a vkey), which proofs and checkpoints are checked with; two while the log key is
    /// being rotated. Keep it elsewhere. `log-key show` has those of former times too.
    Key,
    /// What each day had: records, certificates, revocations.
    Days(Days),
    /// Build the index, and the published tiles, again from the log. The issuer must be stopped.
    RebuildIndex,
    /// Copy complete segments to cold storage, with what it takes to verify them there. Removes nothing.
    Archive(archive::Archive),
    /// Make complete segments immutable where the file system can; takes root.
    Seal(archive::Seal),
}

/// What to show.
#[derive(Debug, Args)]
pub struct Show {
    /// A leaf number, a serial (32 hexadecimal digits) or an order's id.
    // An id is base64url: one in 64 begins with a hyphen.
    #[arg(allow_hyphen_values = true)]
    what: String,
    /// The certificate as PEM instead of its records.
    #[arg(long)]
    pem: bool,
}

/// How much of the end.
#[derive(Debug, Args)]
pub struct Tail {
    /// Records.
    #[arg(short = 'n', long, default_value_t = 10, value_name = "COUNT")]
    count: usize,
    /// Wait for more.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    of: Filter,
}

/// What to export.
#[derive(Debug, Args)]
pub struct Export {
    /// jsonl: every record. pem: every certificate issued.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    #[command(flatten)]
    selection: Selection,
}

/// Forms of export.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    Jsonl,
    Pem,
}

/// Runs one of them, answering on stdout.
pub fn run(command: &LogCommand, context: &Context) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match command {
        // For who has no box, and so no configuration.
        LogCommand::CheckProof(check) => proof::check(check, context.json, &mut out),
        LogCommand::Verify(arguments) if arguments.is_outside() => {
            verify::run(arguments, None, context.json, &mut out)
        }
        LogCommand::Audit(arguments) if arguments.is_outside() => {
            audit::run(arguments, None, context.json, &mut out)
        }
        _ => answer(command, &context.load()?, context.json, &mut out),
    };
    match done.and_then(|()| out.flush().map_err(Stop::Output)) {
        Ok(()) => Ok(()),
        // A reader that went away (`| head`) is no failure.
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Stop::Output(error)) => {
            Err(Failure::failed(format!("CHY-OS: cannot write to stdout: {error}")))
        }
        Err(Stop::Failed(failure)) => {
            let _ = out.flush();
            Err(failure)
        }
    }
}

/// Why an answer ends early.
#[derive(Debug)]
pub(in crate::cli) enum Stop {
    Output(io::Error),
    Failed(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Self {
        Self::Failed(match error {
            OpenError::Retry(text) => Failure::retry(text),
            OpenError::Refuse(text) => Failure::operator(text),
            OpenError::Halt(text) => Failure::failed(text),
        })
    }
}

fn answer(
    command: &LogCommand,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    match command {
        LogCommand::List(selection) => list(selection, config, json, out),
        LogCommand::Show(show) => self::show(show, config, json, out),
        LogCommand::Tail(tail) => self::tail(tail, config, json, out),
        LogCommand::Verify(arguments) => verify::run(arguments, Some(config), json, out),
        LogCommand::Audit(arguments) => audit::run(arguments, Some(config), json, out),
        LogCommand::Prove(prove) => proof::prove(prove, config, out),
        LogCommand::CheckProof(check) => proof::check(check, json, out),
        LogCommand::Key => proof::key(config, json, out),
        LogCommand::Days(days) => days::run(days, config, json, out),
        LogCommand::RebuildIndex => rebuild::run(config, json, out),
        LogCommand::Archive(to) => archive::archive(to, config, json, out),
        LogCommand::Seal(seal) => archive::seal(seal, config, json, out),
        LogCommand::Export(export) => match export.format {
            Format::Jsonl => list(&export.selection, config, true, out),
            Format::Pem => certificates(&export.selection, config, out),
        },
    }
}

fn reader(config: &Config) -> Result<Reader, Stop> {
    Ok(Reader::open(Arc::new(SystemDisk), &config.paths.log())?)
}

fn list(
    selection: &Selection,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let reader = reader(config)?;
    if !json {
        writeln!(out, "{}", Described::HEADING)?;
    }
    selection.each(&reader, config, &mut |entry| Ok(line(entry, json, out)?))
}

fn line(entry: &Entry, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let described = Described::of(entry);
    if json { writeln!(out, "{}", described.json()) } else { writeln!(out, "{}", described.row()) }
}

fn show(show: &Show, config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Stop> {
    let reader = reader(config)?;
    let text = show.what.trim();
    let entries = if text.len() < 20 && text.bytes().all(|b| b.is_ascii_digit()) {
        let leaf = text.parse().map(LeafIndex).map_err(|_| unknown(text))?;
        let entry = reader.entries(leaf).next().transpose()?.filter(|entry| entry.leaf == leaf);
        entry.into_iter().collect()
    } else if let Ok(serial) = text.parse::<Serial>() {
        about(&reader, config, Filter { serial: Some(serial), ..Filter::default() })?
    } else if let Ok(order) = text.parse::<OrderId>() {
        about(&reader, config, Filter { order: Some(order), ..Filter::default() })?
    } else {
        return Err(unknown(text));
    };
    if entries.is_empty() {
        return Err(unknown(text));
    }
    if show.pem {
        let pem = pem_of(&reader, config, &entries)?.ok_or_else(|| {
            Stop::Failed(Failure::failed(format!(
                "CHY-LOG-UNKNOWN: no certificate was issued for `{text}`"
            )))
        })?;
        out.write_all(pem.as_bytes())?;
        return Ok(());
    }
    for entry in &entries {
        if json {
            writeln!(out, "{}", Described::of(entry).json())?;
        } else {
            writeln!(out, "{}", Described::of(entry).long())?;
        }
    }
    Ok(())
}

fn about(reader: &Reader, config: &Config, of: Filter) -> Result<Vec<Entry>, Stop> {
    let mut found = Vec::new();
    Selection { of, ..Selection::default() }.each(reader, config, &mut |entry| {
        found.push(entry.clone());
        Ok(())
    })?;
    Ok(found)
}

/// The certificate of the first intent or signature among the entries.
fn pem_of(reader: &Reader, config: &Config, entries: &[Entry]) -> Result<Option<String>, Stop> {
    let serial = entries.iter().find_map(|entry| describe::serial(entry.record.as_ref().ok()?));
    let Some(serial) = serial else { return Ok(None) };
    let mut intent: Option<IntentV1> = None;
    let of = Filter { serial: Some(serial), ..Filter::default() };
    for entry in about(reader, config, of)? {
        match (entry.record, &intent) {
            (Ok(Record::IntentV1(record)), _) => intent = Some(record),
            (Ok(Record::IssuedV1(issued)), Some(intent)) => {
                return Ok(certificate(intent, &issued).map(|c| c.pem()));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn tail(tail: &Tail, config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Stop> {
    let (last, mut picker, next) = tail.of.last(tail.count, &reader(config)?, config)?;
    if !json {
        writeln!(out, "{}", Described::HEADING)?;
    }
    for entry in &last {
        line(entry, json, out)?;
    }
    // Nobody ever sends: the channel only measures time.
    let (_never, pause) = mpsc::channel::<()>();
    if !tail.follow {
        return Ok(());
    }
    let mut place = None;
    loop {
        out.flush()?;
        let _ = pause.recv_timeout(Duration::from_millis(500));
        let reader = reader(config)?;
        let mut entries = match place {
            Some((leaf, offset)) => reader.entries_at(leaf, offset),
            None => reader.entries(next),
        };
        for entry in entries.by_ref() {
            let entry = entry?;
            if picker.takes(&entry) {
                line(&entry, json, out)?;
            }
        }
        place = entries.reached().or(place);
    }
}

/// PEM of every certificate whose signature is among the selected records.
fn certificates(selection: &Selection, config: &Config, out: &mut dyn Write) -> Result<(), Stop> {
    let reader = reader(config)?;
    let mut open: HashMap<LeafIndex, IntentV1> = HashMap::new();
    let mut left = selection.limit.unwrap_or(usize::MAX);
    // From the beginning: a signature's intent may lie before the selection.
    let of = Filter { kind: Vec::new(), since: None, ..selection.of.clone() };
    let all = Selection { until: selection.until, of, ..Selection::default() };
    all.each(&reader, config, &mut |entry| {
        match &entry.record {
            Ok(Record::IntentV1(intent)) => {
                open.insert(entry.leaf, intent.clone());
            }
            Ok(Record::AbandonedV1(abandoned)) => {
                open.remove(&abandoned.intent);
            }
            Ok(Record::IssuedV1(issued)) => {
                let intent = open.remove(&issued.intent);
                if left > 0 && selection.takes(entry) {
                    left -= 1;
                    export(intent.as_ref(), issued, entry.leaf, out)?;
                }
            }
            _ => {}
        }
        Ok(())
    })
}

fn export(
    intent: Option<&IntentV1>,
    issued: &IssuedV1,
    leaf: LeafIndex,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    match intent.and_then(|intent| certificate(intent, issued)) {
        Some(certificate) => Ok(out.write_all(certificate.pem().as_bytes())?),
        None => Err(Stop::Failed(Failure::failed(format!(
            "CHY-LOG-UNSOUND: leaf {leaf} and its intent make no certificate; run `chancery log verify`"
        )))),
    }
}

fn unknown(text: &str) -> Stop {
    Stop::Failed(Failure::failed(format!(
        "CHY-LOG-UNKNOWN: the log has no leaf, serial or order `{text}`"
    )))
}
