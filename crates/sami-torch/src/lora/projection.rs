//! The linear maps of a decoder layer, by the names that recipes use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::options::UnknownName;

/// A linear map of a decoder layer, by its Hugging Face name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Projection {
    /// `q_proj`.
    Query,
    /// `k_proj`.
    Key,
    /// `v_proj`.
    Value,
    /// `o_proj`.
    Output,
    /// `gate_proj`.
    Gate,
    /// `up_proj`.
    Up,
    /// `down_proj`.
    Down,
}

impl Projection {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// The name that configurations use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Projection {
    type Err = UnknownName;
    fn from_str(given: &str) -> Result<Self, UnknownName> {
        let expected = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";
        let known = Self::ALL.into_iter().find(|projection| projection.name() == given);
        known.ok_or_else(|| UnknownName { given: given.into(), expected })
    }
}

impl TryFrom<String> for Projection {
    type Error = UnknownName;
    fn try_from(given: String) -> Result<Self, UnknownName> {
        given.parse()
    }
}

impl From<Projection> for String {
    fn from(projection: Projection) -> Self {
        projection.to_string()
    }
}
