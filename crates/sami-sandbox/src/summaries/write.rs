//! Writes a summary in a given style.

use rand::Rng;

use crate::choices::Choices;
use crate::quality::{Lean, Quality, Style};
use crate::summaries::facts::Fact;
use crate::summaries::post::Post;

/// A summary of `post`, with the space before it that prompts leave out. Every style and text comes about in one way only.
pub(crate) fn summary<R: Rng + ?Sized>(post: &Post, style: Style, choices: &mut Choices<'_, R>) -> String {
    let form = style.lean(Quality::Concise);
    let told = subsets(style.lean(Quality::Comprehensive));
    let told = choices.pick(&told);
    let facts = Fact::ALL.into_iter().filter(|fact| told >> (*fact as u32) & 1 == 1);
    facts.map(|fact| format!(" {}", fact.forms().summary(form).replace('%', post.value(fact)))).collect()
}

/// Which sets of facts a summary may tell, as bits.
fn subsets(comprehensive: Lean) -> Vec<u32> {
    let wanted = match comprehensive {
        Lean::For => 5,
        Lean::Open => 3,
        Lean::Against => 1,
    };
    (0..1 << Fact::ALL.len()).filter(|set: &u32| set.count_ones() == wanted).collect()
}
