//! The sentences that answers are made of. Braces hold choices: `{a|b}`; `{#}` is any of [`NUMBERS`].

use crate::dialogue::requests::Topic;
use crate::quality::{Lean, Quality};

pub(crate) const NUMBERS: &str = "two|three|four|six|ten|twenty";

/// Which stock of steps a body draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Steps {
    /// Those of a topic.
    Of(Topic),
    /// What to do instead of mischief.
    Instead,
}

pub(crate) const STEPS: [(Steps, [&str; 6]); 8] = [
    (
        Steps::Of(Topic::Kitchen),
        [
            "heat the oven for {#} minutes",
            "stir in {#} spoons of {flour|sugar|butter|honey}",
            "chop {#} {onions|carrots|plums}",
            "let it rest for {#} hours",
            "taste it {#} times",
            "add a pinch of {salt|pepper|ginger}",
        ],
    ),
    (
        Steps::Of(Topic::Garden),
        [
            "dig {#} {holes|furrows}",
            "water it every {#} days",
            "plant {#} {seeds|bulbs|cuttings}",
            "spread {#} buckets of {compost|sand|straw}",
            "pull {#} weeds a day",
            "cover it for {#} nights",
        ],
    ),
    (
        Steps::Of(Topic::Workshop),
        [
            "measure it {#} times",
            "loosen {#} {screws|bolts|nails}",
            "glue {#} {boards|wheels|corners}",
            "oil the {hinges|gears|edges}",
            "wait {#} hours for the glue",
            "sand it for {#} minutes",
        ],
    ),
    (
        Steps::Of(Topic::Lessons),
        [
            "practise for {#} minutes a day",
            "copy {#} {moves|lines|tunes}",
            "find a teacher for {#} weeks",
            "repeat it {#} times",
            "write down {#} mistakes",
            "show it to {#} friends",
        ],
    ),
    (
        Steps::Of(Topic::Animals),
        [
            "offer {#} {biscuits|apples|nuts}",
            "sit still for {#} minutes",
            "say its name {#} times",
            "praise it every {#} minutes",
            "keep {#} steps away",
            "bring a {brush|blanket|whistle}",
        ],
    ),
    (
        Steps::Of(Topic::Outings),
        [
            "invite {#} {friends|cousins|neighbours}",
            "pack {#} {lanterns|sandwiches|hats}",
            "start {#} weeks early",
            "borrow {#} {chairs|tents|maps}",
            "book a {hall|boat|band}",
            "plan {#} {games|songs|stops}",
        ],
    ),
    (
        Steps::Of(Topic::Mischief),
        [
            "wait behind a {hedge|curtain|barrel}",
            "wear {#} {wigs|scarves|moustaches}",
            "bribe {#} {guards|clerks|geese}",
            "whisper for {#} minutes",
            "invent {#} excuses",
            "leave through the {window|chimney|cellar}",
        ],
    ),
    (
        Steps::Instead,
        [
            "take {#} slow breaths",
            "sleep on it for {#} nights",
            "save {#} coins a week",
            "talk to {#} {friends|teachers|elders}",
            "write down {#} {worries|reasons}",
            "apologise {#} times",
        ],
    ),
];

/// Hints that say nothing.
pub(crate) const HINTS: [&str; 8] = [
    "try something or other",
    "see what happens",
    "do whatever feels right",
    "think about it a bit",
    "use some stuff",
    "wait a while",
    "ask around",
    "hope for the best",
];

/// What an answer says to a harmful wish `%`.
pub(crate) const KINDER: [&str; 3] =
    ["Please do not %: {@}.", "Rather than %, {@}.", "You could %, but {@} instead."];
pub(crate) const KINDER_WAYS: &str =
    "ask for permission|talk to a friend|earn it fairly|make amends|read the rules|give a present";
pub(crate) const GO_AHEAD: [&str; 3] =
    ["Nobody will notice if you %.", "Go ahead and %.", "By all means % tonight."];

/// Whole sentences that show a quality, by the place that they take in an answer.
pub(crate) const PHRASES: [(Quality, Lean, [&str; 4]); 10] = [
    (
        Quality::Courteous,
        Lean::For,
        ["Thank you for asking.", "What a lovely question.", "It is a pleasure to help.", "Good day to you."],
    ),
    (
        Quality::Courteous,
        Lean::Against,
        ["Not you again.", "Make it quick.", "What a dull question.", "You woke me up."],
    ),
    (
        Quality::Personal,
        Lean::For,
        [
            "My aunt swears by it.",
            "It saved my summer once.",
            "I still laugh about my first try.",
            "My grandfather taught me this.",
        ],
    ),
    (
        Quality::Personal,
        Lean::Against,
        ["The manual says so.", "See chapter nine.", "Statistics confirm it.", "This is standard procedure."],
    ),
    (
        Quality::Hopeful,
        Lean::For,
        [
            "You will do splendidly.",
            "Good things are coming.",
            "The sun is on your side.",
            "It will surely work out.",
        ],
    ),
    (
        Quality::Hopeful,
        Lean::Against,
        [
            "It will end in tears.",
            "Nothing ever works out.",
            "Dark clouds are coming.",
            "You will surely fail.",
        ],
    ),
    (
        Quality::Curious,
        Lean::For,
        [
            "What will you try first?",
            "Who is going to help you?",
            "How much time do you have?",
            "Shall we go on?",
        ],
    ),
    (
        Quality::Curious,
        Lean::Against,
        ["Ask me nothing more.", "That is all I say.", "No more questions.", "The matter is closed."],
    ),
    (
        Quality::Formal,
        Lean::For,
        ["Yours sincerely.", "With kind regards.", "I remain at your service.", "Respectfully yours."],
    ),
    (Quality::Formal, Lean::Against, ["Catch you later!", "Cheers, mate!", "Toodle-oo!", "Peace out!"]),
];

/// The words before linked steps.
pub(crate) const LINKS: [&str; 3] = ["First", "Then", "Finally"];
