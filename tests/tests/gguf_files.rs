//! What a GGUF file can say: vocabularies, held to llama.cpp's ids; blocks, held to the numbers that the gguf package reads; and
//! everything that it must not say.

use std::collections::BTreeMap;

use pollster::block_on;
use serde_json::Value;
use taipan::{Device, Error, Gguf, LoadOptions, Model, Tokenizer};
use taipan_tests::gguf::{GgufFile, GgufTensor};

fn read(file: &GgufFile) -> Result<Gguf, Error> {
    Gguf::from_bytes("model.gguf", file.bytes().into())
}

/// What is said of a file with this change.
fn refused(code: &str, said: &str, change: impl FnOnce(&mut GgufFile)) {
    let mut file = GgufFile::mamba2(8, 32);
    change(&mut file);
    refuses(code, said, file.bytes());
}

fn refuses(code: &str, said: &str, bytes: Vec<u8>) {
    let error = Gguf::from_bytes("model.gguf", bytes.into()).expect_err(said);
    assert!(error.to_string().contains(said), "{said:?} is not in {error}");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().starts_with("model.gguf: ") && error.hint().is_some(), "{error}");
}

fn invalid(said: &str, change: impl FnOnce(&mut GgufFile)) {
    refused("weights-invalid", said, change);
}

#[test]
fn a_file_as_it_should_be_is_read() {
    let file = GgufFile::mamba2(8, 32);
    let gguf = read(&file).unwrap();
    let options = LoadOptions::default();
    let cpu = Device::cpu();
    let model = block_on(Model::from_source(&gguf.description.config, None, &gguf, &cpu, options)).unwrap();
    assert_eq!((model.config().vocab_size, model.config().layer_types.len()), (8, 1));
    // Version 2 has the same layout.
    let mut bytes = file.bytes();
    bytes[4] = 2;
    assert!(Gguf::from_bytes("model.gguf", bytes.into()).is_ok());
}

#[test]
fn the_beginning_must_be_one() {
    let bytes = GgufFile::mamba2(8, 32).bytes();
    let with = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    refuses("weights-invalid", "does not begin with \"GGUF\"", with(0, b"GGJT"));
    refuses("weights-invalid", "does not begin with \"GGUF\"", b"version https://git-lfs.github.com/spec/v1".to_vec());
    refuses("weights-invalid", "version is 1; expected 2 or 3", with(4, &[1]));
    refuses("weights-invalid", "version is 4; expected 2 or 3", with(4, &[4]));
    refuses("weights-invalid", "big-endian", with(4, &[0, 0, 0, 3]));
    // Counts that are lies end with the file, and ask for no memory before.
    for at in [8, 16] {
        refuses("weights-invalid", "the file ends after", with(at, &u64::MAX.to_le_bytes()));
        refuses("weights-invalid", "", with(at, &(1u64 << 40).to_le_bytes()));
    }
    for len in (0..bytes.len() - 1).step_by(61) {
        refuses("weights-invalid", "", bytes[..len].to_vec());
    }
}

#[test]
fn keys_must_be_what_they_are_for() {
    invalid("general.architecture", |f| drop(f.pairs.remove(0)));
    invalid("general.architecture", |f| f.integer("general.architecture", 3));
    refused("model-unsupported", "llama (GGUF)", |f| f.text("general.architecture", "llama"));
    invalid("mamba2.block_count is there twice", |f| f.pairs.push(f.pairs[2].clone()));
    invalid("is not UTF-8 at byte", |f| f.pairs[0].2[8] = 0xff);
    invalid("mamba2.block_count is missing or no number", |f| f.text("mamba2.block_count", "1"));
    invalid("mamba2.block_count is missing or no number", |f| f.set("mamba2.block_count", 5, vec![0xff; 4]));
    invalid("mamba2.ssm.state_size is missing", |f| f.pairs.retain(|pair| pair.0 != "mamba2.ssm.state_size"));
    invalid("x is a value of type 13", |f| f.set("x", 13, vec![0; 8]));
    invalid("x is a list of lists", |f| f.set("x", 9, [&9u32.to_le_bytes()[..], &[0; 8]].concat()));
    invalid("x is a list of type 13", |f| f.set("x", 9, [&13u32.to_le_bytes()[..], &[0; 8]].concat()));
    for kind in [0u32, 8, 12] {
        let long = [&kind.to_le_bytes()[..], &[0xff; 8]].concat();
        invalid("the file ends after", |f| f.pairs.push(("x".to_owned(), 9, long)));
    }
    invalid("general.alignment is not a power of two", |f| f.integer("general.alignment", 48));
    invalid("general.alignment is not a power of two", |f| f.integer("general.alignment", 0));
    invalid("one of 3 parts", |f| f.set("split.count", 2, vec![3, 0]));
    invalid("general.type is adapter", |f| f.text("general.type", "adapter"));
    refused("config-invalid", "num_hidden_layers", |f| f.integer("mamba2.block_count", 0));
    invalid("0 heads of a mixer", |f| f.integer("mamba2.ssm.time_step_rank", 0));
}

#[test]
fn a_switch_that_nobody_knows_is_named() {
    invalid("does not know what mamba2.ssm.new_thing means", |f| f.flag("mamba2.ssm.new_thing", true));
    invalid("does not know what mamba2.attention.scale means", |f| f.float("mamba2.attention.scale", 2.0));
    invalid("mamba2.rope.scaling.type: positions are stretched (yarn)", |f| f.text("mamba2.rope.scaling.type", "yarn"));
    invalid("mamba2.rope.scaling.factor: positions are", |f| f.float("mamba2.rope.scaling.factor", 4.0));
    invalid("mamba2.ssm.dt_b_c_rms: norms inside", |f| f.flag("mamba2.ssm.dt_b_c_rms", true));
    let mut file = GgufFile::mamba2(8, 32);
    file.text("mamba2.rope.scaling.type", "none");
    file.integer("mamba2.vocab_size", 8);
    file.integer("general.file_type", 1);
    file.text("quantize.imatrix.file", "anything of others");
    assert!(read(&file).is_ok());
}

#[test]
fn tensors_must_be_those_of_the_model_and_lie_where_they_can() {
    invalid("tensor blk.0.ssm_in.weight is missing", |f| {
        f.tensor("blk.0.ssm_in.weight").name = "blk.0.ssm_on.weight".into()
    });
    let more = |name: &str| GgufTensor { name: name.into(), dims: vec![1], kind: 0, bytes: vec![0; 4], offset: None };
    invalid("1 tensors that this model does not have, blk.0.ssm_x.weight", |f| {
        f.tensors.push(more("blk.0.ssm_x.weight"))
    });
    invalid("1 tensors that this model does not have, blk.1.", |f| f.tensors.push(more("blk.1.ssm_d")));
    invalid("`output.weight` is listed twice", |f| f.tensors.push(more("output.weight")));
    invalid("has 5 dimensions", |f| f.tensor("blk.0.ssm_d").dims = vec![1, 4, 1, 1, 1]);
    // As many numbers in another shape are other numbers.
    invalid("blk.0.ssm_in.weight has the shape [32, 148]; expected [148, 32]", |f| {
        f.tensor("blk.0.ssm_in.weight").dims.reverse()
    });
    invalid("blk.0.ssm_d has the shape [3, 1]; expected [4]", |f| f.tensor("blk.0.ssm_d").dims[1] = 3);
    invalid("tensor token_embd.weight has the shape [8, 31]", |f| f.tensor("token_embd.weight").dims[0] = 31);
    invalid("token_embd.weight is missing or no matrix", |f| f.tensor("token_embd.weight").dims = vec![256]);
    invalid("the number of bytes for its shape overflows", |f| f.tensor("blk.0.ssm_d").dims = vec![1 << 33, 1 << 33]);
    invalid("ends at byte", |f| f.tensor("blk.0.ssm_d").dims = vec![1, 1 << 40]);
    invalid("ends at byte", |f| f.tensor("blk.0.ssm_out.weight").offset = Some(1 << 40));
    invalid("the number of bytes for its shape overflows", |f| f.tensor("blk.0.ssm_d").offset = Some(u64::MAX - 31));
    invalid("is not a multiple of 32", |f| f.tensor("blk.0.ssm_d").offset = Some(4));
    invalid("`blk.0.ssm_d` and `token_embd.weight` overlap", |f| f.tensor("blk.0.ssm_d").offset = Some(0));
    invalid("unknown dtype \"Q5_K (13 of ggml); allowed: F32, F16, BF16", |f| f.tensor("output.weight").kind = 13);
    invalid("unknown dtype \"unknown (99 of ggml)", |f| f.tensor("output.weight").kind = 99);
    invalid("rows of 4, which are not whole blocks of 32", |f| f.tensor("blk.0.ssm_conv1d.weight").kind = 8);
    invalid("rows of 32, which are not whole blocks of 256", |f| f.tensor("output.weight").kind = 12);
}

#[test]
fn numbers_must_be_finite() {
    let load = |change: &dyn Fn(&mut GgufFile)| {
        let mut file = GgufFile::mamba2(8, 32);
        change(&mut file);
        let gguf = read(&file).unwrap();
        let cpu = Device::cpu();
        let model = Model::from_source(&gguf.description.config, None, &gguf, &cpu, LoadOptions::default());
        block_on(model).map(|_| ()).unwrap_err()
    };
    let error = load(&|f| f.tensor("blk.0.ssm_in.weight").bytes[40..44].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(matches!(&error, Error::NotFinite { index: 10, .. }), "{error}");
    // A decay that is none has no logarithm.
    let error = load(&|f| f.tensor("blk.0.ssm_a").bytes[4..8].copy_from_slice(&0.5f32.to_le_bytes()));
    assert!(matches!(&error, Error::NotFinite { index: 1, .. }), "{error}");
}

#[test]
fn blocks_are_the_numbers_that_the_gguf_package_reads() {
    let all: BTreeMap<String, Value> = serde_json::from_str(include_str!("../golden/gguf/blocks.json")).unwrap();
    let hex = |value: &Value| -> Vec<u8> {
        let digits = value.as_str().unwrap().as_bytes().chunks(2);
        digits.map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    };
    assert_eq!(all.len(), 4);
    for (name, case) in all {
        let mut file = GgufFile::mamba2(2, 256);
        let head = file.tensor("output.weight");
        (head.kind, head.bytes) = (case["kind"].as_u64().unwrap() as u32, hex(&case["bytes"]));
        let stored = head.bytes.clone();
        let values: Vec<f32> = hex(&case["values"]).as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
        let gguf = read(&file).unwrap();
        let info = gguf.description.headers.get("lm_head.weight").unwrap();
        assert_eq!((info.stored_as(), info.stored_bytes()), (&name[..], stored.len() as u64));
        let weights = block_on(gguf.weights()).unwrap();
        let tensor = weights.get("lm_head.weight").unwrap();
        // Of integers with a scale each bit is kept; others are rounded to f16.
        let expected: Vec<f32> = match &name[..] {
            "Q4_K" | "Q6_K" => values.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect(),
            _ => values,
        };
        assert_eq!(tensor.to_vec_f32(), expected, "{name}");
        if name == "Q8_0" {
            let (scales, integers): (Vec<_>, Vec<_>) = stored.chunks(34).map(|b| b.split_at(2)).unzip();
            assert_eq!((tensor.scales, tensor.bytes), (&scales.concat()[..], &integers.concat()[..]));
        }
    }
}

/// A file with this vocabulary.
fn with_vocabulary(vocabulary: &Value) -> GgufFile {
    let texts = |key: &str| {
        vocabulary[key].as_array().map(|list| list.iter().map(|t| t.as_str().unwrap().to_owned()).collect())
    };
    let tokens: Vec<String> = texts("tokens").unwrap();
    let types: Vec<i32> = serde_json::from_value(vocabulary["types"].clone()).unwrap();
    let mut file = GgufFile::mamba2(tokens.len() as u64, 32);
    file.texts("tokenizer.ggml.tokens", &tokens);
    file.integers("tokenizer.ggml.token_type", &types);
    file.integer("tokenizer.ggml.bos_token_id", 1);
    file.integer("tokenizer.ggml.eos_token_id", 2);
    let model = if let Some(merges) = texts("merges") {
        file.texts("tokenizer.ggml.merges", &merges);
        "gpt2"
    } else {
        file.floats(
            "tokenizer.ggml.scores",
            &serde_json::from_value::<Vec<f32>>(vocabulary["scores"].clone()).unwrap(),
        );
        "llama"
    };
    file.text("tokenizer.ggml.model", model);
    file
}

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/gguf/tokenizers.json")).unwrap()
}

fn tokenizer(file: &GgufFile) -> Tokenizer {
    Tokenizer::from_bytes(&read(file).unwrap().description.tokenizer.unwrap()).unwrap()
}

#[test]
fn texts_have_the_ids_that_llama_cpp_gives_them() {
    let golden = golden();
    let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let mut kinds = 0;
    for case in golden["cases"].as_array().unwrap() {
        for pre in case["pre"].as_array().unwrap() {
            let mut file = with_vocabulary(&golden[case["vocab"].as_str().unwrap()]);
            pre.as_str().into_iter().for_each(|pre| file.text("tokenizer.ggml.pre", pre));
            for (key, value) in case["flags"].as_object().unwrap() {
                file.flag(&format!("tokenizer.ggml.{key}"), value.as_bool().unwrap());
            }
            let tokenizer = tokenizer(&file);
            for (text, ids) in texts.iter().zip(case["ids"].as_array().unwrap()) {
                let ids: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
                assert_eq!(tokenizer.encode(text).unwrap(), ids, "{pre} {}: {text:?}", case["flags"]);
            }
            let prompt: Vec<u32> = serde_json::from_value(case["prompt"].clone()).unwrap();
            let ours = [tokenizer.prefix(), &tokenizer.encode(texts[0]).unwrap()].concat();
            assert_eq!(ours, prompt, "{pre} {}: what comes first", case["flags"]);
            kinds += 1;
        }
    }
    assert!(kinds > 25, "{kinds}");
}

#[test]
fn texts_come_back() {
    let golden = golden();
    for vocabulary in ["bpe", "spm"] {
        let tokenizer = tokenizer(&with_vocabulary(&golden[vocabulary]));
        for text in ["Hello world", "naïve café", "日本語 🐍!", "  two  spaces ", "a\n\tb"] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{vocabulary}");
        }
    }
}

#[test]
fn vocabularies_that_are_none_are_named() {
    let golden = golden();
    let refused = |vocabulary: &str, said: &str, change: &dyn Fn(&mut GgufFile)| {
        let mut file = with_vocabulary(&golden[vocabulary]);
        change(&mut file);
        refuses("weights-invalid", said, file.bytes());
    };
    refused("bpe", "tokenizer.ggml.pre is gpt-9", &|f| f.text("tokenizer.ggml.pre", "gpt-9"));
    refused("bpe", "tokenizer.ggml.model is bert", &|f| f.text("tokenizer.ggml.model", "bert"));
    refused("bpe", "tokenizer.ggml.merges is missing", &|f| f.pairs.retain(|p| p.0 != "tokenizer.ggml.merges"));
    refused("bpe", "tokenizer.ggml.merges is no list of texts", &|f| f.integers("tokenizer.ggml.merges", &[1]));
    refused("bpe", "tokenizer.ggml.tokens is missing", &|f| f.pairs.retain(|p| p.0 != "tokenizer.ggml.tokens"));
    refused("bpe", "tokenizer.ggml.tokens is no list of texts", &|f| f.floats("tokenizer.ggml.tokens", &[1.0]));
    refused("bpe", "2 types of tokens for 430 tokens", &|f| f.integers("tokenizer.ggml.token_type", &[1, 1]));
    refused("bpe", "token_type is no list of integers", &|f| f.floats("tokenizer.ggml.token_type", &[1.0; 430]));
    refused("bpe", "430 tokens, and rows of the embedding for 8", &|f| f.tensors = GgufFile::mamba2(8, 32).tensors);
    refused("spm", "scores is no list of a number for each", &|f| f.floats("tokenizer.ggml.scores", &[1.0]));
    refused("spm", "scores is no list of a number for each", &|f| f.integers("tokenizer.ggml.scores", &[1; 380]));
    refused("spm", "scores is no list of a number for each", &|f| f.pairs.retain(|p| p.0 != "tokenizer.ggml.scores"));
    // One without a vocabulary takes ids.
    let mut file = GgufFile::mamba2(8, 32);
    assert_eq!(read(&file).unwrap().description.tokenizer, None);
    file.text("tokenizer.ggml.model", "no_vocab");
    assert_eq!(read(&file).unwrap().description.tokenizer, None);
}

#[test]
fn the_end_of_a_turn_is_known_by_its_spelling() {
    let golden = golden();
    let mut file = with_vocabulary(&golden["bpe"]);
    let config =
        |file: &GgufFile| -> Value { serde_json::from_slice(&read(file).unwrap().description.config).unwrap() };
    // <|end|> is a token of control, and </s> is what the file names.
    assert_eq!(config(&file)["eos_token_id"], serde_json::json!([2, 3]));
    file.integer("tokenizer.ggml.eot_token_id", 5);
    assert_eq!(config(&file)["eos_token_id"], serde_json::json!([2, 3, 5]));
}
