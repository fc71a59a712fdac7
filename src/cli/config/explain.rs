//! `chancery config explain` and `diff`: one key, or what is not as shipped.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{Context, Failure, print, print_json};
use crate::config::keys::{self, Key};
use crate::config::{ConfigError, Origins};

/// All about a key, or about every key of a table.
pub(super) fn explain(wanted: &str, context: &Context) -> Result<(), Failure> {
    let explained = explained(wanted, &context.config)?;
    if context.json {
        let rows: Vec<Value> = explained.iter().map(Explained::json).collect();
        return print_json(&rows);
    }
    let blocks: Vec<String> = explained.iter().map(Explained::text).collect();
    print(blocks.join("\n").trim_end())
}

fn explained(wanted: &str, file: &Path) -> Result<Vec<Explained>, Failure> {
    let all = keys::keys();
    let wanted = wanted.trim().trim_matches(['[', ']']);
    let below = format!("{wanted}.");
    // `token` is a key and a table.
    let chosen: Vec<&Key> =
        all.iter().filter(|key| key.key == wanted || key.key.starts_with(&below)).collect();
    if chosen.is_empty() {
        let near = crate::config::nearest(wanted, all.iter().map(|key| key.key));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(Failure::failed(format!(
            "CHY-CONFIG-KEY: `{wanted}` is no key and no table{near}; firmware-config/README.md lists all"
        )));
    }
    let (settings, origins) = (settings(file)?, origins(file)?);
    Ok(chosen.into_iter().map(|key| Explained::of(key, &settings, &origins)).collect())
}

struct Explained {
    key: Key,
    value: Value,
    /// FILE:LINE.
    from: Option<String>,
}

impl Explained {
    fn of(key: &Key, settings: &Value, origins: &Origins) -> Self {
        // A profile's file has keys of its own: what each of the profiles has.
        let value = match key.key.strip_prefix("profile.") {
            Some(inner) => each_profile(settings, inner),
            None if key.key == "profiles" => each_profile(settings, "name"),
            None => keys::at(settings, key.key),
        };
        Self { key: key.clone(), value, from: origins.of(key.key) }
    }

    fn json(&self) -> Value {
        let Key { key, means, takes, default, applied_by } = &self.key;
        json!({
            "key": key, "value": self.value, "from": self.from, "default": default, "takes": takes,
            "means": means, "applied_by": applied_by,
        })
    }

    fn text(&self) -> String {
        let Key { key, means, takes, default, applied_by } = &self.key;
        let from = self.from.as_deref().unwrap_or("no file says it: the default");
        let trusted = trusted(applied_by);
        let value = keys::written(&self.value);
        format!(
            "{key}\n  value    {value}\n  from     {from}\n  takes    {takes}\n  default  {default}\n  \
             trusted  {trusted}\n  means    {means}\n"
        )
    }
}

/// Who is believed when a key is used.
fn trusted(applied_by: &str) -> &str {
    match applied_by {
        "operator" => "the operator, who writes these files",
        "issuer" => "nobody: the issuer, which has the token, applies it itself",
        "web" => {
            "the web process; taken over it could ignore this, and get no certificate by it that the issuer refuses"
        }
        _ => "each of the two processes for its own part; the issuer believes nobody",
    }
}

fn each_profile(settings: &Value, key: &str) -> Value {
    let profiles = settings["profiles"].as_array().into_iter().flatten();
    let each = profiles.map(|profile| {
        let value = keys::written(&keys::at(profile, key));
        let name = profile["name"].as_str().unwrap_or_default();
        Value::from(if key == "name" { value } else { format!("{name}: {value}") })
    });
    Value::Array(each.collect())
}

/// What is not as shipped, or what another file would change.
pub(super) fn diff(other: Option<&Path>, context: &Context) -> Result<(), Failure> {
    let changes = changes(&context.config, other)?;
    if context.json {
        let rows = changes.iter().map(|Change { key, old, new, from }| {
            json!({"key": key, "old": old, "new": new, "from": from})
        });
        return print_json(&rows.collect::<Vec<_>>());
    }
    changes.iter().try_for_each(|change| print(&change.text()))
}

/// A key with another value.
struct Change {
    key: String,
    /// `None`: not set.
    old: Option<Value>,
    new: Option<Value>,
    /// Where the new one is written, `FILE:LINE`.
    from: Option<String>,
}

impl Change {
    fn text(&self) -> String {
        let side = |of: &Option<Value>| keys::written(of.as_ref().unwrap_or(&Value::Null));
        let from = self.from.as_ref().map(|from| format!("  ({from})")).unwrap_or_default();
        format!("{}: {} -> {}{from}", self.key, side(&self.old), side(&self.new))
    }
}

/// From the defaults to `file`, or from `file` to another.
fn changes(file: &Path, other: Option<&Path>) -> Result<Vec<Change>, Failure> {
    let here = flat(&settings(file)?);
    let (old, new, origins) = match other {
        None => (flat(&keys::defaults()), here, origins(file)?),
        Some(other) => (here, flat(&settings(other)?), origins(other)?),
    };
    let mut every: Vec<&String> = old.keys().chain(new.keys()).collect();
    every.sort_unstable();
    every.dedup();
    // What a profile may be is its file's to say, and no default stands against it.
    let compared = every.into_iter().filter(|key| other.is_some() || !key.starts_with("profiles."));
    let changed = compared.filter(|key| old.get(*key) != new.get(*key));
    Ok(changed
        .map(|key| Change {
            key: key.clone(),
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
            from: origins.of(key),
        })
        .collect())
}

/// Every value by its whole key; lists are values. Of a profile, `profiles.NAME.KEY`.
fn flat(settings: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (key, value) in settings.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            // What a ceremony fixed is no configuration.
            ("authority", _) => {}
            ("profiles", Value::Array(profiles)) => {
                for profile in profiles {
                    let name = profile["name"].as_str().unwrap_or_default();
                    leaves(&format!("profiles.{name}"), profile, &mut all);
                }
            }
            _ => leaves(key, value, &mut all),
        }
    }
    all
}

fn leaves(path: &str, value: &Value, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            table.iter().for_each(|(key, value)| leaves(&format!("{path}.{key}"), value, all));
        }
        // Not set, in one way or the other.
        Value::Null => {}
        value => drop(all.insert(path.to_owned(), value.clone())),
    }
}

fn settings(file: &Path) -> Result<Value, Failure> {
    crate::config::load(file).and_then(|config| config.to_json()).map_err(failed)
}

fn origins(file: &Path) -> Result<Origins, Failure> {
    Origins::read(file).map_err(failed)
}

fn failed(error: ConfigError) -> Failure {
    Failure::operator(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(file: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-config").join(file)
    }

    /// The line of a shipped file that begins so.
    fn line(file: &str, begins: &str) -> String {
        let text = std::fs::read_to_string(shipped(file)).unwrap();
        let at = text.lines().position(|line| line.starts_with(begins)).unwrap();
        format!("{file}:{}", at + 1)
    }

    #[test]
    fn a_key_is_explained_with_its_value_and_where_it_comes_from() {
        let lab = shipped("board/lab.toml");
        let explain = |key: &str| -> Vec<String> {
            explained(key, &lab).unwrap().iter().map(Explained::text).collect()
        };
        let told = explain("web.connections-per-peer").concat();
        let place = line("fragment/lab.toml", "connections-per-peer");
        for part in ["value    1024\n", &place, "default  256\n", "1–65536\n", "the web process;"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        // Overridden by the board, said in the token's file, by default, in each profile.
        let told = explain("board.production").concat();
        assert!(told.contains("value    false\n") && told.contains("board/lab.toml:"), "{told}");
        let told = explain("token.threads").concat();
        assert!(told.contains("hsm/token/softhsm2.toml:"), "{told}");
        let told = explain("log.segment-mib").concat();
        assert!(told.contains("value    16\n") && told.contains("no file says it"), "{told}");
        let told = explain("profile.lifetime-hours").concat();
        assert!(told.contains("server: ") && told.contains("short-lived: "), "{told}");
        assert_eq!(explain("web.limits").len(), explain("[web.limits]").len());
        assert!(explain("web.limits").len() > 10 && explain("token").len() > 5);
        let unknown = explained("web.conections", &lab).err().unwrap();
        assert!(unknown.text.starts_with("CHY-CONFIG-KEY: "), "{}", unknown.text);
        assert!(unknown.text.contains("`web.connections`"), "{}", unknown.text);
    }

    #[test]
    fn what_is_not_as_shipped_and_what_another_file_would_change() {
        let text = |file: &str, other: Option<&str>| -> Vec<String> {
            let other = other.map(shipped);
            let changes = changes(&shipped(file), other.as_deref()).unwrap();
            changes.iter().map(Change::text).collect()
        };
        let place = line("fragment/lab.toml", "connections-per-peer");
        let own = text("board/lab.toml", None);
        let is = |line: &&String| line.starts_with("web.connections-per-peer: 256 -> 1024  (");
        assert!(own.iter().find(is).is_some_and(|line| line.contains(&place)), "{own:?}");
        for absent in ["web.connections:", "web.order-hours", "profiles.", "authority"] {
            assert!(!own.iter().any(|line| line.starts_with(absent)), "{absent}: {own:?}");
        }
        assert!(text("board/lab.toml", Some("board/lab.toml")).is_empty());
        let there = text("board/lab.toml", Some("board/qemu.toml"));
        let back = text("board/qemu.toml", Some("board/lab.toml"));
        assert_eq!(there.len(), back.len());
        assert!(there.iter().any(|line| line.starts_with("issuer.clock-jump-hours: 24 -> 168  (")));
        assert!(back.iter().any(|line| line.starts_with("issuer.clock-jump-hours: 168 -> 24")));
    }
}
