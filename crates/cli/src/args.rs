//! The command line as it is typed. Nothing here is checked beyond its spelling; see [`crate::settings`].

mod chat;
mod store;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use chat::{ChatArgs, commands as chat_commands};
pub(crate) use store::{LsArgs, PullArgs, RmArgs};

const EXAMPLES: &str = "\
Examples:
  taipan generate \"Once upon a time\"     with the embedded model, where it is fastest
  taipan generate -m DIR --temp 0 -n 100 -f prompt.txt
  taipan chat                            the same, turn by turn
  taipan pull ORG/NAME                   a model from the hub, which -m ORG/NAME then takes
  taipan devices                         what --device can choose from
  taipan perplexity -f book.txt --device cpu

With --json a failure is an object too: {\"error\": {\"code\", \"message\", \"hint\"}} on standard output, hint or null; \
standard error and exit code are the same as without.

An option given twice counts as given last, but for -r, of which every one counts.

Exit codes: 0 success, 1 error, 2 usage, 3 no suitable GPU though one was demanded, \
4 mismatch found by validate, 130 interrupted.";

/// Runs Mamba-2 and Taipan language models on any GPU, or on the CPU.
///
/// Data goes to standard output, everything else to standard error. Without -m every command takes the small model that
/// is embedded in this program.
#[derive(Debug, Parser)]
#[command(name = "taipan", version, after_help = EXAMPLES, max_term_width = 120, propagate_version = true, args_override_self = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Do not ask: download, remove, or try what may not fit
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// Whether the result is to be JSON.
    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::Generate(args) => args.json,
            Command::Chat(args) => args.json,
            Command::Validate(args) => args.json,
            Command::Logits(_) => false,
            Command::Perplexity(args) => args.json,
            Command::Quantize(args) => args.json,
            Command::Info(args) => args.json,
            Command::Devices(args) => args.json,
            Command::Pull(args) => args.json,
            Command::Ls(args) => args.json,
            Command::Rm(args) => args.json,
            Command::Bench(args) => args.json(),
        }
    }
}

/// Where to compute; the same in every command.
#[derive(Debug, clap::Args)]
pub(crate) struct TargetArgs {
    /// auto, cpu, gpu, or an adapter by its index or part of its name
    ///
    /// `auto` takes a real GPU if there is one and the CPU otherwise, since a software adapter is slower than that. `gpu`
    /// demands an adapter, software or not. See `taipan devices`.
    #[arg(
        long,
        global = true,
        default_value = "auto",
        value_name = "auto|cpu|gpu|INDEX|NAME",
        help_heading = "Device"
    )]
    pub(crate) device: String,
    /// Graphics interfaces to look for adapters in, separated by commas [default: all but gl]
    #[arg(long, global = true, value_enum, value_delimiter = ',', value_name = "LIST", help_heading = "Device")]
    pub(crate) backend: Vec<Backend>,
    /// Table of what is faster on which GPU, over the built-in one; written by `taipan bench --tune` [default: none]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Device")]
    pub(crate) tuning: Option<PathBuf>,
    /// Do without an adapter's matrix units, which make prompts faster where it has them
    #[arg(long, global = true, help_heading = "Device")]
    pub(crate) no_cooperative: bool,
    /// Mamba-2 blocks that a token goes through in one dispatch at most, whose workgroups wait for each other, on NVIDIA's
    /// cards; 0: no workgroup waits for another [default: 16, of a Taipan model all, with the attention between them]
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u32).range(..=16))]
    #[arg(global = true, help_heading = "Device")]
    pub(crate) persistent: Option<u32>,
}

/// A graphics interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Vulkan,
    Metal,
    Dx12,
    Gl,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Generate(GenerateArgs),
    Chat(ChatArgs),
    Validate(ValidateArgs),
    Logits(LogitsArgs),
    Perplexity(PerplexityArgs),
    Quantize(QuantizeArgs),
    Pull(PullArgs),
    Ls(LsArgs),
    Rm(RmArgs),
    Info(InfoArgs),
    Devices(DevicesArgs),
    Bench(taipan_bench::native::BenchArgs),
}

/// Which model, and how to run it.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Folder with config.json, safetensors weights and tokenizer.json, or with a .gguf file, or such a file, or a model of the hub [default: the embedded model]
    ///
    /// A model of the hub is named ORG/NAME or ORG/NAME@REV, and one of its GGUF files ORG/NAME:FILE.gguf. What is in the cache is used as it is; otherwise it is
    /// downloaded, after asking. A folder of that name goes first.
    #[arg(short, long, value_name = "DIR|ORG/NAME")]
    pub(crate) model: Option<PathBuf>,
    /// Tokenizer to use in place of the model's own: a tokenizer.json, or a folder that has one
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// How matrices are held in memory; `auto` is as they are stored
    ///
    /// q8 and q4 are integers of 8 and 4 bits with an f16 scale for every 32 of them: about half and a quarter of f16 in
    /// memory and in what a decoded token reads. `taipan quantize` does it once and for all, `taipan perplexity` says what it
    /// costs.
    #[arg(long, value_enum, default_value_t = DtypeArg::Auto)]
    pub(crate) dtype: DtypeArg,
    /// Let attention select at most C·L + BURST of any L tokens, 0 < C ≤ 1 [default: no bound; BURST: 16]
    #[arg(long, value_name = "C[,BURST]")]
    pub(crate) attention_bound: Option<String>,
    /// Most tokens of a text, for a model with full attention, whose memory grows with it [default: what the device holds]
    #[arg(long, value_name = "N")]
    pub(crate) ctx: Option<usize>,
}

/// Storage of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeArg {
    Auto,
    F32,
    F16,
    Bf16,
    Q8,
    Q4,
}

const GENERATE_HELP: &str = "\
The prompt is exactly its tokens, with a BOS in front only where the model's own tokenizer adds one, and special tokens \
written in it, such as <|endoftext|>, are recognised. With --chat it is what a user says, and the model's template makes \
the prompt of it. One newline at the end of FILE or of standard input is dropped.

Samplers are applied in llama.cpp's order: repeat penalty, top-k, top-p, min-p, temperature. Their defaults are \
llama.cpp's too. Only greedy text (--temp 0) is promised to be the same on every device.

Examples:
  taipan generate \"Once upon a time\"
  taipan generate --temp 0 -n 50 \"The little dog\"
  taipan generate -s 7 --top-k 20 -r \"The end\" -f start.txt
  echo \"Lily and Tom\" | taipan generate --no-display-prompt > story.txt
  taipan generate --json --show-timings \"Once\" | jq .timings";

/// Continue a prompt; text goes to standard output as it is made
///
/// Stops at a stop string, at the model's end-of-text token, or at the limit of -n. Ctrl-C stops within one token
/// and keeps what was printed; it also stops loading and, on a GPU after the piece that it is at, reading the prompt. A
/// second Ctrl-C ends the program at once. The prompt is printed when it is read.
#[derive(Debug, clap::Args)]
#[command(after_long_help = GENERATE_HELP)]
#[command(group(clap::ArgGroup::new("source").args(["positional", "prompt", "file"])))]
pub(crate) struct GenerateArgs {
    /// Text to continue; if no prompt is given here, by -p or by -f, standard input is read
    #[arg(value_name = "PROMPT")]
    pub(crate) positional: Option<String>,
    /// Text to continue, for prompts that begin with a dash
    #[arg(short, long, value_name = "PROMPT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// Read the prompt from this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Ask a chat model: the prompt is what a user says, and only the answer is printed
    #[arg(long)]
    pub(crate) chat: bool,
    /// With --chat, what the model is told before
    #[arg(long, value_name = "TEXT", requires = "chat", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// Tokens to generate at most; -1 is no limit [default: 512]
    #[arg(short = 'n', long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) predict: Option<i64>,
    /// Stop before this text, which is not printed; can be given several times
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) reverse_prompt: Vec<String>,
    /// Go on after the end-of-text token
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// Print only what the model adds, not the prompt
    #[arg(long)]
    pub(crate) no_display_prompt: bool,
    /// Print speeds, dispatches and memory to standard error at the end
    #[arg(long)]
    pub(crate) show_timings: bool,
    /// Print one JSON object at the end instead of text; {"error": {"code", "message", "hint"}} on failure
    #[arg(long)]
    pub(crate) json: bool,
    // Last, because its heading holds for everything after it.
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Seed of the random numbers; -1 is a random one [default: -1]
    #[arg(short, long, value_name = "SEED", allow_hyphen_values = true)]
    pub(crate) seed: Option<i128>,
    /// Temperature; 0 is greedy [default: the model's own, else 0.8]
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub(crate) temp: Option<f32>,
    /// Keep the K most probable tokens; 0 is all [default: the model's own, else 40]
    #[arg(long, value_name = "K", allow_hyphen_values = true)]
    pub(crate) top_k: Option<i64>,
    /// Keep the most probable tokens that together reach P; 1 is all [default: the model's own, else 0.95]
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub(crate) top_p: Option<f32>,
    /// Keep tokens at least P times as probable as the most probable one; 0 is all [default: the model's own, else 0.05]
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub(crate) min_p: Option<f32>,
    /// Make recent tokens less likely by this factor; 1 is off [default: the model's own, else 1]
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub(crate) repeat_penalty: Option<f32>,
    /// How many tokens are recent; 0 is none, -1 as many as are remembered (1024)
    #[arg(long, default_value_t = 64, value_name = "N", allow_hyphen_values = true)]
    pub(crate) repeat_last_n: i64,
}

const VALIDATE_HELP: &str = "\
A case is a folder with config.json, model.safetensors, golden.json and golden.safetensors; a DIR may be a case or a \
folder of cases. Of golden.json both forms are read, the one with `prompts` and the one with `cases`; where the latter says that \
its decoding does not clamp steps as its prefill does, what the model itself does consistently is compared. For every prompt of a case are compared: logits of all positions, selection masks (which must be \
equal), mixing weights, greedy tokens, the prompt split at every odd position with the undivided one, and \
token-by-token decoding.

With --dtype f16, bf16, q8 or q4 a GPU is compared with the CPU device on the same rounded weights, because the golden numbers \
are those of the weights as they are stored.

After Ctrl-C what was compared so far is printed; in JSON `interrupted` is true then, and `passed` is not.

Examples:
  taipan validate cases --device cpu
  taipan validate --kernels --device gpu";

/// Compare results with golden cases, or every kernel with its CPU twin; exit code 4 on any mismatch
#[derive(Debug, clap::Args)]
#[command(after_long_help = VALIDATE_HELP)]
pub(crate) struct ValidateArgs {
    /// Case folders, or folders of case folders
    #[arg(value_name = "DIR")]
    pub(crate) dirs: Vec<PathBuf>,
    /// Compare every kernel with its CPU twin instead; `--device auto` then takes software adapters too
    #[arg(long)]
    pub(crate) kernels: bool,
    /// How matrices are held in memory; `auto` is as they are stored
    #[arg(long, value_enum, default_value_t = DtypeArg::Auto)]
    pub(crate) dtype: DtypeArg,
    /// Print one JSON object instead of a table; {"error": {"code", "message", "hint"}} on failure
    #[arg(long)]
    pub(crate) json: bool,
}

const LOGITS_HELP: &str = "\
OUT.safetensors holds `logits` [L, vocab] f32 and, where the model has selective-attention layers, `alpha` [layers, L] \
f32 and `mask` [layers, L] u8 (1 = selected). It appears whole or not at all. The prompt is exactly its tokens, with a \
BOS in front only where the model's own tokenizer adds one, and a newline at the end of FILE counts.

Examples:
  taipan logits --prompt \"Once upon a time\" -o logits.safetensors
  taipan logits -m DIR --ids 1,2,3 -o logits.safetensors --device cpu";

/// Write the logits of every position of a prompt to a safetensors file
#[derive(Debug, clap::Args)]
#[command(after_long_help = LOGITS_HELP)]
#[command(group(clap::ArgGroup::new("input").required(true).args(["ids", "prompt", "file"])))]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Token ids, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "1,2,3")]
    pub(crate) ids: Vec<u32>,
    /// Text
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// Read the text from this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub(crate) output: PathBuf,
}

const PERPLEXITY_HELP: &str = "\
The text is encoded once, special tokens recognised and nothing added, and read in one pass that carries the state: the \
result is the mean of -ln p over tokens 2 to n. With --context N the state is reset every N tokens and the first token \
of each window is not predicted. Bits per byte are that mean times the number of tokens, in bits, over the bytes of the \
text. Texts of any length take the same memory.

Examples:
  taipan perplexity -f heldout.txt
  taipan perplexity -m DIR -f book.txt --context 4096 --json";

/// Measure how well the model predicts a text
#[derive(Debug, clap::Args)]
#[command(after_long_help = PERPLEXITY_HELP)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The text, UTF-8
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Reset the state every N tokens [default: never]
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    /// Print one JSON object instead of a table; {"error": {"code", "message", "hint"}} on failure
    #[arg(long)]
    pub(crate) json: bool,
}

const QUANTIZE_HELP: &str = "\
Every matrix is quantised, the embedding and the head among them: 32 consecutive numbers of a row become integers of 8 or 4 \
bits and one f16 scale, 8.5 or 4.5 bits a number. q8 is hard to tell from f16, q4 writes visibly worse text the smaller the \
model is; `taipan perplexity` measures it. Norms, biases, convolutions and gates are copied as they are.

OUT gets config.json, model.safetensors and, if they are there, tokenizer and chat template, and appears whole or not at all. It is a model \
folder like any other: every command takes it with -m, and --dtype f16 makes numbers of it again. The same as \
--dtype q8 or q4 when loading, but done once, and small on disk.

Examples:
  taipan quantize model model-q4 --dtype q4
  taipan perplexity -m model-q4 -f heldout.txt";

/// Write a copy of a model whose matrices are 8-bit or 4-bit integers
#[derive(Debug, clap::Args)]
#[command(after_long_help = QUANTIZE_HELP)]
pub(crate) struct QuantizeArgs {
    /// Folder or .gguf file of a model that is not quantised yet
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,
    /// Folder to be made; there must be nothing of that name
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Bits of an integer
    #[arg(long, value_enum)]
    pub(crate) dtype: QuantArg,
    /// Print one JSON object instead of a table; {"error": {"code", "message", "hint"}} on failure
    #[arg(long)]
    pub(crate) json: bool,
}

/// A quantisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QuantArg {
    /// 8 bits
    Q8,
    /// 4 bits
    Q4,
}

const INFO_HELP: &str = "\
Reads config.json and the headers of the weights, no weight; of a model of the hub that is not here only these are \
fetched, and nothing is kept. Drivers do not tell how much memory is free, so the answer \
to whether a model fits is `no` where a limit of the adapter excludes it, `yes` where it is certain, and `unknown` \
otherwise.

Examples:
  taipan info
  taipan info DIR --device 0 --json
  taipan info ibm-granite/granite-4.0-h-1b --ctx 8192";

/// Describe a model: architecture, parameters, sizes, and whether it fits the chosen adapter
#[derive(Debug, clap::Args)]
#[command(after_long_help = INFO_HELP)]
pub(crate) struct InfoArgs {
    /// Folder of the model, or its name on the hub [default: the embedded model]
    #[arg(value_name = "DIR|ORG/NAME")]
    pub(crate) dir: Option<PathBuf>,
    /// The same as DIR
    #[arg(short, long, value_name = "DIR|ORG/NAME", conflicts_with = "dir")]
    pub(crate) model: Option<PathBuf>,
    /// Count the state of a text of so many tokens; it grows where a model has full attention
    #[arg(long, value_name = "N")]
    pub(crate) ctx: Option<usize>,
    /// Print one JSON object instead of a table; {"error": {"code", "message", "hint"}} on failure
    #[arg(long)]
    pub(crate) json: bool,
}

/// List adapters with the limits that matter here, and which one `auto` takes
///
/// Of the features of an adapter none is needed or used; the JSON lists three for information.
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {
    /// Print one JSON object instead of a table; {"error": {"code", "message", "hint"}} on failure
    #[arg(long)]
    pub(crate) json: bool,
}
