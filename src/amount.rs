//! Money and quantities: checked decimal integers, never floats.
//!
//! Both count units of 10^-8 (for bitcoin, satoshis) and read and write plain decimal text: digits, at most one point, at most
//! eight digits after it, no sign, no exponent. Canonical text has no leading and no trailing zeros: `0.5`, `100`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// Digits after the decimal point that are kept.
pub const SCALE: u32 = 8;
const ONE: u64 = 10u64.pow(SCALE);

/// Why a decimal was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not digits with at most one decimal point.
    #[error("is not a plain decimal number; write digits and at most one point, such as 0.25")]
    NotDecimal,
    /// More than eight digits after the point.
    #[error("has more than {SCALE} digits after the decimal point; round it to {SCALE}")]
    TooPrecise,
    /// Zero, where something must be traded.
    #[error("must be greater than zero")]
    Zero,
    /// Above the type's maximum.
    #[error("must be at most {0}")]
    TooLarge(u64),
}

fn parse_units(text: &str, max_units: u64) -> Result<u64, AmountError> {
    let too_large = AmountError::TooLarge(max_units / ONE);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(AmountError::NotDecimal);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > SCALE as usize {
        return Err(AmountError::TooPrecise);
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 12 {
        return Err(too_large);
    }
    let parse =
        |s: &str| if s.is_empty() { Ok(0) } else { s.parse::<u64>().map_err(|_| AmountError::NotDecimal) };
    let below_one = parse(fraction)? * 10u64.pow(SCALE - fraction.len() as u32);
    let units = parse(whole)?.checked_mul(ONE).and_then(|w| w.checked_add(below_one)).ok_or(too_large)?;
    match units {
        0 => Err(AmountError::Zero),
        units if units > max_units => Err(too_large),
        units => Ok(units),
    }
}

fn write_units(units: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (whole, fraction) = (units / ONE, units % ONE);
    if fraction == 0 {
        return write!(f, "{whole}");
    }
    let digits = format!("{fraction:08}");
    write!(f, "{whole}.{}", digits.trim_end_matches('0'))
}

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident, max_whole = $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The largest value, in units of 10^-8.
            pub const MAX_UNITS: u64 = $max * ONE;

            /// From units of 10^-8; `None` for zero or above [`Self::MAX_UNITS`].
            pub const fn from_units(units: u64) -> Option<Self> {
                if units == 0 || units > Self::MAX_UNITS { None } else { Some(Self(units)) }
            }

            /// In units of 10^-8.
            pub const fn units(self) -> u64 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = AmountError;
            fn from_str(text: &str) -> Result<Self, AmountError> {
                parse_units(text, Self::MAX_UNITS).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_units(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        /// From decimal text only; numbers are let in at the REST edge, where their exact digits are at hand.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

amount! {
    /// A quantity of bitcoin: more than zero, at most 21,000,000, in satoshis inside.
    Quantity, max_whole = 21_000_000
}
amount! {
    /// A price for one bitcoin in the offer's currency: more than zero, at most 100,000,000,000, in units of 10^-8 inside.
    Price, max_whole = 100_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_becomes_canonical() {
        for (text, canonical) in [
            ("1", "1"),
            ("1.50", "1.5"),
            ("0.00000001", "0.00000001"),
            ("007.0", "7"),
            ("21000000", "21000000"),
            ("1.000000000000", "1"),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn what_is_not_a_plain_decimal_is_refused_with_the_reason() {
        use AmountError::{NotDecimal, TooLarge, TooPrecise, Zero};
        for (text, error) in [
            ("", NotDecimal),
            ("-1", NotDecimal),
            ("+1", NotDecimal),
            ("1e3", NotDecimal),
            (".5", NotDecimal),
            ("5.", NotDecimal),
            ("1,5", NotDecimal),
            ("NaN", NotDecimal),
            (" 1", NotDecimal),
            ("1.2.3", NotDecimal),
            ("٣", NotDecimal),
            ("0.000000001", TooPrecise),
            ("0", Zero),
            ("0.00", Zero),
            ("21000000.00000001", TooLarge(21_000_000)),
            ("99999999999999999999999", TooLarge(21_000_000)),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_value_survives_text(units in 1..=Price::MAX_UNITS) {
            let price = Price::from_units(units).unwrap();
            prop_assert_eq!(price.to_string().parse::<Price>(), Ok(price));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}") {
            let _ = text.parse::<Price>();
        }
    }
}
