//! Reading and checking the stored numbers.

use half::{bf16, f16};

use super::*;

/// Bytes of a float.
fn size(dtype: Dtype) -> usize {
    dtype.format().row_bytes(8) / 8
}

/// A file with one tensor `w`, placed so that it is not aligned in memory.
fn one(dtype: Dtype, bytes: &[u8]) -> Weights {
    let elements = bytes.len() / size(dtype);
    let header =
        format!(r#"{{"w":{{"dtype":"{}","shape":[{elements}],"data_offsets":[0,{}]}}}}"#, dtype.name(), bytes.len());
    let odd = if header.len().is_multiple_of(2) { " " } else { "" };
    let mut all = file(header + odd, 0);
    all.extend_from_slice(bytes);
    load(all).unwrap()
}

#[test]
fn every_bit_pattern_converts_exactly() {
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let halves = one(Dtype::F16, &bytes).get("w").unwrap().to_vec_f32();
    let brains = one(Dtype::BF16, &bytes).get("w").unwrap().to_vec_f32();
    for (i, &b) in bits.iter().enumerate() {
        assert!(same(halves[i], f16::from_bits(b).to_f32()), "f16 {b:04x}");
        assert!(same(brains[i], bf16::from_bits(b).to_f32()), "bf16 {b:04x}");
    }
}

#[test]
fn any_part_can_be_read() {
    let values: Vec<f32> = (0..5000).map(|i| i as f32 - 2500.0).collect();
    let halves: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    for w in [one(Dtype::F32, &f32_bytes(&values)), one(Dtype::F16, &halves)] {
        let t = w.get("w").unwrap();
        for (start, len) in [(0, 0), (5000, 0), (0, 5000), (1, 4999), (2047, 2), (4999, 1), (100, 2049)] {
            let mut out = vec![f32::NAN; len];
            t.read_f32(start, &mut out);
            // Integers below 2048 are exact in f16; beyond, they are even and so are ours or rounded to such.
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1.0;
            assert!(out.iter().zip(&values[start..start + len]).all(near), "{start} {len}");
        }
    }
}

#[test]
#[should_panic(expected = "out of range")]
fn reading_past_the_end_is_a_bug_of_the_caller() {
    one(Dtype::F32, &[0; 8]).get("w").unwrap().read_f32(1, &mut [0.0; 2]);
}

#[test]
fn the_first_bad_number_is_found_anywhere() {
    let len = 2048 * 3 + 5;
    let plain = |dtype: Dtype| match dtype {
        Dtype::F32 => f32_bytes(&vec![f32::MAX; len]),
        Dtype::F16 => f16::MIN.to_le_bytes().repeat(len),
        _ => bf16::MAX.to_le_bytes().repeat(len),
    };
    let bad = |dtype: Dtype, value: f32| match dtype {
        Dtype::F32 => value.to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
        _ => bf16::from_f32(value).to_le_bytes().to_vec(),
    };
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        one(dtype, &plain(dtype)).get("w").unwrap().check_finite().unwrap();
        for at in [0, 1, 2047, 2048, 4096, len - 1] {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut bytes = plain(dtype);
                // The last one is bad as well; the first must be named.
                for i in [at, len - 1] {
                    bytes[i * size(dtype)..][..size(dtype)].copy_from_slice(&bad(dtype, wrong));
                }
                match one(dtype, &bytes).get("w").unwrap().check_finite() {
                    Err(Error::NotFinite { name, index, value, .. }) => {
                        assert_eq!((name.as_str(), index), ("w", at));
                        assert!(value == wrong || (value.is_nan() && wrong.is_nan()), "{value}");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    let error = one(Dtype::F32, &f32_bytes(&[0.0, f32::NAN])).get("w").unwrap().check_finite();
    assert_eq!(
        error.unwrap_err().to_string(),
        "model.safetensors: tensor `w` holds NaN at element 1; every weight must be finite"
    );
}

#[test]
fn the_writer_aligns_and_checks() {
    let values = f32_bytes(&[1.0, 2.0]);
    let tensors: &[TensorData<'_>] =
        &[("mask", ElementType::U8, &[3], &[1, 0, 1]), ("alpha", ElementType::F32, &[1, 2], &values)];
    let bytes = serialize(tensors);
    let w = load(bytes.clone()).unwrap();
    assert_eq!(w.get("alpha").unwrap().to_vec_f32(), [1.0, 2.0]);
    assert_eq!(w.get_raw("mask").unwrap().1, [1, 0, 1]);
    // The same by parts.
    let mut parts = header(&[("alpha", ElementType::F32, &[1, 2]), ("mask", ElementType::U8, &[3])]);
    assert!(parts.len().is_multiple_of(8));
    parts.extend([&values[..], &[1, 0, 1]].concat());
    assert_eq!(parts, bytes);
}

#[test]
#[should_panic(expected = "must come before smaller elements")]
fn the_writer_refuses_a_misaligned_order() {
    header(&[("mask", ElementType::U8, &[3]), ("alpha", ElementType::F32, &[1, 2])]);
}

#[test]
#[should_panic(expected = "given twice")]
fn the_writer_refuses_a_repeated_name() {
    header(&[("a", ElementType::U8, &[3]), ("a", ElementType::U8, &[3])]);
}
