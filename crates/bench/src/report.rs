//! One self-contained page about results: everything from a file is escaped, charts are inline, no script.

use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;

use crate::charts::{self, Bar, Series};
use crate::output::{device_name, number, split, test_name};
use crate::record::{Entry, KernelRecord, Record};

#[derive(Serialize)]
struct Chart {
    title: String,
    svg: String,
    caption: String,
}

fn chart(title: impl Into<String>, svg: String, caption: &str) -> Option<Chart> {
    (!svg.is_empty()).then(|| Chart { title: title.into(), svg, caption: caption.to_owned() })
}

/// The page.
#[must_use]
pub fn page(entries: &[Entry]) -> String {
    let (workloads, kernels) = split(entries);
    let mut all = speeds(&workloads);
    all.extend(depth(&workloads));
    all.extend(roofline(&workloads, &kernels));
    all.extend(kernel_times(&kernels));
    all.extend(efficiency(&workloads));
    let mut environment = Environment::new();
    // The name's ending turns escaping on.
    environment.add_template("report.html", include_str!("report.html")).expect("a test renders the template");
    let template = environment.get_template("report.html").expect("it was just added");
    let rows: Vec<_> = workloads.iter().map(|r| workload(r)).collect();
    let kernels: Vec<_> = kernels.iter().map(|k| kernel(k)).collect();
    let page =
        template.render(context! { charts => Serde(all), workloads => rows, kernels, devices => devices(entries) });
    page.expect("a test renders the template")
}

fn workload(r: &Record) -> minijinja::Value {
    let ms = |ns: Option<f64>| ns.map_or("–".to_owned(), |ns| format!("{} ms", number(ns / 1e6)));
    let mut notes = Vec::new();
    if r.stats.drift_pct.abs() > 5.0 {
        notes.push(format!("drift {:+.0} %", r.stats.drift_pct));
    }
    if !r.stats.outliers.is_empty() {
        notes.push(format!("{} outliers of {}", r.stats.outliers.len(), r.samples_ns.len()));
    }
    if r.stats.cut_short {
        notes.push(format!("cut short after {}", r.samples_ns.len()));
    }
    if let Some(vs) = &r.vs {
        let x = vs.ratio;
        notes.push(format!("{} is {:.3} × ({:.3} to {:.3})", vs.options, x.ratio, x.low, x.high));
    }
    context! {
        model => r.model_type.as_str(), device => device_name(&r.adapter), backend => r.backends.as_str(), test => test_name(r),
        ts => format!("{} ± {}", number(r.stats.median_ts), number(r.stats.mad_ts)),
        ttft => format!("{}, {}", ms(r.ttft_cold_ns), ms(r.ttft_ns)),
        bw => format!("{:.0} %", 100.0 * r.derived.bw_efficiency),
        flops => format!("{:.0} %", 100.0 * r.derived.flops_efficiency),
        agreement => format!("{:.3} of {}", r.quality.agreement_rate, r.quality.tokens),
        error => format!("{:.0e}", r.quality.max_abs_logit_err), notes => notes.join(", "),
    }
}

fn kernel(k: &KernelRecord) -> minijinja::Value {
    context! {
        device => device_name(&k.adapter), model => k.model.as_str(), phase => k.phase.as_str(),
        kernel => k.kernel.as_str(), shape => k.shape.as_str(),
        calls => k.calls, us => format!("{} ± {}", number(k.median_ns / 1e3), number(k.mad_ns / 1e3)),
        gbps => number(k.gbps), bw => format!("{:.2}", k.bw_ratio), flops => format!("{:.3}", k.flops_ratio),
        verdict => if k.ok { format!("ok, {:.0e}", k.worst) } else { format!("MISMATCH, {:.0e}", k.worst) },
    }
}

fn devices(entries: &[Entry]) -> Vec<minijinja::Value> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    for entry in entries {
        let (adapter, probes, host) = match entry {
            Entry::Workload(r) => (&r.adapter, &r.probes, format!("{}, {}", r.host.os, r.host.cpu_info)),
            Entry::Kernel(k) => (&k.adapter, &k.probes, String::new()),
        };
        if seen.contains(&adapter) {
            continue;
        }
        seen.push(adapter);
        let maybe = |x: Option<f64>| x.map_or("–".to_owned(), number);
        out.push(context! {
            name => device_name(adapter), kind => adapter.kind.as_str(),
            driver => format!("{} {}", adapter.driver, adapter.driver_info),
            copy => number(probes.copy_gbps), fma => number(probes.fma_gflops),
            dispatch => maybe(probes.dispatch_us), roundtrip => maybe(probes.map_roundtrip_us), host => host,
        });
    }
    out
}

/// Model, storage and test, in the order in which they come.
fn groups<'a>(workloads: &[&'a Record]) -> Vec<(String, Vec<&'a Record>)> {
    let mut groups: Vec<(String, Vec<&Record>)> = Vec::new();
    for r in workloads {
        let name = format!("{}, {}", r.model.id, test_name(r));
        match groups.iter_mut().find(|(n, _)| *n == name) {
            Some((_, list)) => list.push(r),
            None => groups.push((name, vec![r])),
        }
    }
    groups
}

fn label(r: &Record) -> String {
    format!("{} {} {}", device_name(&r.adapter), r.backends, r.model.dtype)
}

/// Rankings: the fastest on top, software left out.
fn speeds(workloads: &[&Record]) -> Vec<Chart> {
    let ranked = groups(workloads).into_iter().filter_map(|(name, mut list)| {
        list.retain(|r| !r.adapter.is_fallback);
        list.sort_by(|a, b| b.stats.median_ts.total_cmp(&a.stats.median_ts));
        let bars: Vec<Bar> = list
            .iter()
            .map(|r| Bar { name: label(r), value: r.stats.median_ts, low: r.stats.p05, high: r.stats.p95 })
            .collect();
        let caption = "Median; the line is from the 5th to the 95th percentile.";
        chart(format!("Speed: {name}"), charts::bars(&bars, "tokens per second"), caption)
    });
    ranked.collect()
}

fn by_device(workloads: &[&Record], point: impl Fn(&Record) -> (f64, f64)) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for r in workloads {
        let name = format!("{}, {}", r.model.id, label(r));
        match series.iter_mut().find(|s| s.name == name) {
            Some(s) => s.points.push(point(r)),
            None => series.push(Series { name, points: vec![point(r)], line: true }),
        }
    }
    for s in &mut series {
        s.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    series
}

fn depth(workloads: &[&Record]) -> Option<Chart> {
    let decode: Vec<&Record> = workloads.iter().filter(|r| r.n_gen > 0).copied().collect();
    let series = by_device(&decode, |r| (r.n_depth as f64, r.stats.median_ts));
    let svg = charts::lines(&series, "tokens in the session", "decoded tokens per second");
    chart("Decode against depth", svg, "A flat line is what a state of constant size promises.")
}

/// Arithmetic against its intensity, below the roof of each device.
fn roofline(workloads: &[&Record], kernels: &[&KernelRecord]) -> Option<Chart> {
    let mut series: Vec<Series> = Vec::new();
    let mut roofs: Vec<(String, f64, f64)> = Vec::new();
    let mut add = |name: String, point: (f64, f64), roof: (String, f64, f64)| {
        match series.iter_mut().find(|s| s.name == name) {
            Some(s) => s.points.push(point),
            None => series.push(Series { name, points: vec![point], line: false }),
        }
        if roof.1 > 0.0 && roof.2 > 0.0 && !roofs.iter().any(|r| r.0 == roof.0) {
            roofs.push(roof);
        }
    };
    for r in workloads {
        let w = &r.work;
        let point = (w.flops_per_token / w.bytes_per_token, w.flops_per_token * r.stats.median_ts / 1e9);
        let roof = (device_name(&r.adapter), r.probes.copy_gbps, r.probes.fma_gflops);
        add(format!("rows on {}", roof.0), point, roof);
    }
    for k in kernels {
        let roof = (device_name(&k.adapter), k.probes.copy_gbps, k.probes.fma_gflops);
        add(format!("kernels on {}", roof.0), (k.gflops / k.gbps, k.gflops), roof);
    }
    for (name, copy, fma) in roofs {
        let ridge = fma / copy;
        let points = vec![(0.05, 0.05 * copy), (ridge, fma), (1e4f64.max(10.0 * ridge), fma)];
        series.push(Series { name: format!("roof of {name}"), points, line: true });
    }
    let svg = charts::log_log(&series, "operations a byte", "GFLOP/s");
    let caption =
        "The roof is the measured copy bandwidth on the left and the measured multiply-add rate on the right.";
    chart("Roofline", svg, caption)
}

fn kernel_times(kernels: &[&KernelRecord]) -> Vec<Chart> {
    let mut groups: Vec<(String, Vec<Bar>)> = Vec::new();
    for k in kernels.iter().filter(|k| k.calls > 0) {
        let name = format!("{} of {} on {}", k.phase, k.model, device_name(&k.adapter));
        let us = k.calls as f64 / 1e3;
        let bar = Bar {
            name: format!("{} {}", k.kernel, k.shape),
            value: us * k.median_ns,
            low: us * (k.median_ns - k.mad_ns),
            high: us * (k.median_ns + k.mad_ns),
        };
        match groups.iter_mut().find(|(n, _)| *n == name) {
            Some((_, bars)) => bars.push(bar),
            None => groups.push((name, vec![bar])),
        }
    }
    let drawn = groups.into_iter().filter_map(|(name, mut bars)| {
        bars.sort_by(|a, b| b.value.total_cmp(&a.value));
        let svg = charts::bars(&bars, "microseconds in all calls of the model");
        chart(format!("Time per kernel: {name}"), svg, "One call's median times the calls in the whole model.")
    });
    drawn.collect()
}

fn efficiency(workloads: &[&Record]) -> Option<Chart> {
    let real = workloads.iter().filter(|r| !r.adapter.is_fallback);
    let bars: Vec<Bar> = real
        .map(|r| {
            // The nearer ceiling is the one that limits.
            let value = 100.0 * r.derived.bw_efficiency.max(r.derived.flops_efficiency);
            Bar { name: format!("{}, {}", test_name(r), label(r)), value, low: value, high: value }
        })
        .collect();
    let caption = "Of the copy bandwidth or of the multiply-add rate, whichever is nearer.";
    chart("Efficiency", charts::bars(&bars, "percent of the ceiling"), caption)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{kernel, record};

    const HOSTILE: &str = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)> </title></svg>";

    #[test]
    fn hostile_names_stay_text() {
        let mut r = record(HOSTILE, 0, 32, 4096, 10.0);
        for field in [&mut r.model.id, &mut r.model_type, &mut r.backends, &mut r.host.os, &mut r.adapter.driver] {
            *field = HOSTILE.to_owned();
        }
        let mut k = kernel(HOSTILE);
        (k.kernel, k.shape, k.model, k.phase) = (HOSTILE.into(), HOSTILE.into(), HOSTILE.into(), HOSTILE.into());
        let page = page(&[Entry::Workload(Box::new(r)), Entry::Kernel(Box::new(k))]);
        assert!(page.contains("&lt;script&gt;"), "the names are not there at all");
        assert!(!page.contains("<script") && !page.contains("<img"), "a name became markup");
        assert_eq!(page.matches("</svg>").count(), page.matches("<svg").count());
        assert!(
            !page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org").count()
        );
    }

    #[test]
    fn software_is_marked_and_not_ranked() {
        let mut software = record("llvmpipe", 0, 32, 0, 99.0);
        software.adapter.is_fallback = true;
        let real = record("gpu", 0, 32, 0, 10.0);
        let list = [&software, &real];
        let ranked = speeds(&list);
        assert_eq!(ranked.len(), 1);
        assert!(ranked[0].svg.contains("gpu") && !ranked[0].svg.contains("llvmpipe"));
        let page = page(&[Entry::Workload(Box::new(software))]);
        assert!(page.contains("llvmpipe (software)"));
        assert!(!page.contains("Speed:"));
    }

    #[test]
    fn every_chart_is_drawn_where_there_is_something_to_draw() {
        let entries = [
            Entry::Workload(Box::new(record("gpu", 0, 32, 0, 10.0))),
            Entry::Workload(Box::new(record("gpu", 0, 32, 4096, 9.0))),
            Entry::Kernel(Box::new(kernel("gpu"))),
        ];
        let page = page(&entries);
        for title in ["Speed:", "Decode against depth", "Roofline", "Time per kernel:", "Efficiency"] {
            assert!(page.contains(title), "{title}");
        }
        assert!(page.contains("currentColor") && !page.contains("\"#000000\""));
    }
}
