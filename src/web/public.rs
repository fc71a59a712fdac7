//! Serves what the issuer publishes: read-only, by a white list of names, also while the issuer is down.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};

use super::Server;
use super::flow::{Fault, Reply};
use super::route::PublicFile;
use crate::id::hex;

/// No published file is longer.
const LIMIT: u64 = 64 << 20;

/// The published files that were asked for lately. All answers share one copy of each: however many
/// clients take theirs slowly, a file costs its length once.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<HashMap<PathBuf, (String, Bytes)>>);

/// A file and what identifies this version of it: its content, or for a long one inode, length and time. A
/// checkpoint is replaced many times within one tick of the file system's clock, and keeps its length.
struct Version {
    etag: String,
    modified: SystemTime,
}

/// Answers a GET of a published file, conditional requests included (RFC 9110 section 13).
pub(crate) async fn answer(
    server: &Arc<Server>,
    file: PublicFile<'_>,
    headers: &HeaderMap,
) -> Result<Reply, Fault> {
    let path = server.public.join(file.name());
    let seen = Seen::of(headers);
    let shared = server.clone();
    let read = tokio::task::spawn_blocking(move || shared.shelf.read(&path, &seen)).await;
    let (version, bytes) = match read {
        Ok(Ok(found)) => found,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(Fault::missing()),
        Ok(Err(error)) => {
            tracing::warn!(code = "CHY-OS", file = file.name(), %error, "cannot read a public file");
            return Err(Fault::Retry(Duration::from_secs(5)));
        }
        Err(_) => return Err(Fault::Retry(Duration::from_secs(5))),
    };
    let status = if bytes.is_some() { StatusCode::OK } else { StatusCode::NOT_MODIFIED };
    let cache = match file.kind().max_age() {
        0 => "no-cache".to_owned(),
        seconds => format!("public, max-age={seconds}"),
    };
    Ok(Reply::new(status, file.kind().content_type(), bytes.unwrap_or_default())
        .header(ETAG, &version.etag)
        .header(LAST_MODIFIED, &httpdate::fmt_http_date(version.modified))
        .header(CACHE_CONTROL, &cache))
}

/// What the client has already.
struct Seen {
    etags: Option<String>,
    since: Option<SystemTime>,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| {
            headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok())
        };
        Self {
            etags: text(IF_NONE_MATCH).map(str::to_owned),
            since: text(IF_MODIFIED_SINCE).and_then(|date| httpdate::parse_http_date(date).ok()),
        }
    }

    /// If-None-Match wins over If-Modified-Since.
    fn covers(&self, version: &Version) -> bool {
        match (&self.etags, self.since) {
            (Some(etags), _) => etags.split(',').any(|etag| {
                let etag = etag.trim();
                etag == "*" || etag.strip_prefix("W/").unwrap_or(etag) == version.etag
            }),
            (None, Some(since)) => version.modified <= since,
            (None, None) => false,
        }
    }
}

impl Shelf {
    /// The version there is, and its bytes unless the client has them.
    fn read(&self, path: &Path, seen: &Seen) -> io::Result<(Version, Option<Bytes>)> {
        let mut file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let since = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        // HTTP dates have whole seconds.
        let modified = UNIX_EPOCH + Duration::from_secs(since.as_secs());
        if about.len() <= SHORT {
            let mut bytes = Vec::new();
            file.take(SHORT + 1).read_to_end(&mut bytes)?;
            let hash = digest::digest(&digest::SHA256, &bytes);
            let etag = hex(&hash.as_ref()[..16]);
            let version = Version { etag: format!("\"{etag}\""), modified };
            let fresh = !seen.covers(&version);
            return Ok((version, fresh.then(|| bytes.into())));
        }
        let etag = format!("\"{:x}-{:x}-{:x}\"", about.ino(), since.as_nanos(), about.len());
        let version = Version { etag, modified };
        if seen.covers(&version) {
            return Ok((version, None));
        }
        if about.len() > LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // Read under the lock: of many who ask for a new version at once, one reads it.
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((etag, bytes)) = files.get(path)
            && *etag == version.etag
        {
            return Ok((version, Some(bytes.clone())));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
        file.by_ref().take(LIMIT).read_to_end(&mut bytes)?;
        let bytes = Bytes::from(bytes);
        if files.len() >= MOST_FILES {
            files.clear();
        }
        files.insert(path.to_owned(), (version.etag.clone(), bytes.clone()));
        Ok((version, Some(bytes)))
    }
}

/// A file up to this long is read for each who asks, and known by its content.
const SHORT: u64 = 16 << 10;

/// More than the issuer publishes.
const MOST_FILES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_is_never_stale_however_fast_it_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let shelf = Shelf::default();
        let mut seen = Seen { etags: None, since: None };
        for n in 100..600 {
            std::fs::write(dir.path().join("new"), n.to_string()).unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
            let (version, bytes) = shelf.read(&path, &seen).unwrap();
            assert_eq!(bytes.unwrap(), n.to_string());
            seen.etags = Some(version.etag);
            assert!(shelf.read(&path, &seen).unwrap().1.is_none());
        }
    }

    #[test]
    fn a_long_file_is_in_memory_once_and_a_new_version_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("issuing.crl");
        let put = |text: &str| {
            let long = text.repeat(usize::try_from(SHORT).unwrap());
            std::fs::write(dir.path().join("new"), long).unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
        };
        let shelf = Shelf::default();
        let read = || shelf.read(&path, &Seen { etags: None, since: None }).unwrap().1.unwrap();
        put("one");
        let (first, second) = (read(), read());
        assert_eq!(first.as_ptr(), second.as_ptr());
        put("another");
        assert_eq!((&read()[..7], &first[..3]), (&b"another"[..], &b"one"[..]));
        for n in 0..2 * MOST_FILES {
            let path = dir.path().join(format!("{n}.pem"));
            std::fs::write(&path, "xy".repeat(usize::try_from(SHORT).unwrap())).unwrap();
            shelf.read(&path, &Seen { etags: None, since: None }).unwrap();
            assert!(shelf.0.lock().unwrap().len() <= MOST_FILES);
        }
    }
}
