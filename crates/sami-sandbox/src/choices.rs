//! Draws that know how likely they were, and sentences with choices in them.

use rand::{Rng, RngExt};

/// A random source that adds up the log-probability of what it chose: where every text comes about in one way only, that of the
/// choices is that of the text.
pub(crate) struct Choices<'r, R: ?Sized> {
    rng: &'r mut R,
    log_prob: f64,
}

impl<'r, R: Rng + ?Sized> Choices<'r, R> {
    pub(crate) fn new(rng: &'r mut R) -> Self {
        Self { rng, log_prob: 0.0 }
    }

    /// Σ ln P of the choices so far, in nats.
    pub(crate) fn log_prob(&self) -> f64 {
        self.log_prob
    }

    /// One of `0..n`, each equally likely.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.log_prob -= (n as f64).ln();
        self.rng.random_range(0..n)
    }

    /// One of the items.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// `n` distinct positions of `0..len`, in random order.
    pub(crate) fn distinct(&mut self, n: usize, len: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..len).collect();
        (0..n.min(len)).map(|_| left.remove(self.below(left.len()))).collect()
    }

    /// `pattern` with each of its choices made.
    pub(crate) fn fill(&mut self, pattern: &str) -> String {
        let mut text = String::new();
        for piece in pieces(pattern) {
            match piece {
                Piece::Text(fixed) => text.push_str(fixed),
                Piece::Choice(options) => text.push_str(self.pick::<&str>(&options)),
            }
        }
        text
    }
}

enum Piece<'a> {
    Text(&'a str),
    Choice(Vec<&'a str>),
}

/// The parts of a pattern: `{a|b}` is a choice, all else stands as it is.
fn pieces(pattern: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for part in pattern.split_inclusive('}') {
        match part.split_once('{') {
            Some((before, choice)) => {
                pieces.push(Piece::Text(before));
                pieces.push(Piece::Choice(choice.trim_end_matches('}').split('|').collect()));
            }
            None => pieces.push(Piece::Text(part)),
        }
    }
    pieces
}

/// Every text that [`Choices::fill`] can make of a pattern.
pub(crate) fn every(pattern: &str) -> Vec<String> {
    let mut texts = vec![String::new()];
    for piece in pieces(pattern) {
        let options = match piece {
            Piece::Text(fixed) => vec![fixed],
            Piece::Choice(options) => options,
        };
        texts =
            texts.iter().flat_map(|text| options.iter().map(move |more| format!("{text}{more}"))).collect();
    }
    texts
}

/// With its first letter as a capital.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    #[test]
    fn every_text_of_a_pattern_is_drawn_as_often_as_its_probability_says() {
        let pattern = "take {two|six} {cups|bags|sacks} home";
        let all = every(pattern);
        assert_eq!(all.len(), 6);
        assert_eq!(all[1], "take two bags home");
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut counts = vec![0; all.len()];
        for _ in 0..6000 {
            let mut choices = Choices::new(&mut rng);
            let text = choices.fill(pattern);
            assert!((choices.log_prob() + 6f64.ln()).abs() < 1e-12);
            counts[all.iter().position(|one| *one == text).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn distinct_positions_are_distinct_and_equally_likely() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let mut choices = Choices::new(&mut rng);
        let mut drawn = choices.distinct(3, 6);
        assert!((choices.log_prob() + 120f64.ln()).abs() < 1e-12);
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 3);
    }
}
