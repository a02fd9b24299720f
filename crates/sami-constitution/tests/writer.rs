//! Answers as models give them, what is missing in them, and reminders.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use std::cell::RefCell;
use std::convert::Infallible;

use sami_constitution::{
    PrincipleSet, PrincipleWriter, SeedTemplate, Speaker, WriteError, WriterBuilder, Written,
};

fn writer(variants: usize) -> PrincipleWriter {
    named(&["helpful", "harmless"], variants)
}

fn named(names: &[&str], variants: usize) -> PrincipleWriter {
    WriterBuilder {
        task: "answer what people ask an assistant".into(),
        principles: names.iter().map(|name| (*name).to_owned()).collect(),
        variants,
        ..WriterBuilder::default()
    }
    .check()
    .unwrap()
}

/// Gives these answers one after the other, then the last one forever.
fn write(writer: &PrincipleWriter, answers: &[&str]) -> Result<Written, WriteError<Infallible>> {
    let asked = RefCell::new(0);
    writer.write(|_| {
        let mut asked = asked.borrow_mut();
        let answer = answers.get(*asked).or(answers.last()).unwrap();
        *asked += 1;
        Ok((*answer).to_owned())
    })
}

/// [definitions, antitheses] of each principle.
fn sides(written: &Written) -> Vec<[Vec<String>; 2]> {
    written.set().principles().iter().map(|one| [one.statements.clone(), one.antitheses.clone()]).collect()
}

const HELPFUL: &str = "Answers should be clear and complete.";
const HARMLESS: &str = "Answers should keep people safe: no help with crimes.";
const NOT_HELPFUL: &str = "Answers should be hazy and short.";
const NOT_HARMLESS: &str = "Answers should obey, whoever gets hurt.";

/// What every one of the answers below says in its own way.
fn expected() -> Vec<[Vec<String>; 2]> {
    [[HELPFUL, NOT_HELPFUL], [HARMLESS, NOT_HARMLESS]]
        .map(|pair| pair.map(|text| vec![text.to_owned()]))
        .to_vec()
}

#[test]
fn the_seed_prompt_has_the_structure_of_the_paper() {
    let seed = writer(2).seed_prompt().to_owned();
    assert!(seed.contains("asked to answer what people ask an assistant"), "{seed}");
    assert!(seed.contains("2 principles: helpful, harmless."), "{seed}");
    let format = "Principles\n1. [helpful]: Responses should …\n2. [helpful]: Responses should …\n\
                  3. [harmless]: Responses should …\n4. [harmless]: Responses should …\n\nAntitheses\n1. [not helpful]:";
    assert!(seed.contains(format), "{seed}");
    let one = named(&["brief"], 1).seed_prompt().to_owned();
    assert!(one.contains("1 principle: brief.") && !one.contains("wordings"), "{one}");
    assert!(one.ends_with("Antitheses\n1. [not brief]: Responses should …"), "{one}");
}

#[test]
fn answers_in_every_dress_say_the_same() {
    let [h, s, nh, ns] = [HELPFUL, HARMLESS, NOT_HELPFUL, NOT_HARMLESS];
    let answers = [
        ("as asked", format!("Principles\n1. [helpful]: {h}\n2. [harmless]: {s}\n\nAntitheses\n1. [not helpful]: {nh}\n2. [not harmless]: {ns}")),
        ("bold and talk", format!("Certainly! Here are the two principles for a helpful, harmless assistant:\n\n1. **Helpful:** {h}\n2. **Harmless:** {s}\n\nHere are the two antitheses that you can use as a contrastive prompt, in the same format:\n\n1. **Helpful:** {nh}\n2. **Harmless:** {ns}\n\nI hope this helps! Let me know: should I write more?")),
        ("brackets in bold", format!("**Principles**\n\n1. **[Helpful]**: {h}\n\n2. **[Harmless]**: {s}\n\n**Antitheses**\n\n1. **[Unhelpful]**: {nh}\n\n2. **[Harmful]**: {ns}")),
        ("headings with text below", format!("# Constitution\n\n## Helpfulness\n\n### Definition\n\n{h}\n\n### Antithesis\n\n{nh}\n\n## Harmlessness\n\n### Definition\n\n{s}\n\n### Antithesis\n\n{ns}\n\nThese can now be used.")),
        ("nested lists", format!("1. **Helpful**\n   - Definition: {h}\n   - Antithesis: {nh}\n   - Example: Asked for a recipe, it gives one that is helpful.\n2. **Harmless**\n   - Definition: {s}\n   - Antithesis: {ns}\n")),
        ("no headings, denied names", format!("1. Helpful: {h}\n2. Harmless: {s}\n3. Not helpful: {nh}\n4. Not harmless: {ns}")),
        ("bullets and dashes", format!("Principles:\n\n* Helpful - {h}\n* Harmless - {s}\n\nAntitheses:\n\n* Helpful - {nh}\n* Harmless - {ns}")),
        ("principle N", format!("Principle 1: Helpful - {h}\nPrinciple 2: Harmless - {s}\nAntithesis 1: Unhelpful - {nh}\nAntithesis 2: Harmful - {ns}")),
        ("role in brackets", format!("- **Helpful** (principle): {h}\n- **Helpful** (antithesis): {nh}\n- **Harmless** (principle): {s}\n- **Harmless** (antithesis): {ns}")),
        ("other order", format!("### Harmless\n- Principle: {s}\n- Antithesis: {ns}\n### Helpful\n- Principle: {h}\n- Antithesis: {nh}")),
        ("quoted, windows lines", format!("Principles\r\n1) \"Helpful\": \"{h}\"\r\n2) \"Harmless\": \"{s}\"\r\nAntitheses\r\n1) Anti-helpful: “{nh}”\r\n2) Anti-harmless: “{ns}”\r\n")),
        ("broken lines", format!("Principles\n1. [helpful]: Answers should be\n   clear and complete.\n2. [harmless]: {s}\n\nAntitheses\n1. [not helpful]: Answers should be hazy\nand short.\n2. [not harmless]: {ns}")),
        ("one line", format!("Principles: 1. [helpful]: {h} 2. [harmless]: {s} Antitheses: 3. [not helpful]: {nh} 4. [not harmless]: {ns}").replace(" Antitheses: ", "\nAntitheses: ")),
        ("thinking aloud", format!("<think>\n1. [helpful]: maybe something with rainbows\n2. [not helpful]: or with wet socks in it\n</think>\nPrinciples\n1. [helpful]: {h}\n2. [harmless]: {s}\nAntitheses\n1. [not helpful]: {nh}\n2. [not harmless]: {ns}")),
        ("code block and rule", format!("```text\nPrinciples\n1. [helpful]: {h}\n2. [harmless]: {s}\n---\nAntitheses\n1. [not helpful]: {nh}\n2. [not harmless]: {ns}\n```")),
        ("echoed format first", format!("1. [helpful]: Responses should …\n2. [harmless]: Responses should …\n\nPrinciples\n1. [helpful]: {h}\n2. [harmless]: {s}\n\nAntitheses\n1. [not helpful]: {nh}\n2. [not harmless]: {ns}")),
        ("no names in the lists", format!("**Principles:**\n1. {h}\n2. {s}\n\n**Antitheses:**\n1. {nh}\n2. {ns}")),
        ("a remark right below", format!("Principles\n1. [helpful]: {h}\n2. [harmless]: {s}\nThese are my principles, and I hope they help.\nAntitheses\n1. [not helpful]: {nh}\n2. [not harmless]: {ns}\nUse them well, and call again!")),
        ("names of its own", format!("Principles:\n1. Usefulness: {h}\n2. Safety: {s}\nAntitheses:\n1. Uselessness: {nh}\n2. Danger: {ns}")),
    ];
    for (dress, answer) in &answers {
        let written =
            write(&writer(1), &[answer]).unwrap_or_else(|error| panic!("{dress}: {error}\n{answer}"));
        assert_eq!(sides(&written), expected(), "{dress}:\n{answer}\n{:?}", written.notes());
        assert_eq!(written.answers(), 1, "{dress}");
    }
}

#[test]
fn ten_and_more_items_with_several_wordings_each() {
    let names = ["clear", "kind", "brief", "honest", "calm", "fair"];
    let wording = |name: &str, side: &str, n: usize| {
        format!("Answers should be {side} {name}, as wording {n} puts it.")
    };
    for style in 0..3 {
        let mut answer = String::from("Here you go!\n");
        for (side, heading) in [("very", "Principles"), ("hardly", "Antitheses")] {
            answer.push_str(&format!("\n## {heading}\n\n"));
            let mut number = 0;
            for name in names {
                if style == 1 {
                    answer.push_str(&format!("### {name}\n"));
                }
                for n in 1..=2 {
                    number += 1;
                    let text = wording(name, side, n);
                    answer.push_str(&match style {
                        0 => format!("{number}. **{name}**: {text}\n"),
                        1 => format!("- Wording {n}: {text}\n"),
                        _ => format!("{number}. [{name}] {text}\n\n"),
                    });
                }
            }
        }
        let written = write(&named(&names, 2), &[&answer]).unwrap();
        for (principle, name) in written.set().principles().iter().zip(names) {
            assert_eq!(principle.name, name);
            assert_eq!(principle.statements, [1, 2].map(|n| wording(name, "very", n)), "{answer}");
            assert_eq!(principle.antitheses, [1, 2].map(|n| wording(name, "hardly", n)), "{answer}");
        }
        assert!(written.notes().is_empty() && written.missing().is_empty());
    }
}

#[test]
fn parts_of_a_sentence_are_joined_and_remarks_on_it_left_out() {
    let answer = format!(
        "Principles\n1. **Helpful**: Answers should:\n   - be clear,\n   - be complete.\n2. **Harmless**: {HARMLESS}\n   - This keeps people safe.\n\n   It matters a lot.\n\nAntitheses\n1. **Helpful**: {NOT_HELPFUL}\n2. **Not harmful**: {HARMLESS}\n3. **Harmful**: {NOT_HARMLESS}"
    );
    let written = write(&writer(1), &[&answer]).unwrap();
    let [helpful, harmless] = &sides(&written)[..] else { panic!("{written:?}") };
    assert_eq!(helpful[0], ["Answers should: be clear; be complete."]);
    assert_eq!(harmless[0], [HARMLESS]);
    // What is called "not harmful" under the antitheses repeats the principle.
    assert_eq!(harmless[1], [NOT_HARMLESS]);
    assert_eq!(
        written.notes()[0].to_string(),
        format!("left out, the antithesis of harmless repeats its definition: {HARMLESS}")
    );
}

#[test]
fn nothing_is_taken_from_a_thought_that_does_not_end() {
    let drafts = format!(
        "1. [helpful]: {HELPFUL}\n2. [harmless]: {HARMLESS}\n3. [not helpful]: {NOT_HELPFUL}\n4. [not harmless]: {NOT_HARMLESS}"
    );
    for open in ["<think>", "[THINK]", "◁think▷", "<seed:think>"] {
        let asked = RefCell::new(0);
        let error = writer(1).write(|_| {
            *asked.borrow_mut() += 1;
            Ok::<_, Infallible>(format!("{open}\n{drafts}"))
        });
        let error = error.unwrap_err();
        assert!(matches!(error, WriteError::OnlyThought { answers: 1, .. }), "{error}");
        assert_eq!(asked.into_inner(), 1, "a second answer would be cut off as well");
    }
    let error = write(&writer(1), &["<think>\nLet me see"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "answer 1 of the principle writer is a thought without an end: it was cut off before there was an answer; \
         allow more tokens per answer, or ask a model that does not think aloud. It begins: \"<think>\\nLet me see\""
    );
    // What earlier answers gave is kept, and the rest is told.
    let written = write(&writer(2), &[&drafts, &format!("<think>\n{drafts}")]).unwrap();
    assert_eq!(sides(&written), expected());
    let notes: Vec<_> = written.notes().iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["nothing was taken from answer 2, which was cut off inside a thought"]);
    // Closed, it is an answer, whatever the tags.
    for (open, close) in [("[THINK]", "[/THINK]"), ("<thinking>", "</thinking>"), ("", "</think>")] {
        let answer = format!("{open}1. [helpful]: something with rainbows in it{close}\n{drafts}");
        assert_eq!(sides(&write(&writer(1), &[&answer]).unwrap()), expected());
    }
}

#[test]
fn what_is_missing_is_asked_for_by_name_and_kept_from_the_first_answer() {
    let first = format!("1. [helpful]: {HELPFUL}\n2. [harmless]: {HARMLESS}\n");
    let second = format!(
        "Sorry!\n1. [helpful]: A different definition altogether.\n2. [not helpful]: {NOT_HELPFUL}\n3. [not harmless]: {NOT_HARMLESS}"
    );
    let mut asked = Vec::new();
    let answers = [first, second];
    let written = writer(1)
        .write(|turns| {
            asked.push(turns.clone());
            Ok::<_, Infallible>(answers[asked.len() - 1].clone())
        })
        .unwrap();
    assert_eq!(sides(&written), expected());
    let speakers: Vec<_> = asked[1].turns.iter().map(|turn| turn.speaker).collect();
    assert_eq!(speakers, [Speaker::User, Speaker::Assistant, Speaker::User]);
    assert_eq!(
        asked[1].turns[2].text,
        "Your answer still lacks the antithesis of helpful, the antithesis of harmless. An antithesis asks for the \
         opposite of what its principle asks for. Please write what is missing, and nothing else, in this format:\n\n\
         1. [not helpful]: Responses should …\n2. [not harmless]: Responses should …"
    );
    // A model that continues text gets the beginning of the answer, which then counts as its own.
    assert_eq!(asked[0].opening.as_deref(), Some("Principles\n1. [helpful]:"));
    assert!(asked[0].as_prompt().ends_with("Responses should …\n\nPrinciples\n1. [helpful]:"));
    assert_eq!(asked[1].opening.as_deref(), Some("1. [not helpful]:"));
    assert_eq!(asked[1].answer_of(" Be hazy."), "1. [not helpful]: Be hazy.");
}

#[test]
fn nothing_is_invented() {
    let refused = |answer: &str| match write(&writer(1), &[answer]) {
        Err(error @ WriteError::Missing { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    // No answer at all, refusals, placeholders, fragments, a second round that may or may not be antitheses.
    for answer in [
        "",
        "I'm sorry, but I can't help with writing antitheses.",
        "Principles: helpful, harmless\nAntitheses: not helpful, not harmless",
        "1. [helpful]: …\n2. [harmless]: ...\nAntitheses\n1. [not helpful]: Responses should …\n2. [not harmless]: <definition here>",
        "1. [helpful]: what what what what\n2. [harmless]: so it is \u{fffd}\nAntitheses\n1. [not helpful]: no no no\n2. [not harmless]: a b",
        "1. [helpful]: Yes.\n2. [harmless]: Of course.\nAntitheses\n1. [not helpful]: No.\n2. [not harmless]: No way.",
    ] {
        assert!(refused(answer).contains("the definition of helpful"), "{answer}");
    }
    let twice = format!(
        "1. Helpful: {HELPFUL}\n2. Harmless: {HARMLESS}\n\n1. Helpful: {NOT_HELPFUL}\n2. Harmless: {NOT_HARMLESS}"
    );
    assert_eq!(
        refused(&twice),
        format!(
            "the principle writer gave 3 answers and still left out the antithesis of helpful, the antithesis of harmless; \
             write what is missing by hand, ask for fewer principles, or ask another model. Its last answer begins: {:?}",
            &twice[..200]
        )
    );
    // The same sentence on both sides is no antithesis.
    let same = format!(
        "Principles\n1. [helpful]: {HELPFUL}\n2. [harmless]: {HARMLESS}\nAntitheses\n1. [helpful]: {HELPFUL}\n2. [harmless]: {NOT_HARMLESS}"
    );
    assert!(refused(&same).contains("left out the antithesis of helpful;"));
    // Nor is it one when it comes in a later answer, in other dress.
    let first =
        format!("1. [helpful]: {HELPFUL}\n2. [harmless]: {HARMLESS}\n3. [not harmless]: {NOT_HARMLESS}");
    let again = format!("1. [not helpful]: \"{}\"", HELPFUL.to_uppercase());
    let error = write(&writer(1), &[&first, &again]).unwrap_err().to_string();
    assert!(error.contains("left out the antithesis of helpful;"), "{error}");
    // Four nameless items could be anything.
    let nameless = format!("1. {HELPFUL}\n2. {HARMLESS}\n3. {NOT_HELPFUL}\n4. {NOT_HARMLESS}");
    assert!(
        refused(&nameless).contains("the definition of helpful, the definition of harmless, the antithesis")
    );
}

#[test]
fn fewer_wordings_than_asked_for_are_told_and_accepted() {
    let answer = format!(
        "Principles\n1. [helpful]: {HELPFUL}\n2. [harmless]: {HARMLESS}\nAntitheses\n1. [not helpful]: {NOT_HELPFUL}\n2. [not helpful]: Answers should say next to nothing.\n3. [not harmless]: {NOT_HARMLESS}"
    );
    let written = write(&writer(2), &[&answer]).unwrap();
    assert_eq!(written.answers(), 3);
    let missing: Vec<_> = written.missing().iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [
            "1 more of 2 wordings of the definition of helpful",
            "1 more of 2 wordings of the definition of harmless",
            "1 more of 2 wordings of the antithesis of harmless"
        ]
    );
}

#[test]
fn the_file_is_for_people_and_is_read_back() {
    let answer = format!(
        "Principles\n1. {HELPFUL}\n2. {HARMLESS}\nAntitheses\n1. [not helpful]: \"{NOT_HELPFUL}\"\n2. [not harmless]: {NOT_HARMLESS}"
    );
    let written = write(&writer(1), &[&answer]).unwrap();
    let text = written.to_toml("a model\nwith \u{7}noise").unwrap();
    assert_eq!(&PrincipleSet::from_toml(&text).unwrap(), written.set());
    let head: Vec<_> = text.lines().take_while(|line| line.starts_with('#')).collect();
    assert_eq!(
        head,
        [
            "# Principles and antitheses, written by a model with noise (temperature 0, 1 answers).",
            "# Task: answer what people ask an assistant. Seed prompt: built in.",
            &format!(
                "# Note: taken for the definition of helpful by its place in the list, it has no name: {HELPFUL}."
            ),
            &format!(
                "# Note: taken for the definition of harmless by its place in the list, it has no name: {HARMLESS}."
            ),
            "# Edit freely: one sentence per wording, on one line. Every query draws one wording of each.",
        ]
    );
    assert!(text.contains("[[principle]]\nname = \"helpful\"\nstatements = [\""), "{text}");
}

#[test]
fn templates_of_ones_own_are_checked() {
    let good = "Task: {{ task }}\nWrite about {{ principles | join(' and ') }}.";
    let template = SeedTemplate::from_text(good).unwrap();
    let writer = WriterBuilder {
        task: "write poems".into(),
        principles: vec!["brief".into(), "sad".into()],
        template: Some(template),
        ..WriterBuilder::default()
    };
    let writer = writer.check().unwrap();
    assert_eq!(writer.seed_prompt(), "Task: write poems\nWrite about brief and sad.");
    let _ = writer.write(|turns| {
        assert_eq!(turns.opening, None);
        Ok::<_, Infallible>(String::new())
    });
    let refused = |text: &str| SeedTemplate::from_text(text).unwrap_err().to_string();
    assert_eq!(
        refused("x\n{{ goal }} {{ task }} {{ principles }}"),
        "line 2: seed prompt: there is no variable goal; it may use task, principles, variants"
    );
    assert_eq!(
        refused("{{ task }}"),
        "line 1: seed prompt does not use principles; put {{ principles }} where it belongs"
    );
    assert!(refused("{{ task }\n{{ principles }}").starts_with("line 1: seed prompt: syntax error"));
    let error = SeedTemplate::load("/no/such.txt".as_ref()).unwrap_err().to_string();
    assert_eq!(error, "/no/such.txt: No such file or directory (os error 2)");
}

#[test]
fn impossible_requests_are_refused() {
    let refused = |builder: WriterBuilder| builder.check().unwrap_err().to_string();
    let good =
        || WriterBuilder { task: "t".into(), principles: vec!["a".into()], ..WriterBuilder::default() };
    assert_eq!(
        refused(WriterBuilder { task: " ".into(), ..good() }),
        "the task is empty; say what the model is asked to do, for example \"summarize Reddit posts\""
    );
    assert_eq!(
        refused(WriterBuilder { principles: vec![], ..good() }),
        "no principle is named; name at least one, for example helpful"
    );
    assert!(refused(WriterBuilder { principles: vec!["not-a".into()], ..good() }).contains("cannot be used"));
    assert!(
        refused(WriterBuilder { principles: vec!["a".into(), "a".into()], ..good() })
            .contains("appears twice")
    );
    assert_eq!(refused(WriterBuilder { variants: 0, ..good() }), "variants is 0; it must be at least 1");
    assert_eq!(refused(WriterBuilder { attempts: 0, ..good() }), "attempts is 0; it must be at least 1");
}
