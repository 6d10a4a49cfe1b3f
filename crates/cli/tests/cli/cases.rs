//! `validate` on cases in the other form of golden.json: a list of `cases`, all numbers of which are tensors.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use taipan::weights::serialize;
use taipan::{ElementType, Weights};

use crate::common::{Folder, on_cpu, taipan};

/// A case of the family, to be written in that form.
struct Other {
    folder: Folder,
    dir: PathBuf,
    meta: Value,
    tensors: Vec<(String, ElementType, Vec<usize>, Vec<u8>)>,
}

impl Other {
    fn of(name: &str) -> Other {
        let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/family/seed-1")).join(name);
        let folder = Folder::new();
        let dir = folder.path().join("case");
        std::fs::create_dir_all(&dir).expect("the test folder is writable");
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(from.join(file), dir.join(file)).expect("it can be copied");
        }
        let golden: Value =
            serde_json::from_slice(&std::fs::read(from.join("golden.json")).expect("it is there")).expect("JSON");
        let numbers = Weights::open_file(&from.join("golden.safetensors")).expect("it is a safetensors file");
        let raw = |name: &str| numbers.get_raw(name).expect("it is there");
        let (mut cases, mut tensors) = (Vec::new(), Vec::new());
        for (name, prompt) in golden["prompts"].as_object().expect("an object") {
            let ids = raw(&format!("{name}.ids")).1.as_chunks::<8>().0;
            let ids: Vec<u8> = ids.iter().flat_map(|b| (i64::from_le_bytes(*b) as i32).to_le_bytes()).collect();
            let greedy =
                prompt["greedy"].as_array().expect("a list").iter().map(|id| id.as_i64().expect("an id") as i32);
            let greedy: Vec<u8> = greedy.flat_map(i32::to_le_bytes).collect();
            let (info, logits) = raw(&format!("{name}.logits"));
            cases.push(json!({ "name": name, "prompt_len": ids.len() / 4, "prompt_attempts": 1 }));
            tensors.push((format!("{name}.input_ids"), ElementType::I32, vec![ids.len() / 4], ids));
            tensors.push((format!("{name}.logits"), ElementType::F32, info.shape.clone(), logits.to_vec()));
            tensors.push((format!("{name}.greedy_ids"), ElementType::I32, vec![greedy.len() / 4], greedy));
        }
        let meta = json!({ "format": 1, "cases": cases, "decode_matches_prefill": true });
        Other { folder, dir, meta, tensors }
    }

    /// The tensors of this kind.
    fn of_kind(&mut self, kind: &str) -> impl Iterator<Item = &mut Vec<u8>> {
        self.tensors.iter_mut().filter(move |t| t.0.ends_with(kind)).map(|t| &mut t.3)
    }

    /// Adds the numbers as those without a clamp.
    fn add_unclamped(&mut self) {
        let results = self.tensors.clone().into_iter().filter(|t| !t.0.ends_with("input_ids"));
        self.tensors.extend(results.map(|(name, element, shape, bytes)| {
            let (prompt, kind) = name.split_once('.').expect("a prompt and a kind");
            (format!("{prompt}.noclamp_{kind}"), element, shape, bytes)
        }));
    }

    fn validate(&self, device: &str) -> crate::common::Run {
        let tensors: Vec<_> = self.tensors.iter().map(|t| (&t.0[..], t.1, &t.2[..], &t.3[..])).collect();
        std::fs::write(self.dir.join("golden.safetensors"), serialize(&tensors)).expect("it is writable");
        std::fs::write(self.dir.join("golden.json"), self.meta.to_string()).expect("it is writable");
        taipan(["validate", "--json", "--device", device, self.folder.path().to_str().expect("UTF-8")])
    }
}

#[test]
fn cases_with_all_numbers_in_tensors_are_read_too() {
    let mut case = Other::of("mamba2_groups");
    for device in ["cpu", "gpu"] {
        let json = case.validate(device).ok().json();
        let prompts = json["prompts"].as_array().expect("a list");
        assert_eq!((prompts.len(), &json["passed"]), (5, &true.into()));
        assert!(prompts.iter().all(|p| p["checks"]["greedy"]["passed"] == true), "{json}");
    }
    // The folder is a model like any other.
    let out = case.folder.at("out.safetensors");
    on_cpu(&format!("logits -m {} --ids 1,2,3 -o {out}", case.dir.display())).ok();
    for (kind, check) in [("greedy_ids", "greedy"), (".logits", "logits")] {
        case.of_kind(kind).for_each(|bytes| bytes[2] ^= 0x7f);
        let json = case.validate("cpu").expect(4).json();
        assert_eq!(json["prompts"][0]["checks"][check]["passed"], false, "{json}");
    }
    case.of_kind("input_ids").for_each(|bytes| bytes[3] = 0xff);
    case.validate("cpu").fails(1, &["holds a number that is no token id"]);
    case.of_kind("input_ids").for_each(|bytes| bytes[3] = 0);
    case.meta["cases"][0]["prompt_len"] = 9.into();
    case.validate("cpu").fails(1, &["golden.json says 9"]);
}

#[test]
fn where_only_the_prefill_clamps_the_models_own_clamp_decides() {
    // Nothing is clamped by this one: the numbers without a clamp count.
    let mut case = Other::of("mamba2_groups");
    case.add_unclamped();
    case.of_kind(".logits").for_each(|bytes| bytes[3] ^= 1);
    case.meta["decode_matches_prefill"] = false.into();
    let json = case.validate("cpu").ok().json();
    assert_eq!(json["prompts"][0]["checks"]["greedy"]["passed"], true);
    // This one clamps, in both phases: of the others' continuation nothing can be said.
    let mut case = Other::of("mamba2_dtlimit");
    case.add_unclamped();
    case.of_kind("noclamp_logits").for_each(|bytes| bytes[3] ^= 1);
    case.of_kind(".greedy_ids").for_each(|bytes| bytes[0] ^= 1);
    case.meta["decode_matches_prefill"] = false.into();
    let json = case.validate("cpu").ok().json();
    assert_eq!(json["prompts"][0]["checks"]["greedy"], Value::Null);
    assert_eq!(json["prompts"][0]["checks"]["logits"]["passed"], true);
}
