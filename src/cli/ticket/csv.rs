//! Comma-separated values (RFC 4180): as much as a spreadsheet writes.

/// The line a row begins on, and its fields.
pub(super) type Row = (usize, Vec<String>);

/// Rows of fields; lines that are empty are left out. Fails with the line and what is wrong there.
pub(super) fn parse(text: &str) -> Result<Vec<Row>, (usize, &'static str)> {
    let mut rows = Vec::new();
    let mut fields = Vec::new();
    let mut field = String::new();
    let (mut line, mut begun) = (1, 1);
    let mut quoted = false;
    // Whether the field was quoted and its closing quote is past.
    let mut closed = false;
    // Spreadsheets put a byte order mark first.
    let mut chars = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => (quoted, closed) = (false, true),
            '"' if field.is_empty() && !closed => quoted = true,
            '"' => return Err((line, "a quote in the middle of a field")),
            '\n' if quoted => {
                line += 1;
                field.push(c);
            }
            c if quoted => field.push(c),
            ',' => {
                fields.push(std::mem::take(&mut field));
                closed = false;
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                end(&mut rows, begun, &mut fields, &mut field);
                closed = false;
                line += 1;
                begun = line;
            }
            _ if closed => return Err((line, "a closing quote in the middle of a field")),
            c => field.push(c),
        }
        if rows.len() > MAX_ROWS || fields.len() > MAX_FIELDS || field.len() > MAX_FIELD {
            return Err((line, "more than is read here: 100,000 rows, 32 fields, 32 KiB each"));
        }
    }
    if quoted {
        return Err((begun, "a quoted field that does not end"));
    }
    end(&mut rows, begun, &mut fields, &mut field);
    Ok(rows)
}

/// One row; what would not be read back as it is is quoted.
pub(super) fn row<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let quote = |field: &str| {
        if field.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.to_owned()
        }
    };
    fields.into_iter().map(quote).collect::<Vec<_>>().join(",")
}

fn end(rows: &mut Vec<Row>, line: usize, fields: &mut Vec<String>, field: &mut String) {
    fields.push(std::mem::take(field));
    let row = std::mem::take(fields);
    if row.len() > 1 || row.iter().any(|field| !field.is_empty()) {
        rows.push((line, row));
    }
}

const MAX_ROWS: usize = 100_000;
const MAX_FIELDS: usize = 32;
const MAX_FIELD: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_spreadsheets_write() {
        let parsed = parse("\u{feff}a,\"b, \"\"c\"\"\n d\",\r\n\r\nx\n").unwrap();
        assert_eq!(
            parsed,
            [(1, vec!["a".into(), "b, \"c\"\n d".into(), String::new()]), (4, vec!["x".into()])]
        );
        assert_eq!(parse("a\nb\"c\n"), Err((2, "a quote in the middle of a field")));
        assert_eq!(parse("\"a\"b"), Err((1, "a closing quote in the middle of a field")));
        assert_eq!(parse("a\n\"b\nc"), Err((2, "a quoted field that does not end")));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in proptest::collection::vec("[a\",\n\r ]{0,6}", 2..5)) {
            let text = row(fields.iter().map(String::as_str));
            prop_assert_eq!(parse(&text).unwrap(), [(1, fields)]);
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
