//! Conversations.

use serde_json::{Value, json};

use crate::common::{Folder, Run, taipan, taipan_reading};

/// A model whose template writes answers as the model did, as most do.
fn chat_model() -> Folder {
    let folder = crate::chat::chat_model();
    folder.write(
        "chat_template.jinja",
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
         {% if messages[-1].content == 'secret' %}{{ raise_exception('No secrets.') }}{% endif %}assistant: ",
    );
    folder
}

/// What a conversation prints, a value a line, and how it ended.
fn talk(model: &[&str], script: &str) -> (Vec<Value>, Run) {
    let args = [&["chat", "--device", "cpu", "--temp", "0", "--json"], model].concat();
    let run = taipan_reading(args, script.as_bytes());
    let values = serde_json::Deserializer::from_str(&run.stdout).into_iter();
    (values.map(|v| v.expect("it is JSON")).collect(), run)
}

/// One that succeeds.
fn replies(model: &[&str], script: &str) -> Vec<Value> {
    let (values, run) = talk(model, script);
    run.ok();
    values
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn ids(reply: &Value) -> u64 {
    reply["ids"].as_array().expect("a list").len() as u64
}

#[test]
fn nothing_is_read_twice() {
    let folder = chat_model();
    let model = ["-n", "9", "-m", folder.path().to_str().expect("UTF-8")];
    let lines = replies(&model, "Who are you?\nWhy?\nAnd then?\n/stats\n");
    let [first, second, third, stats] = &lines[..] else { panic!("{lines:#?}") };
    // What a turn reads is what the template adds, and no more.
    let tokens = |text: &str| {
        let run = taipan(["generate", "--device", "cpu", "--json", "-n", "1", "-m", model[3], text]).ok().json();
        // Without the BOS that the tokenizer puts in front.
        count(&run["timings"]["prompt_tokens"]) - 1
    };
    assert_eq!(count(&first["read"]), 1 + tokens("user: Who are you?\nassistant: "));
    assert_eq!(count(&second["read"]), tokens("\nuser: Why?\nassistant: "));
    assert_eq!(count(&third["read"]), tokens("\nuser: And then?\nassistant: "));
    let mut position = 0;
    for reply in [first, second, third] {
        position += count(&reply["read"]) + ids(reply);
        assert_eq!(count(&reply["position"]), position);
    }
    assert_eq!((count(&stats["tokens"]), count(&stats["turns"])), (position, 3));
    assert_eq!(count(&stats["read"]) + count(&stats["written"]), position);
}

#[test]
fn the_end_of_an_answer_is_read_once() {
    let folder = chat_model();
    let model = ["-m", folder.path().to_str().expect("UTF-8")];
    let first = &replies(&[&model[..], &["-n", "1"]].concat(), "One\n")[0];
    // From now on this token is what ends an answer, and the template writes it behind every one.
    let end = first["text"].as_str().expect("text");
    folder.write("generation_config.json", json!({ "eos_token_id": first["ids"] }).to_string());
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}END{% endif %}\
                    {{ '\\n' }}{% endfor %}assistant: ";
    folder.write("chat_template.jinja", template.replace("END", end));
    let lines = replies(&model, "One\nTwo\n");
    assert_eq!((&lines[0]["finish"], &lines[0]["text"], ids(&lines[0])), (&json!("eos"), &json!(""), 1));
    let args = ["generate", "--device", "cpu", "--json", "-n", "1", "-m", model[1]];
    let text = format!("{end}\nuser: Two\nassistant: ");
    let whole = taipan([&args[..], &[&text]].concat()).ok().json();
    // Without the BOS, and without the end that the model wrote itself.
    assert_eq!(count(&lines[1]["read"]), count(&whole["timings"]["prompt_tokens"]) - 2);
}

#[test]
fn a_model_without_a_template_continues_what_is_typed() {
    let start = "Once upon a time, there was a little dog named Max.";
    let (lines, run) = talk(&["-n", "6"], &format!("{start}\nThen he saw a big cat.\n"));
    assert!(run.ok().stderr.contains("no chat template: it continues the text"));
    let text = |reply: &Value| reply["text"].as_str().expect("text").to_owned();
    let generate = |prompt: &str| {
        let args = ["generate", "--device", "cpu", "--temp", "0", "-n", "6", "--json", prompt];
        taipan(args).ok().json()
    };
    assert_eq!(lines[0]["ids"], generate(start)["ids"]);
    let whole = format!("{start}{} Then he saw a big cat.", text(&lines[0]));
    assert_eq!(lines[1]["ids"], generate(&whole)["ids"]);
    // As text the answers stand alone on standard output.
    let plain = taipan_reading(["chat", "--device", "cpu", "--temp", "0", "-n", "6"], start.as_bytes()).ok();
    assert_eq!(plain.stdout, format!("{}\n", text(&lines[0])));
    let system = taipan_reading(["chat", "--device", "cpu", "--system", "Be brief."], b"");
    system.fails(2, &["--system: the model has no chat template"]);
}

#[test]
fn what_is_taken_back_leaves_no_trace() {
    let folder = chat_model();
    let model = ["-n", "9", "-m", folder.path().to_str().expect("UTF-8")];
    let plain = replies(&model, "One\nTwo\n");
    for script in ["Other\n/undo\nOne\nTwo\n", "Other\n/edit One\nThree\n/edit Two\n", "One\nX\nY\n/undo\n/undo\nTwo\n"]
    {
        let lines = replies(&model, script);
        assert_eq!(lines.last().expect("a reply")["ids"], plain[1]["ids"], "{script}");
        assert_eq!(lines.last().expect("a reply")["position"], plain[1]["position"], "{script}");
    }
    // The state itself is that of then.
    let stats = replies(&model, "One\nOther\n/undo\n/stats\n");
    assert_eq!(stats[2]["tokens"], plain[0]["position"]);
    let story = "There was a cat. The cat was";
    let dog = format!("There was a big dog named Max. The dog Max was\n/undo\n{story}\n");
    let told = |script: &str| replies(&["-n", "12"], script).pop().expect("a reply")["ids"].clone();
    assert_eq!(told(&dog), told(&format!("{story}\n")));
    let cleared = replies(&model, "Other\n/clear\nOne\n");
    assert_eq!(cleared[1]["ids"], plain[0]["ids"]);
    let (_, run) = talk(&model, "/undo\nOne\n");
    run.fails(2, &["there is nothing to take back"]);
}

#[test]
fn a_conversation_goes_on_in_another_process() {
    let folder = chat_model();
    let model = ["-n", "9", "-m", folder.path().to_str().expect("UTF-8")];
    let file = folder.at("talk");
    let plain = replies(&model, &format!("One\nTwo\n/save {file}\nThree\n"));
    let lines = replies(&model, &format!("Other\n/load {file}\nThree\n/undo\n/undo\nTwo\n/stats\n"));
    assert_eq!(lines[1]["ids"], plain[2]["ids"]);
    assert_eq!((&lines[1]["read"], &lines[1]["position"]), (&plain[2]["read"], &plain[2]["position"]));
    // The state before a turn that was saved is made anew, of all that stood before it.
    assert_eq!(lines[2]["ids"], plain[1]["ids"]);
    let read = |reply: &Value| count(&reply["read"]);
    assert_eq!(read(&lines[3]), read(&lines[1]) + read(&lines[2]) + count(&plain[0]["position"]));

    let bytes = std::fs::read(&file).expect("it was written");
    let damaged = folder.write("damaged", &bytes[..bytes.len() - 1]);
    talk(&model, &format!("/load {damaged}\n")).1.fails(1, &[&damaged, "damaged or cut short", "hint: "]);
    talk(&model, &format!("/load {}\n", folder.at("none"))).1.fails(1, &["cannot read", "none"]);
    // Another model's.
    talk(&[], &format!("/load {file}\n")).1.fails(1, &["error: ", "hint: "]);
    // Nothing was said yet.
    let empty = folder.at("empty");
    assert_eq!(replies(&model, &format!("/save {empty}\n/load {empty}\nOne\n"))[0]["ids"], plain[0]["ids"]);
}

#[test]
fn a_fork_goes_its_own_way() {
    let folder = chat_model();
    let model = ["-n", "9", "-m", folder.path().to_str().expect("UTF-8")];
    let (lines, run) =
        talk(&model, "One\n/fork other\nTwo\nThree\n/fork main\nTwo\n/fork\n/fork other\n/undo\nThree\n");
    let run = run.ok();
    let [_, two, three, again, last] = &lines[..] else { panic!("{lines:#?}") };
    assert_eq!((&two["ids"], &two["position"]), (&again["ids"], &again["position"]));
    assert_eq!((&three["ids"], &three["position"]), (&last["ids"], &last["position"]));
    assert!(run.stderr.contains("main: 2 turns (here)\nother: 3 turns"), "{}", run.stderr);
}

#[test]
fn settings_count_from_the_next_answer_on() {
    let folder = chat_model();
    let model = ["-n", "9", "-m", folder.path().to_str().expect("UTF-8")];
    let lines =
        replies(&model, "/set n 3\nOne\n/set temp 5\n/set top-k 0\n/set top-p 1\n/set min-p 0\n/set seed 1\nTwo\n");
    assert_eq!((ids(&lines[0]), &lines[0]["finish"]), (3, &json!("limit")));
    assert_ne!(lines[1]["ids"], replies(&model, "/set n 3\nOne\nTwo\n")[1]["ids"]);
    let system = replies(&[&model[..], &["--system", "Be brief."]].concat(), "One\n");
    let set = replies(&model, "/set system Be brief.\nOne\n");
    assert_eq!((&set[0]["ids"], &set[0]["position"]), (&system[0]["ids"], &system[0]["position"]));
    for (script, said) in [
        ("/set temp hot\n", "/set temp: `hot` is not a number"),
        ("/set top-p 2\n", "--top-p: 2 is not allowed"),
        ("/set colour red\n", "there is no `colour`"),
        ("One\n/set system Be brief.\n", "the conversation has begun"),
        ("/dance\nOne\n", "/dance is no command"),
    ] {
        let (lines, run) = talk(&model, script);
        let stderr = run.expect(2).stderr;
        assert!(stderr.contains(said), "{script}: {stderr}");
        let answers = lines.iter().filter(|line| line["ids"].is_array()).count();
        assert_eq!(answers, usize::from(script.starts_with("One")), "{script}");
    }
}

#[test]
fn what_a_template_refuses_was_never_said() {
    let folder = chat_model();
    let model = ["-n", "9", "-m", folder.path().to_str().expect("UTF-8")];
    let (lines, run) = talk(&model, "One\nsecret\n");
    assert!(run.expect(1).stderr.contains("refuses these messages: No secrets."));
    assert_eq!(lines.iter().filter(|line| line["ids"].is_array()).count(), 1);
}

/// A template that writes answers otherwise than the model did.
#[test]
fn what_the_template_rewrites_is_read_anew() {
    let folder = chat_model();
    folder.write(
        "chat_template.jinja",
        "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}({% endif %}{{ m.content }}\n{% endfor %}assistant: ",
    );
    let model = ["-n", "9", "-m", folder.path().to_str().expect("UTF-8")];
    let lines = replies(&model, "One\nTwo\n/undo\nTwo\n/stats\n");
    let [one, two, again, stats] = &lines[..] else { panic!("{lines:#?}") };
    assert!(count(&two["read"]) > ids(one) + count(&one["read"]), "{two}");
    assert_eq!((&two["ids"], &two["read"], &two["position"]), (&again["ids"], &again["read"], &again["position"]));
    assert_eq!(stats["tokens"], two["position"]);
    assert_eq!(count(&two["position"]), count(&two["read"]) + ids(two));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};

    let folder = chat_model();
    let mut command = crate::common::command();
    command.args(["chat", "--device", "cpu", "--temp", "0", "-n", "-1", "-m", folder.path().to_str().expect("UTF-8")]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (mut stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut stdout = BufReader::new(stdout);
    stdin.write_all(b"One\n").expect("it reads");
    stdout.read_exact(&mut [0; 40]).expect("it answers without end");
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists");
    assert!(status.success());
    stdin.write_all(b"/set n 2\nTwo\n/stats\n").expect("it goes on");
    let mut rest = String::new();
    while !rest.contains("scratch") {
        assert!(stdout.read_line(&mut rest).expect("UTF-8") > 0, "{rest}");
    }
    assert!(rest.contains("2 turns"), "{rest}");
    // While it waits for a line, Ctrl-C ends it.
    std::thread::sleep(std::time::Duration::from_millis(200));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

/// What a terminal is told when a line begins.
#[cfg(target_os = "linux")]
const LINE: &str = "\u{1b}[?2004h";

/// Types into a conversation on a terminal, each text when a line begins; gives all that is seen.
#[cfg(target_os = "linux")]
fn type_into(model: &str, home: &Folder, texts: &[&str]) -> String {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    let line = format!("{} chat --device cpu --temp 0 -n 4 {model}", env!("CARGO_BIN_EXE_taipan"));
    // What is not understood would be waited for without end.
    let mut script = Command::new("timeout");
    script.args(["60", "script", "-qec", &line, "/dev/null"]).env("TERM", "xterm").env("XDG_STATE_HOME", home.path());
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("util-linux has `script`");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut seen, mut from) = (String::new(), 0);
    let mut buffer = [0; 4096];
    for text in texts {
        while !seen[from..].contains(LINE) {
            let count = stdout.read(&mut buffer).expect("it is readable");
            assert!(count > 0, "no line begins for {text:?} in {seen:?}");
            seen += &String::from_utf8_lossy(&buffer[..count]);
        }
        from += seen[from..].find(LINE).expect("it was seen") + LINE.len();
        stdin.write_all(text.as_bytes()).expect("it reads");
    }
    stdout.read_to_string(&mut seen).expect("UTF-8");
    assert!(child.wait().expect("it ends").success(), "{seen:?}");
    seen
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_lines_that_can_be_edited_and_brought_back() {
    let folder = chat_model();
    let (model, home) = (format!("-m {}", folder.path().display()), Folder::new());
    let file = folder.at("talk");
    let save = format!("/save {file}\r");
    let run = |texts: &[&str]| {
        let seen = type_into(&model, &home, texts);
        assert!(seen.contains("/help lists commands"), "{seen:?}");
        let saved = std::fs::read(&file).expect("it was saved");
        std::fs::remove_file(&file).expect("it is there");
        String::from_utf8_lossy(&saved).into_owned()
    };
    // Alt-Enter and a backslash begin new lines; Ctrl-C clears what is typed, and leaves where nothing is.
    let saved = run(&["nonsense\u{3}One\u{1b}\rmore\\\rand more\r", &save, "\u{3}"]);
    assert!(saved.contains(r#"["user","One\nmore\nand more"]"#), "{saved:?}");
    // What was typed is there in another run: two up is the question. And it can be asked anew.
    let saved = run(&["\u{1b}[A\u{1b}[A\r", "/edit\r", "!\r", &save, "/exit\r"]);
    assert!(saved.contains(r#"["user","One\nmore\nand more!"]"#), "{saved:?}");
    assert_eq!(saved.matches(r#"["user""#).count(), 1);
}
