//! The hard bound on attention.

use std::str::FromStr;

use crate::error::{Error, Result};

/// A causal token bucket per selective attention layer: of any L consecutive tokens at most `C·L + burst` are selected
/// (spec §1.3). Kept as the integers that every device computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionBound {
    pub(crate) rate: u32,
    pub(crate) burst: u32,
}

const ONE: f64 = 65_536.0;

impl AttentionBound {
    /// The default burst.
    pub const BURST: f64 = 16.0;

    /// A bound of `c` selected tokens per token, with up to `burst` saved up.
    ///
    /// # Errors
    /// `InvalidOption` unless `1/65536 ≤ c ≤ 1` and `2 ≤ burst ≤ 32767`.
    pub fn new(c: f64, burst: f64) -> Result<Self> {
        let invalid = |value: f64, allowed: &str| Error::InvalidOption {
            name: "attention bound".to_owned(),
            value: value.to_string(),
            allowed: allowed.to_owned(),
        };
        if !(1.0 / ONE..=1.0).contains(&c) {
            return Err(invalid(c, "C from 1/65536 to 1"));
        }
        if !(2.0..=32_767.0).contains(&burst) {
            return Err(invalid(burst, "BURST from 2 to 32767"));
        }
        Ok(Self { rate: (c * ONE).floor() as u32, burst: (burst * ONE).floor() as u32 })
    }

    /// The bound of these integers, unless no `C` and burst give them.
    pub(super) fn from_words([rate, burst]: [u32; 2]) -> Option<Self> {
        let valid = (1..=1 << 16).contains(&rate) && (2 << 16..=32_767 << 16).contains(&burst);
        valid.then_some(Self { rate, burst })
    }
}

impl FromStr for AttentionBound {
    type Err = Error;

    /// `C` or `C,BURST`.
    fn from_str(text: &str) -> Result<Self> {
        let number = |s: &str| {
            s.trim().parse().map_err(|_| Error::InvalidOption {
                name: "attention bound".to_owned(),
                value: text.to_owned(),
                allowed: "C or C,BURST with numbers".to_owned(),
            })
        };
        match text.split_once(',') {
            Some((c, burst)) => Self::new(number(c)?, number(burst)?),
            None => Self::new(number(text)?, Self::BURST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_the_integers_of_the_specification() {
        let bound = AttentionBound::new(0.15, 16.0).unwrap();
        assert_eq!((bound.rate, bound.burst), (9830, 1_048_576));
        assert_eq!("0.25,3".parse::<AttentionBound>().unwrap(), AttentionBound { rate: 16_384, burst: 196_608 });
        assert_eq!("1".parse::<AttentionBound>().unwrap().rate, 65_536);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for text in ["0", "1.1", "-0.5", "nan", "0.00001", "0.5,1.9", "0.5,32768", "x", "0.5,", "0.1,2,3"] {
            assert!(text.parse::<AttentionBound>().is_err(), "{text}");
        }
    }
}
