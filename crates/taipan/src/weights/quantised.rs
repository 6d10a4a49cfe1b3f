//! Quantised matrices in a safetensors file.
//!
//! The header's `__metadata__` says `"taipan.quantization": "q4"` (or `"q8"`) and `"taipan.quantization.version": "1"`. A
//! quantised matrix NAME is then two tensors: integers, NAME, `I8 [rows, groups, 32]` (q8) or `U8 [rows, groups, 16]` (q4),
//! and scales, NAME`.scales`, `F16 [rows, groups]`. [`crate::quant`] says what they mean. Everything else is as in any file.

use std::collections::HashMap;

use super::{ElementType, TensorInfo, WeightsProblem as Problem};
use crate::quant::Quant;

const FORMAT: &str = "taipan.quantization";
const FORMAT_VERSION: &str = "taipan.quantization.version";
const VERSION: &str = "1";
const SUFFIX: &str = ".scales";

/// The name of the scales of a matrix.
pub(crate) fn scales_of(matrix: &str) -> String {
    format!("{matrix}{SUFFIX}")
}

/// The metadata of a quantised file.
pub(crate) fn metadata(quant: Quant) -> [(&'static str, &'static str); 2] {
    [(FORMAT, quant.name()), (FORMAT_VERSION, VERSION)]
}

/// The type of the integers of a matrix.
pub(crate) fn element(quant: Quant) -> ElementType {
    match quant {
        Quant::Q8 => ElementType::I8,
        Quant::Q4 => ElementType::U8,
    }
}

/// The quantisation that a file's metadata names, if any.
fn named(metadata: &[(String, String)]) -> Result<Option<Quant>, Problem> {
    let value = |key| metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    let Some(format) = value(FORMAT) else { return Ok(None) };
    let version = value(FORMAT_VERSION).unwrap_or("none");
    let known = Quant::ALL.into_iter().find(|quant| quant.name() == format && version == VERSION);
    let unknown = || Problem::UnknownQuantisation { format: format.to_owned(), version: version.to_owned() };
    known.ok_or_else(unknown).map(Some)
}

/// Makes one matrix of integers and their scales, in a file whose metadata says that it has such.
pub(super) fn join(tensors: Vec<TensorInfo>, metadata: &[(String, String)]) -> Result<Vec<TensorInfo>, Problem> {
    let Some(quant) = named(metadata)? else { return Ok(tensors) };
    let is_scales = |t: &TensorInfo| t.name.ends_with(SUFFIX) && t.element == ElementType::F16;
    let (scales, mut rest): (Vec<_>, Vec<_>) = tensors.into_iter().partition(is_scales);
    let mut scales: HashMap<String, TensorInfo> = scales.into_iter().map(|t| (t.name.clone(), t)).collect();
    for matrix in rest.iter_mut().filter(|t| t.element == element(quant)) {
        let [rows, groups, bytes] = matrix.shape[..] else { return Err(misfit(matrix, quant, None)) };
        let found = scales.remove(&scales_of(&matrix.name));
        match found {
            Some(scales) if bytes == quant.group_bytes() && scales.shape == [rows, groups] => {
                matrix.quantised = Some((quant, scales.range));
            }
            found => return Err(misfit(matrix, quant, found)),
        }
    }
    // Scales of nothing are tensors that nobody asked for.
    rest.extend(scales.into_values());
    super::header::by_place(&mut rest);
    Ok(rest)
}

fn misfit(matrix: &TensorInfo, quant: Quant, scales: Option<TensorInfo>) -> Problem {
    Problem::NotQuantised {
        tensor: matrix.name.clone(),
        format: quant.name(),
        shape: matrix.shape.clone(),
        scales: scales.map(|scales| scales.shape),
    }
}
