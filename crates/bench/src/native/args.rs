//! The command line as it is typed, and the lists in it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use taipan::{Backends, TuningTable, WeightDtype};

use super::{Error, Result};
use crate::draw::{SELECTED, Storage};
use crate::measure::Plan;
use crate::workload::Test;

/// Where to compute; a program that has these flags of its own passes their values.
#[derive(Clone, Debug, clap::Args)]
pub struct TargetArgs {
    /// Devices in turn, separated by commas: auto, cpu, gpu, or an adapter by its index or part of its name
    #[arg(long, default_value = "auto", value_name = "LIST")]
    pub device: String,
    /// Table of what is faster on which GPU, over the built-in one; written by --tune [default: none]
    #[arg(long, value_name = "FILE")]
    pub tuning: Option<PathBuf>,
    /// Do without an adapter's matrix units, which make prompts faster where it has them
    #[arg(long)]
    pub no_cooperative: bool,
    /// Mamba-2 blocks that a token goes through in one dispatch at most, whose workgroups wait for each other, on NVIDIA's
    /// cards; 0: no workgroup waits for another [default: 16, of a Taipan model all, with the attention between them]
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u32).range(..=16))]
    pub persistent: Option<u32>,
}

impl TargetArgs {
    /// What the flags say.
    pub(super) fn on(&self, backends: Backends) -> Result<On> {
        let tuning = self.tuning.as_deref().map(taipan::read_tuning).transpose()?;
        let (cooperative, persistent) = (!self.no_cooperative, self.persistent);
        Ok(On { devices: self.device.clone(), backends, tuning, cooperative, persistent })
    }
}

/// Where to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct On {
    /// Devices in turn, separated by commas.
    pub devices: String,
    /// Graphics interfaces to look for adapters in.
    pub backends: Backends,
    /// Goes over the built-in table.
    pub tuning: Option<TuningTable>,
    /// Whether an adapter's matrix units are used.
    pub cooperative: bool,
    /// Blocks that a token goes through in one dispatch, if that is said.
    pub persistent: Option<u32>,
}

/// Measure speed: rows of prefill and decoding, or kernels one by one
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    /// Compare or show results instead of measuring
    #[command(subcommand)]
    pub command: Option<Sub>,
    /// Folder of a model
    #[arg(short, long, value_name = "DIR", conflicts_with = "random")]
    pub model: Option<PathBuf>,
    /// Model drawn from a seed: taipan-190m, taipan-450m, taipan-1.3b, mamba2-130m, mamba2-370m, mamba2-1.3b,
    /// mamba2-2.7b or mamba2-4.8m [default: mamba2-4.8m]
    #[arg(long, value_name = "PRESET")]
    pub random: Option<String>,
    /// Seed of a drawn model
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Share of tokens that the gates of a drawn model select, 0 to 1
    #[arg(long, default_value_t = SELECTED, value_name = "SHARE", value_parser = share)]
    pub selected: f64,
    /// Prompt tokens; a list, with ranges like 128-512+128 or 128-2048*2; 0 is none
    #[arg(short = 'p', long, default_value = "512", value_name = "LIST")]
    pub n_prompt: String,
    /// Tokens to decode; a list; 0 is none
    #[arg(short = 'n', long, default_value = "128", value_name = "LIST")]
    pub n_gen: String,
    /// Tokens in the session before the clock starts; a list
    #[arg(short = 'd', long, default_value = "0", value_name = "LIST")]
    pub n_depth: String,
    /// Repetitions of a row at least
    #[arg(short, long, default_value_t = 5, value_name = "N")]
    pub repetitions: usize,
    /// Seconds of measured time of a row at least
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub min_time: f64,
    /// Seconds of a row at most, where one repetition is done
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS")]
    pub max_time: f64,
    /// Leave out the repetition before those that count
    #[arg(long)]
    pub no_warmup: bool,
    /// Seconds to wait before each row
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pub delay: f64,
    /// List devices and end
    #[arg(long)]
    pub list_devices: bool,
    /// Say what is being done, on standard error
    #[arg(long)]
    pub progress: bool,
    /// What to write to standard output
    #[arg(short, long, value_enum, default_value_t = Format::Md)]
    pub output: Format,
    /// How matrices are held in memory
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
    /// Most tokens of a segment [default: the library's]
    #[arg(long, value_name = "N")]
    pub segment: Option<usize>,
    /// Tokens of a chunk [default: the library's]
    #[arg(long, value_name = "N")]
    pub chunk: Option<usize>,
    /// Most tokens of a prompt that run one by one instead of as chunks [default: the library's]
    #[arg(long, value_name = "N")]
    pub recurrent: Option<usize>,
    /// A second option set, such as "--dtype f32" or "--device cpu": repetitions of both in turn, and their ratio
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub vs: Option<String>,
    /// Folder of the model that `vs` names, where that is no folder itself.
    #[arg(skip)]
    pub vs_model: Option<PathBuf>,
    /// Time every kernel at the model's shapes instead, after comparing it with the CPU
    #[arg(long, conflicts_with = "vs")]
    pub kernels: bool,
    /// Find what is fastest on the device at the shapes of --random PRESET,PRESET, or of three by default, and print a table
    /// for --tuning
    #[arg(long, conflicts_with_all = ["vs", "kernels", "model"])]
    pub tune: bool,
    /// Put what --tune finds into this table, in the place of what it says about the same devices
    #[arg(long, requires = "tune", value_name = "FILE")]
    pub into: Option<PathBuf>,
}

impl BenchArgs {
    /// Whether standard output is to be read by a program, and so failures too.
    #[must_use]
    pub fn json(&self) -> bool {
        self.command.is_none() && !self.tune && matches!(self.output, Format::Json | Format::Jsonl)
    }
}

/// What to do with results.
#[derive(Clone, Debug, Subcommand)]
pub enum Sub {
    /// Table of speeds with ratios to the first file
    Compare {
        /// Files written by -o json or jsonl
        #[arg(required = true, num_args = 2.., value_name = "JSON")]
        files: Vec<PathBuf>,
    },
    /// One page with charts
    Report {
        /// Files written by -o json or jsonl
        #[arg(required = true, value_name = "JSON")]
        files: Vec<PathBuf>,
        /// The page [default: standard output]
        #[arg(short, long, value_name = "HTML")]
        output: Option<PathBuf>,
    },
}

/// Output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Markdown table.
    Md,
    /// Comma-separated values.
    Csv,
    /// One array of records.
    Json,
    /// A record a line.
    Jsonl,
    /// A page.
    Html,
}

/// Storage of matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// As stored; drawn models are f16.
    Auto,
    /// f32.
    F32,
    /// f16.
    F16,
    /// bf16; not for drawn models.
    Bf16,
    /// int8, a scale for 32 of them.
    Q8,
    /// int4, a scale for 32 of them.
    Q4,
}

/// The whole line, for `--vs` and for the program of this crate.
#[derive(Debug, Parser)]
#[command(name = "taipan-bench", version)]
pub struct Line {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) args: BenchArgs,
}

/// A share from nothing to all.
fn share(text: &str) -> std::result::Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a number from 0 to 1".to_owned())
}

impl Line {
    /// The options of a second set.
    fn of(text: &str) -> Result<Self> {
        let words = std::iter::once("taipan-bench").chain(text.split_whitespace());
        Self::try_parse_from(words).map_err(|e| {
            let message = e.to_string();
            Error::usage(format!("--vs: {}", message.lines().next().unwrap_or_default()), "as on the command line")
        })
    }
}

/// An option set: what may differ between two that are compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) device: String,
    pub(super) on: On,
    pub(super) model: Option<PathBuf>,
    pub(super) random: String,
    pub(super) seed: u64,
    pub(super) selected: f64,
    pub(super) storage: Storage,
}

impl BenchArgs {
    pub(super) fn options(&self, device: &str, on: &On) -> Options {
        let dtype = match self.dtype {
            Dtype::Auto => WeightDtype::Auto,
            Dtype::F32 => WeightDtype::F32,
            Dtype::F16 => WeightDtype::F16,
            Dtype::Bf16 => WeightDtype::Bf16,
            Dtype::Q8 => WeightDtype::Q8,
            Dtype::Q4 => WeightDtype::Q4,
        };
        Options {
            device: device.to_owned(),
            on: on.clone(),
            model: self.model.clone(),
            random: self.random.clone().unwrap_or_else(|| "mamba2-4.8m".to_owned()),
            seed: self.seed,
            selected: self.selected,
            storage: Storage { dtype, segment: self.segment, chunk: self.chunk, recurrent: self.recurrent },
        }
    }

    /// What `vs` says after -m.
    ///
    /// # Errors
    /// It is no list of options.
    pub fn model_of_vs(&self) -> Result<Option<PathBuf>> {
        Ok(self.vs.as_deref().map(Line::of).transpose()?.and_then(|line| line.args.model))
    }

    /// The second option set: the first, with what `text` says instead.
    pub(super) fn versus(&self, first: &Options, text: &str) -> Result<Options> {
        let mut line = Line::of(text)?;
        if line.args.model.is_some() && self.vs_model.is_some() {
            line.args.model.clone_from(&self.vs_model);
        }
        let has = |names: &[&str]| {
            text.split_whitespace().any(|w| names.iter().any(|n| w == *n || w.starts_with(&format!("{n}="))))
        };
        let row = ["-p", "-n", "-d", "-r", "-o", "--n-prompt", "--n-gen", "--n-depth", "--repetitions", "--output"];
        if has(&row) || line.args.vs.is_some() || line.args.command.is_some() {
            return Err(Error::usage(
                "--vs changes rows",
                "allowed in --vs: --device, --tuning, --no-cooperative, --persistent, -m, --random, --seed, --selected, --dtype, \
                 --segment, --chunk, --recurrent",
            ));
        }
        let second = line.args.options(&line.target.device, &line.target.on(first.on.backends)?);
        let mut options = first.clone();
        if has(&["--device"]) {
            options.device = second.device;
        }
        if has(&["--tuning"]) {
            options.on.tuning = second.on.tuning;
        }
        if has(&["--no-cooperative"]) {
            options.on.cooperative = false;
        }
        if has(&["--persistent"]) {
            options.on.persistent = second.on.persistent;
        }
        if has(&["-m", "--model", "--random"]) {
            (options.model, options.random) = (second.model, second.random);
        }
        if has(&["--seed"]) {
            options.seed = second.seed;
        }
        if has(&["--selected"]) {
            options.selected = second.selected;
        }
        if has(&["--dtype"]) {
            options.storage.dtype = second.storage.dtype;
        }
        if has(&["--segment"]) {
            options.storage.segment = second.storage.segment;
        }
        if has(&["--chunk"]) {
            options.storage.chunk = second.storage.chunk;
        }
        if has(&["--recurrent"]) {
            options.storage.recurrent = second.storage.recurrent;
        }
        Ok(options)
    }

    pub(super) fn tests(&self) -> Result<Vec<Test>> {
        let (p, n) = (list("-p", &self.n_prompt)?, list("-n", &self.n_gen)?);
        let tests = Test::all(&p, &n, &list("-d", &self.n_depth)?);
        if tests.is_empty() {
            return Err(Error::usage("-p and -n are both 0", "give one of them a number of tokens"));
        }
        Ok(tests)
    }

    pub(super) fn plan(&self) -> Result<Plan> {
        let seconds = |name: &str, value: f64| {
            Duration::try_from_secs_f64(value)
                .map_err(|_| Error::usage(format!("{name}: {value} is not allowed"), "allowed: 0 or more seconds"))
        };
        if self.repetitions == 0 {
            return Err(Error::usage("-r: 0 is not allowed", "allowed: 1 or more"));
        }
        Ok(Plan {
            repetitions: self.repetitions,
            min_time: seconds("--min-time", self.min_time)?,
            max_time: seconds("--max-time", self.max_time)?,
            warmup: !self.no_warmup,
            delay: seconds("--delay", self.delay)?,
        })
    }
}

/// A list as llama-bench takes it: `128,512`, `128-512+128`, `128-2048*2`.
fn list(flag: &str, text: &str) -> Result<Vec<usize>> {
    const MOST: usize = 1 << 24;
    let bad = |part: &str| {
        Error::usage(
            format!("{flag}: `{part}` is not a number or a range"),
            "for instance 512, or 128,512, or 128-512+128, or 128-2048*2; at most 16777216",
        )
    };
    let mut out = Vec::new();
    for part in text.split(',') {
        let number = |s: &str| s.trim().parse().ok().filter(|n| *n <= MOST).ok_or_else(|| bad(part));
        let Some((first, rest)) = part.split_once('-') else {
            out.push(number(part)?);
            continue;
        };
        let (last, step, times) = match (rest.split_once('+'), rest.split_once('*')) {
            (Some((last, step)), _) => (last, number(step)?, 1),
            (_, Some((last, times))) => (last, 0, number(times)?),
            _ => (rest, 1, 1),
        };
        let (mut at, last): (usize, usize) = (number(first)?, number(last)?);
        if (step == 0 && (times < 2 || at == 0)) || last < at {
            return Err(bad(part));
        }
        while at <= last {
            out.push(at);
            at = at * times + step;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::try_parse_from(std::iter::once("taipan-bench").chain(text.split_whitespace())).expect("a command line")
    }

    #[test]
    fn lists_are_those_of_llama_bench() {
        assert_eq!(list("-p", "128,512").expect("a list"), [128, 512]);
        assert_eq!(list("-p", "1-4").expect("a range"), [1, 2, 3, 4]);
        assert_eq!(list("-p", "128-512+128").expect("a range"), [128, 256, 384, 512]);
        assert_eq!(list("-p", "128-1024*2,3").expect("a range"), [128, 256, 512, 1024, 3]);
        for bad in ["", "x", "-1", "4-1", "0-8*2", "1-8*1", "1-8+0", "99999999999", "1,,2"] {
            assert!(list("-p", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_second_option_set_changes_what_it_names_and_nothing_else() {
        let line = line("--random mamba2-130m --seed 7 --device gpu --chunk 32");
        let first = line.args.options(&line.target.device, &line.target.on(Backends::all()).unwrap());
        let second = line.args.versus(&first, "--device cpu --dtype f32 --recurrent 0").expect("options");
        assert_eq!((first.storage.recurrent, second.storage.recurrent), (None, Some(0)));
        assert_eq!((second.device.as_str(), second.storage.dtype), ("cpu", WeightDtype::F32));
        assert_eq!((second.random.as_str(), second.seed, second.storage.chunk), ("mamba2-130m", 7, Some(32)));
        let third = line.args.versus(&first, "--selected 1").expect("options");
        assert_eq!((first.selected, third.selected, third.seed), (SELECTED, 1.0, 7));
        let fourth = line.args.versus(&first, "--persistent 8 --no-cooperative").expect("options");
        assert_eq!((first.on.persistent, fourth.on.persistent, fourth.on.cooperative), (None, Some(8), false));
        for bad in
            ["--persistent 17", "-p 3", "--n-gen=4", "--nothing", "compare a b", "--selected 1.1", "--selected nan"]
        {
            assert!(line.args.versus(&first, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_need_tokens_and_times_make_sense() {
        assert!(line("-p 0 -n 0").args.tests().is_err());
        assert!(line("-r 0").args.plan().is_err());
        assert!(line("--min-time nan").args.plan().is_err());
        assert!(!line("--no-warmup").args.plan().expect("a plan").warmup);
    }
}
