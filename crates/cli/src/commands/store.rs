//! `taipan ls` and `taipan rm`: the models that are here.

use serde::Serialize;
use taipan::{Config, Gguf};
use taipan_hub::{Cache, Cached, Snapshot};

use crate::failure::{Failure, Result};
use crate::settings::Rm;
use crate::{ask, fetch, output};

#[derive(Serialize)]
struct List {
    cache: String,
    models: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    /// What `-m` takes.
    model: String,
    commit: String,
    refs: Vec<String>,
    path: String,
    bytes: u64,
    /// `model_type` of its config.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// `ready`, `incomplete` or `not supported`.
    state: &'static str,
}

/// Prints what is here.
pub(super) fn list(json: bool) -> Result<()> {
    let cache = fetch::cache()?;
    let models = cache.list()?;
    let entries = models.iter().flat_map(|model| model.snapshots.iter().flat_map(|snapshot| entries(model, snapshot)));
    let list = List { cache: cache.root().display().to_string(), models: entries.collect() };
    if json {
        return output::json(&list);
    }
    if list.models.is_empty() {
        output::note(&format!("no models in {}; `taipan pull ORG/NAME` gets one", list.cache));
        return Ok(());
    }
    let row = |e: &Entry| {
        let kind = e.kind.clone().unwrap_or_else(|| "–".to_owned());
        vec![e.model.clone(), kind, output::bytes(e.bytes), e.state.to_owned()]
    };
    let rows: Vec<_> = list.models.iter().map(row).collect();
    output::line(&output::table(&["model", "type", "size", "state"], &[2], &rows))
}

/// One for each GGUF file, where the model is there as such.
fn entries(model: &Cached, snapshot: &Snapshot) -> Vec<Entry> {
    let files = snapshot.gguf.iter();
    let of_files: Vec<Entry> = files.map(|file| gguf_entry(model, snapshot, file)).collect();
    if of_files.is_empty() { vec![entry(model, snapshot)] } else { of_files }
}

fn gguf_entry(model: &Cached, snapshot: &Snapshot, file: &str) -> Entry {
    let path = snapshot.path.join(file);
    let opened = Gguf::open(&path);
    let kind = opened.as_ref().ok().and_then(|file| Config::from_json(&file.description.config).ok());
    let name = Cache::label(&model.id, &snapshot.refs, &snapshot.commit);
    Entry {
        model: if snapshot.gguf.len() == 1 { name } else { format!("{name}:{file}") },
        commit: snapshot.commit.clone(),
        refs: snapshot.refs.clone(),
        bytes: std::fs::metadata(&path).map_or(0, |m| m.len()),
        path: path.display().to_string(),
        kind: kind.map(|config| config.family.name().to_owned()),
        state: if opened.is_ok() { "ready" } else { "not supported" },
    }
}

fn entry(model: &Cached, snapshot: &Snapshot) -> Entry {
    let config = std::fs::read(snapshot.path.join("config.json")).ok();
    let parsed = config.as_ref().and_then(|config| Config::from_json(config).ok());
    // Of those that do not run, what they call themselves.
    let called = || {
        let json: serde_json::Value = serde_json::from_slice(config.as_ref()?).ok()?;
        Some(json["model_type"].as_str()?.to_owned())
    };
    let kind = parsed.as_ref().map(|config| config.family.name().to_owned()).or_else(called);
    // Other tools fetch the config first, so without one nothing can be said.
    let runs = config.is_none() || parsed.is_some();
    let state = match (runs, snapshot.complete) {
        (false, _) => "not supported",
        (true, true) => "ready",
        (true, false) => "incomplete",
    };
    Entry {
        model: Cache::label(&model.id, &snapshot.refs, &snapshot.commit),
        commit: snapshot.commit.clone(),
        refs: snapshot.refs.clone(),
        path: snapshot.path.display().to_string(),
        bytes: snapshot.bytes,
        kind,
        state,
    }
}

#[derive(Serialize)]
struct Removed {
    model: String,
    freed_bytes: u64,
}

/// Removes a model after asking.
pub(super) fn remove(task: &Rm) -> Result<()> {
    let cache = fetch::cache()?;
    let found = cache.entry(&task.id)?;
    let refused = || Failure::usage(format!("{} was not removed", task.id), "--yes removes it without asking");
    if !task.yes {
        let (size, root) = (output::bytes(found.bytes), cache.root().display());
        let question = format!("Remove {}, {size}, from {root}, which other tools share?", task.id);
        if !ask::is_possible() || !ask::confirm(&question)? {
            return Err(refused());
        }
    }
    let removed = Removed { model: task.id.to_string(), freed_bytes: cache.remove(&task.id)? };
    if task.json {
        return output::json(&removed);
    }
    output::line(&format!("{} removed, {} freed", removed.model, output::bytes(removed.freed_bytes)))
}
