//! The special tokens that the files beside `tokenizer.json` name, by the rules of transformers 5.
//!
//! `tokenizer_config.json` names them (`bos_token`, `eos_token`, …). Where it has no `added_tokens_decoder`, it is of the
//! old kind, and `special_tokens_map.json` and `added_tokens.json` speak too. What they name and `tokenizer.json` does not
//! add is added to the tokenizer: a text that spells such a token becomes that one token.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::{Error, Result};
use crate::json;

pub(crate) const CONFIG_FILE: &str = "tokenizer_config.json";
const MAP_FILE: &str = "special_tokens_map.json";
const ADDED_FILE: &str = "added_tokens.json";
/// Lists of special tokens without a name.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// A special token with a name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// `bos_token`, `eos_token`, …
    pub(crate) name: String,
    pub(crate) token: AddedToken,
    /// The file that names it.
    pub(crate) file: &'static str,
}

/// What the files beside `tokenizer.json` say of special and added tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecialTokens {
    pub(crate) named: Vec<Named>,
    unnamed: Vec<AddedToken>,
    /// By the id that the file gives.
    listed: BTreeMap<u32, AddedToken>,
    /// Special tokens in a text are split like any other text.
    split: bool,
}

impl SpecialTokens {
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let config = object(dir, CONFIG_FILE)?;
        let mut found =
            Self { split: config.get("split_special_tokens") == Some(&Value::Bool(true)), ..Self::default() };
        if let Some(listed) = config.get("added_tokens_decoder") {
            let read = BTreeMap::<u32, Spelling>::deserialize(listed).map_err(|error| Error::Tokenizer {
                path: dir.join(CONFIG_FILE),
                reason: format!("added_tokens_decoder must map ids to tokens: {error}"),
            })?;
            found.listed = read.into_iter().map(|(id, token)| (id, token.added(false))).collect();
            found.take(&config, CONFIG_FILE);
        } else {
            found.take(&config, CONFIG_FILE);
            found.take(&object(dir, MAP_FILE)?, MAP_FILE);
            for (text, id) in object(dir, ADDED_FILE)? {
                let special = found.named.iter().any(|one| one.token.content == text);
                if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                    found.listed.insert(id, AddedToken::from(text, special));
                }
            }
        }
        Ok(found)
    }

    /// Takes what one file names; a later file has the last word.
    fn take(&mut self, fields: &Map<String, Value>, file: &'static str) {
        let groups = LISTS.iter().filter_map(|list| fields.get(*list)?.as_object());
        let fields_and_groups = std::iter::once(fields).chain(groups).flatten();
        for (name, value) in fields_and_groups.filter(|(name, _)| name.ends_with("_token")) {
            let Ok(token) = Spelling::deserialize(value) else { continue };
            self.named.retain(|one| one.name != *name);
            let listed = self.listed.values().find(|one| one.content == token.text());
            let token = AddedToken { special: true, ..listed.cloned().unwrap_or(token.added(true)) };
            self.named.push(Named { name: name.clone(), token, file });
        }
        let lists = LISTS.iter().filter_map(|list| fields.get(*list)?.as_array()).flatten();
        let tokens = lists.filter_map(|value| Spelling::deserialize(value).ok());
        self.unnamed.extend(tokens.map(|token| token.added(true)));
    }

    /// Adds what the tokenizer lacks, and what it has with other properties.
    pub(crate) fn add_to(&self, tokenizer: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
        tokenizer.set_encode_special_tokens(self.split);
        let known: Vec<AddedToken> = tokenizer.get_added_tokens_decoder().into_values().collect();
        let mut tokens: Vec<AddedToken> =
            self.listed.values().filter(|token| !known.iter().any(|one| same(one, token))).cloned().collect();
        for token in &mut tokens {
            token.special |= self.named.iter().any(|one| one.token.content == token.content);
        }
        let mut texts: HashSet<String> = known.iter().chain(&tokens).map(|one| one.content.clone()).collect();
        let further = self.named.iter().map(|one| &one.token).chain(&self.unnamed);
        tokens.extend(further.filter(|token| texts.insert(token.content.clone())).cloned());
        tokenizer.add_tokens(tokens)?;
        Ok(())
    }
}

/// A token in a file: its text, or an object that describes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelling {
    Text(String),
    Described {
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        normalized: Option<bool>,
        special: Option<bool>,
    },
}

impl Spelling {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Described { content: text, .. } => text,
        }
    }

    fn added(self, special: bool) -> AddedToken {
        match self {
            Self::Text(text) => AddedToken::from(text, special),
            Self::Described { content, single_word, lstrip, rstrip, normalized, special: said } => {
                let special = said.unwrap_or(special);
                let normalized = normalized.unwrap_or(!special);
                AddedToken { content, single_word, lstrip, rstrip, normalized, special }
            }
        }
    }
}

fn same(one: &AddedToken, other: &AddedToken) -> bool {
    let flags = |t: &AddedToken| [t.single_word, t.lstrip, t.rstrip, t.normalized, t.special];
    one.content == other.content && flags(one) == flags(other)
}

/// The fields of a JSON file; none where there is no file.
pub(crate) fn object(dir: &Path, file: &str) -> Result<Map<String, Value>> {
    let path = dir.join(file);
    // A link of the hub's cache whose file is gone is a damaged checkpoint, not one without the file.
    if path.symlink_metadata().is_err() {
        return Ok(Map::new());
    }
    match json::read(&path)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(Error::Tokenizer { path, reason: "it must hold a JSON object".into() }),
    }
}
