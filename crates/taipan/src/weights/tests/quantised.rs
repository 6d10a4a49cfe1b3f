//! Integers and scales in a file.

use super::super::WeightsProblem as P;
use super::super::quantised::metadata;
use super::super::write::header_with;
use super::*;
use crate::quant::{Quant, QuantRows};

type Parts<'a> = [(&'a str, ElementType, &'a [usize], Vec<u8>)];

fn bytes(metadata: &[(&str, &str)], parts: &Parts<'_>) -> Vec<u8> {
    let layout: Vec<_> = parts.iter().map(|(n, e, s, _)| (*n, *e, *s)).collect();
    let mut file = header_with(&layout, metadata);
    parts.iter().for_each(|(.., data)| file.extend(data));
    file
}

fn scales(rows: &QuantRows) -> Vec<u8> {
    rows.scales().iter().flat_map(|s| s.to_le_bytes()).collect()
}

fn element(quant: Quant) -> (ElementType, usize) {
    match quant {
        Quant::Q8 => (ElementType::I8, 32),
        Quant::Q4 => (ElementType::U8, 16),
    }
}

#[test]
fn a_quantised_matrix_is_one_tensor() {
    for (quant, dtype) in [(Quant::Q8, Dtype::Q8), (Quant::Q4, Dtype::Q4)] {
        let dense: Vec<f32> = (0..3 * 40).map(|i| ((i * 37) % 19) as f32 - 9.0).collect();
        let rows = QuantRows::of(quant, &dense, 40);
        let (element, group) = element(quant);
        let parts = [
            ("w.scales", ElementType::F16, &[3, 2][..], scales(&rows)),
            ("w", element, &[3, 2, group][..], rows.integers().to_vec()),
        ];
        let weights = load(bytes(&metadata(quant), &parts)).unwrap();
        assert_eq!(weights.headers().tensors.len(), 1);
        let w = weights.get("w").unwrap();
        assert_eq!((w.dtype, w.info.elements(), w.info.stored_as()), (dtype, 3 * 64, dtype.name()));
        assert_eq!(w.info.stored_bytes() as usize, 3 * quant.format().row_bytes(40));
        assert!(w.info.holds(&[3, 40]) && w.info.holds(&[3, 64]) && !w.info.holds(&[3, 65]) && !w.info.holds(&[40]));
        let mut expected = vec![0.0; 40];
        for row in 0..3 {
            rows.row(row, &mut expected);
            // Any part of a row, across groups too.
            for (from, len) in [(0, 40), (1, 31), (31, 2), (39, 1), (5, 0)] {
                let mut found = vec![f32::NAN; len];
                w.read_f32(row * 64 + from, &mut found);
                assert_eq!(found, expected[from..from + len], "{quant:?} {row} {from}");
            }
        }
        w.check_finite().unwrap();
        // Without the metadata they are just tensors, of a type that no weight has.
        let plain = load(bytes(&[("format", "pt")], &parts)).unwrap();
        assert_eq!(plain.headers().tensors.len(), 2);
        assert!(matches!(plain.get("w"), Err(Error::TensorDtype { .. })));
    }
}

#[test]
fn formats_of_tomorrow_are_refused() {
    let unknown =
        |format: &str, version: &str| P::UnknownQuantisation { format: format.into(), version: version.into() };
    let found = |metadata: &[(&str, &str)]| problem(bytes(metadata, &[]));
    let (format, version) = ("taipan.quantization", "taipan.quantization.version");
    assert_eq!(found(&[(format, "q2"), (version, "1")]), unknown("q2", "1"));
    assert_eq!(found(&[(format, "q4"), (version, "2")]), unknown("q4", "2"));
    assert_eq!(found(&[(format, "q4")]), unknown("q4", "none"));
    assert!(unknown("q2", "1").to_string().contains("known are q8 and q4, version 1"));
    load(bytes(&[(format, "q4"), (version, "1")], &[])).unwrap();
}

#[test]
fn integers_need_scales_that_fit() {
    let refused = |parts: &Parts<'_>| problem(bytes(&metadata(Quant::Q4), parts)).to_string();
    let integers = || ("w", ElementType::U8, &[2, 3, 16][..], vec![0; 96]);
    let with = |shape: &'static [usize]| {
        let count: usize = shape.iter().product();
        [("w.scales", ElementType::F16, shape, vec![0; 2 * count]), integers()]
    };
    load(bytes(&metadata(Quant::Q4), &with(&[2, 3]))).unwrap();
    assert_eq!(refused(&[integers()]), "tensor `w` [2, 3, 16] with no scales is no q4 matrix");
    assert_eq!(refused(&with(&[2, 2])), "tensor `w` [2, 3, 16] with scales [2, 2] is no q4 matrix");
    assert_eq!(refused(&with(&[6])), "tensor `w` [2, 3, 16] with scales [6] is no q4 matrix");
    for shape in [&[2, 3, 15][..], &[2, 48], &[2, 3, 2, 8]] {
        let count: usize = shape.iter().product();
        let integers = ("w", ElementType::U8, shape, vec![0; count]);
        let text = refused(&[("w.scales", ElementType::F16, &[2, 3], vec![0; 12]), integers]);
        assert!(text.contains("is no q4 matrix"), "{text}");
    }
    // The integers of the other format are not a weight; scales of nothing are a tensor like any other.
    let parts = [("b.scales", ElementType::F16, &[1][..], vec![0; 2]), ("a", ElementType::I8, &[1], vec![0])];
    let weights = load(bytes(&metadata(Quant::Q4), &parts)).unwrap();
    assert!(matches!(weights.get("a"), Err(Error::TensorDtype { .. })));
    assert_eq!(weights.get("b.scales").unwrap().dtype, Dtype::F16);
}

#[test]
fn a_scale_that_is_no_number_is_found() {
    for bad in [half::f16::NAN, half::f16::INFINITY] {
        let scales: Vec<u8> = [1.0, bad.to_f32()].iter().flat_map(|s| half::f16::from_f32(*s).to_le_bytes()).collect();
        let parts =
            [("w.scales", ElementType::F16, &[1, 2][..], scales), ("w", ElementType::I8, &[1, 2, 32][..], vec![1; 64])];
        let weights = load(bytes(&metadata(Quant::Q8), &parts)).unwrap();
        match weights.get("w").unwrap().check_finite() {
            Err(Error::NotFinite { index: 32, value, .. }) => assert!(!value.is_finite()),
            other => panic!("{other:?}"),
        }
    }
}
