//! A judge whose preference is known: what the figures say about it, over many draws.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use sami_eval::statistics::Bootstrap;
use sami_eval::win::{
    Contest, JudgeJob, JudgedContest, LengthCorrected, Order, PositionCheck, Ties, WinRate, group,
};
use sami_policy::{Comparison, Judge, Verdict};

/// Knows who wrote a response by its first letter (`c` or `b`), prefers the candidate with probability `candidate`; but first
/// of all goes for the first place with probability `place`, or for the longer response with probability `length`.
struct Known {
    draws: ChaCha12Rng,
    candidate: f64,
    place: f64,
    length: f64,
}

impl Judge for Known {
    fn judge(&mut self, comparisons: &[Comparison<'_>]) -> Vec<Verdict> {
        let mut verdict = |one: &Comparison<'_>| {
            let bias: f64 = self.draws.random();
            let first = if bias < self.place {
                true
            } else if bias < self.place + self.length {
                one.response_a.len() > one.response_b.len()
            } else {
                self.draws.random_bool(self.candidate) == one.response_a.starts_with('c')
            };
            if first { Verdict::A } else { Verdict::B }
        };
        comparisons.iter().map(&mut verdict).collect()
    }
}

/// `n` contests in which the candidate is longer with probability `longer`.
fn contests(n: usize, longer: f64, draws: &mut impl Rng) -> Vec<Contest> {
    let mut contest = |i: usize| Contest {
        id: format!("q{i}"),
        constitution: "c".into(),
        query: String::new(),
        constitution_text: String::new(),
        candidate: if draws.random_bool(longer) { "c--".into() } else { "c".into() },
        baseline: "b-".into(),
    };
    (0..n).map(&mut contest).collect()
}

fn judged(contests: &[Contest], order: Order, judge: &mut Known) -> Vec<JudgedContest> {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let out = dir.path().join("verdicts.jsonl");
    let job = JudgeJob { contests, order, judge: "known", chunk: 1000, out: &out };
    group(&job.run(judge, &mut |_, _| true).unwrap())
}

fn known(seed: u64, candidate: f64, place: f64, length: f64) -> Known {
    Known { draws: ChaCha12Rng::seed_from_u64(seed), candidate, place, length }
}

/// Both intervals hold the true rate in 95 of 100 experiments.
#[test]
fn intervals_cover_the_truth_as_often_as_they_say() {
    let (experiments, queries) = (150, 50);
    for truth in [0.5, 0.7] {
        let (mut wilson, mut bootstrap, mut sem) = (0, 0, 0);
        let mut lengths = ChaCha12Rng::seed_from_u64(9);
        for seed in 0..experiments {
            let contests = contests(queries, 0.5, &mut lengths);
            let judged = judged(&contests, Order::Random { seed }, &mut known(seed, truth, 0.0, 0.0));
            let rate = WinRate::new(&judged, Ties::Half, Bootstrap { resamples: 200, seed }).unwrap();
            wilson += usize::from(rate.wilson.contains(truth));
            bootstrap += usize::from(rate.bootstrap.unwrap().contains(truth));
            sem += usize::from((rate.rate - truth).abs() < rate.standard_error.unwrap());
        }
        // 142 ± 2.7 of 150 within 95% intervals, and 102 ± 5.7 within one standard error; four deviations either way.
        assert!((132..=150).contains(&wilson), "Wilson at {truth}: {wilson}");
        assert!((130..=150).contains(&bootstrap), "bootstrap at {truth}: {bootstrap}");
        assert!((79..=125).contains(&sem), "standard error at {truth}: {sem}");
    }
}

/// So do those of the length-corrected rate, although the strata have other rates and other sizes.
#[test]
fn intervals_of_the_corrected_rate_cover_it() {
    let experiments = 150;
    // A fifth of the verdicts go by length: .2 + .8 · .6 where the candidate is longer, .8 · .6 where it is not.
    let truth = (0.68 + 0.48) / 2.0;
    let (mut normal, mut bootstrap, mut sem, mut uncorrected) = (0, 0, 0, 0);
    let mut lengths = ChaCha12Rng::seed_from_u64(11);
    for seed in 0..experiments {
        let contests = contests(100, 0.75, &mut lengths);
        let judged = judged(&contests, Order::Random { seed }, &mut known(seed, 0.6, 0.0, 0.2));
        let resampling = Bootstrap { resamples: 200, seed };
        let rate = LengthCorrected::new(&judged, Ties::Half, resampling).unwrap();
        normal += usize::from(rate.normal.unwrap().contains(truth));
        bootstrap += usize::from(rate.bootstrap.unwrap().contains(truth));
        sem += usize::from((rate.rate - truth).abs() < rate.standard_error.unwrap());
        uncorrected += usize::from(WinRate::new(&judged, Ties::Half, resampling).unwrap().rate > truth);
    }
    assert!((132..=150).contains(&normal), "normal: {normal}");
    assert!((130..=150).contains(&bootstrap), "bootstrap: {bootstrap}");
    assert!((79..=125).contains(&sem), "standard error: {sem}");
    // The uncorrected rate of .63 lies above it in five of six experiments, by one of its errors of .048 on average.
    assert!(uncorrected > 110, "{uncorrected}");
}

/// A judge that goes for the first place half the time: a fixed order would show .85 for a true .7 of the rest.
#[test]
fn preference_for_a_place_cancels() {
    let contests = contests(2000, 0.5, &mut ChaCha12Rng::seed_from_u64(1));
    for order in [Order::Both, Order::Random { seed: 4 }] {
        let judged = judged(&contests, order, &mut known(2, 0.7, 0.5, 0.0));
        let rate = WinRate::new(&judged, Ties::Half, Bootstrap { resamples: 100, seed: 0 }).unwrap();
        // Half by place, which is half won; half by preference: .5 · .5 + .5 · .7 = .6, with an error of .011.
        assert!((rate.rate - 0.6).abs() < 0.045, "{order:?}: {}", rate.rate);
        let places = PositionCheck::new(&judged);
        let first = places.first as f64 / (places.first + places.second) as f64;
        assert!((first - 0.75).abs() < 0.045, "{first}");
        let always_first: Vec<_> =
            judged.iter().filter(|one| one.outcomes[0].0 == sami_eval::win::Position::A).collect();
        let wins =
            always_first.iter().filter(|one| one.outcomes[0].1 == sami_eval::win::Outcome::Win).count();
        let biased = wins as f64 / always_first.len() as f64;
        assert!((biased - 0.85).abs() < 0.045, "{biased}");
    }
}

/// The candidate is no better, but longer in 4 of 5, and the judge goes by length half the time.
#[test]
fn preference_for_length_is_corrected() {
    let contests = contests(2000, 0.8, &mut ChaCha12Rng::seed_from_u64(1));
    let judged = judged(&contests, Order::Random { seed: 4 }, &mut known(2, 0.5, 0.0, 0.5));
    let bootstrap = Bootstrap { resamples: 200, seed: 0 };
    let uncorrected = WinRate::new(&judged, Ties::Half, bootstrap).unwrap();
    // .25 + .5 · .8
    assert!((uncorrected.rate - 0.65).abs() < 0.045, "{}", uncorrected.rate);
    let corrected = LengthCorrected::new(&judged, Ties::Half, bootstrap).unwrap();
    assert!((corrected.rate - 0.5).abs() < 0.045, "{}", corrected.rate);
    assert!(corrected.normal.unwrap().contains(0.5) && corrected.bootstrap.unwrap().contains(0.5));
    assert!(corrected.longer.rate > 0.7 && corrected.shorter_or_equal.rate < 0.3);
}
