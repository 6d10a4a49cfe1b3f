//! Some rows of a matrix at a time: borrowed from weights in memory, or fetched from where they are.

use std::ops::Range;

use super::Source;
use crate::description::MatrixRecipe;
use crate::error::{Error, Result};
use crate::load::WeightDtype;
use crate::weights::{Fetched, WeightSource, Weights};

/// Rows of a matrix that can be read.
pub(super) struct Batch<'a> {
    weights: Held<'a>,
    /// How the rows that are held are made: of a fetched part, from its tensors.
    recipe: MatrixRecipe,
    /// The first row wanted, among those that are held.
    pub(super) first: usize,
    /// Of each tensor, elements that are not held in front of those that are.
    before: Vec<usize>,
}

enum Held<'a> {
    All(&'a Weights),
    Part(Box<Weights>),
}

impl<'a> Batch<'a> {
    /// Brings rows of a matrix to memory, if they are not there.
    pub(super) async fn bring<S: WeightSource>(
        weights: &'a S,
        recipe: &MatrixRecipe,
        rows: Range<usize>,
    ) -> Result<Self> {
        if let Some(all) = weights.in_memory() {
            let before = vec![0; recipe.tensors.len()];
            return Ok(Self { weights: Held::All(all), recipe: recipe.clone(), first: rows.start, before });
        }
        let heights = recipe.tensors.iter().map(|name| Ok(weights.headers().get(name)?.rows(recipe.cols)));
        let heights = heights.collect::<Result<Vec<usize>>>()?;
        let rows = rows.start + recipe.skip..rows.end + recipe.skip;
        let Window { tensors, first } = window(&heights, recipe.interleave, &rows);
        let (mut parts, mut before, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (name, rows) in recipe.tensors.iter().zip(tensors).filter(|(_, rows)| !rows.is_empty()) {
            before.push(rows.start * weights.headers().get(name)?.stride(recipe.cols));
            names.push(name.clone());
            parts.push(Fetched::rows(weights, name, rows, recipe.cols).await?);
        }
        let held = Weights::of_rows(parts)?;
        let count = if recipe.interleave { names.len() } else { 1 };
        let total = (held.headers().tensors.iter().map(|t| t.shape[0]).sum::<usize>()).next_multiple_of(count);
        // Halves of one tensor are there as a whole, so they lie as they did.
        let recipe = MatrixRecipe { tensors: names, rows: total, skip: 0, ..recipe.clone() };
        Ok(Self { weights: Held::Part(Box::new(held)), recipe, first, before })
    }

    /// Opens the rows that are held.
    pub(super) fn open(&self, dtype: WeightDtype) -> Result<Source<'_>> {
        let weights = match &self.weights {
            Held::All(weights) => weights,
            Held::Part(weights) => &**weights,
        };
        Source::open(weights, &self.recipe, dtype)
    }

    /// An error about an element, by its place in the whole tensor.
    pub(super) fn in_whole(&self, mut error: Error) -> Error {
        if let Error::NotFinite { name, index, .. } | Error::Overflow { name, index, .. } = &mut error
            && let Some(i) = self.recipe.tensors.iter().position(|tensor| tensor == name)
        {
            *index += self.before[i];
        }
        error
    }
}

/// Rows of each tensor, and where the rows wanted begin among them.
#[derive(Debug, PartialEq)]
struct Window {
    tensors: Vec<Range<usize>>,
    first: usize,
}

/// What to fetch for rows of a matrix. Where rows are taken in turn it begins with a row of the first tensor.
fn window(heights: &[usize], interleave: bool, rows: &Range<usize>) -> Window {
    if interleave && heights.len() > 1 {
        let n = heights.len();
        let turns = rows.start / n..rows.end.div_ceil(n);
        return Window { tensors: heights.iter().map(|_| turns.clone()).collect(), first: rows.start % n };
    }
    if interleave {
        // Both halves of one tensor.
        return Window { tensors: heights.iter().map(|height| 0..*height).collect(), first: rows.start };
    }
    let mut offset = 0;
    let inside = heights.iter().map(|height| {
        let from = offset;
        offset += height;
        rows.start.saturating_sub(from).min(*height)..rows.end.saturating_sub(from).min(*height)
    });
    Window { tensors: inside.collect(), first: 0 }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{ElementType, FileStart, Headers, RangedWeights};

    #[test]
    fn a_window_holds_the_rows_and_little_else() {
        let get = |heights: &[usize], interleave, rows| window(heights, interleave, &rows);
        assert_eq!(get(&[3, 1, 3], false, 2..5), Window { tensors: vec![2..3, 0..1, 0..1], first: 0 });
        assert_eq!(get(&[3, 1, 3], false, 5..7), Window { tensors: vec![3..3, 1..1, 1..3], first: 0 });
        assert_eq!(get(&[4, 4], true, 3..6), Window { tensors: vec![1..3, 1..3], first: 1 });
        assert_eq!(get(&[8], true, 3..6), Window { tensors: [8].map(|n| 0..n).to_vec(), first: 3 });
    }

    /// Tensors of two columns, their elements counted through.
    fn tensors() -> Vec<u8> {
        let tensors = [("a", 3, 0.0), ("b", 1, 6.0), ("c", 3, 8.0), ("d", 4, 14.0)];
        let bytes = tensors.map(|(_, rows, first)| {
            let values = (0..2 * rows).map(|i| first + i as f32);
            values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
        });
        let shapes = tensors.map(|(_, rows, _)| [rows, 2]);
        let entries: Vec<_> = (0..4).map(|i| (tensors[i].0, ElementType::F32, &shapes[i][..], &bytes[i][..])).collect();
        crate::weights::serialize(&entries)
    }

    fn ranged(file: &[u8], short: usize) -> impl WeightSource {
        let start = FileStart { name: "a.safetensors", bytes: file, len: file.len() as u64 };
        let file = file.to_vec();
        let answer = move |_: &str, r: Range<u64>| {
            std::future::ready(Ok(file[r.start as usize..r.end as usize - short].to_vec()))
        };
        RangedWeights::new(Headers::parse(&[start], None).unwrap(), answer)
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("what is at hand is read at once")
    }

    #[test]
    fn rows_come_right_whatever_is_fetched_at_a_time() {
        let file = tensors();
        let whole = Weights::from_bytes(vec![("a.safetensors".to_owned(), file.clone().into())]).unwrap();
        let ranged = ranged(&file, 0);
        let named = |names: &[&str], interleave, rows| {
            let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
            MatrixRecipe { interleave, ..MatrixRecipe::stacked(&names, rows, 2) }
        };
        let stacked = (named(&["a", "b", "c"], false, 7), vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        let in_turn = (named(&["a", "c"], true, 6), vec![0.0, 8.0, 2.0, 10.0, 4.0, 12.0]);
        let halves = (named(&["d"], true, 4), vec![14.0, 18.0, 16.0, 20.0]);
        let lower = MatrixRecipe { lower_first: true, ..halves.0.clone() };
        let lower = (lower, vec![18.0, 14.0, 20.0, 16.0]);
        for (recipe, expected) in [stacked, in_turn, halves, lower] {
            for (start, end) in (0..recipe.rows).flat_map(|s| (s + 1..=recipe.rows).map(move |e| (s, e))) {
                let batches =
                    [now(Batch::bring(&whole, &recipe, start..end)), now(Batch::bring(&ranged, &recipe, start..end))];
                for batch in batches {
                    let batch = batch.unwrap();
                    let source = batch.open(WeightDtype::F32).unwrap();
                    for (i, first) in expected[start..end].iter().enumerate() {
                        let mut out = [0.0; 2];
                        source.row(batch.first + i, &mut out).unwrap();
                        assert_eq!(out, [*first, first + 1.0], "row {i} of {start}..{end}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_error_names_the_place_in_the_tensor_and_a_short_answer_is_one() {
        let file = {
            let bytes: Vec<u8> = [1.0f32, 2.0, 3.0, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
            crate::weights::serialize(&[("w", ElementType::F32, &[2, 2], &bytes)])
        };
        let recipe = MatrixRecipe::stacked(&["w".to_owned()], 2, 2);
        let read = |short: usize, row: usize| {
            let weights = ranged(&file, short);
            let batch = now(Batch::bring(&weights, &recipe, row..row + 1))?;
            let mut out = [0.0; 2];
            let read = batch.open(WeightDtype::Auto)?.row(batch.first, &mut out);
            read.map_err(|e| batch.in_whole(e)).map(|()| out)
        };
        assert_eq!(read(0, 0).unwrap(), [1.0, 2.0]);
        assert!(matches!(read(0, 1), Err(Error::NotFinite { index: 3, .. })));
        assert!(matches!(read(1, 0), Err(Error::Weights { .. })));
    }
}
