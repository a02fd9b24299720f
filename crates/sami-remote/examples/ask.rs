//! Asks a real server everything that this crate can ask: completions, a conversation, verdicts.
//!
//! ```console
//! $ cargo run -p sami-remote --example ask -- http://localhost:8000/v1 MODEL answers.jsonl PROMPTS.txt
//! ```
//!
//! One prompt per line of the file. Prints one JSON object: what came back, and what it took. Run it again, or after
//! killing it half-way: what the cache has is not asked for again. `fixtures/check_server.py` does so.

use std::path::PathBuf;

use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, Comparison, Judge, Role, SampleRequest, Sampler, SamplingParams,
    SamplingParamsBuilder, StreamKey,
};
use sami_remote::{EndpointBuilder, RemoteJudge, RemoteSampler};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().ok_or(format!("argument {name} is missing"));
    let (base_url, model) = (next("BASE_URL")?, next("MODEL")?);
    let (cache, prompts) = (PathBuf::from(next("ANSWERS")?), std::fs::read_to_string(next("PROMPTS")?)?);
    let builder =
        EndpointBuilder { base_url, model, cache: Some(cache), concurrency: 2, ..EndpointBuilder::default() };
    let endpoint = builder.check()?;

    let mut sampler = RemoteSampler::new(endpoint.clone());
    let params = SamplingParamsBuilder { max_new_tokens: 24, ..SamplingParams::builder() }.check()?;
    let request = |(index, prompt): (u64, &str)| SampleRequest {
        prompt: prompt.replace("\\n", "\n"),
        stream: StreamKey::new(0, 0, index, 0),
    };
    let requests: Vec<_> = (0..).zip(prompts.lines()).map(request).collect();
    let samples: Vec<_> = sampler.sample(&requests, &params)?.into_iter().collect::<Result<_, _>>()?;
    let counts = sampler.samples();

    let turn = ChatMessage::new(Role::User, "Name two colours.");
    let stream = StreamKey::new(0, 1, 0, 0);
    let answers = sampler.sample_chat(&[ChatRequest { messages: vec![turn], stream }], &params)?;
    let answers: Vec<_> = answers.into_iter().collect::<Result<_, _>>()?;

    let mut judge = RemoteJudge::new(endpoint.clone(), |it: &Comparison<'_>| {
        Ok::<_, std::convert::Infallible>(format!(
            "Which response keeps better to the constitution?\n{}\nQuery: {}\nA: {}\nB: {}\nEnd with \"Final Response: A\" or \"Final Response: B\".",
            it.constitution, it.query, it.response_a, it.response_b
        ))
    })
    .max_new_tokens(48);
    let (brief, long) = ("Blue.", "Well, the sky, as many have said before me, has often been called blue.");
    let comparison = |a, b| Comparison {
        query: "What colour is the sky?",
        constitution: "1. Be brief.",
        response_a: a,
        response_b: b,
    };
    let verdicts = judge.judge(&[comparison(brief, long), comparison(long, brief)]);

    let samples: Vec<_> = samples.iter().map(|one| json!({"text": one.text, "finish": one.finish})).collect();
    let report = json!({
        "samples": samples,
        "with_token_ids": counts.with_token_ids,
        "retokenised": counts.retokenised,
        "answers": answers.iter().map(|one| &one.text).collect::<Vec<_>>(),
        "verdicts": verdicts,
        "usage": endpoint.usage(),
    });
    // A closed pipe ends the reader, not the work.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{report}\n").as_bytes());
    Ok(())
}
