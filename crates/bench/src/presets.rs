//! The models that can be drawn from a seed, as data.

use serde_json::json;
use taipan::Config;

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The name that `--random` takes.
    pub name: &'static str,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Mamba-2 layers.
    pub mamba2: usize,
    /// Selective attention layers, one after every six Mamba-2 layers.
    pub sal: usize,
    /// Attention heads of 64 channels.
    pub heads: usize,
    /// Inner width of the MLP.
    pub intermediate: usize,
}

const fn mamba2(name: &'static str, d_model: usize, layers: usize, vocab: usize) -> Preset {
    Preset { name, vocab, d_model, mamba2: layers, sal: 0, heads: 0, intermediate: 0 }
}

/// All presets: the paper's three sizes with the Llama-3 vocabulary, the published Mamba-2 models, and two small ones.
pub const PRESETS: [Preset; 9] = [
    Preset { name: "taipan-190m", vocab: 128_256, d_model: 768, mamba2: 18, sal: 3, heads: 12, intermediate: 2048 },
    Preset { name: "taipan-450m", vocab: 128_256, d_model: 1024, mamba2: 36, sal: 6, heads: 16, intermediate: 2752 },
    Preset { name: "taipan-1.3b", vocab: 128_256, d_model: 2048, mamba2: 30, sal: 5, heads: 32, intermediate: 5504 },
    mamba2("mamba2-130m", 768, 24, 50_288),
    mamba2("mamba2-370m", 1024, 48, 50_288),
    mamba2("mamba2-1.3b", 2048, 48, 50_288),
    mamba2("mamba2-2.7b", 2560, 64, 50_288),
    mamba2("mamba2-4.8m", 256, 8, 4096),
    Preset { name: "taipan-4.7m", vocab: 4096, d_model: 256, mamba2: 6, sal: 1, heads: 4, intermediate: 704 },
];

impl Preset {
    /// The preset of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|p| p.name == name)
    }

    /// `config.json`.
    #[must_use]
    pub fn json(&self) -> String {
        let mut layers = vec!["mamba2"; self.mamba2];
        for i in 1..=self.sal {
            layers.insert(7 * i - 1, "selective_attention");
        }
        let mut config = json!({
            "model_type": "taipan", "vocab_size": self.vocab, "hidden_size": self.d_model, "layer_types": layers,
            "mamba2": { "d_state": 128, "d_conv": 4, "expand": 2, "head_dim": 64, "n_groups": 1 },
        });
        if self.sal > 0 {
            config["selective_attention"] = json!({
                "num_heads": self.heads, "head_dim": 64, "window": 2048,
                "intermediate_size": self.intermediate, "attention_budget": 0.15,
            });
        }
        config.to_string()
    }

    /// The config.
    #[must_use]
    pub fn config(&self) -> Config {
        Config::from_json(self.json().as_bytes()).expect("every preset is a valid config")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_specification_and_of_the_published_models() {
        let count = |name: &str| Preset::find(name).expect("a preset").config().parameters();
        assert_eq!(count("taipan-190m"), 187_520_022);
        assert_eq!(count("taipan-450m"), 444_888_460);
        assert_eq!(count("taipan-1.3b"), 1_291_158_666);
        // The published names round these.
        for (name, millions) in [
            ("mamba2-130m", 129),
            ("mamba2-370m", 368),
            ("mamba2-1.3b", 1344),
            ("mamba2-2.7b", 2703),
            ("mamba2-4.8m", 5),
        ] {
            assert_eq!((count(name) as f64 / 1e6).round() as u64, millions, "{name}");
        }
        assert!(Preset::find("mamba").is_none());
    }
}
