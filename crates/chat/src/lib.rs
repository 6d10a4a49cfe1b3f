//! From messages to the prompt that a model was trained on, by the template that its checkpoint brings.
//!
//! A template is a program in Jinja's language. It runs in `minijinja` with the settings, filters and functions that
//! transformers gives it, and with a limit on its steps; it can read nothing but what it is handed here.
//!
//! ```
//! use taipan_chat::{ChatTemplate, Clock, Message};
//!
//! let config = br#"{"eos_token": "<|end|>", "chat_template":
//!     "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"}"#;
//! let template = ChatTemplate::from_files(Some(config), None)?.expect("the file has one");
//! let prompt = template.render(&[Message::new("user", "Hello")], Clock::Now)?;
//! assert_eq!(prompt, "<|user|>Hello<|end|><|assistant|>");
//! # Ok::<_, taipan_chat::ChatError>(())
//! ```

#![forbid(unsafe_code)]

mod environment;
mod json;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;

pub use environment::{Clock, FUEL};
pub use jiff::civil::DateTime;

/// Longest template that is compiled; published ones have a few kilobytes.
pub const MAX_TEMPLATE: usize = 1 << 20;

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// A file could not be read.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// `tokenizer_config.json` is not what it must be.
    #[error("tokenizer_config.json: {message}")]
    Config {
        /// What is wrong with it.
        message: String,
    },
    /// The template is not one, or does what a template cannot do here.
    #[error("chat template: {message}")]
    Template {
        /// What is wrong, and where.
        message: String,
    },
    /// The template itself refused the messages.
    #[error("the model's chat template refuses these messages: {message}")]
    Refused {
        /// In the template's words.
        message: String,
    },
    /// The template took too many steps.
    #[error("the model's chat template did not end within {FUEL} steps")]
    Endless,
}

/// One message of a conversation.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// Who says it: `system`, `user` or `assistant`, as a rule.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of a role.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A model's template with the special tokens that it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: BTreeMap<String, String>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// The name under which the one template is kept.
const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Reads the template of a model folder: `chat_template.jinja`, or else the one in `tokenizer_config.json`; `None` if
    /// there is neither.
    ///
    /// # Errors
    /// `Io`, `Config` or `Template`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_dir(dir: &Path) -> Result<Option<Self>, ChatError> {
        let read = |name: &str| match std::fs::read(dir.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ChatError::Io { file: dir.join(name).display().to_string(), source }),
        };
        let (config, template) = (read("tokenizer_config.json")?, read("chat_template.jinja")?);
        Self::from_files(config.as_deref(), template.as_deref())
    }

    /// Takes the contents of `tokenizer_config.json` and of `chat_template.jinja`.
    ///
    /// # Errors
    /// `Config` or `Template`.
    pub fn from_files(config: Option<&[u8]>, template: Option<&[u8]>) -> Result<Option<Self>, ChatError> {
        let config = config.map_or_else(|| Ok(serde_json::Value::Null), serde_json::from_slice);
        let config = config.map_err(|e| ChatError::Config { message: e.to_string() })?;
        let source = match template {
            None => embedded(&config)?,
            Some(bytes) => Some(String::from_utf8(bytes.to_vec()).map_err(|_| malformed("it is not UTF-8"))?),
        };
        source.map(|source| Self::new(source, special_tokens(&config))).transpose()
    }

    /// A template and its special tokens by name, such as `bos_token`.
    ///
    /// # Errors
    /// `Template`.
    pub fn new(source: String, tokens: BTreeMap<String, String>) -> Result<Self, ChatError> {
        if source.len() > MAX_TEMPLATE {
            return Err(malformed(&format!("it has {} bytes, at most {MAX_TEMPLATE} are read", source.len())));
        }
        let mut environment = environment::new();
        environment.add_template_owned(NAME, environment::spell(&source)).map_err(|e| malformed(&chain(&e)))?;
        Ok(Self { environment, tokens })
    }

    /// The prompt that asks for the answer to a conversation.
    ///
    /// # Errors
    /// `Refused`, `Endless` or `Template`.
    pub fn render(&self, messages: &[Message], clock: Clock) -> Result<String, ChatError> {
        let values = [("messages", Value::from(Serde(messages))), ("add_generation_prompt", true.into())];
        self.render_values(values.map(|(name, value)| (name.to_owned(), value)).into(), clock)
    }

    /// As [`ChatTemplate::render`] with the template's variables as one JSON object: messages with more parts, tools,
    /// documents, switches of a model's own.
    ///
    /// # Errors
    /// As there, and `Template` if the text is no JSON object.
    pub fn render_json(&self, variables: &str, clock: Clock) -> Result<String, ChatError> {
        let variables = serde_json::from_str(variables);
        self.render_values(variables.map_err(|e| malformed(&format!("its variables: {e}")))?, clock)
    }

    fn render_values(&self, mut values: BTreeMap<String, Value>, clock: Clock) -> Result<String, ChatError> {
        for (name, token) in &self.tokens {
            values.entry(name.clone()).or_insert_with(|| token.as_str().into());
        }
        // As in transformers, where what is not given is None.
        for name in ["tools", "documents"] {
            values.entry(name.to_owned()).or_insert(Value::from(()));
        }
        values.entry("add_generation_prompt".to_owned()).or_insert(false.into());
        let template = self.environment.get_template(NAME).expect("it was added when it was compiled");
        values.insert(environment::STRFTIME.to_owned(), environment::strftime_now(clock));
        template.render(Value::from_pairs(values)).map_err(|e| failure(&e))
    }
}

/// The template in `tokenizer_config.json`: a text, or a list of named ones.
fn embedded(config: &serde_json::Value) -> Result<Option<String>, ChatError> {
    let wrong =
        || ChatError::Config { message: "`chat_template` is neither a text nor a list of named ones".to_owned() };
    match config.get("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
        Some(serde_json::Value::Array(list)) => {
            let default = list.iter().find(|entry| entry["name"] == "default");
            let text = default.ok_or_else(wrong)?["template"].as_str();
            text.map(|text| Some(text.to_owned())).ok_or_else(wrong)
        }
        Some(_) => Err(wrong()),
    }
}

/// Tokens by the names that templates use; a token is a text or an object with its text.
fn special_tokens(config: &serde_json::Value) -> BTreeMap<String, String> {
    const NAMES: [&str; 7] =
        ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let token = |name: &&str| {
        let value = &config[*name];
        let text = value.as_str().or_else(|| value["content"].as_str())?;
        Some(((*name).to_owned(), text.to_owned()))
    };
    NAMES.iter().filter_map(token).collect()
}

fn malformed(message: &str) -> ChatError {
    ChatError::Template { message: message.to_owned() }
}

/// What went wrong, with its causes.
fn chain(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

fn failure(error: &minijinja::Error) -> ChatError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if let Some(environment::Raised(message)) = inner.downcast_ref() {
            return ChatError::Refused { message: message.clone() };
        }
        let kind = inner.downcast_ref::<minijinja::Error>().map(minijinja::Error::kind);
        if kind == Some(minijinja::ErrorKind::OutOfFuel) {
            return ChatError::Endless;
        }
        cause = inner.source();
    }
    malformed(&chain(error))
}
