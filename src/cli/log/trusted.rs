//! What is trusted because the command line says so: keys of the log and of its witnesses, certificates of its CA. All
//! that an auditor has who has no box.

use std::io::{self, Read};
use std::path::Path;

use super::{Failure, Stop};
use crate::pki::certificate::Certificate;
use crate::tlog::note::{NoteKeyKind, VerifierKey};

/// Keys of a log, as `chancery log key` prints them.
pub(super) fn log_keys(texts: &[String]) -> Result<Vec<VerifierKey>, Stop> {
    let is_log = |key: &VerifierKey| key.kind() != NoteKeyKind::Cosignature;
    vkeys(texts, is_log, "this is the key of a witness (type 4), not of a log")
}

/// Keys of witnesses, as `chancery witness key` prints them.
pub(super) fn witnesses(texts: &[String]) -> Result<Vec<VerifierKey>, Stop> {
    let cosigns = |key: &VerifierKey| key.kind() == NoteKeyKind::Cosignature;
    vkeys(texts, cosigns, "this is the key of a log, not of a witness (type 4)")
}

fn vkeys(
    texts: &[String],
    is_such: impl Fn(&VerifierKey) -> bool,
    other: &str,
) -> Result<Vec<VerifierKey>, Stop> {
    let parsed = texts.iter().map(|text| {
        let refused = |why: &str| {
            Stop::Failed(Failure::operator(format!("CHY-VKEY: `{text}` is no such vkey: {why}")))
        };
        let key: VerifierKey = text.trim().parse().map_err(|why| refused(&format!("{why}")))?;
        if is_such(&key) { Ok(key) } else { Err(refused(other)) }
    });
    parsed.collect()
}

/// The first certificate of a file: PEM, or DER.
pub(super) fn certificate(path: &Path) -> Result<Certificate, Stop> {
    let octets = read(path, MOST)?;
    let pem = std::str::from_utf8(&octets).ok().and_then(|text| next_pem(text).map(|pem| pem.0));
    parse(path, pem, &octets)
}

/// Every certificate of a file: PEM, or one in DER.
pub(super) fn certificates(path: &Path) -> Result<Vec<Certificate>, Stop> {
    let octets = read(path, MOST)?;
    let mut found = Vec::new();
    let mut rest = std::str::from_utf8(&octets).unwrap_or_default();
    while let Some((pem, behind)) = next_pem(rest) {
        found.push(parse(path, Some(pem), &octets)?);
        rest = behind;
    }
    if found.is_empty() {
        found.push(parse(path, None, &octets)?);
    }
    Ok(found)
}

fn parse(path: &Path, pem: Option<&str>, octets: &[u8]) -> Result<Certificate, Stop> {
    let parsed = match pem {
        Some(pem) => Certificate::parse_pem(pem),
        None => Certificate::parse(octets),
    };
    parsed.map_err(|why| {
        let text = format!("CHY-CERT-FILE: {}: {}", path.display(), why.0);
        Stop::Failed(Failure::operator(text))
    })
}

/// The next certificate in PEM, and what is behind it.
fn next_pem(text: &str) -> Option<(&str, &str)> {
    const END: &str = "-----END CERTIFICATE-----";
    let start = text.find("-----BEGIN CERTIFICATE-----")?;
    let end = start + text[start..].find(END)? + END.len();
    Some((&text[start..end], &text[end..]))
}

/// A file of at most `limit` octets and one, which tells what is too long; `-` is standard input.
pub(super) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Stop> {
    let read = || -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        let limit = limit as u64 + 1;
        match path.as_os_str() == "-" {
            true => io::stdin().lock().take(limit).read_to_end(&mut octets)?,
            false => std::fs::File::open(path)?.take(limit).read_to_end(&mut octets)?,
        };
        Ok(octets)
    };
    read().map_err(|error| {
        Stop::Failed(Failure::failed(format!("CHY-OS: {}: {error}", path.display())))
    })
}

/// A bundle of a few certificates.
const MOST: usize = 1 << 20;
