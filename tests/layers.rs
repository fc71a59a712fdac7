//! The arrows of the house. Reads every path in `src/`, not only `use` lines, and refuses an
//! arrow that ARCHITECTURE.md does not draw.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Room → the rooms it may name besides itself and `id`. `app`, `cli` and the crate root may name any.
const ARROWS: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("turns", &[]),
    ("env", &[]),
    ("state", &["env"]),
    ("pki", &[]),
    ("acme", &["pki"]),
    ("tlog", &[]),
    ("log", &["env", "tlog", "state"]),
    ("hsm", &["pki", "env", "turns"]),
    ("ipc", &["acme", "pki"]),
    ("issuer", &["ipc", "acme", "pki", "log", "hsm", "env", "tlog", "state"]),
    ("ceremony", &["pki", "log", "hsm", "env", "tlog", "state"]),
    ("audit", &["pki", "log", "env", "tlog"]),
    ("backup", &["pki", "log", "env", "tlog"]),
    ("store", &["acme", "env"]),
    ("validate", &["acme", "pki", "env"]),
    ("web", &["ipc", "acme", "pki", "store", "validate", "env", "tlog", "turns"]),
    // Imports the `Settings` of every room, what a ceremony file or an authority says, and the names of challenges.
    (
        "config",
        &[
            "acme", "backup", "ceremony", "env", "hsm", "issuer", "log", "pki", "state",
            "validate", "web",
        ],
    ),
];

/// Rooms at the top, which may name any other.
const FREE: &[&str] = &["app", "cli", "lib", "main"];

/// An external path → the places (prefixes of paths under `src/`) that may name it.
const FOREIGN: &[(&str, &[&str])] = &[
    ("cryptoki", &["hsm/token"]),
    ("hyper", &["web", "validate"]),
    ("hyper_util", &["web", "validate"]),
    ("redb", &["store/embedded", "log/index"]),
    ("toml", &["config"]),
    ("clap", &["cli", "main"]),
    ("landlock", &["app"]),
    ("hickory_resolver", &["env/system", "cli/lab"]),
    ("tokio", &["app", "cli", "env", "ipc", "store", "validate", "web"]),
];

/// Paths of the standard library that only `env::system` (or the rooms named) may use.
const WORLD: &[(&str, &[&str])] = &[
    ("SystemTime::now", &["env/system"]),
    ("Instant::now", &["env/system"]),
    ("thread::sleep", &[]),
    ("std::net::TcpStream", &["app", "cli", "env/system"]),
    ("std::net::TcpListener", &["app", "cli", "web/sockets"]),
    ("std::net::UdpSocket", &["app", "cli"]),
];

/// Rooms that touch no file, socket, clock or runtime.
const PURE: &[&str] = &["acme", "pki", "tlog", "id", "turns"];
const IMPURE: &[&str] =
    &["std::fs", "std::io::Read", "std::os", "std::process", "std::thread", "tokio", "tracing"];

#[test]
fn every_arrow_is_drawn() {
    let mut wrong = Vec::new();
    for file in sources() {
        let (room, depth) = (file.room(), file.depth());
        if FREE.contains(&room.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            panic!("{}: room `{room}` is not in the plan", file.name);
        };
        for target in rooms_named(&file.code, depth) {
            let fine = target == room || target == "id" || allowed.contains(&target.as_str());
            if !fine && is_room(&target) {
                wrong.push(format!("{}: {room} → {target}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not drawn:\n{}", wrong.join("\n"));
}

#[test]
fn foreign_crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (path, places) in FOREIGN.iter().chain(WORLD) {
            let allowed = places.iter().any(|place| file.name.starts_with(place));
            if !allowed && names_path(&file.code, path) {
                wrong.push(format!("{} names {path}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "crates out of their rooms:\n{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_touch_nothing() {
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|file| PURE.contains(&file.room().as_str())) {
        for path in IMPURE {
            if names_path(&file.code, path) {
                wrong.push(format!("{} names {path}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "pure rooms with a window:\n{}", wrong.join("\n"));
}

/// The checks above must see what they claim to see.
#[test]
fn the_reader_reads_paths() {
    let code = strip(
        "fn f() { crate::hsm::x(); } // crate::log::y\n use crate::{acme, store::{A, B}, self};\n\
         const S: &str = \"crate::web::z\"; type T = super::super::ipc::Q;\n\
         #[cfg(test)]\nmod tests { use crate::issuer::X; fn g() {} }\n use crate::env::Y;",
    );
    let seen: Vec<String> = rooms_named(&code, 2).into_iter().collect();
    assert_eq!(seen, ["acme", "env", "hsm", "ipc", "self", "store"]);
    assert!(names_path("use tokio::net;", "tokio"));
    assert!(!names_path("use my_tokio::net;", "tokio"));
    assert!(!names_path("let tokio = 1;", "tokio"));
}

#[test]
fn files_of_tests_are_known_by_their_declaration() {
    let code = bare(
        "#[cfg(test)]\nmod tests;\n#[cfg(test)] pub(crate) mod lab;\nmod tests_of_the_token;\n\
         #[cfg(test)]\nmod inline { mod deep; }\n// #[cfg(test)] mod commented;",
    );
    let at = |path: &str| test_modules(Path::new(path), &code);
    assert_eq!(
        at("src/web/order.rs"),
        ["src/web/order/tests", "src/web/order/lab"].map(PathBuf::from)
    );
    assert_eq!(at("src/lib.rs"), ["src/tests", "src/lab"].map(PathBuf::from));
    let named = |end: &str| sources().iter().any(|file| file.name.ends_with(end));
    assert!(named("validate/http01.rs") && !named("validate/http01/tests.rs"));
}

struct Source {
    /// Path under `src/`.
    name: String,
    /// Without comments, literals and test items.
    code: String,
}

impl Source {
    fn room(&self) -> String {
        let first = self.name.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first).to_owned()
    }

    /// How many `super` lead from this file's module to the crate root.
    fn depth(&self) -> usize {
        self.name.split('/').count()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(files.len() > 40, "found only {} files under src/", files.len());
    let bare: Vec<(PathBuf, String)> = files
        .into_iter()
        .map(|path| {
            let code = bare(&fs::read_to_string(&path).unwrap());
            (path, code)
        })
        .collect();
    let tests: Vec<PathBuf> =
        bare.iter().flat_map(|(path, code)| test_modules(path, code)).collect();
    bare.into_iter()
        .filter(|(path, _)| !tests.iter().any(|test| path.with_extension("").starts_with(test)))
        .map(|(path, code)| Source {
            name: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
            code: without_tests(&code),
        })
        .collect()
}

/// The files, without `.rs`, that `path` includes by `#[cfg(test)] mod name;`: they and what lies
/// in the directory of that name are in no program.
fn test_modules(path: &Path, code: &str) -> Vec<PathBuf> {
    let inside = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main") => path.with_file_name(""),
        _ => path.with_extension(""),
    };
    code.match_indices(TEST_ITEM)
        .filter_map(|(at, _)| {
            let item = code[at + TEST_ITEM.len()..].trim_start();
            let name = item
                .split_once("mod ")
                .filter(|(before, _)| before.is_empty() || before.starts_with("pub"))?
                .1;
            let end = name.find(|c| !is_word(c))?;
            name[end..].starts_with(';').then(|| inside.join(&name[..end]))
        })
        .collect()
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn is_room(name: &str) -> bool {
    ARROWS.iter().any(|(room, _)| *room == name) || FREE.contains(&name)
}

/// Every name that stands right after `crate::`, or after enough `super::` to reach the root.
fn rooms_named(code: &str, depth: usize) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(is_word) {
            heads(&code[at + 7..], &mut rooms);
        }
    }
    let chain = "super::".repeat(depth);
    for (at, _) in code.match_indices(&chain) {
        if !code[..at].ends_with(is_word) && !code[..at].ends_with("super::") {
            heads(&code[at + chain.len()..], &mut rooms);
        }
    }
    rooms
}

/// The identifier at the start of `rest`, or all first identifiers of a `{…}` group.
fn heads(rest: &str, rooms: &mut BTreeSet<String>) {
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        rooms.insert(rest[..end].to_owned());
        return;
    };
    let (mut level, mut start) = (0usize, 0usize);
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level == 0 => {
                heads(&group[start..at], rooms);
                return;
            }
            '}' => level -= 1,
            ',' if level == 0 => {
                heads(&group[start..at], rooms);
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn names_path(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + path.len()..];
        // A crate is named by `x::`; a longer path may also end a `use` or a call.
        let starts = !before.is_some_and(|c| is_word(c) || c == ':') || path.contains("::");
        let ends = if path.contains("::") {
            !after.starts_with(is_word)
        } else {
            after.starts_with("::") || after.starts_with(';') && code[..at].ends_with("use ")
        };
        starts && ends
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Removes comments, string and character literals, and items under `#[cfg(test)]`.
fn strip(source: &str) -> String {
    without_tests(&bare(source))
}

/// Removes comments, string and character literals.
fn bare(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(end) = raw_string_end(rest, &code) {
            end
        } else if c == '"' {
            string_end(rest)
        } else if rest.starts_with("'\\") || (c == '\'' && rest.chars().nth(2) == Some('\'')) {
            char_end(rest)
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[skip..];
    }
    code
}

fn raw_string_end(rest: &str, before: &str) -> Option<usize> {
    let hashes = rest.strip_prefix('r')?.bytes().take_while(|b| *b == b'#').count();
    if before.ends_with(is_word) || rest.as_bytes().get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    Some(rest[body..].find(&close).map_or(rest.len(), |at| body + at + close.len()))
}

fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn char_end(rest: &str) -> usize {
    let body = if rest[1..].starts_with('\\') { 3 } else { 1 };
    rest[body..].find('\'').map_or(rest.len(), |at| body + at + 1)
}

const TEST_ITEM: &str = "#[cfg(test)]";

/// Cuts each item that follows `#[cfg(test)]`: up to its `;`, or its balanced braces.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(TEST_ITEM) {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let (mut level, mut end) = (0usize, rest.len());
        for (at, c) in rest.char_indices() {
            match c {
                ';' if level == 0 => end = at + 1,
                '{' => level += 1,
                '}' => {
                    level = level.saturating_sub(1);
                    if level == 0 {
                        end = at + 1;
                    }
                }
                _ => {}
            }
            if end != rest.len() {
                break;
            }
        }
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}
