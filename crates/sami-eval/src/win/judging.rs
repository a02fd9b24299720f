//! Asking a judge, and keeping what it said.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use sami_data::{DataError, JsonlAppender, write_json_lines};
use sami_policy::{Comparison, Judge, Verdict};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::contests::Contest;
use super::verdicts::{Position, VerdictLine};

/// In which order a judge sees the two responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Both, one after the other: a preference for a place cancels within every contest. Twice the calls.
    Both,
    /// One, drawn for each contest (the paper's choice): it cancels on average. The draw depends on the seed, the query and
    /// the constitution alone.
    Random {
        /// Seed of the draws.
        seed: u64,
    },
}

impl Order {
    fn positions(self, contest: &Contest) -> Vec<Position> {
        match self {
            Self::Both => vec![Position::A, Position::B],
            Self::Random { seed } => {
                let mut hash = Sha256::new();
                hash.update(seed.to_le_bytes());
                for part in [&contest.id, &contest.constitution] {
                    hash.update((part.len() as u64).to_le_bytes());
                    hash.update(part.as_bytes());
                }
                let first = hash.finalize().first().copied().unwrap_or(0);
                vec![if first & 1 == 0 { Position::A } else { Position::B }]
            }
        }
    }
}

/// Why judging ended.
#[derive(Debug, Error)]
pub enum JudgingError {
    /// The verdict file cannot be written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A judge that leaves out or invents verdicts: none of them can be assigned.
    #[error(
        "the judge was asked about {asked} comparisons and gave {got} verdicts; it must give one each, in order"
    )]
    Count {
        /// Comparisons.
        asked: usize,
        /// Verdicts.
        got: usize,
    },
    /// The caller's wish. What was judged is kept.
    #[error("interrupted after {done} of {total} verdicts; the same command goes on from there")]
    Interrupted {
        /// Verdicts in the file.
        done: usize,
        /// Verdicts wanted.
        total: usize,
    },
}

/// Contests to be judged, and the file to keep the verdicts in.
#[derive(Clone, Copy, Debug)]
pub struct JudgeJob<'a> {
    /// What to judge.
    pub contests: &'a [Contest],
    /// Who stands where.
    pub order: Order,
    /// Names the judge and its prompt: verdicts of one judge are never reused for another.
    pub judge: &'a str,
    /// Showings that are handed to the judge together, and written together.
    pub chunk: usize,
    /// The verdict file. Verdicts in it about the same texts by the same judge are kept; calls that failed are made again.
    pub out: &'a Path,
}

/// One showing that needs a verdict.
struct Showing<'a> {
    contest: &'a Contest,
    position: Position,
    digest: String,
}

impl Showing<'_> {
    fn comparison(&self) -> Comparison<'_> {
        let Contest { query, constitution_text, candidate, baseline, .. } = self.contest;
        let (response_a, response_b) = match self.position {
            Position::A => (candidate, baseline),
            Position::B => (baseline, candidate),
        };
        Comparison { query, constitution: constitution_text, response_a, response_b }
    }

    fn line(&self, verdict: Verdict) -> VerdictLine {
        let (candidate_length, baseline_length) = self.contest.lengths();
        VerdictLine {
            id: self.contest.id.clone(),
            constitution: self.contest.constitution.clone(),
            position: self.position,
            verdict,
            candidate_length,
            baseline_length,
            identical: self.contest.candidate == self.contest.baseline,
            digest: self.digest.clone(),
        }
    }
}

impl JudgeJob<'_> {
    /// Asks for the verdicts that the file does not hold yet, writes them chunk by chunk, and returns all of them in the order
    /// of the contests; the file ends in that order too. `go_on` is told how many are there, of how many, after every
    /// chunk, and answers whether to go on.
    ///
    /// Two responses of the same text are a tie that nobody is asked about: a judge could only name a place.
    ///
    /// # Errors
    ///
    /// [`JudgingError`]. A call that fails is no error but [`Verdict::Failed`]; running the job again makes it again.
    pub fn run(
        &self,
        judge: &mut dyn Judge,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Vec<VerdictLine>, JudgingError> {
        let showings = self.showings();
        let mut known = self.known()?;
        let mut file = JsonlAppender::open(self.out)?;
        let mut missing = Vec::new();
        for showing in &showings {
            if showing.contest.candidate == showing.contest.baseline {
                known.insert(showing.digest.clone(), showing.line(Verdict::Tie));
            } else if !known.contains_key(&showing.digest) {
                missing.push(showing);
            }
        }
        let total = showings.len();
        let mut done = total - missing.len();
        for chunk in missing.chunks(self.chunk.max(1)) {
            if !go_on(done, total) {
                return Err(JudgingError::Interrupted { done, total });
            }
            let comparisons: Vec<_> = chunk.iter().map(|showing| showing.comparison()).collect();
            let verdicts = judge.judge(&comparisons);
            if verdicts.len() != chunk.len() {
                return Err(JudgingError::Count { asked: chunk.len(), got: verdicts.len() });
            }
            for (showing, verdict) in chunk.iter().zip(verdicts) {
                let line = showing.line(verdict);
                file.append(&line)?;
                known.insert(showing.digest.clone(), line);
            }
            file.sync()?;
            done += chunk.len();
        }
        go_on(done, total);
        let lines: Vec<_> = showings.iter().filter_map(|showing| known.remove(&showing.digest)).collect();
        write_json_lines(self.out, &lines)?;
        Ok(lines)
    }

    fn showings(&self) -> Vec<Showing<'_>> {
        let showings = |contest| {
            let order = self.order;
            order.positions(contest).into_iter().map(move |position| Showing {
                contest,
                position,
                digest: self.digest(contest, position),
            })
        };
        self.contests.iter().flat_map(showings).collect()
    }

    /// Half a SHA-256 of everything that the verdict depends on.
    fn digest(&self, contest: &Contest, position: Position) -> String {
        let place = if position == Position::A { "a" } else { "b" };
        let Contest { id, constitution, query, constitution_text, candidate, baseline } = contest;
        let mut hash = Sha256::new();
        for part in [self.judge, place, id, constitution, query, constitution_text, candidate, baseline] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Verdicts of an earlier process. Lines that cannot be read were torn or foreign: they are asked for again.
    fn known(&self) -> Result<HashMap<String, VerdictLine>, DataError> {
        let text = match fs::read_to_string(self.out) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(DataError::Io { path: PathBuf::from(self.out), source }),
        };
        let lines = text.lines().filter_map(|line| serde_json::from_str::<VerdictLine>(line).ok());
        Ok(lines
            .filter(|line| !matches!(line.verdict, Verdict::Failed { .. }))
            .map(|line| (line.digest.clone(), line))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contests(n: usize) -> Vec<Contest> {
        let contest = |i: usize| Contest {
            id: format!("q{i}"),
            constitution: "brief".into(),
            query: "Why?".into(),
            constitution_text: "1. Be brief.".into(),
            candidate: "yes".repeat(i + 1),
            baseline: "no".into(),
        };
        (0..n).map(contest).collect()
    }

    /// Prefers the shorter response, counts calls, and fails on request.
    struct Shorter {
        asked: usize,
        fail: Option<usize>,
    }

    impl Judge for Shorter {
        fn judge(&mut self, comparisons: &[Comparison<'_>]) -> Vec<Verdict> {
            let mut verdict = |one: &Comparison<'_>| {
                self.asked += 1;
                match one.response_a.len().cmp(&one.response_b.len()) {
                    _ if self.fail == Some(self.asked) => Verdict::Failed { reason: "timeout".into() },
                    std::cmp::Ordering::Less => Verdict::A,
                    std::cmp::Ordering::Equal => Verdict::Tie,
                    std::cmp::Ordering::Greater => Verdict::B,
                }
            };
            comparisons.iter().map(&mut verdict).collect()
        }
    }

    #[test]
    fn an_interrupted_job_goes_on_and_failed_calls_are_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (contests, out) = (contests(5), dir.path().join("deep/verdicts.jsonl"));
        let job = JudgeJob { contests: &contests, order: Order::Both, judge: "shorter", chunk: 3, out: &out };
        let mut judge = Shorter { asked: 0, fail: Some(2) };
        let error = job.run(&mut judge, &mut |done, _| done < 6).unwrap_err();
        assert!(matches!(error, JudgingError::Interrupted { done: 6, total: 10 }), "{error}");
        assert_eq!(judge.asked, 6);
        // A torn line, as a killed process leaves it.
        let text = fs::read_to_string(&out).unwrap();
        fs::write(&out, format!("{text}{{\"id\": \"q")).unwrap();
        judge.fail = None;
        let lines = job.run(&mut judge, &mut |_, _| true).unwrap();
        // Four that were missing, and the one that had failed.
        assert_eq!(judge.asked, 11);
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|line| line.outcome() == super::super::Outcome::Loss));
        assert_eq!(super::super::read_verdicts(&out).unwrap(), lines);
        // Nothing left to ask; another judge is asked everything.
        job.run(&mut judge, &mut |_, _| true).unwrap();
        assert_eq!(judge.asked, 11);
        JudgeJob { judge: "other", ..job }.run(&mut judge, &mut |_, _| true).unwrap();
        assert_eq!(judge.asked, 21);
    }

    #[test]
    fn other_texts_are_other_contests_and_equal_ones_are_ties() {
        let dir = tempfile::tempdir().unwrap();
        let (mut contests, out) = (contests(2), dir.path().join("verdicts.jsonl"));
        let mut judge = Shorter { asked: 0, fail: None };
        let job = |contests: &[Contest], judge: &mut Shorter| {
            JudgeJob { contests, order: Order::Both, judge: "shorter", chunk: 8, out: &out }
                .run(judge, &mut |_, _| true)
                .unwrap()
        };
        job(&contests, &mut judge);
        assert_eq!(judge.asked, 4);
        contests[0].candidate = "n".into();
        contests[1].candidate = "no".into();
        let lines = job(&contests, &mut judge);
        assert_eq!(judge.asked, 6);
        let seen: Vec<_> = lines.iter().map(|line| (line.outcome(), line.identical)).collect();
        use super::super::Outcome::*;
        assert_eq!(seen, [(Win, false), (Win, false), (Tie, true), (Tie, true)]);
    }

    #[test]
    fn random_order_depends_on_seed_and_contest_alone() {
        let contests = contests(400);
        let place = |seed, contest: &Contest| Order::Random { seed }.positions(contest)[0];
        let first: Vec<_> = contests.iter().map(|contest| place(1, contest)).collect();
        let at_a = first.iter().filter(|place| **place == Position::A).count();
        // 400 coins: 200 ± 4 · 10.
        assert!((160..=240).contains(&at_a), "{at_a}");
        assert_ne!(first, contests.iter().map(|contest| place(2, contest)).collect::<Vec<_>>());
        assert_eq!(place(1, &contests[7]), first[7]);
    }

    #[test]
    fn a_judge_that_miscounts_is_refused() {
        struct Silent;
        impl Judge for Silent {
            fn judge(&mut self, _: &[Comparison<'_>]) -> Vec<Verdict> {
                Vec::new()
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let (contests, out) = (contests(1), dir.path().join("v"));
        let job = JudgeJob {
            contests: &contests,
            order: Order::Random { seed: 0 },
            judge: "",
            chunk: 1,
            out: &out,
        };
        let error = job.run(&mut Silent, &mut |_, _| true).unwrap_err().to_string();
        assert!(error.starts_with("the judge was asked about 1 comparisons and gave 0 verdicts"), "{error}");
    }
}
