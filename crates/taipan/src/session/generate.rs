//! Continuing a text: sample, deliver, consume, until something stops it.

use futures::Stream;
use futures::stream::unfold;
use taipan_kernels::sampler;
use taipan_reference::{RECENT, Sampling};

use super::Session;
use crate::error::{Error, Result};

/// How to continue a text.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// Most tokens to make; `None` is no limit.
    pub max_tokens: Option<usize>,
    /// How to pick tokens.
    pub sampling: Sampling,
    /// Texts that end the generation; they are not part of the text delivered.
    pub stop: Vec<String>,
    /// Go on past an end-of-text token.
    pub ignore_eos: bool,
}

/// One generated token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text that became final with it; may be empty while a character or a possible stop string is incomplete.
    pub text: String,
    /// Why this is the last one, if it is.
    pub finish: Option<Finish>,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// This stop string appeared.
    Stop(String),
    /// An end-of-text token.
    Eos,
    /// `max_tokens` were made. Going on is as if there had been no limit, so text may still be held back;
    /// [`Session::finish_text`] has it.
    Limit,
}

struct Generation<'a> {
    session: &'a mut Session,
    options: GenerateOptions,
    made: usize,
    started: bool,
    done: bool,
}

impl Session {
    /// Continues the text.
    ///
    /// The stream may be dropped at any time, also while a token is awaited: the session's state is then that of exactly
    /// the tokens delivered, and generating on with the same options gives what not stopping would have given. The last
    /// delivered token may not have gone through the layers yet; the next call, whatever it is, then starts with it.
    ///
    /// A GPU works on the tokens after the one that is awaited; so that they can be undone, the session's state is held twice
    /// as long as the stream lives. Where a token takes a millisecond or less, a few come together.
    ///
    /// ```
    /// use std::pin::pin;
    ///
    /// use futures::TryStreamExt;
    /// use taipan::{Finish, GenerateOptions, Sampling};
    ///
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_model.rs")); }
    /// # use example::*;
    /// # pollster::block_on(async {
    /// # let model = example_model().await?;
    /// let mut session = model.session(Default::default())?;
    /// session.prefill(&[7, 8, 9]).await?;
    ///
    /// let sampling = Sampling { seed: 42, temperature: 0.8, ..Sampling::default() };
    /// let options = GenerateOptions { max_tokens: Some(10), sampling, ..GenerateOptions::default() };
    /// let mut ids = Vec::new();
    /// {
    ///     let mut tokens = pin!(session.generate(options));
    ///     while let Some(token) = tokens.try_next().await? {
    ///         print!("{}", token.text); // empty here: this model has no tokenizer
    ///         ids.push(token.id);
    ///         if let Some(finish) = token.finish {
    ///             assert_eq!(finish, Finish::Limit);
    ///         }
    ///     }
    /// }
    /// assert_eq!(ids.len(), 10);
    /// assert_eq!(session.position(), 13); // the stream is gone, the text goes on from here
    /// # Ok::<_, taipan::Error>(())
    /// # })?;
    /// # Ok::<_, taipan::Error>(())
    /// ```
    pub fn generate(&mut self, options: GenerateOptions) -> impl Stream<Item = Result<Token>> + '_ {
        let generation = Generation { session: self, options, made: 0, started: false, done: false };
        unfold(generation, |mut g| async move {
            if g.done {
                return None;
            }
            let token = g.next().await;
            g.done = token.as_ref().map_or(true, |t| t.finish.is_some());
            Some((token, g))
        })
    }

    /// Text that is held back because it could become part of a character or of a stop string; nothing is held after it.
    ///
    /// # Errors
    /// `Tokenizer`.
    pub fn finish_text(&mut self) -> Result<String> {
        let mut text = std::mem::take(&mut self.held);
        if let Some(tokenizer) = &self.model.0.tokenizer {
            text += &self.decoder.finish(tokenizer)?;
        }
        Ok(text)
    }

    fn write_options(&mut self, s: &Sampling) {
        // Below this nothing is kept but the most probable token, and a shader has no infinity.
        const OFF: f32 = -1e30;
        let min_p = if s.min_p > 0.0 { s.min_p.min(1.0).ln() } else { OFF };
        let mut words = [0; sampler::LEN];
        // A device may take a subnormal divisor for 0.
        words[sampler::TEMPERATURE] = if s.temperature.is_normal() { s.temperature.to_bits() } else { 0 };
        words[sampler::TOP_K] = s.top_k;
        words[sampler::TOP_P] = s.top_p.to_bits();
        words[sampler::MIN_P_LOG] = min_p.to_bits();
        words[sampler::PENALTY] = s.repeat_penalty.to_bits();
        words[sampler::LAST_N] = s.repeat_last_n;
        words[sampler::SEED_LO] = s.seed as u32;
        words[sampler::SEED_HI] = (s.seed >> 32) as u32;
        let model = self.model.0.clone();
        self.memory.write(&model, model.description.common.options, 0, &words);
    }
}

fn check_sampling(s: &Sampling) -> Result<()> {
    let invalid = |name: &str, value: String, allowed: &str| {
        Err(Error::InvalidOption { name: name.to_owned(), value, allowed: allowed.to_owned() })
    };
    if !s.temperature.is_finite() {
        return invalid("temperature", s.temperature.to_string(), "a finite number; 0 or less is greedy");
    }
    if !(s.repeat_penalty > 0.0 && s.repeat_penalty.is_finite()) {
        return invalid("repeat penalty", s.repeat_penalty.to_string(), "a finite number above 0; 1 is off");
    }
    if s.repeat_last_n as usize > RECENT {
        return invalid("repeat last n", s.repeat_last_n.to_string(), "0 to 1024 tokens");
    }
    if s.top_p.is_nan() || s.min_p.is_nan() {
        return invalid("top-p or min-p", "not a number".to_owned(), "0 to 1");
    }
    Ok(())
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        // What goes wrong here is a device error, and whatever is done next meets it again.
        let _ = self.session.come_back();
    }
}

impl Generation<'_> {
    async fn next(&mut self) -> Result<Token> {
        if !self.started {
            if self.session.position() == 0 {
                return Err(Error::EmptyPrompt);
            }
            if self.options.max_tokens == Some(0) {
                let (name, value) = ("max tokens".to_owned(), "0".to_owned());
                return Err(Error::InvalidOption { name, value, allowed: "1 or more, or no limit".to_owned() });
            }
            check_sampling(&self.options.sampling)?;
            self.session.write_options(&self.options.sampling);
            self.started = true;
        }
        self.made += 1;
        let more = self.options.max_tokens.map_or(usize::MAX, |most| most - self.made);
        let traced = self.session.tracing;
        let id = if traced { self.session.next_id_traced().await? } else { self.session.next_id(more).await? };
        self.deliver(id)
    }

    /// The text of a token, and whether it is the last.
    fn deliver(&mut self, id: u32) -> Result<Token> {
        let model = self.session.model.0.clone();
        let eos = !self.options.ignore_eos && model.config.eos_token_ids.contains(&id);
        if let Some(tokenizer) = &model.tokenizer
            && !eos
        {
            let text = self.session.decoder.push(tokenizer, id)?;
            self.session.held += &text;
        }
        if let Some((text, stop)) = self.take_stop() {
            return Ok(Token { id, text, finish: Some(Finish::Stop(stop)) });
        }
        let limit = self.options.max_tokens == Some(self.made);
        let finish = if eos { Some(Finish::Eos) } else { limit.then_some(Finish::Limit) };
        let text = if eos { std::mem::take(&mut self.session.held) } else { self.take_final() };
        Ok(Token { id, text, finish })
    }

    /// Where a stop string has appeared: the text in front of it, and which it was.
    fn take_stop(&mut self) -> Option<(String, String)> {
        let held = &mut self.session.held;
        let stops = self.options.stop.iter().filter(|s| !s.is_empty());
        let (at, stop) = stops.filter_map(|s| held.find(s.as_str()).map(|at| (at, s))).min_by_key(|(at, _)| *at)?;
        let mut text = std::mem::take(held);
        text.truncate(at);
        Some((text, stop.clone()))
    }

    /// The held text but for an end that could still become a stop string.
    fn take_final(&mut self) -> String {
        let held = &mut self.session.held;
        let could_start = |tail: &str| self.options.stop.iter().any(|s| s.len() > tail.len() && s.starts_with(tail));
        let keep_from = held.char_indices().map(|(i, _)| i).find(|i| could_start(&held[*i..])).unwrap_or(held.len());
        let rest = held.split_off(keep_from);
        std::mem::replace(held, rest)
    }
}
