//! Whether a model fits a device, and which limit says so.

use serde::Serialize;
use taipan::{AdapterReport, Device};

use crate::output;

/// What is known of a device's memory.
pub(super) struct Place {
    pub(super) description: String,
    /// A single buffer, for a GPU: name of the limit and bytes.
    buffer_limit: Option<(&'static str, u64)>,
    /// Main memory in bytes, where the model would be in main memory and its size is known: all, and free.
    memory: Option<(u64, u64)>,
}

/// The judgement.
#[derive(Serialize, Debug, PartialEq)]
pub(super) struct Fit {
    pub(super) fits: Answer,
    /// The limit that decides, or why none does.
    pub(super) limit: String,
}

#[derive(Serialize, Debug, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    Yes,
    No,
    Unknown,
}

impl Answer {
    pub(super) fn name(self) -> &'static str {
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
    pub(super) fn of(device: &Device) -> Place {
        let description = device.description();
        match device.adapter() {
            None => Place { description, buffer_limit: None, memory: main_memory() },
            Some(adapter) => Place {
                description,
                buffer_limit: Some(buffer_limit(adapter)),
                // What has no memory of its own uses ours.
                memory: main_memory().filter(|_| adapter.software || adapter.kind == "integrated"),
            },
        }
    }

    /// Judges a model of `total` bytes. Matrices are split where a limit asks for it, so only the largest of the other
    /// buffers counts against the limit of one buffer.
    pub(super) fn fit(&self, total: u64, largest: &(String, u64)) -> Fit {
        let answer = |fits, limit| Fit { fits, limit };
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
            None => answer(Answer::Unknown, "no limit excludes it, and the size of the memory is not known".to_owned()),
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
        let description = "test".to_owned();
        Place { description, buffer_limit: limit.map(|n| ("maxStorageBufferBindingSize", n)), memory }
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
}
