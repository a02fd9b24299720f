//! What is asked, in OpenAI's format.

use sami_policy::{ChatMessage, SamplingParams, StreamKey};
use serde_json::{Map, Value, json};

use crate::changes::Change;
use crate::endpoint::{Endpoint, Server, TokenLimit};

/// Stop strings that OpenAI takes; we look for the others ourselves.
const OPENAI_STOPS: usize = 4;

/// What a model is to continue or to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    Prompt(&'a str),
    Chat(&'a [ChatMessage]),
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) input: Input<'a>,
    pub(crate) params: &'a SamplingParams,
    pub(crate) stream: StreamKey,
    /// Whether a default of the server's may take the place of ours where it refuses ours.
    pub(crate) server_defaults: bool,
}

/// The parameters that a request can have, so that a complaint can be about one of them.
pub(crate) const PARAMETERS: [&str; 11] = [
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "repeat_penalty",
    "stop",
    "seed",
    "return_token_ids",
];

/// Beyond OpenAI's; sent to say that nothing is to be done, since many servers do something where they are absent.
pub(crate) const EXTENSIONS: [&str; 4] = ["top_k", "min_p", "repetition_penalty", "repeat_penalty"];

impl Request<'_> {
    pub(crate) fn path(&self) -> &'static str {
        match self.input {
            Input::Prompt(_) => "completions",
            Input::Chat(_) => "chat/completions",
        }
    }

    /// The body, after the changes that the server has asked for.
    ///
    /// Parameters that shape the distribution stand in it also where they do nothing: vLLM, SGLang and others take
    /// what is absent from the model's `generation_config.json`, and llama.cpp has defaults of its own. Of the rest only
    /// what differs from the default does.
    pub(crate) fn body(&self, endpoint: &Endpoint, changes: &[Change]) -> Map<String, Value> {
        let params = self.params;
        let server = endpoint.server();
        let mut body = Map::new();
        body.insert("model".into(), json!(endpoint.settings.model));
        match self.input {
            Input::Prompt(prompt) => body.insert("prompt".into(), json!(prompt)),
            Input::Chat(messages) => body.insert("messages".into(), json!(messages)),
        };
        let newer = matches!(self.input, Input::Chat(_))
            && endpoint.settings.token_limit == TokenLimit::MaxCompletionTokens;
        let limit = if newer { "max_completion_tokens" } else { "max_tokens" };
        body.insert(limit.into(), json!(params.max_new_tokens));
        body.insert("temperature".into(), json!(params.temperature));
        body.insert("top_p".into(), json!(params.top_p));
        if let Some(k) = params.top_k {
            body.insert("top_k".into(), json!(k));
        }
        if server != Server::OpenAi {
            // All tokens: −1 to vLLM and SGLang, which refuse 0 in some versions; 0 to the others.
            let all = if matches!(server, Server::Vllm | Server::SgLang) { -1 } else { 0 };
            body.entry("top_k").or_insert(json!(all));
            body.insert("min_p".into(), json!(0.0));
            let penalty = if server == Server::LlamaCpp { "repeat_penalty" } else { "repetition_penalty" };
            body.insert(penalty.into(), json!(1.0));
        }
        if server == Server::Vllm {
            body.insert("return_token_ids".into(), json!(true));
        }
        let most = if matches!(server, Server::OpenAi | Server::Other) { OPENAI_STOPS } else { usize::MAX };
        let stops = &params.stop[..params.stop.len().min(most)];
        if !stops.is_empty() {
            body.insert("stop".into(), json!(stops));
        }
        // A greedy response draws nothing.
        if params.temperature > 0.0 {
            body.insert("seed".into(), json!(seed(self.stream)));
        }
        for change in changes {
            change.apply(&mut body);
        }
        body
    }

    /// What tells this request from others whose body would be the same without its seed.
    pub(crate) fn seed(&self) -> Option<u32> {
        (self.params.temperature > 0.0).then(|| seed(self.stream))
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
