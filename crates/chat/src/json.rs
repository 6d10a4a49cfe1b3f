//! JSON as Python writes it.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Objects in objects; more than any schema has, and few enough for the stack.
const MAX_DEPTH: usize = 100;

/// The text of `json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort)`.
pub(crate) fn dumps(value: &Value, indent: Option<usize>, sort: bool) -> Result<String, Error> {
    let mut out = String::new();
    Writer { indent, sort }.value(value, 0, &mut out)?;
    Ok(out)
}

struct Writer {
    indent: Option<usize>,
    sort: bool,
}

impl Writer {
    fn value(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deeply"));
        }
        match value.kind() {
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.list(['{', '}'], keys.len(), depth, out, |i, out| {
                    string(&keys[i].to_string(), out);
                    out.push_str(": ");
                    self.value(&value.get_item(&keys[i])?, depth + 1, out)
                })
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(['[', ']'], items.len(), depth, out, |i, out| self.value(&items[i], depth + 1, out))
            }
            ValueKind::String => {
                string(value.as_str().unwrap_or_default(), out);
                Ok(())
            }
            ValueKind::None => {
                out.push_str("null");
                Ok(())
            }
            ValueKind::Bool => {
                out.push_str(if value.is_true() { "true" } else { "false" });
                Ok(())
            }
            ValueKind::Number => {
                out.push_str(&value.to_string());
                Ok(())
            }
            other => {
                Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: a value of kind {other} has no JSON")))
            }
        }
    }

    fn list(
        &self,
        [open, close]: [char; 2],
        len: usize,
        depth: usize,
        out: &mut String,
        item: impl Fn(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for i in 0..len {
            match self.indent {
                None if i > 0 => out.push_str(", "),
                None => {}
                Some(_) if i > 0 => out.push(','),
                Some(_) => {}
            }
            self.line(depth + 1, out);
            item(i, out)?;
        }
        if len > 0 {
            self.line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }
}

fn string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
