//! `taipan pull`: a model from the hub to the cache.

use serde::Serialize;
use taipan_hub::{Hub, Settings};

use crate::failure::Result;
use crate::fetch::{self, Use};
use crate::output;
use crate::settings::{Pull, Target};
use crate::target::find_device;

#[derive(Serialize)]
struct Report {
    model: String,
    revision: String,
    commit: String,
    path: String,
    files: usize,
    bytes: u64,
    /// Bytes that came over the network.
    downloaded_bytes: u64,
}

/// Downloads what is missing, and prints the folder.
pub(super) async fn run(target: &Target, task: Pull) -> Result<()> {
    let hub = Hub::new(Settings::from_env()?);
    let plan = hub.plan(&task.id)?;
    let (device, _) = find_device(target).await?;
    fetch::check(&hub, &plan, &Use::anyhow(&device, task.yes))?;
    let pulled = fetch::pull(&hub, &plan)?;
    let report = Report {
        model: task.id.repo(),
        revision: task.id.revision().to_owned(),
        commit: plan.commit.clone(),
        path: pulled.path.display().to_string(),
        files: plan.files.len(),
        bytes: pulled.bytes,
        downloaded_bytes: pulled.fetched,
    };
    if plan.gguf().is_none() && !plan.files.iter().any(|file| file.name == "tokenizer.json") {
        output::note(
            "note: the model has no tokenizer.json; it takes ids (`taipan logits --ids`), and texts with --tokenizer",
        );
    }
    if task.json {
        return output::json(&report);
    }
    let came = match pulled.fetched {
        0 => "nothing was missing".to_owned(),
        n => format!("{} downloaded", output::bytes(n)),
    };
    output::note(&format!("{}: {} files, {}, {came}", task.id, report.files, output::bytes(report.bytes)));
    output::line(&report.path)
}
