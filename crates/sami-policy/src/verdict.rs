//! Verdicts in the words of language models.

use sami_text::after_thought;

use crate::Verdict;

/// What a judge's prompt asks the answer to end with (A.12): `Final Response: A`.
const MARK: &str = "final response";

impl Verdict {
    /// Reads the answer of a language model that was asked to end with `Final Response: A` or `B` (A.12).
    ///
    /// Copes with emphasis, quotation marks, brackets, LaTeX, another line for the letter, words before it
    /// ("Summary B"), and a letter that stands alone on the last line. A mark at the beginning of a line
    /// counts before one in running text, and "A or B" behind a mark repeats the question. Thoughts are
    /// left out ([`after_thought`]). Says tie only where the answer does. Whatever names both, neither a
    /// letter nor a tie, or different ones in different places is [`Verdict::Unparsable`], and so is an
    /// answer that was cut off inside a thought: nothing is guessed.
    ///
    /// ```
    /// use sami_policy::Verdict;
    /// assert_eq!(Verdict::read("Comparison: A rambles.\n**Final Response:** \"B\""), Verdict::B);
    /// assert_eq!(Verdict::read("Final Response: It is a tie."), Verdict::Tie);
    /// assert!(matches!(Verdict::read("Both have their merits."), Verdict::Unparsable { .. }));
    /// ```
    pub fn read(answer: &str) -> Self {
        let unparsable = || Self::Unparsable { answer: answer.trim().to_owned() };
        after_thought(answer).and_then(verdict_of).unwrap_or_else(unparsable)
    }
}

fn verdict_of(said: &str) -> Option<Verdict> {
    let lines: Vec<String> = said.lines().map(plain).filter(|line| has_words(line)).collect();
    let (mut at_start, mut within) = (Vec::new(), Vec::new());
    for (index, line) in lines.iter().enumerate() {
        // ASCII alone, so that positions stay the same.
        let lower = line.to_ascii_lowercase();
        let marks: Vec<usize> = lower.match_indices(MARK).map(|(at, _)| at).collect();
        for (number, at) in marks.iter().enumerate() {
            let end = marks.get(number + 1).copied().unwrap_or(line.len());
            let rest = line.get(at + MARK.len()..end).unwrap_or_default();
            let next = || lines.get(index + 1).map_or("", String::as_str);
            let rest = if has_words(rest) { rest } else { next() };
            let begins = line.get(..*at).is_some_and(|before| !has_words(before));
            if begins { at_start.push(rest) } else { within.push(rest) }
        }
    }
    if at_start.is_empty() && within.is_empty() {
        // No mark: only a line that is nothing but the choice.
        let last = lines.last()?;
        let verdict = choice(last)?;
        let most = if verdict == Verdict::Tie { 5 } else { 2 };
        return (last.split_whitespace().count() <= most).then_some(verdict);
    }
    agreed(&at_start).or_else(|| agreed(&within))?
}

fn has_words(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

/// What the last of the texts behind a mark chooses, unless another one chooses differently. The outer
/// `None` is for no text but the question's own.
fn agreed(marked: &[&str]) -> Option<Option<Verdict>> {
    let choices: Vec<_> = marked.iter().filter(|text| !is_question(text)).map(|text| choice(text)).collect();
    let last = choices.last()?;
    let agree = choices.iter().flatten().all(|other| Some(other) == last.as_ref());
    Some(last.clone().filter(|_| agree))
}

/// "A or B": what the judge was asked, not what it says.
fn is_question(text: &str) -> bool {
    let words: Vec<_> = words(text).into_iter().map(|word| word.text).collect();
    let (first, rest) = match words.as_slice() {
        ["either", rest @ ..] => (rest.first(), rest),
        all => (all.first(), all),
    };
    matches!(first, Some(&("A" | "B")))
        && matches!(rest.get(1), Some(&"or"))
        && matches!(rest.get(2), Some(&("A" | "B")))
}

/// A line without emphasis and commands of LaTeX.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        out.push(' ');
        // \text, \boxed, \mathbf
        rest = rest[at + 1..].trim_start_matches(|c: char| c.is_ascii_alphabetic());
    }
    out.push_str(rest);
    let emphasis = ['*', '_', '`', '#', '{', '}', '$'];
    out.replace(emphasis, " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A word, and what separates it from the next one.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    gap: &'a str,
}

impl Word<'_> {
    fn is(&self, any: &[&str]) -> bool {
        any.iter().any(|word| self.text.eq_ignore_ascii_case(word))
    }

    /// A letter in capitals; "a" is an article too.
    fn names(&self, letter: &str) -> bool {
        self.text == letter
    }

    fn ends_clause(&self) -> bool {
        self.gap.contains([',', '.', ';', ':', '(', '—', '–', '!']) || self.gap == " - "
    }
}

fn words(text: &str) -> Vec<Word<'_>> {
    let inside = |c: char| c.is_alphanumeric() || c == '\'' || c == '\u{2019}';
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    while !rest.is_empty() {
        let end = rest.find(|c: char| !inside(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let bare = word.trim_end_matches(['\'', '\u{2019}']);
        let next = after.find(char::is_alphanumeric).unwrap_or(after.len());
        words.push(Word { text: bare, gap: &rest[bare.len()..end + next] });
        rest = &after[next..];
    }
    words
}

/// Words that may come before a letter or a tie.
const BEFORE: [&str; 27] = [
    "response",
    "summary",
    "assistant",
    "answer",
    "option",
    "is",
    "the",
    "it",
    "it's",
    "its",
    "i",
    "i'd",
    "choose",
    "pick",
    "prefer",
    "select",
    "say",
    "would",
    "call",
    "my",
    "choice",
    "verdict",
    "winner",
    "better",
    "one",
    "they",
    "are",
];
/// Words that may come after a letter that is meant as one.
const AFTER: [&str; 19] = [
    "is",
    "because",
    "aligns",
    "follows",
    "better",
    "since",
    "as",
    "wins",
    "over",
    "beats",
    "by",
    "for",
    "due",
    "clearly",
    "slightly",
    "overall",
    "outperforms",
    "with",
    "adheres",
];
const TIES: [&str; 10] =
    ["tie", "tied", "draw", "equal", "equally", "equals", "both", "neither", "none", "same"];
/// Beside "both", which alone may be praise of either.
const ALIKE: [&str; 8] = ["equal", "equally", "tie", "tied", "same", "alike", "good", "comparable"];
const BUTS: [&str; 8] = ["but", "however", "though", "although", "yet", "except", "slightly", "still"];
const WORSE: [&str; 12] =
    ["not", "isn't", "worse", "worst", "less", "inferior", "weaker", "wrong", "poor", "bad", "no", "never"];

/// What text after the mark chooses.
fn choice(text: &str) -> Option<Verdict> {
    let words = words(text);
    let words = &words[words.iter().take_while(|word| word.is(&BEFORE)).count()..];
    // "a tie"
    let articled = words.len() > 1 && words[0].is(&["a"]) && words[0].gap == " " && words[1].is(&TIES);
    let words = &words[usize::from(articled)..];
    let (first, rest) = words.split_first()?;
    if first.is(&TIES) {
        return is_tie(words).then_some(Verdict::Tie);
    }
    let (verdict, other) = if first.is(&["a"]) {
        (Verdict::A, "B")
    } else if first.is(&["b"]) {
        (Verdict::B, "A")
    } else {
        return None;
    };
    let Some((second, after)) = rest.split_first() else { return Some(verdict) };
    if second.names(other) {
        let reversed = if verdict == Verdict::A { Verdict::B } else { Verdict::A };
        return match first.gap.trim() {
            ">" | ">>" | ">>>" => Some(verdict),
            "<" | "<<" | "<<<" => Some(reversed),
            "=" | "==" | "≈" | "~" => Some(Verdict::Tie),
            // "A. B rambles."
            gap if gap.contains(['.', ';', '(', '—']) && second.gap == " " => Some(verdict),
            _ => None,
        };
    }
    let Some(third) = after.first() else {
        return (first.gap != " " || second.is(&AFTER)).then_some(verdict);
    };
    if second.is(&["and", "or"]) {
        // "A and B are equal"
        let alike = second.is(&["and"]) && third.names(other) && after.iter().any(|word| word.is(&TIES));
        return (alike && is_tie(words)).then_some(Verdict::Tie);
    }
    if second.is(&["equals"]) {
        return third.names(other).then_some(Verdict::Tie);
    }
    let end = |word: &&Word<'_>| !word.is(&["because", "since", "as", "than"]);
    let claim: Vec<_> = rest.iter().take_while(end).collect();
    let clause = claim.iter().position(|word| word.ends_clause()).map_or(claim.len(), |at| at + 1);
    let denied = first.gap == " " && claim[..clause].iter().any(|word| word.is(&WORSE));
    // "A" is an article too: "A close call".
    ((first.gap != " " || second.is(&AFTER)) && !denied).then_some(verdict)
}

/// "Neither A nor B" is a tie, "both, but A" is not clear, and "both have merits" says nothing.
fn is_tie(words: &[Word<'_>]) -> bool {
    let alone = words.len() == 1 || words[0].ends_clause();
    let pair = words.len() == 4 && words[2].is(&["and"]);
    let both = !words[0].is(&["both"]) || alone || pair || words.iter().any(|word| word.is(&ALIKE));
    let even = words.split_inclusive(Word::ends_clause).all(|clause| {
        let holds = |letter: &str| clause.iter().any(|word| word.names(letter));
        holds("A") == holds("B")
    });
    both && even && !words.iter().any(|word| word.is(&BUTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_in_every_dress() {
        let cases = [
            ("Comparison: B is short, A is whole.\nFinal Response: A", Verdict::A),
            ("Comparison: x\nFinal Response: \"B\"", Verdict::B),
            ("**Comparison:** x\n\n**Final Response: B**", Verdict::B),
            ("Final Response:\n\n**A**\n", Verdict::A),
            ("Final response - Summary B.", Verdict::B),
            ("FINAL RESPONSE: Assistant Response A", Verdict::A),
            ("Final Response: <A>", Verdict::A),
            ("Final Response: (b)", Verdict::B),
            ("Final Response: $\\boxed{B}$", Verdict::B),
            ("Final Response: \\text{B}", Verdict::B),
            ("$\\text{Final Response: } \\boxed{\\textbf{A}}$", Verdict::A),
            ("Final Response: A, because it is brief.", Verdict::A),
            ("Final Response: A because B is not brief.", Verdict::A),
            ("Final Response: A. B rambles on.", Verdict::A),
            ("Final Response: B (A is not brief)", Verdict::B),
            ("Final Response: B is better than the other", Verdict::B),
            ("Final Response: I would choose B.", Verdict::B),
            ("Final Response: A > B", Verdict::A),
            ("Final Response: A>>B", Verdict::A),
            ("Final Response: A < B", Verdict::B),
            ("Final Response: B > A", Verdict::B),
            ("Final Response: A\nFinal Response: A", Verdict::A),
            ("I like the second one.\n\nB", Verdict::B),
            ("It is close.\nSummary A.", Verdict::A),
            ("Final Response: Assistant A is better", Verdict::A),
            ("<think>Final Response: A? No.</think>Final Response: B", Verdict::B),
            ("[THINK]Final Response: A[/THINK]\nFinal Response: B", Verdict::B),
        ];
        for (answer, verdict) in cases {
            assert_eq!(Verdict::read(answer), verdict, "{answer}");
        }
    }

    #[test]
    fn the_question_in_the_answer_is_no_verdict() {
        for answer in [
            "You asked for \"Final Response: A or B\".\nFinal Response: B",
            "Final Response: B\nYou asked for \"Final Response: A or B\".",
            "Final Response: A or B\n\nFinal Response: B",
            "Final Response: B\n\nThe format was:\nFinal Response: A or B",
            "You asked for \"Final Response: A or B\", so: Final Response: B",
            "Final Response: B (you asked for \"Final Response: A or B\")",
            "I could end with Final Response: A, but no.\n**Final Response:** B",
            "Final Response: either A or B\nFinal Response: B",
        ] {
            assert_eq!(Verdict::read(answer), Verdict::B, "{answer}");
        }
    }

    #[test]
    fn a_tie_is_one_where_the_answer_says_so() {
        for answer in [
            "Final Response: Tie",
            "Final Response: It is a tie.",
            "Final Response: It's a tie",
            "Final Response: a tie",
            "Final Response: A tie.",
            "Final Response: They are tied.",
            "Final Response: Neither A nor B",
            "Final Response: Neither",
            "Final Response: Both",
            "Final Response: Both A and B",
            "Final Response: Both are equal",
            "Final Response: Both are equally good, for each of them is brief and says what matters.",
            "Final Response: A and B are equally good.",
            "Final Response: A = B",
            "Final Response: Equal. A and B both ramble.",
            "They are of one kind.\nIt is a tie.",
        ] {
            assert_eq!(Verdict::read(answer), Verdict::Tie, "{answer}");
        }
    }

    #[test]
    fn unclear_answers_stay_unclear() {
        for answer in [
            "",
            "A is better on the whole, I would say.",
            "Final Response:",
            "Final Response: A or B",
            "Final Response: A/B",
            "Final Response: A, B",
            "Final Response: A and B",
            "Final Response: A >= B",
            "Final Response: not A",
            "Final Response: A is worse",
            "Final Response: A is not the better one",
            "Final Response: B is clearly worse than A",
            "Final Response: A loses",
            "Final Response: C",
            "Final Response: A close call",
            "Final Response: Summary A matter of taste",
            "Final Response: A\nOn second thought.\nFinal Response: B",
            "Final Response: A\nFinal Response: hard to say",
            "Final Response: both, but A more so",
            "Final Response: Both have their merits.",
            "Final Response: Neither A nor B is bad, so B",
            "Final Response: Equal, though I like B",
            "Comparison: A does well. B",
            "Comparison: the answer was cut off in the mid",
            "<think>\nFinal Response: A",
            "<think>It is close.\nFinal Response: A",
            "<seed:think>\nFinal Response: B",
        ] {
            let expected = Verdict::Unparsable { answer: answer.trim().to_owned() };
            assert_eq!(Verdict::read(answer), expected, "{answer}");
        }
    }
}
