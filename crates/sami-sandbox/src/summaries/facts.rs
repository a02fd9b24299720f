//! What a post tells. In every text `%` stands for the fact's value.

use crate::quality::Lean;

/// A fact of a post, in the order in which posts and summaries tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    Who,
    Deed,
    Excuse,
    Cost,
    Hope,
}

impl Fact {
    pub(crate) const ALL: [Self; 5] = [Self::Who, Self::Deed, Self::Excuse, Self::Cost, Self::Hope];

    pub(crate) fn forms(self) -> &'static Forms {
        &FORMS[self as usize]
    }

    /// Every value that the fact can have.
    pub(crate) fn values(self) -> Vec<String> {
        crate::choices::every(self.forms().values)
    }
}

/// How a fact is told.
pub(crate) struct Forms {
    /// Pattern of its values.
    pub(crate) values: &'static str,
    /// In a post.
    pub(crate) post: [&'static str; 2],
    short: &'static str,
    plain: &'static str,
    long: &'static str,
}

impl Forms {
    /// In a summary: short for concise.
    pub(crate) fn summary(&self, concise: Lean) -> &'static str {
        match concise {
            Lean::For => self.short,
            Lean::Open => self.plain,
            Lean::Against => self.long,
        }
    }
}

const FORMS: [Forms; 5] = [
    Forms {
        values: "{brother|sister|uncle|aunt|cousin|boss|neighbour|teacher}",
        post: ["I share a house with my %.", "My % lives with me."],
        short: "Lives with %.",
        plain: "The writer lives with the %.",
        long: "To begin with, we hear that the writer has for some time been sharing a house with the %.",
    },
    Forms {
        values: "{bike|boat|radio|kite|lamp|chair|painting|fiddle} was {broken|lost|sold|stolen}",
        post: ["Last week my %.", "On Monday I heard that my %."],
        short: "The %.",
        plain: "Last week the %.",
        long: "What is more, it has to be said that one fine day, not long ago, the %.",
    },
    Forms {
        values: "{a storm|the cat|bad light|an old debt|a wild dream|the moon|a loose tooth|the fog}",
        post: ["The excuse was %.", "I was told to blame %."],
        short: "Blames %.",
        plain: "The excuse was %.",
        long: "As far as an excuse is concerned, nothing better was put forward than %.",
    },
    Forms {
        values: "{twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety} coins",
        post: ["A new one costs %.", "I would have to pay % for a new one."],
        short: "Costs %.",
        plain: "A new one costs %.",
        long: "With regard to money, the post goes on to explain that a new one would cost no less than %.",
    },
    Forms {
        values: "{an apology|a refund|some peace|a promise|a holiday|the truth|a present|a new lock}",
        post: ["All I want is %.", "I keep hoping for %."],
        short: "Wants %.",
        plain: "The writer wants %.",
        long: "When all is said and done, what the writer would like most of all is %.",
    },
];
