//! One text in progress.

use std::pin::pin;

use futures::StreamExt;
use js_sys::{Function, Promise};
use serde::Serialize;
use taipan::GenerateOptions;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::Result;
use crate::convert::{from_js, to_js, to_js_error};
use crate::options::Options;

/// One text in progress. It does one thing at a time.
#[wasm_bindgen]
pub struct Session(taipan::Session);

#[derive(Serialize)]
struct Token<'a> {
    id: u32,
    text: &'a str,
}

#[derive(Serialize)]
struct Finish {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
}

impl From<taipan::Finish> for Finish {
    fn from(finish: taipan::Finish) -> Self {
        match finish {
            taipan::Finish::Stop(text) => Self { reason: "stop", stop: Some(text) },
            taipan::Finish::Eos => Self { reason: "eos", stop: None },
            taipan::Finish::Limit => Self { reason: "limit", stop: None },
        }
    }
}

impl Session {
    pub(crate) fn new(session: taipan::Session) -> Self {
        Self(session)
    }
}

#[wasm_bindgen]
impl Session {
    /// Tokens of the text so far.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn position(&self) -> usize {
        self.0.position()
    }

    /// Feeds a text: special tokens recognised, nothing added. Returns the number of its tokens.
    ///
    /// # Errors
    /// `empty-prompt`, `no-tokenizer`, or what the device says.
    pub async fn prefill(&mut self, text: String) -> Result<usize> {
        let ids = self.0.model().encode(&text).map_err(|e| to_js_error(&e))?;
        self.0.prefill(&ids).await.map_err(|e| to_js_error(&e))?;
        Ok(ids.len())
    }

    /// Continues the text and calls `onToken` with every token. Where that returns a promise, it is awaited before the
    /// next token is made; where it returns or resolves to `false`, generation ends, and the session is at exactly the
    /// tokens delivered. Returns why it ended.
    ///
    /// # Errors
    /// `invalid-option`, `empty-prompt`, what the device says, or what `onToken` throws.
    #[wasm_bindgen(unchecked_return_type = "Finish")]
    pub async fn generate(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "GenerateOptions | undefined")] options: JsValue,
        #[wasm_bindgen(
            js_name = onToken,
            unchecked_param_type = "(token: Token) => boolean | void | Promise<boolean | void>"
        )]
        on_token: Function,
    ) -> Result<JsValue> {
        let options: Options = from_js(&options)?;
        let mut tokens = pin!(self.0.generate(GenerateOptions::from(options)));
        while let Some(token) = tokens.next().await {
            let token = token.map_err(|e| to_js_error(&e))?;
            let wanted = deliver(&on_token, &Token { id: token.id, text: &token.text }).await?;
            match token.finish {
                Some(finish) => return to_js(&Finish::from(finish)),
                None if !wanted => break,
                None => {}
            }
        }
        to_js(&Finish { reason: "cancelled", stop: None })
    }

    /// What the session holds and has done.
    ///
    /// # Errors
    /// What the device says: some numbers are read back from it.
    #[wasm_bindgen(unchecked_return_type = "Stats")]
    pub async fn stats(&mut self) -> Result<JsValue> {
        to_js(&self.0.stats().await.map_err(|e| to_js_error(&e))?)
    }
}

/// Hands a token out; false if no more are wanted.
async fn deliver(on_token: &Function, token: &Token<'_>) -> Result<bool> {
    let mut answer = on_token.call1(&JsValue::UNDEFINED, &to_js(token)?)?;
    if let Some(promise) = answer.dyn_ref::<Promise>() {
        answer = JsFuture::from(promise.clone()).await?;
    }
    Ok(answer != JsValue::FALSE)
}
