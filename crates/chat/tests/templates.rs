//! Templates in the manner of published ones, against the prompts that transformers makes of them
//! (`tests/golden/chat/make.py`).

use std::path::Path;

use serde_json::Value;
use taipan_chat::{ChatError, ChatTemplate, Clock};

#[test]
fn prompts_are_those_of_transformers() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/chat");
    let golden: Value = serde_json::from_slice(&std::fs::read(dir.join("cases.json")).unwrap()).unwrap();
    let tokens: std::collections::BTreeMap<String, String> = serde_json::from_value(golden["tokens"].clone()).unwrap();
    let clock = Clock::At(golden["time"].as_str().unwrap().parse().unwrap());
    let (mut made, mut refused, mut failed) = (0, 0, 0);
    for case in golden["cases"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let what = format!("{name}, {}", case["what"]);
        let source = std::fs::read_to_string(dir.join(name)).unwrap();
        let template = ChatTemplate::new(source, tokens.clone()).unwrap();
        let found = template.render_json(case["variables"].as_str().unwrap(), clock);
        if let Some(expected) = case["prompt"].as_str() {
            assert_eq!(found.unwrap_or_else(|e| panic!("{what}: {e}")), expected, "{what}");
            made += 1;
        } else if let Some(expected) = case["refused"].as_str() {
            match found {
                Err(ChatError::Refused { message }) => assert_eq!(message, expected, "{what}"),
                other => panic!("{what}: {other:?}"),
            }
            refused += 1;
        } else {
            assert!(matches!(found, Err(ChatError::Template { .. })), "{what}: {found:?}, expected {}", case["error"]);
            failed += 1;
        }
    }
    assert!(made > 25 && refused > 2, "{made} made, {refused} refused, {failed} failed");
}
