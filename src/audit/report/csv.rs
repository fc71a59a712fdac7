//! Rows as CSV (RFC 4180): a header, CRLF, quotes where they are needed.
//!
//! Free text that a spreadsheet would take for a formula (beginning with `=`, `+`, `-`, `@` or a tab) gets an
//! apostrophe before it; ids are left as they are, so that they compare.

use std::io::{self, Write};

use super::rows::Section;
use super::{Head, Row, Writes};

pub(super) struct Csv;

const HEADER: &str =
    "leaf,time,kind,serial,names,profile,account,order,not_after,actor,what,proof,validations\r\n";

impl Writes for Csv {
    fn sections(&self) -> &'static [Section] {
        &[Section::All]
    }

    fn begin(&mut self, _: &Head<'_>, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(HEADER.as_bytes())
    }

    fn section(&mut self, _: Section, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, row: &Row, out: &mut dyn Write) -> io::Result<()> {
        fn text(value: Option<impl ToString>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let fields = [
            row.leaf.to_string(),
            text(row.at),
            row.kind.to_owned(),
            text(row.serial),
            free(&row.names.join(" ")),
            free(row.profile.as_deref().unwrap_or_default()),
            text(row.account),
            text(row.order),
            text(row.not_after),
            free(row.actor.as_deref().unwrap_or_default()),
            free(&row.what),
            text(row.proof.as_ref()),
            free(&row.methods()),
        ];
        let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
        write!(out, "{}\r\n", fields.join(","))
    }

    fn close(&mut self, _: u64, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Text that no spreadsheet computes.
fn free(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// A field, in quotes if it has to be.
fn quoted(field: &str) -> String {
    let plain = |c: char| !matches!(c, ',' | '"' | '\r' | '\n');
    if field.chars().all(plain) && field.trim() == field {
        field.to_owned()
    } else {
        format!("\"{}\"", field.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 4180 section 2, read by hand.
    fn parse(record: &str) -> Vec<String> {
        let mut fields = vec![String::new()];
        let mut characters = record.strip_suffix("\r\n").unwrap().chars().peekable();
        let mut inside = false;
        while let Some(c) = characters.next() {
            let field = fields.last_mut().unwrap();
            match c {
                '"' if inside && characters.peek() == Some(&'"') => {
                    characters.next();
                    field.push('"');
                }
                '"' => inside = !inside,
                ',' if !inside => fields.push(String::new()),
                c => field.push(c),
            }
        }
        assert!(!inside);
        fields
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_none_is_a_formula(
            name in "\\PC*|[=+@,\"\r\n'-].*",
            what in "(?s).*",
        ) {
            let row = Row {
                kind: "issued",
                names: vec![name.clone()],
                what: what.clone(),
                ..Row::default()
            };
            let mut out = Vec::new();
            Csv.row(&row, &mut out).unwrap();
            let fields = parse(std::str::from_utf8(&out).unwrap());
            prop_assert_eq!(fields.len(), HEADER.split(',').count());
            for (field, text) in [(&fields[4], &name), (&fields[10], &what)] {
                prop_assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r']));
                prop_assert_eq!(field.strip_prefix('\'').unwrap_or(field), text.as_str());
            }
        }
    }
}
