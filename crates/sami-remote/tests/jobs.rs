//! Whole jobs: what an interruption costs, where caps end them, and verdicts.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::path::Path;

use common::{Act, KEY, completion, params, request, serve, settings};
use sami_policy::{Comparison, Judge, SampleRequest, Sampler, Verdict};
use sami_remote::{EndpointBuilder, KeySource, RemoteError, RemoteJudge, RemoteSampler, SpendCap};
use serde_json::{Value, json};

fn requests(n: u64) -> Vec<SampleRequest> {
    (0..n).map(|i| request(&format!("prompt {i}"), i)).collect()
}

fn sampler(url: &str, cache: &Path) -> RemoteSampler {
    let settings = EndpointBuilder { cache: Some(cache.to_owned()), ..settings(url.to_owned()) };
    RemoteSampler::new(settings.check().unwrap())
}

#[test]
fn an_interrupted_job_pays_for_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("made/answers.jsonl");
    let echo = || Act::Echo;
    // Six answers, then the server is gone for good.
    let mut acts = vec![echo(); 6];
    acts.push(Act::Say(401, "", "no more".into()));
    let (url, seen) = serve(acts);
    let mut first = sampler(&url, &cache);
    assert!(first.sample(&requests(10), &params()).is_err());
    let paid = seen.lock().unwrap().iter().filter(|(_, body)| !body.is_null()).count();
    assert!(paid >= 7);
    // The same address, for the address is part of the request.
    let text = std::fs::read_to_string(&cache).unwrap();
    assert_eq!(text.lines().count(), 6);
    assert!(!text.contains(KEY));
    let mut again = sampler(&url, &cache);
    let kept: Vec<_> = requests(10)
        .into_iter()
        .filter(|one| again.sample(std::slice::from_ref(one), &params()).is_ok())
        .collect();
    assert_eq!(kept.len(), 6);
    let usage = again.endpoint().usage();
    assert_eq!((usage.from_cache, usage.requests), (6, 4));
    // A different seed or parameter is a different request.
    let other = request("prompt 0", 77);
    assert!(again.sample(&[other], &params()).is_err());
}

#[test]
fn torn_and_foreign_lines_are_passed_over_and_spoil_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("answers.jsonl");
    let (url, seen) = serve(vec![Act::Echo]);
    sampler(&url, &cache).sample(&requests(2), &params()).unwrap();
    let whole = std::fs::read(&cache).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in [second + 1, second + 40, whole.len() - 1] {
        std::fs::write(&cache, &whole[..cut]).unwrap();
        let before = seen.lock().unwrap().len();
        let mut job = sampler(&url, &cache);
        job.sample(&requests(2), &params()).unwrap();
        assert_eq!(job.endpoint().usage().from_cache, 1, "cut at {cut}");
        assert_eq!(seen.lock().unwrap().len(), before + 1);
        // The answer that was asked for anew stands on a line of its own.
        let mut job = sampler(&url, &cache);
        job.sample(&requests(2), &params()).unwrap();
        assert_eq!((job.endpoint().usage().from_cache, job.endpoint().usage().requests), (2, 0));
    }
    std::fs::write(&cache, [b"nonsense\n{\"request\": \"ab\", \"answer\": \"\"}\n\n", &whole[..]].concat())
        .unwrap();
    let mut job = sampler(&url, &cache);
    job.sample(&requests(2), &params()).unwrap();
    assert_eq!(job.endpoint().usage().from_cache, 2);
    let error = EndpointBuilder { cache: Some(dir.path().to_owned()), ..settings(url) }.check().unwrap_err();
    assert!(matches!(error, RemoteError::Cache { .. }));
}

#[test]
fn the_same_question_asked_at_once_is_sent_once() {
    let dir = tempfile::tempdir().unwrap();
    let (url, seen) = serve(vec![Act::Echo]);
    let mut job = sampler(&url, &dir.path().join("answers.jsonl"));
    let same: Vec<_> = (0..8).map(|_| request("again", 0)).collect();
    assert_eq!(job.sample(&same, &params()).unwrap().len(), 8);
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(job.endpoint().usage().from_cache, 7);
}

#[test]
fn answers_without_sense_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("answers.jsonl");
    let (url, _) = serve(vec![Act::Say(200, "", json!({"choices": []}).to_string()), Act::Echo]);
    let mut job = sampler(&url, &cache);
    assert!(job.sample(&requests(1), &params()).unwrap()[0].is_err());
    assert_eq!(job.sample(&requests(1), &params()).unwrap()[0].as_ref().unwrap().text, "prompt 0");
}

#[test]
fn caps_end_a_job_before_they_are_exceeded() {
    let (url, seen) = serve(vec![Act::Say(503, "", "busy".into()), Act::Echo]);
    let capped = EndpointBuilder { max_requests: Some(3), concurrency: 1, ..settings(url) };
    let mut job = RemoteSampler::new(capped.check().unwrap());
    // The attempt that failed counts.
    let error = job.sample(&requests(5), &params()).unwrap_err();
    assert_eq!(error.to_string(), "the cap of 3 requests is reached; raise max_requests to go on");
    assert_eq!((seen.lock().unwrap().len(), job.endpoint().usage().retries), (3, 1));

    // 100 prompt tokens and 10 response tokens at 1000 and 2000 a million: 0.12 an answer.
    let counted = |_: &Value| {
        json!({"choices": [{"text": "x", "finish_reason": "length"}],
               "usage": {"prompt_tokens": 100, "completion_tokens": 10}})
    };
    let spend = Some(SpendCap { most: 0.6, prompt_price: 1000.0, response_price: 2000.0 });
    let (url, seen) = serve(vec![Act::Answer(counted)]);
    let capped = EndpointBuilder { spend, concurrency: 4, ..settings(url) };
    let mut job = RemoteSampler::new(capped.check().unwrap());
    let error = job.sample(&requests(50), &params()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains(" of at most 0.6000 are spent, and the next request may cost ")
            && error.ends_with("; raise the cap to go on"),
        "{error}"
    );
    let usage = job.endpoint().usage();
    assert!(usage.spent <= 0.6 && usage.spent > 0.1, "{usage:?}");
    assert_eq!(usage.prompt_tokens, 100 * seen.lock().unwrap().len() as u64);
    assert!((usage.spent - 0.12 * usage.requests as f64).abs() < 1e-9, "{usage:?}");

    // A server that does not count is taken at its dearest.
    let (url, _) = serve(vec![Act::Say(200, "", completion("x", "length"))]);
    let capped = EndpointBuilder { spend, concurrency: 1, ..settings(url) };
    let mut job = RemoteSampler::new(capped.check().unwrap());
    assert!(job.sample(&requests(50), &params()).is_err());
    let usage = job.endpoint().usage();
    assert!(usage.spent <= 0.6 && usage.prompt_tokens == 0 && usage.requests >= 1, "{usage:?}");
    let wrong = SpendCap { most: f64::NAN, prompt_price: 0.0, response_price: 0.0 };
    let error =
        EndpointBuilder { spend: Some(wrong), ..settings("http://localhost:1".into()) }.check().unwrap_err();
    assert_eq!(error.to_string(), "max_spend is NaN; it must be a finite number at or above 0");
}

fn comparison<'a>(response_a: &'a str, response_b: &'a str) -> Comparison<'a> {
    Comparison { query: "Q?", constitution: "1. Be brief.", response_a, response_b }
}

#[test]
fn every_comparison_has_its_own_verdict() {
    // Judges by the prompt's last word, and is sometimes no judge at all.
    let judge = |body: &Value| {
        let prompt = body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        let says = match prompt.rsplit(' ').next() {
            Some("one") => "Comparison: A is brief.\nFinal Response: A",
            Some("two") => "Comparison: B is brief.\n**Final Response:** B",
            Some("tie") => "Final Response: Tie",
            Some("mute") => return json!({"error": "overloaded"}),
            _ => "I would rather not say.",
        };
        json!({"choices": [{"message": {"content": says}, "finish_reason": "stop"}],
               "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    };
    let (url, seen) = serve(vec![Act::Answer(judge)]);
    let endpoint = settings(url).check().unwrap();
    let mut judge = RemoteJudge::new(endpoint, |it: &Comparison<'_>| match it.response_b {
        "unprintable" => Err("template judge: it failed"),
        _ => Ok(format!("{} | {} | {} or {}", it.constitution, it.query, it.response_a, it.response_b)),
    });
    let all: Vec<_> = ["one", "two", "tie", "maybe", "mute", "unprintable", "one"]
        .iter()
        .map(|b| comparison("x", b))
        .collect();
    let verdicts = judge.judge(&all);
    assert_eq!(verdicts[..3], [Verdict::A, Verdict::B, Verdict::Tie]);
    assert_eq!(verdicts[3], Verdict::Unparsable { answer: "I would rather not say.".into() });
    let Verdict::Failed { reason } = &verdicts[4] else { panic!("{:?}", verdicts[4]) };
    assert!(reason.ends_with("status 200 after 3 attempts: overloaded"), "{reason}");
    assert_eq!(verdicts[5], Verdict::Failed { reason: "template judge: it failed".into() });
    assert_eq!(verdicts[6], Verdict::A);
    let seen = seen.lock().unwrap();
    assert!(
        seen.iter().all(|(_, body)| body["temperature"] == json!(0.0) && body["max_tokens"] == json!(512))
    );
    assert_eq!(judge.endpoint().usage().requests, 8);
    assert!(judge.judge(&[]).is_empty());
}

#[test]
fn a_judge_that_cannot_be_reached_fails_verdict_by_verdict_without_the_key() {
    let (url, _) = serve(vec![Act::Say(401, "", format!("bad key {KEY}"))]);
    let cap = EndpointBuilder { max_requests: Some(1), concurrency: 1, ..settings(url) };
    let mut judge = RemoteJudge::new(cap.check().unwrap(), |_: &Comparison<'_>| Ok::<_, String>("?".into()));
    let verdicts = judge.judge(&[comparison("x", "y"), comparison("y", "x")]);
    let Verdict::Failed { reason } = &verdicts[0] else { panic!("{verdicts:?}") };
    assert!(reason.contains("status 401 after 1 attempts: bad key …"), "{reason}");
    let capped = "the cap of 1 requests is reached; raise max_requests to go on".to_owned();
    assert_eq!(verdicts[1], Verdict::Failed { reason: capped });
}

#[test]
fn the_key_is_in_nothing_that_is_shown_or_kept() {
    let dir = tempfile::tempdir().unwrap();
    let key = "sk-very-secret-0123456789";
    let file = dir.path().join("key");
    std::fs::write(&file, key).unwrap();
    let cache = dir.path().join("answers.jsonl");
    let answer = json!({"choices": [{"text": "fine", "finish_reason": "stop"}]}).to_string();
    let refusal = format!("Incorrect API key provided: {key}. See \"{key}\".");
    let (url, seen) = serve(vec![Act::Say(200, "", answer), Act::Say(403, "", refusal)]);
    let keyed = EndpointBuilder {
        key: KeySource::File(file),
        cache: Some(cache.clone()),
        concurrency: 1,
        ..settings(url)
    };
    let mut job = RemoteSampler::new(keyed.check().unwrap());
    let error = job.sample(&requests(2), &params()).unwrap_err();
    assert!(seen.lock().unwrap()[0].0.contains(key), "the server gets it");
    let shown = [
        error.to_string(),
        format!("{error:?}"),
        format!("{job:?}"),
        format!("{:#?}", job.endpoint().settings()),
        format!("{:?}", job.endpoint().usage()),
        serde_json::to_string(&job.endpoint().usage()).unwrap(),
        std::fs::read_to_string(&cache).unwrap(),
    ];
    for text in shown {
        assert!(!text.contains(key) && !text.contains("secret"), "{text}");
    }
}
