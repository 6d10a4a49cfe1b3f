//! The embedded model against PyTorch's results.

use serde_json::Value;
use taipan::{Device, LoadOptions, Model, SessionOptions};

use crate::common::{model_file, on_cpu, read_model_file, taipan};

/// Where the two largest logits are closer than this, two correct results may differ.
const NEAR_TIE: f32 = 1e-2;

fn golden(name: &str) -> Value {
    serde_json::from_slice(&read_model_file(name)).expect("it is JSON")
}

#[test]
fn perplexity_is_that_of_pytorch() {
    let golden = golden("perplexity.json");
    let file = model_file("heldout.txt");
    let found = on_cpu(&format!("perplexity --json -f {}", file.display())).ok().json();
    assert_eq!(found["tokens"], golden["tokens"]);
    assert_eq!(found["predicted"], golden["predicted"]);
    let number = |json: &Value, key: &str| json[key].as_f64().expect(key);
    let (a, b) = (number(&found, "perplexity"), number(&golden, "perplexity"));
    assert!((a / b - 1.0).abs() <= 0.005, "{a}, expected {b}");
    assert!((number(&found, "nll_mean") - number(&golden, "nll_mean")).abs() <= 0.005, "{found}");
    for layer in 0..2 {
        let share = |json: &Value| json["selected_fraction"][layer].as_f64().expect("a share");
        assert!((share(&found) - share(&golden)).abs() <= 0.01, "{found}");
    }
    let bits = number(&found, "nll_mean") * number(&found, "tokens") / read_model_file("heldout.txt").len() as f64;
    assert!((number(&found, "bits_per_byte") - bits / 2f64.ln()).abs() < 1e-9);
}

#[test]
fn greedy_texts_are_those_of_pytorch_on_the_cpu() {
    check_greedy("cpu");
}

#[test]
fn greedy_texts_are_those_of_pytorch_on_a_gpu() {
    check_greedy("gpu");
}

fn check_greedy(device: &str) {
    let golden = golden("greedy.json");
    let golden = golden.as_object().expect("an object");
    assert!(!golden.is_empty());
    for (prompt, expected) in golden {
        let json = taipan(["generate", "--json", "--temp", "0", "-n", "80", "--device", device, prompt]).ok().json();
        let text = format!("{prompt}{}", json["text"].as_str().expect("text"));
        let expected = expected.as_str().expect("text");
        if text != expected {
            let ids = json["ids"].as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32);
            let (at, margin) = pollster::block_on(first_difference(prompt, &ids.collect::<Vec<_>>(), expected));
            assert!(margin <= NEAR_TIE, "token {at}, margin {margin}:\n{text:?}\n{expected:?}");
        }
    }
}

/// The first generated token that leads away from the expected text, and by how much it won.
async fn first_difference(prompt: &str, ids: &[u32], expected: &str) -> (usize, f32) {
    let dir = model_file("");
    let model = Model::open(&dir, &Device::cpu(), LoadOptions::default()).await.expect("it is a model");
    let tokenizer = model.tokenizer().expect("it has one");
    let leads_there = |n: &usize| {
        let text = tokenizer.decode(&ids[..*n]).expect("they are its ids");
        expected[prompt.len()..].starts_with(text.trim_end_matches('\u{fffd}'))
    };
    let at = (1..=ids.len()).find(|n| !leads_there(n)).unwrap_or(ids.len()) - 1;
    let mut session = model.session(SessionOptions::default()).expect("it fits");
    session.prefill(&[&model.encode(prompt).expect("text"), &ids[..at]].concat()).await.expect("they are ids");
    let mut logits = session.logits().await.expect("there is a token");
    logits.sort_unstable_by(|a, b| b.total_cmp(a));
    (at, logits[0] - logits[1])
}
