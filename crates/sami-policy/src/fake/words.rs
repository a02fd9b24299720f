//! What the fake can say and read.

use super::FakeError;
use crate::ContrastSet;

/// The words that the fake speaks, after token 0, its end of sequence.
pub const WORDS: [&str; 24] = [
    "certainly",
    "perhaps",
    "no",
    "please",
    "avoid",
    "danger",
    "carefully",
    "gladly",
    "here",
    "is",
    "a",
    "plan",
    "with",
    "every",
    "step",
    "explained",
    "short",
    "answer",
    "nothing",
    "else",
    "ask",
    "someone",
    "safe.",
    "done.",
];
pub(super) const VOCABULARY: usize = WORDS.len() + 1;
pub(super) const EOS: usize = 0;
pub(super) const BUCKETS: usize = 64;
pub(super) const ROWS: usize = VOCABULARY + BUCKETS;

/// One number per word.
pub(super) type Logits = [f64; VOCABULARY];

/// FNV-1a.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Rows of the table that a prompt switches on, with their weights φ, in the order of the rows.
pub(super) fn features(prompt: &str) -> Vec<(usize, f64)> {
    let mut counts = [0_usize; BUCKETS];
    let mut words = 0;
    for word in prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        counts[(hash(word.to_lowercase().as_bytes()) % BUCKETS as u64) as usize] += 1;
        words += 1;
    }
    let scale = 1.0 / (words.max(1) as f64).sqrt();
    let used = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    used.map(|(bucket, &count)| (VOCABULARY + bucket, count as f64 * scale)).collect()
}

/// Known words by their number, foreign ones by their hash, so that every text can be scored.
pub(super) fn tokenize(text: &str) -> Vec<usize> {
    let foreign = |word: &str| (hash(word.as_bytes()) % WORDS.len() as u64) as usize;
    let number = |word: &str| WORDS.iter().position(|known| *known == word).unwrap_or_else(|| foreign(word));
    text.split_whitespace().map(|word| number(word) + 1).collect()
}

pub(super) fn tokenize_responses(set: &ContrastSet) -> Result<Vec<Vec<usize>>, FakeError> {
    let mut all = Vec::with_capacity(set.responses().len());
    for (index, response) in set.responses().iter().enumerate() {
        let Some(ids) = &response.token_ids else {
            let tokens = tokenize(&response.text);
            // White space alone has no word; it still is one response, so it counts as an immediate end.
            all.push(if tokens.is_empty() { vec![EOS] } else { tokens });
            continue;
        };
        if let Some(&token) = ids.iter().find(|&&id| id as usize >= VOCABULARY) {
            return Err(FakeError::UnknownToken { id: set.id().to_owned(), response: index, token });
        }
        all.push(ids.iter().map(|&id| id as usize).collect());
    }
    Ok(all)
}
