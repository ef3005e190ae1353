//! Money and quantities: checked decimal integers, never floats.
//!
//! Both count units of 10^-8 (for bitcoin, satoshis) and read and write plain decimal text: digits, at most one point, at most
//! eight digits after it, no sign, no exponent. Canonical text has no leading and no trailing zeros: `0.5`, `100`.
//!
//! Programs write small numbers with an exponent (Python and JavaScript send 0.00000005 as `5e-8`), so what a person or a program
//! gives at the REST edge may have one; its digits are read as exactly as all others. Signed records never hold one.

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

/// A decimal that may have an exponent (digits, at most one point, and `e` or `E` with a whole number) as digits with no zero at either
/// end, and the power of ten that they are to be multiplied by.
fn digits_and_power(text: &str) -> Result<(String, i64), AmountError> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let magnitude = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if !is_digits(whole) || !is_digits(fraction) || !is_digits(magnitude) {
        return Err(AmountError::NotDecimal);
    }
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    // An exponent too long for a number is only ever out of range, on its own side.
    let magnitude = magnitude.parse::<i64>().unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
    let exponent = if exponent.starts_with('-') { -magnitude } else { magnitude };
    let power = exponent - fraction.len() as i64 + (all.len() - significant.len()) as i64;
    Ok((significant.trim_start_matches('0').to_owned(), power))
}

/// `digits` with so many zeros after them, when that fits.
fn followed_by_zeros(digits: &str, zeros: i64) -> Option<u64> {
    let factor = 10u64.checked_pow(u32::try_from(zeros).ok()?)?;
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn parse_units_with_exponent(text: &str, max_units: u64) -> Result<u64, AmountError> {
    let (digits, power) = digits_and_power(text)?;
    if digits.is_empty() {
        return Err(AmountError::Zero);
    }
    if power < -i64::from(SCALE) {
        return Err(AmountError::TooPrecise);
    }
    let units = followed_by_zeros(&digits, power + i64::from(SCALE));
    units.filter(|units| *units <= max_units).ok_or(AmountError::TooLarge(max_units / ONE))
}

/// A whole number as JSON may write it, which has no other kind of number: `5`, `5.0` and `0.5e1` are the same. `None` for what is not
/// whole, has a sign, or does not fit.
pub fn whole_number(text: &str) -> Option<u64> {
    let (digits, power) = digits_and_power(text).ok()?;
    if digits.is_empty() { Some(0) } else { followed_by_zeros(&digits, power) }
}

fn write_units(units: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (whole, fraction) = (units / ONE, units % ONE);
    if fraction == 0 {
        return write!(f, "{whole}");
    }
    let digits = format!("{fraction:08}");
    write!(f, "{whole}.{}", digits.trim_end_matches('0'))
}

/// What the REST edge reads as a number or as decimal text.
pub trait FromNumber: Sized {
    /// Reads decimal text that may have an exponent: `5e-8` is 0.00000005, to the digit.
    ///
    /// # Errors
    /// When it is no decimal, or out of range.
    fn from_number(text: &str) -> Result<Self, AmountError>;
}

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident, max_whole = $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The largest value, in units of 10^-8.
            pub const MAX_UNITS: u64 = $max * ONE;

            /// The smallest value.
            pub const MIN: Self = Self(1);
            /// The largest value.
            pub const MAX: Self = Self(Self::MAX_UNITS);

            /// From units of 10^-8; `None` for zero or above [`Self::MAX_UNITS`].
            pub const fn from_units(units: u64) -> Option<Self> {
                if units == 0 || units > Self::MAX_UNITS { None } else { Some(Self(units)) }
            }

            /// In units of 10^-8.
            pub const fn units(self) -> u64 {
                self.0
            }
        }

        impl FromNumber for $name {
            fn from_number(text: &str) -> Result<Self, AmountError> {
                parse_units_with_exponent(text, Self::MAX_UNITS).map(Self)
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

    #[test]
    fn an_exponent_moves_the_point_and_changes_no_digit() {
        for (text, plain) in [
            ("5e-05", "0.00005"),
            ("5E-8", "0.00000005"),
            ("1e-8", "0.00000001"),
            ("1.5e0", "1.5"),
            ("1.5e+3", "1500"),
            ("0.000000001e1", "0.00000001"),
            ("10.000000000e-1", "1"),
            ("2.1e7", "21000000"),
            ("0210000000000e-4", "21000000"),
            ("12.34", "12.34"),
        ] {
            assert_eq!(
                Quantity::from_number(text).map(|read| read.to_string()),
                Ok(plain.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn whole_numbers_are_read_however_json_writes_them() {
        for (text, number) in
            [("0", 0), ("0.0e5", 0), ("5", 5), ("5.0", 5), ("0.5e1", 5), ("50e-1", 5), ("1E3", 1000)]
        {
            assert_eq!(whole_number(text), Some(number), "{text}");
        }
        assert_eq!(whole_number("18446744073709551615"), Some(u64::MAX));
        for text in [
            "",
            "-5",
            "+5",
            "5.5",
            "5e-1",
            "18446744073709551616",
            "1e20",
            "1e99999999999999999999",
            "0x5",
            "5.",
        ] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_on_their_own_side() {
        use AmountError::{NotDecimal, TooLarge, TooPrecise, Zero};
        let long = format!("1e{}", "9".repeat(40));
        let tiny = format!("1e-{}", "9".repeat(40));
        for (text, error) in [
            ("1e-9", TooPrecise),
            ("1.5e-8", TooPrecise),
            (tiny.as_str(), TooPrecise),
            ("0e5", Zero),
            ("0.0e-99999999999999999999", Zero),
            ("2.1000000000000001e7", TooPrecise),
            ("2.10000001e7", TooLarge(21_000_000)),
            ("1e12", TooLarge(21_000_000)),
            (long.as_str(), TooLarge(21_000_000)),
            ("-1e3", NotDecimal),
            ("1e", NotDecimal),
            ("1e+", NotDecimal),
            ("1e1.5", NotDecimal),
            ("1e5e5", NotDecimal),
            (".5e1", NotDecimal),
            ("e5", NotDecimal),
            ("1e++1", NotDecimal),
        ] {
            assert_eq!(Quantity::from_number(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_number_is_the_same_wherever_its_point_is(units in 1..=Price::MAX_UNITS, shift in 0_usize..30) {
            let (price, zeros) = (Price::from_units(units).unwrap(), "0".repeat(shift));
            let digits = units.to_string();
            for text in [
                format!("{units}e-8"),
                format!("{units}{zeros}E-{}", shift + 8),
                format!("0.{zeros}{units}e+{}", shift + digits.len()).replace("e+", "0e+"),
            ] {
                let expected = if text.contains("e+") { units.checked_mul(ONE).and_then(Price::from_units) } else { Some(price) };
                prop_assert_eq!(Price::from_number(&text).ok(), expected, "{}", text);
            }
        }

        #[test]
        fn every_value_survives_text(units in 1..=Price::MAX_UNITS) {
            let price = Price::from_units(units).unwrap();
            prop_assert_eq!(price.to_string().parse::<Price>(), Ok(price));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}") {
            let _ = (text.parse::<Price>(), Price::from_number(&text));
        }
    }
}
