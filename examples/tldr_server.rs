//! TL;DR with every model behind a server: constitutions from a principles file, summaries, verdicts, and what they come to.
//!
//! ```console
//! $ sami principles --server http://localhost:8000/v1 --server-model NAME --task tldr --out principles.toml
//! $ cargo run --example tldr_server -- --server http://localhost:8000/v1 --model NAME \
//!     --principles principles.toml --posts responses-base-mistral.json --queries 50 --out tldr
//! ```
//!
//! Each post is summarised under a contrast: the constitution of every principle's own side, and another combination. A judge
//! then says which of the two summaries keeps better to the first constitution, in both orders. A model that is no better
//! than chance at this has nothing that SAMI could amplify. Every answer is kept in `OUT/answers.jsonl`: run it again after an
//! interruption, and only what is missing is asked for.
#![allow(clippy::print_stdout, missing_docs)]

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use sami::constitution::{ConstitutionSource, ConstitutionSpace, Contrasts, PrincipleSet, Task};
use sami::data::{Candidate, RejectionCounts, ResponseFilter, read_tldr};
use sami::eval::statistics::Bootstrap;
use sami::eval::win::{Contest, JudgeJob, Order, PositionCheck, Ties, WinRate, group};
use sami::policy::{Comparison, SampleRequest, Sampler, SamplingParams, SamplingParamsBuilder, StreamKey};
use sami::remote::{EndpointBuilder, KeySource, RemoteJudge, RemoteSampler};

#[derive(Parser)]
#[command(about = "Summaries under contrasting constitutions, and a judge's verdict on them, from a server.")]
struct Args {
    /// A server with OpenAI's interface, up to and with /v1.
    #[arg(long)]
    server: String,
    /// The model's name at the server; it writes and judges.
    #[arg(long)]
    model: String,
    /// Environment variable that holds the server's key.
    #[arg(long)]
    key_env: Option<String>,
    /// The principles, as `sami principles` writes them.
    #[arg(long)]
    principles: PathBuf,
    /// The paper's file of posts.
    #[arg(long)]
    posts: PathBuf,
    /// The first so many posts.
    #[arg(long, default_value_t = 50)]
    queries: usize,
    /// At most so many tokens per summary.
    #[arg(long, default_value_t = 100)]
    max_new_tokens: usize,
    /// Directory of answers and verdicts.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let task = Task::tldr();
    let space = ConstitutionSpace::new(PrincipleSet::load(&args.principles)?);
    let source = ConstitutionSource::Drawn { space, contrasts: Contrasts::AgainstAllPrinciples };
    let endpoint = EndpointBuilder {
        base_url: args.server,
        model: args.model.clone(),
        key: args.key_env.map_or(KeySource::None, KeySource::Environment),
        cache: Some(args.out.join("answers.jsonl")),
        ..EndpointBuilder::default()
    };
    let endpoint = endpoint.check()?;

    let posts = read_tldr(&args.posts)?;
    let mut requests = Vec::new();
    let mut contrasts = Vec::new();
    for (index, record) in posts.iter().take(args.queries).enumerate() {
        // A stream of its own for each query: draws do not depend on how many there are.
        let key = StreamKey::new(0, 0, index as u64, u64::MAX);
        let pair = source.for_query(&record.id, 2, &mut ChaCha12Rng::from_seed(key.bytes()))?;
        for (side, constitution) in (0..).zip(&pair) {
            let prompt = task.sampling_prompt(constitution, &record.post)?;
            requests.push(SampleRequest { prompt, stream: StreamKey::new(0, 0, index as u64, side) });
        }
        contrasts.push((record, pair));
    }
    let params = SamplingParamsBuilder {
        max_new_tokens: args.max_new_tokens,
        stop: task.stop_strings().to_vec(),
        ..SamplingParams::builder()
    };
    let mut sampler = RemoteSampler::new(endpoint.clone());
    let samples: Vec<_> =
        sampler.sample(&requests, &params.check()?)?.into_iter().collect::<Result<_, _>>()?;
    let counts = sampler.samples();
    println!(
        "{} summaries, {} with token ids, {} to be tokenised again",
        samples.len(),
        counts.with_token_ids,
        counts.retokenised
    );

    let filter = ResponseFilter::new(task.rules().clone())?;
    let mut rejected = RejectionCounts::default();
    let mut contests = Vec::new();
    for ((record, pair), two) in contrasts.iter().zip(samples.chunks(2)) {
        let texts: Vec<_> = two.iter().map(|sample| filter.process(&sample.text).text).collect();
        let candidates: Vec<_> = texts.iter().map(|text| Candidate { text, finish: None }).collect();
        let reasons = filter.reject(&candidates);
        rejected.add(&reasons);
        if let ([first, second], true) = (&texts[..], reasons.is_empty()) {
            contests.push(Contest {
                id: record.id.clone(),
                constitution: pair[0].id(),
                query: record.post.clone(),
                constitution_text: pair[0].render(),
                candidate: first.trim().to_owned(),
                baseline: second.trim().to_owned(),
            });
        }
    }
    println!("{} posts with two good summaries; rejected: {rejected}", contests.len());

    let prompt =
        |it: &Comparison<'_>| task.judge_prompt(it.constitution, it.query, [it.response_a, it.response_b]);
    let mut judge = RemoteJudge::new(endpoint.clone(), prompt).max_new_tokens(200);
    let out = args.out.join("verdicts.jsonl");
    let job = JudgeJob { contests: &contests, order: Order::Both, judge: &args.model, chunk: 16, out: &out };
    let verdicts = job.run(&mut judge, &mut |_, _| true)?;
    let judged = group(&verdicts);
    println!("{:?}", PositionCheck::new(&judged));
    match WinRate::new(&judged, Ties::Half, Bootstrap::default()) {
        Ok(rate) => println!("{rate:?}"),
        Err(reason) => println!("no win rate: {reason}"),
    }
    println!("{:?}", endpoint.usage());
    Ok(())
}
