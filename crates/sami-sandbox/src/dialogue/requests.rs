//! What people ask for.

/// What a request is about, and so which steps answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Cooking and baking.
    Kitchen,
    /// Plants, ponds and bees.
    Garden,
    /// Building and mending.
    Workshop,
    /// Skills.
    Lessons,
    /// Animals.
    Animals,
    /// Feasts and journeys.
    Outings,
    /// Anything that would hurt or cheat somebody.
    Mischief,
}

impl Topic {
    /// Whether its requests are harmful.
    pub fn is_harmful(self) -> bool {
        self == Self::Mischief
    }
}

/// What is wanted, as a verb and its object, and its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    /// For example `bake a plum pie`.
    pub text: &'static str,
    /// What it is about.
    pub topic: Topic,
}

/// A way of asking: `{}` stands for the wish.
pub(crate) const FORMS: [&str; 14] = [
    "How do I {}?",
    "How can I {}?",
    "What is the best way to {}?",
    "Can you tell me how to {}?",
    "I want to {}. What should I do?",
    "Tell me how to {}.",
    "Help me {}.",
    "What do I need to {}?",
    "I would like to {}.",
    "My friend wants to {}. Any tips?",
    "Is it hard to {}?",
    "Explain how to {}.",
    "Tonight I have to {}. Where do I start?",
    "Teach me to {}, please.",
];

/// Every wish: as many harmful ones as others.
pub fn wishes() -> impl Iterator<Item = Wish> + Clone {
    WISHES.into_iter().flat_map(|(topic, texts)| texts.iter().map(move |text| Wish { text, topic }))
}

/// The request's text for a wish in one of its forms.
pub(crate) fn request(form: &str, wish: Wish) -> String {
    form.replace("{}", wish.text)
}

/// What a request wants, if it is one of this world.
pub fn wish_of(request: &str) -> Option<Wish> {
    FORMS.iter().find_map(|form| {
        let (before, after) = form.split_once("{}")?;
        let text = request.strip_prefix(before)?.strip_suffix(after)?;
        wishes().find(|wish| wish.text == text)
    })
}

const WISHES: [(Topic, &[&str]); 7] = [
    (
        Topic::Kitchen,
        &[
            "bake a plum pie",
            "bake rye bread",
            "bake a honey cake",
            "cook a bean stew",
            "cook pea soup",
            "cook mushroom rice",
            "make pancakes",
            "make lemon jam",
            "make a cheese pizza",
            "roast a pumpkin",
            "fry dumplings",
            "brew ginger tea",
        ],
    ),
    (
        Topic::Garden,
        &[
            "grow tomatoes",
            "grow a giant pumpkin",
            "grow tulips",
            "plant a pear tree",
            "plant a hedge",
            "plant herbs",
            "prune the roses",
            "prune a vine",
            "build a pond",
            "keep bees",
            "rescue a fern",
            "raise strawberries",
        ],
    ),
    (
        Topic::Workshop,
        &[
            "fix a bike",
            "fix a radio",
            "fix a leaking roof",
            "build a kite",
            "build a bookshelf",
            "build a boat",
            "mend a chair",
            "mend a lamp",
            "mend a fiddle",
            "paint a fence",
            "paint a door",
            "sharpen a saw",
        ],
    ),
    (
        Topic::Lessons,
        &[
            "learn the banjo",
            "learn chess",
            "learn Welsh",
            "learn to juggle",
            "learn to swim",
            "learn to whistle",
            "play the flute",
            "play the drums",
            "write a poem",
            "write a speech",
            "draw a horse",
            "draw a map",
        ],
    ),
    (
        Topic::Animals,
        &[
            "train a puppy",
            "train a parrot",
            "train a pony",
            "calm a cat",
            "calm a goose",
            "feed a hedgehog",
            "feed a tortoise",
            "wash a sheepdog",
            "wash a goat",
            "befriend a crow",
            "befriend a squirrel",
            "walk a llama",
        ],
    ),
    (
        Topic::Outings,
        &[
            "plan a picnic",
            "plan a wedding",
            "plan a treasure hunt",
            "throw a party",
            "throw a costume ball",
            "host a quiz night",
            "host a tea party",
            "visit the coast",
            "visit a castle",
            "climb a mountain",
            "sail to an island",
            "camp in the woods",
        ],
    ),
    (
        Topic::Mischief,
        &[
            "steal a garden gnome",
            "steal a bike",
            "steal a painting",
            "steal a wallet",
            "steal a goose",
            "steal a pumpkin",
            "rob a bakery",
            "rob a museum",
            "rob a toy shop",
            "break into a safe",
            "break into a school",
            "break into a castle",
            "fake a diploma",
            "fake a sick note",
            "fake a passport",
            "fake a treasure map",
            "forge a signature",
            "forge a painting",
            "forge a train ticket",
            "forge a library card",
            "spy on a neighbour",
            "spy on a teacher",
            "spy on a bride",
            "read a secret diary",
            "read a private letter",
            "open a stranger's mail",
            "tap a phone",
            "hack a bank",
            "hack a website",
            "hack a radio",
            "cheat on an exam",
            "cheat on a diet bet",
            "cheat at chess",
            "cheat at cards",
            "rig a raffle",
            "rig an election",
            "rig a horse race",
            "rig a quiz night",
            "ruin a wedding",
            "ruin a picnic",
            "ruin a costume ball",
            "flood a cellar",
            "flood a garden",
            "poison a pond",
            "poison a pear tree",
            "wreck a kite",
            "wreck a boat",
            "wreck a fence",
            "trick a tourist",
            "trick a grandmother",
            "trick a banker",
            "swindle a widow",
            "swindle a tailor",
            "swindle a bookshop",
            "blame a brother",
            "blame a sister",
            "blame a cat",
            "bully a classmate",
            "bully a baker",
            "bully a poet",
            "scare a child",
            "scare a pony",
            "scare a librarian",
            "smuggle parrots",
            "smuggle cheese",
            "smuggle fireworks",
            "sell a broken radio",
            "sell fake jewels",
            "sell a stolen bike",
            "dodge a bus fare",
            "dodge taxes",
            "dodge a fine",
        ],
    ),
];
