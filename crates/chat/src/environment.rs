//! The settings, filters and functions that transformers gives to a template.

use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::json;

/// Steps a template may take: a thousand messages take a hundredth of it.
pub const FUEL: u64 = 20_000_000;

/// The function that tells a template the time.
pub(crate) const STRFTIME: &str = "strftime_now";

/// What `strftime_now` tells.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The time on the system's clock, in its zone.
    #[default]
    Now,
    /// A given time, in no zone.
    At(DateTime),
}

/// What a template says when it refuses.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Raised(pub(crate) String);

pub(crate) fn new() -> Environment<'static> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("the delimiters are the usual ones"));
    env.set_fuel(Some(FUEL));
    // A prompt is no page: nothing is escaped.
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_filter("tojson", tojson);
    env.add_function("raise_exception", raise_exception);
    env
}

/// Marks of what the assistant said, for training: tags of no effect that `minijinja` does not know.
pub(crate) fn spell(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}").map(|end| start + end + 2) else { break };
        let tag = &rest[start..end];
        let name = tag[2..tag.len() - 2].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        out.push_str(&rest[..start]);
        match name {
            "generation" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message)))
}

/// As Python's `json.dumps` without escapes beyond those that JSON needs.
fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Keys stand in the order of the map unless they are to be sorted; what else transformers takes changes nothing.
    let sort: Option<bool> = options.get("sort_keys")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<Value> = options.get("separators")?;
    options.assert_all_used()?;
    Ok(Value::from_safe_string(json::dumps(value, indent, sort.unwrap_or(false))?))
}

pub(crate) fn strftime_now(clock: Clock) -> Value {
    Value::from_function(move |format: String| -> Result<String, Error> {
        let now = match &clock {
            Clock::Now => Zoned::now(),
            Clock::At(time) => {
                time.to_zoned(TimeZone::UTC).map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))?
            }
        };
        let written = jiff::fmt::strtime::format(&format, &now);
        written.map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now(\"{format}\"): {e}")))
    })
}
