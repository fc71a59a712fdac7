//! From the tree into any `Deserialize`, with errors that name the file, the line, the key, and for an unknown
//! key the one that was probably meant.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::tree::{Node, Place, Value};
use super::{ConfigError, nearest};

/// Decodes a whole tree.
pub(super) fn decode<T: DeserializeOwned>(root: &Node) -> Result<T, ConfigError> {
    T::deserialize(root).map_err(|error| {
        let place = error.place.as_ref().unwrap_or(&root.place);
        let path: Vec<&str> = error.path.iter().rev().map(String::as_str).collect();
        let (code, what) = (&error.code, &error.what);
        ConfigError(match path.join(".") {
            path if path.is_empty() => format!("{code}: {place}: {what}"),
            path => format!("{code}: {place}: `{path}`: {what}"),
        })
    })
}

/// What is wrong, and, once known, where.
#[derive(Debug)]
pub(super) struct Error {
    code: String,
    what: String,
    place: Option<Place>,
    /// Keys from the innermost outwards.
    path: Vec<String>,
}

impl Error {
    fn new(code: &str, what: String) -> Self {
        Self { code: code.to_owned(), what, place: None, path: Vec::new() }
    }

    fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    fn below(mut self, key: &str) -> Self {
        self.path.push(key.to_owned());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(what: T) -> Self {
        let what = what.to_string();
        // A room that judges a value of its own may have a code of its own.
        match what.split_once(": ") {
            Some((code, rest)) if code.starts_with("CHY-") => Self::new(code, rest.to_owned()),
            _ => Self::new("CHY-CONFIG-VALUE", what),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new("CHY-CONFIG-VALUE", format!("{found} where {expected} was expected"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = match nearest(field, expected.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if expected.is_empty() => "no key may stand here".to_owned(),
            None => format!("the keys are {}", expected.join(", ")),
        };
        Self::new("CHY-CONFIG-KEY", format!("no such key; {hint}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = match nearest(variant, expected.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it takes one of {}", expected.join(", ")),
        };
        Self::new("CHY-CONFIG-VALUE", format!("`{variant}` is not known; {hint}"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("CHY-CONFIG-KEY", format!("the key `{field}` is missing"))
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Integer(integer) => visitor.visit_i64(*integer),
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter() }),
            Value::Table(table) => {
                visitor.visit_map(Entries { entries: table.iter(), value: None })
            }
        }
        .map_err(|error| error.at(&self.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(StrDeserializer::<Error>::new(text)),
            Value::Table(table) if table.len() == 1 => {
                visitor.visit_enum(de::value::MapAccessDeserializer::new(Entries {
                    entries: table.iter(),
                    value: None,
                }))
            }
            _ => Err(Error::new(
                "CHY-CONFIG-VALUE",
                "a name, or a table with exactly one key, was expected".to_owned(),
            )),
        }
        .map_err(|error| error.at(&self.place))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.items
            .next()
            .map(|node| seed.deserialize(node).map_err(|e| e.at(&node.place)))
            .transpose()
    }
}

struct Entries<'de> {
    entries: std::collections::btree_map::Iter<'de, String, (Place, Node)>,
    value: Option<(&'de str, &'de Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, (place, node))) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, node));
        let deserializer: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        seed.deserialize(deserializer).map(Some).map_err(|error| error.at(place).below(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Some((key, node)) => {
                seed.deserialize(node).map_err(|error| error.at(&node.place).below(key))
            }
            None => Err(de::Error::custom("a value without a key")),
        }
    }
}
