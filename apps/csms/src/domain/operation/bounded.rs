//! Values with bounds: what does not fit cannot be made, neither from a caller's JSON nor from an
//! event.

use serde::{Deserialize, Serialize};

/// Text of at most `CHARS_MAX` characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct BoundedText<const CHARS_MAX: usize>(String);

impl<const CHARS_MAX: usize> BoundedText<CHARS_MAX> {
    /// Takes a text of at most `CHARS_MAX` characters.
    pub(crate) fn new(text: impl Into<String>) -> Result<Self, OutOfBounds> {
        let text = text.into();
        match text.chars().count() {
            chars if chars <= CHARS_MAX => Ok(Self(text)),
            chars => Err(OutOfBounds::Text { chars, chars_max: CHARS_MAX }),
        }
    }

    /// Returns the text.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const CHARS_MAX: usize> TryFrom<String> for BoundedText<CHARS_MAX> {
    type Error = OutOfBounds;

    fn try_from(text: String) -> Result<Self, OutOfBounds> {
        Self::new(text)
    }
}

impl<const CHARS_MAX: usize> From<BoundedText<CHARS_MAX>> for String {
    fn from(text: BoundedText<CHARS_MAX>) -> Self {
        text.0
    }
}

/// Number from 0 to 2,147,483,647: stations keep numbers in signed integers of 32 bits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "i64", into = "i64")]
pub(crate) struct Natural(u32);

impl Natural {
    /// Takes 0 to 2,147,483,647.
    pub(crate) fn new(number: i64) -> Result<Self, OutOfBounds> {
        match i32::try_from(number) {
            Ok(small) if small >= 0 => Ok(Self(small.unsigned_abs())),
            _ => Err(OutOfBounds::Number { number }),
        }
    }

    /// Returns the number.
    #[must_use]
    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Natural {
    type Error = OutOfBounds;

    fn try_from(number: i64) -> Result<Self, OutOfBounds> {
        Self::new(number)
    }
}

impl From<Natural> for i64 {
    fn from(number: Natural) -> Self {
        number.0.into()
    }
}

/// Amount of amperes or watts in tenths, the finest that stations take.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "f64", into = "f64")]
pub(crate) struct Tenths(i64);

impl Tenths {
    /// The largest amount, in tenths: a hundred million.
    pub(crate) const MAX: i64 = 1_000_000_000;

    /// Takes 0 to [`Self::MAX`] tenths.
    pub(crate) fn new(tenths: i64) -> Result<Self, OutOfBounds> {
        match tenths {
            0..=Self::MAX => Ok(Self(tenths)),
            _ => Err(OutOfBounds::Amount),
        }
    }

    /// Returns the amount in tenths.
    #[must_use]
    pub(crate) fn tenths(self) -> i64 {
        self.0
    }

    /// Returns the amount as JSON: an integer if it is one.
    #[must_use]
    pub(crate) fn json(self) -> serde_json::Value {
        match self.0 % 10 {
            0 => (self.0 / 10).into(),
            _ => f64::from(self).into(),
        }
    }
}

impl TryFrom<f64> for Tenths {
    type Error = OutOfBounds;

    fn try_from(amount: f64) -> Result<Self, OutOfBounds> {
        let tenths = amount * 10.0;
        let nearest = tenths.round();
        // Also turns away NaN and the infinities.
        let is_exact = (tenths - nearest).abs() < 1e-6 && nearest.abs() <= Self::MAX as f64;
        if is_exact { Self::new(nearest as i64) } else { Err(OutOfBounds::Amount) }
    }
}

impl From<Tenths> for f64 {
    fn from(amount: Tenths) -> Self {
        amount.0 as Self / 10.0
    }
}

/// Value outside of its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutOfBounds {
    /// The text is too long.
    #[error("a text of {chars} characters; use at most {chars_max}")]
    Text {
        /// Its length in characters.
        chars: usize,
        /// The longest that is allowed.
        chars_max: usize,
    },
    /// The number is negative, or too large for a station.
    #[error("the number {number}; use 0 to {}", i32::MAX)]
    Number {
        /// The number.
        number: i64,
    },
    /// The amount is negative, too large, or finer than a tenth.
    #[error("an amount that no station takes; use 0 to {} in steps of 0.1", Tenths::MAX / 10)]
    Amount,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_kept_to_the_tenth_and_nothing_finer_is_taken() {
        let read = |json: &str| serde_json::from_str::<Tenths>(json).map(|amount| amount.json());
        for (json, written) in [("16", "16"), ("16.0", "16"), ("6.3", "6.3"), ("0.1", "0.1")] {
            assert_eq!(read(json).unwrap().to_string(), written);
        }
        for json in ["6.25", "-1", "1e300", "\"6\"", "100000000.1"] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_text_is_measured_in_characters_and_a_number_fits_a_station() {
        assert!(BoundedText::<2>::new("éé").is_ok());
        assert_eq!(BoundedText::<2>::new("abc"), Err(OutOfBounds::Text { chars: 3, chars_max: 2 }));
        assert!(serde_json::from_str::<Natural>("2147483647").is_ok());
        for json in ["-1", "2147483648", "1.5"] {
            assert!(serde_json::from_str::<Natural>(json).is_err(), "{json}");
        }
    }
}
