//! Every way in which a weight file or its index can lie.

use crate::error::Name;

/// What is wrong with a weight file or an index of shards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsProblem {
    /// The header's length is beyond what any real file needs.
    #[error("the header claims {len} bytes, at most {max} are read")]
    HeaderTooLong {
        /// The length in the file's first eight bytes.
        len: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// The file ends before its header does.
    #[error("the file ends after {found} bytes, its header alone needs {needed}")]
    HeaderTruncated {
        /// Bytes up to the end of the header.
        needed: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The header is not text.
    #[error("the header is not UTF-8: byte {position} of it cannot be decoded")]
    HeaderUtf8 {
        /// Where decoding failed.
        position: usize,
    },
    /// The header is not the JSON that the format asks for.
    #[error("the header is not a safetensors header: {}", Name(message))]
    HeaderJson {
        /// Where and why parsing stopped.
        message: String,
    },
    /// A name stands twice in the header, or twice in the index.
    #[error("`{}` is listed twice", Name(tensor))]
    DuplicateTensor {
        /// The name.
        tensor: String,
    },
    /// An element type that the format does not know.
    #[error("tensor `{}` has the unknown dtype \"{}\"", Name(tensor), Name(dtype))]
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// Its dtype as written.
        dtype: String,
    },
    /// The file's metadata names a quantisation that is not known, or a version of it.
    #[error(
        "the weights are quantised as \"{}\", version {}; known are q8 and q4, version 1",
        Name(format),
        Name(version)
    )]
    UnknownQuantisation {
        /// The name as written.
        format: String,
        /// The version as written.
        version: String,
    },
    /// Integers without scales that fit them.
    #[error(
        "tensor `{}` {} with {} is no {format} matrix",
        Name(tensor),
        Name(format!("{shape:?}")),
        scales.as_ref().map_or("no scales".to_owned(), |shape| format!("scales {}", Name(format!("{shape:?}"))))
    )]
    NotQuantised {
        /// The integers.
        tensor: String,
        /// The format that the file's metadata names.
        format: &'static str,
        /// The shape of the integers: rows, groups, bytes of a group.
        shape: Vec<usize>,
        /// The shape of the scales, if there are any: rows, groups.
        scales: Option<Vec<usize>>,
    },
    /// The size that follows from a shape overflows.
    #[error("tensor `{}`: the number of bytes for its shape overflows", Name(tensor))]
    ShapeOverflow {
        /// The tensor.
        tensor: String,
    },
    /// The end of a tensor lies before its start.
    #[error("tensor `{}` goes from byte {start} to byte {end}", Name(tensor))]
    ReversedOffsets {
        /// The tensor.
        tensor: String,
        /// Its first byte in the data.
        start: u64,
        /// The byte after its last.
        end: u64,
    },
    /// A tensor goes past the end of the file.
    #[error("tensor `{}` ends at byte {end} of the data, the file holds {data} bytes of it", Name(tensor))]
    OutOfBounds {
        /// The tensor.
        tensor: String,
        /// The byte after its last.
        end: u64,
        /// Bytes of data in the file.
        data: u64,
    },
    /// Shape and dtype ask for another number of bytes than the offsets give.
    #[error("tensor `{}` has {found} bytes, its shape and dtype ask for {expected}", Name(tensor))]
    SizeMismatch {
        /// The tensor.
        tensor: String,
        /// Bytes that follow from shape and dtype, rounded up.
        expected: u64,
        /// Bytes between its offsets.
        found: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors `{}` and `{}` overlap", Name(a), Name(b))]
    Overlap {
        /// The one that starts first.
        a: String,
        /// The other.
        b: String,
    },
    /// Bytes before a tensor belong to no tensor.
    #[error("{bytes} bytes before tensor `{}` belong to no tensor", Name(tensor))]
    Gap {
        /// The tensor after the hole.
        tensor: String,
        /// Size of the hole.
        bytes: u64,
    },
    /// A tensor does not start at a multiple of its element's size.
    #[error("tensor `{}` starts at byte {start} of the data, which is not a multiple of {alignment}", Name(tensor))]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its first byte in the data.
        start: u64,
        /// Size of its elements.
        alignment: u64,
    },
    /// Bytes after the last tensor belong to no tensor.
    #[error("{bytes} bytes follow the last tensor")]
    TrailingBytes {
        /// How many.
        bytes: u64,
    },
    /// Not the zip archive that a PyTorch checkpoint is.
    #[error("not an archive of PyTorch: {}", Name(message))]
    Archive {
        /// What is wrong with it.
        message: String,
    },
    /// The pickle in the archive is not the list of tensors that it must be.
    #[error("its pickle is not a list of tensors: at byte {at}, {what}")]
    Pickle {
        /// Where in the pickle.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The pickle does something that a list of tensors does not need.
    #[error("its pickle uses opcode {opcode:#04x} at byte {at}, which a list of tensors does not need")]
    PickleOpcode {
        /// The opcode.
        opcode: u8,
        /// Where in the pickle.
        at: usize,
    },
    /// The pickle asks for code.
    #[error("its pickle asks for `{}`, which a list of tensors does not need; nothing of it was run", Name(name))]
    PickleGlobal {
        /// Module and name.
        name: String,
    },
    /// A tensor lies in a file that the archive does not hold.
    #[error("tensor `{}` lies in storage \"{}\", which is missing", Name(tensor), Name(storage))]
    StorageMissing {
        /// The tensor.
        tensor: String,
        /// The storage as written.
        storage: String,
    },
    /// A tensor's elements are not stored row by row.
    #[error("tensor `{}` is not stored row by row", Name(tensor))]
    NotContiguous {
        /// The tensor.
        tensor: String,
    },
    /// The index of shards is too large to be one.
    #[error("the index has {len} bytes, at most {max} are read")]
    IndexTooLong {
        /// Its size.
        len: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// The index of shards is not the JSON it must be.
    #[error("not an index of shards: {}", Name(message))]
    IndexJson {
        /// Where and why parsing stopped.
        message: String,
    },
    /// A shard that the index names is not there.
    #[error("shard {} is missing", Name(shard))]
    ShardMissing {
        /// The shard's file name.
        shard: String,
    },
    /// A tensor is not in the shard that the index names for it.
    #[error("tensor `{}` is not in {}, where the index puts it", Name(tensor), Name(shard))]
    NotInShard {
        /// The tensor.
        tensor: String,
        /// The shard that the index names.
        shard: String,
    },
    /// A reader gave another number of bytes than it was asked for.
    #[error("tensor `{}`: {found} bytes came where {expected} were asked for", Name(tensor))]
    ShortRead {
        /// The tensor.
        tensor: String,
        /// Bytes asked for.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// What a GGUF file says, or leaves unsaid.
    #[error("not a GGUF file that can be used: {}", Name(message))]
    Gguf {
        /// What is wrong.
        message: String,
    },
    /// Two files hold a tensor of the same name.
    #[error("tensor `{}` is in both {} and {}", Name(tensor), Name(a), Name(b))]
    InTwoShards {
        /// The tensor.
        tensor: String,
        /// One file.
        a: String,
        /// The other.
        b: String,
    },
}

impl WeightsProblem {
    pub(crate) fn hint(&self) -> Option<String> {
        use WeightsProblem as P;
        let text = match self {
            P::HeaderTooLong { .. } | P::HeaderUtf8 { .. } | P::HeaderJson { .. } => {
                "is this a safetensors file? A Git LFS pointer or an error page saved under that name looks like this"
            }
            P::HeaderTruncated { .. } | P::OutOfBounds { .. } | P::ShortRead { .. } => {
                "the download may have been cut short; fetch the file again"
            }
            P::UnknownQuantisation { .. } => {
                "a newer version may read it; or quantise the original again with `taipan quantize`"
            }
            P::Gguf { .. } => {
                "files of mamba2, granitehybrid, falcon-h1 and nemotron_h are read, as llama.cpp's converter writes them"
            }
            P::Archive { .. } => {
                "is this a file of `torch.save`, from PyTorch 1.6 or later? A Git LFS pointer or an error page looks like this"
            }
            P::PickleOpcode { .. } | P::PickleGlobal { .. } => {
                "do not trust this file; ask for the same weights as safetensors"
            }
            P::NotContiguous { .. } => "save it again with `tensor.contiguous()`, or as safetensors",
            P::ShardMissing { .. } => "fetch every shard that the index lists into the same folder",
            P::IndexTooLong { .. } | P::IndexJson { .. } | P::NotInShard { .. } | P::InTwoShards { .. } => {
                "index and shards must come from the same checkpoint; fetch them again together"
            }
            _ => "the file is damaged or was made by a faulty writer; fetch it again or save it anew",
        };
        Some(text.to_owned())
    }
}
