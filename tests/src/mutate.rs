//! Wrong kernels: shaders with one mistake, made from the right ones by rules on their text, so that they follow every
//! change of a shader and no list of them can grow old.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use taipan_kernels::{Access, Decl};

/// A shader with one mistake.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// To be run in place of the right one.
    pub decl: &'static Decl,
    /// What was changed, for people.
    pub what: &'static str,
}

impl Mutant {
    /// A kernel with another body.
    #[must_use]
    pub fn new(right: &Decl, body: String, what: String) -> Self {
        // Compiled shaders are kept by name, so each mutant has its own; there are few, and a test program is short.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{} mutant {}", right.name, COUNT.fetch_add(1, Relaxed));
        let Decl { shared, matrix, bindings, workgroup, .. } = *right;
        let decl = Decl { name: name.leak(), body: body.leak(), shared, matrix, bindings, workgroup };
        Self { decl: Box::leak(Box::new(decl)), what: what.leak() }
    }
}

/// A piece of a body and what to put in its place.
struct Edit {
    range: std::ops::Range<usize>,
    wrong: String,
    what: String,
}

/// One mutant for every statement that stores to a buffer: it stores something else.
///
/// # Panics
/// If a buffer's declaration cannot be found.
#[must_use]
pub fn stores(right: &Decl) -> Vec<Mutant> {
    edits(right).iter().map(|edit| Mutant::new(right, edited(right, &[edit]), edit.what.clone())).collect()
}

/// The mutant all of whose stores store something else.
///
/// # Panics
/// As [`stores`].
#[must_use]
pub fn every_store(right: &Decl) -> Mutant {
    let mut edits = edits(right);
    edits.sort_by_key(|edit| edit.range.start);
    Mutant::new(right, edited(right, &edits.iter().collect::<Vec<_>>()), "every store".to_owned())
}

/// The body with edits made, which are in order.
fn edited(right: &Decl, edits: &[&Edit]) -> String {
    let mut body = right.body.to_owned();
    for edit in edits.iter().rev() {
        body.replace_range(edit.range.clone(), &edit.wrong);
    }
    body
}

fn edits(right: &Decl) -> Vec<Edit> {
    let written = right.bindings.iter().filter(|b| b.access == Access::Write);
    written.flat_map(|b| edits_of(right, b.name)).collect()
}

fn edits_of(right: &Decl, name: &str) -> Vec<Edit> {
    let body = right.body;
    let declared = format!("var<storage, read_write> {name}: array<");
    let at = body.find(&declared).unwrap_or_else(|| panic!("{}: no `{declared}`", right.name)) + declared.len();
    let float = !body[at..].starts_with("u32");
    let mut found = Vec::new();
    for (at, _) in body.match_indices(&format!("{name}[")) {
        if in_comment(body, at) || body[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let index = at + name.len();
        let end = index + closing(&body[index..]);
        let Some(operator) = [" = ", " += "].into_iter().find(|o| body[end..].starts_with(o)) else { continue };
        let from = end + operator.len();
        let value = &body[from..from + body[from..].find(';').expect("a statement ends")];
        let wrong = match (float, value.contains("bitcast<u32>")) {
            (true, _) => format!("({value}) * 1.25 + 0.25"),
            // The last bit of a float is rounding; this one is not.
            (false, true) => format!("({value}) ^ 0x00400000u"),
            (false, false) => format!("({value}) + 1u"),
        };
        let what = format!("{}{operator}{wrong}", &body[at..end]);
        found.push(Edit { range: from..from + value.len(), wrong, what });
    }
    found
}

/// One mutant for every `+`, `-` and `*` between values, turned into another. Counting in integers is left alone: a loop
/// that never ends says nothing. Where a sum says how far a loop goes it becomes a product, not a difference: that would fall
/// below zero, and what wraps around there is noticed just as well, after four thousand million rounds.
#[must_use]
pub fn operators(right: &Decl) -> Vec<Mutant> {
    const SWAPS: [(&str, &str); 4] = [(" + ", " - "), (" - ", " + "), (" * ", " + "), (" += ", " -= ")];
    const HOW_FAR: [&str; 2] = ["let end = ", "return first_position() + "];
    let mut found = Vec::new();
    let mut start = 0;
    for line in right.body.split_inclusive('\n') {
        let code = line.split("//").next().unwrap_or_default();
        if is_statement(code) {
            let how_far = HOW_FAR.iter().any(|part| code.contains(part));
            for (from, to) in SWAPS {
                let to = if how_far && from == " + " { " * " } else { to };
                for (at, _) in code.match_indices(from) {
                    let at = start + at;
                    let mutated = [&right.body[..at], to, &right.body[at + from.len()..]].concat();
                    found.push(Mutant::new(right, mutated, format!("{}: {from}became{to}", code.trim())));
                }
            }
        }
        start += line.len();
    }
    found
}

fn is_statement(code: &str) -> bool {
    let counts = code
        .split(|c: char| !c.is_alphanumeric())
        .any(|w| w.strip_suffix('u').is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit())));
    let others = ["for (", "override ", "const ", "struct ", "var<", "fn ", "@"];
    !counts && !others.iter().any(|o| code.contains(o))
}

fn in_comment(body: &str, at: usize) -> bool {
    body[..at].rsplit('\n').next().is_some_and(|line| line.contains("//"))
}

/// Bytes of a text that begins with a bracket, up to and with the one that closes it.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    panic!("an index is not closed");
}
