//! Cases of `matmul`.

use taipan_kernels::{Epilogue, Matmul, Over, WeightFormat};

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for format in WeightFormat::ALL {
        for (tokens, rows, cols) in [(1, 1, 1), (7, 13, 5), (64, 64, 64), (63, 65, 33), (65, 63, 31), (130, 200, 320)] {
            let b = Builder::new("matmul", format!("{tokens} x {rows} x {cols}"), seed, tokens, 9).format(format);
            out.push(dense(b, rows, cols, false, Epilogue::Store));
        }
    }
    let tokens = |name: &str, n| Builder::new("matmul", format!("{n} x 70 x 40 {name}"), seed, n, 9);
    out.push(dense(tokens("bias", 20), 70, 40, true, Epilogue::Store));
    out.push(dense(tokens("add", 67), 70, 40, false, Epilogue::Add(1.0)));
    out.push(dense(tokens("swiglu", 67), 70, 40, false, Epilogue::Swiglu(1.0)));
    out.push(dense(tokens("bias, scaled swiglu", 5).split(32), 70, 40, true, Epilogue::Swiglu(0.6)));
    out.push(dense(tokens("bias, relu2", 67), 70, 40, true, Epilogue::Relu2));
    out.push(dense(tokens("bias", 67).split(32), 70, 40, true, Epilogue::Store));
    out.push(dense(tokens("bias, scaled add", 5).split(32), 70, 40, true, Epilogue::Add(0.75)));
    // Of those formats and columns for which there is a shader with cooperative matrices, every switch, over more than one tile.
    for (what, bias, epilogue) in [
        ("bias, add", true, Epilogue::Add(0.75)),
        ("scaled swiglu", false, Epilogue::Swiglu(0.6)),
        ("relu2", false, Epilogue::Relu2),
    ] {
        let b = Builder::new("matmul", format!("67 x 150 x 64 {what}"), seed, 67, 9).format(WeightFormat::F16);
        out.push(dense(b.split(140), 150, 64, bias, epilogue));
    }
    // Whole tiles and whole blocks, whose sums go straight to y, and a part of a tile.
    for (rows, what, epilogue) in [
        (144, "store", Epilogue::Store),
        (144, "scaled add", Epilogue::Add(0.75)),
        (128, "scaled add", Epilogue::Add(0.75)),
    ] {
        let shape = format!("130 x {rows} x 192 {what}");
        let b = Builder::new("matmul", shape, seed, 130, 9).format(WeightFormat::F16);
        out.push(dense(b, rows, 192, false, epilogue));
    }
    for over in [Over::Gather, Over::Scatter] {
        let b = Builder::new("matmul", format!("150 x 70 x 64 {over:?}"), seed, 150, 9).format(WeightFormat::Bf16);
        out.push(selected(b, 64, 2, over));
    }
    for format in [WeightFormat::Q8, WeightFormat::Q4] {
        // Six groups to a row, of which two, or four, are in a word; tokens and rows in parts of a tile.
        let b = Builder::new("matmul", "131 x 140 x 192 scaled add", seed, 131, 9).format(format);
        out.push(dense(b.split(140), 140, 192, false, Epilogue::Add(0.75)));
        for over in [Over::Gather, Over::Scatter] {
            let b = Builder::new("matmul", format!("150 x 70 x 64 {over:?}"), seed, 150, 9).format(format);
            out.push(selected(b, 64, 2, over));
        }
        // Three groups to a row; the last piece is one of a single row.
        let b = Builder::new("matmul", "67 x 69 x 68 bias", seed, 67, 9).format(format).split(34);
        out.push(dense(b, 69, 68, true, Epilogue::Store));
    }
    out.push(tile(tokens("tokens 64 to 80", 100), 64, 16));
    out.push(tile(tokens("tokens 64 to 70", 70), 64, 16));
    for (n, every) in [(1, 1), (100, 7), (70, 1), (5, 9)] {
        for over in [Over::Gather, Over::Scatter] {
            out.push(selected(tokens(&format!("{over:?} every {every}th"), n), 40, every, over));
        }
    }
    out
}

fn dense(mut b: Builder, rows: usize, cols: usize, bias: bool, epilogue: Epilogue) -> Case {
    let tokens = b.tokens();
    let weight = b.matrix(rows, cols);
    let bias = bias.then(|| b.random_vector(rows, -1.0, 1.0));
    let x = b.rows("x", tokens, cols, -2.0, 2.0);
    let y_cols = if matches!(epilogue, Epilogue::Swiglu(_)) { rows / 2 } else { rows };
    let y = b.rows("y", tokens, y_cols, -2.0, 2.0);
    b.check(y.buffer);
    let (control, over) = (b.control(), Over::Tokens { first: 0, most: tokens as u32 });
    b.call(Matmul { weight, bias, x, y, epilogue, over, control, selected: None })
}

/// Some tokens of the segment, to a smaller output.
fn tile(mut b: Builder, first: u32, most: u32) -> Case {
    let weight = b.matrix(70, 40);
    let x = b.rows("x", b.tokens(), 40, -2.0, 2.0);
    let y = b.output("y", most as usize, 70);
    let (control, over) = (b.control(), Over::Tokens { first, most });
    b.call(Matmul { weight, bias: None, x, y, epilogue: Epilogue::Store, over, control, selected: None })
}

fn selected(mut b: Builder, cols: usize, every: usize, over: Over) -> Case {
    let tokens = b.tokens();
    let weight = b.matrix(70, cols);
    let x = b.rows("x", tokens, cols, -2.0, 2.0);
    let y = b.rows("y", tokens, 70, -2.0, 2.0);
    b.check(y.buffer);
    let (control, selected) = (b.control(), Some(b.selection(every)));
    let epilogue = if over == Over::Scatter { Epilogue::Mix } else { Epilogue::Store };
    b.call(Matmul { weight, bias: None, x, y, epilogue, over, control, selected })
}
