//! Tensors that are not in a GGUF file as they are elsewhere: how each is made from what is there, when it is asked for.

use std::ops::Range;

use super::super::Dtype;
use super::blocks::{Block, Plain};
use super::header::Entry;

/// Blocks of a file, or some of them.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) block: Block,
    pub(super) range: Range<u64>,
}

impl Stored {
    pub(super) fn all(entry: &Entry<'_>) -> Self {
        Self { block: entry.block, range: entry.range.clone() }
    }

    /// One of so many equal parts; the outermost dimension is theirs, so each is whole blocks.
    pub(super) fn part(entry: &Entry<'_>, part: usize, of: usize) -> Self {
        let size = (entry.range.end - entry.range.start) / of.max(1) as u64;
        let start = entry.range.start + part as u64 * size;
        Self { block: entry.block, range: start..start + size }
    }

    fn read(&self, file: &[u8]) -> Plain {
        Plain::of(self.block, &file[self.range.start as usize..self.range.end as usize])
    }
}

/// How a tensor is made.
#[derive(Clone, Debug)]
pub(super) enum Made {
    /// Numbers in another type.
    Blocks(Stored),
    /// Rows of queries or keys, of heads of so many rows of so many columns, whose first channels are pairs in the file and halves here.
    Heads { stored: Stored, rows: usize, cols: usize, head: usize, channels: usize },
    /// A gate upon its projection up, for each of so many experts.
    Pair { parts: [Stored; 2], count: usize },
    /// `A = −exp(A_log)`.
    Decay(Stored),
}

impl Made {
    /// The type of its numbers.
    pub(super) fn dtype(&self) -> Dtype {
        match self {
            Self::Blocks(stored) | Self::Heads { stored, .. } => stored.block.dtype(),
            Self::Pair { parts: [a, b], .. } if a.block.dtype() == b.block.dtype() => a.block.dtype(),
            Self::Pair { .. } | Self::Decay(_) => Dtype::F32,
        }
    }

    /// Its bytes: elements, and the scales of integers behind them.
    pub(super) fn bytes(&self, file: &[u8]) -> Vec<u8> {
        let Plain { mut bytes, scales, .. } = match self {
            Self::Blocks(stored) => stored.read(file),
            Self::Heads { stored, rows, cols, head, channels } => {
                let from = |row: usize| row / head * head + source(row % head, *channels);
                stored.read(file).rows(*rows, *cols, from)
            }
            Self::Pair { parts, count } => {
                let [a, b] = parts.each_ref().map(|part| part.read(file));
                let [a, b] = if a.dtype == b.dtype { [a, b] } else { [a, b].map(Plain::widened) };
                a.stacked(&b, *count)
            }
            Self::Decay(stored) => {
                let numbers = stored.read(file).widened().bytes;
                let logs = numbers.as_chunks::<4>().0.iter().map(|x| (-f32::from_le_bytes(*x)).ln());
                Plain { dtype: Dtype::F32, bytes: logs.flat_map(f32::to_le_bytes).collect(), scales: Vec::new() }
            }
        };
        bytes.extend_from_slice(&scales);
        bytes
    }

    /// What the file stores for it: the type of the first part, and the bytes of all.
    pub(super) fn origin(&self) -> (&'static str, u64) {
        let bytes = |stored: &Stored| stored.range.end - stored.range.start;
        match self {
            Self::Blocks(stored) | Self::Heads { stored, .. } | Self::Decay(stored) => {
                (stored.block.name(), bytes(stored))
            }
            Self::Pair { parts: [a, b], .. } => (a.block.name(), bytes(a) + bytes(b)),
        }
    }
}

/// Where channel `at` of a head is in a file that has the two halves of those that rotate in turn.
fn source(at: usize, channels: usize) -> usize {
    let half = channels / 2;
    match at {
        _ if at < half => 2 * at,
        _ if at < 2 * half => 2 * (at - half) + 1,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_halves() {
        let of = |n: usize, channels| (0..n).map(|at| source(at, channels)).collect::<Vec<_>>();
        assert_eq!(of(6, 6), [0, 2, 4, 1, 3, 5]);
        assert_eq!(of(6, 4), [0, 2, 1, 3, 4, 5]);
        assert_eq!(of(3, 0), [0, 1, 2]);
    }
}
