//! Names of things on a hub.

use std::path::Path;

use super::HubError;

/// A model, or a file of a data set, at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// `org/name`.
    repository: String,
    revision: String,
    kind: Kind,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    Data { file: String },
}

impl Reference {
    /// `hub:org/name[@revision]`, or `org/name[@revision]` where there is no such directory; `None` for a path.
    pub(crate) fn model(given: &Path) -> Result<Option<Self>, HubError> {
        let Some(text) = given.to_str() else { return Ok(None) };
        match text.strip_prefix("hub:") {
            Some(rest) => Self::new(text, rest, false).map(Some),
            // A path that goes up, begins at the root or has other than two parts is none of the hub's.
            None if given.exists() || text.starts_with(['.', '/', '~']) => Ok(None),
            None => Ok(Self::new(text, text, false).ok()),
        }
    }

    /// `hub:org/name/path/of/file[@revision]`; `None` for a path.
    pub(crate) fn data(given: &Path) -> Result<Option<Self>, HubError> {
        let text = given.to_str().unwrap_or_default();
        text.strip_prefix("hub:").map(|rest| Self::new(text, rest, true)).transpose()
    }

    fn new(given: &str, rest: &str, data: bool) -> Result<Self, HubError> {
        let refused = |reason| HubError::Reference { given: given.to_owned(), reason };
        let (name, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let mut parts = name.splitn(3, '/');
        let (Some(owner), Some(repository)) = (parts.next(), parts.next()) else {
            return Err(refused("a name on a hub has the form org/name"));
        };
        let file = parts.next();
        let plain = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
                && part.chars().any(char::is_alphanumeric)
        };
        if !plain(owner) || !plain(repository) {
            return Err(refused("a name on a hub consists of letters, digits, \"-\", \"_\" and \".\""));
        }
        if !revision.split('/').all(plain) {
            return Err(refused("a revision is a branch, a tag or a commit"));
        }
        let kind = match (data, file) {
            (false, None) => Kind::Model,
            (true, Some(file)) if file.split('/').all(plain) => Kind::Data { file: file.to_owned() },
            (true, Some(_)) => return Err(refused("the path of a file consists of plain names")),
            (false, Some(_)) => return Err(refused("a model is a whole repository")),
            (true, None) => return Err(refused("data is a file of a repository")),
        };
        Ok(Self { repository: format!("{owner}/{repository}"), revision: revision.to_owned(), kind })
    }

    /// `org/name`.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// Branch, tag or commit.
    pub(crate) fn revision(&self) -> &str {
        &self.revision
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether the revision can never mean anything else.
    pub(crate) fn is_commit(&self) -> bool {
        self.revision.len() == 40 && self.revision.chars().all(|c| c.is_ascii_hexdigit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_paths() {
        let model = |text: &str| Reference::model(Path::new(text)).map_err(|error| error.to_string());
        let reference = |repository: &str, revision: &str, kind| {
            Some(Reference { repository: repository.into(), revision: revision.into(), kind })
        };
        assert_eq!(model("hub:org/name"), Ok(reference("org/name", "main", Kind::Model)));
        assert_eq!(model("org/na.me-7b@v1"), Ok(reference("org/na.me-7b", "v1", Kind::Model)));
        for path in ["src", "src/hub", "./org/name", "/org/name", "../x", "a/b/c", "name", "org/../x"] {
            assert_eq!(model(path), Ok(None), "{path}");
        }
        for (text, reason) in [
            ("hub:name", "the form org/name"),
            ("hub:org/", "letters, digits"),
            ("hub:org/name/file", "a model is a whole repository"),
            ("hub:org/name@", "a revision is"),
            ("hub:../name", "letters, digits"),
        ] {
            let error = model(text).unwrap_err();
            assert!(error.starts_with(&format!("{text}: ")) && error.contains(reason), "{error}");
        }
        let data = |text: &str| Reference::data(Path::new(text)).map_err(|error| error.to_string());
        let file = Kind::Data { file: "a/b.jsonl".into() };
        assert_eq!(data("hub:org/name/a/b.jsonl@v2"), Ok(reference("org/name", "v2", file)));
        assert_eq!(data("org/name/b.jsonl"), Ok(None));
        assert!(data("hub:org/name").unwrap_err().contains("data is a file of a repository"));
        assert!(data("hub:org/name/../x").unwrap_err().contains("plain names"));
    }
}
