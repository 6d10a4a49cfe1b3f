//! `generation_config.json`: how a checkpoint's makers want it to be sampled.

use serde_json::Value;

use crate::config::token_ids;
use crate::error::{Error, Result};

/// The file's name.
pub(crate) const GENERATION_FILE: &str = "generation_config.json";

/// What a checkpoint says about generation; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Tokens that end a text, in place of those of config.json.
    pub eos_token_ids: Option<Vec<u32>>,
    /// Temperature; 0, which is greedy, where the file says not to sample.
    pub temperature: Option<f32>,
    /// How many of the most probable tokens to keep; 0 is all.
    pub top_k: Option<u32>,
    /// Mass of the most probable tokens to keep.
    pub top_p: Option<f32>,
    /// Share of the most probable token's probability that a token must have.
    pub min_p: Option<f32>,
    /// Factor that makes recent tokens less likely.
    pub repeat_penalty: Option<f32>,
}

impl GenerationDefaults {
    /// Parses the bytes of `generation_config.json`, for a vocabulary of this size. Unknown keys are ignored.
    ///
    /// # Errors
    /// `Json` or `ConfigValue`.
    pub fn from_json(bytes: &[u8], vocab_size: usize) -> Result<Self> {
        let file = || GENERATION_FILE.to_owned();
        let map: Value = serde_json::from_slice(bytes).map_err(|source| Error::Json { file: file(), source })?;
        let wrong = |key: &str, value: &Value, allowed: &str| Error::ConfigValue {
            file: file(),
            key: key.to_owned(),
            value: value.to_string(),
            allowed: allowed.to_owned(),
        };
        if !map.is_object() {
            return Err(wrong("(the whole file)", &map, "an object"));
        }
        let get = |key: &str| map.get(key).filter(|v| !v.is_null());
        let number = |key: &str, (low, high): (f32, f32), allowed: &str| match get(key) {
            None => Ok(None),
            Some(value) => {
                let number = value.as_f64().map(|n| n as f32).filter(|n| (low..=high).contains(n));
                number.map(Some).ok_or_else(|| wrong(key, value, allowed))
            }
        };
        let greedy = match get("do_sample") {
            None => false,
            Some(value) => !value.as_bool().ok_or_else(|| wrong("do_sample", value, "true or false"))?,
        };
        let top_k = number("top_k", (0.0, 16_777_216.0), "a number of tokens, 0 for all")?;
        let eos = get("eos_token_id").map(|value| token_ids("eos_token_id", value, vocab_size));
        let temperature = number("temperature", (0.0, f32::MAX), "0 or more")?;
        Ok(Self {
            eos_token_ids: eos.transpose().map_err(|e| e.of_file(GENERATION_FILE))?,
            temperature: if greedy { Some(0.0) } else { temperature },
            top_k: top_k.map(|k| k as u32),
            top_p: number("top_p", (0.0, 1.0), "0 to 1")?,
            min_p: number("min_p", (0.0, 1.0), "0 to 1")?,
            repeat_penalty: number("repetition_penalty", (f32::MIN_POSITIVE, f32::MAX), "more than 0")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GenerationDefaults> {
        GenerationDefaults::from_json(text.as_bytes(), 100)
    }

    #[test]
    fn what_is_said_counts_and_nothing_else() {
        assert_eq!(
            parse(r#"{"transformers_version": "4.57.0", "top_k": null}"#).unwrap(),
            GenerationDefaults::default()
        );
        let all = r#"{"eos_token_id": [7, 3, 7], "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.9,
                      "min_p": 0.01, "repetition_penalty": 1.1}"#;
        let expected = GenerationDefaults {
            eos_token_ids: Some(vec![3, 7]),
            temperature: Some(0.6),
            top_k: Some(20),
            top_p: Some(0.9),
            min_p: Some(0.01),
            repeat_penalty: Some(1.1),
        };
        assert_eq!(parse(all).unwrap(), expected);
        assert_eq!(parse(r#"{"do_sample": false, "temperature": 0.6}"#).unwrap().temperature, Some(0.0));
        assert_eq!(parse(r#"{"eos_token_id": 5}"#).unwrap().eos_token_ids, Some(vec![5]));
    }

    #[test]
    fn impossible_values_name_the_file_and_the_key() {
        for (text, message) in [
            (r#"{"eos_token_id": [1, 100]}"#, "`eos_token_id` is 100; allowed: a token id below vocab_size = 100"),
            (r#"{"temperature": -1}"#, "`temperature` is -1; allowed: 0 or more"),
            (r#"{"temperature": "hot"}"#, "`temperature` is \"hot\"; allowed: 0 or more"),
            (r#"{"top_p": 1.5}"#, "`top_p` is 1.5; allowed: 0 to 1"),
            (r#"{"repetition_penalty": 0}"#, "`repetition_penalty` is 0; allowed: more than 0"),
            (r#"{"do_sample": 1}"#, "`do_sample` is 1; allowed: true or false"),
            ("[]", "`(the whole file)` is []; allowed: an object"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("generation_config.json: {message}"));
        }
        assert!(parse("{").unwrap_err().to_string().starts_with("generation_config.json: not valid JSON"));
    }
}
