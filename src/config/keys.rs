//! Every key: what it means, what it takes, its default and who applies it.
//!
//! The page for operators is `keys.md` beside this file, with the defaults that the program has put in; as
//! `firmware-config/README.md` it is written by `make docs`. `chancery config explain` reads the same rows.

use serde_json::{Value, json};

const PAGE: &str = include_str!("keys.md");

/// Stands in the page for a default that is the program's own.
const DERIVED: &str = "{}";

/// One row of the page. Text is Markdown, of one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// Tables and key with dots between; `profile.` for those of a profile's file.
    pub key: &'static str,
    pub means: &'static str,
    /// Unit and range.
    pub takes: &'static str,
    pub default: String,
    /// `operator`, `issuer` or `web`.
    pub applied_by: &'static str,
}

/// All of them, in the order of the page.
pub fn keys() -> Vec<Key> {
    let defaults = defaults();
    PAGE.lines().filter_map(|line| Key::of(line, &defaults)).collect()
}

/// The page with every default filled in.
pub fn page() -> String {
    let defaults = defaults();
    let lines = PAGE.lines().map(|line| match Key::of(line, &defaults) {
        Some(Key { key, means, takes, default, applied_by }) => {
            format!("| `{key}` | {means} | {takes} | {default} | {applied_by} |\n")
        }
        None => format!("{line}\n"),
    });
    lines.collect()
}

impl Key {
    fn of(line: &'static str, defaults: &Value) -> Option<Self> {
        let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let mut cells = rest.strip_suffix(" |")?.rsplitn(4, " | ");
        let (applied_by, default, takes) = (cells.next()?, cells.next()?, cells.next()?);
        let default = match default {
            DERIVED => written(&at(defaults, key)),
            text => text.to_owned(),
        };
        Some(Self { key, means: cells.next()?, takes, default, applied_by })
    }
}

/// What is in force where no file says anything else; what must be said is left out.
pub fn defaults() -> Value {
    let token: Option<crate::hsm::pool::Settings> =
        serde_json::from_value(json!({ "module": "" })).ok();
    let mut defaults = json!({
        "board": super::effective::Board::default(),
        "token": token,
        "process": super::process::Settings::default(),
        "web": crate::web::Settings::default(),
        "issuer": crate::issuer::Settings::default(),
        "log": crate::log::Settings::default(),
        "validation": crate::validate::Settings::default(),
        "policy": crate::pki::policy::Settings::default(),
    });
    if let Some(token) = defaults["token"].as_object_mut() {
        token.remove("module");
    }
    defaults
}

/// The value of a key; of one inside a list of tables, a list of what each has. Null if there is none.
pub fn at(settings: &Value, key: &str) -> Value {
    let (first, rest) =
        key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let inner = match settings {
        Value::Array(items) => {
            let each = items.iter().map(|item| at(item, key)).filter(|value| !value.is_null());
            return Value::Array(each.collect());
        }
        settings => settings.get(first).unwrap_or(&Value::Null),
    };
    match rest {
        Some(rest) => at(inner, rest),
        None => inner.clone(),
    }
}

/// A value for people.
pub fn written(value: &Value) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Null => "none".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => plain(other),
    }
}
