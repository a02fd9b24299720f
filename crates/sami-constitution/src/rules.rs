//! What is asked of the responses of a task.

use serde::{Deserialize, Serialize};

use crate::task::TaskProblem;

/// Which white space around a sampled response is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trim {
    /// At the end only. A response that begins with a space keeps it: prompts end without one, and most tokenizers join
    /// the space with the first word.
    #[default]
    End,
    /// At both ends, as the paper's code does.
    Both,
    /// None.
    Never,
}

/// What is done with sampled responses, and which of them are kept. Only data; `sami-data` acts on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseRules {
    /// Text that the sampling prompt ends with and that belongs to the response (A.11: a summary begins with "The post").
    pub prefix: String,
    /// A response ends where one of these begins.
    pub stop: Vec<String>,
    /// White space to cut off.
    pub trim: Trim,
    /// Rejected if it begins with one of these, white space aside, upper or lower case (A.10: "I'm sorry").
    pub reject_openings: Vec<String>,
    /// Rejected if it holds one of these: leftovers of the prompt's format.
    pub reject_containing: Vec<String>,
    /// Rejected unless it ends with one of these; none means that any end will do.
    pub require_endings: Vec<String>,
    /// Rejected if it ended only because it reached the limit of tokens.
    pub reject_truncated: bool,
    /// A set is rejected if two of its responses are equal, white space aside: no contrast between them.
    pub reject_equal: bool,
}

impl Default for ResponseRules {
    /// Cuts white space at the end, rejects sets with equal responses, and no more.
    fn default() -> Self {
        Self {
            prefix: String::new(),
            stop: Vec::new(),
            trim: Trim::End,
            reject_openings: Vec::new(),
            reject_containing: Vec::new(),
            require_endings: Vec::new(),
            reject_truncated: false,
            reject_equal: true,
        }
    }
}

impl ResponseRules {
    /// Whether the rules mean something.
    ///
    /// # Errors
    ///
    /// [`TaskProblem::EmptyString`]: an empty stop string, opening, leftover or ending.
    pub fn check(&self) -> Result<(), TaskProblem> {
        let lists = [
            ("stop", &self.stop),
            ("reject_openings", &self.reject_openings),
            ("reject_containing", &self.reject_containing),
            ("require_endings", &self.require_endings),
        ];
        for (field, list) in lists {
            // White space is a sensible place to stop at, and matches everything elsewhere.
            let says_nothing = |text: &String| text.is_empty() || (field != "stop" && text.trim().is_empty());
            if let Some(index) = list.iter().position(says_nothing) {
                return Err(TaskProblem::EmptyString { field, index });
            }
        }
        Ok(())
    }
}
