//! `tokenizer.json`, and the one rule about special tokens.
//!
//! A prompt is tokenised with the special tokens that the tokenizer's own post-processor puts in front (BOS), and
//! without one at the end: an end-of-sequence token is only ever sampled, never appended. A prompt that spells its BOS out
//! gets no second one. A rendered conversation has exactly the special tokens that its template wrote.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::json;

/// A checkpoint's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    eos: Vec<u32>,
}

impl Tokenizer {
    /// Reads `dir/tokenizer.json`; the end-of-sequence ids come from `generation_config.json`, else `config.json`.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        if !path.is_file() {
            return Err(Error::Tokenizer {
                path,
                reason: "not found; save the tokenizer in its fast form (tokenizer.json) beside the weights"
                    .into(),
            });
        }
        let mut inner = json::read_text(&path)?
            .parse::<tokenizers::Tokenizer>()
            .map_err(|error| Error::Tokenizer { path: path.clone(), reason: error.to_string() })?;
        // A checkpoint's batch settings must not cut or pad what is scored.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::Tokenizer { path, reason: error.to_string() })?;
        Ok(Self { inner, eos: end_of_sequence(dir)? })
    }

    /// The end-of-sequence ids; none where the checkpoint names none.
    pub fn eos(&self) -> &[u32] {
        &self.eos
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

fn end_of_sequence(dir: &Path) -> Result<Vec<u32>> {
    for file in ["generation_config.json", "config.json"] {
        let path: PathBuf = dir.join(file);
        if !path.is_file() {
            continue;
        }
        let value = json::read(&path)?;
        let ids: Vec<u32> = match value.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(as_id).collect(),
            Some(id) => as_id(id).into_iter().collect(),
            None => Vec::new(),
        };
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    Ok(Vec::new())
}

fn as_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}
