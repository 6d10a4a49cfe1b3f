//! Element types of safetensors files.

use taipan_kernels::WeightFormat;

/// The types a weight may be stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single-precision float.
    BF16,
    /// int8 in groups with a scale, see [`crate::quant`]; matrices only.
    Q8,
    /// int4 in groups with a scale; matrices only.
    Q4,
}

impl Dtype {
    /// All of them, for messages.
    pub(crate) const ALLOWED: &'static str = "F32, F16, BF16";

    /// All of them, in the order of [`WeightFormat::ALL`].
    pub const ALL: [Dtype; 5] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::Q8, Dtype::Q4];

    /// As messages spell it; of floats, as a safetensors header does.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Q8 => "Q8",
            Dtype::Q4 => "Q4",
            float => ElementType::from(float).name(),
        }
    }

    /// The same in a device's memory.
    pub fn format(self) -> WeightFormat {
        match self {
            Dtype::F32 => WeightFormat::F32,
            Dtype::F16 => WeightFormat::F16,
            Dtype::BF16 => WeightFormat::Bf16,
            Dtype::Q8 => WeightFormat::Q8,
            Dtype::Q4 => WeightFormat::Q4,
        }
    }
}

macro_rules! element_types {
    ($($variant:ident $name:literal $bits:literal;)*) => {
        /// Every element type that the safetensors format names. Only those of [`Dtype`] can be weights; the others are
        /// known so that a file holding them can be checked and read raw.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum ElementType { $($variant,)* }

        impl ElementType {
            #[cfg(test)]
            pub(crate) const ALL: &'static [ElementType] = &[$(ElementType::$variant,)*];

            /// The type of this name in a safetensors header.
            pub fn from_name(name: &str) -> Option<ElementType> {
                match name {
                    $($name => Some(ElementType::$variant),)*
                    _ => None,
                }
            }

            /// The spelling in a safetensors header.
            pub fn name(self) -> &'static str {
                match self { $(ElementType::$variant => $name,)* }
            }

            /// Bits of one element; not always a multiple of 8.
            pub fn bits(self) -> u64 {
                match self { $(ElementType::$variant => $bits,)* }
            }
        }
    };
}

element_types! {
    Bool "BOOL" 8;
    F4 "F4" 4;
    F6E2M3 "F6_E2M3" 6;
    F6E3M2 "F6_E3M2" 6;
    U8 "U8" 8;
    I8 "I8" 8;
    F8E5M2 "F8_E5M2" 8;
    F8E4M3 "F8_E4M3" 8;
    F8E5M2Fnuz "F8_E5M2FNUZ" 8;
    F8E4M3Fnuz "F8_E4M3FNUZ" 8;
    F8E8M0 "F8_E8M0" 8;
    I16 "I16" 16;
    U16 "U16" 16;
    F16 "F16" 16;
    BF16 "BF16" 16;
    I32 "I32" 32;
    U32 "U32" 32;
    F32 "F32" 32;
    C64 "C64" 64;
    F64 "F64" 64;
    I64 "I64" 64;
    U64 "U64" 64;
}

impl ElementType {
    /// The weight type this is, if it is one.
    pub fn weight(self) -> Option<Dtype> {
        match self {
            ElementType::F32 => Some(Dtype::F32),
            ElementType::F16 => Some(Dtype::F16),
            ElementType::BF16 => Some(Dtype::BF16),
            _ => None,
        }
    }

    /// What the position of an element must be a multiple of, in bytes.
    pub(crate) fn alignment(self) -> u64 {
        (self.bits() / 8).max(1)
    }
}

impl From<Dtype> for ElementType {
    fn from(dtype: Dtype) -> ElementType {
        match dtype {
            Dtype::F32 => ElementType::F32,
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::BF16,
            // Of the integers; scales are F16.
            Dtype::Q8 => ElementType::I8,
            Dtype::Q4 => ElementType::U8,
        }
    }
}
