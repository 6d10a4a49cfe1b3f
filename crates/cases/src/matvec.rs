//! Cases of `matvec`.

use taipan_kernels::{Epilogue, Matvec, Norm, WeightFormat};

use crate::Case;
use crate::builder::Builder;

/// What varies between cases.
struct Switches {
    groups: u32,
    bias: bool,
    epilogue: Epilogue,
    /// `Some(k)`: look at a selection of every k-th token.
    every: Option<usize>,
}

const PLAIN: Switches = Switches { groups: 0, bias: false, epilogue: Epilogue::Store, every: None };

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for format in WeightFormat::ALL {
        // The widest go round the loop of a lane more than once, and not all lanes do.
        for (rows, cols) in [(1, 1), (5, 7), (64, 64), (63, 65), (257, 129), (16, 600), (3, 4200)] {
            let b = Builder::new("matvec", format!("{rows} x {cols}"), seed, 1, 3).format(format);
            out.push(case(b, rows, cols, &PLAIN));
        }
        let fused = [
            ("norm, bias", Switches { groups: 1, bias: true, ..PLAIN }),
            ("2 norm groups, add", Switches { groups: 2, epilogue: Epilogue::Add(0.75), ..PLAIN }),
            ("16 norm groups", Switches { groups: 16, ..PLAIN }),
            ("norm, swiglu", Switches { groups: 1, epilogue: Epilogue::Swiglu(1.0), ..PLAIN }),
            ("bias, scaled swiglu", Switches { bias: true, epilogue: Epilogue::Swiglu(0.6), ..PLAIN }),
            ("bias, relu2", Switches { bias: true, epilogue: Epilogue::Relu2, ..PLAIN }),
            ("bias, add", Switches { bias: true, epilogue: Epilogue::Add(1.0), ..PLAIN }),
            ("mix, selected", Switches { epilogue: Epilogue::Mix, every: Some(1), ..PLAIN }),
            ("mix, not selected", Switches { epilogue: Epilogue::Mix, every: Some(2), ..PLAIN }),
        ];
        for (name, switches) in &fused {
            let b = Builder::new("matvec", format!("70 x 128 {name}"), seed, 1, 3).format(format);
            out.push(case(b, 70, 128, switches));
        }
    }
    // Groups that are no whole eights.
    for (cols, groups) in [(60, 3), (20, 5), (130, 2), (12, 12)] {
        let b = Builder::new("matvec", format!("9 x {cols}, {groups} norm groups"), seed, 1, 0);
        out.push(case(b, 9, cols, &Switches { groups, ..PLAIN }));
    }
    // The last row of several is taken; a norm over a width that is not a multiple of four; pieces; many rows.
    let b = Builder::new("matvec", "last of 5 tokens, 9 x 30 norm", seed, 5, 0);
    out.push(case(b, 9, 30, &Switches { groups: 1, ..PLAIN }));
    let b = Builder::new("matvec", "90 x 40 bias, swiglu", seed, 1, 0).split(32);
    out.push(case(b, 90, 40, &Switches { bias: true, epilogue: Epilogue::Swiglu(1.3), ..PLAIN }));
    // From 512 rows on a slot has eight; wider rows bring more than four lanes into its sum.
    for (rows, cols) in [(511, 72), (512, 72), (517, 72), (1_035, 72), (521, 256)] {
        let b = Builder::new("matvec", format!("{rows} x {cols} norm, bias"), seed, 1, 0).format(WeightFormat::F16);
        out.push(case(b, rows, cols, &Switches { groups: 1, bias: true, ..PLAIN }));
    }
    // A piece's scales begin after its own integers; an odd number of groups ends inside a word.
    for format in [WeightFormat::Q8, WeightFormat::Q4] {
        let b = Builder::new("matvec", "533 x 68 norm", seed, 1, 0).format(format).split(526);
        out.push(case(b, 533, 68, &Switches { groups: 1, ..PLAIN }));
    }
    let b = Builder::new("matvec", "1030 x 16 swiglu", seed, 1, 0);
    out.push(case(b, 1_030, 16, &Switches { epilogue: Epilogue::Swiglu(1.0), ..PLAIN }));
    let b = Builder::new("matvec", "20001 x 8", seed, 1, 0).split(7_000);
    out.push(case(b, 20_001, 8, &Switches { bias: true, ..PLAIN }));
    out
}

fn case(mut b: Builder, rows: usize, cols: usize, s: &Switches) -> Case {
    let tokens = b.tokens();
    let weight = b.matrix(rows, cols);
    let bias = s.bias.then(|| b.random_vector(rows, -1.0, 1.0));
    let norm = (s.groups > 0).then(|| b.random_vector(cols, 0.5, 1.5));
    let norm = norm.map(|weight| Norm { weight, eps: 0.1, groups: s.groups });
    let x = b.rows("x", tokens, cols, -2.0, 2.0);
    let y_cols = if matches!(s.epilogue, Epilogue::Swiglu(_)) { rows / 2 } else { rows };
    let y = b.rows("y", 1, y_cols, -2.0, 2.0);
    b.check(y.buffer);
    let selection = s.every.map(|every| b.selection(every).selection);
    let (control, only_selected) = (b.control(), s.every.is_some());
    b.call(Matvec { weight, bias, norm, x, y, epilogue: s.epilogue, control, selection, only_selected })
}
