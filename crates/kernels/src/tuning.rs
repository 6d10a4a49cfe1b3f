//! What is faster on one kind of device than on another, as data: the built-in table is `tuning.json`, `taipan bench --tune`
//! measures an entry of one, `--tuning FILE` reads one. Nothing in it changes what a kernel computes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use taipan_shaders::WeightFormat;

/// A threshold that is never reached; `"never"` in a table.
pub const NEVER: u32 = u32::MAX;

/// One number that a device may have of its own.
#[derive(Debug)]
pub struct Tunable {
    /// Its name in a table.
    pub name: &'static str,
    /// Kernels whose time depends on it.
    pub kernels: &'static [&'static str],
    /// The values it may have, all of which are tested.
    pub values: &'static [u32],
}

macro_rules! tunables {
    ($($(#[$doc:meta])* $name:ident = $default:expr, $kernels:expr, $values:expr;)+) => {
        /// The numbers that one device has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Tuning {
            $($(#[$doc])* pub $name: u32,)+
        }

        impl Default for Tuning {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// All there are.
        pub static TUNABLES: &[Tunable] =
            &[$(Tunable { name: stringify!($name), kernels: &$kernels, values: &$values },)+];

        impl Tuning {
            fn slot(&mut self, name: &str) -> Option<&mut u32> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)+
                    _ => None,
                }
            }
        }
    };
}

// Name, value where no table has one, kernels, values. That is all a tunable needs; its kernel reads it in `launch_tuned`.
tunables! {
    /// Rows of a matrix from which on a slot of `matvec` takes eight of them instead of two: x is loaded for fewer slots,
    /// but there are fewer workgroups.
    matvec_eight_from = 1, ["matvec"], [1, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, NEVER];
    /// The same for matrices of integers, whose rows are fewer bytes.
    matvec_eight_integers_from = 1, ["matvec"], [1, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, NEVER];
    /// The most lanes of `matvec` that share the columns of a row: with one no sums are exchanged, but there are fewer invocations.
    matvec_lanes = 128, ["matvec"], [1, 8, 32, 128];
    /// Positions of a window that one workgroup of `token_attention` takes: fewer are more
    /// workgroups, and then there is `merge_attention` to run.
    attention_part = 256, ["token_attention"], [64, 128, 256, 512, NEVER];
    /// Lanes of `mixer_update` that share the columns of a row of the state: with one no sums are exchanged, but there are fewer
    /// invocations.
    mixer_lanes = 32, ["mixer_update"], [1, 8, 32];
    /// Tokens of a segment from which on `matmul` with cooperative matrices has tiles of 128 tokens instead of 64: less is
    /// loaded for a product, but there are fewer workgroups.
    matmul_wide_from = 2048, ["matmul"], [1, 256, 512, 1024, 2048, 4096, NEVER];
}

impl Tuning {
    /// The same with another value for one tunable.
    ///
    /// # Panics
    /// If there is no such tunable: names come from [`TUNABLES`].
    #[must_use]
    pub fn with(mut self, tunable: &Tunable, value: u32) -> Self {
        *self.slot(tunable.name).expect("a name of TUNABLES") = value;
        self
    }

    /// The same where matrices of one format have numbers of their own.
    #[must_use]
    pub const fn for_format(self, format: WeightFormat) -> Self {
        if format.is_quantised() { Self { matvec_eight_from: self.matvec_eight_integers_from, ..self } } else { self }
    }

    /// The value of a tunable.
    #[must_use]
    pub fn get(mut self, tunable: &Tunable) -> u32 {
        self.slot(tunable.name).map_or(0, |slot| *slot)
    }
}

/// What a device is, or, of an entry, which devices it is for: those that have all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceKey {
    /// Whether a CPU stands in for a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<bool>,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// PCI vendor, as in `0x10de`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// PCI device, as in `0x2335`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `vulkan`, `metal`, `dx12`, `gl` or `webgpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
}

impl DeviceKey {
    /// What may be given of it.
    const PARTS: usize = 5;

    /// How much of this key is given, if all of it is so of `device`.
    fn fit(&self, device: &Self) -> Option<usize> {
        fn one<T: PartialEq>(wanted: &Option<T>, found: &Option<T>) -> Option<usize> {
            if wanted.is_none() { Some(0) } else { (wanted == found).then_some(1) }
        }
        Some(
            one(&self.software, &device.software)?
                + one(&self.kind, &device.kind)?
                + one(&self.vendor, &device.vendor)?
                + one(&self.device, &device.device)?
                + one(&self.backend, &device.backend)?,
        )
    }
}

/// Some tunables of some devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TuningEntry {
    /// Which devices.
    pub device: DeviceKey,
    /// Where the numbers come from, for people.
    pub note: Option<String>,
    /// Values by the names of tunables.
    pub values: BTreeMap<&'static str, u32>,
}

/// Entries. Of those that fit a device, the more particular ones have the last word, and among equals the later ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TuningTable {
    /// In the order of the file.
    pub entries: Vec<TuningEntry>,
}

/// Why a table was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TuningError {
    /// Not JSON, or not of this form.
    #[error("not a tuning table: {0}")]
    Form(String),
    /// Nothing has this name.
    #[error("there is no tunable `{name}`; there are: {allowed}")]
    Unknown {
        /// The name.
        name: String,
        /// All names.
        allowed: String,
    },
    /// A tunable cannot have this value.
    #[error("`{name}` is {value}; allowed: {allowed}")]
    Value {
        /// The tunable.
        name: &'static str,
        /// The value as written.
        value: String,
        /// The values that it may have.
        allowed: String,
    },
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    entries: Vec<FileEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    device: DeviceKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    tuning: BTreeMap<String, Value>,
}

impl Tunable {
    /// A value as a table has it.
    fn written(value: u32) -> Value {
        if value == NEVER { "never".into() } else { value.into() }
    }

    fn parse(&'static self, value: &Value) -> Result<u32, TuningError> {
        let found = self.values.iter().copied().find(|v| Self::written(*v) == *value);
        found.ok_or_else(|| TuningError::Value {
            name: self.name,
            value: value.to_string(),
            allowed: list(self.values.iter().map(|v| Self::written(*v).to_string())),
        })
    }
}

fn list(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

impl TuningTable {
    /// The table that is part of this crate.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static TABLE: OnceLock<TuningTable> = OnceLock::new();
        TABLE.get_or_init(|| Self::from_json(include_bytes!("../tuning.json")).expect("a test reads it"))
    }

    /// Reads a table.
    ///
    /// # Errors
    /// Whatever in it is unknown or not allowed.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TuningError> {
        let file: File = serde_json::from_slice(bytes).map_err(|e| TuningError::Form(e.to_string()))?;
        let entry = |entry: FileEntry| {
            let mut values = BTreeMap::new();
            for (name, value) in &entry.tuning {
                let tunable = TUNABLES.iter().find(|t| t.name == name).ok_or_else(|| TuningError::Unknown {
                    name: name.clone(),
                    allowed: list(TUNABLES.iter().map(|t| t.name.to_owned())),
                })?;
                values.insert(tunable.name, tunable.parse(value)?);
            }
            Ok(TuningEntry { device: entry.device, note: entry.note, values })
        };
        Ok(Self { entries: file.entries.into_iter().map(entry).collect::<Result<_, _>>()? })
    }

    /// The table as a file has it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let entry = |entry: &TuningEntry| FileEntry {
            device: entry.device.clone(),
            note: entry.note.clone(),
            tuning: entry.values.iter().map(|(name, value)| ((*name).to_owned(), Tunable::written(*value))).collect(),
        };
        let file = File { entries: self.entries.iter().map(entry).collect() };
        serde_json::to_string_pretty(&file).expect("strings and numbers") + "\n"
    }

    /// Puts an entry in, in the place of one for the same devices.
    pub fn put(&mut self, entry: TuningEntry) {
        self.entries.retain(|e| e.device != entry.device);
        self.entries.push(entry);
    }

    /// What it says about a device, over `tuning`; `None` if it says nothing.
    #[must_use]
    pub fn over(&self, tuning: Tuning, device: &DeviceKey) -> Option<Tuning> {
        let mut tuned = None;
        for given in 0..=DeviceKey::PARTS {
            for entry in self.entries.iter().filter(|entry| entry.device.fit(device) == Some(given)) {
                let named = |name| TUNABLES.iter().find(|t| t.name == name).expect("a table has names of TUNABLES");
                let now = tuned.unwrap_or(tuning);
                tuned = Some(entry.values.iter().fold(now, |now, (name, value)| now.with(named(*name), *value)));
            }
        }
        tuned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(software: bool, vendor: &str) -> DeviceKey {
        DeviceKey { software: Some(software), vendor: Some(vendor.to_owned()), ..DeviceKey::default() }
    }

    #[test]
    fn the_built_in_table_knows_every_tunable_for_every_device() {
        let table = TuningTable::builtin();
        assert_eq!(table, &TuningTable::from_json(table.to_json().as_bytes()).expect("its own words"));
        let of = |software| table.over(Tuning::default(), &device(software, "0x1")).expect("an entry");
        assert_eq!((of(true).matvec_eight_from, of(false).matvec_eight_from), (1, NEVER));
        let of_format = |format| of(false).for_format(format).matvec_eight_from;
        assert_eq!((of_format(WeightFormat::F16), of_format(WeightFormat::Q4)), (NEVER, 32_768));
        for tunable in TUNABLES {
            assert!(tunable.values.contains(&Tuning::default().get(tunable)), "{}: the default", tunable.name);
            let in_table = |e: &TuningEntry| e.device == DeviceKey::default() && e.values.contains_key(tunable.name);
            assert!(table.entries.iter().any(in_table), "{}: for any device", tunable.name);
        }
    }

    #[test]
    fn the_more_particular_entry_has_the_last_word() {
        let text = br#"{"entries": [
            {"device": {"vendor": "0x10de", "software": false}, "tuning": {"matvec_eight_from": 4096}},
            {"device": {"vendor": "0x10de"}, "tuning": {"matvec_eight_from": 512}},
            {"device": {"vendor": "0x1002"}, "note": "an empty one", "tuning": {}}
        ]}"#;
        let table = TuningTable::from_json(text).expect("a table");
        let of = |device: &DeviceKey| table.over(Tuning::default(), device).map(|t| t.matvec_eight_from);
        assert_eq!(of(&device(false, "0x10de")), Some(4096));
        assert_eq!(of(&device(true, "0x10de")), Some(512));
        assert_eq!(of(&device(false, "0x1002")), Some(Tuning::default().matvec_eight_from));
        assert_eq!(of(&device(false, "0x8086")), None);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let refused = |entry: &str| {
            let text = format!("{{\"entries\": [{entry}]}}");
            TuningTable::from_json(text.as_bytes()).expect_err(entry).to_string()
        };
        for (entry, part) in [
            (
                r#"{"device": {}, "tuning": {"matvec_nine": 1}}"#,
                "there is no tunable `matvec_nine`; there are: matvec_",
            ),
            (r#"{"device": {}, "tuning": {"matvec_eight_from": 513}}"#, "is 513; allowed: 1, 512,"),
            (r#"{"device": {}, "tuning": {"matvec_eight_from": "ever"}}"#, "is \"ever\"; allowed: 1, 512,"),
            (r#"{"device": {}, "tuning": {"matvec_eight_from": 4294967295}}"#, "is 4294967295; allowed"),
            (r#"{"device": {"colour": 1}, "tuning": {}}"#, "unknown field `colour`"),
            (r#"{"device": {"vendor": 4318}, "tuning": {}}"#, "expected a string"),
            (r#"{"tuning": {}}"#, "missing field `device`"),
        ] {
            let message = refused(entry);
            assert!(message.contains(part), "{entry}: {message}");
        }
        assert!(TuningTable::from_json(b"[]").is_err() && TuningTable::from_json(b"").is_err());
    }
}
