//! The hub's two questions: which files does a revision have, and what is in one of them.

use std::io::Read;

use serde::Deserialize;

use super::HubError;
use super::reference::{Kind, Reference};

pub(super) struct Client {
    endpoint: String,
    token: Option<String>,
}

/// A commit and its files.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Client {
    pub(super) fn from_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), token: set("HF_TOKEN") }
    }

    pub(super) fn listing(&self, reference: &Reference) -> Result<Listing, HubError> {
        let kind = match reference.kind() {
            Kind::Model => "models",
            Kind::Data { .. } => "datasets",
        };
        let (endpoint, repository) = (&self.endpoint, reference.repository());
        let revision = reference.revision().replace('/', "%2F");
        let url = format!("{endpoint}/api/{kind}/{repository}/revision/{revision}");
        let mut response = self.get(&url, reference)?;
        let answer: Answer = response
            .body_mut()
            .read_json()
            .map_err(|error| HubError::Answer { url: url.clone(), reason: error.to_string() })?;
        // They become names of files.
        let harmless = |name: &str| {
            !name.starts_with('/') && !name.split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        if !(answer.sha.len() >= 7 && answer.sha.chars().all(|c| c.is_ascii_alphanumeric())) {
            return Err(HubError::Answer { url, reason: format!("{:?} is no commit", answer.sha) });
        }
        let files =
            answer.siblings.into_iter().map(|one| one.rfilename).filter(|name| harmless(name)).collect();
        Ok(Listing { commit: answer.sha, files })
    }

    /// A file's bytes, and how many there are, where the hub says so.
    pub(super) fn open(
        &self,
        reference: &Reference,
        commit: &str,
        file: &str,
    ) -> Result<(impl Read + use<>, Option<u64>), HubError> {
        let kind = match reference.kind() {
            Kind::Model => "",
            Kind::Data { .. } => "datasets/",
        };
        let url = format!("{}/{kind}{}/resolve/{commit}/{file}", self.endpoint, reference.repository());
        let response = self.get(&url, reference)?;
        let body = response.into_body();
        let size = body.content_length();
        Ok((body.into_reader(), size))
    }

    fn get(&self, url: &str, reference: &Reference) -> Result<ureq::http::Response<ureq::Body>, HubError> {
        let mut request = ureq::get(url);
        if let Some(token) = &self.token {
            // Not sent on where the hub redirects to another host.
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let repository = reference.repository().to_owned();
        request.call().map_err(|error| match error {
            ureq::Error::StatusCode(status) => HubError::Refused {
                repository,
                url: url.to_owned(),
                status,
                hint: match (status, &self.token) {
                    (401 | 403, None) => "if it is not public, set HF_TOKEN",
                    (401 | 403, Some(_)) => "HF_TOKEN does not open it; ask its owner for access",
                    (404, _) => "no directory of that name is here either; look at the name and the revision",
                    _ => "try again later",
                },
            },
            error => HubError::Network { url: url.to_owned(), repository, reason: error.to_string() },
        })
    }
}
