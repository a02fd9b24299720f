//! Requests and answers in OpenAI's format.

use sami_policy::{ChatMessage, FinishReason, Sample, SamplingParams, StreamKey};
use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, TokenLimit};

/// Stop strings that OpenAI takes; we look for the others ourselves.
const OPENAI_STOPS: usize = 4;

#[derive(Serialize)]
pub(crate) struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<&'a [ChatMessage]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<usize>,
    temperature: f64,
    top_p: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    seed: u32,
    /// Some servers stream unless told otherwise.
    stream: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    vllm: Option<Vllm>,
}

#[derive(Serialize)]
struct Vllm {
    return_token_ids: bool,
    min_p: f64,
    repetition_penalty: f64,
}

impl<'a> Body<'a> {
    fn new(endpoint: &'a Endpoint, params: &'a SamplingParams, stream: StreamKey) -> Self {
        let is_vllm = endpoint.is_vllm();
        let vllm = is_vllm.then_some(Vllm { return_token_ids: true, min_p: 0.0, repetition_penalty: 1.0 });
        let top_k = params.top_k.map(|k| i64::try_from(k).unwrap_or(i64::MAX));
        let stops = if is_vllm { params.stop.len() } else { params.stop.len().min(OPENAI_STOPS) };
        Self {
            model: &endpoint.settings.model,
            prompt: None,
            messages: None,
            max_tokens: Some(params.max_new_tokens),
            max_completion_tokens: None,
            temperature: params.temperature,
            top_p: params.top_p,
            // −1 is "all tokens" to vLLM.
            top_k: top_k.or(is_vllm.then_some(-1)),
            stop: &params.stop[..stops],
            seed: seed(stream),
            stream: false,
            vllm,
        }
    }

    pub(crate) fn completion(
        endpoint: &'a Endpoint,
        prompt: &'a str,
        params: &'a SamplingParams,
        stream: StreamKey,
    ) -> Self {
        Self { prompt: Some(prompt), ..Self::new(endpoint, params, stream) }
    }

    pub(crate) fn chat(
        endpoint: &'a Endpoint,
        messages: &'a [ChatMessage],
        params: &'a SamplingParams,
        stream: StreamKey,
    ) -> Self {
        let plain = Self::new(endpoint, params, stream);
        let (max_tokens, max_completion_tokens) = match endpoint.settings.token_limit {
            TokenLimit::MaxTokens => (plain.max_tokens, None),
            TokenLimit::MaxCompletionTokens => (None, plain.max_tokens),
        };
        Self { messages: Some(messages), max_tokens, max_completion_tokens, ..plain }
    }
}

/// A 31-bit seed (servers differ in how many bits they take) from the request's stream.
fn seed(stream: StreamKey) -> u32 {
    let hash = stream
        .bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |h, &byte| (h ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash >> 1
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    message: Option<Message>,
    finish_reason: Option<String>,
    /// vLLM says here which stop string it met; null at the end of the sequence.
    #[serde(default)]
    stop_reason: Option<serde_json::Value>,
    /// vLLM's ids of the sampled tokens, end of sequence included.
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

/// Reads an answer of either kind.
pub(crate) fn read(text: &str, params: &SamplingParams) -> Result<Sample, String> {
    let answer: Answer = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let choice = answer.choices.into_iter().next().ok_or("it has no choice")?;
    let said = choice.text.or(choice.message.and_then(|message| message.content));
    let mut text = said.ok_or("its choice has neither text nor message content")?;
    // Some servers leave the stop string in the text, and no more than four are sent to most.
    let cut = params.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
    if let Some(cut) = cut {
        text.truncate(cut);
    }
    let finish = match choice.finish_reason.as_deref() {
        _ if cut.is_some() => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        Some("stop") if choice.stop_reason.as_ref().is_some_and(serde_json::Value::is_string) => {
            FinishReason::Stop
        }
        Some("stop") => FinishReason::Eos,
        other => {
            let found = other.unwrap_or("missing");
            return Err(format!("finish_reason is {found}; it must be \"stop\" or \"length\""));
        }
    };
    // At a stop string, the ids are those of more text than the response has.
    let token_ids = choice.token_ids.filter(|ids| finish != FinishReason::Stop && !ids.is_empty());
    // Never the server's log-probabilities: they are of other weights, numerics and templates than those that train.
    Ok(Sample { text, token_ids, logps: None, finish })
}
