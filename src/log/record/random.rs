//! Any record at all, by the types' own `Deserialize`: a new variant needs nothing here.

use std::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, SeqAccess,
    VariantAccess, Visitor,
};

use super::Record;

/// The same seed gives the same record. The encoding is that of a leaf, small.
pub(crate) fn record(seed: u64) -> Record {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    Record::deserialize(&mut dice).unwrap()
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.throw() >> 32) % end
    }

    /// Of any length in binary digits, up to `bits`.
    fn integer(&mut self, bits: u64) -> u64 {
        let shift = 64 - bits + self.below(bits + 1);
        self.throw().checked_shr(shift as u32).unwrap_or(0)
    }

    fn octets(&mut self) -> Vec<u8> {
        let length = [0, 1, 5, 127, 128, 300][self.below(6) as usize];
        (0..length).map(|_| self.throw() as u8).collect()
    }

    fn text(&mut self) -> String {
        let letter = |dice: &mut Self| match dice.below(8) {
            0 => char::from(dice.below(32) as u8),
            1 => char::from_u32(dice.below(0x11_0000) as u32).unwrap_or('\u{fffd}'),
            2 => ['"', '\\', '\u{7f}', 'é', '\u{2028}'][dice.below(5) as usize],
            _ => char::from(b'a' + dice.below(26) as u8),
        };
        let length = [0, 1, 9, 60][self.below(4) as usize];
        (0..length).map(|_| letter(self)).collect()
    }
}

macro_rules! plain {
    ($($method:ident $visit:ident $throw:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
            let throw: fn(&mut Dice) -> _ = $throw;
            visitor.$visit(throw(self))
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Dice {
    type Error = Odd;

    plain! {
        deserialize_bool visit_bool |dice| dice.below(2) == 1;
        deserialize_u8 visit_u8 |dice| dice.integer(8) as u8;
        deserialize_u16 visit_u16 |dice| dice.integer(16) as u16;
        deserialize_u32 visit_u32 |dice| dice.integer(32) as u32;
        deserialize_u64 visit_u64 |dice| dice.integer(64);
        deserialize_str visit_string Dice::text;
        deserialize_string visit_string Dice::text;
        deserialize_bytes visit_byte_buf Dice::octets;
        deserialize_byte_buf visit_byte_buf Dice::octets;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        if self.below(3) == 0 { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        let left = [0, 1, 2, 130][self.below(4) as usize];
        visitor.visit_seq(Several { dice: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, Odd> {
        visitor.visit_seq(Several { dice: self, left })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Odd> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        visitor.visit_seq(Several { dice: self, left: fields.len() })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        let number = self.below(variants.len() as u64) as u32;
        visitor.visit_enum(Variant { dice: self, number })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Odd> {
        Err(Odd)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char unit unit_struct tuple_struct map identifier ignored_any
    }
}

struct Several<'a> {
    dice: &'a mut Dice,
    left: usize,
}

impl<'de> SeqAccess<'de> for Several<'_> {
    type Error = Odd;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Odd> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.dice).map(Some)
    }
}

struct Variant<'a> {
    dice: &'a mut Dice,
    number: u32,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Odd;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Odd> {
        let number: U32Deserializer<Odd> = self.number.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Odd;

    fn unit_variant(self) -> Result<(), Odd> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Odd> {
        seed.deserialize(self.dice)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Odd> {
        Err(Odd)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        visitor.visit_seq(Several { dice: self.dice, left: fields.len() })
    }
}

/// A type that no record has.
#[derive(Debug)]
struct Odd;

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type that no record has")
    }
}

impl std::error::Error for Odd {}

impl de::Error for Odd {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}
