//! `validate`: a case that must pass, and what must make it fail.
//!
//! The numbers of the case are the program's own, so that these tests are about the comparison; the golden files of the
//! numpy script are for the numbers.

use std::path::Path;

use serde_json::json;
use taipan::weights::serialize;
use taipan::{ElementType, Weights};

use crate::common::{Folder, TINY_VOCAB, on_cpu, taipan, write_tiny};

const LEN: usize = 13;

/// The parts of a case, to be spoilt before they are written.
struct Parts {
    ids: Vec<i64>,
    logits: Vec<f32>,
    alpha: Vec<f32>,
    mask: Vec<u8>,
    greedy: Vec<u32>,
}

impl Parts {
    /// What the program itself computes for the checkpoint in `dir`.
    fn compute(dir: &Path, folder: &Folder) -> Parts {
        let ids: Vec<i64> = (0..LEN as i64).map(|i| i * 11 % TINY_VOCAB as i64).collect();
        let (logits, alpha, mask) = run_logits(dir, folder, &ids);
        let mut parts = Parts { ids: ids.clone(), logits, alpha, mask, greedy: Vec::new() };
        let mut text = ids;
        for _ in 0..16 {
            let logits = run_logits(dir, folder, &text).0;
            let last = &logits[logits.len() - TINY_VOCAB..];
            let best = (0..TINY_VOCAB).max_by(|a, b| last[*a].total_cmp(&last[*b])).expect("there are logits");
            text.push(best as i64);
            parts.greedy.push(best as u32);
        }
        parts
    }

    fn write(&self, dir: &Path) {
        let meta = json!({
            "options": { "attention_bound": null },
            "prompts": { LEN.to_string(): { "length": LEN, "greedy": self.greedy, "selected": 0 } }
        });
        let name = |part: &str| format!("{LEN}.{part}");
        let (ids, logits, alpha, mask) = (name("ids"), name("logits"), name("alpha"), name("mask"));
        let bytes = |floats: &[f32]| floats.iter().flat_map(|f| f.to_le_bytes()).collect::<Vec<_>>();
        let id_bytes: Vec<u8> = self.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let (logit_bytes, alpha_bytes) = (bytes(&self.logits), bytes(&self.alpha));
        let rows = self.logits.len() / TINY_VOCAB;
        let numbers = serialize(&[
            (&ids, ElementType::I64, &[self.ids.len()], &id_bytes),
            (&logits, ElementType::F32, &[rows, TINY_VOCAB], &logit_bytes),
            (&alpha, ElementType::F32, &[1, self.alpha.len()], &alpha_bytes),
            (&mask, ElementType::U8, &[1, self.mask.len()], &self.mask),
        ]);
        std::fs::write(dir.join("golden.json"), meta.to_string()).expect("the test folder is writable");
        std::fs::write(dir.join("golden.safetensors"), numbers).expect("the test folder is writable");
    }
}

fn run_logits(dir: &Path, folder: &Folder, ids: &[i64]) -> (Vec<f32>, Vec<f32>, Vec<u8>) {
    let out = folder.at("logits.safetensors");
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    on_cpu(&format!("logits -m {} --ids {} -o {out}", dir.display(), ids.join(","))).ok();
    let file = Weights::open_file(out.as_ref()).expect("it is a safetensors file");
    let bytes = |name: &str| file.get_raw(name).expect("it is there").1;
    let floats = |name: &str| bytes(name).as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (floats("logits"), floats("alpha"), bytes("mask").to_vec())
}

/// A folder with one case in it.
struct Made {
    folder: Folder,
    cases: String,
    parts: Parts,
}

fn made() -> Made {
    let folder = Folder::new();
    let cases = folder.at("cases");
    let dir = Path::new(&cases).join("tiny");
    write_tiny(&dir);
    let parts = Parts::compute(&dir, &folder);
    parts.write(&dir);
    Made { folder, cases, parts }
}

impl Made {
    fn dir(&self) -> String {
        format!("{}/tiny", self.cases)
    }

    /// Writes the case anew and validates it.
    fn validate(&self) -> crate::common::Run {
        self.parts.write(self.dir().as_ref());
        on_cpu(&format!("validate --json {}", self.cases))
    }
}

#[test]
fn right_results_pass_on_the_cpu_and_on_a_gpu() {
    let case = made();
    for device in ["cpu", "gpu"] {
        for dir in [&case.cases, &case.dir()] {
            let run = taipan(["validate", "--json", "--device", device, dir]).ok();
            let json = run.json();
            assert_eq!(json["passed"], true);
            let checks = &json["prompts"][0]["checks"];
            for name in ["logits", "masks", "alpha", "greedy", "splits", "decode"] {
                assert_eq!(checks[name]["passed"], true, "{name}: {json}");
            }
        }
        let table = taipan(["validate", "--device", device, &case.cases]).ok().stdout;
        assert!(table.contains("1 prompts: all match"), "{table}");
    }
}

#[test]
fn rounded_weights_are_compared_with_the_cpu() {
    let case = made();
    for dtype in ["f16", "bf16"] {
        let run = taipan(["validate", "--device", "gpu", "--dtype", dtype, &case.cases]).ok();
        assert!(run.stdout.contains("against the CPU device on the same rounded weights"), "{}", run.stdout);
        taipan(["validate", "--device", "cpu", "--dtype", dtype, &case.cases]).fails(2, &["compared with itself"]);
    }
}

/// Spoils the parts of a case and demands that one check, by name, finds out.
fn must_fail(check: &str, spoil: impl FnOnce(&mut Parts)) {
    let mut case = made();
    spoil(&mut case.parts);
    let run = case.validate().expect(4);
    let json = run.json();
    assert_eq!(json["passed"], false);
    assert_eq!(json["prompts"][0]["checks"][check]["passed"], false, "{check}: {json}");
    let table = on_cpu(&format!("validate {}", case.cases)).expect(4);
    assert!(table.stdout.contains("MISMATCH"), "{table:?}");
    assert_eq!(table.stderr, "");
}

#[test]
fn a_wrong_logit_is_found() {
    must_fail("logits", |parts| parts.logits[LEN * TINY_VOCAB / 2] += 0.01);
}

#[test]
fn a_logit_that_is_no_number_is_found() {
    must_fail("logits", |parts| parts.logits[3] = f32::NAN);
    must_fail("logits", |parts| parts.logits[3] = f32::INFINITY);
}

#[test]
fn a_wrong_selection_is_found() {
    must_fail("masks", |parts| parts.mask[LEN - 1] ^= 1);
}

#[test]
fn a_wrong_mixing_weight_is_found() {
    must_fail("alpha", |parts| parts.alpha[0] += 0.01);
    must_fail("alpha", |parts| parts.alpha[0] = f32::NAN);
}

#[test]
fn a_wrong_greedy_token_is_found() {
    must_fail("greedy", |parts| *parts.greedy.last_mut().expect("there are 16") ^= 1);
}

#[test]
fn cases_that_say_nothing_are_errors() {
    let empty = Folder::new();
    let path = empty.path().display().to_string();
    on_cpu(&format!("validate {path}")).fails(1, &["there is no case here", "hint: "]);
    on_cpu(&format!("validate {path}/nothing")).fails(1, &["cannot read", "hint: "]);

    let case = made();
    let meta = json!({ "options": { "attention_bound": null }, "prompts": {} });
    std::fs::write(Path::new(&case.dir()).join("golden.json"), meta.to_string()).expect("the test folder is writable");
    on_cpu(&format!("validate {}", case.cases)).fails(1, &["it has no prompt", "hint: "]);
}

#[test]
fn cases_that_do_not_fit_the_model_are_errors() {
    for spoil in [
        (|parts: &mut Parts| drop(parts.logits.drain(..TINY_VOCAB))) as fn(&mut Parts),
        |parts| parts.mask.truncate(LEN - 1),
        |parts| parts.alpha.push(0.5),
        |parts| parts.ids.truncate(LEN - 1),
        |parts| parts.ids[0] = -1,
        |parts| parts.greedy.clear(),
    ] {
        let mut case = made();
        spoil(&mut case.parts);
        case.validate().fails(1, &["hint: "]);
    }
}

#[test]
fn a_missing_tensor_is_an_error() {
    let case = made();
    let file = Path::new(&case.dir()).join("golden.safetensors");
    let bytes = (LEN as i64).to_le_bytes();
    std::fs::write(&file, serialize(&[("other", ElementType::I64, &[1], &bytes)]))
        .expect("the test folder is writable");
    on_cpu(&format!("validate {}", case.cases)).fails(1, &[&format!("`{LEN}.ids` is missing"), "golden.safetensors"]);
    assert!(case.folder.path().exists());
}

#[test]
fn every_kernel_is_validated_on_an_adapter() {
    let run = taipan(["validate", "--kernels", "--json", "--device", "gpu"]);
    let json = run.json();
    let kernels = json["kernels"].as_array().expect("a list");
    let wrong: Vec<_> = kernels.iter().filter(|k| k["ok"] != true).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let names: std::collections::BTreeSet<_> = kernels.iter().map(|k| k["kernel"].as_str().expect("text")).collect();
    assert!(names.len() >= 15, "{names:?}");
    assert_eq!((run.code, &json["passed"]), (Some(0), &true.into()));
    taipan(["validate", "--kernels", "--device", "cpu"]).fails(2, &["compared with itself", "hint: "]);
}
