//! Post-processing of responses, and reasons to leave sets out.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use common::shared;
use proptest::prelude::*;
use sami_constitution::{ResponseRules, Task, Trim};
use sami_data::{Candidate, Finish, Rejection, RejectionCounts, ResponseFilter, Sampled, read_tldr};

fn filter(task: &Task) -> ResponseFilter {
    ResponseFilter::new(task.rules().clone()).unwrap()
}

fn reasons(filter: &ResponseFilter, texts: &[&str]) -> String {
    let candidates: Vec<_> = texts.iter().map(|text| Candidate { text, finish: None }).collect();
    filter.reject(&candidates).join(", ")
}

#[test]
fn responses_end_where_the_next_turn_begins() {
    let filter = filter(&Task::dialogue());
    let process = |sampled| {
        let processed = filter.process(sampled);
        (processed.text, processed.edited, processed.stopped)
    };
    assert_eq!(process(" Yes, you can."), (" Yes, you can.".into(), false, false));
    assert_eq!(process(" Yes.\n"), (" Yes.".into(), true, false));
    assert_eq!(process(" Yes.\n\nHuman: And why?"), (" Yes.".into(), true, true));
    assert_eq!(process(" Yes. Human: And why?\n\nHuman: Ah"), (" Yes.".into(), true, true));
    assert_eq!(process(" One\n\nTwo\n\n### Main Task"), (" One\n\nTwo".into(), true, true));
    assert_eq!(process("\n\nHuman: Hello?"), (String::new(), true, true));
    assert_eq!(process(" \n"), (String::new(), true, false));
    assert_eq!(process(""), (String::new(), false, false));
}

#[test]
fn token_ids_stay_while_they_spell_the_text() {
    let filter = filter(&Task::dialogue());
    let response = |text: &str, ids: &[u32], finish, score_eos| {
        let sampled = Sampled { text: text.into(), token_ids: Some(ids.to_vec()), finish };
        let response = filter.response(1, sampled, score_eos);
        assert_eq!(response.constitution, 1);
        (response.text, response.token_ids, response.finish.unwrap())
    };
    assert_eq!(
        response(" Yes.", &[5, 6], Finish::Length, false),
        (" Yes.".into(), Some(vec![5, 6]), Finish::Length)
    );
    assert_eq!(
        response(" Yes.", &[5, 6, 2], Finish::Eos, false),
        (" Yes.".into(), Some(vec![5, 6]), Finish::Eos)
    );
    assert_eq!(
        response(" Yes.", &[5, 6, 2], Finish::Eos, true),
        (" Yes.".into(), Some(vec![5, 6, 2]), Finish::Eos)
    );
    // Cut here, so the ids spell more than the text, and it did not end at the limit.
    assert_eq!(
        response(" Yes.\n\nHuman: And", &[5, 6, 7], Finish::Length, false),
        (" Yes.".into(), None, Finish::Stop)
    );
    assert_eq!(response("", &[2], Finish::Eos, false), (String::new(), None, Finish::Eos));
}

#[test]
fn white_space_and_prefix_follow_the_rules() {
    let process = |rules: ResponseRules, sampled| ResponseFilter::new(rules).unwrap().process(sampled).text;
    let rules = ResponseRules::default();
    assert_eq!(process(ResponseRules { trim: Trim::Both, ..rules.clone() }, " a \n"), "a");
    assert_eq!(process(ResponseRules { trim: Trim::Never, ..rules.clone() }, " a \n"), " a \n");
    let prefixed = ResponseRules { prefix: " The post".into(), ..rules };
    assert_eq!(process(prefixed.clone(), " is sad. "), " The post is sad.");
    assert_eq!(
        process(ResponseRules { trim: Trim::Both, ..prefixed.clone() }, " is sad. "),
        " The post is sad."
    );
    // A prefix alone is no response.
    assert_eq!(process(prefixed, "  "), "");
}

#[test]
fn every_reason_has_its_case() {
    let dialogue = filter(&Task::dialogue());
    assert_eq!(reasons(&dialogue, &[" Yes.", " No."]), "");
    assert_eq!(reasons(&dialogue, &[" Yes.", " "]), "empty");
    assert_eq!(reasons(&dialogue, &[" Yes.", "\n i’m SORRY, but no."]), "evasive-opening");
    assert_eq!(reasons(&dialogue, &[" Yes.", " I am sorry to hear that."]), "evasive-opening");
    assert_eq!(reasons(&dialogue, &[" Yes.", " No. I'm sorry."]), "");
    assert_eq!(reasons(&dialogue, &[" Yes.", " [insert response here]"]), "format-leftover");
    assert_eq!(reasons(&dialogue, &[" Yes.", "Yes."]), "identical");
    assert_eq!(reasons(&dialogue, &["", ""]), "empty, identical");
    assert_eq!(reasons(&dialogue, &[" a", " b", " c", " b"]), "identical");
    let tldr = filter(&Task::tldr());
    assert_eq!(reasons(&tldr, &["The post is.", "The post is"]), "unfinished");
    assert_eq!(reasons(&tldr, &["The post [] is.", "The Response"]), "format-leftover, unfinished");
    let strict =
        ResponseFilter::new(ResponseRules { reject_truncated: true, ..ResponseRules::default() }).unwrap();
    let candidate = |text, finish| Candidate { text, finish: Some(finish) };
    assert_eq!(
        strict.reject(&[candidate("a", Finish::Length), candidate("b", Finish::Eos)]),
        [Rejection::Truncated]
    );
    let lenient =
        ResponseFilter::new(ResponseRules { reject_equal: false, ..ResponseRules::default() }).unwrap();
    assert_eq!(reasons(&lenient, &["a", "a"]), "");
}

#[test]
fn empty_rules_are_refused() {
    let rules = ResponseRules { stop: vec![String::new()], ..ResponseRules::default() };
    assert_eq!(
        ResponseFilter::new(rules).unwrap_err().to_string(),
        "responses.stop[0] is empty and would match every response; remove it"
    );
}

#[test]
fn reasons_are_counted_by_name() {
    let mut counts = RejectionCounts::default();
    assert_eq!(counts.to_string(), "none");
    counts.add(&[Rejection::Identical, Rejection::Empty]);
    counts.add(&[Rejection::from("empty".to_owned()), Rejection::from("mine".to_owned())]);
    assert_eq!(counts.to_string(), "empty 2, identical 1, mine 1");
    assert_eq!(counts.get(&Rejection::Empty), 2);
    let json = serde_json::to_string(&counts).unwrap();
    assert_eq!(json, r#"{"empty":2,"identical":1,"mine":1}"#);
    assert_eq!(serde_json::from_str::<RejectionCounts>(&json).unwrap(), counts);
}

proptest! {
    #[test]
    fn processing_twice_changes_nothing_and_removes_every_stop(
        text in "( |\n|a|ß|Human:|###|\n\nAssistant:){0,12}",
    ) {
        let filter = filter(&Task::dialogue());
        let once = filter.process(&text);
        prop_assert_eq!(once.edited, once.text != text);
        prop_assert!(filter.rules().stop.iter().all(|stop| !once.text.contains(stop.as_str())));
        prop_assert!(text.starts_with(&once.text));
        let twice = filter.process(&once.text);
        prop_assert_eq!((&twice.text, twice.edited), (&once.text, false));
    }

    #[test]
    fn the_order_of_responses_does_not_matter(texts in prop::collection::vec("(a|b| |I'm sorry|\\[insert){0,3}", 1..5)) {
        let filter = filter(&Task::dialogue());
        let forward: Vec<_> = texts.iter().map(String::as_str).collect();
        let backward: Vec<_> = forward.iter().rev().copied().collect();
        prop_assert_eq!(reasons(&filter, &forward), reasons(&filter, &backward));
    }
}

#[test]
fn real_summaries_are_filtered() {
    let Some(path) = shared("data/tldr/responses-base-mistral.json") else { return };
    let filter = filter(&Task::tldr());
    let mut counts = RejectionCounts::default();
    for record in read_tldr(&path).unwrap() {
        let text = record.response.unwrap();
        counts.add(&filter.reject(&[Candidate { text: &text, finish: None }]));
    }
    assert_eq!(counts.to_string(), "unfinished 19");
}
