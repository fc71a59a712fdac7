//! A page to print: one HTML file with its own style and nothing to load. Whatever the log says is text in it.

use std::io::{self, Write};

use super::rows::Section;
use super::{Head, Row, Tally, Writes};

#[derive(Default)]
pub(super) struct Page {
    section: Option<Section>,
}

const STYLE: &str = "
:root { color-scheme: light }
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #111 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem; break-after: avoid }
table { border-collapse: collapse; width: 100%; font-size: .85rem }
th, td { text-align: left; vertical-align: top; padding: .15rem .5rem .15rem 0; border-bottom: 1px solid #ccc;
  overflow-wrap: anywhere }
th.n, td.n { text-align: right } .id { font-family: ui-monospace, monospace; font-size: .9em }
thead { display: table-header-group } tr { break-inside: avoid }
pre { white-space: pre-wrap; border: 1px solid #ccc; padding: .5rem } pre.wrong { border: 3px solid #b00 }
@page { size: A4 landscape; margin: 12mm }
@media print { body { margin: 0; max-width: none; padding: 0; font-size: 9pt } }
";

impl Writes for Page {
    fn sections(&self) -> &'static [Section] {
        &[Section::Certificates, Section::Endings, Section::Actions, Section::Life]
    }

    fn begin(&mut self, head: &Head<'_>, out: &mut dyn Write) -> io::Result<()> {
        let (request, summary) = (head.request, &head.summary);
        let origin = escaped(&head.origin);
        // Even if the log brought markup past the escaping, nothing would be loaded or run.
        write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>Audit of {origin}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Audit of {origin}</h1>\n"
        )?;
        writeln!(
            out,
            "<p>From {} until {}; made {}.</p>",
            request.period.since, request.period.until, request.made
        )?;
        match request.verdict {
            Some(verdict) => {
                let class = if verdict.is_sound() { "sound" } else { "wrong" };
                let text: Vec<String> = verdict.to_string().lines().map(escaped).collect();
                writeln!(out, "<pre class=\"{class}\">{}</pre>", text.join("\n"))?;
            }
            None => writeln!(out, "<p>Not verified: <code>chancery log verify</code> does.</p>")?,
        }
        tallies("Total", [(&String::new(), &summary.total)].into_iter(), out)?;
        tallies("By day", summary.days.iter(), out)?;
        tallies("By profile", summary.profiles.iter(), out)?;
        tallies("By account", summary.accounts.iter(), out)?;
        let kinds = summary.kinds.iter().map(|(kind, count)| ((*kind).to_owned(), [*count]));
        counts("Records", ["count"], kinds, out)?;
        let refusals = summary.refusals.iter().map(|(why, count)| (why.clone(), [*count]));
        counts("Requests refused", ["count"], refusals, out)?;
        let crls = summary.crls.iter().map(|(url, crls)| (url.clone(), [crls.made, crls.number]));
        counts("CRLs", ["made", "last number"], crls, out)
    }

    fn section(&mut self, section: Section, out: &mut dyn Write) -> io::Result<()> {
        self.section = Some(section);
        let columns: &[&str] = match section {
            Section::Certificates => &[
                "Leaf",
                "Time",
                "Serial",
                "Names",
                "Proven by",
                "Profile",
                "Account",
                "Until",
                "Proof",
            ],
            Section::Endings => {
                &["Leaf", "Time", "Serial", "Names", "Proven by", "Profile", "Account", "What"]
            }
            _ => &["Leaf", "Time", "Kind", "Actor", "What"],
        };
        writeln!(out, "<h2>{}</h2>\n<table><thead><tr>", section.title())?;
        for column in columns {
            write!(out, "<th>{column}</th>")?;
        }
        writeln!(out, "</tr></thead><tbody>")
    }

    fn row(&mut self, row: &Row, out: &mut dyn Write) -> io::Result<()> {
        let at = row.at.map(|at| at.to_string()).unwrap_or_default();
        write!(out, "<tr><td class=\"n\">{}</td><td>{at}</td>", row.leaf)?;
        let mut cell =
            |class: &str, text: &str| write!(out, "<td class=\"{class}\">{}</td>", escaped(text));
        match self.section {
            Some(Section::Certificates | Section::Endings) => {
                cell("id", &row.serial.map(|serial| serial.to_string()).unwrap_or_default())?;
                cell("t", &row.names.join(" "))?;
                cell("t", &row.methods())?;
                cell("t", row.profile.as_deref().unwrap_or_default())?;
                let account = row.account.map(|account| account.to_string());
                cell("id", account.as_deref().unwrap_or("own"))?;
                if self.section == Some(Section::Certificates) {
                    cell("t", &row.not_after.map(|at| at.to_string()).unwrap_or_default())?;
                    cell("id", row.proof.as_deref().unwrap_or_default())?;
                } else {
                    cell("t", &row.what)?;
                }
            }
            _ => {
                cell("t", row.kind)?;
                cell("t", row.actor.as_deref().unwrap_or_default())?;
                cell("t", &row.what)?;
            }
        }
        writeln!(out, "</tr>")
    }

    fn close(&mut self, rows: u64, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "</tbody></table>")?;
        if rows == 0 { writeln!(out, "<p>None.</p>") } else { Ok(()) }
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "</body>\n</html>")
    }
}

fn tallies<'a>(
    title: &str,
    groups: impl Iterator<Item = (&'a String, &'a Tally)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let groups =
        groups.map(|(name, t)| (name.clone(), [t.issued, t.abandoned, t.revoked, t.refused]));
    counts(title, ["issued", "abandoned", "revoked", "refused"], groups, out)
}

fn counts<const N: usize>(
    title: &str,
    columns: [&str; N],
    groups: impl Iterator<Item = (String, [u64; N])>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut groups = groups.peekable();
    if groups.peek().is_none() {
        return Ok(());
    }
    write!(out, "<h2>{}</h2>\n<table><thead><tr><th></th>", escaped(title))?;
    for column in columns {
        write!(out, "<th class=\"n\">{column}</th>")?;
    }
    writeln!(out, "</tr></thead><tbody>")?;
    for (name, counts) in groups {
        write!(out, "<tr><td>{}</td>", escaped(&name))?;
        for count in counts {
            write!(out, "<td class=\"n\">{count}</td>")?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table>")
}

/// Text, whatever it says. Controls, and what turns the direction of writing, become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() || turns(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn turns(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::Timestamp;
    use crate::log::record::ValidationV1;

    fn read(html: &str) -> String {
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
            .iter()
            .fold(html.to_owned(), |text, (entity, character)| text.replace(entity, character))
    }

    proptest! {
        #[test]
        fn text_stays_text(text in "(?s).*|[<>&\"'a-z#;=]*|(\u{202e}|\u{7}|</td>|&lt;)*") {
            let html = escaped(&text);
            prop_assert!(!html.contains(['<', '>', '"', '\'']));
            prop_assert!(!html.chars().any(|c| c.is_control() || turns(c)));
            // Every ampersand begins an entity written here, so reading gives the text back.
            let clean: String =
                text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect();
            prop_assert_eq!(read(&html), clean);
        }

        #[test]
        fn a_row_has_the_markup_of_its_columns_and_no_more(text in "(?s).*") {
            for section in Page::default().sections() {
                let mut page = Page { section: Some(*section) };
                let validation =
                    |at| ValidationV1 { identifier: text.clone(), method: text.clone(), at };
                let row = Row {
                    names: vec![text.clone()],
                    validations: vec![validation(Timestamp(0))],
                    profile: Some(text.clone()),
                    actor: Some(text.clone()),
                    what: text.clone(),
                    proof: Some(text.clone()),
                    ..Row::default()
                };
                let mut out = Vec::new();
                page.row(&row, &mut out).unwrap();
                let out = String::from_utf8(out).unwrap();
                let cells = match section {
                    Section::Certificates => 9,
                    Section::Endings => 8,
                    _ => 5,
                };
                prop_assert_eq!(out.matches('<').count(), 2 * cells + 2);
                prop_assert_eq!(out.matches("</td>").count(), cells);
            }
        }
    }
}
