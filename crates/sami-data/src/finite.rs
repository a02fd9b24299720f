//! Numbers that are not finite, found before they are written: JSON has no word for them, and a `null` in
//! their place could not be read back.

use std::fmt;

use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// A number that no file of ours may hold.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field} is {value}, which is not a finite number")]
pub struct NotFinite {
    /// Where it stands, for example `mi.constitutions` or `sum[0][1]`.
    pub field: String,
    /// `NaN`, `inf` or `-inf`.
    pub value: String,
}

/// Refuses a value that holds a number which is not finite.
///
/// # Errors
///
/// The first such number, with its field.
pub fn check_finite<T: Serialize + ?Sized>(value: &T) -> Result<(), NotFinite> {
    let mut walk = Walk { path: Vec::new(), key: None };
    match value.serialize(&mut walk) {
        Err(Stop::Found(found)) => Err(found),
        // Whatever else keeps a value from being serialized is for its serializer to say.
        Ok(()) | Err(Stop::Other) => Ok(()),
    }
}

/// Reads a number, or the `null` that earlier versions wrote for one that was not finite, as NaN.
pub(crate) fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// What ends the walk early.
#[derive(Debug)]
enum Stop {
    Found(NotFinite),
    Other,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(found) => found.fmt(f),
            Self::Other => f.write_str("the value cannot be serialized"),
        }
    }
}

impl std::error::Error for Stop {}

impl serde::ser::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }
}

/// A serializer that writes nothing and remembers where it is.
struct Walk {
    path: Vec<String>,
    /// A map's latest key.
    key: Option<String>,
}

impl Walk {
    fn number(&self, value: f64) -> Result<(), Stop> {
        if value.is_finite() {
            return Ok(());
        }
        let field = if self.path.is_empty() { "the value".to_owned() } else { self.path.concat() };
        let field = field.strip_prefix('.').unwrap_or(&field).to_owned();
        Err(Stop::Found(NotFinite { field, value: value.to_string() }))
    }

    fn enter<T: Serialize + ?Sized>(&mut self, step: String, value: &T) -> Result<(), Stop> {
        self.path.push(step);
        value.serialize(&mut *self)?;
        self.path.pop();
        Ok(())
    }
}

/// A list, and the index of its next item.
struct Items<'a> {
    walk: &'a mut Walk,
    next: usize,
}

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        let step = format!("[{}]", self.next);
        self.next += 1;
        self.walk.enter(step, value)
    }
}

/// Methods that have nothing to look into.
macro_rules! nothing {
    ($($method:ident: $kind:ty),* $(,)?) => {
        $(fn $method(self, _: $kind) -> Result<(), Stop> { Ok(()) })*
    };
}

impl<'a> Serializer for &'a mut Walk {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = &'a mut Walk;
    type SerializeStruct = &'a mut Walk;
    type SerializeStructVariant = &'a mut Walk;

    nothing!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_i128: i128, serialize_u8: u8, serialize_u16: u16,
        serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    );

    fn serialize_f32(self, value: f32) -> Result<(), Stop> {
        self.number(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<(), Stop> {
        self.number(value)
    }

    fn serialize_char(self, value: char) -> Result<(), Stop> {
        self.key = Some(value.to_string());
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Stop> {
        self.key = Some(value.to_owned());
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Stop> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        self.enter(format!(".{variant}"), value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Stop> {
        Ok(Items { walk: self, next: 0 })
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'a>, Stop> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, Stop> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Items<'a>, Stop> {
        self.serialize_seq(None)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<&'a mut Walk, Stop> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<&'a mut Walk, Stop> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<&'a mut Walk, Stop> {
        Ok(self)
    }
}

/// Lists of all kinds.
macro_rules! items {
    ($($which:ident $method:ident),*) => {
        $(impl $which for Items<'_> {
            type Ok = ();
            type Error = Stop;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
                self.item(value)
            }
            fn end(self) -> Result<(), Stop> {
                Ok(())
            }
        })*
    };
}

items!(
    SerializeSeq serialize_element, SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field
);

/// Named fields of all kinds.
macro_rules! fields {
    ($($which:ident),*) => {
        $(impl $which for &mut Walk {
            type Ok = ();
            type Error = Stop;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Stop> {
                self.enter(format!(".{name}"), value)
            }
            fn end(self) -> Result<(), Stop> {
                Ok(())
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for &mut Walk {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        let key = self.key.take().ok_or_else(|| Stop::custom("a key that is no text"))?;
        self.enter(format!(".{key}"), value)
    }

    fn end(self) -> Result<(), Stop> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    struct Inner {
        mean: f64,
        error: Option<f64>,
    }

    #[derive(Serialize)]
    struct Outer {
        name: &'static str,
        #[serde(flatten)]
        inner: Inner,
        rows: Vec<Vec<f32>>,
        by_name: BTreeMap<String, Inner>,
        kind: Kind,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
        Scaled { factor: f64 },
        Pair(f64, f64),
    }

    fn value() -> Outer {
        let inner = || Inner { mean: -0.0, error: Some(f64::MIN_POSITIVE / 2.0) };
        Outer {
            name: "NaN",
            inner: inner(),
            rows: vec![vec![1.0], vec![f32::MIN_POSITIVE, f32::MAX]],
            by_name: BTreeMap::from([("harmless".to_owned(), inner())]),
            kind: Kind::Plain,
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_wherever_it_stands() {
        assert_eq!(check_finite(&value()), Ok(()));
        let found = |change: &dyn Fn(&mut Outer)| {
            let mut changed = value();
            change(&mut changed);
            check_finite(&changed).unwrap_err().to_string()
        };
        let not = "which is not a finite number";
        assert_eq!(found(&|v| v.inner.mean = f64::NAN), format!("mean is NaN, {not}"));
        assert_eq!(found(&|v| v.inner.error = Some(f64::INFINITY)), format!("error is inf, {not}"));
        assert_eq!(found(&|v| v.rows[1][0] = f32::NEG_INFINITY), format!("rows[1][0] is -inf, {not}"));
        let harmless = |v: &mut Outer| v.by_name.values_mut().for_each(|one| one.mean = f64::NAN);
        assert_eq!(found(&harmless), format!("by_name.harmless.mean is NaN, {not}"));
        assert_eq!(
            found(&|v| v.kind = Kind::Scaled { factor: f64::NAN }),
            format!("kind.factor is NaN, {not}")
        );
        assert_eq!(found(&|v| v.kind = Kind::Pair(0.0, f64::NAN)), format!("kind[1] is NaN, {not}"));
    }

    #[test]
    fn plain_values_pass() {
        assert_eq!(check_finite(&json!({"a": [1, 2.5, null, "x", true], "b": {}})), Ok(()));
        assert_eq!(check_finite(&()), Ok(()));
        assert_eq!(check_finite(&f64::NAN).unwrap_err().field, "the value");
    }
}
