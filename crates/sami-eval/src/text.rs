//! What responses look like: leaks of the constitution, repetition, sameness. Mutual information sees none of it.

use std::collections::HashSet;

use sami_data::{Finish, PairRecord};
use serde::{Deserialize, Serialize};

use crate::statistics::{Interval, wilson};

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
fn words(text: &str) -> Vec<String> {
    let split = text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
    split.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Share of a text's runs of three words that it has had before: near 0 in prose, near 1 in a loop.
fn repeated(text: &str) -> f64 {
    let words = words(text);
    let (mut seen, mut again, mut n) = (HashSet::new(), 0_usize, 0_usize);
    for run in words.windows(3) {
        again += usize::from(!seen.insert(run));
        n += 1;
    }
    again as f64 / n.max(1) as f64
}

/// Figures of many responses, those of rejected sets included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextFigures {
    /// Responses that were looked at.
    pub responses: usize,
    /// Of them, those that name the constitution.
    pub naming: usize,
    /// Of them, those that copy from it.
    pub copying: usize,
    /// Of them, those that do either.
    pub leaking: usize,
    /// Share of leaking responses, with its Wilson interval of 95%.
    pub leak_rate: f64,
    /// The interval.
    pub leak_interval: Option<Interval>,
    /// Share of responses whose text no other response has. Greedy sampling and collapse lower it.
    pub distinct: f64,
    /// Mean share of repeated runs of three words inside a response: 0 in prose, near 1 in a loop.
    pub repeated: f64,
    /// Share of responses that reached the limit of tokens, of those whose end is known.
    pub truncated: Option<f64>,
}

impl TextFigures {
    /// Looks at all responses of some records; `None` when there is none.
    pub fn new(records: &[PairRecord]) -> Option<Self> {
        let mut leaks = Vec::new();
        let (mut texts, mut repeats) = (HashSet::new(), 0.0);
        let (mut truncated, mut ended) = (0_usize, 0_usize);
        for record in records {
            for response in &record.responses {
                let constitution = record.constitutions.get(response.constitution);
                let constitution = constitution.map_or("", |constitution| constitution.text.as_str());
                leaks.push(Leak::of(&response.text, constitution, &record.query));
                texts.insert(response.text.trim());
                repeats += repeated(&response.text);
                if let Some(finish) = response.finish {
                    ended += 1;
                    truncated += usize::from(finish == Finish::Length);
                }
            }
        }
        let count = |wanted: fn(&Leak) -> bool| leaks.iter().filter(|leak| wanted(leak)).count();
        let (n, leaking) = (leaks.len() as f64, count(|leak| leak.any()));
        (!leaks.is_empty()).then(|| Self {
            responses: leaks.len(),
            naming: count(|leak| leak.names),
            copying: count(|leak| leak.copies),
            leaking,
            leak_rate: leaking as f64 / n,
            leak_interval: wilson(leaking as f64 / n, leaks.len()),
            distinct: texts.len() as f64 / n,
            repeated: repeats / n,
            truncated: (ended > 0).then(|| truncated as f64 / ended as f64),
        })
    }
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
    fn loops_and_sameness_are_seen() {
        assert_eq!(repeated("a b c d e"), 0.0);
        // Runs: abc bca cab abc bca cab abc: three of seven are new.
        assert!((repeated("a b c a b c a b c") - 4.0 / 7.0).abs() < 1e-12);
        let record: PairRecord = serde_json::from_str(
            r#"{"id":"q","query":"How?","constitutions":[{"id":"a","text":"1. Be kind."},{"id":"not-a","text":"1. Be rude."}],
            "prompts":["p","q"],"responses":[{"constitution":0,"text":" No.","finish":"length"},{"constitution":1,"text":"No. ","finish":"eos"},
            {"constitution":0,"text":"I follow the principles.","finish":"eos"},{"constitution":0,"text":"Yes."}]}"#,
        )
        .unwrap();
        let figures = TextFigures::new(&[record]).unwrap();
        assert_eq!((figures.responses, figures.naming, figures.copying, figures.leaking), (4, 1, 0, 1));
        assert_eq!((figures.leak_rate, figures.distinct, figures.repeated), (0.25, 0.75, 0.0));
        assert_eq!(figures.truncated, Some(1.0 / 3.0));
        assert_eq!(TextFigures::new(&[]), None);
    }
}
