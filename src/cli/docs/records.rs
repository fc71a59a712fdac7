//! docs/records.md: the prose is in records.md beside this file; tables and example are made from the stored
//! types' shape, from the comments on their fields, and from what the writer writes.

use crate::id::{Timestamp, hex};
use crate::log::record::{ClockAcceptedV1, Record};
use crate::log::segment::{HEADER, Header, origin_hash, push_frame};
use crate::log::tree::leaf_hash;

const PROSE: &str = include_str!("records.md");
/// Held against the types by a test of theirs.
const SHAPES: &str = include_str!("../../../tests/golden/schema.txt");
const SOURCES: [&str; 8] = [
    include_str!("../../log/record.rs"),
    include_str!("../../log/record/account.rs"),
    include_str!("../../log/record/authority.rs"),
    include_str!("../../log/record/ceremony.rs"),
    include_str!("../../log/record/certificate.rs"),
    include_str!("../../log/record/format.rs"),
    include_str!("../../log/record/process.rs"),
    include_str!("../../log/record/restore.rs"),
];
const CHECKPOINT: &str = include_str!("../../../tests/golden/checkpoint-ed25519.txt");

pub(super) fn page() -> String {
    let indented: String =
        CHECKPOINT.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect();
    PROSE
        .replace("{{enums}}", &enums())
        .replace("{{records}}", &records())
        .replace("{{checkpoint}}", &format!("{indented}\n"))
        .replace("{{example}}", &example())
}

/// The enums inside records.
fn enums() -> String {
    let mut text = String::new();
    let mut names: Vec<&str> = lines("enum").filter_map(|line| line.split(' ').next()).collect();
    names.dedup();
    for name in names.into_iter().filter(|name| *name != "Record") {
        text.push_str(&format!("### `{name}`\n\n{}\n\n", comment(name, None)));
        text.push_str("| number | variant | fields | meaning |\n|---|---|---|---|\n");
        for (number, variant, fields) in variants(name) {
            let fields = fields.strip_prefix("{ ").and_then(|fields| fields.strip_suffix(" }"));
            let fields = fields.map_or_else(|| "none".to_owned(), |fields| format!("`{fields}`"));
            let meaning = comment(name, Some(variant));
            text.push_str(&format!("| {number} | `{variant}` | {fields} | {meaning} |\n"));
        }
        text.push('\n');
    }
    // Structs that are no record stand with them.
    for line in lines("struct") {
        let Some((name, fields)) = line.split_once(' ') else { continue };
        if variants("Record").any(|(_, variant, _)| variant == name) {
            continue;
        }
        text.push_str(&format!("### `{name}`\n\n{}\n\n", comment(name, None)));
        text.push_str(&table(name, fields));
        text.push('\n');
    }
    text
}

fn records() -> String {
    let mut text = String::new();
    for (number, variant, _) in variants("Record") {
        let prefix = format!("{variant} ");
        let fields = lines("struct").find_map(|line| line.strip_prefix(prefix.as_str()));
        text.push_str(&format!(
            "#### {number} `{variant}`\n\n{}\n\n{}\n",
            comment("Record", Some(variant)),
            table(variant, fields.unwrap_or_default())
        ));
    }
    text
}

/// The fields of a struct, in order.
fn table(name: &str, fields: &str) -> String {
    let mut text = String::from("| field | type | meaning |\n|---|---|---|\n");
    let fields = fields.trim_start_matches("{ ").trim_end_matches(" }");
    for field in fields.split(", ") {
        let Some((field, kind)) = field.split_once(": ") else { continue };
        let meaning = comment(name, Some(field));
        text.push_str(&format!("| `{field}` | `{kind}` | {meaning} |\n"));
    }
    text
}

/// The lines of the shapes of one sort, without that word.
fn lines(sort: &str) -> impl Iterator<Item = &'static str> + use<'_> {
    SHAPES.lines().filter_map(move |line| line.strip_prefix(sort)?.strip_prefix(' '))
}

/// Number, name and the rest of each variant of an enum.
fn variants(
    name: &str,
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> + use<'_> {
    lines("enum").filter_map(move |line| {
        let (number, rest) = line.strip_prefix(name)?.strip_prefix(' ')?.split_once(' ')?;
        let end = rest.find([' ', '(']).unwrap_or(rest.len());
        Some((number, &rest[..end], rest[end..].trim()))
    })
}

/// The comment on a type, or on a field or variant of it.
fn comment(name: &str, member: Option<&str>) -> String {
    let mut inside = false;
    let mut comment: Vec<&str> = Vec::new();
    for line in SOURCES.into_iter().flat_map(str::lines) {
        let text = line.trim();
        if let Some(more) = text.strip_prefix("///") {
            comment.push(more.trim());
            continue;
        }
        if text.starts_with("#[") {
            continue;
        }
        let word = |text: &str| -> Option<String> {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_')?;
            Some(text[..end].to_owned())
        };
        let declared = text.strip_prefix("pub struct ").or_else(|| text.strip_prefix("pub enum "));
        if let Some(declared) = declared {
            inside = word(declared).as_deref() == Some(name);
            if inside && member.is_none() {
                return comment.join(" ");
            }
        } else if line == "}" {
            inside = false;
        } else if inside && word(text.strip_prefix("pub ").unwrap_or(text)).as_deref() == member {
            return comment.join(" ");
        }
        comment.clear();
    }
    String::new()
}

/// A header and a frame, each field on its own line.
fn example() -> String {
    let record = Record::ClockAcceptedV1(ClockAcceptedV1 {
        at: Timestamp(1_795_305_606_000),
        floor: Timestamp(1_700_000_000_000),
    });
    let payload = record.encode().unwrap_or_default();
    let header = Header { first_leaf: 300, base: 70_000, origin: origin_hash("ca.lan/log") };
    let mut octets = header.encode().to_vec();
    push_frame(&mut octets, header.base, &payload);
    let meanings: [(usize, &str); 14] = [
        (8, "magic: CHANCLOG"),
        (2, "version 1"),
        (2, "zero"),
        (8, "first leaf: 300, so the file is 00000000000000000300.seg"),
        (8, "base: 70000"),
        (16, "SHA-256 of ca.lan/log"),
        (16, ""),
        (4, "CRC-32C of the 60 octets above"),
        (4, "length of the payload: 13"),
        (4, "CRC-32C of length, durable offset and payload"),
        (8, "durable: everything below log offset 70000"),
        (1, "payload: variant 6, ClockAcceptedV1"),
        (6, "at: varint 1795305606000, 2026-11-22T00:00:06.000Z"),
        (6, "floor: varint 1700000000000, 2023-11-14T22:13:20.000Z"),
    ];
    let mut text = String::new();
    let mut at = 0;
    for (length, meaning) in meanings {
        let hex: Vec<String> =
            octets.iter().skip(at).take(length).map(|octet| format!("{octet:02x}")).collect();
        text.push_str(format!("    {at:02x}  {:<48} {meaning}", hex.join(" ")).trim_end());
        text.push('\n');
        at += length;
    }
    let hash = hex(&leaf_hash(&payload));
    text.push_str(&format!(
        "\nThe leaf hash of this record, SHA-256 over 00 and its {} octets of payload, is\n`{hash}`.\n\n",
        payload.len()
    ));
    debug_assert_eq!(at as u64, HEADER + 16 + payload.len() as u64);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_field_and_variant_has_its_comment() {
        for line in lines("struct") {
            let (name, fields) = line.split_once(' ').unwrap();
            let fields = fields.trim_start_matches("{ ").trim_end_matches(" }");
            for field in fields.split(", ") {
                let field = field.split_once(": ").unwrap().0;
                assert!(!comment(name, Some(field)).is_empty(), "{name}.{field} says nothing");
            }
        }
        for name in ["Record", "Requester", "Actor", "PreviousEnd"] {
            for (_, variant, _) in variants(name) {
                assert!(!comment(name, Some(variant)).is_empty(), "{name}::{variant} says nothing");
            }
        }
    }

    #[test]
    fn the_example_accounts_for_every_octet() {
        let example = example();
        let octets: usize = example
            .lines()
            .filter(|line| line.starts_with("    "))
            .map(|line| line.split_whitespace().skip(1).take_while(|w| w.len() == 2).count())
            .sum();
        // The word `at` is none of them.
        assert_eq!(octets, 64 + 16 + 13, "{example}");
        let page = page();
        assert!(!page.contains("{{"), "a place for something is left");
    }
}
