//! `tokenizer.json`, and the one rule about special tokens.
//!
//! A prompt is tokenised with the special tokens that the tokenizer's own post-processor puts in front (BOS), and
//! without one at the end: an end-of-sequence token is only ever sampled, never appended. A prompt that spells its BOS out
//! gets no second one. A rendered conversation has exactly the special tokens that its template wrote.

mod special;
mod stop;

use std::path::Path;

use sami_policy::ChatMessage;

use crate::chat::{ChatError, ChatTemplate};
use crate::error::{Error, Result};
use crate::json;

pub(crate) use special::{CONFIG_FILE, SpecialTokens, object};
pub use stop::StopToken;

/// A checkpoint's tokenizer, with its chat template where it has one.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    stop: Vec<StopToken>,
    /// Their ids.
    eos: Vec<u32>,
    template: Option<ChatTemplate>,
    /// `tokenizer.json`.
    path: std::path::PathBuf,
}

impl Tokenizer {
    /// Reads `dir/tokenizer.json` and what stands beside it: special tokens, the chat template, and the tokens that end a text.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let fail = |reason: String| Error::Tokenizer { path: path.clone(), reason };
        if !path.is_file() {
            let reason = "not found; save the tokenizer in its fast form (tokenizer.json) beside the weights";
            return Err(fail(reason.into()));
        }
        let mut inner = json::read_text(&path)?
            .parse::<tokenizers::Tokenizer>()
            .map_err(|error| fail(error.to_string()))?;
        // A checkpoint's batch settings must not cut or pad what is scored.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| fail(error.to_string()))?;
        let special = SpecialTokens::read(dir)?;
        special.add_to(&mut inner).map_err(|error| fail(error.to_string()))?;
        let template = ChatTemplate::open(dir)?;
        let stop = stop::stop_tokens(dir, &inner, &special, template.as_ref())?;
        let eos = stop.iter().map(|token| token.id).collect();
        Ok(Self { inner, stop, eos, template, path })
    }

    /// The ids of the tokens that end a text; none where the checkpoint names none.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// The tokens that end a text, and the files that name them: `generation_config.json`, `config.json`, the `eos_token` of
    /// `tokenizer_config.json`, and what the chat template writes at the end of an assistant's turn.
    pub fn stop_tokens(&self) -> &[StopToken] {
        &self.stop
    }

    /// The chat template; a base model has none.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// The chat template of a checkpoint that must have one.
    pub(crate) fn require_chat_template(&self) -> Result<&ChatTemplate> {
        let path = self.path.parent().unwrap_or(&self.path).to_owned();
        self.template.as_ref().ok_or(Error::Chat { path, source: ChatError::NoTemplate })
    }

    /// Tokens of a conversation, up to where the assistant's answer begins.
    pub fn encode_chat(&self, messages: &[ChatMessage], what: &str) -> Result<Vec<u32>> {
        self.encode_rendered(&self.require_chat_template()?.render(messages, true)?, what)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Tokens of a conversation that a [`ChatTemplate`](crate::ChatTemplate) rendered: nothing added, nothing taken away.
    pub fn encode_rendered(&self, text: &str, what: &str) -> Result<Vec<u32>> {
        Ok(self.encode(text, false, what)?.get_ids().to_vec())
    }

    fn encode(&self, text: &str, add_special: bool, what: &str) -> Result<tokenizers::Encoding> {
        self.inner
            .encode(text, add_special)
            .map_err(|error| Error::Tokenise { what: what.to_owned(), reason: error.to_string() })
    }

    /// Tokens of a text that begins a sequence: with one BOS where the tokenizer has one, without EOS.
    pub fn encode_prompt(&self, text: &str, what: &str) -> Result<Vec<u32>> {
        let encoding = self.encode(text, true, what)?;
        let mut ids = encoding.get_ids().to_vec();
        // An end-of-sequence token that the post-processor puts at the end goes; the text's own tokens stay.
        let special = encoding.get_special_tokens_mask();
        let appended = ids
            .iter()
            .zip(special)
            .rev()
            .take_while(|(id, special)| **special == 1 && self.eos.contains(id))
            .count();
        ids.truncate(ids.len() - appended);
        // What was put in front (the mask tells it from the text's own tokens) and stands in the text again.
        let put = special.iter().take_while(|special| **special == 1).count().min(ids.len());
        if put > 0 && ids[put..].starts_with(&ids[..put]) {
            ids.drain(..put);
        }
        Ok(ids)
    }

    /// Text of tokens that follow `anchor` (the prompt's last token): some decoders drop a space at the beginning of
    /// what they are given, which is not the beginning here. Special tokens are left out.
    pub fn decode_after(&self, anchor: Option<u32>, ids: &[u32]) -> Result<String> {
        let decode = |ids: &[u32]| {
            self.inner
                .decode(ids, true)
                .map_err(|error| Error::Tokenise { what: "sampled tokens".into(), reason: error.to_string() })
        };
        if let Some(anchor) = anchor {
            let before = decode(&[anchor])?;
            let mut with_anchor = Vec::with_capacity(ids.len() + 1);
            with_anchor.push(anchor);
            with_anchor.extend_from_slice(ids);
            if let Some(text) = decode(&with_anchor)?.strip_prefix(&before) {
                return Ok(text.to_owned());
            }
        }
        decode(ids)
    }
}
