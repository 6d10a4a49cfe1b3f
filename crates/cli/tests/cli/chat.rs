//! Files that published checkpoints bring: a tokenizer that adds a BOS, a chat template, wishes about sampling; and a
//! context that can be full.

use serde_json::{Value, json};

use crate::common::{Folder, model_file, read_model_file, taipan, write_model};

/// A small model of the family, whose tokenizer puts `<|endoftext|>` in front of a text.
fn family_model() -> Folder {
    let folder = Folder::new();
    let config = json!({
        "model_type": "mamba2", "vocab_size": 4096, "hidden_size": 16, "num_hidden_layers": 1, "num_heads": 4, "head_dim": 8,
        "state_size": 8, "n_groups": 1, "tie_word_embeddings": true, "eos_token_id": 4095
    });
    write_model(folder.path(), &config);
    let mut tokenizer: Value = serde_json::from_slice(&read_model_file("tokenizer.json")).expect("it is JSON");
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<|endoftext|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
        "special_tokens": { "<|endoftext|>": { "id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"] } }
    });
    folder.write("tokenizer.json", tokenizer.to_string());
    folder
}

const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
    {% if messages[-1].content == 'secret' %}{{ raise_exception('No secrets.') }}{% endif %}answer:";

pub(crate) fn chat_model() -> Folder {
    let folder = family_model();
    folder.write("chat_template.jinja", TEMPLATE);
    folder.write("tokenizer_config.json", r#"{"bos_token": "<|endoftext|>"}"#);
    folder
}

fn run(folder: &Folder, args: &[&str]) -> Value {
    let model = folder.path().to_str().expect("UTF-8");
    taipan(["generate", "--device", "cpu", "--json", "-n", "12", "-m", model].iter().chain(args)).ok().json()
}

#[test]
fn a_bos_is_added_where_the_tokenizer_adds_one() {
    let folder = family_model();
    assert_eq!(run(&folder, &["--temp", "0", "a"])["timings"]["prompt_tokens"], 2);
    // Not to a Taipan, whatever its tokenizer says.
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(model_file(name), folder.at(name)).expect("it can be copied");
    }
    assert_eq!(run(&folder, &["--temp", "0", "a"])["timings"]["prompt_tokens"], 1);
}

#[test]
fn a_tokenizer_can_come_from_elsewhere() {
    let folder = family_model();
    let own = run(&folder, &["--temp", "0", "a"]);
    let elsewhere = Folder::new();
    let file = elsewhere.at("tokenizer.json");
    std::fs::rename(folder.at("tokenizer.json"), &file).expect("it can be moved");
    let model = folder.path().to_str().expect("UTF-8");
    let hint = "hint: give token ids, name one with --tokenizer, or put tokenizer.json beside config.json";
    taipan(["generate", "--device", "cpu", "-m", model, "a"]).fails(1, &[hint]);
    for place in [&file, elsewhere.path().to_str().expect("UTF-8")] {
        assert_eq!(run(&folder, &["--temp", "0", "--tokenizer", place, "a"])["ids"], own["ids"]);
    }
    // It goes before the model's own, even one that cannot be read.
    folder.write("tokenizer.json", "{}");
    assert_eq!(run(&folder, &["--temp", "0", "--tokenizer", &file, "a"])["ids"], own["ids"]);
    taipan(["generate", "--device", "cpu", "-m", model, "--tokenizer", model, "a"]).fails(1, &["tokenizer.json"]);
    taipan(["generate", "--device", "cpu", "-m", model, "--tokenizer", &elsewhere.at("x"), "a"])
        .fails(1, &["cannot read"]);
}

#[test]
fn a_question_goes_through_the_template() {
    let folder = chat_model();
    let asked = run(&folder, &["--temp", "0", "--chat", "--system", "Be brief.", "Who?"]);
    // The template says the BOS itself; in a text the tokenizer adds it.
    let plain = run(&folder, &["--temp", "0", "system: Be brief.\nuser: Who?\nanswer:"]);
    assert_eq!(asked["ids"], plain["ids"]);
    assert_eq!(asked["timings"]["prompt_tokens"], plain["timings"]["prompt_tokens"]);
    let alone = run(&folder, &["--temp", "0", "--chat", "Who?"]);
    assert!(alone["timings"]["prompt_tokens"].as_u64() < asked["timings"]["prompt_tokens"].as_u64());
    let model = folder.path().to_str().expect("UTF-8");
    let args = [
        "generate",
        "--device",
        "cpu",
        "-n",
        "12",
        "--temp",
        "0",
        "-m",
        model,
        "--chat",
        "--system",
        "Be brief.",
        "Who?",
    ];
    assert_eq!(taipan(args).ok().stdout, format!("{}\n", asked["text"].as_str().expect("text")));
}

#[test]
fn what_cannot_be_asked_is_an_error() {
    let folder = chat_model();
    let model = folder.path().to_str().expect("UTF-8");
    let ask = |args: &[&str]| taipan(["generate", "--device", "cpu", "-n", "1"].iter().chain(args));
    ask(&["--chat", "Hello"]).fails(1, &["--chat: the model has no chat template", "hint: "]);
    ask(&["-m", model, "--chat", "secret"]).fails(1, &["refuses these messages: No secrets.", "hint: "]);
    ask(&["--system", "Be brief.", "Hello"]).fails(2, &["--chat"]);
    folder.write("chat_template.jinja", "{% if %}");
    ask(&["-m", model, "--chat", "Hello"]).fails(1, &["chat template: syntax error", "hint: "]);
}

#[test]
fn wishes_about_sampling_are_granted_and_flags_go_before_them() {
    let folder = family_model();
    let greedy = run(&folder, &["--temp", "0", "Once"]);
    let first = greedy["ids"][0].clone();
    folder.write("generation_config.json", json!({ "do_sample": false }).to_string());
    assert_eq!(run(&folder, &["Once"])["ids"], greedy["ids"]);
    assert_ne!(
        run(&folder, &["--temp", "5", "--top-k", "0", "--top-p", "1", "--min-p", "0", "Once"])["ids"],
        greedy["ids"]
    );
    folder.write("generation_config.json", json!({ "top_k": 1, "eos_token_id": [4000, first] }).to_string());
    let ended = run(&folder, &["Once"]);
    assert_eq!((&ended["finish"], &ended["ids"]), (&json!("eos"), &json!([first])));
    folder.write("generation_config.json", json!({ "top_p": 2 }).to_string());
    let model = folder.path().to_str().expect("UTF-8");
    taipan(["generate", "--device", "cpu", "-m", model, "Once"])
        .fails(1, &["generation_config.json: `top_p` is 2; allowed: 0 to 1", "hint: "]);
}

#[test]
fn a_context_can_be_full() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/family/seed-1/bamba");
    let folder = Folder::new();
    let out = folder.at("out.safetensors");
    let logits =
        |ctx: &str| taipan(["logits", "--device", "cpu", "-m", model, "--ids", "1,2,3", "--ctx", ctx, "-o", &out]);
    logits("2").fails(1, &["the text would have 3 tokens, the session has room for 2", "hint: ", "--ctx"]);
    logits("0").fails(2, &["--ctx: 0 is not allowed"]);
    logits("3").ok();
    assert_eq!(folder.list(), ["out.safetensors"]);
}
