//! What can be set: how answers are sampled, how long they may be, what the model is told before.

use taipan::{GenerateOptions, Model};

use crate::args::{ChatArgs, SamplingArgs};
use crate::failure::{Failure, Result};
use crate::output;
use crate::settings::{SamplingChoice, max_tokens, sampling};

/// Checked wishes, and the raw ones that they were made of.
#[derive(Debug)]
pub(crate) struct Wishes {
    raw: SamplingArgs,
    sampling: SamplingChoice,
    predict: Option<i64>,
    max_tokens: Option<usize>,
    pub(crate) system: Option<String>,
}

impl Wishes {
    pub(crate) fn new(args: &ChatArgs) -> Result<Wishes> {
        Ok(Wishes {
            raw: args.sampling.clone(),
            sampling: sampling(&args.sampling)?,
            predict: args.predict,
            max_tokens: max_tokens(args.predict)?,
            system: args.system.clone(),
        })
    }

    /// Sets one of them.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let mut raw = self.raw.clone();
        match name {
            "temp" => raw.temp = number(name, value)?,
            "top-k" => raw.top_k = number(name, value)?,
            "top-p" => raw.top_p = number(name, value)?,
            "min-p" => raw.min_p = number(name, value)?,
            "repeat-penalty" => raw.repeat_penalty = number(name, value)?,
            "repeat-last-n" => raw.repeat_last_n = number(name, value)?.unwrap_or(raw.repeat_last_n),
            "seed" => raw.seed = number(name, value)?,
            "n" => {
                let predict = number(name, value)?;
                (self.max_tokens, self.predict) = (max_tokens(predict)?, predict);
            }
            "system" => self.system = Some(value.to_owned()).filter(|text| !text.is_empty()),
            _ => {
                let hint = "temp, top-k, top-p, min-p, repeat-penalty, repeat-last-n, seed, n and system can be set";
                return Err(Failure::usage(format!("/set: there is no `{name}`"), hint));
            }
        }
        self.sampling = sampling(&raw)?;
        self.raw = raw;
        Ok(())
    }

    pub(super) fn options(&self, model: &Model) -> GenerateOptions {
        let sampling = self.sampling.resolve(model.generation());
        GenerateOptions { max_tokens: self.max_tokens, sampling, ..GenerateOptions::default() }
    }

    /// All of them.
    pub(super) fn table(&self) -> String {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "the model's own".to_owned());
        let raw = &self.raw;
        output::pairs(&[
            ("temp", shown(raw.temp.map(|v| v.to_string()))),
            ("top-k", shown(raw.top_k.map(|v| v.to_string()))),
            ("top-p", shown(raw.top_p.map(|v| v.to_string()))),
            ("min-p", shown(raw.min_p.map(|v| v.to_string()))),
            ("repeat-penalty", shown(raw.repeat_penalty.map(|v| v.to_string()))),
            ("repeat-last-n", raw.repeat_last_n.to_string()),
            ("seed", self.sampling.seed.to_string()),
            ("n", self.max_tokens.map_or_else(|| "no limit".to_owned(), |n| n.to_string())),
            ("system", self.system.clone().unwrap_or_default()),
        ])
    }
}

/// A number, or nothing for what there was without the flag.
fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<Option<T>> {
    if value.is_empty() {
        return Ok(None);
    }
    let number = value.parse().map(Some);
    number
        .map_err(|_| Failure::usage(format!("/set {name}: `{value}` is not a number"), "/set alone lists what is set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes() -> Wishes {
        use clap::Parser;
        let args = crate::args::Args::try_parse_from(["taipan", "chat", "--temp", "0.5"]).expect("a command line");
        match args.command {
            crate::args::Command::Chat(args) => Wishes::new(&args).expect("it makes sense"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_set_counts_and_nonsense_changes_nothing() {
        let mut wishes = wishes();
        let resolved = |wishes: &Wishes| wishes.sampling.resolve(&taipan::GenerationDefaults::default());
        assert_eq!(resolved(&wishes).temperature, 0.5);
        for (name, value) in [("temp", "0"), ("top-k", "3"), ("seed", "7"), ("n", "-1"), ("system", "Be brief.")] {
            wishes.set(name, value).expect("it makes sense");
        }
        let sampling = resolved(&wishes);
        assert_eq!((sampling.temperature, sampling.top_k, sampling.seed), (0.0, 3, 7));
        assert_eq!((wishes.max_tokens, wishes.system.as_deref()), (None, Some("Be brief.")));
        for (name, value) in [("temp", "hot"), ("temp", "-1"), ("n", "-2"), ("top-p", "2"), ("colour", "red")] {
            assert!(matches!(wishes.set(name, value), Err(Failure::Usage { .. })), "{name} {value}");
        }
        assert_eq!(resolved(&wishes), sampling);
        wishes.set("temp", "").expect("it makes sense");
        assert_eq!(resolved(&wishes).temperature, 0.8);
        assert!(wishes.table().contains("the model's own"));
    }
}
