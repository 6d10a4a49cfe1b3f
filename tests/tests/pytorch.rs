//! `pytorch_model.bin`: what `torch.save` writes loads; whatever else a pickle can do is an error that says what.

use pollster::block_on;
use taipan::{
    Device, ElementType, Error, LoadOptions, Model, ModelFiles, SessionOptions, Weights, WeightsProblem as P,
};
use taipan_tests::archive::{Pickle, archive, checkpoint};
use taipan_tests::drive::prefill_logits;
use taipan_tests::golden::family_cases;

const FLOATS: &str = "FloatStorage";

fn load(bytes: Vec<u8>) -> taipan::Result<Weights> {
    Weights::from_bytes(vec![("pytorch_model.bin".to_owned(), bytes.into())])
}

fn problem(bytes: Vec<u8>) -> P {
    let error = load(bytes).unwrap_err();
    assert!(error.hint().is_some());
    match error {
        Error::Weights { problem, .. } => *problem,
        other => panic!("{other:?}"),
    }
}

/// The problem of a pickle beside one storage of 24 bytes.
fn pickle_problem(pickle: Vec<u8>) -> P {
    problem(checkpoint(&pickle, &[("0", &[0; 24])]))
}

#[test]
fn the_original_files_give_the_same_as_their_safetensors() {
    let mut seen = 0;
    for case in family_cases().iter().filter(|case| case.dir.join("pytorch_model.bin").is_file()) {
        let dir = std::env::temp_dir().join(format!("taipan-{}-{}", case.name, std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["config.json", "pytorch_model.bin"] {
            std::fs::copy(case.dir.join(name), dir.join(name)).unwrap();
        }
        let open = |dir| block_on(Model::open(dir, &Device::cpu(), LoadOptions::default())).unwrap();
        let [archive, plain] = [&dir, &case.dir].map(|dir| open(dir));
        // The head is stored as well, in the same place: it is not loaded twice.
        assert!(Weights::open(&dir).unwrap().headers().get("lm_head.weight").is_ok());
        assert!(archive.config().tie_word_embeddings);
        let logits = |model: &Model| {
            let mut session = model.session(SessionOptions::default()).unwrap();
            prefill_logits(&mut session, &case.prompts.last().unwrap().ids)
        };
        assert_eq!(logits(&archive), logits(&plain), "{}", case.name);
        std::fs::remove_dir_all(&dir).unwrap();
        seen += 1;
    }
    assert!(seen > 0, "a case has such a file");
}

#[test]
fn tensors_are_views_of_storages() {
    let values: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let pickle = Pickle::default()
        .tensor("all", FLOATS, "a", 0, &[2, 3], &[3, 1])
        .tensor("part", FLOATS, "a", 2, &[1, 3], &[99, 1])
        .tensor("one", FLOATS, "a", 5, &[], &[])
        .tensor("none", FLOATS, "a", 6, &[0, 4], &[4, 1])
        .tensor("half", "HalfStorage", "b", 1, &[1], &[1])
        .end();
    let weights = load(checkpoint(&pickle, &[("a", &values), ("b", &[0, 0, 0, 0x3c])])).unwrap();
    let read = |name: &str| weights.get(name).unwrap().to_vec_f32();
    assert_eq!(read("all"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(read("part"), [2.0, 3.0, 4.0]);
    assert_eq!((read("one"), read("none"), read("half")), (vec![5.0], vec![], vec![1.0]));
    let info = weights.headers().get("all").unwrap();
    assert_eq!((info.element, &info.shape[..]), (ElementType::F32, &[2, 3][..]));
}

#[test]
fn nothing_is_called_that_a_list_of_tensors_does_not_need() {
    for (bytes, name) in [
        (&b"X\x01\x00\x00\x00acos\nsystem\n(X\x04\x00\x00\x00trueTR"[..], "os.system"),
        (&b"cbuiltins\neval\n"[..], "builtins.eval"),
        (&b"ctorch\n_utils\n"[..], "torch._utils"),
        (&b"ccollections\nOrderedDict.__init__\n"[..], "collections.OrderedDict.__init__"),
        (&b"ctorch._utils\n_rebuild_tensor\n"[..], "torch._utils._rebuild_tensor"),
    ] {
        assert_eq!(pickle_problem(Pickle::default().raw(bytes).end()), P::PickleGlobal { name: name.to_owned() });
    }
    // INST, OBJ, NEWOBJ, STACK_GLOBAL, EXT1, PERSID, BUILD of frames, NEXT_BUFFER.
    for opcode in *b"io\x81\x93\x82P\x95\x97" {
        match pickle_problem(Pickle::default().raw(&[opcode, 0, 0, 0, 0]).end()) {
            P::PickleOpcode { opcode: found, at } => assert_eq!((found, at), (opcode, 4)),
            other => panic!("{opcode:#x}: {other:?}"),
        }
    }
    let error = load(checkpoint(&Pickle::default().raw(b"cos\nsystem\n").end(), &[])).unwrap_err();
    assert_eq!(
        format!("{error} | {}", error.hint().unwrap()),
        "pytorch_model.bin: its pickle asks for `os.system`, which a list of tensors does not need; nothing of it was run | \
         do not trust this file; ask for the same weights as safetensors"
    );
}

#[test]
fn malformed_pickles_are_errors() {
    let nest = |n: usize| [b")".to_vec(), b"\x85".repeat(n)].concat();
    let call = b"ccollections\nOrderedDict\n".to_vec();
    for (bytes, what) in [
        (b"\x80\x02".to_vec(), "it ends in the middle"),
        (b"\x80\x04}.".to_vec(), "its protocol is not 2"),
        (b"\x80\x02.".to_vec(), "the stack is empty"),
        (b"\x80\x02}(.".to_vec(), "the stack is empty"),
        (b"\x80\x02).".to_vec(), "what it makes is not a dictionary"),
        (b"\x80\x02}X\x01\x00\x00\x00aK\x01s.".to_vec(), "the dictionary holds something other than tensors"),
        (b"\x80\x02}K\x01K\x01s.".to_vec(), "a key is not a text"),
        (b"\x80\x02}(K\x01u.".to_vec(), "a key has no value"),
        (b"\x80\x02(K\x01K\x01u.".to_vec(), "there is nothing to put items into"),
        (b"\x80\x02K\x01K\x01K\x01s.".to_vec(), "items are put into something other than a dictionary"),
        (b"\x80\x02}u.".to_vec(), "there is no mark"),
        (b"\x80\x02h\x00.".to_vec(), "it recalls what it never made"),
        (b"\x80\x02}q\x01.".to_vec(), "what is remembered is not numbered in order"),
        (b"\x80\x02X\x02\x00\x00\x00\xff\xff.".to_vec(), "a text is not UTF-8"),
        (b"\x80\x02\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01.".to_vec(), "a number has more than 64 bits"),
        (b"\x80\x02cos".to_vec(), "a name does not end"),
        (b"\x80\x02K\x01Q.".to_vec(), "a storage is not described as one"),
        (b"\x80\x02K\x01)b.".to_vec(), "attributes are given to something other than a dictionary"),
        (b"\x80\x02}X\x01\x00\x00\x00aNs\x85.".to_vec(), "a dictionary stands in a tuple"),
        ([&b"\x80\x02"[..], &nest(9), b"."].concat(), "tuples are nested too deeply"),
        ([&b"\x80\x02"[..], &call, b"K\x01R."].concat(), "a call has no arguments"),
        ([&b"\x80\x02"[..], &call, b"K\x01\x85R."].concat(), "it calls what cannot be called"),
        (Pickle::default().tensor("t", FLOATS, "0", -1, &[1], &[1]).end(), "a tensor is not described as one"),
        (Pickle::default().tensor("t", FLOATS, "0", 0, &[1], &[]).end(), "a tensor is not described as one"),
    ] {
        match pickle_problem(bytes.clone()) {
            P::Pickle { what: found, .. } => assert_eq!(found, what),
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
    }
}

#[test]
fn tensors_that_lie_are_errors() {
    let one = |key: &str, offset, shape: &[i32], strides: &[i32]| {
        pickle_problem(Pickle::default().tensor("t", FLOATS, key, offset, shape, strides).end())
    };
    let tensor = || "t".to_owned();
    assert_eq!(one("1", 0, &[1], &[1]), P::StorageMissing { tensor: tensor(), storage: "1".to_owned() });
    assert_eq!(
        one("../m/data/0", 0, &[1], &[1]),
        P::StorageMissing { tensor: tensor(), storage: "../m/data/0".into() }
    );
    assert_eq!(one("0", 0, &[3, 2], &[1, 3]), P::NotContiguous { tensor: tensor() });
    assert_eq!(one("0", 0, &[2, 3], &[4, 1]), P::NotContiguous { tensor: tensor() });
    assert_eq!(one("0", 0, &[7], &[1]), P::OutOfBounds { tensor: tensor(), end: 28, data: 24 });
    assert_eq!(one("0", 6, &[1], &[1]), P::OutOfBounds { tensor: tensor(), end: 28, data: 24 });
    let huge = i32::MAX;
    assert_eq!(
        one("0", 0, &[huge, huge, huge], &[1, 1, 1]),
        P::ShapeOverflow { tensor: tensor() },
        "the sizes alone overflow"
    );
    let twice = Pickle::default().tensor("t", FLOATS, "0", 0, &[1], &[1]).tensor("t", FLOATS, "0", 0, &[1], &[1]);
    assert_eq!(pickle_problem(twice.end()), P::DuplicateTensor { tensor: tensor() });
}

#[test]
fn other_archives_are_errors() {
    let pickle = Pickle::default().end();
    let message = |bytes: Vec<u8>| match problem(bytes) {
        P::Archive { message } => message,
        other => panic!("{other:?}"),
    };
    assert!(!message(b"version https://git-lfs.github.com/spec/v1".to_vec()).is_empty());
    assert!(!message(pickle.clone()).is_empty());
    assert_eq!(message(archive(&[("a", b"b")])), "0 files in it are called data.pkl, expected one");
    let two = archive(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle)]);
    assert_eq!(message(two), "2 files in it are called data.pkl, expected one");
    let twice = archive(&[("a/data.pkl", &pickle), ("a/data.pkl", &pickle)]);
    assert_eq!(message(twice), "a/data.pkl in it is cut off or there twice");
    let big = archive(&[("a/data.pkl", &pickle), ("a/byteorder", b"big")]);
    assert_eq!(message(big), "its numbers are not little-endian");
    // The method of the first entry, in the local and in the central header.
    let mut packed = archive(&[("a/data.pkl", &pickle)]);
    let central = packed.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    (packed[8], packed[central + 10]) = (8, 8);
    assert_eq!(message(packed), "a/data.pkl in it is compressed or encrypted");
}

/// The case whose weights are in two such files, in a folder of its own with its index changed.
fn sharded(name: &str, edit: impl FnOnce(&mut serde_json::Value)) -> std::path::PathBuf {
    let case = family_cases().into_iter().find(|case| case.name == "mamba2mlp_ss").unwrap();
    let dir = std::env::temp_dir().join(format!("taipan-shards-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for entry in std::fs::read_dir(&case.dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.join("pytorch_model.bin.index.json");
    let mut index = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut index);
    std::fs::write(path, index.to_string()).unwrap();
    dir
}

#[test]
fn shards_are_those_of_the_index() {
    const FIRST: &str = "pytorch_model-00001-of-00002.bin";
    let error = |dir: &std::path::Path| {
        let open = Weights::open(dir).map(drop).unwrap_err().to_string();
        assert_eq!(Weights::open_headers(dir).map(drop).unwrap_err().to_string(), open);
        std::fs::remove_dir_all(dir).unwrap();
        open.strip_prefix(&format!("{}/", dir.display())).unwrap().to_owned()
    };
    let dir = sharded("whole", |_| ());
    let weights = Weights::open(&dir).unwrap();
    assert_eq!(weights.headers().files.len(), 2);
    assert_eq!(&*weights.get("backbone.embedding.weight").unwrap().info.file, FIRST);
    std::fs::remove_file(dir.join(FIRST)).unwrap();
    drop(weights);
    assert_eq!(error(&dir), format!("pytorch_model.bin.index.json: shard {FIRST} is missing"));
    let dir = sharded("tensor", |index| index["weight_map"]["backbone.layers.9.norm.weight"] = FIRST.into());
    let expected = format!("tensor `backbone.layers.9.norm.weight` is not in {FIRST}, where the index puts it");
    assert_eq!(error(&dir), format!("pytorch_model.bin.index.json: {expected}"));
    for other in ["../x.bin", "x.safetensors", "sub/x.bin"] {
        let dir = sharded("path", |index| index["weight_map"]["backbone.embedding.weight"] = other.into());
        let expected = format!("shard \"{other}\" is not a plain file name");
        assert_eq!(error(&dir), format!("pytorch_model.bin.index.json: {expected}"));
    }
}

#[test]
fn a_model_takes_it_from_memory() {
    let case = family_cases().into_iter().find(|case| case.name == "mamba2_ss").unwrap();
    let read = |name: &str| std::fs::read(case.dir.join(name)).unwrap();
    let weights = vec![("pytorch_model.bin".to_owned(), read("pytorch_model.bin").into())];
    let files = ModelFiles { config: read("config.json").into(), weights, tokenizer: None };
    let model = block_on(Model::from_bytes(files, &Device::cpu(), LoadOptions::default())).unwrap();
    assert_eq!(model.config().vocab_size, 256);
}
