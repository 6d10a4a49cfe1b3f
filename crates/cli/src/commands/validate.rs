//! `taipan validate`: compares results with golden ones.

mod case;
mod checks;
mod compare;
mod kernels;
mod reference;

use std::path::{Path, PathBuf};

use serde::Serialize;
use taipan::{Device, LoadOptions, Model, Select, SessionOptions, WeightDtype};

use crate::failure::{Failure, Result};
use crate::progress::{Progress, Unit};
use crate::settings::{Choice, Golden, Target, Validate};
use crate::target::open_device;
use crate::{interrupt, output};
use case::Case;
use checks::{Outcome, Tolerances};

/// Runs golden cases or kernel cases.
pub(super) async fn run(target: &Target, task: Validate) -> Result<()> {
    interrupt::install();
    match &task.what {
        Golden::Kernels => {
            let device = open_device(&adapter(target)?).await?;
            kernels::run(&device, task.json).await
        }
        Golden::Cases(dirs) => {
            let device = open_device(target).await?;
            cases(&device, dirs, task.dtype, task.json).await
        }
    }
}

/// Kernels run on adapters only, a software one if there is no other; the CPU is what they are compared with.
fn adapter(target: &Target) -> Result<Target> {
    let choice = match &target.choice {
        Choice::Auto => Choice::Gpu(Select::Any),
        Choice::Gpu(select) => Choice::Gpu(select.clone()),
        Choice::Cpu => {
            let hint = "leave out --device, or choose an adapter with it";
            return Err(Failure::usage("the CPU would be compared with itself", hint));
        }
    };
    Ok(Target { choice, ..target.clone() })
}

/// What the results are compared with.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Against {
    /// The numbers in the case.
    Golden,
    /// The CPU device on the same rounded weights.
    Cpu,
}

impl Against {
    /// Rounding the weights moves results further than any tolerance, so then the golden numbers say nothing.
    fn new(device: &Device, dtype: WeightDtype) -> Result<Against> {
        match dtype {
            WeightDtype::Auto | WeightDtype::F32 => Ok(Against::Golden),
            _ if device.is_cpu() => Err(Failure::usage(
                "the CPU device with 16-bit matrices would be compared with itself",
                "choose a GPU with --device, or leave out --dtype",
            )),
            _ => Ok(Against::Cpu),
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Against::Golden => "golden numbers",
            Against::Cpu => "the CPU device on the same rounded weights",
        }
    }
}

async fn cases(device: &Device, dirs: &[PathBuf], dtype: WeightDtype, json: bool) -> Result<()> {
    let against = Against::new(device, dtype)?;
    let tolerances = Tolerances::of(device, against);
    let folders = find_cases(dirs)?;
    let progress = Progress::new("validating", Unit::Cases);
    let (device_name, outcomes) = (device.description(), Vec::new());
    let mut report = Report { device: device_name, against, tolerances, outcomes, interrupted: false };
    for (i, folder) in folders.iter().enumerate() {
        progress.set(i as u64, folders.len() as u64);
        let complete = run_case(folder, device, dtype, against, &tolerances, &mut report.outcomes).await?;
        report.interrupted = !complete;
        if report.interrupted {
            break;
        }
    }
    drop(progress);
    if json {
        report.print_json()?
    } else {
        report.print_table()?
    }
    match (report.differs(), report.interrupted) {
        (true, _) => Err(Failure::Mismatch),
        (false, true) => Err(Failure::Interrupted),
        (false, false) => Ok(()),
    }
}

/// Compares all prompts of a case; false if Ctrl-C was pressed before the last.
async fn run_case(
    folder: &Path,
    device: &Device,
    dtype: WeightDtype,
    against: Against,
    tolerances: &Tolerances,
    outcomes: &mut Vec<Outcome>,
) -> Result<bool> {
    let within = |error| Failure::within(folder, error);
    let mut case = Case::read(folder)?;
    let options = || LoadOptions { dtype, ..LoadOptions::default() };
    let cpu = Device::cpu();
    let Some(model) = interrupt::unless(Model::open(folder, device, options())).await else { return Ok(false) };
    let model = model.map_err(within)?;
    case.settle(&model)?;
    let session = SessionOptions { attention_bound: case.bound, ..SessionOptions::default() };
    let oracle = match against {
        Against::Golden => None,
        Against::Cpu => {
            let oracle = interrupt::unless(Model::open(folder, &cpu, options())).await;
            let Some(oracle) = oracle else { return Ok(false) };
            Some(oracle.map_err(within)?)
        }
    };
    for prompt in &case.prompts {
        let compare = async {
            let expected = match &oracle {
                None => prompt.expected.clone(),
                Some(oracle) => reference::compute(oracle, &session, prompt).await?,
            };
            checks::run(&model, &session, &prompt.ids, &expected, tolerances).await
        };
        let Some(checks) = interrupt::unless(compare).await else { return Ok(false) };
        let Some(checks) = checks.map_err(within)? else { return Ok(false) };
        outcomes.push(Outcome { case: case.name.clone(), prompt: prompt.name.clone(), checks });
    }
    Ok(true)
}

/// The case folders among or in `dirs`, by name.
fn find_cases(dirs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let is_case = |dir: &Path| dir.join(case::META).is_file();
    let mut found = Vec::new();
    for dir in dirs {
        if is_case(dir) {
            found.push(dir.clone());
            continue;
        }
        if dir.is_file() {
            let problem = format!("a case is a folder with {} in it, not a file", case::META);
            return Err(Failure::Case { path: dir.clone(), problem });
        }
        let fail = |source| Failure::read(dir, source);
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if is_case(&path) {
                inside.push(path);
            }
        }
        if inside.is_empty() {
            return Err(Failure::Case {
                path: dir.clone(),
                problem: format!("there is no case here: no {}", case::META),
            });
        }
        inside.sort();
        found.extend(inside);
    }
    Ok(found)
}

/// Everything that was compared.
struct Report {
    device: String,
    against: Against,
    tolerances: Tolerances,
    outcomes: Vec<Outcome>,
    /// Whether Ctrl-C kept it from being complete.
    interrupted: bool,
}

impl Report {
    fn differs(&self) -> bool {
        !self.outcomes.iter().all(Outcome::passed)
    }

    /// Whether everything was compared and agrees.
    fn passed(&self) -> bool {
        !self.differs() && !self.interrupted && !self.outcomes.is_empty()
    }

    fn print_json(&self) -> Result<()> {
        let prompts: Vec<_> = self.outcomes.iter().map(Outcome::json).collect();
        output::json(&serde_json::json!({
            "device": self.device,
            "against": self.against,
            "tolerances": self.tolerances,
            "prompts": prompts,
            "passed": self.passed(),
            "interrupted": self.interrupted,
        }))
    }

    fn print_table(&self) -> Result<()> {
        let mut header = vec!["case", "prompt"];
        header.extend(checks::NAMES);
        header.push("result");
        let rows: Vec<Vec<String>> = self.outcomes.iter().map(Outcome::row).collect();
        output::line(&output::table(&header, &[1, 2, 3, 4, 5, 6, 7], &rows))?;
        output::line("")?;
        output::line(&format!("{} against {}. {}", self.device, self.against.describe(), self.tolerances.describe()))?;
        let failed = self.outcomes.iter().filter(|o| !o.passed()).count();
        let early = if self.interrupted { ", then interrupted" } else { "" };
        output::line(&match failed {
            0 => format!("{} prompts: all match{early}", self.outcomes.len()),
            n => format!("{} prompts: {n} DO NOT MATCH (marked with !){early}", self.outcomes.len()),
        })
    }
}
