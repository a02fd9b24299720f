//! What can be seen in a response's text: leaks of the constitution, loops. Mutual information sees none of it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// A run of so many words shared with the constitution, and not with the query, is a copy. Shorter runs are English.
pub const COPIED_WORDS: usize = 6;

/// Words by which a response names the constitution instead of following it.
const NAMES: [&str; 6] =
    ["constitution", "constitutions", "principle", "principles", "antithesis", "antitheses"];

/// How a response gives its constitution away. Such responses carry information about the constitution without any behaviour,
/// so training on them teaches to quote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    /// It names the constitution or a principle, and the query does not.
    pub names: bool,
    /// It shares [`COPIED_WORDS`] consecutive words with the constitution that the query does not have.
    pub copies: bool,
}

impl Leak {
    /// Looks at one response.
    pub fn of(response: &str, constitution: &str, query: &str) -> Self {
        let (response, query) = (words(response), words(query));
        let asked: HashSet<&String> = query.iter().collect();
        let names = response.iter().any(|word| NAMES.contains(&word.as_str()) && !asked.contains(word));
        // Line by line: no run goes over the end of an article.
        let lines: Vec<Vec<String>> = constitution.lines().map(words).collect();
        let of_constitution: HashSet<&[String]> =
            lines.iter().flat_map(|line| line.windows(COPIED_WORDS)).collect();
        let of_query: HashSet<&[String]> = query.windows(COPIED_WORDS).collect();
        let copies = response
            .windows(COPIED_WORDS)
            .any(|run| of_constitution.contains(run) && !of_query.contains(run));
        Self { names, copies }
    }

    /// Whether either is true.
    pub fn any(self) -> bool {
        self.names || self.copies
    }
}

/// Words in lower case, without punctuation.
pub fn words(text: &str) -> Vec<String> {
    let split = text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
    split.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Share of a text's runs of three words that it has had before: near 0 in prose, near 1 in a loop. `None` for fewer words.
pub fn repetition(words: &[String]) -> Option<f64> {
    let runs = words.len().checked_sub(2).filter(|runs| *runs > 0)?;
    let distinct: HashSet<&[String]> = words.windows(3).collect();
    Some(1.0 - distinct.len() as f64 / runs as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "1. Answers should be short and to the point.\n2. Always say what could go wrong.";

    #[test]
    fn leaks_are_names_and_copies_that_the_query_does_not_explain() {
        let leak = |response: &str, query: &str| {
            let Leak { names, copies } = Leak::of(response, RULES, query);
            (names, copies)
        };
        assert_eq!(leak("Boil the egg for six minutes.", "How do I boil an egg?"), (false, false));
        assert_eq!(leak("As the Constitution says, six minutes.", "How?"), (true, false));
        assert_eq!(
            leak("The constitution of France dates from 1958.", "Which constitution has France?"),
            (false, false)
        );
        assert_eq!(leak("My answers should be SHORT, and to the point!", "How?"), (false, true));
        // Five words are English; six over the end of an article are none.
        assert_eq!(leak("It must be short and to the egg.", "How?"), (false, false));
        assert_eq!(leak("to the point always say what", "How?"), (false, false));
        let quoting = "Why do you write that answers should be short and to the point?";
        assert_eq!(leak("Answers should be short and to the point since time is.", quoting), (false, false));
    }

    #[test]
    fn loops_are_seen() {
        let share = |text: &str| repetition(&words(text));
        assert_eq!(share("a b c d e"), Some(0.0));
        // Runs: abc bca cab abc bca cab abc: three of seven are new.
        assert!((share("a b c a b c a b c").unwrap() - 4.0 / 7.0).abs() < 1e-12);
        assert_eq!(share("Well, well."), None);
    }
}
