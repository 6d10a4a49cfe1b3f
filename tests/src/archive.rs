//! PyTorch's archives, put together by hand.

use std::io::Write;

/// An uncompressed zip of these files.
///
/// # Panics
/// If a name is not one that a zip can have.
#[must_use]
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut zip = rawzip::ZipArchiveWriter::new(&mut out);
    for (name, bytes) in files {
        let (mut entry, config) = zip.new_file(*name).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(bytes).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    zip.finish().unwrap();
    out
}

/// A checkpoint: a pickle and its storages.
#[must_use]
pub fn checkpoint(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("m/data/{key}")).collect();
    let mut files = vec![("m/data.pkl", pickle), ("m/byteorder", &b"little"[..])];
    files.extend(names.iter().zip(storages).map(|(name, (_, bytes))| (&name[..], *bytes)));
    archive(&files)
}

/// A pickle under construction, without what `torch.save` remembers on the way.
#[derive(Clone, Debug)]
pub struct Pickle(pub Vec<u8>);

impl Default for Pickle {
    fn default() -> Self {
        Self(b"\x80\x02}(".to_vec())
    }
}

impl Pickle {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn integers(&mut self, numbers: &[i32]) {
        self.0.push(b'(');
        for n in numbers {
            self.0.push(b'J');
            self.0.extend(n.to_le_bytes());
        }
        self.0.push(b't');
    }

    /// Adds a tensor of a class of storages.
    #[must_use]
    pub fn tensor(mut self, name: &str, class: &str, key: &str, offset: i32, shape: &[i32], strides: &[i32]) -> Self {
        self.text(name);
        self.0.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.0.extend(format!("ctorch\n{class}\n").as_bytes());
        self.text(key);
        self.text("cpu");
        self.0.extend(b"K\x00tQJ");
        self.0.extend(offset.to_le_bytes());
        self.integers(shape);
        self.integers(strides);
        self.0.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        self
    }

    /// Adds any bytes.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// The whole pickle.
    #[must_use]
    pub fn end(self) -> Vec<u8> {
        self.raw(b"u.").0
    }
}
