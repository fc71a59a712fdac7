//! What an auditor wants to know of a period: counts, certificates, revocations, what operators did, and how the CA
//! ran; from the records alone.
//!
//! The period is found by the segments' first records and read as often as the form has sections, once more for the
//! counts: nothing but the counts is kept, and where the intents of what was revoked are, so a report over years costs
//! little more memory than one over a day.
//! Nothing is verified here; a report may carry the verdict of a verification.

mod csv;
mod json;
mod page;
mod rows;
mod summary;
mod table;

use std::collections::BTreeMap;
use std::io;

use crate::audit::verify::Verdict;
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::reader::{DISORDER, Entry, Reader};
use crate::log::record::Record;
use crate::log::recover::OpenError;

pub use rows::Row;
use rows::{Rows, Section};
pub use summary::{Crls, Summary, Tally};

/// From `since`, up to and without `until`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period {
    pub since: Timestamp,
    pub until: Timestamp,
}

/// How a report is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Text for a terminal.
    Table,
    /// One row a record (RFC 4180); no counts.
    Csv,
    /// One object: counts, then rows.
    Json,
    /// A page to print: one HTML file that loads nothing.
    Page,
}

/// What is reported.
#[derive(Clone)]
pub struct Request<'a> {
    pub period: Period,
    pub form: Form,
    /// Says where the proof of a certificate is, if its row shall.
    pub proof: Option<&'a dyn Fn(Serial) -> String>,
    /// Says at which log offsets these intents of these serials are, as far as an index tells; without, the beginning
    /// of the segment is where each is looked for.
    pub places: Option<&'a FindPlaces<'a>>,
    /// When the report is made.
    pub made: Timestamp,
    /// What a verification found.
    pub verdict: Option<&'a Verdict>,
}

/// Log offsets by leaf.
pub type Places = BTreeMap<LeafIndex, u64>;

/// Finds intents of serials.
pub type FindPlaces<'a> = dyn Fn(&[(Serial, LeafIndex)]) -> Places + 'a;

/// Why there is no whole report.
#[derive(Debug)]
pub enum ReportError {
    /// The log cannot be read.
    Log(OpenError),
    /// The report cannot be written.
    Output(io::Error),
}

/// What every form begins with.
struct Head<'a> {
    request: &'a Request<'a>,
    origin: String,
    summary: Summary,
}

/// One form. Sections come in the order that it asks for them.
trait Writes {
    fn sections(&self) -> &'static [Section];
    fn begin(&mut self, head: &Head<'_>, out: &mut dyn io::Write) -> io::Result<()>;
    fn section(&mut self, section: Section, out: &mut dyn io::Write) -> io::Result<()>;
    fn row(&mut self, row: &Row, out: &mut dyn io::Write) -> io::Result<()>;
    /// `rows`: how many there were.
    fn close(&mut self, rows: u64, out: &mut dyn io::Write) -> io::Result<()>;
    fn end(&mut self, out: &mut dyn io::Write) -> io::Result<()>;
}

/// Reports on a log.
pub fn write(
    reader: &Reader,
    request: &Request<'_>,
    out: &mut dyn io::Write,
) -> Result<(), ReportError> {
    let places = match request.places {
        Some(places) => places(&revoked(reader, request.period)?),
        None => Places::new(),
    };
    let mut summary = Summary::default();
    walk(reader, request, &places, &mut |row| {
        summary.add(row);
        Ok(())
    })?;
    let head = Head { request, origin: origin(reader)?, summary };
    let mut form: Box<dyn Writes> = match request.form {
        Form::Table => Box::<table::Table>::default(),
        Form::Csv => Box::new(csv::Csv),
        Form::Json => Box::<json::Json>::default(),
        Form::Page => Box::<page::Page>::default(),
    };
    form.begin(&head, out)?;
    for section in form.sections() {
        form.section(*section, out)?;
        let mut rows = 0;
        walk(reader, request, &places, &mut |row| {
            if section.takes(row) {
                rows += 1;
                form.row(row, out)?;
            }
            Ok(())
        })?;
        form.close(rows, out)?;
    }
    form.end(out)?;
    Ok(())
}

/// Every record of the period as a row.
fn walk(
    reader: &Reader,
    request: &Request<'_>,
    places: &Places,
    visit: &mut dyn FnMut(&Row) -> Result<(), ReportError>,
) -> Result<(), ReportError> {
    let mut rows = Rows::new(reader, request.proof, places);
    each(reader, request.period, &mut |entry, is_within| match rows.row(entry)? {
        Some(row) if is_within => visit(&row),
        _ => Ok(()),
    })
}

/// Every record from the period's first segment on, and whether it is of the period.
fn each(
    reader: &Reader,
    Period { since, until }: Period,
    visit: &mut dyn FnMut(Entry, bool) -> Result<(), ReportError>,
) -> Result<(), ReportError> {
    for entry in reader.entries(reader.since(since)?) {
        let entry = entry?;
        let at = entry.record.as_ref().map(Record::at).ok();
        // Neighbours may stand a little out of order.
        if at.is_some_and(|at| at >= until.plus(DISORDER)) {
            break;
        }
        visit(entry, at.is_none_or(|at| since <= at && at < until))?;
    }
    Ok(())
}

/// Serial and intent of what was revoked in the period: mostly issued long before it.
fn revoked(reader: &Reader, period: Period) -> Result<Vec<(Serial, LeafIndex)>, ReportError> {
    let mut found = Vec::new();
    each(reader, period, &mut |entry, is_within| {
        if let Ok(Record::RevokedV1(revoked)) = &entry.record
            && is_within
            && found.len() < MOST_REVOKED
        {
            found.push((revoked.serial, revoked.intent));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Those beyond are looked for in their segments.
const MOST_REVOKED: usize = 1 << 16;

fn origin(reader: &Reader) -> Result<String, OpenError> {
    let first = reader.entries(LeafIndex(0)).next().transpose()?;
    Ok(match first.map(|entry| entry.record) {
        Some(Ok(record)) => record.first().map_or_else(String::new, |first| first.origin.clone()),
        _ => String::new(),
    })
}

impl From<OpenError> for ReportError {
    fn from(error: OpenError) -> Self {
        Self::Log(error)
    }
}

impl From<io::Error> for ReportError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests;
