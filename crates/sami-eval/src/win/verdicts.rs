//! Verdicts: what they mean, and the file that holds them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sami_data::{BadLine, DataError, LineReader};
use sami_policy::Verdict;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where the candidate's response stood when the judge saw it. Judges prefer places (paper, section 5: positions are shuffled
/// against order effects), so a verdict says nothing without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The candidate was response A.
    A,
    /// The candidate was response B.
    B,
}

/// What a verdict means for the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate's response follows the constitution better.
    Win,
    /// The baseline's does.
    Loss,
    /// Neither does.
    Tie,
    /// The judge answered without a verdict.
    Unparsable,
    /// The judge did not answer.
    Failed,
}

impl Outcome {
    /// Reads a verdict for a candidate that stood at `candidate`.
    pub fn new(verdict: &Verdict, candidate: Position) -> Self {
        match (verdict, candidate) {
            (Verdict::A, Position::A) | (Verdict::B, Position::B) => Self::Win,
            (Verdict::A, Position::B) | (Verdict::B, Position::A) => Self::Loss,
            (Verdict::Tie, _) => Self::Tie,
            (Verdict::Unparsable { .. }, _) => Self::Unparsable,
            (Verdict::Failed { .. }, _) => Self::Failed,
        }
    }

    /// Whether the judge decided, a tie included.
    pub fn is_verdict(self) -> bool {
        matches!(self, Self::Win | Self::Loss | Self::Tie)
    }
}

/// How many verdicts meant what. Nothing is hidden: what is in no rate is counted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// For the candidate.
    pub wins: usize,
    /// For the baseline.
    pub losses: usize,
    /// For neither.
    pub ties: usize,
    /// Answers without a verdict: in no rate.
    pub unparsable: usize,
    /// Calls without an answer: in no rate.
    pub failed: usize,
}

impl FromIterator<Outcome> for Tally {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut tally = Self::default();
        for outcome in outcomes {
            *match outcome {
                Outcome::Win => &mut tally.wins,
                Outcome::Loss => &mut tally.losses,
                Outcome::Tie => &mut tally.ties,
                Outcome::Unparsable => &mut tally.unparsable,
                Outcome::Failed => &mut tally.failed,
            } += 1;
        }
        tally
    }
}

/// One line of a verdict file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictLine {
    /// The query's id.
    pub id: String,
    /// The constitution's id.
    pub constitution: String,
    /// Where the candidate stood.
    pub position: Position,
    /// What the judge said.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Length of the candidate's response, in characters.
    pub candidate_length: usize,
    /// Length of the baseline's response, in characters.
    pub baseline_length: usize,
    /// The two responses are the same text: a tie that no judge was asked about.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub identical: bool,
    /// Of all texts that the judge saw, so that verdicts about older responses are never reused.
    #[serde(default)]
    pub digest: String,
}

impl VerdictLine {
    /// What it means for the candidate.
    pub fn outcome(&self) -> Outcome {
        Outcome::new(&self.verdict, self.position)
    }
}

/// Why a verdict file cannot be used.
#[derive(Debug, Error)]
pub enum VerdictsError {
    /// The file cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A line that is no verdict.
    #[error("{path}, line {line}: {problem}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: VerdictProblem,
    },
    /// No line.
    #[error("{path} holds no verdict", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with a line of a verdict file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum VerdictProblem {
    /// No text, or no verdict.
    #[error(
        "{0}; a verdict is {{\"id\", \"constitution\", \"position\": \"a\" or \"b\", \"verdict\": \"a\", \"b\", \"tie\", …, \
         \"candidate_length\", \"baseline_length\"}}"
    )]
    Unreadable(String),
    /// Two verdicts about one showing.
    #[error(
        "query {id:?} under {constitution:?} has two verdicts with the candidate as response {position:?}; keep one"
    )]
    Twice {
        /// The query's id.
        id: String,
        /// The constitution's id.
        constitution: String,
        /// Where the candidate stood.
        position: Position,
    },
    /// Lengths belong to responses, not to showings.
    #[error("query {0:?} has other lengths than in its earlier verdict; the file mixes comparisons")]
    Lengths(String),
}

/// Reads a verdict file, one [`VerdictLine`] per line.
///
/// # Errors
///
/// [`VerdictsError`], with the line.
pub fn read_verdicts(path: &Path) -> Result<Vec<VerdictLine>, VerdictsError> {
    let mut verdicts: Vec<VerdictLine> = Vec::new();
    let mut seen: HashMap<(String, String), Vec<usize>> = HashMap::new();
    for line in LineReader::open(path)? {
        let line = line?;
        let bad = |problem| VerdictsError::Line { path: path.to_owned(), line: line.number, problem };
        let text =
            line.text.map_err(|problem: BadLine| bad(VerdictProblem::Unreadable(problem.to_string())))?;
        let verdict: VerdictLine = serde_json::from_str(&text)
            .map_err(|error| bad(VerdictProblem::Unreadable(error.to_string())))?;
        let earlier = seen.entry((verdict.id.clone(), verdict.constitution.clone())).or_default();
        for other in earlier.iter().map(|&index| &verdicts[index]) {
            if other.position == verdict.position {
                let VerdictLine { id, constitution, position, .. } = verdict;
                return Err(bad(VerdictProblem::Twice { id, constitution, position }));
            }
            if (other.candidate_length, other.baseline_length)
                != (verdict.candidate_length, verdict.baseline_length)
            {
                return Err(bad(VerdictProblem::Lengths(verdict.id)));
            }
        }
        earlier.push(verdicts.len());
        verdicts.push(verdict);
    }
    if verdicts.is_empty() { Err(VerdictsError::Empty { path: path.to_owned() }) } else { Ok(verdicts) }
}

/// A contest with all that a judge said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedContest {
    /// The query's id.
    pub id: String,
    /// The constitution's id.
    pub constitution: String,
    /// One per showing; two when both orders were shown.
    pub outcomes: Vec<(Position, Outcome)>,
    /// Length of the candidate's response.
    pub candidate_length: usize,
    /// Length of the baseline's response.
    pub baseline_length: usize,
    /// The two responses are the same text.
    pub identical: bool,
}

/// Brings the showings of each contest together, in order of first appearance.
pub fn group(verdicts: &[VerdictLine]) -> Vec<JudgedContest> {
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut contests: Vec<JudgedContest> = Vec::new();
    for line in verdicts {
        let place = *places.entry((&line.id, &line.constitution)).or_insert_with(|| {
            contests.push(JudgedContest {
                id: line.id.clone(),
                constitution: line.constitution.clone(),
                outcomes: Vec::new(),
                candidate_length: line.candidate_length,
                baseline_length: line.baseline_length,
                identical: line.identical,
            });
            contests.len() - 1
        });
        contests[place].outcomes.push((line.position, line.outcome()));
    }
    contests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_through_the_position() {
        let unparsable = Verdict::Unparsable { answer: "both".into() };
        let failed = Verdict::Failed { reason: "timeout".into() };
        let seen: Vec<_> = [&Verdict::A, &Verdict::B, &Verdict::Tie, &unparsable, &failed]
            .map(|verdict| [Position::A, Position::B].map(|position| Outcome::new(verdict, position)))
            .concat();
        use Outcome::*;
        assert_eq!(seen, [Win, Loss, Loss, Win, Tie, Tie, Unparsable, Unparsable, Failed, Failed]);
        let tally: Tally = seen.into_iter().collect();
        assert_eq!(tally, Tally { wins: 2, losses: 2, ties: 2, unparsable: 2, failed: 2 });
    }

    #[test]
    fn files_are_read_or_refused_with_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("verdicts.jsonl");
        let good = r#"{"id":"q","constitution":"brief","position":"a","verdict":"tie","candidate_length":3,"baseline_length":4}"#;
        let other = good.replace("\"a\"", "\"b\"").replace("\"tie\"", "\"unparsable\",\"answer\":\"?\"");
        std::fs::write(&path, format!("{good}\n{other}\n")).unwrap();
        let verdicts = read_verdicts(&path).unwrap();
        let contests = group(&verdicts);
        assert_eq!(contests.len(), 1);
        assert_eq!(contests[0].outcomes, [(Position::A, Outcome::Tie), (Position::B, Outcome::Unparsable)]);
        // What is written reads back.
        let again: VerdictLine = serde_json::from_str(&serde_json::to_string(&verdicts[1]).unwrap()).unwrap();
        assert_eq!(again, verdicts[1]);
        let refused = [
            (good.to_owned(), "has two verdicts with the candidate as response A; keep one"),
            (other.replace("4}", "5}"), "query \"q\" has other lengths than in its earlier verdict"),
            ("{\"id\": \"q\"}".to_owned(), "a verdict is {\"id\", \"constitution\", \"position\""),
            (good.replace("\"tie\"", "\"draw\""), "unknown variant `draw`"),
        ];
        for (line, expected) in refused {
            std::fs::write(&path, format!("{good}\n{line}\n")).unwrap();
            let error = read_verdicts(&path).unwrap_err().to_string();
            assert!(error.contains("verdicts.jsonl, line 2: ") && error.contains(expected), "{error}");
        }
        std::fs::write(&path, "").unwrap();
        assert!(matches!(read_verdicts(&path), Err(VerdictsError::Empty { .. })));
    }
}
