//! Results as text: tables with llama-bench's columns, CSV, JSON.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::Value;

use crate::record::{Entry, KernelRecord, Record};
use crate::workload::Test;

/// A table; numbers stand on the right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    // Names come from files: a bar or a line break in one would make cells of its own.
    let clean = |cell: &String| cell.replace('|', "\\|").replace(['\n', '\r'], " ");
    table.load_style(ASCII_MARKDOWN).set_header(header.iter().copied());
    table.add_rows(rows.iter().map(|row| row.iter().map(clean).collect::<Vec<_>>()));
    for (i, column) in table.column_iter_mut().enumerate() {
        let is_number = |row: &Vec<String>| row[i].starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if !rows.is_empty() && rows.iter().all(is_number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}

/// The row's name as llama-bench writes it.
#[must_use]
pub fn test_name(r: &Record) -> String {
    Test { prompt: r.n_prompt, generate: r.n_gen, depth: r.n_depth }.name()
}

/// A device's name, marked where it is software.
#[must_use]
pub fn device_name(r: &crate::record::Adapter) -> String {
    format!("{}{}", r.description, if r.is_fallback { " (software)" } else { "" })
}

pub(crate) fn number(x: f64) -> String {
    match x.abs() {
        a if a >= 1000.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 0.1 || a == 0.0 => format!("{x:.2}"),
        _ => format!("{x:.2e}"),
    }
}

fn workload_row(r: &Record) -> Vec<String> {
    let flags = [
        (r.stats.cut_short, "cut short"),
        (r.stats.drift_pct.abs() > 5.0, "drift"),
        (!r.stats.outliers.is_empty(), "outliers"),
        (r.quality.agreement_rate < 1.0, "disagrees"),
    ];
    let flags: Vec<&str> = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
    vec![
        r.model_type.clone(),
        format!("{:.2} MiB", r.model_size as f64 / f64::from(1 << 20)),
        format!("{:.2} M", r.model_n_params as f64 / 1e6),
        r.backends.clone(),
        device_name(&r.adapter),
        test_name(r),
        format!("{} ± {}", number(r.avg_ts), number(r.stddev_ts)),
        format!("{} ± {}", number(r.stats.median_ts), number(r.stats.mad_ts)),
        format!("{:.0} %", 100.0 * r.derived.bw_efficiency),
        format!("{:.3}, {:.0e}", r.quality.agreement_rate, r.quality.max_abs_logit_err),
        flags.join(", "),
    ]
}

fn kernel_row(k: &KernelRecord) -> Vec<String> {
    vec![
        k.kernel.clone(),
        k.phase.clone(),
        k.shape.clone(),
        k.calls.to_string(),
        format!("{} ± {}", number(k.median_ns / 1e3), number(k.mad_ns / 1e3)),
        number(k.gbps),
        format!("{:.2}", k.bw_ratio),
        number(k.gflops),
        format!("{:.3}", k.flops_ratio),
        format!("{:.0e} of {:.0e} {}", k.worst, k.tolerance, if k.ok { "ok" } else { "MISMATCH" }),
    ]
}

/// Markdown tables, with the columns of llama-bench and three more.
#[must_use]
pub fn markdown(entries: &[Entry]) -> String {
    let (workloads, kernels) = split(entries);
    let mut out = String::new();
    if !workloads.is_empty() {
        let header = [
            "model",
            "size",
            "params",
            "backend",
            "device",
            "test",
            "t/s",
            "median t/s",
            "of copy bandwidth",
            "agreement, logit error",
            "flags",
        ];
        out += &table(&header, &workloads.iter().map(|r| workload_row(r)).collect::<Vec<_>>());
        for r in workloads {
            if let Some(vs) = &r.vs {
                let (x, low, high) = (vs.ratio.ratio, vs.ratio.low, vs.ratio.high);
                out +=
                    &format!("\n{}: `{}` is {x:.3} times as fast ({low:.3} to {high:.3})\n", test_name(r), vs.options);
            }
        }
    }
    if let Some(first) = kernels.first() {
        let header =
            ["kernel", "phase", "shape", "calls", "µs", "GB/s", "of copy", "GFLOP/s", "of fma", "against the CPU"];
        out += &table(&header, &kernels.iter().map(|k| kernel_row(k)).collect::<Vec<_>>());
        out += &format!(
            "\n{} on {}, timed by {}; copy {} GB/s, fma {} GFLOP/s\n",
            first.model,
            device_name(&first.adapter),
            first.timer,
            number(first.probes.copy_gbps),
            number(first.probes.fma_gflops)
        );
    }
    out
}

pub(crate) fn split(entries: &[Entry]) -> (Vec<&Record>, Vec<&KernelRecord>) {
    let (mut workloads, mut kernels) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            Entry::Workload(r) => workloads.push(&**r),
            Entry::Kernel(k) => kernels.push(&**k),
        }
    }
    (workloads, kernels)
}

/// llama-bench's columns, in its order.
const FIRST: [&str; 17] = [
    "build_commit",
    "gpu_info",
    "backends",
    "adapter.description",
    "model_type",
    "model_size",
    "model_n_params",
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "avg_ts",
    "stddev_ts",
    "stats.median_ts",
    "stats.mad_ts",
    "quality.agreement_rate",
];

/// One line an entry; members of objects are columns named with a dot, lists are JSON.
#[must_use]
pub fn csv(entries: &[Entry]) -> String {
    let rows: Vec<Vec<(String, String)>> = entries
        .iter()
        .map(|e| {
            let mut cells = Vec::new();
            flatten("", &serde_json::to_value(e).expect("records are plain data"), &mut cells);
            cells
        })
        .collect();
    let mut header: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !header.contains(&name.as_str()) {
            header.push(name);
        }
    }
    // Stable: what the list does not name keeps its order.
    header.sort_by_key(|name| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let cell =
        |row: &[(String, String)], name: &str| row.iter().find(|c| c.0 == name).map_or(String::new(), |c| c.1.clone());
    writer.write_record(&header).expect("memory takes every write");
    for row in &rows {
        writer.write_record(header.iter().map(|name| cell(row, name))).expect("memory takes every write");
    }
    String::from_utf8(writer.into_inner().expect("memory takes every write")).expect("CSV of strings is a string")
}

fn flatten(prefix: &str, value: &Value, cells: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, cells);
            }
        }
        Value::Null => cells.push((prefix.to_owned(), String::new())),
        Value::String(text) => cells.push((prefix.to_owned(), text.clone())),
        other => cells.push((prefix.to_owned(), other.to_string())),
    }
}

/// One array.
#[must_use]
pub fn json(entries: &[Entry]) -> String {
    serde_json::to_string_pretty(entries).expect("records are plain data") + "\n"
}

/// One line an entry.
#[must_use]
pub fn jsonl(entries: &[Entry]) -> String {
    entries.iter().map(|e| serde_json::to_string(e).expect("records are plain data") + "\n").collect()
}

/// Reads what [`json`] or [`jsonl`] wrote.
///
/// # Errors
/// Where and why it is neither, or that it is empty.
pub fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let entries: Vec<Entry> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|e| format!("not an array of records: {e}"))?
    } else {
        let line = |(i, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|e| format!("line {} is not a record: {e}", i + 1))
        };
        text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(line).collect::<Result<_, String>>()?
    };
    if entries.is_empty() { Err("there is no record in it".to_owned()) } else { Ok(entries) }
}

/// Reads files of results, one after another.
///
/// # Errors
/// A file that cannot be read or is none.
#[cfg(not(target_arch = "wasm32"))]
pub fn read_all(files: &[std::path::PathBuf]) -> crate::native::Result<Vec<Entry>> {
    use crate::native::Error;
    let mut all = Vec::new();
    for path in files {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Io { action: "read", path: path.clone(), source })?;
        all.extend(parse(&text).map_err(|problem| Error::Results { path: path.clone(), problem })?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{kernel, record};

    fn entries() -> Vec<Entry> {
        vec![
            Entry::Workload(Box::new(record("a|b", 0, 32, 4096, 12.5))),
            Entry::Kernel(Box::new(kernel("x, \"y\"\nz"))),
        ]
    }

    #[test]
    fn json_and_lines_come_back_as_they_went() {
        for text in [json(&entries()), jsonl(&entries())] {
            assert_eq!(parse(&text).expect("records"), entries());
        }
        for bad in ["", "[]", "{}", "[{\"n_prompt\":1}]", "nonsense"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn csv_keeps_awkward_names_in_their_cell() {
        let text = csv(&entries());
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().expect("a header").clone();
        let column = header.iter().position(|h| h == "adapter.description").expect("a column");
        let cells: Vec<String> = reader.records().map(|r| r.expect("a row")[column].to_owned()).collect();
        assert_eq!(cells, ["a|b", "x, \"y\"\nz"]);
        assert_eq!(header.iter().take(FIRST.len()).collect::<Vec<_>>(), FIRST);
    }

    #[test]
    fn markdown_has_llama_benchs_columns_and_no_stray_bar() {
        let text = markdown(&entries()[..1]);
        assert!(text.contains("tg32 @ d4096") && text.contains("a\\|b") && text.contains("t/s"), "{text}");
        assert_eq!(text.lines().count(), 3);
    }
}
