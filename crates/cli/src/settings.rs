//! Checked settings: what [`crate::args`] means, with every impossible value refused.

use std::path::PathBuf;

use taipan::{AttentionBound, Backends, GenerationDefaults, Quant, Sampling, Select, TuningTable, WeightDtype};
use taipan_hub::ModelId;

use crate::args::{
    Args, Backend, ChatArgs, Command, DtypeArg, GenerateArgs, InfoArgs, LogitsArgs, LsArgs, ModelArgs, PerplexityArgs,
    PullArgs, QuantArg, QuantizeArgs, RmArgs, SamplingArgs, TargetArgs, ValidateArgs,
};
use crate::commands::Wishes;
use crate::failure::{Failure, Result};

/// Tokens that `generate` makes at most if nobody says how many.
const DEFAULT_PREDICT: usize = 512;

/// The most tokens that the library's repeat penalty remembers.
const RECENT: i64 = 1024;

/// A command, and where it computes.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) task: Task,
}

/// A command.
#[derive(Debug)]
pub(crate) enum Task {
    Generate(Generate),
    Chat(Chat),
    Validate(Validate),
    Logits(Logits),
    Perplexity(Perplexity),
    Quantize(Quantize),
    Pull(Pull),
    Ls {
        json: bool,
    },
    Rm(Rm),
    Info(Info),
    Devices {
        json: bool,
    },
    /// The list of devices is read by the benchmark itself.
    Bench {
        args: Box<taipan_bench::native::BenchArgs>,
        devices: String,
        yes: bool,
    },
}

/// Where to compute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    pub(crate) choice: Choice,
    pub(crate) backends: Backends,
    pub(crate) tuning: Option<TuningTable>,
    pub(crate) cooperative: bool,
    pub(crate) persistent: Option<u32>,
}

/// A device, as asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Choice {
    /// A real GPU if there is one, else the CPU.
    Auto,
    Cpu,
    /// This adapter, or none.
    Gpu(Select),
}

/// Which model, and how to run it.
#[derive(Debug, Clone)]
pub(crate) struct ModelChoice {
    /// A folder or a name on the hub; `None` is the embedded one.
    pub(crate) dir: Option<PathBuf>,
    /// Not to ask before a download.
    pub(crate) yes: bool,
    /// In place of its own.
    pub(crate) tokenizer: Option<PathBuf>,
    pub(crate) dtype: WeightDtype,
    pub(crate) bound: Option<AttentionBound>,
    /// Most tokens of a text.
    pub(crate) context: Option<usize>,
}

/// Where a prompt comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PromptSource {
    Text(String),
    File(PathBuf),
    Stdin,
}

#[derive(Debug)]
pub(crate) struct Generate {
    pub(crate) model: ModelChoice,
    pub(crate) prompt: PromptSource,
    /// `None` is until the model stops.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampling: SamplingChoice,
    /// Ask a chat model, with what it is told before.
    pub(crate) chat: Option<Option<String>>,
    pub(crate) stop: Vec<String>,
    pub(crate) ignore_eos: bool,
    pub(crate) display_prompt: bool,
    pub(crate) show_timings: bool,
    pub(crate) json: bool,
}

#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) model: ModelChoice,
    pub(crate) wishes: Wishes,
    pub(crate) json: bool,
}

/// How to sample, as far as the flags say.
#[derive(Debug)]
pub(crate) struct SamplingChoice {
    pub(crate) seed: u64,
    repeat_last_n: u32,
    flags: GenerationDefaults,
}

#[derive(Debug)]
pub(crate) struct Validate {
    pub(crate) what: Golden,
    pub(crate) dtype: WeightDtype,
    pub(crate) json: bool,
}

/// What is validated.
#[derive(Debug, PartialEq)]
pub(crate) enum Golden {
    Cases(Vec<PathBuf>),
    Kernels,
}

#[derive(Debug)]
pub(crate) struct Logits {
    pub(crate) model: ModelChoice,
    pub(crate) input: LogitsInput,
    pub(crate) output: PathBuf,
}

/// What logits are computed of.
#[derive(Debug, PartialEq)]
pub(crate) enum LogitsInput {
    Ids(Vec<u32>),
    Text(PromptSource),
}

#[derive(Debug)]
pub(crate) struct Perplexity {
    pub(crate) model: ModelChoice,
    pub(crate) file: PathBuf,
    pub(crate) context: Option<usize>,
    pub(crate) json: bool,
}

#[derive(Debug)]
pub(crate) struct Quantize {
    pub(crate) input: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) quant: Quant,
    pub(crate) yes: bool,
    pub(crate) json: bool,
}

#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) id: ModelId,
    pub(crate) yes: bool,
    pub(crate) json: bool,
}

#[derive(Debug)]
pub(crate) struct Rm {
    pub(crate) id: ModelId,
    pub(crate) yes: bool,
    pub(crate) json: bool,
}

#[derive(Debug)]
pub(crate) struct Info {
    /// A folder or a name on the hub; `None` is the embedded model.
    pub(crate) dir: Option<PathBuf>,
    /// Tokens of a text.
    pub(crate) context: Option<usize>,
    pub(crate) json: bool,
}

impl TryFrom<Args> for Settings {
    type Error = Failure;

    fn try_from(args: Args) -> Result<Settings> {
        let yes = args.yes;
        let task = match args.command {
            Command::Generate(args) => Task::Generate(generate(args, yes)?),
            Command::Chat(args) => Task::Chat(chat(args, yes)?),
            Command::Validate(args) => Task::Validate(validate(args)?),
            Command::Logits(args) => Task::Logits(logits(args, yes)?),
            Command::Perplexity(args) => Task::Perplexity(perplexity(args, yes)?),
            Command::Quantize(args) => Task::Quantize(quantize(args, yes)),
            Command::Pull(PullArgs { model, file, json }) => {
                let id = match file {
                    Some(file) => id(&model)?.with_file(&file).map_err(misnamed)?,
                    None => id(&model)?,
                };
                Task::Pull(Pull { id, yes, json })
            }
            Command::Ls(LsArgs { json }) => Task::Ls { json },
            Command::Rm(RmArgs { model, json }) => Task::Rm(Rm { id: whole(id(&model)?)?, yes, json }),
            Command::Info(InfoArgs { dir, model, ctx, json }) => {
                Task::Info(Info { dir: dir.or(model), context: context(ctx)?, json })
            }
            Command::Bench(bench) => Task::Bench { args: Box::new(bench), devices: args.target.device.clone(), yes },
            Command::Devices(args) => Task::Devices { json: args.json },
        };
        Ok(Settings { target: target(args.target)?, task })
    }
}

fn target(args: TargetArgs) -> Result<Target> {
    let bits = |backend: &Backend| match backend {
        Backend::Vulkan => Backends::VULKAN,
        Backend::Metal => Backends::METAL,
        Backend::Dx12 => Backends::DX12,
        Backend::Gl => Backends::GL,
    };
    let backends = match args.backend.as_slice() {
        // The library's default: few drivers of GL can bind eight storage buffers.
        [] => Backends::PRIMARY,
        list => list.iter().map(bits).collect(),
    };
    let choice = match args.device.to_ascii_lowercase().as_str() {
        "" => return Err(Failure::usage("--device is empty", "see `taipan devices`")),
        "auto" => Choice::Auto,
        "cpu" => Choice::Cpu,
        "gpu" => Choice::Gpu(Select::Any),
        other => Choice::Gpu(match other.parse() {
            Ok(index) => Select::Index(index),
            Err(_) => Select::Name(args.device),
        }),
    };
    let tuning = args.tuning.map(|path| taipan::read_tuning(&path)).transpose()?;
    Ok(Target { choice, backends, tuning, cooperative: !args.no_cooperative, persistent: args.persistent })
}

fn id(name: &str) -> Result<ModelId> {
    name.parse().map_err(misnamed)
}

fn misnamed(error: taipan_hub::Error) -> Failure {
    Failure::usage(error.to_string(), error.hint().unwrap_or_default())
}

/// A model with all of its files.
fn whole(id: ModelId) -> Result<ModelId> {
    match id.file() {
        None => Ok(id),
        Some(file) => {
            let hint = format!("`taipan rm {}` removes all of it", id.without_file());
            Err(Failure::usage(format!("{file} cannot be removed by itself"), hint))
        }
    }
}

fn context(tokens: Option<usize>) -> Result<Option<usize>> {
    if tokens == Some(0) {
        return Err(not_in("--ctx", 0, "a number of tokens, 1 or more"));
    }
    Ok(tokens)
}

fn model(args: ModelArgs, yes: bool) -> Result<ModelChoice> {
    let bound = args.attention_bound.map(|text| text.parse::<AttentionBound>());
    let bound = bound
        .transpose()
        .map_err(|e| Failure::usage(format!("--attention-bound: {e}"), "for instance --attention-bound 0.15,16"))?;
    let (dir, tokenizer, dtype) = (args.model, args.tokenizer, dtype(args.dtype));
    Ok(ModelChoice { dir, yes, tokenizer, dtype, bound, context: context(args.ctx)? })
}

fn dtype(arg: DtypeArg) -> WeightDtype {
    match arg {
        DtypeArg::Auto => WeightDtype::Auto,
        DtypeArg::F32 => WeightDtype::F32,
        DtypeArg::F16 => WeightDtype::F16,
        DtypeArg::Bf16 => WeightDtype::Bf16,
        DtypeArg::Q8 => WeightDtype::Q8,
        DtypeArg::Q4 => WeightDtype::Q4,
    }
}

fn quantize(args: QuantizeArgs, yes: bool) -> Quantize {
    let quant = match args.dtype {
        QuantArg::Q8 => Quant::Q8,
        QuantArg::Q4 => Quant::Q4,
    };
    Quantize { input: args.input, output: args.output, quant, yes, json: args.json }
}

fn generate(args: GenerateArgs, yes: bool) -> Result<Generate> {
    let text = args.positional.or(args.prompt).map(PromptSource::Text);
    if args.reverse_prompt.iter().any(String::is_empty) {
        return Err(Failure::usage("-r is empty", "a stop string has at least one character"));
    }
    Ok(Generate {
        model: model(args.model, yes)?,
        prompt: text.or(args.file.map(PromptSource::File)).unwrap_or(PromptSource::Stdin),
        max_tokens: max_tokens(args.predict)?,
        sampling: sampling(&args.sampling)?,
        chat: args.chat.then_some(args.system),
        stop: args.reverse_prompt,
        ignore_eos: args.ignore_eos,
        display_prompt: !args.no_display_prompt,
        show_timings: args.show_timings,
        json: args.json,
    })
}

fn chat(args: ChatArgs, yes: bool) -> Result<Chat> {
    Ok(Chat { wishes: Wishes::new(&args)?, model: model(args.model, yes)?, json: args.json })
}

/// The most tokens of a generation; `None` is no limit.
pub(crate) fn max_tokens(predict: Option<i64>) -> Result<Option<usize>> {
    match predict {
        None => Ok(Some(DEFAULT_PREDICT)),
        Some(-1) => Ok(None),
        Some(n) => usize::try_from(n).map(Some).map_err(|_| not_in("-n", n, "a number of tokens, or -1 for no limit")),
    }
}

pub(crate) fn sampling(args: &SamplingArgs) -> Result<SamplingChoice> {
    let seed = match args.seed {
        None | Some(-1) => u64::from(random_seed()),
        Some(n) => u64::try_from(n).map_err(|_| not_in("--seed", n, "0 to 2^64 − 1, or -1 for a random one"))?,
    };
    let repeat_last_n = match args.repeat_last_n {
        -1 => RECENT,
        n if (0..=RECENT).contains(&n) => n,
        n => return Err(not_in("--repeat-last-n", n, &format!("0 to {}, or -1", RECENT))),
    };
    let positive = f32::MIN_POSITIVE..=f32::MAX;
    Ok(SamplingChoice {
        seed,
        repeat_last_n: repeat_last_n as u32,
        flags: GenerationDefaults {
            eos_token_ids: None,
            temperature: float("--temp", args.temp, 0.0..=f32::MAX)?,
            // llama.cpp's spelling of "all" is anything that is not positive.
            top_k: args.top_k.map(|k| u32::try_from(k.max(0)).unwrap_or(0)),
            top_p: float("--top-p", args.top_p, 0.0..=1.0)?,
            min_p: float("--min-p", args.min_p, 0.0..=1.0)?,
            repeat_penalty: float("--repeat-penalty", args.repeat_penalty, positive)?,
        },
    })
}

impl SamplingChoice {
    /// What the flags say, or else the model's makers, or else llama.cpp's defaults.
    pub(crate) fn resolve(&self, model: &GenerationDefaults) -> Sampling {
        let flags = &self.flags;
        Sampling {
            seed: self.seed,
            temperature: flags.temperature.or(model.temperature).unwrap_or(0.8),
            top_k: flags.top_k.or(model.top_k).unwrap_or(40),
            top_p: flags.top_p.or(model.top_p).unwrap_or(0.95),
            min_p: flags.min_p.or(model.min_p).unwrap_or(0.05),
            repeat_penalty: flags.repeat_penalty.or(model.repeat_penalty).unwrap_or(1.0),
            repeat_last_n: self.repeat_last_n,
        }
    }
}

fn float(name: &str, value: Option<f32>, allowed: std::ops::RangeInclusive<f32>) -> Result<Option<f32>> {
    let Some(value) = value.filter(|value| !allowed.contains(value)) else { return Ok(value) };
    let (lo, hi) = (*allowed.start(), *allowed.end());
    let lo = if lo == f32::MIN_POSITIVE { "more than 0".to_owned() } else { format!("{lo} or more") };
    let hi = if hi == f32::MAX { String::new() } else { format!(", at most {hi}") };
    Err(not_in(name, value, &format!("{lo}{hi}")))
}

fn not_in(name: &str, value: impl std::fmt::Display, allowed: &str) -> Failure {
    Failure::usage(format!("{name}: {value} is not allowed"), format!("allowed: {allowed}"))
}

/// A seed that no other run has: 32 bits, because that is short enough to be typed again.
fn random_seed() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() as u32
}

fn validate(args: ValidateArgs) -> Result<Validate> {
    let what = match (args.dirs.is_empty(), args.kernels) {
        (false, false) => Golden::Cases(args.dirs),
        (true, true) => Golden::Kernels,
        (true, false) => {
            return Err(Failure::usage("nothing to validate", "name a folder of cases, or give --kernels"));
        }
        (false, true) => return Err(Failure::usage("--kernels takes no DIR", "run the two one after the other")),
    };
    if args.kernels && args.dtype != DtypeArg::Auto {
        return Err(Failure::usage("--kernels takes no --dtype", "its cases cover every type"));
    }
    Ok(Validate { what, dtype: dtype(args.dtype), json: args.json })
}

fn logits(args: LogitsArgs, yes: bool) -> Result<Logits> {
    let text = args.prompt.map(PromptSource::Text).or(args.file.map(PromptSource::File));
    let input = text.map_or(LogitsInput::Ids(args.ids), LogitsInput::Text);
    Ok(Logits { model: model(args.model, yes)?, input, output: args.output })
}

fn perplexity(args: PerplexityArgs, yes: bool) -> Result<Perplexity> {
    if args.context.is_some_and(|n| n < 2) {
        return Err(Failure::usage("--context is below 2", "a window of one token predicts nothing"));
    }
    Ok(Perplexity { model: model(args.model, yes)?, file: args.file, context: args.context, json: args.json })
}
