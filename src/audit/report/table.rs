//! Text for a terminal, or for a file that people read.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::rows::Section;
use super::{Head, Row, Tally, Writes};
use crate::audit::describe::printable;

#[derive(Default)]
pub(super) struct Table {
    section: Option<Section>,
}

impl Writes for Table {
    fn sections(&self) -> &'static [Section] {
        &[Section::Certificates, Section::Endings, Section::Actions, Section::Life]
    }

    fn begin(&mut self, head: &Head<'_>, out: &mut dyn Write) -> io::Result<()> {
        let request = head.request;
        let summary = &head.summary;
        writeln!(out, "Audit of {}", printable(&head.origin))?;
        writeln!(out, "from {} until {}", request.period.since, request.period.until)?;
        writeln!(out, "made {}", request.made)?;
        match request.verdict {
            Some(verdict) => writeln!(out, "\n{}", printable_lines(&verdict.to_string()))?,
            None => writeln!(out, "not verified: `chancery log verify` does")?,
        }
        tallies("Total", [(&String::new(), &summary.total)].into_iter(), out)?;
        tallies("By day", summary.days.iter(), out)?;
        tallies("By profile", summary.profiles.iter(), out)?;
        tallies("By account", summary.accounts.iter(), out)?;
        counts("Records", summary.kinds.iter().map(|(kind, n)| (*kind, *n)), out)?;
        let refusals: &BTreeMap<String, u64> = &summary.refusals;
        counts("Refused", refusals.iter().map(|(why, n)| (why.as_str(), *n)), out)?;
        if !summary.crls.is_empty() {
            writeln!(out, "\n{:<60} {:>8} {:>16}", "CRLs", "made", "last number")?;
            for (url, crls) in &summary.crls {
                writeln!(out, "{:<60} {:>8} {:>16}", printable(url), crls.made, crls.number)?;
            }
        }
        Ok(())
    }

    fn section(&mut self, section: Section, out: &mut dyn Write) -> io::Result<()> {
        self.section = Some(section);
        writeln!(out, "\n{}", section.title())
    }

    fn row(&mut self, row: &Row, out: &mut dyn Write) -> io::Result<()> {
        let at = row.at.map(|at| at.to_string()).unwrap_or_default();
        let mut line = format!("{:>8}  {at:<20}  {:<11}", row.leaf.0, row.kind);
        let mut add = |text: String| {
            if !text.is_empty() {
                line.push_str("  ");
                line.push_str(&printable(&text));
            }
        };
        add(row.serial.map(|serial| serial.to_string()).unwrap_or_default());
        add(row.names.join(" "));
        add(row.profile.clone().unwrap_or_default());
        if matches!(self.section, Some(Section::Certificates | Section::Endings)) {
            add(row.account.map_or_else(|| "own".to_owned(), |a| format!("account {a}")));
            let methods = row.methods();
            add(if methods.is_empty() { methods } else { format!("proven by {methods}") });
            add(row.not_after.map(|at| format!("until {at}")).unwrap_or_default());
        }
        if self.section != Some(Section::Certificates) {
            // The words name the actor where there is one.
            add(row.what.clone());
        }
        add(row.proof.clone().unwrap_or_default());
        writeln!(out, "{line}")
    }

    fn close(&mut self, rows: u64, out: &mut dyn Write) -> io::Result<()> {
        if rows == 0 { writeln!(out, "    none") } else { Ok(()) }
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn tallies<'a>(
    title: &str,
    groups: impl Iterator<Item = (&'a String, &'a Tally)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut groups = groups.peekable();
    if groups.peek().is_none() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{title:<30} {:>9} {:>9} {:>9} {:>9}",
        "issued", "abandoned", "revoked", "refused"
    )?;
    for (name, tally) in groups {
        let Tally { issued, abandoned, revoked, refused } = tally;
        let name = printable(name);
        writeln!(out, "{name:<30} {issued:>9} {abandoned:>9} {revoked:>9} {refused:>9}")?;
    }
    Ok(())
}

fn counts<'a>(
    title: &str,
    groups: impl Iterator<Item = (&'a str, u64)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut groups = groups.peekable();
    if groups.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for (name, count) in groups {
        writeln!(out, "{:<30} {count:>9}", printable(name))?;
    }
    Ok(())
}

/// The same for text of several lines.
fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}
