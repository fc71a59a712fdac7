//! Every parser of foreign bytes over the fuzzer's seeds and some thousand mutations of them, the same ones each
//! time: what `tests/fuzz.sh` looks for with coverage and hours, looked for in seconds wherever `cargo test` runs.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[path = "fuzz/judges/alpn_certificate.rs"]
mod alpn_certificate;
#[path = "fuzz/judges/backup.rs"]
mod backup;
#[path = "fuzz/judges/config.rs"]
mod config;
#[path = "fuzz/judges/csr.rs"]
mod csr;
#[path = "fuzz/judges/dns_answer.rs"]
mod dns_answer;
#[path = "fuzz/judges/eab.rs"]
mod eab;
#[path = "fuzz/judges/http_answer.rs"]
mod http_answer;
#[path = "fuzz/judges/ipc_frame.rs"]
mod ipc_frame;
#[path = "fuzz/judges/jws.rs"]
mod jws;
#[path = "fuzz/judges/log_frame.rs"]
mod log_frame;
#[path = "fuzz/judges/pkcs11_uri.rs"]
mod pkcs11_uri;
#[path = "fuzz/judges/proof.rs"]
mod proof;

#[test]
fn requests_and_keys_in_jws() {
    exercise("jws", jws::judge, &[], 6000);
}

#[test]
fn accounts_and_their_bindings() {
    exercise("eab", eab::judge, &[], 6000);
}

#[test]
fn certificate_requests() {
    // An algorithm and a kind of name that no policy lets in.
    exercise("csr", csr::judge, &["other-names", "sha1.der"], 4000);
}

#[test]
fn configurations() {
    exercise("config", config::judge, &[], 2000);
}

#[test]
fn frames_between_the_processes() {
    exercise("ipc_frame", ipc_frame::judge, &[], 6000);
}

#[test]
fn frames_and_notes_of_the_log() {
    exercise("log_frame", log_frame::judge, &[], 6000);
}

#[test]
fn proofs_tiles_and_requests_to_a_witness() {
    exercise("proof", proof::judge, &[], 6000);
}

#[test]
fn answers_of_dns() {
    exercise("dns_answer", dns_answer::judge, &["mdns-loop"], 6000);
}

#[test]
fn answers_of_web_servers() {
    exercise("http_answer", http_answer::judge, &["elsewhere", "redirect", "secret"], 1500);
}

#[test]
fn uris_of_tokens_and_keys() {
    exercise("pkcs11_uri", pkcs11_uri::judge, &["pin-value"], 6000);
}

#[test]
fn archives_and_what_is_in_them() {
    exercise("backup", backup::judge, &[], 6000);
}

#[test]
fn certificates_of_tls_alpn() {
    exercise("alpn_certificate", alpn_certificate::judge, &[], 6000);
}

/// Judges each seed, all but `refused` of which must be let in, then `rounds` mutations. What a judge cannot stand is
/// written below `target/` for `tests/fuzz.sh`'s programs to look at.
fn exercise(target: &str, judge: fn(&[u8]) -> bool, refused: &[&str], rounds: usize) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The order of a directory is not the same everywhere; the mutations shall be.
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, seed) in paths.iter().zip(&seeds) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(judge(seed), !refused.contains(&name), "{}", path.display());
    }
    let mut random = Random(0x6368_616e_6365_7279);
    let mut let_in = 0;
    for round in 0..rounds {
        let input = mutation(&seeds, &mut random);
        match catch_unwind(|| judge(&input)) {
            Ok(fine) => let_in += usize::from(fine),
            Err(_) => {
                let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}-{round}"));
                fs::write(&path, &input).unwrap();
                panic!(
                    "mutation {round} of {target} breaks the parser; it is in {}",
                    path.display()
                );
            }
        }
    }
    // A mutator that breaks everything, or nothing, tests little.
    assert!(let_in < rounds, "every mutation was let in");
    assert!(let_in > 0, "no mutation was let in");
}

/// One of the seeds with one to four things done to it.
fn mutation(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut octets = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(octets.len() + 1);
        let end = at + random.below((octets.len() - at).min(64) + 1);
        match random.below(8) {
            0 if at < octets.len() => octets[at] ^= 1 << random.below(8),
            1 if at < octets.len() => octets[at] = EDGES[random.below(EDGES.len())],
            2 => octets.insert(at, EDGES[random.below(EDGES.len())]),
            3 => drop(octets.drain(at..end)),
            4 => octets.truncate(at),
            5 => {
                let copy = octets[at..end].to_vec();
                let to = random.below(octets.len() + 1);
                octets.splice(to..to, copy);
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                octets.splice(at.., other[from..].iter().copied());
            }
            // Swaps neighbours: of digits, of tags and lengths.
            _ if at + 1 < octets.len() => octets.swap(at, at + 1),
            _ => {}
        }
    }
    octets
}

/// Octets on which something ends or begins: lengths, varints, signs, quotes, UTF-8.
const EDGES: &[u8] =
    &[0, 1, 0x30, 0x7f, 0x80, 0x81, 0x84, 0xa0, 0xc3, 0xff, b'"', b'\\', b'{', b'[', b'=', b'\n'];

/// SplitMix64 (Steele, Lea, Flood 2014): enough to choose by, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
