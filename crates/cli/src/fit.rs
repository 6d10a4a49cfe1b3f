//! Whether a model fits a device, which limit says so, and with which matrices it would.

use serde::Serialize;
use taipan::{AdapterReport, Config, Device, Dtype, Footprint, Headers, WeightDtype};

use crate::output;

/// A model as far as its size goes.
pub(crate) struct Sized<'a> {
    pub(crate) config: &'a Config,
    /// How its matrices are stored, or most of them.
    pub(crate) stored: Dtype,
    /// How each of them is, where that is known.
    pub(crate) headers: Option<&'a Headers>,
    /// Tokens of a text.
    pub(crate) context: Option<usize>,
}

/// The model with matrices of one type.
#[derive(Serialize)]
pub(crate) struct Size {
    pub(crate) dtype: &'static str,
    /// Whether the files hold it like that.
    pub(crate) stored: bool,
    pub(crate) weight_bytes: u64,
    /// Weights, one session's state, and scratch space.
    pub(crate) total_bytes: u64,
    #[serde(flatten)]
    pub(crate) fit: Fit,
}

/// What stands in the way, and what to do about it.
#[derive(Debug, PartialEq)]
pub(crate) struct Obstacle {
    /// Whether it is certain.
    pub(crate) certain: bool,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

impl Sized<'_> {
    /// Bytes of one session's state with a text as long as it is to be.
    pub(crate) fn state_bytes(&self, footprint: &Footprint) -> u64 {
        let tokens = self.context.unwrap_or(0) as u64;
        footprint.state_bytes.saturating_add(footprint.state_bytes_per_token.saturating_mul(tokens))
    }

    /// What the model takes with matrices of a type; of the type it is stored in, with each as it is stored.
    pub(crate) fn footprint(&self, device: &Device, dtype: Dtype) -> Footprint {
        match self.headers.filter(|_| dtype == self.stored) {
            Some(headers) => Footprint::stored(self.config, device, headers),
            None => Footprint::of(self.config, device, dtype),
        }
    }

    fn size(&self, device: &Device, place: &Place, dtype: Dtype) -> Size {
        let footprint = self.footprint(device, dtype);
        let weight_bytes = footprint.weight_bytes;
        let total_bytes = weight_bytes + self.state_bytes(&footprint) + footprint.scratch_bytes;
        let fit = place.fit(total_bytes, &footprint.largest_buffer);
        Size { dtype: dtype.format().name(), stored: self.stored == dtype, weight_bytes, total_bytes, fit }
    }

    /// The ways to hold the matrices.
    pub(crate) fn sizes(&self, device: &Device) -> Vec<Size> {
        let place = Place::of(device);
        Dtype::ALL.map(|dtype| self.size(device, &place, dtype)).into()
    }

    /// Why the model may not run on a device with its matrices in this type.
    pub(crate) fn obstacle(&self, name: &str, device: &Device, dtype: WeightDtype) -> Option<Obstacle> {
        self.obstacle_in(name, device, &Place::of(device), dtype)
    }

    fn obstacle_in(&self, name: &str, device: &Device, place: &Place, dtype: WeightDtype) -> Option<Obstacle> {
        let dtype = match dtype {
            WeightDtype::Auto => self.stored,
            WeightDtype::F32 => Dtype::F32,
            WeightDtype::F16 => Dtype::F16,
            WeightDtype::Bf16 => Dtype::BF16,
            WeightDtype::Q8 => Dtype::Q8,
            WeightDtype::Q4 => Dtype::Q4,
        };
        let size = self.size(device, place, dtype);
        // Of a memory whose size is not known nothing can be said.
        if size.fit.fits == Answer::Yes || (size.fit.fits == Answer::Unknown && !size.fit.measured) {
            return None;
        }
        let total = output::bytes(size.total_bytes);
        let problem = format!("{name} needs {total} with matrices in {}: {}", size.dtype, size.fit.limit);
        let better = |dtype: &Dtype| Some(self.size(device, place, *dtype)).filter(|s| s.fit.fits == Answer::Yes);
        let remedy = match [Dtype::F16, Dtype::Q8, Dtype::Q4].iter().find_map(better) {
            Some(other) => format!("--dtype {} needs {}, which fits", other.dtype, output::bytes(other.total_bytes)),
            None if self.context.is_some() => "a smaller --ctx or a smaller model needs less".to_owned(),
            None => "a smaller model needs less".to_owned(),
        };
        Some(Obstacle { certain: size.fit.fits == Answer::No, problem, remedy })
    }
}

/// The type in which a model's embedding is stored; it is as good as any.
pub(crate) fn stored_dtype(config: &Config, headers: &Headers) -> Dtype {
    headers.get(config.embedding_tensor()).ok().and_then(|t| t.dtype().ok()).unwrap_or(Dtype::F32)
}

/// What is known of a device's memory.
pub(crate) struct Place {
    /// A single buffer, for a GPU: name of the limit and bytes.
    buffer_limit: Option<(&'static str, u64)>,
    /// Main memory in bytes, where the model would be in main memory and its size is known: all, and free.
    memory: Option<(u64, u64)>,
}

/// The judgement.
#[derive(Serialize, Debug, PartialEq)]
pub(crate) struct Fit {
    pub(crate) fits: Answer,
    /// The limit that decides, or why none does.
    pub(crate) limit: String,
    /// Whether the limit is one that was measured.
    #[serde(skip)]
    pub(crate) measured: bool,
}

#[derive(Serialize, Debug, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Yes,
    No,
    Unknown,
}

impl Answer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Unknown => "unknown",
        }
    }
}

/// The largest buffer that WebGPU promises on every adapter. A model smaller than that fits everywhere.
const PROMISED: u64 = 256 << 20;

impl Place {
    pub(crate) fn of(device: &Device) -> Place {
        match device.adapter() {
            None => Place { buffer_limit: None, memory: main_memory() },
            Some(adapter) => Place {
                buffer_limit: Some(buffer_limit(adapter)),
                // What has no memory of its own uses ours.
                memory: main_memory().filter(|_| adapter.software || adapter.kind == "integrated"),
            },
        }
    }

    /// Judges a model of `total` bytes. Matrices are split where a limit asks for it, so only the largest of the other
    /// buffers counts against the limit of one buffer.
    pub(crate) fn fit(&self, total: u64, largest: &(String, u64)) -> Fit {
        let answer = |fits, limit| Fit { fits, limit, measured: true };
        let bytes = output::bytes;
        if let Some((name, limit)) = self.buffer_limit
            && largest.1 > limit
        {
            return answer(
                Answer::No,
                format!("{name} is {}, `{}` needs {}", bytes(limit), largest.0, bytes(largest.1)),
            );
        }
        match self.memory {
            Some((all, _)) if total > all => answer(Answer::No, format!("main memory is {}", bytes(all))),
            Some((_, free)) if total <= free => answer(Answer::Yes, format!("free memory is {}", bytes(free))),
            Some((_, free)) => answer(Answer::Unknown, format!("free memory is {} now", bytes(free))),
            None if total <= PROMISED && self.buffer_limit.is_some() => {
                answer(Answer::Yes, format!("less than the buffer of {} that every adapter offers", bytes(PROMISED)))
            }
            None => {
                let limit = "no limit excludes it, and the size of the memory is not known".to_owned();
                Fit { fits: Answer::Unknown, limit, measured: false }
            }
        }
    }
}

fn buffer_limit(adapter: &AdapterReport) -> (&'static str, u64) {
    let limits = &adapter.limits;
    if limits.buffer_bytes < limits.storage_binding_bytes {
        ("maxBufferSize", limits.buffer_bytes)
    } else {
        ("maxStorageBufferBindingSize", limits.storage_binding_bytes)
    }
}

/// All and free main memory in bytes, where the system tells it in a file.
fn main_memory() -> Option<(u64, u64)> {
    parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_meminfo(text: &str) -> Option<(u64, u64)> {
    let find = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some((find("MemTotal")?, find("MemAvailable")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(limit: Option<u64>, memory: Option<(u64, u64)>) -> Place {
        Place { buffer_limit: limit.map(|n| ("maxStorageBufferBindingSize", n)), memory }
    }

    fn fits(place: &Place, total: u64, largest: u64) -> Answer {
        place.fit(total, &("window".to_owned(), largest)).fits
    }

    #[test]
    fn one_buffer_too_large_excludes() {
        let place = place(Some(100), Some((1000, 1000)));
        assert_eq!(fits(&place, 500, 100), Answer::Yes);
        assert_eq!(fits(&place, 500, 101), Answer::No);
        let fit = place.fit(500, &("window".to_owned(), 101));
        assert_eq!(fit.limit, "maxStorageBufferBindingSize is 100 B, `window` needs 101 B");
    }

    #[test]
    fn memory_decides_where_it_is_known() {
        let place = place(None, Some((1000, 400)));
        assert_eq!(
            [400, 401, 1000, 1001].map(|n| fits(&place, n, 1)),
            [Answer::Yes, Answer::Unknown, Answer::Unknown, Answer::No]
        );
    }

    #[test]
    fn unknown_memory_is_said_to_be_unknown() {
        assert_eq!(fits(&place(Some(1 << 30), None), PROMISED, 1), Answer::Yes);
        assert_eq!(fits(&place(Some(1 << 30), None), PROMISED + 1, 1), Answer::Unknown);
        assert_eq!(fits(&place(None, None), 1, 1), Answer::Unknown);
    }

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:        2048 kB\nMemFree:  1 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(parse_meminfo(text), Some((2 << 20, 1 << 20)));
        assert_eq!(parse_meminfo("MemTotal: many kB\n"), None);
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let config = Config::from_json(crate::embedded::config()).unwrap();
        let mut model = Sized { config: &config, stored: Dtype::F32, headers: None, context: None };
        let cpu = Device::cpu();
        let total = |dtype| model.size(&cpu, &place(None, None), dtype).total_bytes;
        let (f32, q4) = (total(Dtype::F32), total(Dtype::Q4));
        let ask = |model: &Sized<'_>, memory| model.obstacle_in("it", &cpu, &place(None, memory), WeightDtype::Auto);
        assert_eq!(ask(&model, Some((f32, f32))), None);
        assert_eq!(ask(&model, None), None);
        let obstacle = ask(&model, Some((f32 - 1, q4))).unwrap();
        assert!(obstacle.certain && obstacle.problem.starts_with("it needs "), "{obstacle:?}");
        assert!(obstacle.remedy.starts_with("--dtype q4 needs "), "{obstacle:?}");
        let obstacle = ask(&model, Some((f32, q4 - 1))).unwrap();
        assert_eq!((obstacle.certain, obstacle.remedy.as_str()), (false, "a smaller model needs less"));
        model.context = Some(1000);
        // This one has no cache that grows.
        assert_eq!(ask(&model, Some((f32, f32))), None);
    }

    #[test]
    fn the_state_of_a_long_text_counts() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/family/seed-1/bamba/config.json");
        let config = Config::from_json(&std::fs::read(dir).unwrap()).unwrap();
        let mut model = Sized { config: &config, stored: Dtype::F32, headers: None, context: None };
        let footprint = Footprint::of(&config, &Device::cpu(), Dtype::F32);
        assert!(footprint.state_bytes_per_token > 0);
        assert_eq!(model.state_bytes(&footprint), footprint.state_bytes);
        model.context = Some(1000);
        assert_eq!(model.state_bytes(&footprint), footprint.state_bytes + 1000 * footprint.state_bytes_per_token);
    }
}
