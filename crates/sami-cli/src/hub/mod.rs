//! Models and data from a Hugging Face hub, kept in the same cache as Python's `huggingface_hub` keeps them.
//!
//! | written | means |
//! |---|---|
//! | `org/name` after `--model`, where no such directory is | the model of that name |
//! | `hub:org/name`, `hub:org/name@REVISION` | a model, in recipes too |
//! | `hub:org/name/path/of/file.jsonl`, with `@REVISION` or without | a file of a data set |
//!
//! `HF_TOKEN` opens what is not public, `HF_ENDPOINT` names another hub, `HF_HUB_OFFLINE=1` uses what the cache holds,
//! `HF_HUB_CACHE` or `HF_HOME` says where that is. A revision is a branch, a tag or a commit; a run keeps the commit.

mod cache;
mod client;
mod reference;

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::output;
use crate::progress::Progress;
use cache::Repository;
use client::Client;
use reference::Kind;
pub(crate) use reference::Reference;

/// Why something does not come from the hub.
#[derive(Debug, Error)]
pub(crate) enum HubError {
    #[error(
        "{given}: {reason}; write hub:org/name for a model, hub:org/name/path/of/file.jsonl for data, with @REVISION or without"
    )]
    Reference { given: String, reason: &'static str },
    #[error(
        "{repository} is not in the cache ({cache}), and HF_HUB_OFFLINE is set; unset it, or fetch {repository} where there is a \
         network and give its directory"
    )]
    Offline { repository: String, cache: PathBuf },
    #[error(
        "cannot reach {url} ({reason}); without a network, fetch {repository} elsewhere and give its directory, or name a mirror in \
         HF_ENDPOINT"
    )]
    Network { url: String, repository: String, reason: String },
    #[error("{repository}: the hub says {status} to {url}; {hint}")]
    Refused { repository: String, url: String, status: u16, hint: &'static str },
    #[error("{url}: the answer is not what a hub gives: {reason}")]
    Answer { url: String, reason: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{repository} at {revision} has no {wanted}")]
    Missing { repository: String, revision: String, wanted: String },
}

/// The directory of a model: `given` itself, or what the hub's cache holds or gets now.
pub(crate) fn model(given: &Path) -> Result<PathBuf, HubError> {
    match Reference::model(given)? {
        Some(reference) => Hub::from_environment()?.fetch(&reference),
        None => Ok(given.to_owned()),
    }
}

/// A file of data: `given` itself, or what the hub's cache holds or gets now.
pub(crate) fn data(given: &Path) -> Result<PathBuf, HubError> {
    match Reference::data(given)? {
        Some(reference) => Hub::from_environment()?.fetch(&reference),
        None => Ok(given.to_owned()),
    }
}

struct Hub {
    client: Client,
    cache: PathBuf,
    offline: bool,
}

/// What makes up a model in our sense; a repository may hold other formats of the same weights.
fn belongs(name: &str) -> bool {
    let known = [
        "config.json",
        "generation_config.json",
        "tokenizer.model",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
    ];
    let json =
        ["tokenizer", "special_tokens", "added_tokens", "vocab", "adapter_config", "model.safetensors.index"];
    let named_template = |name: &str| name.ends_with(".jinja") && !name.contains('/');
    name.strip_prefix("additional_chat_templates/").is_some_and(named_template)
        || !name.contains('/')
            && (known.contains(&name)
                || name.ends_with(".safetensors")
                || name.ends_with(".json") && json.iter().any(|begin| name.starts_with(begin)))
}

impl Hub {
    fn from_environment() -> Result<Self, HubError> {
        let offline =
            std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        Ok(Self { client: Client::from_environment(), cache: cache::root()?, offline })
    }

    /// A model's directory or a data file, from the cache or the hub. A branch is looked up again each time, so that it is
    /// what it is now; where the hub cannot be reached, what the cache holds of it is used, and said to be.
    fn fetch(&self, reference: &Reference) -> Result<PathBuf, HubError> {
        let repository = Repository::new(&self.cache, reference);
        let cached = repository.complete(reference);
        if self.offline {
            return cached.ok_or_else(|| HubError::Offline {
                repository: reference.repository().to_owned(),
                cache: self.cache.clone(),
            });
        }
        if let Some(path) = cached.as_ref().filter(|_| reference.is_commit()) {
            return Ok(path.clone());
        }
        let listing = match (self.client.listing(reference), cached) {
            (Ok(listing), _) => listing,
            (Err(error @ HubError::Network { .. }), Some(path)) => {
                output::say(&format!("warning: {error}; using what the cache holds"));
                return Ok(path);
            }
            (Err(error), _) => return Err(error),
        };
        let missing = |wanted: &str| HubError::Missing {
            repository: reference.repository().to_owned(),
            revision: reference.revision().to_owned(),
            wanted: wanted.to_owned(),
        };
        let names: Vec<&str> = match reference.kind() {
            Kind::Model => listing.files.iter().map(String::as_str).filter(|name| belongs(name)).collect(),
            Kind::Data { file } => {
                listing.files.iter().map(String::as_str).filter(|name| name == file).collect()
            }
        };
        match reference.kind() {
            Kind::Model if !names.iter().any(|name| name.ends_with(".safetensors")) => {
                return Err(missing("weights in safetensors format"));
            }
            Kind::Data { file } if names.is_empty() => return Err(missing(file)),
            _ => {}
        }
        let snapshot = repository.snapshot(&listing.commit);
        for name in names {
            let target = snapshot.join(name);
            if !target.exists() {
                output::remark(&format!(
                    "fetching {name} of {} ({})",
                    reference.repository(),
                    listing.commit
                ));
                let (body, size) = self.client.open(reference, &listing.commit, name)?;
                cache::store(&target, body, &mut Progress::new(output::is_quiet()), name, size)?;
            }
        }
        // Last: a revision that is named here is whole.
        repository.remember(reference, &listing.commit)?;
        Ok(match reference.kind() {
            Kind::Model => snapshot,
            Kind::Data { file } => snapshot.join(file),
        })
    }
}
