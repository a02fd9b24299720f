//! From what a model answered to wordings of principles and antitheses.
//!
//! Models wrap what they were asked for in greetings, bold type, headings, nested lists and closing remarks, number it in
//! their own way, and leave things out. The reader takes only text that the answer itself ascribes to a side of a
//! principle; whatever it cannot ascribe is left out and told.

use crate::constitution::Stance;
use crate::writer::label::{Meaning, Name, Subject, words};
use crate::writer::line::{Labelled, Line, Marker, label_of};
use crate::writer::note::AnswerNote;
use crate::writer::prose::{clean, is_sentence, split_items};

/// The wordings in one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Per principle, in the order in which they were asked for: definitions and antitheses.
    pub(super) sides: Vec<[Vec<String>; 2]>,
    pub(super) notes: Vec<AnswerNote>,
}

/// Reads an answer about the principles of these names.
pub(super) fn read(answer: &str, names: &[String]) -> Reading {
    let mut reader = Reader::new(names);
    for line in split_items(answer).lines() {
        match Line::read(line) {
            Some(line) => reader.line(&line),
            None => reader.blank = true,
        }
    }
    reader.finish()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TopicKind {
    /// A heading: lists below it are wordings.
    Heading,
    /// An item with text of its own.
    Item,
}

/// The principle that was spoken of last.
#[derive(Clone, Copy, Debug)]
struct Topic {
    name: usize,
    stance: Option<Stance>,
    kind: TopicKind,
    /// The text is to follow.
    awaiting: bool,
}

#[derive(Debug)]
struct Item {
    name: usize,
    stance: Stance,
    text: String,
    /// The principle came back after another one, and no heading or word said why.
    came_back: bool,
    by_position: bool,
}

/// Items of one list at the top level, by whose place nameless ones may be ascribed.
#[derive(Debug, Default)]
struct Run {
    stance: Option<Stance>,
    first: bool,
    entries: Vec<Result<usize, String>>,
}

struct Reader<'a> {
    names: &'a [String],
    words: Vec<Name>,
    section: Option<Stance>,
    topic: Option<Topic>,
    items: Vec<Item>,
    runs: Vec<Run>,
    /// The last line's text went to an item or a nameless entry and may go on.
    open: Option<Open>,
    blank: bool,
    /// A heading since the last item.
    headed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Open {
    Item { indent: usize },
    Loose,
}

impl<'a> Reader<'a> {
    fn new(names: &'a [String]) -> Self {
        Self {
            names,
            words: names.iter().map(|name| Name::new(name)).collect(),
            section: None,
            topic: None,
            items: Vec::new(),
            runs: vec![Run { first: true, ..Run::default() }],
            open: None,
            blank: false,
            headed: true,
        }
    }

    fn line(&mut self, line: &Line) {
        let blank = std::mem::take(&mut self.blank);
        let label = line.label().map(|found| (Meaning::of(&found.label, &self.words), found));
        match label {
            Some((meaning, found)) if self.is_label(line, &meaning, &found, blank) => {
                self.labelled(line, meaning, &found);
            }
            // Talk that ends in a colon introduces something else than what came before it.
            Some((_, found))
                if line.marker == Marker::None && found.rest.is_empty() && line.text.ends_with(':') =>
            {
                self.heading(None);
            }
            // A name of the model's own choice.
            Some((_, found)) if !found.rest.is_empty() && (found.marked || is_name(line, &found.label)) => {
                self.text(line, &found.rest, blank);
            }
            _ => self.text(line, &line.text, blank),
        }
    }

    /// Prose is full of colons: a label must be known, and in running text be short and capitalised.
    fn is_label(&self, line: &Line, meaning: &Meaning, found: &Labelled, blank: bool) -> bool {
        let running = line.marker == Marker::None && !found.marked && !blank && self.open.is_some();
        let short =
            found.label.split_whitespace().count() <= 4 && found.label.starts_with(char::is_uppercase);
        meaning.is_known() && (!running || short)
    }

    fn labelled(&mut self, line: &Line, meaning: Meaning, found: &Labelled) {
        if meaning.aside {
            self.open = None;
            return;
        }
        let rest = found.rest.as_str();
        match meaning.subject {
            Subject::One(name) if self.is_text(rest) => self.item(line, name, meaning.stance, rest),
            Subject::One(name) => {
                self.open = None;
                self.headed = true;
                self.topic =
                    Some(Topic { name, stance: meaning.stance, kind: TopicKind::Heading, awaiting: true });
            }
            Subject::Many if rest.is_empty() => self.heading(meaning.stance),
            Subject::Many => self.open = None,
            Subject::None => self.nameless(line, meaning, rest),
        }
    }

    /// A label that names a side or a wording, and no principle.
    fn nameless(&mut self, line: &Line, meaning: Meaning, rest: &str) {
        // Principle 1: Helpful - …
        if let Some(inner) = label_of(rest) {
            let nested = Meaning::of(&inner.label, &self.words);
            if let Subject::One(name) = nested.subject
                && self.is_text(&inner.rest)
            {
                return self.item(line, name, meaning.stance.or(nested.stance), &inner.rest);
            }
        }
        if !rest.is_empty() && !self.is_text(rest) {
            let nested = Meaning::of(rest, &self.words);
            match nested.subject {
                Subject::One(name) => {
                    let stance = meaning.stance.or(nested.stance);
                    self.headed = true;
                    self.open = None;
                    self.topic = Some(Topic { name, stance, kind: TopicKind::Heading, awaiting: true });
                }
                _ => self.heading(meaning.stance),
            }
            return;
        }
        let below_heading = self.topic.filter(|topic| topic.kind == TopicKind::Heading);
        match (rest.is_empty(), meaning.wording && meaning.stance.is_none()) {
            (true, true) if below_heading.is_some() => self.open = None,
            (true, true) => self.heading(self.section),
            (true, false) => match self.topic.as_mut() {
                Some(topic) if topic.kind == TopicKind::Heading && !meaning.plural => {
                    topic.stance = meaning.stance;
                    topic.awaiting = true;
                    self.open = None;
                }
                _ => self.heading(meaning.stance),
            },
            (false, true) => self.text(line, rest, false),
            (false, false) => match self.topic {
                Some(topic) => self.add(line, topic.name, meaning.stance.or(topic.stance), rest, false),
                None if line.marker == Marker::None => self.heading(meaning.stance),
                None => {
                    self.section = meaning.stance.or(self.section);
                    self.loose(rest);
                }
            },
        }
    }

    /// A heading of several items.
    fn heading(&mut self, stance: Option<Stance>) {
        self.section = stance;
        self.topic = None;
        self.open = None;
        self.headed = true;
        self.runs.push(Run { stance, first: self.items.is_empty(), ..Run::default() });
    }

    /// An item with a principle's name.
    fn item(&mut self, line: &Line, name: usize, stance: Option<Stance>, rest: &str) {
        // Helpful: Antithesis: …
        let inner = label_of(rest).map(|inner| (Meaning::of(&inner.label, &self.words), inner));
        let (stance, rest) = match inner {
            Some((meaning, inner))
                if meaning.subject == Subject::None
                    && (meaning.stance.is_some() || meaning.wording)
                    && !inner.rest.is_empty()
                    && inner.label.split_whitespace().count() <= 2 =>
            {
                (meaning.stance.or(stance), inner.rest)
            }
            _ => (stance, rest.to_owned()),
        };
        let heading = self.topic.is_some_and(|topic| topic.kind == TopicKind::Heading && topic.name == name);
        self.add(line, name, stance, &rest, true);
        let kind = if heading { TopicKind::Heading } else { TopicKind::Item };
        self.topic = Some(Topic { name, stance, kind, awaiting: false });
    }

    /// Text without a label.
    fn text(&mut self, line: &Line, text: &str, blank: bool) {
        let listed = matches!(line.marker, Marker::Number | Marker::Bullet);
        if let (false, false, Some(open)) = (listed, blank, self.open)
            && self.is_unfinished(open, line)
        {
            return self.go_on(open, text);
        }
        match self.topic {
            Some(mut topic) if topic.kind == TopicKind::Heading && (topic.awaiting || listed) => {
                topic.awaiting = false;
                self.topic = Some(topic);
                self.add(line, topic.name, topic.stance, text, false);
            }
            // The parts of "Responses should:"; otherwise remarks on the item above them.
            Some(Topic { kind: TopicKind::Item, .. }) if listed && self.is_below(line) => {
                if let Some(open @ Open::Item { .. }) = self.open
                    && self.items.last().is_some_and(|item| item.text.ends_with([':', ';', ',']))
                {
                    let part = text.trim_end_matches(['.', ';', ',']);
                    self.go_on(open, &format!("{part};"));
                }
            }
            _ if listed => self.loose(text),
            _ => self.open = None,
        }
    }

    /// A broken line goes on; a closing remark right below an item does not belong to it.
    fn is_unfinished(&self, open: Open, line: &Line) -> bool {
        let (text, below) = match open {
            Open::Item { indent } => (self.items.last().map(|item| item.text.as_str()), line.indent > indent),
            Open::Loose => (
                self.runs.last().and_then(|run| run.entries.last()?.as_ref().err()).map(String::as_str),
                false,
            ),
        };
        below
            || text
                .is_some_and(|text| !text.trim_end_matches(['"', '\u{201d}', ')']).ends_with(['.', '!', '?']))
    }

    fn is_below(&self, line: &Line) -> bool {
        matches!(self.open, Some(Open::Item { indent }) if line.indent > indent)
    }

    fn go_on(&mut self, open: Open, text: &str) {
        let last = match open {
            Open::Item { .. } => self.items.last_mut().map(|item| &mut item.text),
            Open::Loose => self.runs.last_mut().and_then(|run| run.entries.last_mut()?.as_mut().err()),
        };
        if let Some(last) = last {
            last.push(' ');
            last.push_str(text);
        }
    }

    /// An item without a name: only its place can say whose it is.
    fn loose(&mut self, text: &str) {
        if let Some(run) = self.runs.last_mut() {
            run.entries.push(Err(text.to_owned()));
            self.open = Some(Open::Loose);
        }
    }

    fn add(&mut self, line: &Line, name: usize, stance: Option<Stance>, text: &str, named: bool) {
        let side = stance.or(self.section);
        let stance = side.unwrap_or(Stance::Principle);
        let before = self.items.iter().rposition(|item| item.name == name && item.stance == stance);
        let came_back =
            stance == Stance::Principle && !self.headed && before.is_some_and(|at| at + 1 < self.items.len());
        self.items.push(Item { name, stance, text: text.to_owned(), came_back, by_position: false });
        self.open = Some(Open::Item { indent: line.indent });
        self.headed = false;
        if named && let Some(run) = self.runs.last_mut() {
            run.entries.push(Ok(name));
        }
    }

    /// Not only names of principles and words between them.
    fn is_text(&self, text: &str) -> bool {
        let all = words(text);
        let named = |word: &String| {
            matches!(word.as_str(), "and" | "or" | "the" | "being")
                || Meaning::of(word, &self.words).is_known()
        };
        !all.iter().all(named) || (all.len() > 4 && Meaning::of(text, &self.words).subject != Subject::Many)
    }

    fn finish(mut self) -> Reading {
        self.ascribe_by_position();
        let mut reading =
            Reading { sides: vec![[Vec::new(), Vec::new()]; self.names.len()], notes: Vec::new() };
        let mirrored: Vec<bool> = (0..self.names.len())
            .map(|name| self.items.iter().any(|item| item.name == name && item.stance == Stance::Antithesis))
            .collect();
        for item in &self.items {
            let (name, stance) = (item.name, item.stance);
            let principle = self.names[name].clone();
            let text = clean(&item.text);
            if item.came_back && !mirrored[name] {
                reading.notes.push(AnswerNote::Unclear { principle, text });
                continue;
            }
            if !is_sentence(&text) {
                reading.notes.push(AnswerNote::NoSentence { principle, stance, text });
                continue;
            }
            let known = |side: &Vec<String>| side.iter().any(|other| words(other) == words(&text));
            let [statements, antitheses] = &mut reading.sides[name];
            match stance {
                Stance::Principle if !known(statements) => statements.push(text.clone()),
                Stance::Antithesis if known(statements) => {
                    reading.notes.push(AnswerNote::SameOnBothSides { principle, text });
                    continue;
                }
                Stance::Antithesis if !known(antitheses) => antitheses.push(text.clone()),
                _ => continue,
            }
            if item.by_position {
                reading.notes.push(AnswerNote::ByPosition { principle, stance, text });
            }
        }
        reading
    }

    /// Lists with exactly one item per principle, some of them without a name, under a heading that says which side they
    /// are (or at the very beginning, where definitions were asked for).
    fn ascribe_by_position(&mut self) {
        for run in std::mem::take(&mut self.runs) {
            let Some(stance) = run.stance.or(run.first.then_some(Stance::Principle)) else { continue };
            if run.entries.len() != self.names.len() {
                continue;
            }
            for (name, entry) in run.entries.into_iter().enumerate() {
                let taken = self.items.iter().any(|item| item.name == name && item.stance == stance);
                if let Err(text) = entry
                    && !taken
                {
                    self.items.push(Item { name, stance, text, came_back: false, by_position: true });
                }
            }
        }
    }
}

fn is_name(line: &Line, label: &str) -> bool {
    line.marker == Marker::Number && label.split_whitespace().count() <= 2
}
