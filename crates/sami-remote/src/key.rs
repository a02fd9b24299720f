//! The key: where it comes from, and that it goes nowhere but to the server.

use std::fmt;
use std::path::PathBuf;

use crate::RemoteError;

/// Where the key comes from. There is no variant that holds one: keys stand in no program, recipe or report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// The server wants none.
    #[default]
    None,
    /// An environment variable of this name.
    Environment(String),
    /// A file that holds the key and nothing else.
    File(PathBuf),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no key"),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// A key; it shows itself to the server only.
#[derive(Clone)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn read(source: &KeySource) -> Result<Option<Self>, RemoteError> {
        let text = match source {
            KeySource::None => return Ok(None),
            KeySource::Environment(variable) => std::env::var(variable).unwrap_or_default(),
            KeySource::File(path) => std::fs::read_to_string(path)
                .map_err(|source| RemoteError::KeyFile { path: path.clone(), source })?,
        };
        let key = text.trim();
        if key.is_empty() {
            return Err(RemoteError::NoKey { key: source.clone() });
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RemoteError::BadKey { key: source.clone() });
        }
        Ok(Some(Self(key.to_owned())))
    }

    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Foreign text without the key, should a server repeat it.
    pub(crate) fn blank(&self, text: &str) -> String {
        text.replace(&self.0, "…")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}
