//! From arguments to rows on standard output.

use std::io::Write;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use taipan::fsutil::AtomicFile;
use taipan::{Backends, Config, Device, Gguf, GpuRequest, Model, Select, SessionOptions, TuningTable};
use taipan_gpu::Gpu;
use taipan_kernels::TuningEntry;

use super::args::{BenchArgs, Format, On, Options, Sub};
use super::{Error, Result, host};
use crate::describe::{self, Subject};
use crate::draw::{self, Storage};
use crate::measure::{Samples, row};
use crate::presets::{PRESETS, Preset};
use crate::random::Drawn;
use crate::record::{Entry, Load, Probes, Versus};
use crate::stats::Ratio;
use crate::work::element_bytes;
use crate::workload::{Test, repeat};
use crate::{compare, kernels, output, probes, report, subject, tune};

/// Runs what the arguments say.
///
/// # Errors
/// Bad arguments, device errors, files, kernels that do not match.
pub async fn run(args: &BenchArgs, on: &On) -> Result<()> {
    match &args.command {
        Some(Sub::Compare { files }) => return print(&compare::table(&output::read_all(files)?)),
        Some(Sub::Report { files, output: path }) => return write_report(&output::read_all(files)?, path.as_deref()),
        None => {}
    }
    if args.list_devices {
        return list_devices(on.backends).await;
    }
    let notes = Notes::new(args.progress);
    // Read before minutes go into measuring.
    let kept = args.into.as_deref().map(table_at).transpose()?.unwrap_or_default();
    let (mut entries, mut table) = (Vec::new(), TuningTable::default());
    for name in on.devices.split(',') {
        let options = args.options(name.trim(), on);
        if args.tune {
            table.put(tuned(&options, args, &notes).await?);
        } else if args.kernels {
            entries.extend(kernel_entries(&options, args, &notes).await?);
        } else {
            entries.extend(workloads(&options, args, &notes).await?);
        }
    }
    drop(notes);
    if args.tune {
        return write_table(table, kept, args.into.as_deref());
    }
    write(&entries, args.output)?;
    let wrong = entries.iter().filter(|e| matches!(e, Entry::Kernel(k) if !k.ok)).count();
    if wrong > 0 { Err(Error::Mismatch { count: wrong }) } else { Ok(()) }
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let wrote = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    wrote.map_err(|source| Error::Io { action: "write", path: "standard output".into(), source })
}

fn write(entries: &[Entry], format: Format) -> Result<()> {
    print(&match format {
        Format::Md => output::markdown(entries),
        Format::Csv => output::csv(entries),
        Format::Json => output::json(entries),
        Format::Jsonl => output::jsonl(entries),
        Format::Html => report::page(entries),
    })
}

fn write_report(entries: &[Entry], path: Option<&std::path::Path>) -> Result<()> {
    let page = report::page(entries);
    let Some(path) = path else { return print(&page) };
    std::fs::write(path, page).map_err(|source| Error::Io { action: "write", path: path.to_owned(), source })
}

/// The table to put entries into: it keeps what it says about other devices.
fn table_at(path: &std::path::Path) -> Result<TuningTable> {
    let exists = path.try_exists().map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
    Ok(if exists { taipan::read_tuning(path)? } else { TuningTable::default() })
}

fn write_table(found: TuningTable, mut table: TuningTable, path: Option<&std::path::Path>) -> Result<()> {
    found.entries.into_iter().for_each(|entry| table.put(entry));
    let Some(path) = path else { return print(&table.to_json()) };
    let mut file = AtomicFile::create(path)?;
    file.write_all(table.to_json().as_bytes()).map_err(|source| Error::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })?;
    Ok(file.commit()?)
}

async fn list_devices(backends: Backends) -> Result<()> {
    let mut text = "Available devices:\n  cpu: the CPU device\n".to_owned();
    for a in taipan::list_adapters(backends).await {
        let software = if a.software { ", software" } else { "" };
        text += &format!("  {}: {} ({}, {} {}{software})\n", a.index, a.name, a.backend, a.driver, a.driver_info);
    }
    print(&text)
}

/// What is being done, for somebody who waits: lines with `--progress`, else a spinner on a terminal.
pub(super) struct Notes {
    lines: bool,
    bar: ProgressBar,
}

impl Notes {
    fn new(lines: bool) -> Self {
        let bar = if lines { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("a constant"));
        Self { lines, bar }
    }

    pub(super) fn say(&self, text: String) {
        if self.lines {
            let _ = writeln!(std::io::stderr().lock(), "taipan bench: {text}");
        }
        self.bar.set_message(text);
        self.bar.tick();
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

async fn open(options: &Options) -> Result<Device> {
    let device = find(options).await?;
    if let Some(gpu) = device.as_gpu().filter(|_| !options.on.cooperative) {
        gpu.without_cooperative();
    }
    if let (Some(gpu), Some(blocks)) = (device.as_gpu(), options.on.persistent) {
        gpu.run_blocks(blocks);
    }
    if let Some(table) = &options.on.tuning
        && !(device.is_cpu() || device.tune(table))
    {
        let what = format!("--tuning: the table has no entry for {}", device.description());
        return Err(Error::usage(what, "what is measured would not be what was asked for"));
    }
    Ok(device)
}

async fn find(options: &Options) -> Result<Device> {
    let select = match options.device.to_ascii_lowercase().as_str() {
        "auto" => return Ok(Device::auto(options.on.backends).await.0),
        "cpu" => return Ok(Device::cpu()),
        "gpu" => Select::Any,
        "" => return Err(Error::usage("--device has an empty name", "see --list-devices")),
        other => other.parse().map_or_else(|_| Select::Name(other.to_owned()), Select::Index),
    };
    Ok(Device::gpu(&GpuRequest { backends: options.on.backends, select, ..GpuRequest::default() }).await?)
}

fn preset(options: &Options) -> Result<&'static Preset> {
    Preset::find(&options.random).ok_or_else(|| {
        let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
        Error::usage(
            format!("--random: there is no preset `{}`", options.random),
            format!("one of {}", names.join(", ")),
        )
    })
}

/// What a model is made from.
enum Source {
    Drawn(Box<Drawn>),
    Folder(std::path::PathBuf),
}

impl Source {
    async fn load(&self, device: &Device, storage: Storage) -> Result<Model> {
        match self {
            Self::Drawn(drawn) => Ok(draw::model(drawn, device, storage).await?),
            Self::Folder(dir) => Ok(Model::open(dir, device, storage.options()).await?),
        }
    }

    fn id(&self) -> String {
        match self {
            Self::Drawn(drawn) => drawn.id.clone(),
            Self::Folder(dir) => {
                dir.file_name().map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into())
            }
        }
    }

    fn sha256(&self) -> Result<String> {
        match self {
            Self::Drawn(drawn) => Ok(drawn.sha256()),
            Self::Folder(dir) => hash_weights(dir),
        }
    }
}

/// Hash of all weight files, in the order of their names.
fn hash_weights(dir: &std::path::Path) -> Result<String> {
    let failed = |source| Error::Io { action: "read", path: dir.to_owned(), source };
    // A file is hashed as a whole.
    let mut files: Vec<_> = dir.is_file().then(|| dir.to_owned()).into_iter().collect();
    for entry in dir.is_dir().then(|| std::fs::read_dir(dir)).transpose().map_err(failed)?.into_iter().flatten() {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        std::io::copy(&mut file, &mut hash).map_err(failed)?;
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// A model on a device with everything about it that is not of one row.
async fn subject(options: &Options, notes: &Notes) -> Result<Subject> {
    notes.say(format!("opening {}", options.device));
    let start = Instant::now();
    let device = open(options).await?;
    let device_ns = start.elapsed().as_nanos() as f64;
    let source = match &options.model {
        Some(dir) => Source::Folder(dir.clone()),
        None => {
            let preset = preset(options)?;
            notes.say(format!("setting the gates of {}", preset.name));
            Source::Drawn(Box::new(
                subject::drawn(preset, options.seed, options.selected, &device, options.storage).await?,
            ))
        }
    };
    notes.say(format!("loading {} on {}", source.id(), device.description()));
    let start = Instant::now();
    let model = source.load(&device, options.storage).await?;
    let model_ns = start.elapsed().as_nanos() as f64;
    let start = Instant::now();
    model.session(SessionOptions::default())?.stats().await?;
    let session_ns = start.elapsed().as_nanos() as f64;
    let cold = repeat(&model, &Test { prompt: 0, generate: 1, depth: 0 }, None).await?;
    let mut info = describe::model_info(&model, &source.id(), source.sha256()?, None);
    info.seed = matches!(source, Source::Drawn(_)).then_some(options.seed);
    notes.say(format!("comparing {} with the CPU", device.description()));
    let on_cpu = async |config: &Config| -> Result<Model> {
        check_memory(config)?;
        let storage = Storage { segment: None, chunk: None, recurrent: None, ..options.storage };
        source.load(&Device::cpu(), storage).await
    };
    let (quality, share) = subject::agreement(&model, on_cpu).await?;
    info.selected_share = share;
    notes.say(format!("measuring what {} can do", device.description()));
    let host = host::host();
    Ok(Subject {
        element: element_bytes(model.format()),
        adapter: describe::adapter(&device, &host.cpu_info),
        host,
        runtime: describe::runtime("native", None),
        probes: probes::measure(&device).await?,
        load: Load { device_ns, model_ns, session_ns, total_ns: device_ns + model_ns + session_ns },
        quality,
        ttft_cold_ns: cold.first_token_ns,
        build_commit: option_env!("TAIPAN_COMMIT").unwrap_or("unknown").to_owned(),
        model,
        info,
    })
}

/// The CPU holds weights as f32.
fn check_memory(config: &Config) -> Result<()> {
    let (needed, free) = (4 * config.parameters(), host::free_memory());
    if needed > free {
        return Err(Error::usage(
            format!("the CPU side of the comparison needs {} MB of memory, {} MB are free", needed >> 20, free >> 20),
            "take a smaller model, or a computer with more memory: no row is written without its quality",
        ));
    }
    Ok(())
}

async fn workloads(options: &Options, args: &BenchArgs, notes: &Notes) -> Result<Vec<Entry>> {
    let (tests, plan) = (args.tests()?, args.plan()?);
    let mut subjects = vec![subject(options, notes).await?];
    if let Some(text) = &args.vs {
        subjects.push(subject(&args.versus(options, text)?, notes).await?);
    }
    let models: Vec<Model> = subjects.iter().map(|s| s.model.clone()).collect();
    let mut entries = Vec::new();
    for test in tests {
        std::thread::sleep(plan.delay);
        let began = host::now();
        let name = format!("{} on {}", test.name(), subjects[0].adapter.description);
        let mut samples = row(&models, &test, &plan, |round| notes.say(format!("{name}, repetition {round}"))).await?;
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            hold(subject, samples);
        }
        for (i, subject) in subjects.iter().enumerate() {
            let mut record = describe::record(subject, &test, &samples[i], began.clone()).await?;
            if let (1, Some(text)) = (i, &args.vs) {
                // Of times, so the other way round.
                let ratio = Ratio::of(&samples[1].ns(), &samples[0].ns());
                record.vs = Some(Versus { options: text.clone(), ratio });
            }
            entries.push(Entry::Workload(Box::new(record)));
        }
    }
    Ok(entries)
}

/// Notes how much memory is held now, while the model and its sessions are there.
fn hold(subject: &Subject, samples: &mut Samples) {
    let held = match subject.model.device().as_gpu() {
        Some(gpu) => gpu.allocated_bytes(),
        None => host::resident(),
    };
    if let Some(last) = samples.repetitions.last_mut() {
        last.held = held;
    }
}

async fn kernel_entries(options: &Options, args: &BenchArgs, notes: &Notes) -> Result<Vec<Entry>> {
    let device = open(options).await?;
    let gpu = shaders_of(&device, options, "--kernels")?;
    let (config, id) = match &options.model {
        None => (preset(options)?.config(), options.random.clone()),
        Some(dir) => {
            let bytes = if Gguf::is(dir) {
                Gguf::open(dir)?.description.config
            } else {
                let path = dir.join("config.json");
                std::fs::read(&path).map_err(|source| Error::Io { action: "read", path, source })?
            };
            (Config::from_json(&bytes)?, Source::Folder(dir.clone()).id())
        }
    };
    notes.say(format!("measuring what {} can do", device.description()));
    let probes = probes::measure(&device).await?;
    let setup = setup(&device, options, args, (config, id), probes)?;
    let records = kernels::run(gpu, &setup, |what| notes.say(what)).await?;
    Ok(records.into_iter().map(|r| Entry::Kernel(Box::new(r))).collect())
}

fn shaders_of<'a>(device: &'a Device, options: &Options, flag: &str) -> Result<&'a Gpu> {
    device.as_gpu().map(|gpu| &**gpu).ok_or_else(|| {
        Error::usage(
            format!("{flag} times shaders, and `{}` is the CPU", options.device),
            "give --device gpu, or an adapter of --list-devices",
        )
    })
}

fn setup(
    device: &Device,
    options: &Options,
    args: &BenchArgs,
    (config, model): (Config, String),
    probes: Probes,
) -> Result<kernels::Setup> {
    Ok(kernels::Setup {
        config,
        model,
        seed: options.seed,
        selected: options.selected,
        format: options.storage.format()?,
        tokens: args.tests()?.iter().map(|t| t.prompt).max().filter(|n| *n > 0).unwrap_or(512).min(4096),
        repetitions: args.plan()?.repetitions,
        adapter: describe::adapter(device, ""),
        runtime: describe::runtime("native", None),
        probes,
    })
}

/// Shapes that a device is tuned at if nobody says which: small ones where it is a CPU.
const TUNED_AT: &str = "mamba2-130m,taipan-450m,mamba2-1.3b";
const TUNED_AT_SOFTWARE: &str = "mamba2-4.8m,taipan-4.7m";

async fn tuned(options: &Options, args: &BenchArgs, notes: &Notes) -> Result<TuningEntry> {
    let device = open(options).await?;
    let gpu = shaders_of(&device, options, "--tune")?;
    let usual = if gpu.report().software { TUNED_AT_SOFTWARE } else { TUNED_AT };
    let mut setups = Vec::new();
    for name in args.random.as_deref().unwrap_or(usual).split(',') {
        let options = Options { random: name.trim().to_owned(), ..options.clone() };
        let model = (preset(&options)?.config(), options.random.clone());
        // Ratios to ceilings are not asked for.
        let probes = Probes { copy_gbps: 1.0, fma_gflops: 1.0, ..Probes::default() };
        setups.push(setup(&device, &options, args, model, probes)?);
    }
    Ok(tune::tune(gpu, &setups, |what| notes.say(what)).await?)
}

impl super::Line {
    /// Runs the line.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn run(&self) -> Result<()> {
        run(&self.args, &self.target.on(Backends::all())?).await
    }
}
