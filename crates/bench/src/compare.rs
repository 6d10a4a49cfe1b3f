//! Results beside each other.

use std::collections::BTreeSet;

use crate::output::{device_name, number, split, table as markdown, test_name};
use crate::record::{Entry, KernelRecord, Record};

/// Options of a row that a comparison should hold still.
fn options(r: &Record) -> [(&'static str, String); 6] {
    [
        ("dtype", r.model.quant.clone().unwrap_or_else(|| r.model.dtype.clone())),
        ("weights", r.model.sha256.chars().take(12).collect()),
        ("prefill", r.model.prefill.map_or_else(String::new, |how| format!("{how:?}"))),
        ("version", r.runtime.version.clone()),
        ("kernels", r.runtime.kernel_set_hash.chars().take(12).collect()),
        ("driver", format!("{} {}", r.adapter.driver, r.adapter.driver_info)),
    ]
}

/// A table for every model and test, each row with its ratio to the first; what else differs is said below.
fn rows(entries: &[Entry]) -> (Vec<Vec<String>>, BTreeSet<String>) {
    let (workloads, _) = split(entries);
    let mut groups: Vec<Vec<&Record>> = Vec::new();
    for r in workloads {
        let same = |g: &&mut Vec<&Record>| g[0].model.id == r.model.id && test_name(g[0]) == test_name(r);
        match groups.iter_mut().find(same) {
            Some(group) => group.push(r),
            None => groups.push(vec![r]),
        }
    }
    let (mut rows, mut differ) = (Vec::new(), BTreeSet::new());
    for group in &groups {
        let first = group[0];
        for r in group {
            let same = options(r).into_iter().zip(options(first));
            // What an older file does not say is no difference.
            let known = same.filter(|(a, b)| !a.1.is_empty() && !b.1.is_empty());
            let others: Vec<&str> = known.filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0).collect();
            differ.extend(others.iter().map(|name| (*name).to_owned()));
            rows.push(vec![
                r.model.id.clone(),
                test_name(r),
                device_name(&r.adapter),
                r.backends.clone(),
                format!("{} ± {}", number(r.stats.median_ts), number(r.stats.mad_ts)),
                format!("{:.3}", r.stats.median_ts / first.stats.median_ts),
                format!("{:.0} %", 100.0 * r.derived.bw_efficiency),
                format!("{:.3}", r.quality.agreement_rate),
                others.join(", "),
            ]);
        }
    }
    (rows, differ)
}

/// The comparison as text.
#[must_use]
pub fn table(entries: &[Entry]) -> String {
    let (list, differ) = rows(entries);
    let mut out = String::new();
    if !list.is_empty() {
        let header = [
            "model",
            "test",
            "device",
            "backend",
            "median t/s",
            "ratio",
            "of copy bandwidth",
            "agreement",
            "differs in",
        ];
        out += &markdown(&header, &list);
    }
    if !differ.is_empty() {
        let names: Vec<String> = differ.into_iter().collect();
        out +=
            &format!("\nRatios are to the first row of a test. Not only the device differs: {}.\n", names.join(", "));
    }
    let kernels = kernel_rows(&split(entries).1);
    if !kernels.is_empty() {
        let header = ["kernel", "phase", "shape", "device", "µs", "ratio", "of copy", "of fma"];
        out += &format!("\n{}", markdown(&header, &kernels));
    }
    out
}

fn kernel_rows(kernels: &[&KernelRecord]) -> Vec<Vec<String>> {
    let key = |k: &KernelRecord| (k.model.clone(), k.phase.clone(), k.kernel.clone(), k.shape.clone());
    let row = |k: &&KernelRecord| {
        let first = kernels.iter().find(|f| key(f) == key(k)).expect("at least itself");
        vec![
            k.kernel.clone(),
            k.phase.clone(),
            k.shape.clone(),
            device_name(&k.adapter),
            number(k.median_ns / 1e3),
            // Of speeds, as everywhere here.
            format!("{:.3}", first.median_ns / k.median_ns),
            format!("{:.2}", k.bw_ratio),
            format!("{:.3}", k.flops_ratio),
        ]
    };
    kernels.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Prefill;
    use crate::record::tests::record;

    #[test]
    fn ratios_are_to_the_first_of_the_same_test_and_differences_are_named() {
        let mut second = record("fast gpu", 0, 32, 0, 40.0);
        second.model.dtype = "q8".to_owned();
        second.model.prefill = Some(Prefill::default());
        let records = [record("gpu", 0, 32, 0, 10.0), record("gpu", 128, 0, 0, 99.0), second];
        let entries: Vec<Entry> = records.into_iter().map(|r| Entry::Workload(Box::new(r))).collect();
        let (list, differ) = rows(&entries);
        let ratios: Vec<&str> = list.iter().map(|r| r[5].as_str()).collect();
        assert_eq!(ratios, ["1.000", "4.000", "1.000"]);
        assert_eq!(differ.into_iter().collect::<Vec<_>>(), ["dtype"]);
        let mut third = record("gpu", 0, 32, 0, 10.0);
        third.model.prefill = Some(Prefill { segment: 512, ..Prefill::default() });
        let pair = [entries[2].clone(), Entry::Workload(Box::new(third))];
        assert!(rows(&pair).1.contains("prefill"), "both say how prompts run");
        let text = table(&entries);
        assert!(text.contains("fast gpu") && text.contains("differs: dtype"), "{text}");
    }
}
