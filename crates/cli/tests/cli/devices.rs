//! Choosing a device, `devices` and `info`.

use crate::common::{Folder, command, on_cpu, read_model_file, taipan, tiny_config, write_model, write_tiny};

/// Adapters of this interface exist on other systems only.
const ELSEWHERE: &str = if cfg!(target_os = "macos") { "dx12" } else { "metal" };

#[test]
fn a_demanded_device_that_is_not_there_has_its_own_exit_code() {
    for device in ["99", "No Such Adapter"] {
        for command in [&["devices"][..], &["info"], &["generate", "a"], &["validate", "--kernels"]] {
            let run = taipan(command.iter().copied().chain(["--device", device]));
            run.fails(3, &["no suitable GPU", "hint: `taipan devices`"]);
        }
    }
    taipan(["generate", "a", "--device", "gpu", "--backend", ELSEWHERE]).fails(3, &["no suitable GPU"]);
}

#[test]
fn auto_says_in_one_line_that_it_takes_the_cpu() {
    let run = taipan(["generate", "Once", "-n", "1", "--backend", ELSEWHERE]).ok();
    assert_eq!(run.stderr, "no GPU found; running on the CPU\n");
}

/// With a real GPU there is nothing to say; with a software adapter alone it is named.
#[test]
fn auto_names_the_software_adapter_it_does_not_take() {
    let folder = Folder::new();
    let listed = taipan(["devices", "--json"]).ok().json();
    // Mesa wants this variable, and says so if it is not set.
    let output = command()
        .args(["generate", "Once", "-n", "1"])
        .env("XDG_RUNTIME_DIR", folder.path())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    if listed["auto"].is_null() {
        let name = listed["adapters"][0]["name"].as_str().expect("these tests need an adapter");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(name) && stderr.contains("CPU"), "{stderr}");
    } else {
        assert_eq!(stderr, "");
    }
}

#[test]
fn features_that_nothing_uses_are_not_in_the_table() {
    let table = taipan(["devices"]).ok().stdout;
    for feature in ["f16", "subgroups", "timestamps"] {
        assert!(!table.contains(feature), "{table}");
    }
    assert!(taipan(["devices", "--help"]).ok().stdout.contains("for information"));
}

#[test]
fn a_table_of_tunings_is_read_and_what_it_may_not_say_is_refused() {
    let folder = Folder::new();
    let path = folder.path().join("tuning.json");
    let with = |tuning: &str, args: &[&str]| {
        std::fs::write(&path, format!("{{\"entries\": [{tuning}]}}")).expect("a file");
        taipan(args.iter().copied().chain(["--tuning", path.to_str().expect("UTF-8")]))
    };
    for (entry, said) in [
        (r#"{"device": {}, "tuning": {"colour": 1}}"#, "tuning.json: there is no tunable `colour`; there are: matvec"),
        (
            r#"{"device": {}, "tuning": {"matvec_eight_from": 3}}"#,
            "tuning.json: `matvec_eight_from` is 3; allowed: 1, ",
        ),
        (r#"{"device": {"name": "x"}, "tuning": {}}"#, "unknown field `name`"),
    ] {
        for args in [&["generate", "a", "--device", "cpu"][..], &["bench", "--kernels"]] {
            with(entry, args).fails(1, &[said, "hint: `taipan bench --tune`"]);
        }
    }
    let generate = ["generate", "Once", "-n", "3", "--temp", "0", "--device", "gpu"];
    let tuned = with(r#"{"device": {}, "tuning": {"matvec_eight_from": 1}}"#, &generate).ok();
    let other = with(r#"{"device": {"vendor": "0xabc"}, "tuning": {}}"#, &generate).ok();
    assert_eq!(tuned.stdout, other.stdout);
    let note = "--tuning: the table has no entry for ";
    assert!(other.stderr.contains(note) && !tuned.stderr.contains(note), "{tuned:#?} {other:#?}");
    taipan(["devices", "--tuning", "nowhere.json"]).fails(1, &["cannot read nowhere.json"]);
}

#[test]
fn what_tune_finds_goes_into_a_table_beside_what_is_there() {
    let folder = Folder::new();
    let path = folder.path().join("tuning.json");
    let path = path.to_str().expect("UTF-8");
    let other =
        r#"{"entries": [{"device": {"vendor": "0xabc"}, "note": "kept", "tuning": {"matvec_eight_from": 512}}]}"#;
    std::fs::write(path, other).expect("a file");
    let tune = ["bench", "--device", "gpu", "--tune", "--random", "mamba2-4.8m", "-r", "1", "--into", path];
    // Once more replaces the entry.
    for _ in 0..2 {
        assert_eq!(taipan(tune).ok().stdout, "");
    }
    let table: serde_json::Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    let entries = table["entries"].as_array().expect("a list");
    assert_eq!((entries.len(), &entries[0]["note"]), (2, &"kept".into()), "{table}");
    assert!(entries[1]["tuning"]["matvec_eight_from"] != serde_json::Value::Null, "{table}");
    let run = taipan(["generate", "Once", "-n", "1", "--device", "gpu", "--tuning", path]).ok();
    assert!(!run.stderr.contains("no entry"), "{run:#?}");
    std::fs::write(path, "{}").expect("a file");
    taipan(tune).fails(1, &["tuning.json: not a tuning table: missing field `entries`"]);
    assert_eq!(std::fs::read(path).expect("a file"), b"{}");
}

#[test]
fn gl_is_looked_at_only_when_asked_for() {
    let json = taipan(["devices", "--json"]).ok().json();
    let adapters = json["adapters"].as_array().expect("a list");
    assert!(adapters.iter().all(|a| a["backend"] != "gl"), "{json}");
    taipan(["devices", "--json", "--backend", "gl"]).ok();
}

#[test]
fn the_cpu_is_silent() {
    assert_eq!(on_cpu("generate Once -n 1").ok().stderr, "");
}

#[test]
fn devices_are_listed() {
    let run = taipan(["devices", "--json"]).ok();
    let json = run.json();
    let adapters = json["adapters"].as_array().expect("a list");
    assert!(!adapters.is_empty(), "these tests need an adapter; a software one will do");
    for adapter in adapters {
        for key in ["name", "backend", "kind", "features", "limits", "software"] {
            assert!(!adapter[key].is_null(), "{key}: {adapter}");
        }
        assert_eq!(json["auto"] == adapter["index"], adapter["auto"] == true, "{json}");
    }
    let table = taipan(["devices"]).ok().stdout;
    assert!(table.contains(adapters[0]["name"].as_str().expect("text")), "{table}");
    assert!(table.contains("auto takes "), "{table}");
}

#[test]
fn devices_lists_only_what_was_asked_for() {
    let count = |args: &[&str]| {
        let run = taipan(["devices", "--json"].iter().chain(args)).ok();
        run.json()["adapters"].as_array().expect("a list").len()
    };
    assert_eq!(count(&["--device", "cpu"]), 0);
    assert_eq!(count(&["--device", "gpu"]), 1);
    assert_eq!(count(&["--device", "0"]), 1);
    assert_eq!(count(&["--backend", ELSEWHERE]), 0);
}

#[test]
fn an_adapter_is_found_by_part_of_its_name() {
    let json = taipan(["devices", "--json", "--device", "0"]).ok().json();
    let name = json["adapters"][0]["name"].as_str().expect("text").to_uppercase();
    let part: String = name.chars().take(5).collect();
    let found = taipan(["devices", "--json", "--device", &part]).ok().json();
    assert_eq!(found["adapters"][0]["name"], json["adapters"][0]["name"]);
}

#[test]
fn info_describes_the_embedded_model() {
    let json = on_cpu("info --json").ok().json();
    let parameters = json["parameters"].as_u64().expect("a number");
    let stored: u64 = json["stored_bytes"].as_object().expect("an object").values().filter_map(|n| n.as_u64()).sum();
    let file = read_model_file("model.safetensors").len() as u64;
    assert!(stored < file && file - stored < 100_000, "{stored} of {file} bytes");
    let sizes = json["sizes"].as_array().expect("a list");
    assert_eq!(sizes.iter().filter(|s| s["stored"] == true).count(), 1);
    for size in sizes {
        // Besides the parameters there are vectors that stay f32, and rows that fill up panels.
        let held = size["weight_bytes"].as_u64().expect("a number");
        let eighths = match size["dtype"].as_str().expect("text") {
            "f32" => 64,
            "f16" | "bf16" => 32,
            "q8" => 17,
            "q4" => 9,
            other => panic!("{other}"),
        };
        let least = parameters * eighths / 16;
        assert!(held >= least && held - least < parameters / 5, "{held} for {parameters}: {size}");
        assert!(["yes", "no", "unknown"].contains(&size["fits"].as_str().expect("text")), "{size}");
        assert!(!size["limit"].as_str().expect("text").is_empty());
    }
    let table = on_cpu("info").ok().stdout;
    assert!(table.contains("12 mamba2 + 2 selective_attention"), "{table}");
}

#[test]
fn info_says_what_a_run_says() {
    let dtypes = ["f32", "f16", "bf16", "q8", "q4"].into_iter().enumerate();
    for (device, (row, dtype)) in ["cpu", "gpu"].into_iter().flat_map(|device| dtypes.clone().map(move |d| (device, d)))
    {
        let info = taipan(["info", "--json", "--device", device]).ok().json();
        // The second token is the first that a whole step makes.
        let args = ["generate", "--json", "-n", "3", "--device", device, "--dtype", dtype, "Once"];
        let run = taipan(args).ok().json()["timings"].clone();
        assert_eq!(info["sizes"][row]["dtype"], dtype);
        assert_eq!(info["sizes"][row]["weight_bytes"], run["weight_bytes"], "{device} {dtype}");
        for key in ["state_bytes", "scratch_bytes"] {
            assert_eq!(info[key], run[key], "{device} {dtype} {key}");
        }
        assert_eq!(info["decode_dispatches"], run["dispatches_per_token"], "{device} {dtype}");
    }
}

#[test]
fn info_judges_by_the_adapter() {
    let json = taipan(["info", "--json", "--device", "gpu"]).ok().json();
    assert_eq!(json["sizes"][0]["fits"], "yes", "{json}");
}

#[test]
fn info_says_no_where_a_buffer_is_too_large() {
    let folder = Folder::new();
    let mut config = tiny_config();
    config["selective_attention"]["window"] = (1u64 << 20).into();
    config["selective_attention"]["num_heads"] = 8.into();
    write_model(folder.path(), &config);
    let dir = folder.path().to_str().expect("UTF-8");
    let json = taipan(["info", dir, "--json", "--device", "gpu"]).ok().json();
    let limits = taipan(["devices", "--json", "--device", "gpu"]).ok().json()["adapters"][0]["limits"].clone();
    let limit = |key: &str| limits[key].as_u64().expect("a number");
    let limit = limit("storage_binding_bytes").min(limit("buffer_bytes"));
    let needed = json["largest_buffer"]["bytes"].as_u64().expect("a number");
    // A window of 2^20 tokens, 2 · 8 heads of 8 floats.
    assert_eq!(needed, 1 << 29, "{json}");
    assert_eq!(json["sizes"][0]["fits"] == "no", needed > limit, "{json}");
    let run = taipan(["logits", "-m", dir, "--ids", "1", "-o", &folder.at("out"), "--device", "gpu"]);
    if needed > limit {
        run.fails(1, &["maxStorageBufferBindingSize", "hint: "]);
    }
}

#[test]
fn info_reads_no_weight() {
    let folder = Folder::new();
    write_tiny(folder.path());
    let weights = std::fs::read(folder.at("model.safetensors")).expect("it was written");
    let mut broken = weights.clone();
    let at = broken.len() - 4;
    broken[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    folder.write("model.safetensors", broken);
    let dir = folder.path().to_str().expect("UTF-8");
    on_cpu(&format!("info {dir}")).ok();
    on_cpu(&format!("logits -m {dir} --ids 1 -o {}", folder.at("out"))).fails(1, &["NaN", "hint: "]);
}

#[test]
fn info_refuses_weights_of_another_model() {
    let folder = Folder::new();
    write_tiny(folder.path());
    let mut config = tiny_config();
    config["vocab_size"] = 51.into();
    folder.write("config.json", config.to_string());
    let dir = folder.path().to_str().expect("UTF-8");
    on_cpu(&format!("info {dir}")).fails(1, &["embedding.weight", "[50, 16]", "[51, 16]"]);
}
