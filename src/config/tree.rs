//! TOML as a tree whose every value knows the file and line it was written on, with inheritance.
//!
//! `inherit = ["base.toml"]` at the head of a file names files, relative to it, whose content comes first.
//! Tables are merged key by key, later wins; everything else, arrays and `pin` too, is
//! replaced whole.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
}

/// The place of a key is where it was last written.
pub(super) type Table = BTreeMap<String, (Place, Node)>;

/// A file and a line of it, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Arc<Path>,
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl Node {
    /// The value below a path of table keys.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| match &node.value {
            Value::Table(table) => table.get(*key).map(|(_, node)| node),
            _ => None,
        })
    }

    pub(super) fn at_mut(&mut self, path: &[&str]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, key| match &mut node.value {
            Value::Table(table) => table.get_mut(*key).map(|(_, node)| node),
            _ => None,
        })
    }

    /// Takes a path in this text as relative to the file it was written in.
    pub(super) fn make_absolute(&mut self) {
        if let Value::Text(text) = &mut self.value {
            *text = beside(&self.place.file, text).display().to_string();
        }
    }

    /// Lays `later` over this.
    pub(super) fn merge(&mut self, later: Self) {
        match (&mut self.value, later.value) {
            (Value::Table(table), Value::Table(more)) => {
                for (key, (place, node)) in more {
                    match table.get_mut(&key) {
                        Some((old_place, old)) => {
                            *old_place = place;
                            if key == CHOICE {
                                *old = node;
                            } else {
                                old.merge(node);
                            }
                        }
                        None => {
                            table.insert(key, (place, node));
                        }
                    }
                }
            }
            (value, other) => {
                *value = other;
                self.place = later.place;
            }
        }
    }
}

/// What a file and all it inherits say together.
pub(super) struct Reading {
    pub(super) root: Node,
    /// Every file read, in order of reading.
    pub(super) files: Vec<Arc<Path>>,
    /// Where a file called itself a fragment that has no place in production.
    pub(super) lab: Vec<Place>,
}

/// Reads `file` and what it inherits.
pub(super) fn read(file: &Path) -> Result<Reading, ConfigError> {
    let mut reading = Reading { root: empty(file), files: Vec::new(), lab: Vec::new() };
    read_into(file, &mut Vec::new(), &mut reading)?;
    Ok(reading)
}

/// Parses one text as if it stood in `file`; an `inherit` in it is left where it is.
pub(super) fn parse(text: &str, file: &Arc<Path>) -> Result<Node, ConfigError> {
    let lines = Lines { text, file };
    let table = DeTable::parse(text).map_err(|error| {
        let place = lines.place(error.span().map_or(0, |span| span.start));
        // The message alone: toml's rendering quotes the line, and a line may hold a secret.
        ConfigError(format!("CHY-CONFIG-SYNTAX: {place}: {}", error.message()))
    })?;
    let span = table.span();
    Ok(Node { value: lines.table(table.into_inner())?, place: lines.place(span.start) })
}

fn read_into(
    file: &Path,
    chain: &mut Vec<PathBuf>,
    reading: &mut Reading,
) -> Result<(), ConfigError> {
    let refuse = |code: &str, why: &dyn fmt::Display| {
        Err(ConfigError(format!("{code}: {}: {why}", file.display())))
    };
    let real = match std::fs::canonicalize(file) {
        Ok(real) => real,
        Err(error) => return refuse("CHY-CONFIG-READ", &error),
    };
    if chain.contains(&real) {
        return refuse("CHY-CONFIG-CYCLE", &"inherits itself, through the files it inherits");
    }
    if chain.len() >= MAX_DEPTH || reading.files.len() >= MAX_FILES {
        return refuse("CHY-CONFIG-CYCLE", &"too many files inherit one another");
    }
    let text = match read_bounded(file) {
        Ok(text) => text,
        Err(error) => return refuse("CHY-CONFIG-READ", &error),
    };
    let name: Arc<Path> = Arc::from(file);
    reading.files.push(Arc::clone(&name));
    let mut root = parse(&text, &name)?;
    if let Some(fragment) = root.at(&["fragment", "lab"])
        && matches!(fragment.value, Value::Boolean(true))
    {
        reading.lab.push(fragment.place.clone());
    }
    let inherited = match &mut root.value {
        Value::Table(table) => table.remove("inherit"),
        _ => None,
    };
    chain.push(real);
    for parent in inherited.map(|(_, node)| texts(node)).transpose()?.unwrap_or_default() {
        read_into(&beside(file, &parent), chain, reading)?;
    }
    chain.pop();
    reading.root.merge(root);
    Ok(())
}

fn texts(node: Node) -> Result<Vec<String>, ConfigError> {
    let place = node.place;
    let wrong = || {
        ConfigError(format!(
            "CHY-CONFIG-VALUE: {place}: `inherit` takes a list of file names: [\"base.toml\"]"
        ))
    };
    let Value::Array(items) = node.value else { return Err(wrong()) };
    items
        .into_iter()
        .map(|item| match item.value {
            Value::Text(text) => Ok(text),
            _ => Err(wrong()),
        })
        .collect()
}

/// `path`, relative to the directory of `file`.
pub(super) fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).join(path)
}

fn read_bounded(file: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file)?.take(MAX_OCTETS + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_OCTETS {
        return Err(std::io::Error::other("longer than 1 MiB"));
    }
    Ok(text)
}

fn empty(file: &Path) -> Node {
    Node { value: Value::Table(Table::new()), place: Place { file: Arc::from(file), line: 1 } }
}

struct Lines<'a> {
    text: &'a str,
    file: &'a Arc<Path>,
}

impl Lines<'_> {
    fn place(&self, octet: usize) -> Place {
        let before = &self.text.as_bytes()[..octet.min(self.text.len())];
        Place {
            file: Arc::clone(self.file),
            line: 1 + before.iter().filter(|octet| **octet == b'\n').count(),
        }
    }

    fn table(&self, table: DeTable<'_>) -> Result<Value, ConfigError> {
        let mut nodes = Table::new();
        for (key, value) in table {
            let place = self.place(key.span().start);
            let node_place = self.place(value.span().start);
            let value = self.value(value.into_inner(), &node_place)?;
            nodes.insert(key.into_inner().into_owned(), (place, Node { value, place: node_place }));
        }
        Ok(Value::Table(nodes))
    }

    fn value(&self, value: DeValue<'_>, place: &Place) -> Result<Value, ConfigError> {
        let wrong =
            |what: &str| ConfigError(format!("CHY-CONFIG-VALUE: {place}: {what} out of range"));
        Ok(match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(integer) => Value::Integer(
                i64::from_str_radix(integer.as_str(), integer.radix())
                    .map_err(|_| wrong("an integer"))?,
            ),
            DeValue::Float(float) => {
                Value::Float(float.as_str().parse().map_err(|_| wrong("a number"))?)
            }
            DeValue::Boolean(boolean) => Value::Boolean(boolean),
            DeValue::Datetime(instant) => Value::Text(instant.to_string()),
            DeValue::Array(items) => Value::Array(
                items
                    .into_iter()
                    .map(|item| {
                        let place = self.place(item.span().start);
                        let value = self.value(item.into_inner(), &place)?;
                        Ok(Node { value, place })
                    })
                    .collect::<Result<_, ConfigError>>()?,
            ),
            DeValue::Table(table) => self.table(table)?,
        })
    }
}

/// A table whose one key chooses among sources: it is replaced whole, or two files would choose two.
const CHOICE: &str = "pin";

/// A configuration file is no longer than this.
const MAX_OCTETS: u64 = 1024 * 1024;
const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 64;
