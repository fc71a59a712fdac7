//! A record's fields as people and programs read them, from the record's own serialization: a new variant
//! needs nothing here.
//!
//! Fields keep their names and their order. Digests, keys, signatures and serials are hexadecimal, ids are as
//! in URLs, instants are RFC 3339 with milliseconds, an enum is its variant's name in lower case, or a table with
//! that name as its one key. Nothing is left out: the octets of the record follow from its fields.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::ser::{self, Serialize, SerializeMap, Serializer};

use crate::id::{Timestamp, hex};
use crate::log::record::Record;

/// One value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Field {
    None,
    Flag(bool),
    Number(u64),
    Text(String),
    /// Shown in hexadecimal.
    Octets(Vec<u8>),
    List(Vec<Self>),
    Table(Vec<(String, Self)>),
}

/// The variant's name and its fields, in their order.
pub(super) fn of(record: &Record) -> Result<(String, Vec<(String, Field)>), NotShown> {
    match record.serialize(ToField)? {
        Field::Table(mut variant) => match variant.pop() {
            Some((name, Field::Table(fields))) => Ok((name, fields)),
            _ => Err(NotShown),
        },
        _ => Err(NotShown),
    }
}

impl Field {
    /// On one line, for people; a table's or list's parts are for `flatten`.
    fn plain(&self) -> Option<String> {
        match self {
            Self::None => Some("-".into()),
            Self::Flag(flag) => Some(if *flag { "yes" } else { "no" }.into()),
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => Some(super::describe::printable(text)),
            Self::Octets(octets) => Some(hex(octets)),
            Self::List(list) if list.is_empty() => Some("-".into()),
            Self::List(list) => {
                let text = |item: &Self| match item {
                    Self::Text(text) => Some(super::describe::printable(text)),
                    _ => None,
                };
                list.iter().map(text).collect::<Option<Vec<_>>>().map(|all| all.join(" "))
            }
            Self::Table(_) => None,
        }
    }

    /// Every value with its path, such as `validations.0.method`.
    pub(super) fn flatten(&self, path: &str, out: &mut Vec<(String, String)>) {
        match (self.plain(), self) {
            (Some(text), _) => out.push((path.to_owned(), text)),
            (None, Self::List(list)) => {
                for (n, item) in list.iter().enumerate() {
                    item.flatten(&format!("{path}.{n}"), out);
                }
            }
            (None, Self::Table(table)) => {
                for (name, field) in table {
                    field.flatten(&format!("{path}.{name}"), out);
                }
            }
            (None, _) => {}
        }
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_none(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Octets(octets) => serializer.serialize_str(&hex(octets)),
            Self::List(list) => list.serialize(serializer),
            Self::Table(table) => {
                let mut map = serializer.serialize_map(Some(table.len()))?;
                for (name, field) in table {
                    map.serialize_entry(name, field)?;
                }
                map.end()
            }
        }
    }
}

/// A type that no record has.
#[derive(Debug)]
pub(super) struct NotShown;

impl fmt::Display for NotShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no form for this is known")
    }
}

impl std::error::Error for NotShown {}

impl ser::Error for NotShown {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

struct ToField;

/// What has been collected of something composed.
struct Parts {
    /// Of an enum with fields, the variant.
    variant: Option<&'static str>,
    /// A tuple: all octets, it is shown as such.
    tuple: bool,
    list: Vec<Field>,
    table: Vec<(String, Field)>,
}

impl Parts {
    fn new(variant: Option<&'static str>, tuple: bool) -> Self {
        Self { variant, tuple, list: Vec::new(), table: Vec::new() }
    }

    fn named(self) -> Field {
        let table = Field::Table(self.table);
        match self.variant {
            Some(name) => Field::Table(vec![(name.to_lowercase(), table)]),
            None => table,
        }
    }
}

impl Serializer for ToField {
    type Ok = Field;
    type Error = NotShown;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = ser::Impossible<Field, NotShown>;
    type SerializeTupleVariant = ser::Impossible<Field, NotShown>;
    type SerializeMap = ser::Impossible<Field, NotShown>;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    fn serialize_bool(self, v: bool) -> Result<Field, NotShown> {
        Ok(Field::Flag(v))
    }
    fn serialize_u8(self, v: u8) -> Result<Field, NotShown> {
        Ok(Field::Number(v.into()))
    }
    fn serialize_u16(self, v: u16) -> Result<Field, NotShown> {
        Ok(Field::Number(v.into()))
    }
    fn serialize_u32(self, v: u32) -> Result<Field, NotShown> {
        Ok(Field::Number(v.into()))
    }
    fn serialize_u64(self, v: u64) -> Result<Field, NotShown> {
        Ok(Field::Number(v))
    }
    fn serialize_str(self, v: &str) -> Result<Field, NotShown> {
        Ok(Field::Text(v.to_owned()))
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<Field, NotShown> {
        Ok(Field::Octets(v.to_vec()))
    }
    fn serialize_none(self) -> Result<Field, NotShown> {
        Ok(Field::None)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Field, NotShown> {
        value.serialize(self)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Field, NotShown> {
        Ok(Field::Text(variant.to_lowercase()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Field, NotShown> {
        Ok(match (name, value.serialize(Self)?) {
            ("Timestamp", Field::Number(ms)) => Field::Text(instant(Timestamp(ms))),
            ("AccountId" | "OrderId", Field::Octets(octets)) => {
                Field::Text(Base64UrlUnpadded::encode_string(&octets))
            }
            (_, other) => other,
        })
    }
    /// Of the record itself: the name is kept as it is.
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Field, NotShown> {
        Ok(Field::Table(vec![(variant.to_owned(), value.serialize(self)?)]))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, NotShown> {
        Ok(Parts::new(None, false))
    }
    fn serialize_tuple(self, _: usize) -> Result<Parts, NotShown> {
        Ok(Parts::new(None, true))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts, NotShown> {
        Ok(Parts::new(None, false))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, NotShown> {
        Ok(Parts::new(Some(variant), false))
    }

    // No record has these.
    fn serialize_i8(self, _: i8) -> Result<Field, NotShown> {
        Err(NotShown)
    }
    fn serialize_i16(self, _: i16) -> Result<Field, NotShown> {
        Err(NotShown)
    }
    fn serialize_i32(self, _: i32) -> Result<Field, NotShown> {
        Err(NotShown)
    }
    fn serialize_i64(self, _: i64) -> Result<Field, NotShown> {
        Err(NotShown)
    }
    fn serialize_f32(self, _: f32) -> Result<Field, NotShown> {
        Err(NotShown)
    }
    fn serialize_f64(self, _: f64) -> Result<Field, NotShown> {
        Err(NotShown)
    }
    fn serialize_char(self, _: char) -> Result<Field, NotShown> {
        Err(NotShown)
    }
    fn serialize_unit(self) -> Result<Field, NotShown> {
        Err(NotShown)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Field, NotShown> {
        Err(NotShown)
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, NotShown> {
        Err(NotShown)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, NotShown> {
        Err(NotShown)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, NotShown> {
        Err(NotShown)
    }
}

impl ser::SerializeSeq for Parts {
    type Ok = Field;
    type Error = NotShown;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotShown> {
        self.list.push(value.serialize(ToField)?);
        Ok(())
    }
    fn end(self) -> Result<Field, NotShown> {
        let octets = |field: &Field| match field {
            Field::Number(number) => u8::try_from(*number).ok(),
            _ => None,
        };
        match self.list.iter().map(octets).collect::<Option<Vec<u8>>>() {
            Some(octets) if self.tuple => Ok(Field::Octets(octets)),
            _ => Ok(Field::List(self.list)),
        }
    }
}

impl ser::SerializeTuple for Parts {
    type Ok = Field;
    type Error = NotShown;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotShown> {
        ser::SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<Field, NotShown> {
        ser::SerializeSeq::end(self)
    }
}

impl ser::SerializeStruct for Parts {
    type Ok = Field;
    type Error = NotShown;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), NotShown> {
        self.table.push((key.to_owned(), value.serialize(ToField)?));
        Ok(())
    }
    fn end(self) -> Result<Field, NotShown> {
        Ok(self.named())
    }
}

impl ser::SerializeStructVariant for Parts {
    type Ok = Field;
    type Error = NotShown;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), NotShown> {
        ser::SerializeStruct::serialize_field(self, key, value)
    }
    fn end(self) -> Result<Field, NotShown> {
        Ok(self.named())
    }
}

/// RFC 3339 with milliseconds.
pub(super) fn instant(at: Timestamp) -> String {
    let seconds = at.to_string();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), at.0 % 1000)
}
