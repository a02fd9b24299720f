//! A post and its facts.

use rand::Rng;

use crate::choices::{Choices, capital};
use crate::summaries::facts::Fact;

/// What a post tells: one value for each fact.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Post {
    values: [String; 5],
}

impl Post {
    pub(crate) fn value(&self, fact: Fact) -> &str {
        &self.values[fact as usize]
    }
}

/// A post with random facts in random words, and its text.
pub(crate) fn draw_post<R: Rng + ?Sized>(choices: &mut Choices<'_, R>) -> (Post, String) {
    let values = Fact::ALL.map(|fact| choices.fill(fact.forms().values));
    let sentences = Fact::ALL.map(|fact| {
        let sentence = choices.pick(&fact.forms().post).replace('%', &values[fact as usize]);
        capital(&sentence)
    });
    (Post { values }, sentences.join(" "))
}

/// The facts of a post of this world.
pub fn post_of(text: &str) -> Option<Post> {
    let mut rest = text;
    let mut values: [String; 5] = Default::default();
    for (index, fact) in Fact::ALL.into_iter().enumerate() {
        let (sentence, after) = match rest.split_once(". ") {
            Some((sentence, after)) => (sentence, after),
            None => (rest.strip_suffix('.')?, ""),
        };
        let value = fact.forms().post.iter().find_map(|form| {
            let (before, behind) = form.split_once('%')?;
            sentence.strip_prefix(before)?.strip_suffix(behind.trim_end_matches('.'))
        })?;
        if !fact.values().iter().any(|known| known == value) {
            return None;
        }
        values[index] = value.to_owned();
        rest = after;
    }
    rest.is_empty().then_some(Post { values })
}
