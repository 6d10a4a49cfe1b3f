//! The same prompt on the CPU reference and on a GPU: logits of every position must agree within the tolerance that this
//! project promises. Ends with an error if they do not, or if there is no GPU to compare with; a software one will do.

use taipan::{Device, GateTrace, GpuRequest, LoadOptions, Model, SessionOptions, WeightDtype};
use taipan_examples::{Result, model_dir};

const PROMPT: &str =
    "The little dog was sad because he could not find his ball. A bird sat in the tree and sang to him.";

/// Largest |a − b| / (1 + |b|) over all logits; what the sums in another order and the GPU's own functions may cost.
const TOLERANCE: f32 = 2e-3;

/// Distance of α from 0.5 below which a gate's decision may differ; the scores are then within 1e-3 of each other.
const NEAR_TIE: f32 = 2.5e-4;

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    // `GpuRequest::default()` takes the best adapter of any kind, where `Device::auto` would leave out a software one.
    let gpu = Device::gpu(&GpuRequest::default()).await?;
    let (expected, expected_gates) = logits(&Device::cpu()).await?;
    let (found, found_gates) = logits(&gpu).await?;
    assert_eq!(expected.len(), found.len(), "as many positions, as many tokens");

    let errors = expected.iter().zip(&found).map(|(b, a)| (a - b).abs() / (1.0 + b.abs()));
    // `max` would let a NaN pass.
    let worst = errors.fold(0.0, |worst: f32, error| if error <= worst { worst } else { error });
    println!("{}: {} logits, worst relative error {worst:.1e}", gpu.description(), found.len());

    // A gate is a hard decision: where its two scores are almost equal, two correct devices may decide differently, and
    // everything after that token differs. An α of 0.5 is such a tie.
    if expected_gates.alpha.iter().flatten().any(|alpha| (alpha - 0.5).abs() < NEAR_TIE) {
        println!("a gate is at a near tie for this model and prompt, so nothing more is compared");
        return Ok(());
    }
    assert!(worst <= TOLERANCE, "the GPU and the CPU disagree: {worst:e} is more than {TOLERANCE:e}");
    for (layer, (expected, found)) in expected_gates.mask.iter().zip(&found_gates.mask).enumerate() {
        let selected = expected.iter().filter(|mask| **mask == 1).count();
        println!("attention layer {layer}: {selected} of {} tokens selected", expected.len());
        assert_eq!(expected, found, "attention layer {layer} selects other tokens");
    }
    Ok(())
}

/// Logits `[token, vocab]` of the prompt, and what each selective attention layer decided about its tokens.
async fn logits(device: &Device) -> Result<(Vec<f32>, GateTrace)> {
    // The same weights on both: `auto` keeps them as they are stored.
    let options = LoadOptions { dtype: WeightDtype::Auto, ..LoadOptions::default() };
    let model = Model::open(&model_dir(), device, options).await?;
    let mut session = model.session(SessionOptions::default())?;
    let mut all = Vec::new();
    // Logits of all positions come in tiles, so that memory does not grow with the prompt.
    session
        .prefill_rows(&model.encode(PROMPT)?, |rows| {
            all.extend_from_slice(rows.logits);
            Ok(())
        })
        .await?;
    Ok((all, session.gates().clone()))
}
