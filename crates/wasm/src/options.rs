//! The options of a generation as JavaScript spells them.

use serde::Deserialize;
use taipan::{AttentionBound, GenerateOptions, Sampling};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** How to continue a text. Everything left out has the default of the native program. */
export interface GenerateOptions {
    /** Most tokens to make; no limit if left out. */
    maxTokens?: number;
    /** Random numbers are a function of this and the position. */
    seed?: number;
    /** Divides the logits; 0 is greedy. */
    temperature?: number;
    /** Keep so many most probable tokens; 0 is all. */
    topK?: number;
    /** Keep the most probable tokens with this much probability together. */
    topP?: number;
    /** Keep tokens at least this probable relative to the most probable one. */
    minP?: number;
    /** Makes recent tokens less likely; 1 is off. */
    repetitionPenalty?: number;
    /** Texts that end the generation; not part of the text delivered. */
    stop?: string[];
    /** Go on past an end-of-text token. */
    ignoreEos?: boolean;
    /** Hand out with every token what the gates decided about the one before it. */
    traceGates?: boolean;
}

/** What a session is made with. */
export interface SessionSettings {
    /** Of any L consecutive tokens at most this times L, and `burst`, attend in a layer. No bound if left out. */
    attentionBudget?: number;
    burst?: number;
}

/** What a model takes. */
export interface Footprint {
    parameters: number;
    weightBytes: number;
    stateBytes: number;
    scratchBytes: number;
    largestBuffer: string;
    largestBufferBytes: number;
    storedBytes: number;
    window: number;
    attentionLayers: number;
    attentionBudget: number | null;
}

/** A token of a text, with the text it adds. */
export interface Piece {
    id: number;
    text: string;
}

/** What the gates decided about consecutive tokens, the first of them at position `first`: `[layer][token]`. */
export interface Gates {
    first: number;
    alpha: number[][];
    selected: number[][];
}

/** How far a prompt is read, in tokens. */
export interface Read {
    read: number;
    total: number;
}

/** What became of a prompt. */
export interface Fed {
    tokens: number;
    cancelled: boolean;
    gates?: Gates;
}

/** One generated token; its text may be empty while a character is incomplete. */
export interface Token {
    id: number;
    text: string;
    gates?: Gates;
}

/** Why a generation ended, and the stop string where it was one. */
export interface Finish {
    reason: "stop" | "eos" | "limit" | "cancelled";
    stop?: string;
}

/** What a session holds and has done. */
export interface Stats {
    tokens: number;
    sal: { selected: number; refused: number }[];
    bytes: { weights: number; state: number; scratch: number };
    decode_dispatches: number;
    decode_submits: number;
}

/** A WebGPU adapter as far as it matters here. */
export interface Adapter {
    name: string;
    backend: string;
    kind: string;
    /** Correct, but slower than the CPU device. */
    software: boolean;
    /** For information: nothing here needs or uses them. */
    features: { shader_f16: boolean; subgroups: boolean; timestamps: boolean };
    limits: {
        storage_buffers: number;
        storage_binding_bytes: number;
        buffer_bytes: number;
        workgroup_memory_bytes: number;
        workgroup_invocations: number;
        subgroup_size: [number, number];
    };
}
"#;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Options {
    max_tokens: Option<usize>,
    seed: Option<u64>,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default)]
    ignore_eos: bool,
    #[serde(default)]
    pub(crate) trace_gates: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SessionSettings {
    attention_budget: Option<f64>,
    burst: Option<f64>,
}

impl SessionSettings {
    pub(crate) fn bound(&self) -> taipan::Result<Option<AttentionBound>> {
        let burst = self.burst.unwrap_or(AttentionBound::BURST);
        self.attention_budget.map(|c| AttentionBound::new(c, burst)).transpose()
    }
}

impl From<Options> for GenerateOptions {
    fn from(o: Options) -> Self {
        let d = Sampling::default();
        let sampling = Sampling {
            seed: o.seed.unwrap_or(d.seed),
            temperature: o.temperature.unwrap_or(d.temperature),
            top_k: o.top_k.unwrap_or(d.top_k),
            top_p: o.top_p.unwrap_or(d.top_p),
            min_p: o.min_p.unwrap_or(d.min_p),
            repeat_penalty: o.repetition_penalty.unwrap_or(d.repeat_penalty),
            repeat_last_n: d.repeat_last_n,
        };
        Self { max_tokens: o.max_tokens, sampling, stop: o.stop, ignore_eos: o.ignore_eos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_the_default() {
        let options: Options = serde_json::from_str(r#"{"maxTokens": 5, "topK": 3, "stop": ["x"]}"#).unwrap();
        let options = GenerateOptions::from(options);
        assert_eq!((options.max_tokens, options.sampling.top_k, options.stop), (Some(5), 3, vec!["x".to_owned()]));
        assert_eq!(options.sampling, Sampling { top_k: 3, ..Sampling::default() });
    }

    #[test]
    fn a_misspelt_or_impossible_option_is_an_error() {
        for text in [r#"{"max_tokens": 5}"#, r#"{"topK": -1}"#, r#"{"maxTokens": 1.5}"#, r#"{"stop": "x"}"#] {
            assert!(serde_json::from_str::<Options>(text).is_err(), "{text}");
        }
    }
}
