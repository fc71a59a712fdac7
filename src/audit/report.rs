//! What an auditor wants to know of a period: counts, certificates, revocations, what operators did, and how the CA
//! ran; from the records alone.
//!
//! The period is found by the segments' first records and read as often as the form has sections, once more for the
//! counts: nothing but the counts is kept, so a report over years costs no more memory than one over a day.
//! Nothing is verified here; a report may carry the verdict of a verification.

mod csv;
mod json;
mod page;
mod rows;
mod summary;
mod table;

use std::io;

use crate::audit::verify::Verdict;
use crate::id::{Serial, Timestamp};
use crate::log::reader::{DISORDER, Reader};
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
    /// When the report is made.
    pub made: Timestamp,
    /// What a verification found.
    pub verdict: Option<&'a Verdict>,
}

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
    let mut summary = Summary::default();
    walk(reader, request, &mut |row| {
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
        walk(reader, request, &mut |row| {
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
    visit: &mut dyn FnMut(&Row) -> Result<(), ReportError>,
) -> Result<(), ReportError> {
    let Period { since, until } = request.period;
    let mut rows = Rows::new(reader, request.proof);
    for entry in reader.entries(reader.since(since)?) {
        let entry = entry?;
        let at = entry.record.as_ref().map(Record::at).ok();
        // Neighbours may stand a little out of order.
        if at.is_some_and(|at| at >= until.plus(DISORDER)) {
            break;
        }
        let row = rows.row(entry)?;
        if let Some(row) = row
            && at.is_none_or(|at| since <= at && at < until)
        {
            visit(&row)?;
        }
    }
    Ok(())
}

fn origin(reader: &Reader) -> Result<String, OpenError> {
    let first = reader.entries(crate::id::LeafIndex(0)).next().transpose()?;
    Ok(match first.map(|entry| entry.record) {
        Some(Ok(Record::CeremonyV1(ceremony))) => ceremony.origin,
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
