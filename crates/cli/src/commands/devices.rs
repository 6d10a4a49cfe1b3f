//! `taipan devices`: what there is to compute on.

use serde::Serialize;
use taipan::{AdapterReport, list_adapters};

use crate::failure::Result;
use crate::output;
use crate::settings::{Choice, Target};
use crate::target::find_device;

#[derive(Serialize)]
struct Devices {
    adapters: Vec<AdapterReport>,
    /// Index of the adapter that `auto` takes; none is the CPU.
    auto: Option<usize>,
}

/// Lists all adapters of the chosen backends, or the one that was asked for.
pub(super) async fn run(target: &Target, json: bool) -> Result<()> {
    let mut adapters = list_adapters(target.backends).await;
    let auto = adapters.iter().find(|a| a.auto).map(|a| a.index);
    if target.choice != Choice::Auto {
        let (device, _) = find_device(target).await?;
        adapters.retain(|a| device.adapter().is_some_and(|chosen| chosen.index == a.index));
    }
    if json {
        return output::json(&Devices { adapters, auto });
    }
    if !adapters.is_empty() {
        output::line(&table(&adapters))?;
        output::line("")?;
    }
    output::line(&match auto {
        Some(index) => format!("auto takes adapter {index}"),
        None => "auto takes the CPU: there is no real GPU that can be used, and software ones are slower".to_owned(),
    })
}

fn table(adapters: &[AdapterReport]) -> String {
    let header = [
        "index",
        "adapter",
        "backend",
        "type",
        "driver",
        "storage buffers",
        "of at most",
        "buffer",
        "workgroup memory",
        "invocations",
    ];
    let rows: Vec<Vec<String>> = adapters.iter().map(row).collect();
    output::table(&header, &[5, 6, 7, 8, 9], &rows)
}

fn row(a: &AdapterReport) -> Vec<String> {
    let kind = if a.software { "software".to_owned() } else { a.kind.clone() };
    vec![
        format!("{}{}", a.index, if a.auto { "*" } else { "" }),
        a.name.clone(),
        a.backend.clone(),
        kind,
        format!("{} {}", a.driver, a.driver_info).trim().to_owned(),
        a.limits.storage_buffers.to_string(),
        output::bytes(a.limits.storage_binding_bytes),
        output::bytes(a.limits.buffer_bytes),
        output::bytes(a.limits.workgroup_memory_bytes.into()),
        a.limits.workgroup_invocations.to_string(),
    ]
}
