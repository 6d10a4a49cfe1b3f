//! One kernel, one name: the shader, its Rust declaration, its cases and its CPU twin are files of the same name.

use std::collections::BTreeSet;

/// Shaders that are fused or for one token, whose CPU twin is composed of plain functions: the files of the reference each of
/// them is made of.
const COMPOSED: [(&str, &[&str]); 5] = [
    ("token_attention", &["window_attention"]),
    ("mixer_step", &["matvec", "causal_conv1d", "conv_append", "selective_state_update", "activation", "rms_norm"]),
    ("mixer_update", &["causal_conv1d", "conv_append", "selective_state_update", "activation"]),
    (
        "token_step",
        &[
            "matvec",
            "causal_conv1d",
            "conv_append",
            "selective_state_update",
            "activation",
            "rms_norm",
            "token_gate",
            "compact",
            "kv_append",
            "window_attention",
        ],
    ),
    ("token_gate_kv", &["rms_norm", "token_gate", "compact", "matvec", "rotary", "kv_append"]),
];

/// Files beside the kernels that are not kernels.
const HELPERS: [(&str, &[&str]); 2] = [
    ("crates/kernels/src/", &["attention", "call", "ids", "launch", "lib", "ssm", "tuning"]),
    ("crates/cases/src/", &["attention", "builder", "lib", "run", "ssd", "tolerance"]),
];

const REFERENCE: &str = "crates/reference/src/";

/// Compares the four lists; a kernel that exists in one and lacks another is a complaint, and so is a stale table.
pub(super) fn complaints(paths: &[&str]) -> Vec<String> {
    compare(paths, &COMPOSED, &HELPERS)
}

fn compare(paths: &[&str], composed: &[(&str, &[&str])], helpers: &[(&str, &[&str])]) -> Vec<String> {
    let mut found = Vec::new();
    let shaders = shaders(paths);
    if shaders.is_empty() {
        found.push("shaders/: no kernel found".to_owned());
    }
    for (folder, not_kernels) in helpers {
        let files = stems(paths, folder, ".rs");
        let stale = not_kernels.iter().filter(|name| !files.contains(**name));
        found.extend(stale.map(|name| format!("crates/xtask/src/tidy/kernels.rs: {folder}{name}.rs is gone")));
        let missing = shaders.iter().filter(|name| !files.contains(*name));
        found.extend(missing.map(|name| format!("shaders: {name}.wgsl has no {folder}{name}.rs")));
        let extra = files.iter().filter(|name| !shaders.contains(*name) && !not_kernels.contains(name));
        found.extend(extra.map(|name| format!("{folder}{name}.rs: no shader of that name")));
    }
    let reference = stems(paths, REFERENCE, ".rs");
    for name in &shaders {
        let parts = composed.iter().find(|(fused, _)| fused == name).map_or(vec![*name], |(_, parts)| parts.to_vec());
        let missing = parts.iter().filter(|part| !reference.contains(**part));
        found.extend(missing.map(|part| format!("shaders: {name}.wgsl has no CPU twin {REFERENCE}{part}.rs")));
    }
    let stale = composed.iter().filter(|(fused, _)| !shaders.contains(fused));
    found.extend(stale.map(|(fused, _)| format!("crates/xtask/src/tidy/kernels.rs: there is no shader {fused}")));
    found
}

/// Names of the kernels: every WGSL file but the pieces that are put in front of several of them.
fn shaders<'a>(paths: &[&'a str]) -> BTreeSet<&'a str> {
    let kernels: Vec<&str> = paths.iter().copied().filter(|path| !path.starts_with("shaders/shared/")).collect();
    stems(&kernels, "shaders/", ".wgsl")
}

/// File names without folder and ending, of the files below `folder` that end so.
fn stems<'a>(paths: &[&'a str], folder: &str, ending: &str) -> BTreeSet<&'a str> {
    let inside = paths.iter().filter_map(|path| path.strip_prefix(folder)?.strip_suffix(ending));
    inside.map(|path| path.rsplit('/').next().unwrap_or(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 9] = [
        "shaders/ssd/scan.wgsl",
        "shaders/shared/reduce.wgsl",
        "crates/kernels/src/ssd/scan.rs",
        "crates/kernels/src/lib.rs",
        "crates/cases/src/scan.rs",
        "crates/cases/src/lib.rs",
        "crates/reference/src/scan.rs",
        "crates/reference/src/only_on_the_cpu.rs",
        "crates/reference/src/lib.rs",
    ];

    const LIB: [(&str, &[&str]); 2] = [("crates/kernels/src/", &["lib"]), ("crates/cases/src/", &["lib"])];

    fn check(paths: &[&str], composed: &[(&str, &[&str])]) -> Vec<String> {
        compare(paths, composed, &LIB)
    }

    #[test]
    fn a_kernel_in_all_four_places_is_fine() {
        assert_eq!(check(&GOOD, &[]), Vec::<String>::new());
    }

    #[test]
    fn each_missing_place_is_a_complaint() {
        for missing in [
            "shaders/ssd/scan.wgsl",
            "crates/kernels/src/ssd/scan.rs",
            "crates/cases/src/scan.rs",
            "crates/reference/src/scan.rs",
        ] {
            let paths: Vec<&str> = GOOD.into_iter().filter(|path| *path != missing).collect();
            assert!(!check(&paths, &[]).is_empty(), "{missing}");
        }
    }

    #[test]
    fn a_fused_kernel_needs_the_parts_of_its_twin() {
        let fused = ["shaders/fused.wgsl", "crates/kernels/src/fused.rs", "crates/cases/src/fused.rs"];
        let paths = [GOOD.as_slice(), &fused].concat();
        assert_eq!(check(&paths, &[]).len(), 1);
        assert!(check(&paths, &[("fused", &["scan"])]).is_empty());
        assert_eq!(check(&paths, &[("fused", &["scan", "nowhere"])]).len(), 1);
    }

    #[test]
    fn stale_tables_are_complaints() {
        assert_eq!(check(&GOOD, &[("gone", &["scan"])]).len(), 1);
        assert_eq!(compare(&GOOD, &[], &[("crates/cases/src/", &["lib", "gone"])]).len(), 1);
        assert!(!check(&[], &[]).is_empty(), "an empty tree has not been checked");
    }
}
