//! The library example of the README, compiled. It stands here between two marks and must be the same there, where a
//! doc test would need lines that a reader should not see.

use std::path::Path;

/// Compiled and not run: it would generate without end.
async fn example(dir: &Path) -> taipan::Result<()> {
    // begin
    use futures::StreamExt;
    use taipan::{Device, GenerateOptions, LoadOptions, Model, SessionOptions};

    let (device, _) = Device::auto(taipan::Backends::PRIMARY).await;
    let model = Model::open(dir, &device, LoadOptions::default()).await?;
    let mut session = model.session(SessionOptions::default())?;
    session.prefill(&model.encode("Once upon a time")?).await?;
    let mut tokens = std::pin::pin!(session.generate(GenerateOptions::default()));
    while let Some(token) = tokens.next().await {
        print!("{}", token?.text);
    }
    // end
    Ok(())
}

#[test]
fn the_readme_shows_what_is_compiled_here() {
    let _compiled = example(Path::new("a model"));
    let here = include_str!("readme.rs");
    let (_, rest) = here.split_once("    // begin\n").unwrap();
    let (code, _) = rest.split_once("    // end\n").unwrap();
    let code: String = code.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&format!("```rust\n{code}```\n")), "README.md: its library example should be\n{code}");
    assert!(!readme.contains("```rust,"), "README.md: an example that nobody compiles");
}
