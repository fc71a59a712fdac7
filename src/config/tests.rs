use std::path::{Path, PathBuf};

use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, text: &str) -> Result<Config, String> {
        load(&self.write("chancery.toml", text)).map_err(|error| error.0)
    }
}

const LEAST: &str = "board.production = false\ntoken.module = \"/m.so\"\n[state]\ndir = \"state\"\npin.file = \"pin\"\n";

fn refused(text: &str) -> String {
    let outcome = Place::new().load(text);
    outcome.map(|_| panic!("was taken:\n{text}")).unwrap_or_else(|error| error)
}

#[test]
fn the_least_configuration_has_defaults_and_paths_beside_its_file() {
    let place = Place::new();
    let config = place.load(LEAST).unwrap();
    assert_eq!(config.paths.state, place.directory.path().join("state"));
    assert_eq!(config.pin, PinSource::File(place.directory.path().join("pin")));
    assert_eq!(config.token.module, Path::new("/m.so"));
    assert_eq!(config.web, crate::web::Settings::default());
    assert_eq!(config.default_profile, config.profiles[0].name);
    assert!(config.authority.is_none());
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_nearest_name() {
    let error = refused(&format!("{LEAST}[web]\nbase-ulr = \"https://x\"\n"));
    assert!(error.starts_with("CHY-CONFIG-KEY: "), "{error}");
    assert!(error.contains("chancery.toml:7: `web.base-ulr`"), "{error}");
    assert!(error.contains("did you mean `base-url`?"), "{error}");
    let error = refused(&format!("{LEAST}[wbe]\n"));
    assert!(error.contains(":6: `wbe`") && error.contains("did you mean `web`?"), "{error}");
}

#[test]
fn a_wrong_type_is_refused_with_its_line() {
    let error = refused(&format!("{LEAST}[web]\n\nconnections = \"many\"\n"));
    assert!(error.starts_with("CHY-CONFIG-VALUE: "), "{error}");
    assert!(error.contains("chancery.toml:8: `web.connections`"), "{error}");
    let error =
        refused(&format!("{LEAST}[web]\nlisten = [\n  \"127.0.0.1:80\",\n  \"localhost\",\n]\n"));
    assert!(error.contains("chancery.toml:9: `web.listen`"), "{error}");
    let error = refused(&format!("{LEAST}[web]\nconnections = -1\n"));
    assert!(error.contains(":7: `web.connections`"), "{error}");
    let error = refused(&format!("{LEAST}[issuer]\ntls-days = 0\n"));
    assert!(error.contains(":7: `issuer.tls-days`: 0 does not lie between"), "{error}");
}

#[test]
fn what_is_no_toml_is_refused_without_quoting_it() {
    let error = refused("[state]\npin = hunter2\n");
    assert!(
        error.starts_with("CHY-CONFIG-SYNTAX: ") && error.contains("chancery.toml:2"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_secret_is_refused_and_never_quoted() {
    for text in [
        "token.module = \"/m.so\"\n[state]\ndir = \"s\"\npin = \"hunter2\"\n",
        "token.module = \"/m.so\"\n[state]\ndir = \"s\"\npin = 20252025\n",
        "[state]\ndir = \"s\"\npin.prompt = true\n[token]\nmodule = \"/m.so\"\nuser-pin = \"hunter2\"\n",
    ] {
        let error = refused(text);
        assert!(error.starts_with("CHY-CONFIG-SECRET: "), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("20252025"), "{error}");
    }
}

#[test]
fn tables_merge_later_wins_and_lists_are_replaced() {
    let place = Place::new();
    place.write(
        "base.toml",
        &format!("{LEAST}[web]\nconnections = 7\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n"),
    );
    place.write("parts/more.toml", "web.handshakes = 3\nweb.connections = 8\n");
    let config = place
        .load("inherit = [\"base.toml\", \"parts/more.toml\"]\n[web]\nlisten = [\"127.0.0.1:3\"]\n")
        .unwrap();
    assert_eq!((config.web.connections, config.web.handshakes), (8, 3));
    assert_eq!(config.web.listen, ["127.0.0.1:3".parse().unwrap()]);
    assert_eq!(config.files.len(), 3);
    let config =
        place.load("inherit = [\"base.toml\"]\nstate.pin.credential = \"token-pin\"\n").unwrap();
    assert_eq!(config.pin, PinSource::Credential("token-pin".into()));
}

#[test]
fn an_error_in_an_inherited_file_names_that_file() {
    let place = Place::new();
    place.write("base.toml", "\n\nweb.conections = 7\n");
    let error = place.load(&format!("inherit = [\"base.toml\"]\n{LEAST}")).unwrap_err();
    assert!(error.contains("base.toml:3: `web.conections`"), "{error}");
}

#[test]
fn circles_and_deep_chains_end() {
    let place = Place::new();
    place.write("a.toml", "inherit = [\"chancery.toml\"]\n");
    let error = place.load("inherit = [\"a.toml\"]\n").unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-CYCLE: "), "{error}");
    for depth in 0..20 {
        place.write(&format!("{depth}.toml"), &format!("inherit = [\"{}.toml\"]\n", depth + 1));
    }
    let error = place.load("inherit = [\"0.toml\"]\n").unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-CYCLE: "), "{error}");
    let error = place.load("inherit = [\"nowhere.toml\"]\n").unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-READ: ") && error.contains("nowhere.toml"), "{error}");
    let error = place.load("inherit = \"base.toml\"\n").unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-VALUE: "), "{error}");
}

#[test]
fn a_production_board_takes_no_lab() {
    let place = Place::new();
    place.write("lab.toml", "fragment.lab = true\n");
    let production = LEAST.replace("false", "true");
    let error = place.load(&format!("inherit = [\"lab.toml\"]\n{production}")).unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-BOARD: ") && error.contains("lab.toml:1"), "{error}");
    // Not even if a later file says otherwise of itself.
    let error = place
        .load(&format!("inherit = [\"lab.toml\"]\nfragment.lab = false\n{production}"))
        .unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-BOARD: "), "{error}");
    place.load(&format!("inherit = [\"lab.toml\"]\n{LEAST}")).unwrap();
    for (more, code) in [
        ("validation.allow-loopback = true\n", "CHY-CONFIG-BOARD: "),
        ("process.unconfined = true\n", "CHY-CONFIG-BOARD: "),
    ] {
        let error = place.load(&format!("{more}{production}")).unwrap_err();
        assert!(error.starts_with(code), "{error}");
        place.load(&format!("{more}{LEAST}")).unwrap();
    }
    let soft = production.replace("/m.so", "/usr/lib/softhsm/libsofthsm2.so");
    let error = place.load(&soft).unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-SOFTHSM-PRODUCTION: "), "{error}");
    // Production is what a box is that does not say.
    let error = place.load(&soft.replace("board.production = true\n", "")).unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-SOFTHSM-PRODUCTION: "), "{error}");
}

#[test]
fn a_token_file_stands_for_its_content() {
    let place = Place::new();
    place.write("token/t.toml", "module = \"../lib/m.so\"\nthreads = 3\n");
    let text = "token = \"token/t.toml\"\nboard.production = false\n[state]\ndir = \"s\"\npin.credential = \"pin\"\n";
    let config = place.load(text).unwrap();
    assert_eq!(config.token.threads, 3);
    assert_eq!(config.token.module, place.directory.path().join("token/../lib/m.so"));
    place.write("token/t.toml", "module = \"m.so\"\nthread = 3\n");
    let error = place.load(text).unwrap_err();
    assert!(error.contains("t.toml:2: `token.thread`") && error.contains("`threads`"), "{error}");
}

#[test]
fn the_pin_has_exactly_one_source() {
    for pin in [
        "pin = { file = \"a\", prompt = true }",
        "pin = {}",
        "pin.prompt = false",
        "pin.credential = \"../x\"",
        "pin = { flie = \"a\" }",
    ] {
        let error = refused(&format!("token.module = \"/m.so\"\n[state]\ndir = \"s\"\n{pin}\n"));
        assert!(error.contains(":4: `state.pin"), "{pin}: {error}");
    }
}

#[test]
fn profiles_are_read_checked_and_unique() {
    let place = Place::new();
    let good = "name = \"p\"\ndescription = \"d\"\nlifetime-hours = 24\nbackdate-minutes = 5\nusages = [\"server\"]\nkeys = [\"ec-p256\"]\nmax-names = 3\ncommon-name = false\n";
    place.write("p.toml", good);
    place.write("q.toml", good);
    let least = format!("profiles = [\"p.toml\"]\n{LEAST}");
    assert_eq!(place.load(&least).unwrap().default_profile, "p");
    let error = place.load(&format!("default-profile = \"pp\"\n{least}")).unwrap_err();
    assert!(
        error.starts_with("CHY-CONFIG-PROFILE: ") && error.contains("did you mean `p`?"),
        "{error}"
    );
    let error = place.load(&least.replace("[\"p.toml\"]", "[\"p.toml\", \"q.toml\"]")).unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-PROFILE: ") && error.contains("q.toml"), "{error}");
    for (from, to) in [
        ("24", "0"),
        ("[\"ec-p256\"]", "[\"ec-p255\"]"),
        ("[\"ec-p256\"]", "[]"),
        ("[\"server\"]", "[]"),
        ("= 5", "= 61"),
        ("= 3", "= 0"),
    ] {
        place.write("p.toml", &good.replace(from, to));
        let error = place.load(&least).unwrap_err();
        assert!(error.starts_with("CHY-CONFIG-PROFILE: ") && error.contains("p.toml"), "{error}");
    }
    for (line, key, hint) in [
        ("allow-names = [\"example.com\"]", "allow-names", "[policy] allow-names"),
        ("allow-networks = [\"10.0.0.0/7\"]", "allow-networks", "[policy] allow-networks"),
        ("challenges = [\"http-1\"]", "challenges", "did you mean `http-01`?"),
        ("allow-names = [\"*.lan\"]", "allow-names", "write lan"),
        ("allow-names = [\"LAN\"]", "allow-names", "p.toml:9"),
        ("allow-networks = [\"10.0.0.1/8\"]", "allow-networks", "p.toml:9"),
    ] {
        place.write("p.toml", &format!("{good}{line}\n"));
        let error = place.load(&least).unwrap_err();
        assert!(error.contains(key) && error.contains(hint), "{error}");
    }
    let own = "allow-names = [\"print.lan\"]\nchallenges = [\"dns-01\"]\nno-rev-avail = true\n";
    place.write("p.toml", &format!("{good}{own}"));
    let profile = place.load(&least).unwrap().profiles.remove(0);
    assert!(profile.no_rev_avail && profile.accepts_challenge("dns-01"));
    assert_eq!(profile.allow_names[0].as_str(), "print.lan");
    place.write("p.toml", &good.replace("\"server\"", "\"sever\""));
    let error = place.load(&least).unwrap_err();
    assert!(error.contains("p.toml:5") && error.contains("did you mean `server`?"), "{error}");
}

#[test]
fn the_digest_is_of_what_is_in_force() {
    let place = Place::new();
    let digest = |text: &str| place.load(text).unwrap().digest;
    let one = digest(LEAST);
    assert_eq!(one, digest(&format!("# a comment\n{LEAST}")));
    assert_eq!(one, digest(&format!("{LEAST}[web]\nconnections = 1024\n")), "a default, spelt out");
    assert_ne!(one, digest(&format!("{LEAST}[web]\nconnections = 1023\n")));
    assert_ne!(one, digest(&format!("{LEAST}[policy]\nwildcards = true\n")), "{one:?}");
}

#[test]
fn what_is_shown_can_be_read_again() {
    let place = Place::new();
    let config = place.load(LEAST).unwrap();
    let shown = config.to_toml().unwrap();
    let read: toml::Table = toml::from_str(&shown).unwrap();
    assert_eq!(read["web"]["connections"].as_integer(), Some(1024));
    assert!(config.to_json().unwrap()["profiles"].is_array());
}

#[test]
fn a_broken_authority_is_not_taken_for_none() {
    let place = Place::new();
    place.write("state/ca/authority.json", "{}");
    let error = place.load(LEAST).unwrap_err();
    assert!(error.starts_with("CHY-CA-BROKEN: "), "{error}");
}

/// Every file that is shipped is good.
#[test]
fn the_shipped_files_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    for folder in ["firmware-config", "firmware-config/board", "firmware-config/fragment"] {
        for file in tomls(&root.join(folder)) {
            check(&file).unwrap_or_else(|error| panic!("{error}"));
            checked += 1;
        }
    }
    for file in tomls(&root.join("firmware-config/profile")) {
        read_profile(&file).unwrap_or_else(|error| panic!("{error}"));
        checked += 1;
    }
    for file in tomls(&root.join("hsm/token")) {
        read::<crate::hsm::pool::Settings>(&file).unwrap_or_else(|error| panic!("{error}"));
        checked += 1;
    }
    assert!(checked >= 9, "only {checked} files were found");
    assert!(load(&root.join("firmware-config/board/lab.toml")).is_ok());
}

/// Every key has a line in the page for operators, and every line a key.
#[test]
fn every_key_is_documented_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("firmware-config/README.md")).unwrap();
    let documented: std::collections::BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(key, _)| key.to_owned()))
        .collect();
    let config = load(&root.join("firmware-config/board/lab.toml")).unwrap();
    let mut keys = std::collections::BTreeSet::from(
        [
            "inherit",
            "token",
            "fragment.lab",
            "profiles",
            "state.pin.credential",
            "state.pin.prompt",
            "backup.dir",
        ]
        .map(str::to_owned),
    );
    let shown = config.to_json().unwrap();
    for (key, value) in shown.as_object().unwrap() {
        match (key.as_str(), value) {
            ("profiles", value) => collect("profile", &value[0], &mut keys),
            (key, serde_json::Value::Object(_)) => collect(key, value, &mut keys),
            (key, _) => drop(keys.insert(key.to_owned())),
        }
    }
    keys.extend(["zone", "servers", "tcp"].map(|key| format!("validation.resolvers.{key}")));
    keys.extend(["vkey", "url", "roots"].map(|key| format!("web.witnesses.{key}")));
    let missing: Vec<_> = keys.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&keys).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "not documented: {missing:?}; no such key: {stale:?}"
    );
}

/// What a page says of a number's range is what is checked, at both ends; the other rows have a default that is there.
#[test]
fn ranges_and_defaults_are_as_the_page_says() {
    let mut ranges = 0;
    for key in keys::keys() {
        assert!(!key.means.is_empty() && !key.takes.is_empty(), "{key:?}");
        assert!(["operator", "issuer", "web", "web, issuer"].contains(&key.applied_by), "{key:?}");
        let Some((low, high)) = range(key.takes).filter(|_| !key.key.starts_with("profile."))
        else {
            continue;
        };
        ranges += 1;
        let set = |value: i64| Place::new().load(&format!("{} = {value}\n{LEAST}", key.key));
        for value in [low, high] {
            let refused = set(value).err().unwrap_or_default();
            assert!(!refused.contains("does not lie between"), "{}: {refused}", key.key);
        }
        for value in [low - 1, high + 1] {
            let refused = set(value).expect_err(key.key);
            assert!(refused.starts_with("CHY-CONFIG-VALUE"), "{}: {refused}", key.key);
        }
    }
    assert!(ranges > 20, "only {ranges} ranges");
    let default =
        |wanted: &str| keys::keys().into_iter().find(|key| key.key == wanted).unwrap().default;
    assert_eq!(default("web.connections"), "1024");
    assert_eq!(default("validation.redirect-ports"), "80, 443");
    assert_eq!(default("web.website"), "none");
    assert_eq!(default("policy.wildcards"), "false");
    assert_eq!(default("token.module"), "required");
}

/// Of `count, 1–64`.
fn range(takes: &str) -> Option<(i64, i64)> {
    let (_, range) = takes.split_once(", ")?;
    let (low, high) = range.split_once('–')?;
    Some((low.parse().ok()?, high.parse().ok()?))
}

fn collect(prefix: &str, value: &serde_json::Value, keys: &mut std::collections::BTreeSet<String>) {
    for (key, value) in value.as_object().unwrap() {
        match value {
            serde_json::Value::Object(_) => collect(&format!("{prefix}.{key}"), value, keys),
            _ => drop(keys.insert(format!("{prefix}.{key}"))),
        }
    }
}

fn tomls(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\[?(web|state|token|policy)\\]?|[a-z.=\"{}\\[\\]\n -]){0,40}") {
        let _ = parse_str(&text);
    }
}
