//! Where a value was written.

use std::path::Path;

use super::tree::{self, Node, Value};
use super::{ConfigError, effective};

/// The lines of a configuration's files, by key.
pub struct Origins {
    root: Node,
}

impl Origins {
    /// Reads the same files as [`super::load`]; judges nothing.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let mut reading = tree::read(file)?;
        effective::resolve_token(&mut reading)?;
        Ok(Self { root: reading.root })
    }

    /// File and line of the value that counts, `FILE:LINE`; of one inside a list of tables, of the first. `None`: no
    /// file says it.
    pub fn of(&self, key: &str) -> Option<String> {
        let path: Vec<&str> = key.split('.').collect();
        find(&self.root, &path).map(|node| node.place.to_string())
    }
}

fn find<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Node> {
    let Some((first, rest)) = path.split_first() else { return Some(node) };
    match &node.value {
        Value::Table(table) => find(&table.get(*first)?.1, rest),
        Value::Array(items) => items.iter().find_map(|item| find(item, path)),
        _ => None,
    }
}
