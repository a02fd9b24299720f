//! How a prompt becomes tokens: one place for sampling, scoring and training, so that all of them read the same.

use std::borrow::Cow;

use sami_policy::{ChatMessage, Role};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// What a policy makes of the prompts that it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptFormat {
    /// Text to continue, with the special tokens that the tokenizer puts in front (BOS, most often).
    #[default]
    Raw,
    /// A user's turn, answered in the checkpoint's chat format: exactly the tokens that the chat template writes.
    UserTurn,
}

/// A prompt as the model reads it.
pub(crate) struct Written<'a> {
    tokenizer: &'a Tokenizer,
    format: PromptFormat,
    text: Cow<'a, str>,
}

impl PromptFormat {
    pub(crate) fn write<'a>(self, prompt: &'a str, tokenizer: &'a Tokenizer) -> Result<Written<'a>> {
        let text = match self {
            Self::Raw => Cow::Borrowed(prompt),
            Self::UserTurn => {
                let turn = ChatMessage::new(Role::User, prompt);
                Cow::Owned(tokenizer.require_chat_template()?.render(&[turn], true)?)
            }
        };
        Ok(Written { tokenizer, format: self, text })
    }
}

impl Written<'_> {
    /// The prompt's own tokens.
    pub(crate) fn ids(&self, what: &str) -> Result<Vec<u32>> {
        self.encode(&self.text, what)
    }

    /// Prompt and response tokenised jointly.
    pub(crate) fn ids_with(&self, response: &str, what: &str) -> Result<Vec<u32>> {
        self.encode(&format!("{}{response}", self.text), what)
    }

    fn encode(&self, text: &str, what: &str) -> Result<Vec<u32>> {
        match self.format {
            PromptFormat::Raw => self.tokenizer.encode_prompt(text, what),
            PromptFormat::UserTurn => self.tokenizer.encode_rendered(text, what),
        }
    }
}
