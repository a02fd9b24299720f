//! Verdicts in the words of language models.

use crate::Verdict;

/// What a judge's prompt asks the answer to end with (A.12): `Final Response: A`.
const MARK: &str = "final response";

impl Verdict {
    /// Reads the answer of a language model that was asked to end with `Final Response: A` or `B` (A.12).
    ///
    /// Copes with emphasis, quotation marks, brackets, another line for the letter, a word before it ("Summary B"), and a
    /// letter that stands alone on the last line. Says tie only where the answer does. Whatever names both, neither a
    /// letter nor a tie, or different ones in different places is [`Verdict::Unparsable`]: nothing is guessed.
    ///
    /// ```
    /// use sami_policy::Verdict;
    /// assert_eq!(Verdict::read("Comparison: A rambles.\n**Final Response:** \"B\""), Verdict::B);
    /// assert!(matches!(Verdict::read("Both have their merits."), Verdict::Unparsable { .. }));
    /// ```
    pub fn read(answer: &str) -> Self {
        let unparsable = || Self::Unparsable { answer: answer.trim().to_owned() };
        // Reasoning models think aloud first.
        let said = answer.rsplit_once("</think>").map_or(answer, |(_, rest)| rest);
        let lines: Vec<String> = said.lines().map(plain).filter(|line| !line.is_empty()).collect();
        let mut choices = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let lower = line.to_lowercase();
            let Some(at) = lower.rfind(MARK) else { continue };
            let rest = lower.get(at + MARK.len()..).unwrap_or_default();
            let rest = rest.trim_start_matches([':', '-', '–', '=', ' ', '.']);
            let rest = if rest.is_empty() { lines.get(index + 1).map_or("", String::as_str) } else { rest };
            choices.push(choice(&rest.to_lowercase()));
        }
        if choices.is_empty() {
            // No mark: only a line that is nothing but the choice.
            choices.extend(
                lines
                    .last()
                    .filter(|line| line.split(' ').count() <= 2)
                    .map(|line| choice(&line.to_lowercase())),
            );
        }
        let Some(Some(first)) = choices.first() else { return unparsable() };
        if choices.iter().all(|other| other.as_ref() == Some(first)) { first.clone() } else { unparsable() }
    }
}

/// A line without emphasis, quotation marks and brackets.
fn plain(line: &str) -> String {
    let marks = [
        '*', '_', '`', '"', '\'', '\u{201c}', '\u{201d}', '<', '>', '[', ']', '(', ')', '#', '\\', '{', '}',
        '$',
    ];
    line.replace(marks, " ").replace("boxed", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What lower-case text after the mark chooses.
fn choice(text: &str) -> Option<Verdict> {
    // Each word with what separates it from the next one.
    let mut words: Vec<(&str, &str)> = Vec::new();
    let mut rest = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let next = after.find(char::is_alphanumeric).unwrap_or(after.len());
        words.push((word, &after[..next]));
        rest = &after[next..];
    }
    let named = |word: &str| {
        matches!(word, "response" | "summary" | "assistant" | "answer" | "option" | "is" | "the")
    };
    let words: Vec<_> = words.into_iter().skip_while(|(word, _)| named(word)).collect();
    let (first, gap) = words.first().copied()?;
    let holds = |wanted: &str| words.iter().any(|(word, _)| *word == wanted);
    match first {
        "tie" | "neither" | "both" | "equal" | "equally" | "draw" | "none" => {
            // "Neither A nor B" is a tie, "both, but A" is not clear.
            let clear = words.len() <= 5 && !holds("but") && holds("a") == holds("b");
            clear.then_some(Verdict::Tie)
        }
        "a" | "b" => {
            let (verdict, other) = if first == "a" { (Verdict::A, "b") } else { (Verdict::B, "a") };
            let second = words.get(1).map(|(word, _)| *word);
            // "A" is an article too: "A close call".
            let goes_on = ["is", "because", "aligns", "follows", "better", "since", "as", "wins"]
                .map(Some)
                .contains(&second);
            let clear = gap != " " || goes_on;
            let alone = ![Some(other), Some("or"), Some("and")].contains(&second);
            (clear && alone).then_some(verdict)
        }
        _ => None,
    }
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
            ("Final Response: $\\boxed{B}$", Verdict::B),
            ("Final Response: A, because it is brief.", Verdict::A),
            ("Final Response: B is better than the other", Verdict::B),
            ("Final Response: A\nFinal Response: A", Verdict::A),
            ("I like the second one.\n\nB", Verdict::B),
            ("It is close.\nSummary A.", Verdict::A),
            ("Final Response: Assistant A is better", Verdict::A),
            ("<think>Final Response: A? No.</think>Final Response: B", Verdict::B),
            ("Final Response: Tie", Verdict::Tie),
            ("Final Response: Neither A nor B", Verdict::Tie),
            ("Final Response: Both are equal", Verdict::Tie),
        ];
        for (answer, verdict) in cases {
            assert_eq!(Verdict::read(answer), verdict, "{answer}");
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
            "Final Response: C",
            "Final Response: A close call",
            "Final Response: Summary A matter of taste",
            "Final Response: A\nOn second thought.\nFinal Response: B",
            "Final Response: both, but A more so",
            "Comparison: A does well. B",
            "Comparison: the answer was cut off in the mid",
        ] {
            let expected = Verdict::Unparsable { answer: answer.trim().to_owned() };
            assert_eq!(Verdict::read(answer), expected, "{answer}");
        }
    }
}
