//! Integers as tokens carry them: any size, as a JSON number or as a decimal string.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// An integer in plain decimal. The text is kept, because it is part of what is signed, however
/// large the number is; the value saturates.
pub(super) struct Decimal {
    text: String,
    value: i128,
}

impl Decimal {
    /// At least `-u64::MAX` and at most `u64::MAX`, so that the sum of two values cannot overflow.
    pub(super) fn value(&self) -> i128 {
        self.value
    }

    /// `None` unless the text is an integer as JSON writes one: no plus sign, leading zero, fraction
    /// or exponent.
    fn parse(text: String) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(&text);
        let plain = digits == "0" || !digits.starts_with('0');
        if digits.is_empty() || !plain || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let magnitude = i128::from(digits.parse::<u64>().unwrap_or(u64::MAX));
        let value = if text.starts_with('-') { -magnitude } else { magnitude };
        Some(Self { text, value })
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self { text: value.to_string(), value: value.into() }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Writes a JSON number.
impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.text.clone()).map_err(serde::ser::Error::custom)?.serialize(to)
    }
}

/// Reads a JSON number or a string of decimal digits (usersig.md section 3). The raw text is asked
/// for, because a number beyond 64 bits would otherwise arrive rounded.
impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        let text = if raw.get().starts_with('"') {
            serde_json::from_str(raw.get()).map_err(D::Error::custom)?
        } else {
            raw.get().to_owned()
        };
        Self::parse(text).ok_or_else(|| D::Error::custom("not an integer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<(String, i128)> {
        let decimal: Decimal = serde_json::from_str(json).ok()?;
        Some((decimal.to_string(), decimal.value()))
    }

    #[test]
    fn integers_are_read_from_numbers_and_from_decimal_strings() {
        for (json, text, value) in [
            ("0", "0", 0),
            ("1400000001", "1400000001", 1_400_000_001),
            (" 7 ", "7", 7),
            ("-5", "-5", -5),
            (r#""1400000001""#, "1400000001", 1_400_000_001),
            (r#""\u0031""#, "1", 1),
            (r#""-5""#, "-5", -5),
        ] {
            assert_eq!(read(json), Some((text.to_owned(), value)), "{json}");
        }
    }

    #[test]
    fn a_huge_integer_keeps_its_text_and_saturates_in_value() {
        let digits = "9".repeat(400);
        assert_eq!(read(&digits), Some((digits.clone(), u64::MAX.into())));
        assert_eq!(read(&format!("-{digits}")), Some((format!("-{digits}"), -i128::from(u64::MAX))));
    }

    #[test]
    fn anything_but_a_plain_integer_is_refused() {
        for json in [
            "1.0",
            "1e3",
            "1E3",
            "-",
            "01",
            "true",
            "null",
            "[]",
            "[1]",
            "{}",
            r#""""#,
            r#""-""#,
            r#""+1""#,
            r#""01""#,
            r#""-01""#,
            r#"" 1""#,
            r#""1 ""#,
            r#""0x10""#,
            r#""1.5""#,
            r#""1e3""#,
            r#""1\n""#,
            r#""١""#,
            r#""--1""#,
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
