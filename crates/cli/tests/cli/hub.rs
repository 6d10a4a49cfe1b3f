//! Models from a hub, here one of our own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Folder, Run, command, model_file, read_model_file, tiny_config, write_tiny};
use crate::gguf_file::GgufFile;
use crate::hub_server::{COMMIT, Server};

const NAME: &str = "org/model";

/// A hub with one model, and a cache.
struct World {
    server: Server,
    cache: Folder,
}

impl World {
    /// The model is the one of this folder.
    fn of(dir: &Path) -> World {
        let server = Server::start(NAME);
        for entry in std::fs::read_dir(dir).expect("it exists") {
            let path = entry.expect("it is readable").path();
            let name = path.file_name().and_then(|n| n.to_str()).expect("UTF-8").to_owned();
            let bytes = std::fs::read(&path).expect("it is readable");
            let mut state = server.state();
            if name.ends_with(".safetensors") || name.ends_with(".gguf") {
                state.large.insert(name, bytes)
            } else {
                state.small.insert(name, bytes)
            };
        }
        World { server, cache: Folder::new() }
    }

    /// A model that runs in no time, without a tokenizer.
    fn tiny() -> World {
        let folder = Folder::new();
        write_tiny(folder.path());
        World::of(folder.path())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command();
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HF_") || name.ends_with("_proxy")) {
            command.env_remove(name);
        }
        command.env("HF_ENDPOINT", &self.server.endpoint).env("HF_HOME", self.cache.path()).env("NO_PROXY", "*");
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        finish(&mut self.command(args))
    }

    fn snapshot(&self) -> String {
        self.cache.at(&format!("hub/models--org--model/snapshots/{COMMIT}"))
    }
}

fn finish(command: &mut Command) -> Run {
    let output = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    Run { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
}

#[test]
fn a_model_is_pulled_listed_used_and_removed() {
    let world = World::of(model_file("").as_path());
    assert!(world.run(&["ls"]).ok().stderr.contains("no models in "));
    let pulled = world.run(&["pull", NAME, "--device", "cpu"]).ok();
    assert_eq!(pulled.stdout, format!("{}\n", world.snapshot()));
    assert!(pulled.stderr.contains("org/model: 3 files, ") && !pulled.stderr.contains("note"), "{}", pulled.stderr);
    world.server.seen();

    let greedy = ["--device", "cpu", "--temp", "0", "-n", "8", "Once upon a time"];
    let named = world.run(&[&["generate", "-m", NAME], &greedy[..]].concat()).ok();
    assert_eq!(named.stdout, world.run(&[&["generate"], &greedy[..]].concat()).ok().stdout);
    let info = world.run(&["info", NAME, "--json", "--device", "cpu"]).ok().json();
    assert_eq!((&info["model"], &info["architecture"]), (&NAME.into(), &"taipan".into()));
    let list = world.run(&["ls"]).ok().stdout;
    let words: Vec<_> = list.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!((&words[..2], words.last()), (&[NAME, "taipan"][..], Some(&"ready")));
    let weights = read_model_file("model.safetensors").len();
    let json = world.run(&["ls", "--json"]).ok().json();
    assert_eq!(json["models"][0]["path"], world.snapshot());
    assert!(json["models"][0]["bytes"].as_u64() > Some(weights as u64));
    assert_eq!(world.server.seen(), [], "what is in the cache needs no network");

    let again = world.run(&["pull", NAME, "--json", "--device", "cpu"]).ok().json();
    assert_eq!((&again["downloaded_bytes"], &again["commit"]), (&0.into(), &COMMIT.into()));
    world.run(&["rm", NAME]).fails(2, &["org/model was not removed", "hint: --yes"]);
    let removed = world.run(&["rm", NAME, "--yes", "--json"]).ok().json();
    assert!(removed["freed_bytes"].as_u64() > Some(weights as u64));
    world.run(&["rm", NAME, "--yes"]).fails(1, &["org/model is not in the cache", "hint: "]);
    assert!(!Path::new(&world.snapshot()).exists());
}

#[test]
fn nothing_is_downloaded_unasked() {
    let world = World::tiny();
    let out = world.cache.at("logits");
    let args = ["logits", "-m", NAME, "--ids", "1,2", "--device", "cpu", "-o", &out];
    world.run(&args).fails(1, &["org/model is no folder, and not in the cache", "hint: `taipan pull org/model`"]);
    assert_eq!(world.server.seen(), []);
    world.run(&[&args[..], &["--yes"]].concat()).ok();
    assert!(!world.server.seen().is_empty());
    assert!(world.run(&["pull", NAME, "--device", "cpu"]).ok().stderr.contains("has no tokenizer.json"));
    world.server.seen();
    std::fs::remove_file(&out).expect("it was written");
    world.run(&args).ok();
    assert_eq!(world.server.seen(), []);
    // A folder of that name goes first.
    let folder = Folder::new();
    std::fs::create_dir_all(folder.at(NAME)).expect("the test folder is writable");
    finish(world.command(&args).current_dir(folder.path()))
        .fails(1, &["org/model: there is no model.safetensors", "hint: "]);
}

#[test]
fn every_command_takes_a_name() {
    let world = World::tiny();
    let copy = world.cache.at("copy");
    for args in [
        &["quantize", NAME, &copy, "--dtype", "q8"][..],
        &["bench", "-m", NAME, "-p", "2", "-n", "0", "-r", "1", "--min-time", "0", "--device", "cpu"],
        &["bench", "--vs", "-m org/model", "-p", "2", "-n", "0", "-r", "1", "--min-time", "0", "--device", "cpu"],
        &["perplexity", "-m", NAME, "-f", "none", "--device", "cpu"],
        &["generate", "-m", NAME, "--device", "cpu", "a"],
    ] {
        world.run(args).fails(1, &["org/model is no folder, and not in the cache"]);
    }
    world.run(&["quantize", NAME, &copy, "--dtype", "q8", "--yes"]).ok();
    assert!(world.run(&["info", &copy, "--device", "cpu"]).ok().stdout.contains("q8 (stored)"));
    let bench =
        ["bench", "-m", NAME, "-p", "2", "-n", "0", "-r", "1", "--min-time", "0", "--device", "cpu", "-o", "json"];
    world.run(&bench).ok();
    let both = world.run(&[&bench[..], &["--vs", "-m org/model --dtype f16"]].concat()).ok();
    assert!(both.stdout.contains(r#""options": "-m org/model --dtype f16""#), "{}", both.stdout);
}

#[test]
fn the_original_layout_in_several_files_of_pytorch_is_pulled_listed_and_used() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/family/seed-1/mamba2mlp_ss");
    let world = World::of(dir.as_ref());
    world.run(&["pull", NAME, "--device", "cpu"]).ok();
    let list = world.run(&["ls"]).ok().stdout;
    let words: Vec<_> = list.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!((&words[..2], words.last()), (&[NAME, "state-spaces"][..], Some(&"ready")));
    let logits = |model: &str, name: &str| {
        let out = world.cache.at(name);
        world.run(&["logits", "-m", model, "--ids", "1,2,3", "--device", "cpu", "-o", &out]).ok();
        std::fs::read(out).expect("it was written")
    };
    assert_eq!(logits(NAME, "a"), logits(dir, "b"));
}

#[test]
fn what_has_no_room_on_the_disk_is_not_downloaded() {
    let world = World::tiny();
    world.server.state().claimed.insert("model.safetensors".to_owned(), 1 << 62);
    let out = world.cache.at("logits");
    for args in [&["pull", NAME][..], &["logits", "-m", NAME, "--ids", "1", "-o", &out, "--yes", "--device", "cpu"]] {
        world.run(args).fails(1, &["bytes of room, and 4611686018427", "hint: make room"]);
        assert!(world.cache.list().is_empty(), "{:?}", world.cache.list());
    }
}

#[test]
fn a_gguf_file_is_a_model_too() {
    let folder = Folder::new();
    let file = |name: &str, vocab| folder.write(name, GgufFile::mamba2(vocab, 32).bytes());
    file("m-a.gguf", 40);
    let world = World::of(folder.path());
    let out = world.cache.at("out");
    let logits =
        |model: &str| world.run(&["logits", "-m", model, "--ids", "1,2", "--device", "cpu", "-o", &out, "--yes"]);
    let info = world.run(&["info", NAME, "--json", "--device", "cpu"]).ok().json();
    assert_eq!((&info["architecture"], &info["config"]["vocab_size"]), (&"mamba2".into(), &40.into()));
    assert!(world.cache.list().is_empty(), "{:?}", world.cache.list());
    assert!(!logits(NAME).ok().stderr.contains("tokenizer.json"));
    let path = format!("{}/m-a.gguf", world.snapshot());
    assert_eq!(world.run(&["pull", NAME, "--device", "cpu"]).ok().stdout, format!("{path}\n"));

    // Of several one must be named, also where only one is here.
    let other = GgufFile::mamba2(50, 32).bytes();
    world.server.state().large.insert("m-b.gguf".to_owned(), other);
    let said =
        ["org/model has several GGUF files", "m-a.gguf, m-b.gguf", "hint: name one of them, as in org/model:m-a.gguf"];
    world.run(&["pull", NAME, "--device", "cpu"]).fails(1, &said);
    world.run(&["pull", NAME, "--file", "m-c.gguf"]).fails(1, &["org/model has no file m-c.gguf: m-a.gguf, m-b.gguf"]);
    world.run(&["pull", NAME, "--file", "../m"]).fails(2, &["is not the name of a model on the hub"]);
    world.run(&["pull", NAME, "--file", "m-b.gguf", "--device", "cpu"]).ok();
    logits("org/model:m-b.gguf").ok();
    logits(NAME).fails(1, &["there are several GGUF files: m-a.gguf, m-b.gguf", "hint: name one of these files"]);
    let list = world.run(&["ls", "--json"]).ok().json();
    let names: Vec<_> = list["models"].as_array().expect("a list").iter().map(|m| (&m["model"], &m["state"])).collect();
    let ready = "ready".into();
    assert_eq!(names, [(&"org/model:m-a.gguf".into(), &ready), (&"org/model:m-b.gguf".into(), &ready)]);
    world.run(&["rm", "org/model:m-a.gguf", "--yes"]).fails(2, &["m-a.gguf cannot be removed by itself"]);
    world.run(&["rm", NAME, "--yes"]).ok();

    // One that does not run is not downloaded.
    let mut bad = GgufFile::mamba2(40, 32);
    bad.text("general.architecture", "llama");
    world.server.state().large.insert("m-a.gguf".to_owned(), bad.bytes());
    world.run(&["pull", "org/model:m-a.gguf", "--device", "cpu"]).fails(1, &["llama", "hint: "]);
    assert!(!Path::new(&world.snapshot()).exists());
}

#[test]
fn a_model_is_described_before_it_is_here() {
    let world = World::tiny();
    let info = world.run(&["info", NAME, "--json", "--device", "cpu"]).ok().json();
    world.server.seen();
    let folder = Folder::new();
    write_tiny(folder.path());
    let here = world.run(&["info", &folder.at(""), "--json", "--device", "cpu"]).ok().json();
    // How much memory is free is another matter from one moment to the next.
    let totals = |info: &Value| -> Vec<_> {
        let sizes = info["sizes"].as_array().expect("a list");
        sizes.iter().map(|size| (size["dtype"].clone(), size["total_bytes"].clone())).collect()
    };
    assert_eq!((totals(&info), &info["stored_bytes"]), (totals(&here), &here["stored_bytes"]));
    assert_eq!(totals(&info).len(), 5);
    assert!(world.cache.list().is_empty(), "{:?}", world.cache.list());
}

#[test]
fn what_does_not_run_is_not_downloaded() {
    let world = World::tiny();
    let said = |config: &str, said: &[&str]| {
        world.server.state().small.insert("config.json".to_owned(), config.as_bytes().to_vec());
        world.run(&["pull", NAME, "--device", "cpu"]).fails(1, said);
        assert!(world.cache.list().is_empty(), "{:?}", world.cache.list());
    };
    said(r#"{"model_type": "llama"}"#, &["org/model: ", "llama", "hint: "]);
    let mut config = tiny_config();
    config["vocab_size"] = 51.into();
    said(&config.to_string(), &["org/model: ", "embedding", "hint: "]);
    world.server.state().small.remove("config.json");
    world.run(&["pull", NAME]).fails(1, &["org/model has no config.json", "hint: "]);
}

#[test]
fn what_does_not_fit_is_told_before_the_work_begins() {
    // The keys and values of a text of so many tokens are more than any machine of today holds.
    let bamba = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/family/seed-1/bamba");
    let world = World::of(bamba.as_ref());
    let out = world.cache.at("out");
    let run = |model: &str, more: &[&str]| {
        let args = ["logits", "-m", model, "--ids", "1", "--device", "cpu", "-o", &out, "--ctx", "1000000000000"];
        world.run(&[&args[..], more].concat())
    };
    let said = "TiB with matrices in bf16: main memory is ";
    let hint = "hint: a smaller --ctx or a smaller model needs less; --yes tries it as it is";
    run(bamba, &[]).fails(1, &["bamba needs ", said, hint]);
    let tried = run(bamba, &["--yes"]).ok().stderr;
    assert!(tried.contains("note: ") && tried.contains(said), "{tried}");
    let info = world.run(&["info", bamba, "--device", "cpu", "--ctx", "1000000000000"]).ok().stdout;
    assert_eq!(info.matches(" no    main memory is ").count(), 5, "{info}");
    // Of a model of the hub that is told before it is downloaded.
    let tried = run(NAME, &["--yes"]).ok().stderr;
    assert_eq!(tried.matches(said).count(), 2, "{tried}");
    assert!(tried.contains("note: org/model needs "), "{tried}");
    assert!(Path::new(&world.snapshot()).exists());
}

#[test]
fn a_failure_of_the_hub_is_an_object_too() {
    let world = World::tiny();
    for (args, code) in [
        (["pull", "org/other", "--json"], "hub-not-found"),
        (["pull", "org/model@other", "--json"], "hub-not-found"),
        (["info", "org/other", "--json"], "hub-not-found"),
        (["rm", "org/other", "--json"], "hub-not-cached"),
    ] {
        let run = world.run(&args).fails(1, &["hint: "]);
        assert_eq!(run.json()["error"]["code"], code, "{run:#?}");
    }
    world.run(&["pull", "nonsense"]).fails(2, &["`nonsense` is not the name of a model", "org/name@revision"]);
    let mut offline = world.command(&["pull", NAME, "--json"]);
    let run = finish(offline.env("HF_HUB_OFFLINE", "1")).fails(1, &["HF_HUB_OFFLINE forbids the network"]);
    assert_eq!(run.json()["error"]["code"], "hub-offline");
    world.server.state().private = true;
    let run = finish(world.command(&["pull", NAME]).env("HF_TOKEN", "hf_wrong")).fails(1, &["denies access", "token"]);
    assert!(!run.stderr.contains("hf_wrong"), "{run:#?}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_came() {
    let world = World::of(model_file("").as_path());
    world.server.state().stalls = Some(3_000_000);
    let child = world.command(&["pull", NAME, "--device", "cpu"]).spawn().expect("the program starts");
    let blobs = world.cache.path().join("hub/models--org--model/blobs");
    let have = || -> u64 {
        let files = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
        let partial = files.filter(|file| file.path().extension().is_some_and(|e| e == "incomplete"));
        partial.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    };
    let start = Instant::now();
    while have() < 3_000_000 {
        assert!(start.elapsed() < Duration::from_secs(60), "{} bytes came", have());
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists");
    assert!(status.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(130), &b""[..]));
    world.server.state().stalls = None;
    let json = world.run(&["pull", NAME, "--json", "--device", "cpu"]).ok().json();
    let (all, came) = (json["bytes"].as_u64().expect("a number"), json["downloaded_bytes"].as_u64().expect("a number"));
    assert!(came + 3_000_000 <= all, "{json}");
}

/// What somebody at a terminal sees who types this.
#[cfg(target_os = "linux")]
fn at_terminal(world: &World, args: &str, typed: &[u8]) -> String {
    use std::io::Write;
    let line = format!("{} {args}", env!("CARGO_BIN_EXE_taipan"));
    let mut command = world.command(&[]);
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let _ = command.stdin(Stdio::null());
    let mut child = script.spawn().expect("util-linux has `script`");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(typed).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[cfg(target_os = "linux")]
#[test]
fn somebody_at_the_terminal_is_asked() {
    let world = World::tiny();
    let args = format!("logits -m {NAME} --ids 1,2 --device cpu -o {}", world.cache.at("out"));
    let seen = at_terminal(&world, &args, b"n\n");
    assert!(seen.contains("org/model is not in the cache. Download ") && seen.contains("[y/N]"), "{seen}");
    assert!(seen.contains("error: org/model is no folder"), "{seen}");
    assert!(!Path::new(&world.snapshot()).exists());
    at_terminal(&world, &args, b"y\n");
    assert!(Path::new(&world.snapshot()).exists() && Path::new(&world.cache.at("out")).exists());
    assert!(at_terminal(&world, &format!("rm {NAME}"), b"\n").contains("was not removed"));
    assert!(at_terminal(&world, &format!("rm {NAME}"), b"yes\n").contains("org/model removed"));
    assert!(!Path::new(&world.snapshot()).exists());
}

#[test]
fn other_models_of_the_cache_are_shown_as_such() {
    let world = World::tiny();
    let commit = "e".repeat(40);
    let other = format!("hub/models--org--other/snapshots/{commit}");
    std::fs::create_dir_all(world.cache.at(&other)).expect("the test folder is writable");
    world.cache.write(&format!("{other}/config.json"), json!({ "model_type": "whisper" }).to_string());
    world.cache.write(&format!("{other}/model.safetensors"), "x");
    let half = format!("hub/models--org--half/snapshots/{commit}");
    std::fs::create_dir_all(world.cache.at(&half)).expect("the test folder is writable");
    world.cache.write(&format!("{half}/config.json"), tiny_config().to_string());
    let list = world.run(&["ls", "--json"]).ok().json();
    let states: Vec<_> =
        list["models"].as_array().expect("a list").iter().map(|m| (&m["model"], &m["state"])).collect();
    let name = |name: &str| format!("org/{name}@{commit}").into();
    assert_eq!(states, [(&name("half"), &"incomplete".into()), (&name("other"), &"not supported".into())]);
}
