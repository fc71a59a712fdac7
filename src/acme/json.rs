//! JSON as this server reads and writes it: objects where objects are due, no member twice.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Reads `T` from a JSON object only. serde's derived structs also accept an array of their
/// members in order, which no RFC means.
#[derive(Clone, Debug, Default)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// Parses one JSON object, and nothing after it.
pub(super) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<Object<T>>(bytes).map(|object| object.0)
}

/// For `deserialize_with`, with `default`: a member that is present has a value; `null` is not absence.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// The JSON text of a value whose map keys are all strings.
pub(super) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("string keys and no fallible Serialize: cannot fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    struct Pair {
        a: u8,
        #[serde(default, deserialize_with = "present")]
        b: Option<u8>,
    }

    #[test]
    fn objects_only_and_null_is_not_absence() {
        let pair: Pair = object(br#"{"a":1,"other":[]}"#).unwrap();
        assert_eq!((pair.a, pair.b), (1, None));
        assert_eq!(object::<Pair>(br#"{"a":1,"b":2}"#).unwrap().b, Some(2));
        for bad in ["[1,2]", r#"{"a":1,"b":null}"#, r#"{"a":1,"a":1}"#, r#"{"a":1}x"#, ""] {
            assert!(object::<Pair>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Vec<Object<Pair>>>("[[1,2]]").is_err());
    }
}
