//! What is in a checkpoint: config, tensors and what they would take, from the headers alone; then the numbers of a few
//! tensors, read straight from the mapped file.

use taipan::{Config, Device, Dtype, Footprint, LayerType, Tensor, Weights};
use taipan_examples::{Result, model_dir};

fn main() -> Result<()> {
    let dir = model_dir();
    let config = Config::from_json(&std::fs::read(dir.join("config.json"))?)?;
    let headers = Weights::open_headers(&dir)?;
    // Exactly the tensors that the config calls for, in the right shapes and types; anything else is an error by name.
    headers.check(&config)?;

    println!("{} layers, width {}, vocabulary {}", config.layer_types.len(), config.hidden_size, config.vocab_size);
    for kind in [LayerType::Mamba2, LayerType::SelectiveAttention] {
        println!("  {:>3} {}", config.count(kind), kind.name());
    }
    let footprint = Footprint::of(&config, &Device::cpu(), Dtype::F32);
    println!("{} parameters; a session's state is {} bytes on the CPU", footprint.parameters, footprint.state_bytes);

    for (name, bytes) in &headers.files {
        println!("\n{name}: {bytes} bytes");
    }
    // Every layer of a kind has the same tensors, so one line stands for all of them.
    println!("{:<60} {:>5} {:>12}", "tensor", "type", "shape");
    for tensor in headers.tensors.iter().filter(|t| is_first_of_its_kind(&config, &t.name)) {
        println!("{:<60} {:>5} {:>12}", tensor.name, tensor.element.name(), format!("{:?}", tensor.shape));
    }
    let elements: usize = headers.tensors.iter().map(|t| t.elements()).sum();
    println!("{elements} numbers in {} tensors", headers.tensors.len());
    assert!(elements as u64 >= footprint.parameters, "every parameter is stored; tables may be stored along");

    // The files are mapped: only the tensors looked at are read.
    let weights = Weights::open(&dir)?;
    println!("\n{:<60} {:>9} {:>9} {:>9}", "numbers of", "smallest", "largest", "rms");
    let named = |suffix: &str| headers.tensors.iter().find(|t| t.name.ends_with(suffix));
    for info in ["embedding.weight", "A_log", "dt_bias"].into_iter().filter_map(named) {
        let tensor = weights.get(&info.name)?;
        tensor.check_finite()?;
        let [smallest, largest, rms] = summary(&tensor);
        println!("{:<60} {smallest:>9.4} {largest:>9.4} {rms:>9.4}", info.name);
        assert!(smallest <= largest && rms > 0.0, "{}: weights that are all zero do nothing", info.name);
    }
    Ok(())
}

/// Whether a tensor is outside the layers, or in the first layer of its type.
fn is_first_of_its_kind(config: &Config, name: &str) -> bool {
    let Some(layer) = name.split('.').find_map(|part| part.parse::<usize>().ok()) else { return true };
    config.layer_types.iter().position(|kind| *kind == config.layer_types[layer]) == Some(layer)
}

/// Smallest, largest and root mean square of a tensor's numbers.
fn summary(tensor: &Tensor<'_>) -> [f64; 3] {
    let numbers = tensor.to_vec_f32();
    let fold = |start: f32, f: fn(f32, f32) -> f32| f64::from(numbers.iter().copied().fold(start, f));
    let squares: f64 = numbers.iter().map(|x| f64::from(*x).powi(2)).sum();
    [fold(f32::INFINITY, f32::min), fold(f32::NEG_INFINITY, f32::max), (squares / numbers.len() as f64).sqrt()]
}
