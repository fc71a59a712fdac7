//! The shape of the stored types, told by their own `Deserialize`: what a reader must know, and a tripwire
//! for whoever would reorder a variant, change a field or let serde skip one.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, SeqAccess,
    VariantAccess, Visitor,
};

use super::{Actor, PreviousEnd, Record, Requester, ShownBy};

/// One line for each type, and one for each variant of an enum, sorted.
fn shapes() -> Vec<String> {
    let mut all = Shapes::default();
    all.each::<Record>("Record");
    all.each::<Requester>("Requester");
    all.each::<Actor>("Actor");
    all.each::<PreviousEnd>("PreviousEnd");
    all.each::<ShownBy>("ShownBy");
    assert!(all.enums.is_empty(), "walk these too: {:?}", all.enums);
    // Struct and type before the enums, and the enums in the order of their numbers.
    let mut lines: Vec<String> = all.lines.into_iter().collect();
    lines.sort_by_key(|line| {
        let mut words = line.split(' ');
        let (kind, name) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let number: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
        (kind, name, number)
    });
    lines
}

/// `tests/golden/schema.txt` states the shape for ever. A line that differs or is missing is a change of format:
/// add a variant instead. `BLESS=1` adds lines that are new, never others.
#[test]
fn the_shape_of_what_is_stored_never_changes() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schema.txt");
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let known: BTreeSet<&str> = golden.lines().collect();
    let now = shapes();
    for line in &known {
        assert!(now.iter().any(|other| other == line), "the format was changed: {line}");
    }
    let text: String = now.iter().map(|line| format!("{line}\n")).collect();
    if std::env::var_os("BLESS").is_some() && golden != text {
        std::fs::write(&path, &text).unwrap();
    } else {
        assert_eq!(golden, text, "new in the format; BLESS=1 adds it");
    }
}

#[test]
fn a_shape_says_what_matters_on_the_wire() {
    let lines = shapes();
    for line in [
        "enum Record 2 IntentV1(IntentV1)",
        "enum Requester 0 Order { order: OrderId, account: AccountId, jws_sha256: [u8; 32] }",
        "enum Requester 1 Own",
        "struct ValidationV1 { identifier: string, method: string, at: Timestamp }",
        "struct RefusalV1 { asked: string, why: string, account: option<AccountId>, count: u64 }",
        "type OrderId = [u8; 16]",
        "type Timestamp = u64",
    ] {
        assert!(lines.iter().any(|other| other == line), "{line}\n{lines:#?}");
    }
}

#[derive(Default)]
struct Shapes {
    lines: BTreeSet<String>,
    /// Enums that were met and not walked yet.
    enums: BTreeSet<&'static str>,
}

impl Shapes {
    /// Every variant of one enum.
    fn each<T: for<'a> Deserialize<'a>>(&mut self, name: &'static str) {
        let mut number = 0;
        loop {
            let mut tracer = Tracer { all: self, top: Some(number), text: String::new(), of: 0 };
            T::deserialize(&mut tracer).unwrap();
            let (text, of) = (tracer.text, tracer.of);
            self.lines.insert(format!("enum {name} {number} {text}"));
            number += 1;
            if number == of {
                break;
            }
        }
        self.enums.remove(name);
    }
}

/// Answers every question with something small, and writes down what was asked.
struct Tracer<'a> {
    all: &'a mut Shapes,
    /// The variant to take of the first enum; of those inside the first is taken.
    top: Option<u32>,
    text: String,
    /// Variants of the first enum.
    of: u32,
}

impl Tracer<'_> {
    /// What `inner` asks for, as text.
    fn apart<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<(S::Value, String), Odd> {
        let mut tracer = Tracer { all: self.all, top: None, text: String::new(), of: 0 };
        let value = seed.deserialize(&mut tracer)?;
        Ok((value, tracer.text))
    }

    fn fields<'de, V: Visitor<'de>>(
        &mut self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<(V::Value, String), Odd> {
        let mut parts = Parts { tracer: self, left: names.len(), texts: Vec::new() };
        let value = visitor.visit_seq(&mut parts)?;
        let texts: Vec<String> =
            names.iter().zip(parts.texts).map(|(name, text)| format!("{name}: {text}")).collect();
        assert_eq!(texts.len(), names.len(), "serde skips a field of {names:?}");
        Ok((value, format!("{{ {} }}", texts.join(", "))))
    }
}

macro_rules! plain {
    ($($method:ident $name:literal $visit:ident $value:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
            self.text.push_str($name);
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Tracer<'_> {
    type Error = Odd;

    plain! {
        deserialize_bool "bool" visit_bool false;
        deserialize_u8 "u8" visit_u8 0;
        deserialize_u16 "u16" visit_u16 0;
        deserialize_u32 "u32" visit_u32 0;
        deserialize_u64 "u64" visit_u64 0;
        deserialize_str "string" visit_str "";
        deserialize_string "string" visit_str "";
        deserialize_bytes "bytes" visit_bytes &[];
        deserialize_byte_buf "bytes" visit_bytes &[];
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        self.text.push_str("option<");
        let value = visitor.visit_some(&mut *self)?;
        self.text.push('>');
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        let mut parts = Parts { tracer: self, left: 1, texts: Vec::new() };
        let value = visitor.visit_seq(&mut parts)?;
        let text = parts.texts.concat();
        self.text.push_str(&format!("list<{text}>"));
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Odd> {
        let mut parts = Parts { tracer: self, left: length, texts: Vec::new() };
        let value = visitor.visit_seq(&mut parts)?;
        let text = parts.texts.first().cloned().unwrap_or_default();
        self.text.push_str(&format!("[{text}; {length}]"));
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Odd> {
        let mut tracer = Tracer { all: self.all, top: None, text: String::new(), of: 0 };
        let value = visitor.visit_newtype_struct(&mut tracer)?;
        let text = tracer.text;
        self.all.lines.insert(format!("type {name} = {text}"));
        self.text.push_str(name);
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        let (value, text) = self.fields(fields, visitor)?;
        self.all.lines.insert(format!("struct {name} {text}"));
        self.text.push_str(name);
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        match self.top.take() {
            Some(number) => {
                self.of = u32::try_from(variants.len()).unwrap();
                self.text.push_str(variants[number as usize]);
                visitor.visit_enum(Variant { tracer: self, number })
            }
            None => {
                self.all.enums.insert(name);
                self.text.push_str(name);
                let mut tracer = Tracer { all: self.all, top: None, text: String::new(), of: 0 };
                visitor.visit_enum(Variant { tracer: &mut tracer, number: 0 })
            }
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Odd> {
        Err(Odd("a type that does not say what it is".into()))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char unit unit_struct tuple_struct map identifier ignored_any
    }
}

struct Parts<'a, 'b> {
    tracer: &'a mut Tracer<'b>,
    left: usize,
    texts: Vec<String>,
}

impl<'de> SeqAccess<'de> for &mut Parts<'_, '_> {
    type Error = Odd;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Odd> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let (value, text) = self.tracer.apart(seed)?;
        self.texts.push(text);
        Ok(Some(value))
    }
}

struct Variant<'a, 'b> {
    tracer: &'a mut Tracer<'b>,
    number: u32,
}

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = Odd;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Odd> {
        let number: U32Deserializer<Odd> = self.number.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = Odd;

    fn unit_variant(self) -> Result<(), Odd> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Odd> {
        let (value, text) = self.tracer.apart(seed)?;
        self.tracer.text.push_str(&format!("({text})"));
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Odd> {
        Err(Odd("a tuple variant".into()))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        let (value, text) = self.tracer.fields(fields, visitor)?;
        self.tracer.text.push_str(&format!(" {text}"));
        Ok(value)
    }
}

#[derive(Debug)]
struct Odd(String);

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Odd {}

impl de::Error for Odd {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self(why.to_string())
    }
}
