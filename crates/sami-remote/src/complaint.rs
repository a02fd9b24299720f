//! What a server says when it refuses, in whatever shape its maker chose.

use serde_json::Value;

/// Objects within objects that are looked into; gateways wrap what the server behind them said.
const DEPTH: usize = 8;

/// A refusal in the server's own words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaint {
    /// Of the answer, or what an answer with status 200 says inside.
    pub(crate) status: Option<u16>,
    /// The sentence that a person is to read.
    pub(crate) message: String,
    /// Parameters that the server names as such.
    params: Vec<String>,
    /// All that was said in sentences and codes, in lower case. What a server repeats of the request is not in it: a prompt
    /// may hold any word.
    text: String,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The prompt and the response together are longer than the model's context.
    Context,
    /// A content filter.
    Filter,
    /// An account without money.
    Quota,
    Other,
}

const CONTEXT: [&str; 21] = [
    "context_length",
    "context length",
    "context window",
    "context_window",
    "context size",
    "context_size",
    "maximum context",
    "maximum model length",
    "max_model_len",
    "prompt is too long",
    "input is too long",
    "too many tokens",
    "too many input tokens",
    "input token count",
    "inputs` tokens",
    "inputs` must have",
    "string_above_max_length",
    "request_too_large",
    "reduce the length",
    "input tokens exceed",
    "input length",
];
const FILTER: [&str; 20] = [
    "content_filter",
    "content filter",
    "contentfilter",
    "content_policy",
    "content policy",
    "contentpolicy",
    "content management policy",
    "responsibleai",
    "content exists risk",
    "data_inspection",
    "datainspection",
    "inappropriate content",
    "usage guidelines",
    "usage policy",
    "usage policies",
    "moderation",
    "flagged",
    "safety",
    "guardrail",
    "invalid_prompt",
];
const QUOTA: [&str; 5] =
    ["insufficient_quota", "exceeded_current_quota", "insufficient balance", "credit balance", "billing"];
/// Codes and words of faults that pass, where there is no number.
const PASSING: [&str; 16] = [
    "rate_limit",
    "rate limit",
    "overloaded",
    "server_error",
    "internal_error",
    "internal error",
    "unavailable",
    "timeout",
    "timed out",
    "resource_exhausted",
    "resourceexhausted",
    "too_many_requests",
    "too many requests",
    "bad_gateway",
    "throttl",
    "try again",
];
/// How servers say that they do not know a parameter, as against its value.
const UNKNOWN: [&str; 11] = [
    "unrecognized",
    "unknown",
    "unexpected",
    "extra inputs",
    "extra_forbidden",
    "not permitted",
    "additional propert",
    "unsupported field",
    "unsupported param",
    "cannot find field",
    "not supported",
];
/// Words behind which a message lists what it would have liked.
const INSTEAD: [&str; 6] =
    ["expected one of", "instead", " allowed param", " allowed field", " supported param", " valid param"];
/// Words that make an ordinary word beside them a parameter's name.
const BEFORE_NAME: [&str; 12] = [
    "supplied",
    "parameter",
    "parameters",
    "param",
    "argument",
    "arguments",
    "field",
    "fields",
    "property",
    "name",
    "option",
    "input",
];
const AFTER_NAME: [&str; 6] = ["is", "must", "not", "parameter", "does", "isn't"];

impl Complaint {
    /// The body of an answer with a status that is no success.
    pub(crate) fn read(status: u16, text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        let mut complaint = Self::of(&value);
        complaint.status = Some(status);
        complaint
    }

    /// What an answer with status 200 complains about, if it does.
    pub(crate) fn in_answer(value: &Value) -> Option<Self> {
        let value = value.get(0).unwrap_or(value);
        let first = value.pointer("/choices/0");
        if let Some(error) = first.and_then(|choice| choice.get("error")).filter(|error| says(error)) {
            return Some(Self::of(error));
        }
        if first.is_some() {
            return None;
        }
        let names = |key: &str, what: &str| value.get(key).and_then(Value::as_str) == Some(what);
        let fails = value.pointer("/base_resp/status_code").and_then(Value::as_i64).is_some_and(|n| n != 0);
        let found =
            ["error", "errors", "detail", "error_msg"].iter().any(|key| value.get(key).is_some_and(says));
        let bare = value.get("choices").is_none() && value.get("message").is_some_and(Value::is_string);
        (found || fails || bare || names("object", "error") || names("type", "error"))
            .then(|| Self::of(value))
    }

    fn of(value: &Value) -> Self {
        let mut complaint = Self::default();
        complaint.gather(value, DEPTH);
        if complaint.message.is_empty() && says(value) {
            complaint.message = value.to_string();
        }
        complaint
    }

    fn add(&mut self, said: &str) {
        self.text.push_str(&said.to_lowercase());
        self.text.push('\n');
    }

    fn gather(&mut self, value: &Value, depth: usize) {
        if depth == 0 {
            return;
        }
        match value {
            Value::Array(all) => all.iter().for_each(|one| self.gather(one, depth - 1)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.field(key, value, depth);
                }
            }
            Value::String(said) => {
                self.add(said);
                if self.message.is_empty() {
                    said.trim().clone_into(&mut self.message);
                }
                // What the server behind a gateway said, as text.
                if let Some(at) = said.find(['{', '[']).filter(|_| said.contains('"'))
                    && let Some(Ok(inner)) =
                        serde_json::Deserializer::from_str(&said[at..]).into_iter::<Value>().next()
                {
                    self.gather(&inner, depth - 1);
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, key: &str, value: &Value, depth: usize) {
        match (key, value) {
            ("code" | "type" | "status" | "error_type" | "error_code" | "status_code", value) => {
                let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
                match number.and_then(|n| u16::try_from(n).ok()).filter(|n| (400..600).contains(n)) {
                    Some(status) => self.status = self.status.or(Some(status)),
                    None => self.add(value.as_str().unwrap_or_default()),
                }
            }
            ("param", Value::String(name)) => {
                self.params.push(name.rsplit('.').next().unwrap_or(name).to_owned());
            }
            ("loc", Value::Array(path)) => {
                self.params.extend(path.last().and_then(Value::as_str).map(str::to_owned));
            }
            (
                "message" | "msg" | "detail" | "error" | "errors" | "error_msg" | "status_msg" | "raw",
                value,
            ) => {
                self.gather(value, depth);
            }
            ("input" | "body" | "ctx" | "request", _) => {}
            (_, Value::Object(_) | Value::Array(_)) => self.gather(value, depth - 1),
            _ => {}
        }
    }

    fn says_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.text.contains(word))
    }

    pub(crate) fn about(&self) -> About {
        if self.says_any(&QUOTA) {
            About::Quota
        } else if self.says_any(&FILTER) {
            About::Filter
        } else if self.says_any(&CONTEXT) {
            About::Context
        } else {
            About::Other
        }
    }

    /// Whether it may pass: by the status, and without one by the words.
    pub(crate) fn is_passing(&self) -> bool {
        if self.about() != About::Other {
            return false;
        }
        match self.status {
            Some(status) => matches!(status, 408 | 409 | 425 | 429 | 500 | 502..=504 | 506..=599),
            None => self.says_any(&PASSING),
        }
    }

    /// Whether it is about this one request rather than about the key, the address or the account.
    pub(crate) fn is_about_the_request(&self) -> bool {
        match self.about() {
            About::Context | About::Filter => true,
            About::Quota => false,
            About::Other => matches!(self.status, None | Some(400 | 413 | 414 | 422 | 451)),
        }
    }

    /// Whether the server does not know a parameter, rather than not like its value.
    pub(crate) fn says_unknown(&self) -> bool {
        self.says_any(&UNKNOWN)
    }

    /// Whether parameters are fine alone and refused together.
    pub(crate) fn says_together(&self) -> bool {
        self.says_any(&["both", "only one", "together", "mutually exclusive"])
    }

    pub(crate) fn mentions(&self, word: &str) -> bool {
        self.text.contains(word)
    }

    /// Which of the parameters that were sent it names. None where it is about something else.
    pub(crate) fn parameters(&self, sent: &[&'static str]) -> Vec<&'static str> {
        if !matches!(self.status, None | Some(400 | 422)) || self.about() != About::Other {
            return Vec::new();
        }
        let of = |names: &[&str]| -> Vec<&'static str> {
            sent.iter().copied().filter(|name| names.contains(name)).collect()
        };
        let said: Vec<&str> = self.params.iter().map(String::as_str).collect();
        let named = of(&said);
        if !named.is_empty() && !self.says_together() {
            return named;
        }
        let end = INSTEAD.iter().filter_map(|word| self.text.find(word)).min().unwrap_or(self.text.len());
        let text = self.text.get(..end).unwrap_or(&self.text);
        let quoted: Vec<&str> = text.split(['\'', '"', '`', '\\']).collect();
        let named = of(&quoted);
        if !named.is_empty() {
            return named;
        }
        let inside = |c: char| !(c.is_alphanumeric() || c == '_' || c == '\'');
        let words: Vec<&str> = text.split(inside).filter(|word| !word.is_empty()).collect();
        let is_named = |name: &&'static str| {
            words.iter().enumerate().any(|(at, word)| {
                let before = at.checked_sub(1).and_then(|at| words.get(at));
                let cued = before.is_some_and(|word| BEFORE_NAME.contains(word))
                    || words.get(at + 1).is_some_and(|word| AFTER_NAME.contains(word));
                // "stop" and "seed" are words too.
                word == name && (name.contains('_') || *name == "temperature" || cued)
            })
        };
        sent.iter().copied().filter(is_named).collect()
    }
}

fn says(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: [&str; 9] = [
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "stop",
        "seed",
        "return_token_ids",
    ];

    fn named(status: u16, body: &str) -> Vec<&'static str> {
        Complaint::read(status, body).parameters(&SENT)
    }

    #[test]
    fn parameters_are_found_in_the_words_of_many_servers() {
        let cases: [(u16, &str, &[&str]); 17] = [
            (
                400,
                r#"{"error":{"message":"Unsupported parameter: 'temperature' is not supported with this model."}}"#,
                &["temperature"],
            ),
            (
                400,
                r#"{"error":{"message":"Invalid parameter 'top_p'. The supported parameters are 'temperature'"}}"#,
                &["top_p"],
            ),
            (
                400,
                r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#,
                &["max_tokens"],
            ),
            (
                400,
                r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.","param":"temperature","code":"unsupported_value"}}"#,
                &["temperature"],
            ),
            (
                400,
                r#"{"error":{"message":"Unrecognized request arguments supplied: min_p, repetition_penalty, top_k","type":"invalid_request_error","param":null,"code":null}}"#,
                &["top_k", "min_p", "repetition_penalty"],
            ),
            (400, r#"{"error":{"message":"Unrecognized request argument supplied: seed"}}"#, &["seed"]),
            (
                422,
                r#"{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not permitted","input":7}]}"#,
                &["seed"],
            ),
            (
                422,
                r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","top_k"],"msg":"Extra inputs are not permitted"},{"type":"extra_forbidden","loc":["body","min_p"],"msg":"Extra inputs are not permitted"}]},"type":"invalid_request_error"}"#,
                &["top_k", "min_p"],
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"seed\": Cannot find field.","status":"INVALID_ARGUMENT"}}]"#,
                &["seed"],
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"temperature and top_p cannot both be specified for this model. Please use only one."}}"#,
                &["temperature", "top_p"],
            ),
            (
                400,
                r#"{"message":"invalid temperature: only 1 is allowed for this model","type":"invalid_request_error"}"#,
                &["temperature"],
            ),
            (400, r#"{"message":"temperature is deprecated for this model."}"#, &["temperature"]),
            (400, r#"{"error":{"message":"property 'seed' is unsupported"}}"#, &["seed"]),
            (
                400,
                r#"{"error":"unknown field `min_p`, expected one of `model`, `temperature`, `top_p`"}"#,
                &["min_p"],
            ),
            (422, r#"{"detail":"Unexpected fields in the request: {'top_k', 'stop'}"}"#, &["top_k", "stop"]),
            (
                400,
                r#"{"error":{"message":"litellm.BadRequestError: X - {\"error\":{\"message\":\"bad\",\"param\":\"top_p\"}}"}}"#,
                &["top_p"],
            ),
            (400, r#"{"error":{"message":"stop is not supported"}}"#, &["stop"]),
        ];
        for (status, body, expected) in cases {
            assert_eq!(named(status, body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_about_the_prompt_names_no_parameter() {
        let context = [
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens","type":"BadRequestError","param":null,"code":400}"#,
            ),
            (
                400,
                r#"{"error":{"message":"'max_tokens' or 'max_completion_tokens' is too large: 900. This model's maximum context length is 512 tokens","param":"max_tokens"}}"#,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"the request exceeds the available context size. try increasing the context size","type":"exceed_context_size_error"}}"#,
            ),
            (
                422,
                r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3000","error_type":"validation"}"#,
            ),
            (
                400,
                r#"{"error":{"code":"context_length_exceeded","message":"Please reduce the length of the messages."}}"#,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8)."}}]"#,
            ),
            (500, r#"{"error":"the input length exceeds the context length"}"#),
        ];
        for (status, body) in context {
            let complaint = Complaint::read(status, body);
            assert_eq!(complaint.about(), About::Context, "{body}");
            assert!(complaint.parameters(&SENT).is_empty() && !complaint.is_passing(), "{body}");
            assert!(complaint.is_about_the_request(), "{body}");
        }
        let filter = [
            (
                400,
                r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            ),
            (400, r#"{"error":{"message":"Content Exists Risk","type":"invalid_request_error"}}"#),
            (
                400,
                r#"{"error":{"code":"data_inspection_failed","message":"Input data may contain inappropriate content."}}"#,
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"Your chosen model requires moderation and your input was flagged"}}"#,
            ),
            (403, r#"{"code":"no permission","error":"Content violates usage guidelines."}"#),
        ];
        for (status, body) in filter {
            let complaint = Complaint::read(status, body);
            assert_eq!(complaint.about(), About::Filter, "{body}");
            assert!(complaint.is_about_the_request() && complaint.parameters(&SENT).is_empty(), "{body}");
        }
        for status in [401, 402, 403, 404] {
            assert!(!Complaint::read(status, "no").is_about_the_request());
        }
        assert!(!Complaint::read(429, r#"{"error":{"code":"insufficient_quota"}}"#).is_passing());
        // What the server repeats of the request says nothing.
        let echo = r#"{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required","input":{"prompt":"content filter","temperature":0}}]}"#;
        let complaint = Complaint::read(422, echo);
        assert_eq!(complaint.about(), About::Other);
        assert!(complaint.parameters(&SENT).is_empty());
    }

    #[test]
    fn errors_inside_good_answers_are_seen() {
        let of = |text: &str| Complaint::in_answer(&serde_json::from_str(text).unwrap());
        let passing = [
            r#"{"error":{"message":"Provider returned error","code":502}}"#,
            r#"{"error":{"message":"Rate limit exceeded","code":"429"}}"#,
            r#"{"error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            r#"{"choices":null,"error":{"code":529,"message":"busy"}}"#,
            r#"{"choices":[{"error":{"code":503,"message":"gone"},"finish_reason":"error","message":{"content":""}}]}"#,
            r#"{"object":"error","message":"engine timeout","code":504}"#,
        ];
        for text in passing {
            assert!(of(text).unwrap().is_passing(), "{text}");
        }
        let lasting = of(r#"{"error":{"message":"No such model","code":404}}"#).unwrap();
        assert!(!lasting.is_passing() && !lasting.is_about_the_request());
        assert_eq!((lasting.status, lasting.message.as_str()), (Some(404), "No such model"));
        let minimax =
            of(r#"{"base_resp":{"status_code":1026,"status_msg":"input new_sensitive"},"choices":null}"#);
        assert_eq!(minimax.unwrap().message, "input new_sensitive");
        for good in [
            r#"{"choices":[{"text":"x"}],"error":null}"#,
            r#"{"choices":[{"text":"x","error":null}],"base_resp":{"status_code":0}}"#,
        ] {
            assert!(of(good).is_none(), "{good}");
        }
    }
}
