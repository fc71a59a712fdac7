//! Serves the log as outsiders read it: tiles, entries (C2SP tlog-tiles) and proofs (C2SP tlog-proof).
//!
//! This process has neither the log nor its key. What it hands out of the public directory it holds against the
//! published checkpoint first: octets that do not lead to that root are nobody's, whether a power cut, a disk or a
//! hand made them so, and a client that verifies would take them for a forgery.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::CACHE_CONTROL;

use super::Server;
use super::flow::{Fault, Reply};
use crate::acme::problem::{Problem, ProblemType};
use crate::id::Serial;
use crate::ipc::message::Logged;
use crate::ipc::{Answer, Question};
use crate::tlog::checkpoint::{Checkpoint, WITNESSED};
use crate::tlog::note::{MAX_NOTE, Note};
use crate::tlog::proof::{Proof, verify_inclusion};
use crate::tlog::tile::{
    self, BUNDLES, DIRECTORY, ENTRIES, Tile, TilePath, TiledTree, Tiles, read_bundle, split_hashes,
};
use crate::tlog::tree::{Hash, TreeHead, leaf_hash};

/// What is read for strangers at once: a bundle may have megabytes.
pub(crate) const CONCURRENCY: usize = 8;

/// Answers a GET of a tile or a bundle.
pub(crate) async fn tile(
    server: &Arc<Server>,
    peer: IpAddr,
    path: TilePath,
) -> Result<Reply, Fault> {
    let readers = &server.settings.log_entries_for;
    let everyone = match path {
        TilePath::Hashes(_) => true,
        TilePath::Entries(_) if readers.is_empty() => return Ok(absent(server)),
        TilePath::Entries(_) if !readers.iter().any(|network| network.contains(peer)) => {
            let detail = "the log's entries are not shown to this address";
            let problem = Problem::new(ProblemType::Unauthorized, detail)
                .with_status(StatusCode::FORBIDDEN.as_u16());
            return Err(problem.into());
        }
        TilePath::Entries(_) => {
            let all = |of: IpAddr| readers.iter().any(|n| n.prefix() == 0 && n.contains(of));
            all(Ipv4Addr::UNSPECIFIED.into()) && all(Ipv6Addr::UNSPECIFIED.into())
        }
    };
    let read = reading(server, move |published| published.read(&path)).await?;
    let Some(octets) = read else { return Ok(absent(server)) };
    let scope = if everyone { "public" } else { "private" };
    // What a path names never changes. A partial tile is of use only until the next one.
    let cache = match path.tile().is_full() {
        true => format!("{scope}, max-age=31536000, immutable"),
        false => format!("{scope}, max-age=3600"),
    };
    Ok(Reply::new(StatusCode::OK, "application/octet-stream", octets).header(CACHE_CONTROL, &cache))
}

/// Answers a GET of the proof that a certificate is in the log: for whoever knows its serial, and so has it.
pub(crate) async fn proof(server: &Arc<Server>, serial: Serial) -> Result<Reply, Fault> {
    tracing::Span::current().record("serial", tracing::field::display(serial));
    let logged = {
        let _permit = server.renewals.acquire().await.map_err(|_| Fault::Internal)?;
        match server.issuer.ask(Question::Logged { serial }).await? {
            Answer::Logged(Some(logged)) => logged,
            Answer::Logged(None) => return Ok(absent(server)),
            _ => return Err(Fault::Internal),
        }
    };
    let proof = reading(server, move |published| published.prove(*logged)).await?;
    Ok(Reply::new(StatusCode::OK, "text/plain; charset=utf-8", proof)
        .header(CACHE_CONTROL, "public, max-age=300"))
}

/// Not there, and perhaps there in a moment: nothing a cache should remember.
fn absent(server: &Server) -> Reply {
    Fault::missing().into_reply(server).header(CACHE_CONTROL, "no-store")
}

/// Runs what reads files where it keeps nobody waiting.
async fn reading<T: Send + 'static>(
    server: &Arc<Server>,
    read: impl FnOnce(&Published) -> Result<T, Unproven> + Send + 'static,
) -> Result<T, Fault> {
    let _permit = server.tiles.acquire().await.map_err(|_| Fault::Internal)?;
    let published = Published { dir: server.public.clone() };
    match tokio::task::spawn_blocking(move || read(&published)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(why)) => {
            tracing::warn!(code = "CHY-TILES-UNPROVEN", %why, "not handed out");
            Err(Fault::Retry(AGAIN))
        }
        Err(_) => Err(Fault::Internal),
    }
}

/// The issuer writes missing tiles anew by itself, in seconds for most logs.
const AGAIN: Duration = Duration::from_secs(5);

const CHECKPOINT: &str = "checkpoint";

/// The public directory.
struct Published {
    dir: PathBuf,
}

/// Why something is not handed out now.
#[derive(Debug)]
enum Unproven {
    /// The checkpoint or the tiles cannot be read, or are not there.
    Unread(io::Error),
    /// The checkpoint is none.
    Checkpoint,
    /// The tiles do not lead to the checkpoint.
    Root,
}

impl Published {
    /// The octets of a tile or bundle; `None` if the published tree has none such.
    fn read(&self, path: &TilePath) -> Result<Option<Vec<u8>>, Unproven> {
        let (_, head) = self.checkpoint(CHECKPOINT)?;
        let wanted = path.tile();
        if Tile::width_in(wanted.level, wanted.index, head.size) < wanted.width {
            return Ok(None);
        }
        let mut tree = TiledTree::new(self, head.size);
        let proven = tree.proven(wanted.level, wanted.index, &head)?.ok_or(Unproven::Root)?;
        let hashes = proven.get(..usize::from(wanted.width)).ok_or(Unproven::Root)?;
        match path {
            TilePath::Hashes(_) => Ok(Some(hashes.concat())),
            TilePath::Entries(_) => self.bundle(wanted, hashes).map(Some),
        }
    }

    /// Entries whose hashes are these.
    fn bundle(&self, wanted: &Tile, hashes: &[Hash]) -> Result<Vec<u8>, Unproven> {
        let dir = self.dir.join(DIRECTORY);
        let mut start = [0; 8];
        let at = wanted.index.saturating_mul(start.len() as u64);
        File::open(dir.join(BUNDLES))?.read_exact_at(&mut start, at)?;
        let file = File::open(dir.join(ENTRIES))?;
        let read_at = |at, buffer: &mut [u8]| read_at(&file, at, buffer);
        let bundle = read_bundle(wanted.width, u64::from_be_bytes(start), read_at)?;
        let entries = tile::entries(&bundle).ok_or(Unproven::Root)?;
        if entries.into_iter().map(leaf_hash).eq(hashes.iter().copied()) {
            Ok(bundle)
        } else {
            Err(Unproven::Root)
        }
    }

    /// The proof of an entry, as a file.
    fn prove(&self, logged: Logged) -> Result<String, Unproven> {
        // Under the witnessed checkpoint, which says more, once it covers the entry; if the tiles do not lead to that
        // one, what they lead to is still proven.
        let witnessed = self.checkpoint(WITNESSED);
        let path = witnessed.and_then(|(note, head)| Ok((note, self.path(&logged, &head)?)));
        let (checkpoint, path) = match path {
            Ok(proven) => proven,
            Err(_) => {
                let (note, head) = self.checkpoint(CHECKPOINT)?;
                (note, self.path(&logged, &head)?)
            }
        };
        let (extra, index) = (Some(logged.entry), logged.leaf.0);
        Ok(Proof { extra, index, path, checkpoint }.to_string())
    }

    /// From an entry to this root.
    fn path(&self, logged: &Logged, head: &TreeHead) -> Result<Vec<Hash>, Unproven> {
        let (index, leaf) = (logged.leaf.0, leaf_hash(&logged.entry));
        let path = TiledTree::new(self, head.size).inclusion(index)?.unwrap_or_default();
        if verify_inclusion(&leaf, index, head, &path) { Ok(path) } else { Err(Unproven::Root) }
    }

    fn checkpoint(&self, name: &str) -> Result<(String, TreeHead), Unproven> {
        let mut text = String::new();
        let limit = MAX_NOTE as u64 + 1;
        File::open(self.dir.join(name))?.take(limit).read_to_string(&mut text)?;
        let note = Note::parse(text.as_bytes()).map_err(|_| Unproven::Checkpoint)?;
        let checkpoint = Checkpoint::parse_text(&note.text).map_err(|_| Unproven::Checkpoint)?;
        Ok((text, checkpoint.head))
    }
}

impl Tiles for &Published {
    fn read(&mut self, tile: &Tile) -> io::Result<Vec<Hash>> {
        let (start, length) = tile.octets();
        let mut octets = vec![0; length];
        let path = self.dir.join(DIRECTORY).join(tile.level.to_string());
        File::open(path)?.read_exact_at(&mut octets, start)?;
        Ok(split_hashes(&octets))
    }
}

fn read_at(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

impl From<io::Error> for Unproven {
    fn from(error: io::Error) -> Self {
        Self::Unread(error)
    }
}

impl std::fmt::Display for Unproven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unread(error) => write!(f, "checkpoint or tiles cannot be read: {error}"),
            Self::Checkpoint => f.write_str("the published checkpoint is none"),
            Self::Root => f.write_str("the tiles do not lead to the published checkpoint"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LeafIndex;
    use crate::tlog::tile::push_entry;
    use crate::tlog::tree::RightEdge;

    /// A public directory with a log of so many entries, as the issuer leaves it.
    fn publish(size: u64) -> (tempfile::TempDir, Published, Vec<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let tiles = dir.path().join(DIRECTORY);
        std::fs::create_dir(&tiles).unwrap();
        let entries: Vec<Vec<u8>> = (0..size).map(|n| format!("entry {n}").into_bytes()).collect();
        let mut edge = RightEdge::new();
        let (mut level, mut octets, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (n, entry) in entries.iter().enumerate() {
            edge.push(leaf_hash(entry));
            level.push(leaf_hash(entry));
            if n % 256 == 0 {
                starts.extend_from_slice(&(octets.len() as u64).to_be_bytes());
            }
            push_entry(&mut octets, entry);
        }
        std::fs::write(tiles.join(ENTRIES), octets).unwrap();
        std::fs::write(tiles.join(BUNDLES), starts).unwrap();
        for name in 0.. {
            std::fs::write(tiles.join(name.to_string()), level.concat()).unwrap();
            let above = level.chunks_exact(256).map(|full| {
                let mut edge = RightEdge::new();
                full.iter().for_each(|hash| edge.push(*hash));
                edge.head().root
            });
            level = above.collect();
            if level.is_empty() {
                break;
            }
        }
        let text = Checkpoint::new("ca.lan/log", edge.head()).text();
        std::fs::write(
            dir.path().join("checkpoint"),
            format!("{text}\n\u{2014} ca.lan/log AAAAAAE=\n"),
        )
        .unwrap();
        let published = Published { dir: dir.path().to_owned() };
        (dir, published, entries)
    }

    fn read(published: &Published, path: &str) -> Result<Option<Vec<u8>>, Unproven> {
        published.read(&TilePath::parse(path).unwrap())
    }

    #[test]
    fn tiles_are_ranges_of_what_is_published() {
        let (_dir, published, entries) = publish(600);
        let hashes: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let of = |path: &str| read(&published, path).unwrap();
        assert_eq!(of("0/000"), Some(hashes[..256].concat()));
        assert_eq!(of("0/002.p/88"), Some(hashes[512..].concat()));
        // An earlier checkpoint's partial tiles stay.
        assert_eq!(of("0/002.p/1"), Some(hashes[512].to_vec()));
        assert_eq!(of("0/001.p/255"), Some(hashes[256..511].concat()));
        assert_eq!(of("1/000.p/2").map(|octets| octets.len()), Some(64));
        for absent in
            ["0/002", "0/002.p/89", "0/003.p/1", "1/000", "1/000.p/3", "2/000.p/1", "63/000.p/1"]
        {
            assert_eq!(of(absent), None, "{absent}");
        }
        let bundle = of("entries/002.p/7").unwrap();
        assert!(tile::entries(&bundle).unwrap().into_iter().eq(entries[512..519].iter()));
        assert_eq!(of("entries/002"), None);
    }

    #[test]
    fn what_does_not_lead_to_the_checkpoint_is_not_handed_out() {
        let (dir, published, entries) = publish(600);
        let path = |name: &str| dir.path().join(DIRECTORY).join(name);
        let flip = |name: &str, octet: usize| {
            let mut octets = std::fs::read(path(name)).unwrap();
            octets[octet] ^= 1;
            std::fs::write(path(name), octets).unwrap();
        };
        let refused = |name: &str| matches!(read(&published, name), Err(Unproven::Root));
        flip("0", 300 * 32);
        assert!(refused("0/001") && refused("0/001.p/10") && refused("entries/001"));
        assert!(read(&published, "0/000").unwrap().is_some());
        flip("0", 300 * 32);
        flip("entries", 5);
        assert!(refused("entries/000"));
        assert!(read(&published, "entries/001").unwrap().is_some());
        flip("entries", 5);
        flip("bundles", 15);
        assert!(read(&published, "entries/001").is_err());
        flip("bundles", 15);
        // The right edge is part of every proof.
        flip("0", 599 * 32);
        for name in ["0/000", "0/002.p/3", "1/000.p/1", "entries/000"] {
            assert!(refused(name), "{name}");
        }
        let logged = Logged { leaf: LeafIndex(5), entry: entries[5].clone() };
        assert!(matches!(published.prove(logged.clone()), Err(Unproven::Root)));
        flip("0", 599 * 32);
        let proof = Proof::parse(published.prove(logged.clone()).unwrap().as_bytes()).unwrap();
        assert_eq!((proof.index, proof.extra.as_deref()), (5, Some(&entries[5][..])));
        // A witnessed checkpoint that the tiles do not lead to hides nothing; one that they lead to says more.
        let own = std::fs::read_to_string(dir.path().join("checkpoint")).unwrap();
        let put = |note: &str| std::fs::write(dir.path().join(WITNESSED), note).unwrap();
        for (note, used) in
            [(own.replace("600", "599"), false), (format!("{own}\u{2014} w AAAAAAI=\n"), true)]
        {
            put(&note);
            let proof = Proof::parse(published.prove(logged.clone()).unwrap().as_bytes()).unwrap();
            assert_eq!(proof.checkpoint == note, used);
            assert!(used || proof.checkpoint == own);
        }
        assert!(published.prove(Logged { leaf: LeafIndex(6), ..logged.clone() }).is_err());
        assert!(published.prove(Logged { leaf: LeafIndex(600), ..logged }).is_err());
        std::fs::remove_file(path("1")).unwrap();
        assert!(matches!(read(&published, "0/000"), Err(Unproven::Unread(_))));
    }
}
