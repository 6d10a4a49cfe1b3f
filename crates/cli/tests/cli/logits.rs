//! `logits`: the file it writes, and that it writes all of it or nothing.

use taipan::{Device, LoadOptions, Model, SessionOptions, Weights};

use crate::common::{Folder, TINY_VOCAB, on_cpu, taipan, write_tiny};

/// The tiny model in a folder, and its path.
fn tiny() -> (Folder, String) {
    let folder = Folder::new();
    let dir = folder.at("tiny");
    write_tiny(dir.as_ref());
    (folder, dir)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn the_file_holds_what_the_library_computes() {
    let (folder, dir) = tiny();
    let ids: Vec<u32> = (0..700).map(|i| i * 7 % TINY_VOCAB as u32).collect(); // more than one piece
    let list: Vec<String> = ids.iter().map(u32::to_string).collect();
    let out = folder.at("out.safetensors");
    let run = on_cpu(&format!("logits -m {dir} --ids {} -o {out}", list.join(","))).ok();
    assert_eq!(run.stdout, "");

    let (logits, gates) = pollster::block_on(async {
        let model = Model::open(dir.as_ref(), &Device::cpu(), LoadOptions::default()).await.expect("it is a model");
        let mut session = model.session(SessionOptions::default()).expect("it fits");
        let mut logits = Vec::new();
        let each = |rows: taipan::Rows<'_>| {
            logits.extend_from_slice(rows.logits);
            Ok(())
        };
        session.prefill_rows(&ids, each).await.expect("they are ids");
        (logits, session.gates().clone())
    });
    let file = Weights::open_file(out.as_ref()).expect("it is a safetensors file");
    let (info, bytes) = file.get_raw("logits").expect("it is there");
    assert_eq!(info.shape, [700, TINY_VOCAB]);
    assert_eq!(floats(bytes), logits);
    let (info, bytes) = file.get_raw("alpha").expect("it is there");
    assert_eq!(info.shape, [1, 700]);
    assert_eq!(floats(bytes), gates.alpha.concat());
    let (info, bytes) = file.get_raw("mask").expect("it is there");
    assert_eq!((info.element.name(), info.shape.as_slice()), ("U8", &[1, 700][..]));
    assert_eq!(bytes, gates.mask.concat());
    assert!(bytes.contains(&0) && bytes.contains(&1), "a mask that is all the same proves little");
    assert_eq!(folder.list().len(), 2, "{:?}", folder.list());
}

#[test]
fn text_is_its_tokens() {
    let folder = Folder::new();
    let out = folder.at("a.safetensors");
    let shape = |args: &[&str]| {
        taipan(["logits", "--device", "cpu", "-o", &out].iter().chain(args)).ok();
        let file = Weights::open_file(out.as_ref()).expect("it is a safetensors file");
        file.headers().get("logits").expect("it is there").shape.clone()
    };
    let text = "Once upon a time\n";
    let direct = shape(&["--prompt", text]);
    assert_eq!(shape(&["-f", &folder.write("text", text)]), direct);
    assert_eq!(shape(&["--prompt", "Once upon a time"])[0] + 1, direct[0], "a newline is a token");
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let (folder, dir) = tiny();
    let kept = folder.write("kept.safetensors", "old");
    // The first piece is computed and written before the bad id is seen.
    let mut ids = vec!["1"; 600];
    ids.push("50");
    for out in [&kept, &folder.at("new.safetensors")] {
        let run = on_cpu(&format!("logits -m {dir} --ids {} -o {out}", ids.join(",")));
        run.fails(1, &["token id 50 is outside the vocabulary of 50", "hint: "]);
    }
    assert_eq!(std::fs::read(&kept).expect("it is still there"), b"old");
    assert_eq!(folder.list().len(), 2, "{:?}", folder.list());
}

#[test]
fn places_that_cannot_be_written_to_are_errors() {
    let (folder, dir) = tiny();
    let file = folder.write("file", "");
    let inside_a_file = format!("{file}/out");
    for out in [&folder.at("no/such/folder/out"), &inside_a_file, &dir] {
        on_cpu(&format!("logits -m {dir} --ids 1 -o {out}")).fails(1, &[out]);
    }
    assert_eq!(folder.list().len(), 2, "{:?}", folder.list());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let (_folder, dir) = tiny();
    on_cpu(&format!("logits -m {dir} --ids 1,2,3 -o /dev/full")).fails(1, &["/dev/full", "hint: free some space"]);
}

#[test]
fn no_token_is_an_error() {
    let folder = Folder::new();
    let out = folder.at("out");
    taipan(["logits", "--device", "cpu", "--prompt", "", "-o", &out]).fails(1, &["the prompt is empty"]);
    assert!(folder.list().is_empty(), "{:?}", folder.list());
}
