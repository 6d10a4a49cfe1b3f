//! Help, and command lines that make no sense.

use crate::common::{Folder, on_cpu, taipan, write_tiny};

const COMMANDS: [&str; 10] =
    ["generate", "validate", "logits", "perplexity", "quantize", "pull", "ls", "rm", "info", "devices"];

#[test]
fn help_names_all_commands_and_exit_codes() {
    let help = taipan(["--help"]).ok();
    for text in COMMANDS.iter().chain(&["--device", "--backend", "--yes", "130 interrupted", "Examples:"]) {
        assert!(help.stdout.contains(text), "{text}: {}", help.stdout);
    }
    assert_eq!(help.stderr, "");
}

#[test]
fn every_command_has_help_with_devices() {
    for command in COMMANDS {
        let help = taipan([command, "--help"]).ok();
        assert!(help.stdout.contains("--device <auto|cpu|gpu|INDEX|NAME>"), "{}", help.stdout);
        assert!(help.stdout.contains("--backend"), "{}", help.stdout);
        let json = !matches!(command, "logits");
        assert_eq!(help.stdout.contains("--json"), json, "{}", help.stdout);
    }
}

#[test]
fn help_of_generate_teaches() {
    let help = taipan(["generate", "--help"]).ok().stdout;
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "a BOS in front only where the model's own tokenizer adds one",
        "-m, --model <DIR|ORG/NAME>",
        "-p, --prompt <PROMPT>",
        "-f, --file <FILE>",
        "-n, --predict <N>",
        "[default: 512]",
        "-s, --seed <SEED>",
        "--temp <T> Temperature; 0 is greedy [default: the model's own, else 0.8]",
        "--top-k <K>",
        "[default: the model's own, else 40]",
        "[default: the model's own, else 0.95]",
        "[default: the model's own, else 0.05]",
        "[default: the model's own, else 1]",
        "--repeat-last-n <N>",
        "[default: 64]",
        "-r, --reverse-prompt <TEXT>",
        "--ignore-eos",
        "[possible values: auto, f32, f16, bf16, q8, q4]",
        "--attention-bound <C[,BURST]>",
        "--no-display-prompt",
        "--show-timings",
        "Examples:",
    ] {
        assert!(words.contains(text), "{text:?} is not in {help}");
    }
}

#[test]
fn version_is_printed() {
    assert_eq!(taipan(["--version"]).ok().stdout, concat!("taipan ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn command_lines_without_sense_are_refused() {
    for line in [
        "",
        "frobnicate",
        "generate --frobnicate x",
        "generate a b",
        "generate a -p b",
        "generate -p a -f b",
        "generate a -f b",
        "generate a --dtype f8",
        "generate a --backend opengl",
        "devices --backend",
        "logits -o out",
        "logits --ids 1,2 --prompt a -o out",
        "logits --ids 1,x -o out",
        "logits --ids 1,2",
        "perplexity",
        "info a -m b",
    ] {
        let run = taipan(line.split_whitespace()).expect(2);
        assert_eq!(run.stdout, "", "{line}");
        assert!(!run.stderr.is_empty(), "{line}");
    }
}

#[test]
fn values_out_of_range_are_refused_with_what_is_allowed() {
    for (line, said) in [
        ("generate a -n -2", "-n: -2 is not allowed"),
        ("generate a --temp -1", "--temp: -1 is not allowed"),
        ("generate a --temp nan", "--temp: NaN is not allowed"),
        ("generate a --temp inf", "--temp: inf is not allowed"),
        ("generate a --top-p 1.5", "--top-p: 1.5 is not allowed"),
        ("generate a --min-p -0.1", "--min-p: -0.1 is not allowed"),
        ("generate a --repeat-penalty 0", "--repeat-penalty: 0 is not allowed"),
        ("generate a --repeat-last-n 1025", "--repeat-last-n: 1025 is not allowed"),
        ("generate a --seed -2", "--seed: -2 is not allowed"),
        ("generate a --seed 18446744073709551616", "is not allowed"),
        ("generate a --attention-bound 2", "--attention-bound"),
        ("generate a --attention-bound 0.5,1", "--attention-bound"),
        ("generate a --device=", "--device is empty"),
        ("perplexity -f x --context 1", "--context is below 2"),
        ("validate", "nothing to validate"),
        ("validate --kernels x", "--kernels takes no DIR"),
        ("validate --kernels --dtype f16", "--kernels takes no --dtype"),
    ] {
        taipan(line.split_whitespace()).fails(2, &[said, "\n\nhint: "]);
    }
    taipan(["generate", "a", "-r", ""]).fails(2, &["-r is empty"]);
}

#[test]
fn a_model_that_is_not_there_is_an_error() {
    let folder = Folder::new();
    for command in ["generate a -m", "perplexity -f x -m", "info", "logits --ids 1 -o out -m"] {
        let missing = folder.at("nothing");
        let args = command.split(' ').chain([missing.as_str(), "--device", "cpu"]).map(|a| match a {
            "out" => folder.at("out"),
            other => other.to_owned(),
        });
        taipan(args).fails(1, &[&missing, "\n\nhint: "]);
    }
    assert!(folder.list().is_empty(), "{:?}", folder.list());
    let run = taipan(["info", folder.path().to_str().expect("UTF-8")]);
    run.fails(1, &["no model.safetensors, no model.safetensors.index.json and no pytorch_model.bin", "hint: "]);
}

#[test]
fn a_failure_is_an_object_where_the_result_would_be_one() {
    let folder = Folder::new();
    let nothing = folder.at("nothing");
    for (line, exit, code, hint) in [
        (format!("generate --json -m {nothing} a"), 1, "io", true),
        (format!("validate --json {nothing}"), 1, "io", true),
        (format!("perplexity --json -f {nothing}"), 1, "io", true),
        (format!("info --json {nothing}"), 1, "io", true),
        ("devices --json --device 99".to_owned(), 3, "no-adapter", true),
        ("generate --json --temp -1 a".to_owned(), 2, "usage", true),
        ("validate --json".to_owned(), 2, "usage", true),
        ("info --json --frobnicate".to_owned(), 2, "usage", true),
    ] {
        let run = taipan(line.split_whitespace()).expect(exit);
        let error = &run.json()["error"];
        assert_eq!((error["code"].as_str(), error["hint"].is_string()), (Some(code), hint), "{run:#?}");
        let message = error["message"].as_str().expect("text");
        assert!(!message.is_empty() && run.stderr.contains(message), "{run:#?}");
    }
    assert_eq!(taipan(["info", &nothing]).expect(1).stdout, "");
    for command in ["generate", "validate", "perplexity", "info", "devices"] {
        let help = taipan([command, "--help"]).ok().stdout;
        assert!(help.contains(r#"{"error": {"code", "message","#), "{help}");
    }
}

#[test]
fn an_option_given_twice_counts_as_given_last() {
    let run = |line: &str| on_cpu(&format!("generate --json --temp 0 {line} Once")).ok().json();
    assert_eq!(run("-n 2 -n 3")["ids"].as_array().expect("a list").len(), 3);
    assert_eq!(run("-n 1 -s 5 --seed 6 --ignore-eos --ignore-eos")["seed"], 6);
    let twice =
        taipan(["generate", "--json", "-n", "1", "-p", "a b c", "-p", "Once", "--device", "gpu", "--device", "cpu"]);
    let json = twice.ok().json();
    assert_eq!((&json["prompt"], &json["device"]), (&"Once".into(), &"CPU".into()));
    // Every stop string counts.
    let text = run("-n 30")["text"].as_str().expect("text").to_owned();
    let word = text.split_whitespace().nth(5).expect("there are words");
    for stops in [format!("-r {word} -r QQQ"), format!("-r QQQ -r {word}")] {
        assert_eq!(run(&format!("-n 30 {stops}"))["stop"], word);
    }
}

#[test]
fn errors_name_the_file_with_its_folder_and_what_to_do() {
    let folder = Folder::new();
    let at = |name: &str| folder.at(&format!("m/{name}"));
    let model = || {
        let _ = std::fs::remove_dir_all(folder.at("m"));
        write_tiny(folder.at("m").as_ref());
        folder.at("m")
    };
    let logits = |dir: &str| on_cpu(&format!("logits -m {dir} --ids 1 -o {}", folder.at("out")));
    let info = |dir: &str| on_cpu(&format!("info {dir}"));
    let replace = |name: &str, bytes: &str| {
        let dir = model();
        std::fs::write(at(name), bytes).expect("the test folder is writable");
        dir
    };
    type Way<'a> = &'a dyn Fn(&str) -> crate::common::Run;
    for run in [&logits as Way<'_>, &info] {
        let dir = replace("config.json", "{\"model_type\": ");
        run(&dir).fails(1, &[&format!("{}: not valid JSON", at("config.json")), "hint: "]);
        let dir = replace("config.json", "{\"model_type\": \"taipan\"}");
        run(&dir).fails(1, &[&format!("{}: `vocab_size` is missing", at("config.json")), "hint: "]);
        let dir = replace("model.safetensors", "12345678{}");
        run(&dir).fails(1, &[&format!("{}: the header", at("model.safetensors")), "hint: "]);
        for name in ["config.json", "model.safetensors"] {
            let dir = model();
            std::fs::remove_file(at(name)).expect("it is there");
            std::fs::create_dir(at(name)).expect("the test folder is writable");
            run(&dir).fails(1, &[&at(name), "hint: "]);
        }
        let file = format!("{}/config.json", model());
        run(&file).fails(1, &[&file, "hint: name the folder that holds config.json"]);
    }
    let dir = replace("tokenizer.json", "{}");
    logits(&dir).fails(1, &[&at("tokenizer.json"), "hint: "]);
    let dir = model();
    std::fs::create_dir(at("tokenizer.json")).expect("the test folder is writable");
    logits(&dir).fails(1, &[&at("tokenizer.json"), "hint: this is a folder"]);
    let dir = model();
    on_cpu(&format!("logits -m {dir} --ids 1 -o {dir}")).fails(1, &["cannot write", &dir, "hint: this is a folder"]);
    on_cpu(&format!("generate -f {dir}")).fails(1, &["cannot read", &dir, "hint: this is a folder"]);
}
