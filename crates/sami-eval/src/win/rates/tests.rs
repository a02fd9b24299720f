//! Rates against tables that were computed by hand.

use approx::assert_abs_diff_eq;

use super::*;

const BOOTSTRAP: Bootstrap = Bootstrap { resamples: 400, seed: 3 };

/// One contest of query `id`, whose showings are in the order A, B.
fn contest(id: &str, outcomes: &[Outcome], candidate_length: usize) -> JudgedContest {
    let positions = [Position::A, Position::B];
    JudgedContest {
        id: id.to_owned(),
        constitution: "c".to_owned(),
        outcomes: positions.into_iter().zip(outcomes.iter().copied()).collect(),
        candidate_length,
        baseline_length: 10,
        identical: false,
    }
}

fn numbered(outcomes: &[Outcome], length: usize, from: usize) -> Vec<JudgedContest> {
    let one = |(i, outcome): (usize, &Outcome)| contest(&format!("q{}", from + i), &[*outcome], length);
    outcomes.iter().enumerate().map(one).collect()
}

use Outcome::{Failed, Loss, Tie, Unparsable, Win};

#[test]
fn a_rate_is_the_mean_over_queries_with_the_papers_error() {
    // 3 of 4: s² = (3 · 1/16 + 9/16) / 3 = 1/4, s/√4 = 1/4.
    let rate = WinRate::new(&numbered(&[Win, Win, Loss, Win], 11, 0), Ties::Half, BOOTSTRAP).unwrap();
    assert_eq!((rate.rate, rate.queries, rate.contests, rate.left_out), (0.75, 4, 4, 0));
    assert_abs_diff_eq!(rate.standard_error.unwrap(), 0.25, epsilon = 1e-15);
    // (0.75 + z²/8 ± z √(.75 · .25 / 4 + z²/64)) / (1 + z²/4)
    assert_abs_diff_eq!(rate.wilson.low, 0.300_642, epsilon = 1e-6);
    assert_abs_diff_eq!(rate.wilson.high, 0.954_413, epsilon = 1e-6);
    assert!(rate.bootstrap.unwrap().contains(0.75));
}

#[test]
fn ties_count_half_or_not_and_failures_never() {
    let outcomes = [Win, Win, Win, Loss, Tie, Tie, Tie, Tie, Unparsable, Unparsable, Failed];
    let contests = numbered(&outcomes, 11, 0);
    let half = WinRate::new(&contests, Ties::Half, BOOTSTRAP).unwrap();
    assert_eq!((half.rate, half.queries, half.left_out), (0.625, 8, 3));
    let without = WinRate::new(&contests, Ties::Excluded, BOOTSTRAP).unwrap();
    assert_eq!((without.rate, without.queries, without.left_out), (0.75, 4, 7));
    assert_eq!(without.tally, Tally { wins: 3, losses: 1, ties: 4, unparsable: 2, failed: 1 });
    let nothing = WinRate::new(&numbered(&[Tie, Failed], 11, 0), Ties::Excluded, BOOTSTRAP).unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "no contest counts: 0 wins, 0 losses, 1 ties, 0 answers without a verdict, 1 failed calls; look at the judge's \
         answers in the verdict file"
    );
}

#[test]
fn both_orders_are_averaged_and_a_half_judged_contest_does_not_count() {
    let contests = [
        contest("a", &[Win, Win], 11),
        contest("b", &[Win, Loss], 11),
        contest("c", &[Win, Tie], 11),
        contest("d", &[Win, Failed], 11),
        contest("e", &[Unparsable, Win], 11),
    ];
    let rate = WinRate::new(&contests, Ties::Half, BOOTSTRAP).unwrap();
    // (1 + .5 + .75) / 3
    assert_eq!((rate.rate, rate.queries, rate.left_out), (0.75, 3, 2));
    assert_eq!(rate.tally, Tally { wins: 6, losses: 1, ties: 1, unparsable: 1, failed: 1 });
    let check = PositionCheck::new(&contests);
    // First: a's and b's and c's and d's win at A, b's loss at B. Second: a's and e's win at B.
    assert_eq!(check, PositionCheck { first: 5, second: 2, both_orders: 3, consistent: 1 });
}

#[test]
fn a_query_counts_once_however_many_constitutions_it_met() {
    let contests = [
        contest("a", &[Win], 11),
        contest("a", &[Win], 11),
        contest("a", &[Loss], 11),
        contest("b", &[Loss], 11),
    ];
    let rate = WinRate::new(&contests, Ties::Half, BOOTSTRAP).unwrap();
    // (2/3 + 0) / 2, not 2/4.
    assert_abs_diff_eq!(rate.rate, 1.0 / 3.0, epsilon = 1e-15);
    assert_eq!((rate.queries, rate.contests), (2, 4));
}

#[test]
fn length_correction_averages_the_strata_not_the_contests() {
    // Longer: 3 of 4. Shorter or equal: 0 of 1 at first. Uncorrected 3/5, corrected 3/8.
    let longer = numbered(&[Win, Win, Win, Loss], 11, 0);
    let all = [longer.as_slice(), &numbered(&[Loss], 10, 4)].concat();
    let corrected = LengthCorrected::new(&all, Ties::Half, BOOTSTRAP).unwrap();
    assert_eq!((corrected.rate, corrected.longer.queries, corrected.shorter_or_equal.queries), (0.375, 4, 1));
    assert_eq!((corrected.standard_error, corrected.normal), (None, None));
    // A single shorter response is missing from a third of the draws: no interval.
    assert_eq!(corrected.bootstrap, None);
    let all = [longer.as_slice(), &numbered(&[Loss, Win, Loss, Loss], 9, 4)].concat();
    let corrected = LengthCorrected::new(&all, Ties::Half, BOOTSTRAP).unwrap();
    assert_eq!(corrected.rate, 0.5);
    // ½ √(1/16 + 1/16)
    assert_abs_diff_eq!(corrected.standard_error.unwrap(), 0.176_777, epsilon = 1e-6);
    assert_abs_diff_eq!(corrected.normal.unwrap().low, 0.153_524, epsilon = 1e-6);
    assert!(corrected.bootstrap.unwrap().contains(0.5));
    assert_eq!(
        LengthCorrected::new(&longer, Ties::Half, BOOTSTRAP),
        Err(RateError::EmptyStratum { stratum: Stratum::ShorterOrEqual })
    );
    let unjudged = [contest("a", &[Failed], 11), contest("b", &[Win], 9)];
    let error = LengthCorrected::new(&unjudged, Ties::Half, BOOTSTRAP).unwrap_err();
    assert!(
        error.to_string().contains("the candidate's response is longer; the length-corrected rate"),
        "{error}"
    );
}
