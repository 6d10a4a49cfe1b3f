//! Finds what is fastest on a device: each tunable in turn takes all its values at the shapes of some models, the others stay.

use taipan::Result;
use taipan_gpu::Gpu;
use taipan_kernels::{DeviceKey, Kernel, NEVER, TUNABLES, Tunable, Tuning, TuningEntry};

use crate::kernels::{self, Setup};
use crate::record::KernelRecord;

/// A value must be better than the one there is by more than this, or it is noise.
const WORTH: f64 = 0.02;

/// A value of a tunable, tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The value.
    pub value: u32,
    /// Nanoseconds of a token and of a segment in the kernels that depend on it, a model after the other.
    pub ns: Vec<f64>,
    /// Whether every kernel agreed with the CPU.
    pub right: bool,
}

impl Tried {
    fn of(value: u32) -> Self {
        Self { value, ns: vec![], right: true }
    }

    /// Adds one model: the records of its dispatches under this value.
    fn add<'a>(&mut self, records: impl Iterator<Item = &'a KernelRecord>) {
        let mut ns = 0.0;
        for record in records {
            ns += record.median_ns * record.calls as f64;
            self.right &= record.ok;
        }
        self.ns.push(ns);
    }

    /// Time over that of another value: the mean over models, so that a large one counts no more than a small one.
    fn ratio(&self, other: &Self) -> f64 {
        let logs = self.ns.iter().zip(&other.ns).filter(|(a, b)| **a > 0.0 && **b > 0.0).map(|(a, b)| (a / b).ln());
        let (sum, count) = logs.fold((0.0, 0), |(sum, count), log| (sum + log, count + 1));
        if count == 0 { 1.0 } else { (sum / f64::from(count)).exp() }
    }
}

/// The value to take: the fastest of those that compute right, and the one there is unless that is worth it.
fn best(tried: &[Tried], now: u32) -> u32 {
    let Some(base) = tried.iter().find(|t| t.value == now) else { return now };
    let right = tried.iter().filter(|t| t.right);
    let fastest = right.min_by(|a, b| a.ratio(base).total_cmp(&b.ratio(base)));
    match fastest {
        Some(fastest) if !base.right || fastest.ratio(base) < 1.0 - WORTH => fastest.value,
        _ => now,
    }
}

fn shown(value: u32) -> String {
    if value == NEVER { "never".to_owned() } else { value.to_string() }
}

/// For people: `matvec_eight_from 512: 1.00, 1: 1.21 …`.
fn line(tunable: &Tunable, tried: &[Tried], now: u32) -> String {
    let base = tried.iter().find(|t| t.value == now);
    let one = |t: &Tried| {
        let ratio = base.map_or(1.0, |base| t.ratio(base));
        let wrong = if t.right { "" } else { " (wrong)" };
        format!("{}: {ratio:.2}{wrong}", shown(t.value))
    };
    format!(
        "{}, time over that of {}: {}",
        tunable.name,
        shown(now),
        tried.iter().map(one).collect::<Vec<_>>().join(", ")
    )
}

/// Measures every tunable at the shapes of these models and returns the entry for devices of the same vendor and kind.
///
/// # Errors
/// Device errors; a model that does not fit.
pub async fn tune(gpu: &Gpu, setups: &[Setup], mut say: impl FnMut(String)) -> Result<TuningEntry> {
    let mut tuning = gpu.tuning();
    let mut lines = vec![format!("{}, {}", gpu.report().name, gpu.report().driver_info)];
    for tunable in TUNABLES {
        let now = tuning.get(tunable);
        let mut tried: Vec<Tried> = tunable.values.iter().map(|value| Tried::of(*value)).collect();
        let tunings: Vec<Tuning> = tunable.values.iter().map(|value| tuning.with(tunable, *value)).collect();
        for setup in setups {
            let wanted = |call: &taipan_kernels::Call| tunable.kernels.contains(&call.decl().name);
            let said = |what| say(format!("{}: {what} of {}", tunable.name, setup.model));
            let found = kernels::walk(gpu, setup, &tunings, wanted, said).await?;
            for (i, tried) in tried.iter_mut().enumerate() {
                tried.add(found.iter().map(|records| &records[i]));
            }
        }
        let value = best(&tried, now);
        tuning = tuning.with(tunable, value);
        lines.push(line(tunable, &tried, now));
        say(format!("{}: {}", tunable.name, shown(value)));
    }
    let models: Vec<&str> = setups.iter().map(|s| s.model.as_str()).collect();
    lines.push(format!("at the shapes of {}", models.join(", ")));
    let key = gpu.report().key();
    Ok(TuningEntry {
        device: DeviceKey { vendor: key.vendor, kind: key.kind, ..DeviceKey::default() },
        note: Some(lines.join("; ")),
        values: TUNABLES.iter().map(|tunable| (tunable.name, tuning.get(tunable))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(value: u32, ns: &[f64], right: bool) -> Tried {
        Tried { value, ns: ns.to_vec(), right }
    }

    #[test]
    fn the_fastest_value_wins_where_it_is_right_and_worth_it() {
        let base = tried(512, &[100.0, 1000.0], true);
        let other = |ns: &[f64], right| best(&[base.clone(), tried(1, ns, right)], 512);
        assert_eq!(other(&[90.0, 900.0], true), 1);
        assert_eq!(other(&[90.0, 900.0], false), 512);
        assert_eq!(other(&[99.0, 990.0], true), 512);
        // Half the time of the small model outweighs 1.5 times that of the large one.
        assert_eq!(other(&[50.0, 1500.0], true), 1);
        assert_eq!(other(&[0.0, 0.0], true), 512);
        let wrong = tried(512, &[100.0, 1000.0], false);
        assert_eq!(best(&[wrong, tried(1, &[200.0, 2000.0], true)], 512), 1);
    }
}
