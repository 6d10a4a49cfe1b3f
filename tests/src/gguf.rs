//! GGUF files written for a test: right ones, and ones that are wrong on purpose.

/// A file under construction. Keys and tensors are written in their order, whatever sense they make.
#[derive(Clone)]
pub struct GgufFile {
    /// Keys with the type and the bytes of their values.
    pub pairs: Vec<(String, u32, Vec<u8>)>,
    /// Tensors.
    pub tensors: Vec<GgufTensor>,
}

/// A tensor as the file describes it, and its bytes.
#[derive(Clone)]
pub struct GgufTensor {
    /// Its name.
    pub name: String,
    /// Its dimensions as they are written, innermost first.
    pub dims: Vec<u64>,
    /// Its type.
    pub kind: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it is said to lie, if not where it does.
    pub offset: Option<u64>,
}

const ALIGNMENT: usize = 32;
/// Types of values.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat()
}

fn list(kind: u32, count: usize, bytes: Vec<u8>) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes()[..], &bytes].concat()
}

impl GgufFile {
    /// A Mamba-2 of one layer with a vocabulary and a width of these sizes, of numbers that are the same every time.
    #[must_use]
    pub fn mamba2(vocab: u64, width: u64) -> Self {
        let mut file = Self { pairs: Vec::new(), tensors: Vec::new() };
        file.text("general.architecture", "mamba2");
        for (key, value) in [
            ("embedding_length", width as u32),
            ("block_count", 1),
            ("ssm.conv_kernel", 4),
            ("ssm.inner_size", 2 * width as u32),
            ("ssm.state_size", 8),
            ("ssm.time_step_rank", 4),
            ("ssm.group_count", 1),
        ] {
            file.integer(&format!("mamba2.{key}"), value);
        }
        file.float("mamba2.attention.layer_norm_rms_epsilon", 1e-5);
        for (name, dims) in [
            ("token_embd.weight", &[width, vocab][..]),
            ("output_norm.weight", &[width]),
            ("output.weight", &[width, vocab]),
            ("blk.0.attn_norm.weight", &[width]),
            ("blk.0.ssm_in.weight", &[width, 4 * width + 20]),
            ("blk.0.ssm_conv1d.weight", &[4, 2 * width + 16]),
            ("blk.0.ssm_conv1d.bias", &[2 * width + 16]),
            ("blk.0.ssm_dt.bias", &[4]),
            ("blk.0.ssm_a", &[1, 4]),
            ("blk.0.ssm_d", &[1, 4]),
            ("blk.0.ssm_norm.weight", &[2 * width, 1]),
            ("blk.0.ssm_out.weight", &[2 * width, width]),
        ] {
            let count: u64 = dims.iter().product();
            let sign = if name.ends_with("ssm_a") { -1.0 } else { 1.0 };
            let number = |i: u64| sign * (((i * 7 + name.len() as u64) % 13) as f32 / 13.0 + 0.1);
            let bytes = (0..count).flat_map(|i| number(i).to_le_bytes()).collect();
            file.tensors.push(GgufTensor { name: name.to_owned(), dims: dims.to_vec(), kind: 0, bytes, offset: None });
        }
        file
    }

    /// Sets a key, in the place that it has.
    pub fn set(&mut self, key: &str, kind: u32, bytes: Vec<u8>) {
        match self.pairs.iter_mut().find(|pair| pair.0 == key) {
            Some(pair) => (pair.1, pair.2) = (kind, bytes),
            None => self.pairs.push((key.to_owned(), kind, bytes)),
        }
    }

    /// Sets a key to a text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.set(key, TEXT, text(value));
    }

    /// Sets a key to an integer.
    pub fn integer(&mut self, key: &str, value: u32) {
        self.set(key, U32, value.to_le_bytes().to_vec());
    }

    /// Sets a key to a float.
    pub fn float(&mut self, key: &str, value: f32) {
        self.set(key, F32, value.to_le_bytes().to_vec());
    }

    /// Sets a key to a truth.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.set(key, BOOL, vec![value.into()]);
    }

    /// Sets a key to a list of texts.
    pub fn texts(&mut self, key: &str, values: &[String]) {
        self.set(key, LIST, list(TEXT, values.len(), values.iter().flat_map(|value| text(value)).collect()));
    }

    /// Sets a key to a list of integers.
    pub fn integers(&mut self, key: &str, values: &[i32]) {
        self.set(key, LIST, list(I32, values.len(), values.iter().flat_map(|n| n.to_le_bytes()).collect()));
    }

    /// Sets a key to a list of floats.
    pub fn floats(&mut self, key: &str, values: &[f32]) {
        self.set(key, LIST, list(F32, values.len(), values.iter().flat_map(|n| n.to_le_bytes()).collect()));
    }

    /// The tensor of this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn tensor(&mut self, name: &str) -> &mut GgufTensor {
        self.tensors.iter_mut().find(|t| t.name == name).expect("it has one")
    }

    /// The bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, kind, bytes) in &self.pairs {
            out.extend(text(key));
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        }
        let mut at = 0;
        for t in &self.tensors {
            out.extend(text(&t.name));
            out.extend((t.dims.len() as u32).to_le_bytes());
            out.extend(t.dims.iter().flat_map(|n| n.to_le_bytes()));
            out.extend(t.kind.to_le_bytes());
            out.extend(t.offset.unwrap_or(at as u64).to_le_bytes());
            at = (at + t.bytes.len()).next_multiple_of(ALIGNMENT);
        }
        for t in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(&t.bytes);
        }
        out
    }
}
