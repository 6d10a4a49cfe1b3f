//! Writes every shader module as a browser receives it, with and without subgroups, `NAME.wgsl`, and beside it `NAME.json`: the sets of override
//! values that the kernels use. For compilers other than naga.
//!
//! `cargo run -p taipan-cases --example dump_shaders -- DIR`

use std::collections::BTreeMap;
use std::path::PathBuf;

use taipan_cases::Permutation;
use taipan_kernels::Subgroups;

fn main() -> std::io::Result<()> {
    let dir = PathBuf::from(std::env::args_os().nth(1).expect("usage: dump_shaders DIR"));
    std::fs::create_dir_all(&dir)?;
    let mut modules: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for p in taipan_cases::permutations() {
        let entry = modules.entry(p.module_name()).or_insert_with(|| (p.decl.source(p.format), Vec::new()));
        entry.1.push(overrides(&p));
        if p.decl.uses_lanes() {
            for fewest in [4, 32] {
                let source = || (p.decl.source_with(p.format, Some(Subgroups { fewest, enable: true })), Vec::new());
                let name = format!("{}_subgroups{fewest}", p.module_name());
                modules.entry(name).or_insert_with(source).1.push(overrides(&p));
            }
        }
    }
    for (name, (source, sets)) in &modules {
        std::fs::write(dir.join(format!("{name}.wgsl")), source)?;
        std::fs::write(dir.join(format!("{name}.json")), format!("[{}]", sets.join(",\n ")))?;
    }
    println!("{} modules", modules.len());
    Ok(())
}

/// One set of override values as a JSON object; names are identifiers and values plain numbers.
fn overrides(p: &Permutation) -> String {
    let members: Vec<String> = p.overrides.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", members.join(", "))
}
