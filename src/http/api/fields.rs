//! Reading requests field by field, so that a caller hears of everything that is wrong at once.
//!
//! A body is split into its fields' exact text; each is then read by the rule of its type. So a number keeps all its digits
//! (no float is ever made of it), and a field that is unknown, or given twice, is seen.

use super::problem::{Code, Problem};
use crate::{
    amount::{FromNumber, whole_number},
    http::types::FieldError,
    time::{UNIX_MILLIS_MAX, UnixMillis},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{collections::HashSet, fmt, ops::RangeInclusive, str::FromStr};

/// Errors that one answer names: a body of 64 KiB could hold thousands.
const ERRORS_MAX: usize = 64;

/// Where the fields come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Body,
    Query,
}

/// The fields of one request that are not read yet, and what was wrong with those that were.
#[derive(Debug)]
pub(super) struct Fields<V> {
    place: Place,
    given: Vec<(String, V)>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<'a> Fields<&'a RawValue> {
    /// The fields of a JSON body. No body at all is an object without fields.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self::new(Place::Body, Vec::new()));
        }
        match serde_json::from_slice::<RawObject<'a>>(body) {
            Ok(RawObject(given)) => Ok(Self::new(Place::Body, given)),
            Err(error) => {
                Err(Problem::new(Code::MalformedJson, format!("the body is not a JSON object: {error}")))
            }
        }
    }
}

impl Fields<String> {
    /// The parameters of a query.
    pub(super) fn of_query(query: &str) -> Result<Self, Problem> {
        let uri = format!("/?{query}").parse::<axum::http::Uri>();
        let given = uri
            .ok()
            .and_then(|uri| axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).ok())
            .ok_or_else(|| {
                Problem::new(Code::InvalidQuery, "the query cannot be read; send name=value pairs with &")
            })?;
        Ok(Self::new(Place::Query, given.0))
    }
}

/// What a field can hold.
pub(super) trait Given {
    /// Whether it says the same as if the field were not there.
    fn is_nothing(&self) -> bool;
}

impl Given for &RawValue {
    fn is_nothing(&self) -> bool {
        self.get() == "null"
    }
}

impl Given for String {
    fn is_nothing(&self) -> bool {
        false
    }
}

impl<V: Given> Fields<V> {
    fn new(place: Place, given: Vec<(String, V)>) -> Self {
        let mut fields =
            Self { place, given: Vec::with_capacity(given.len()), known: Vec::new(), errors: Vec::new() };
        // A set, so that a body of many thousand fields costs no more than its bytes.
        let mut seen = HashSet::new();
        for (name, value) in given {
            if seen.insert(name.clone()) {
                fields.given.push((name, value));
            } else {
                fields.error(&name, "is given more than once");
            }
        }
        fields
    }

    fn error(&mut self, name: &str, detail: impl Into<String>) {
        if self.errors.len() >= ERRORS_MAX {
            return;
        }
        let (pointer, parameter) = match self.place {
            Place::Body => (Some(format!("/{}", name.replace('~', "~0").replace('/', "~1"))), None),
            Place::Query => (None, Some(name.to_owned())),
        };
        self.errors.push(FieldError { pointer, parameter, detail: detail.into() });
    }

    /// The field `name`, when it is there and right.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(V) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(name);
        let at = self.given.iter().position(|(given, _)| given == name)?;
        let (_, value) = self.given.remove(at);
        if value.is_nothing() {
            return None;
        }
        read(value).map_err(|detail| self.error(name, detail)).ok()
    }

    /// The field `name`; it is an error when it is not there.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(V) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.given.iter().any(|(given, value)| given == name && !value.is_nothing());
        let value = self.optional(name, read);
        if !given {
            self.error(name, "is missing");
        }
        value
    }

    /// Whether nothing is wrong with what was read so far.
    pub(super) fn is_right(&self) -> bool {
        self.errors.is_empty()
    }

    /// Notes what is wrong with a field in the light of the others.
    pub(super) fn refuse(&mut self, name: &'static str, detail: impl Into<String>) {
        self.error(name, detail);
    }

    /// All or nothing: a field that nobody asked for is an error too.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        let known = match self.known.as_slice() {
            [] => "none is known here".to_owned(),
            known => format!("known are {}", known.join(", ")),
        };
        for (name, _) in std::mem::take(&mut self.given) {
            self.error(&name, format!("is unknown; {known}"));
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        let named = |error: &FieldError| {
            let name = error.pointer.as_deref().or(error.parameter.as_deref()).unwrap_or_default();
            format!("{name} {}", error.detail)
        };
        let detail = self.errors.iter().take(3).map(named).collect::<Vec<_>>().join("; ");
        let code = match self.place {
            Place::Body => Code::ValidationFailed,
            Place::Query => Code::InvalidQuery,
        };
        Err(Problem::new(code, detail).with_errors(self.errors))
    }
}

/// A JSON object as names and the exact text of their values, doubles included.
struct RawObject<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = RawObject<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(RawObject(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A JSON string.
pub(super) fn text(value: &RawValue) -> Result<String, String> {
    serde_json::from_str(value.get()).map_err(|_| "is not a string".into())
}

/// A JSON string of a type that reads itself from text.
pub(super) fn word<T: FromStr<Err: fmt::Display>>(value: &RawValue) -> Result<T, String> {
    text(value)?.parse().map_err(|error: T::Err| error.to_string())
}

/// An amount in text: digits, at most one point, and an exponent, as programs write small numbers.
pub(super) fn decimal<T: FromNumber>(text: &str) -> Result<T, String> {
    T::from_number(text).map_err(|error| error.to_string())
}

/// An amount: a decimal string, or a JSON number, whose digits are read as they stand.
pub(super) fn amount<T: FromNumber>(value: &RawValue) -> Result<T, String> {
    match value.get().as_bytes().first() {
        Some(b'"') => decimal(&text(value)?),
        Some(b'0'..=b'9' | b'-') => decimal(value.get()),
        _ => Err("is not a decimal string or number".into()),
    }
}

/// RFC 3339 text.
pub(super) fn time(value: &RawValue) -> Result<UnixMillis, String> {
    let wrong = "is not an RFC 3339 time with an offset, such as 2026-11-21T12:00:00Z";
    UnixMillis::parse_rfc3339(&text(value)?).ok_or_else(|| wrong.into())
}

/// RFC 3339 text in a query, where a plus sign has to be written as `%2B`.
pub(super) fn instant(text: &str) -> Result<UnixMillis, String> {
    let wrong = "is not an RFC 3339 time, such as 2026-11-21T12:00:00Z (write the + of an offset as %2B)";
    UnixMillis::parse_rfc3339(text).ok_or_else(|| wrong.into())
}

/// A parameter of a type that reads itself from text.
pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(text: String) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A whole number of milliseconds within a range; to JSON 5000.0 is one, too.
pub(super) fn milliseconds(range: RangeInclusive<u64>) -> impl FnOnce(&RawValue) -> Result<u64, String> {
    move |value| within(whole_number(value.get()), range)
}

/// The sequence of a record.
pub(super) fn sequence(value: &RawValue) -> Result<u64, String> {
    within(whole_number(value.get()), 1..=UNIX_MILLIS_MAX.0)
}

/// A whole number within a range, from the text of a query: digits and nothing else, so no sign.
pub(super) fn whole(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let is_digits = text.bytes().all(|b| b.is_ascii_digit());
    within(text.parse().ok().filter(|_| is_digits), range)
}

fn within(number: Option<u64>, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = number.filter(|number| range.contains(number));
    number.ok_or_else(|| format!("is not a whole number from {} to {}", range.start(), range.end()))
}

/// The words of a parameter that is on or off, for [`choice`].
pub(super) const BOOL: [(&str, bool); 2] = [("true", true), ("false", false)];

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("is not one of {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Price;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<(Option<Price>, Option<u64>), Problem> {
        let mut fields = Fields::of_body(body.as_bytes())?;
        let price = fields.required("price", amount);
        let wait = fields.optional("wait_ms", milliseconds(0..=30_000));
        fields.finish()?;
        Ok((price, wait))
    }

    #[test]
    fn numbers_keep_every_digit() {
        for text in ["99999999999.99999999", "\"99999999999.99999999\"", "0.10000000", "1"] {
            let (price, _) = read(&format!("{{\"price\": {text} }}")).unwrap();
            assert_eq!(price, Some(text.trim_matches('"').parse().unwrap()));
        }
        for (text, plain) in [
            ("5e-05", "0.00005"),
            ("\"5e-8\"", "0.00000005"),
            ("9.999999999999999999E10", "99999999999.99999999"),
        ] {
            let (price, _) = read(&format!("{{\"price\": {text} }}")).unwrap();
            assert_eq!(price, Some(plain.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_digits_and_nothing_else() {
        assert_eq!((whole("5", 1..=9), whole("0005", 1..=9)), (Ok(5), Ok(5)));
        for text in ["", "+5", "-5", " 5", "5 ", "5.0", "5e0", "0x5", "0", "10", "٥"] {
            assert!(whole(text, 1..=9).is_err(), "{text:?}");
        }
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let problem = read(r#"{"price":1e33,"wait_ms":-1,"a/b~c":1,"wait_ms":2}"#).unwrap_err();
        let shown = format!("{problem:?}");
        for pointer in ["\"/price\"", "\"/wait_ms\"", "\"/a~1b~0c\"", "more than once", "is unknown"] {
            assert!(shown.contains(pointer), "{pointer} in {shown}");
        }
        for nothing in ["{}", r#"{"price":null}"#] {
            assert!(format!("{:?}", read(nothing).unwrap_err()).contains("is missing"));
        }
        assert_eq!(read(r#"{"price":1,"wait_ms":null}"#).unwrap().1, None);
        assert_eq!(read(r#"{"price":1,"wait_ms":2.5e3}"#).unwrap().1, Some(2500));
        assert!(format!("{:?}", read(r#"{"price":1,"colour":null}"#).unwrap_err()).contains("is unknown"));
        assert!(format!("{:?}", read(r#"{"price":null,"price":1}"#).unwrap_err()).contains("more than once"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["[]", "1", "\"x\"", "{", "{}x", "nul", "{\"a\":}", "\u{feff}{}"] {
            assert!(read(body).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Fields::of_body(&body).map(Fields::finish);
        }

        #[test]
        fn no_query_makes_it_panic(query in ".{0,80}") {
            let _ = Fields::of_query(&query).map(Fields::finish);
        }
    }
}
