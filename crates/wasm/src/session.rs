//! One text in progress.

use std::pin::pin;

use futures::StreamExt;
use js_sys::{Function, Promise, Uint8Array};
use serde::Serialize;
use taipan::{GateTrace, GenerateOptions};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::Result;
use crate::cancel::Cancel;
use crate::convert::{from_js, to_js, to_js_error};
use crate::options::Options;

/// One text in progress. It does one thing at a time.
#[wasm_bindgen]
pub struct Session(taipan::Session);

#[derive(Serialize)]
struct Token<'a> {
    id: u32,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gates: Option<Gates>,
}

/// What the gates decided about consecutive tokens, layer by layer.
#[derive(Serialize)]
struct Gates {
    /// Position of the first of them in the text.
    first: usize,
    alpha: Vec<Vec<f32>>,
    selected: Vec<Vec<u8>>,
}

impl Gates {
    /// Of the tokens that end before `end`; nothing where there are none.
    fn of(trace: GateTrace, end: usize) -> Option<Self> {
        let count = trace.alpha.first().map_or(0, Vec::len);
        (count > 0).then(|| Self { first: end - count, alpha: trace.alpha, selected: trace.mask })
    }
}

#[derive(Serialize)]
struct Fed {
    tokens: usize,
    /// Given up before all of it was read.
    cancelled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    gates: Option<Gates>,
}

/// Of a prompt that is being read, so many tokens are.
#[derive(Serialize)]
struct Read {
    read: usize,
    total: usize,
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

    /// Feeds a prompt; false if it was given up.
    async fn feed(&mut self, ids: &[u32], on_read: Option<&Function>, cancel: &mut Cancel) -> Result<bool> {
        let total = ids.len();
        let mut rest = ids;
        loop {
            let (now, later) = rest.split_at(rest.len().min(STRETCH));
            let Some(fed) = cancel.or(self.0.prefill(now)).await else { return Ok(false) };
            fed.map_err(|e| to_js_error(&e))?;
            if later.is_empty() {
                return Ok(true);
            }
            rest = later;
            if let Some(on_read) = on_read
                && !deliver(on_read, &Read { read: total - rest.len(), total }).await?
            {
                return Ok(false);
            }
        }
    }

    /// One token after another: without a trace from one stream; with one from a stream per token, because what was
    /// traced can be fetched only in between.
    async fn next(&mut self, options: &GenerateOptions) -> Option<taipan::Result<taipan::Token>> {
        pin!(self.0.generate(options.clone())).next().await
    }

    /// A token under way is not given up, but delivered: what its gates decided would be lost with it.
    async fn traced(&mut self, options: &GenerateOptions, on_token: &Function) -> Result<Finish> {
        let one = GenerateOptions { max_tokens: Some(1), ..options.clone() };
        let mut made = 0;
        loop {
            let Some(token) = self.next(&one).await else { return Ok(CANCELLED) };
            let token = token.map_err(|e| to_js_error(&e))?;
            made += 1;
            // The token just made has not gone through the layers.
            let end = self.0.position() - 1;
            let gates = Gates::of(self.0.take_gates(), end);
            let wanted = deliver(on_token, &Token { id: token.id, text: &token.text, gates }).await?;
            match token.finish {
                Some(taipan::Finish::Limit) if options.max_tokens != Some(made) && wanted => {}
                Some(taipan::Finish::Limit) if options.max_tokens != Some(made) => return Ok(CANCELLED),
                Some(finish) => return Ok(finish.into()),
                None if !wanted => return Ok(CANCELLED),
                None => {}
            }
        }
    }

    async fn plain(&mut self, options: GenerateOptions, on_token: &Function, cancel: &mut Cancel) -> Result<Finish> {
        let mut tokens = pin!(self.0.generate(options));
        while let Some(token) = cancel.or(tokens.next()).await.flatten() {
            let token = token.map_err(|e| to_js_error(&e))?;
            let wanted = deliver(on_token, &Token { id: token.id, text: &token.text, gates: None }).await?;
            match token.finish {
                Some(finish) => return Ok(finish.into()),
                None if !wanted => break,
                None => {}
            }
        }
        Ok(CANCELLED)
    }
}

/// Tokens of a prompt between two reports: whole segments, on a GPU as on the CPU.
const STRETCH: usize = 512;

const CANCELLED: Finish = Finish { reason: "cancelled", stop: None };

#[wasm_bindgen]
impl Session {
    /// Tokens of the text so far.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn position(&self) -> usize {
        self.0.position()
    }

    /// Feeds a text: special tokens recognised, nothing added but what the model has in front of every text. Of a long one
    /// `onRead` hears in between how far it is; what it returns is awaited, and `false` ends it, as does `cancel`, when it
    /// settles. What was read so far stays read.
    ///
    /// # Errors
    /// `empty-prompt`, `no-tokenizer`, or what the device says.
    #[wasm_bindgen(unchecked_return_type = "Fed")]
    pub async fn prefill(
        &mut self,
        text: String,
        trace: bool,
        #[wasm_bindgen(
            js_name = onRead,
            unchecked_param_type = "((read: Read) => boolean | void | Promise<boolean | void>) | undefined"
        )]
        on_read: Option<Function>,
        cancel: Option<Promise>,
    ) -> Result<JsValue> {
        let begin = self.0.position();
        let mut ids = self.0.model().encode(&text).map_err(|e| to_js_error(&e))?;
        if begin == 0 && !ids.is_empty() {
            ids.splice(0..0, self.0.model().prefix().to_vec());
        }
        self.0.trace_gates(trace);
        let cancelled = !self.feed(&ids, on_read.as_ref(), &mut Cancel::new(cancel)).await?;
        // Decisions about a prompt that was given up come with whatever is next.
        let gates = if cancelled { None } else { Gates::of(self.0.take_gates(), self.0.position()) };
        to_js(&Fed { tokens: self.0.position() - begin, cancelled, gates })
    }

    /// Continues the text and calls `onToken` with every token. Where that returns a promise, it is awaited before the
    /// next token is made; where it returns or resolves to `false`, or when `cancel` settles, generation ends, and the
    /// session is at exactly the tokens delivered. Returns why it ended.
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
        cancel: Option<Promise>,
    ) -> Result<JsValue> {
        let options: Options = from_js(&options)?;
        let trace = options.trace_gates;
        let options = GenerateOptions::from(options);
        let mut cancel = Cancel::new(cancel);
        self.0.trace_gates(trace);
        let finish = match trace {
            true => self.traced(&options, &on_token).await?,
            false => self.plain(options, &on_token, &mut cancel).await?,
        };
        to_js(&finish)
    }

    /// Sends the last token through the layers now, rather than with the next one; what the gates decided about it and,
    /// with a trace, about others that nobody has been told of.
    ///
    /// # Errors
    /// What the device says.
    #[wasm_bindgen(js_name = catchUp, unchecked_return_type = "Gates | undefined")]
    pub async fn catch_up(&mut self) -> Result<JsValue> {
        self.0.catch_up().await.map_err(|e| to_js_error(&e))?;
        Gates::of(self.0.take_gates(), self.0.position()).map_or(Ok(JsValue::UNDEFINED), |gates| to_js(&gates))
    }

    /// Text that was held back because it could have become part of a character or of a stop text.
    ///
    /// # Errors
    /// `tokenizer`.
    #[wasm_bindgen(js_name = finishText)]
    pub fn finish_text(&mut self) -> Result<String> {
        self.0.finish_text().map_err(|e| to_js_error(&e))
    }

    /// Another session with the same state.
    ///
    /// # Errors
    /// The device cannot hold another session's state.
    pub async fn fork(&mut self) -> Result<Session> {
        Ok(Session(self.0.fork().await.map_err(|e| to_js_error(&e))?))
    }

    /// The whole state as bytes.
    ///
    /// # Errors
    /// What the device says.
    pub async fn save(&mut self) -> Result<Uint8Array> {
        Ok(Uint8Array::from(&self.0.save().await.map_err(|e| to_js_error(&e))?[..]))
    }

    /// Replaces the state by a saved one.
    ///
    /// # Errors
    /// `saved-state`.
    pub async fn restore(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.0.restore(&bytes).await.map_err(|e| to_js_error(&e))
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

/// Hands something out; false if no more is wanted.
async fn deliver<T: Serialize>(to: &Function, what: &T) -> Result<bool> {
    let mut answer = to.call1(&JsValue::UNDEFINED, &to_js(what)?)?;
    if let Some(promise) = answer.dyn_ref::<Promise>() {
        answer = JsFuture::from(promise.clone()).await?;
    }
    Ok(answer != JsValue::FALSE)
}
