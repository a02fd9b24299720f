//! Conversations, for models that were taught a chat format.

use serde::{Deserialize, Serialize};

use crate::{Refusal, Sample, Sampler, SamplingParams, StreamKey};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Standing instructions, before the conversation. Some chat formats have no place for them and refuse.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that chat templates and servers know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What they say.
    pub content: String,
}

impl ChatMessage {
    /// A turn of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// One conversation for the model to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    /// The turns so far, oldest first; the answer follows the last one.
    pub messages: Vec<ChatMessage>,
    /// The request's own random stream.
    pub stream: StreamKey,
}

/// A [`Sampler`] that can also answer conversations in the chat format that its model was taught.
///
/// The implementer owns the format (a checkpoint's chat template, a server's `/chat/completions`); callers hold turns, never
/// rendered text, so that special tokens are placed once, and by whoever knows them.
pub trait ChatSampler: Sampler {
    /// Whether the model has a chat format. A base model has none: ask it with a raw prompt through [`Sampler::sample`].
    fn has_chat_format(&self) -> bool;

    /// One answer or refusal per conversation, in order, as [`Sampler::sample`] does for raw prompts. Turns
    /// that the model's format refuses (some demand that user and assistant alternate) are a refusal.
    ///
    /// # Errors
    ///
    /// A model without a chat format.
    fn sample_chat(
        &mut self,
        requests: &[ChatRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, Self::Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_written_as_servers_and_templates_read_it() {
        let roles = [Role::System, Role::User, Role::Assistant];
        assert_eq!(serde_json::to_value(roles).unwrap(), serde_json::json!(roles.map(Role::name)));
        let turn = ChatMessage::new(Role::User, "Hi");
        assert_eq!(serde_json::to_string(&turn).unwrap(), r#"{"role":"user","content":"Hi"}"#);
        assert!(serde_json::from_str::<ChatMessage>(r#"{"role":"tool","content":"Hi"}"#).is_err());
    }
}
