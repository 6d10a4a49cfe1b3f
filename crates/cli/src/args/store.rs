//! Getting models from the hub, and looking after those that are here.

const PULL_HELP: &str = "\
Only what a model needs is fetched: config, tokenizer, chat template, and its weights from safetensors files, or from \
pytorch_model.bin where there are none; or else one GGUF file, which is named with --file or as ORG/NAME:FILE.gguf where \
there are several. Every file is checked against the hub's hash. What was broken off, by Ctrl-C too, \
goes on from there the next time. Before weights are fetched, their headers tell whether Taipan runs the model and \
whether it fits this machine.

The folder of the model, or the GGUF file, is printed. It lies in the cache that other tools of Hugging Face share: HF_HUB_CACHE, or hub in \
HF_HOME, or huggingface/hub in XDG_CACHE_HOME or ~/.cache. HF_TOKEN, or the token that `hf auth login` keeps, opens \
private and gated models; HF_ENDPOINT names another hub; with HF_HUB_OFFLINE=1 the network is never used.

Examples:
  taipan pull ibm-granite/granite-4.0-h-350m
  taipan generate -m ibm-granite/granite-4.0-h-350m --chat \"Why is the sky blue?\"
  taipan pull ibm-granite/granite-4.0-h-350m-GGUF --file granite-4.0-h-350m-Q8_0.gguf
  taipan pull tiiuae/Falcon-H1-0.5B-Instruct@main --json";

/// Download a model from the hub, or bring it up to date
#[derive(Debug, clap::Args)]
#[command(after_long_help = PULL_HELP)]
pub(crate) struct PullArgs {
    /// Name of the model on the hub, with a branch, tag or commit if it is not main
    #[arg(value_name = "ORG/NAME[@REV]")]
    pub(crate) model: String,
    /// The GGUF file to fetch, where the model is there as several; the same as ORG/NAME[@REV]:FILE
    #[arg(long, value_name = "FILE.gguf")]
    pub(crate) file: Option<String>,
    /// Print one JSON object at the end instead of the folder; {"error": {"code", "message", "hint"}} on failure
    #[arg(long)]
    pub(crate) json: bool,
}

const LS_HELP: &str = "\
`ready` models run by their name: taipan generate -m ORG/NAME. Of `incomplete` ones, files are missing, which pull \
fetches. `not supported` are models of other kinds, which other tools keep in the same cache.";

/// List the models that are here
#[derive(Debug, clap::Args)]
#[command(after_long_help = LS_HELP)]
pub(crate) struct LsArgs {
    /// Print one JSON object instead of a table; {"error": {"code", "message", "hint"}} on failure
    #[arg(long)]
    pub(crate) json: bool,
}

const RM_HELP: &str = "\
With a revision, files that another revision has too are kept. Other tools of Hugging Face share the cache and lose the \
model as well.

Examples:
  taipan rm ibm-granite/granite-4.0-h-350m
  taipan rm --yes ibm-granite/granite-4.0-h-350m@refs/pr/1";

/// Remove a model from the cache
#[derive(Debug, clap::Args)]
#[command(after_long_help = RM_HELP)]
pub(crate) struct RmArgs {
    /// Name of the model as `taipan ls` shows it
    #[arg(value_name = "ORG/NAME[@REV]")]
    pub(crate) model: String,
    /// Print one JSON object instead of a line; {"error": {"code", "message", "hint"}} on failure
    #[arg(long)]
    pub(crate) json: bool,
}
