//! Reading typed values out of a JSON object, with errors that name the key.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::error::{CONFIG_FILE, Error, Result};

/// An object of the file together with the path that leads to it.
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) map: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    pub(super) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub(super) fn required(&self, key: &str) -> Result<&'a Value> {
        self.map.get(key).ok_or_else(|| missing(self.path(key)))
    }

    /// The value of an optional key; null counts as absent.
    pub(super) fn optional(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub(super) fn size(&self, key: &str, allowed: RangeInclusive<usize>) -> Result<usize> {
        self.to_size(key, self.required(key)?, allowed)
    }

    pub(super) fn size_or(&self, key: &str, allowed: RangeInclusive<usize>, default: usize) -> Result<usize> {
        self.optional_size(key, allowed).map(|size| size.unwrap_or(default))
    }

    pub(super) fn optional_size(&self, key: &str, allowed: RangeInclusive<usize>) -> Result<Option<usize>> {
        self.optional(key).map(|v| self.to_size(key, v, allowed)).transpose()
    }

    pub(super) fn to_size(&self, key: &str, v: &Value, allowed: RangeInclusive<usize>) -> Result<usize> {
        let size = v.as_u64().and_then(|n| usize::try_from(n).ok());
        size.filter(|n| allowed.contains(n)).ok_or_else(|| {
            let text = format!("an integer from {} to {}", allowed.start(), allowed.end());
            invalid(&self.path(key), v, &text)
        })
    }

    pub(super) fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.optional(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(other) => Err(invalid(&self.path(key), other, "true or false")),
        }
    }

    /// An epsilon, which is never 0: that would turn a row of zeros into NaN.
    pub(super) fn eps_or(&self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.optional(key) else { return Ok(default) };
        let eps = finite(value).filter(|&e| e > 0.0 && e <= 1.0);
        eps.ok_or_else(|| invalid(&self.path(key), value, "a number above 0 and at most 1"))
    }

    pub(super) fn optional_f64(&self, key: &str, accept: impl Fn(f64) -> bool, allowed: &str) -> Result<Option<f64>> {
        let Some(value) = self.optional(key) else { return Ok(None) };
        let number = value.as_f64().filter(|n| n.is_finite() && accept(*n)).map(|n| n + 0.0);
        number.map(Some).ok_or_else(|| invalid(&self.path(key), value, allowed))
    }

    /// A size that divides another.
    pub(super) fn divisor_or(&self, key: &str, of: usize, default: usize) -> Result<usize> {
        let size = self.size_or(key, 1..=usize::MAX, default)?;
        if of.is_multiple_of(size) {
            return Ok(size);
        }
        Err(invalid_text(&self.path(key), size.to_string(), &format!("a divisor of {of}")))
    }

    /// A constant factor; 0 or an infinite one makes nothing of what it is applied to.
    pub(super) fn factor_or(&self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.optional(key) else { return Ok(default) };
        let factor = finite(value).filter(|f| *f > 0.0 && f.recip().is_finite());
        factor.ok_or_else(|| invalid(&self.path(key), value, "a number above 0"))
    }

    /// A list of constant factors; all 1 where it is absent.
    pub(super) fn factors_or<const N: usize>(&self, key: &str) -> Result<[f32; N]> {
        let Some(value) = self.optional(key) else { return Ok([1.0; N]) };
        let factors = value.as_array().filter(|list| list.len() == N);
        let factors = factors.and_then(|list| list.iter().map(finite).collect::<Option<Vec<f32>>>());
        let factors = factors.filter(|list| list.iter().all(|f| *f > 0.0 && f.recip().is_finite()));
        let factors = factors.and_then(|list| <[f32; N]>::try_from(list).ok());
        factors.ok_or_else(|| invalid(&self.path(key), value, &format!("a list of {N} numbers above 0")))
    }

    /// Bounds of the step size. An infinite upper one is null, or spelled out as transformers does.
    pub(super) fn limits(&self, key: &str) -> Result<(f32, f32)> {
        const ALLOWED: &str = "[low, high] with 0 ≤ low ≤ high and high > 0, where high may be null for no limit";
        let Some(value) = self.optional(key) else {
            return Ok((0.0, f32::INFINITY));
        };
        let infinite = |v: &Value| v.is_null() || v.get("__float__").is_some_and(|text| text == "Infinity");
        let limits = match value.as_array().map(Vec::as_slice) {
            Some([lo, hi]) if infinite(hi) => lo.as_f64().map(|lo| (lo as f32, f32::INFINITY)),
            Some([lo, hi]) => finite(hi).and_then(|hi| lo.as_f64().map(|lo| (lo as f32, hi))),
            _ => None,
        };
        limits
            .filter(|&(lo, hi)| lo >= 0.0 && lo.is_finite() && lo <= hi && hi > 0.0)
            // -0.0 passes the comparison above; it must not reach the canonical text.
            .map(|(lo, hi)| (lo.abs(), hi))
            .ok_or_else(|| invalid(&self.path(key), value, ALLOWED))
    }

    /// An object inside this one; none is an empty one.
    pub(super) fn section<'b>(&'b self, name: &'b str) -> Result<Section<'b>> {
        static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        match self.optional(name) {
            None => Ok(Section { name, map: &EMPTY }),
            Some(Value::Object(map)) => Ok(Section { name, map }),
            Some(other) => Err(invalid(&self.path(name), other, "an object")),
        }
    }

    /// A switch of which this build does one setting only: absent, or one of these words.
    pub(super) fn only(&self, key: &str, words: &[&str]) -> Result<()> {
        match self.optional(key) {
            Some(value) if !value.as_str().is_some_and(|word| words.contains(&word)) => {
                Err(invalid(&self.path(key), value, &format!("\"{}\"", words.join("\" or \""))))
            }
            _ => Ok(()),
        }
    }

    /// As [`Section::only`], for a number.
    pub(super) fn only_size(&self, key: &str, size: usize) -> Result<()> {
        match self.optional(key) {
            Some(value) if value.as_u64() != Some(size as u64) => {
                Err(invalid(&self.path(key), value, &size.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// As [`Section::only`], for a flag.
    pub(super) fn only_bool(&self, key: &str, flag: bool) -> Result<()> {
        match self.optional(key) {
            Some(value) if value.as_bool() != Some(flag) => Err(invalid(&self.path(key), value, &flag.to_string())),
            _ => Ok(()),
        }
    }

    /// Refuses keys other than these words: in a section of switches each of them would change what is computed.
    pub(super) fn known(&self, keys: &str) -> Result<()> {
        let keys: Vec<&str> = keys.split_whitespace().collect();
        match self.map.iter().find(|(key, value)| !value.is_null() && !keys.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, value)) => {
                Err(invalid(&self.path(key), value, &format!("no such key: this build knows {}", keys.join(", "))))
            }
        }
    }
}

/// The number as f32, unless that is infinite.
pub(super) fn finite(value: &Value) -> Option<f32> {
    value.as_f64().map(|n| n as f32).filter(|n| n.is_finite())
}

pub(super) fn missing(key: String) -> Error {
    Error::ConfigMissing { file: CONFIG_FILE.to_owned(), key }
}

pub(super) fn invalid(key: &str, value: &Value, allowed: &str) -> Error {
    invalid_text(key, value.to_string(), allowed)
}

pub(super) fn invalid_text(key: &str, value: String, allowed: &str) -> Error {
    Error::ConfigValue { file: CONFIG_FILE.to_owned(), key: key.to_owned(), value, allowed: allowed.to_owned() }
}
