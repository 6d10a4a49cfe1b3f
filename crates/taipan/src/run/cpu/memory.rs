//! State and scratch of a session in main memory.

use taipan_kernels::{BufferDesc, BufferId, Element, control};

use crate::description::Buffers;
use crate::error::{Error, Result};
use crate::memory::{copy, zeros};

/// A dense buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Numbers.
    F32(Vec<f32>),
    /// Words.
    U32(Vec<u32>),
}

impl Data {
    /// Zeros of a description.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn zeros(desc: &BufferDesc) -> Result<Self> {
        let what = || format!("buffer `{}`", desc.name);
        Ok(match desc.element {
            Element::F32 => Self::F32(zeros(desc.len(), what)?),
            Element::U32 => Self::U32(zeros(desc.len(), what)?),
        })
    }

    fn try_clone(&self) -> Result<Self> {
        let what = || "a copy of a session's state".to_owned();
        Ok(match self {
            Self::F32(v) => Self::F32(copy(v, what)?),
            Self::U32(v) => Self::U32(copy(v, what)?),
        })
    }

    /// Bytes allocated for it, whether or not elements lie in them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let elements = match self {
            Self::F32(v) => v.capacity(),
            Self::U32(v) => v.capacity(),
        };
        (elements * size_of::<u32>()) as u64
    }

    /// The elements' bits.
    #[must_use]
    pub fn to_words(&self) -> Vec<u32> {
        match self {
            Self::F32(v) => v.iter().map(|x| x.to_bits()).collect(),
            Self::U32(v) => v.clone(),
        }
    }

    /// Replaces the elements by their bits.
    pub fn set_words(&mut self, words: &[u32]) {
        match self {
            Self::F32(v) => *v = words.iter().map(|w| f32::from_bits(*w)).collect(),
            Self::U32(v) => *v = words.to_vec(),
        }
    }
}

/// State and scratch of one session.
#[derive(Debug)]
pub struct Memory {
    /// Session state.
    pub state: Vec<Data>,
    /// Scratch.
    pub scratch: Vec<Data>,
}

impl Memory {
    /// Zeroed memory, for sets of buffers that are known to be small.
    ///
    /// # Panics
    /// If there is not enough.
    #[must_use]
    pub fn new(state: &Buffers, scratch: &Buffers) -> Self {
        Self::try_new(state, scratch).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Zeroed memory.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn try_new(state: &Buffers, scratch: &Buffers) -> Result<Self> {
        let zeros = |b: &Buffers| b.list().iter().map(Data::zeros).collect::<Result<Vec<_>>>();
        Ok(Self { state: zeros(state)?, scratch: zeros(scratch)? })
    }

    /// A copy.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn try_clone(&self) -> Result<Self> {
        let scratch = self.scratch.iter().map(Data::try_clone).collect::<Result<_>>()?;
        Ok(Self { state: self.copy_state()?, scratch })
    }

    /// Appends zeros to a buffer of numbers until it has so many.
    pub(crate) fn grow(&mut self, id: BufferId, len: usize) -> Result<()> {
        let Data::F32(v) = self.slot(id) else { return Ok(()) };
        let more = len.saturating_sub(v.len());
        let what = || Error::out_of_memory("the keys and values of a longer text", 4 * len);
        v.try_reserve_exact(more).map_err(|_| what())?;
        v.resize(v.len() + more, 0.0);
        Ok(())
    }

    /// A copy of the state.
    pub(crate) fn copy_state(&self) -> Result<Vec<Data>> {
        self.state.iter().map(Data::try_clone).collect()
    }

    fn slot(&mut self, id: BufferId) -> &mut Data {
        match id {
            BufferId::State(i) => &mut self.state[i as usize],
            BufferId::Scratch(i) => &mut self.scratch[i as usize],
        }
    }

    /// A buffer.
    #[must_use]
    pub fn get(&self, id: BufferId) -> &Data {
        match id {
            BufferId::State(i) => &self.state[i as usize],
            BufferId::Scratch(i) => &self.scratch[i as usize],
        }
    }

    /// Numbers of a buffer.
    #[must_use]
    pub fn f32(&self, id: BufferId) -> &[f32] {
        match self.get(id) {
            Data::F32(v) => v,
            Data::U32(_) => panic!("{id:?} holds words"),
        }
    }

    /// Words of a buffer.
    #[must_use]
    pub fn u32(&self, id: BufferId) -> &[u32] {
        match self.get(id) {
            Data::U32(v) => v,
            Data::F32(_) => panic!("{id:?} holds numbers"),
        }
    }

    /// Replaces a buffer's elements by their bits.
    pub fn set_words(&mut self, id: BufferId, words: &[u32]) {
        self.slot(id).set_words(words);
    }

    /// Words of a buffer, to change.
    pub fn u32_mut(&mut self, id: BufferId) -> &mut Vec<u32> {
        match self.slot(id) {
            Data::U32(v) => v,
            Data::F32(_) => panic!("{id:?} holds numbers"),
        }
    }

    /// Lends a buffer of numbers to `body` while the others stay readable.
    pub(super) fn write(&mut self, id: BufferId, body: impl FnOnce(&Self, &mut Vec<f32>)) {
        let mut data = std::mem::replace(self.slot(id), Data::U32(Vec::new()));
        match &mut data {
            Data::F32(v) => body(self, v),
            Data::U32(_) => panic!("{id:?} holds words"),
        }
        *self.slot(id) = data;
    }

    /// Lends a buffer of words to `body` while the others stay readable.
    pub(super) fn write_words(&mut self, id: BufferId, body: impl FnOnce(&Self, &mut Vec<u32>)) {
        let mut words = std::mem::take(self.u32_mut(id));
        body(self, &mut words);
        *self.u32_mut(id) = words;
    }

    pub(super) fn tokens(&self, control: BufferId) -> usize {
        self.u32(control)[control::TOKENS] as usize
    }

    pub(super) fn first(&self, control: BufferId) -> usize {
        let c = self.u32(control);
        (c[control::CONSUMED] - c[control::TOKENS]) as usize
    }
}
