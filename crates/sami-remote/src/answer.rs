//! What came back, as a sample or the reason why it is none.

use sami_policy::{FinishReason, Refusal, RefusalCause, Sample, SamplingParams};
use serde::Deserialize;
use serde_json::Value;

use crate::complaint::Complaint;
use crate::finish::Finish;

/// What an answer is.
#[derive(Debug)]
pub(crate) enum Reading {
    Sample(Sample),
    /// An answer that cannot be used.
    Refused(Refusal),
    /// An error, with a status that says all is well.
    Complaint(Complaint),
    /// Another try may bring a whole one.
    BrokenOff(String),
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    message: Option<Message>,
    finish_reason: Option<Value>,
    /// vLLM says here which stop string it met; null at the end of the sequence.
    #[serde(default)]
    stop_reason: Option<Value>,
    /// vLLM's ids of the sampled tokens, end of sequence included.
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    reasoning_content: Option<Value>,
    #[serde(default)]
    reasoning: Option<Value>,
    #[serde(default)]
    thinking: Option<Value>,
    /// OpenAI's models decline here.
    #[serde(default)]
    refusal: Option<String>,
}

/// Reads an answer of either kind.
pub(crate) fn read(text: &str, params: &SamplingParams) -> Reading {
    if let Ok(value) = serde_json::from_str::<Value>(text)
        && let Some(complaint) = Complaint::in_answer(&value)
    {
        return Reading::Complaint(complaint);
    }
    let answer: Answer = match serde_json::from_str(text) {
        Ok(answer) => answer,
        Err(error) => return unusable(format!("the answer is no completion: {error}")),
    };
    let Some(choices) = answer.choices else {
        return unusable("the answer is no completion: it has no choices".to_owned());
    };
    let Some(choice) = choices.into_iter().next() else {
        return unusable("the answer is no completion: it has no choice".to_owned());
    };
    choice.read(answer.usage.and_then(|usage| usage.completion_tokens), params)
}

fn unusable(message: String) -> Reading {
    Reading::Refused(Refusal::new(RefusalCause::Answer, message))
}

impl Choice {
    fn read(self, completion_tokens: Option<u64>, params: &SamplingParams) -> Reading {
        let word = self.finish_reason.as_ref().and_then(Value::as_str).map(str::to_owned);
        let finish = Finish::of(word.as_deref());
        match finish {
            Finish::BrokenOff => {
                return Reading::BrokenOff(format!("finish_reason is {}", word.unwrap_or_default()));
            }
            Finish::Filtered => {
                let word = word.unwrap_or_default();
                let message =
                    format!("the server's content filter cut the response off (finish_reason {word})");
                return Reading::Refused(Refusal::new(RefusalCause::Server, message));
            }
            _ => {}
        }
        let thought = self.message.as_ref().is_some_and(Message::has_thought);
        let declined = self.message.as_ref().and_then(|message| message.refusal.clone());
        let said =
            self.text.or_else(|| self.message.and_then(|message| message.content).and_then(|it| plain(&it)));
        let text = said
            .filter(|text| !(text.is_empty() && thought && finish == Finish::Ended(FinishReason::Length)));
        let Some(mut text) = text else {
            if let Some(declined) = declined.filter(|declined| !declined.is_empty()) {
                let message = format!("the model declined: {declined}");
                return Reading::Refused(Refusal::new(RefusalCause::Server, message));
            }
            if thought && finish == Finish::Ended(FinishReason::Length) {
                return unusable(format!(
                    "all tokens ({} were allowed) went into thinking; raise max_new_tokens",
                    params.max_new_tokens
                ));
            }
            return unusable(
                "the answer is no completion: its choice has neither text nor message content".to_owned(),
            );
        };
        // Some servers leave the stop string in the text, and no more than four are sent to most.
        let cut = params.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        if let Some(cut) = cut {
            text.truncate(cut);
        }
        let named = self.stop_reason.as_ref().is_some_and(Value::is_string);
        let finish = match finish {
            _ if cut.is_some() => FinishReason::Stop,
            Finish::Ended(FinishReason::Eos) if named => FinishReason::Stop,
            Finish::Ended(finish) => finish,
            Finish::Unsaid => match completion_tokens {
                Some(tokens) if tokens >= params.max_new_tokens as u64 => FinishReason::Length,
                Some(_) if !text.is_empty() => FinishReason::Eos,
                _ => {
                    return unusable(
                        "finish_reason is missing, and no count of tokens tells whether the response is whole"
                            .to_owned(),
                    );
                }
            },
            Finish::BrokenOff | Finish::Filtered | Finish::Other => {
                let word = word.unwrap_or_default();
                return unusable(format!("finish_reason is {word}, which is no end of a text that we know"));
            }
        };
        // At a stop string, the ids are those of more text than the response has.
        let token_ids = self.token_ids.filter(|ids| finish != FinishReason::Stop && !ids.is_empty());
        // Never the server's log-probabilities: they are of other weights, numerics and templates than those that train.
        Reading::Sample(Sample { text, token_ids, logps: None, finish })
    }
}

impl Message {
    fn has_thought(&self) -> bool {
        let parts = self.content.as_ref().and_then(Value::as_array).into_iter().flatten();
        let thinks = |part: &Value| !is_text(part);
        let beside = [&self.reasoning_content, &self.reasoning, &self.thinking];
        parts.into_iter().any(thinks)
            || beside.into_iter().flatten().any(|value| value.as_str().is_some_and(|text| !text.is_empty()))
    }
}

/// A part of a text, as against one of a thought or a call.
fn is_text(part: &Value) -> bool {
    let kind = part.get("type").and_then(Value::as_str);
    part.is_string() || matches!(kind, None | Some("text" | "output_text"))
}

/// The text of a message: a string, or a list of parts. Thoughts are left out.
fn plain(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let text =
                |part: &Value| part.as_str().or(part.get("text").and_then(Value::as_str)).map(str::to_owned);
            Some(parts.iter().filter(|part| is_text(part)).filter_map(text).collect())
        }
        Value::Object(_) => content.get("text").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    }
}
