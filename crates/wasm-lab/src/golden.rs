//! Golden cases: checkpoints with what `tests/golden/make_taipan_fixtures.py` makes of them in float64, token by token, with
//! nothing of this code.

use std::collections::BTreeMap;

use serde::Deserialize;
use taipan::{AttentionBound, Device, LoadOptions, Model, ModelFiles, SessionOptions, Weights};
use taipan_wasm::{Result, invalid, to_js_error};

use crate::outcome::{ModelReport, Outcome};

/// A case in memory.
pub(crate) struct GoldenCase {
    name: String,
    config: Vec<u8>,
    weights: Vec<u8>,
    bound: Option<AttentionBound>,
    prompts: Vec<(Vec<u32>, Outcome)>,
}

/// `golden.json`.
#[derive(Deserialize)]
struct Case {
    options: Options,
    prompts: BTreeMap<String, Prompt>,
}

#[derive(Deserialize)]
struct Options {
    attention_bound: Option<Bound>,
}

#[derive(Deserialize)]
struct Bound {
    attention_budget: f64,
    burst: f64,
}

#[derive(Deserialize)]
struct Prompt {
    greedy: Vec<u32>,
}

impl GoldenCase {
    /// From its files: `config.json`, `model.safetensors`, `golden.json`, `golden.safetensors`.
    pub(crate) fn read(name: String, config: Vec<u8>, weights: Vec<u8>, json: &str, numbers: Vec<u8>) -> Result<Self> {
        let fail = |error| to_js_error(&error);
        let case: Case = serde_json::from_str(json).map_err(|e| invalid(&format!("golden.json: {e}")))?;
        let bound = case.options.attention_bound;
        let bound = bound.map(|b| AttentionBound::new(b.attention_budget, b.burst)).transpose().map_err(fail)?;
        let numbers = Weights::from_bytes(vec![("model.safetensors".to_owned(), numbers.into())]).map_err(fail)?;
        let prompts = case.prompts.into_iter().map(|(key, prompt)| prompt_of(&numbers, &key, prompt));
        let prompts = prompts.collect::<taipan::Result<Vec<_>>>().map_err(fail)?;
        if prompts.is_empty() {
            return Err(invalid("golden.json has no prompts"));
        }
        Ok(Self { name, config, weights, bound, prompts })
    }

    /// What a device makes of every prompt, against the golden numbers and against the CPU.
    pub(crate) async fn run(&self, device: &Device) -> taipan::Result<Vec<ModelReport>> {
        let (model, on_cpu) = (self.open(device).await?, self.open(&Device::cpu()).await?);
        let mut reports = Vec::new();
        for (ids, golden) in &self.prompts {
            let options = || SessionOptions { attention_bound: self.bound, ..SessionOptions::default() };
            let found = Outcome::of(model.session(options())?, ids, golden.greedy.len()).await?;
            let cpu = Outcome::of(on_cpu.session(options())?, ids, golden.greedy.len()).await?;
            let shape = || format!("{}, {} tokens", self.name, ids.len());
            reports.push(found.against(golden, "golden", shape(), 1));
            reports.push(found.against(&cpu, "golden, CPU", shape(), 1));
        }
        Ok(reports)
    }

    async fn open(&self, device: &Device) -> taipan::Result<Model> {
        let weights = vec![("model.safetensors".to_owned(), self.weights.clone().into())];
        let files = ModelFiles { config: self.config.clone().into(), weights, tokenizer: None };
        Model::from_bytes(files, device, LoadOptions::default()).await
    }
}

/// A prompt and what is known about it; a model without gates has none in its file.
fn prompt_of(numbers: &Weights, key: &str, Prompt { greedy }: Prompt) -> taipan::Result<(Vec<u32>, Outcome)> {
    let raw = |name: &str| numbers.get_raw(&format!("{key}.{name}")).map(|(_, bytes)| bytes);
    let floats = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let ids = raw("ids")?.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect();
    let outcome = Outcome {
        logits: floats(raw("logits")?),
        alpha: raw("alpha").map(floats).unwrap_or_default(),
        mask: raw("mask").map(<[u8]>::to_vec).unwrap_or_default(),
        greedy,
        ..Outcome::default()
    };
    Ok((ids, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn folders() -> Vec<PathBuf> {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/taipan");
        std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn read(folder: &Path) -> GoldenCase {
        let file = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let json = String::from_utf8(file("golden.json")).unwrap();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        GoldenCase::read(name, file("config.json"), file("model.safetensors"), &json, file("golden.safetensors"))
            .unwrap()
    }

    fn run(case: &GoldenCase) -> Vec<ModelReport> {
        pollster::block_on(case.run(&Device::cpu())).unwrap()
    }

    #[test]
    fn the_cpu_computes_the_golden_numbers() {
        assert!(folders().len() >= 9);
        for case in folders().iter().map(|folder| read(folder)) {
            let reports = run(&case);
            assert_eq!(reports.len(), 2 * case.prompts.len());
            for report in &reports {
                assert!(report.ok && report.worst < 1e-4, "{report:?}");
                assert!(report.kernel != "golden" || report.worst > 0.0, "another implementation rounds otherwise");
            }
        }
    }

    #[test]
    fn golden_numbers_that_are_wrong_are_noticed() {
        type Change = fn(&mut Outcome);
        let changes: [(&str, Change); 5] = [
            ("the first logit", |golden| golden.logits[0] += 0.1),
            ("the last logit", |golden| *golden.logits.last_mut().unwrap() += 0.1),
            ("the last token", |golden| *golden.greedy.last_mut().unwrap() ^= 1),
            ("the last decision", |golden| *golden.mask.last_mut().unwrap() ^= 1),
            ("the first gate", |golden| golden.alpha[0] += 0.1),
        ];
        let folder = folders().into_iter().find(|folder| folder.ends_with("bounded")).unwrap();
        for (what, change) in changes {
            let mut case = read(&folder);
            change(&mut case.prompts.last_mut().unwrap().1);
            let wrong: Vec<_> = run(&case).into_iter().filter(|report| !report.ok).collect();
            assert_eq!(wrong.len(), 1, "{what}: {wrong:?}");
            assert!(wrong[0].kernel == "golden" && wrong[0].complaint().unwrap().contains("bounded"), "{what}");
        }
    }
}
