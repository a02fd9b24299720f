//! The tokens that end a text.
//!
//! `generate` of transformers stops at what `generation_config.json` names, or else `config.json`. Published checkpoints
//! name in one file what they leave out in another, and an instruct model ends its turn with a token that may stand in its
//! chat template alone. So every token counts that any of them names.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::special::{SpecialTokens, object};
use crate::chat::ChatTemplate;
use crate::error::{Error, Result};
use crate::remarks::remark;

const FIELD: &str = "eos_token_id";

/// A token that ends a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StopToken {
    /// Its id.
    pub id: u32,
    /// Its text; none where the tokenizer does not know the id.
    pub text: Option<String>,
    /// The files that name it.
    pub named_by: Vec<String>,
}

/// Collects stop tokens: those of both configurations, of the tokenizer's, and the end of a turn.
pub(super) fn stop_tokens(
    dir: &Path,
    tokenizer: &tokenizers::Tokenizer,
    special: &SpecialTokens,
    template: Option<&ChatTemplate>,
) -> Result<Vec<StopToken>> {
    let config = object(dir, "config.json")?;
    let vocab_size = config.get("vocab_size").and_then(Value::as_u64);
    let mut found = Found { dir, tokenizer, vocab_size, tokens: Vec::new() };
    for (file, fields) in
        [("generation_config.json", &object(dir, "generation_config.json")?), ("config.json", &config)]
    {
        match fields.get(FIELD) {
            None | Some(Value::Null) => {}
            Some(Value::Array(ids)) => {
                ids.iter().try_for_each(|id| found.add_number(id, file))?;
            }
            Some(id) => found.add_number(id, file)?,
        }
    }
    for named in special.named.iter().filter(|named| named.name == "eos_token") {
        let text = &named.token.content;
        match tokenizer.token_to_id(text) {
            Some(id) => found.add(id, named.file.to_owned()),
            None => found.ignore(named.file, &format!("eos_token {text:?} is no token of tokenizer.json")),
        }
    }
    if let Some(template) = template {
        let mut added: Vec<String> =
            tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        // The longest first, so that none hides behind a part of it.
        added.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let end = template.end_of_turn(&added);
        if let Some(id) = end.and_then(|text| tokenizer.token_to_id(&text)) {
            let file = template.path().file_name().unwrap_or_default().to_string_lossy();
            found.add(id, format!("{file} (end of turn)"));
        }
    }
    Ok(found.tokens)
}

struct Found<'a> {
    dir: &'a Path,
    tokenizer: &'a tokenizers::Tokenizer,
    /// Rows of the embedding, where `config.json` tells them.
    vocab_size: Option<u64>,
    tokens: Vec<StopToken>,
}

impl Found<'_> {
    fn add_number(&mut self, value: &Value, file: &str) -> Result<()> {
        // Whole numbers that Python wrote as floats are ids too; a negative one is how some configurations say "none".
        let number = value.as_i64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64));
        let Some(number) = number else {
            let reason = format!("\"{FIELD}\" holds {value}; it must be a token id, or a list of them");
            return Err(Error::Tokenizer { path: self.dir.join(file), reason });
        };
        match u32::try_from(number) {
            Ok(id) => self.add(id, file.to_owned()),
            Err(_) => self.ignore(file, &format!("{FIELD} {number} is no token")),
        }
        Ok(())
    }

    fn add(&mut self, id: u32, named_by: String) {
        if let Some(rows) = self.vocab_size.filter(|&rows| u64::from(id) >= rows) {
            let what = format!("{FIELD} {id} is beyond the model's vocabulary of {rows}");
            return self.ignore(&named_by, &what);
        }
        match self.tokens.iter_mut().find(|token| token.id == id) {
            Some(token) => token.named_by.push(named_by),
            None => {
                let text = self.tokenizer.id_to_token(id);
                self.tokens.push(StopToken { id, text, named_by: vec![named_by] });
            }
        }
    }

    fn ignore(&self, file: &str, what: &str) {
        remark(&format!("{}: {what}; no text ends with it", self.dir.join(file).display()));
    }
}
