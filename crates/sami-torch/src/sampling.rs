//! From logits to a token: temperature, top-k, top-p, and the request's own random stream.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use sami_policy::{SamplingParams, StreamKey};

/// A request's random stream: one number in [0, 1) per sampled token, whatever its neighbours do.
pub(crate) struct Draws(ChaCha12Rng);

impl Draws {
    pub(crate) fn new(key: StreamKey) -> Self {
        Self(ChaCha12Rng::from_seed(key.bytes()))
    }
}

/// Chooses a token from logits `[vocab]`. Greedy at temperature 0 (the lowest id among equals); otherwise top-k, then top-p on
/// the tempered distribution, as in transformers.
pub(crate) fn choose(logits: &[f32], params: &SamplingParams, draws: &mut Draws) -> u32 {
    let token = if params.temperature == 0.0 {
        argmax(logits)
    } else {
        // Always one draw per token, so that a stream's place depends on the number of tokens alone.
        sample(logits, params, draws.0.random::<f64>())
    };
    token as u32
}

fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = index;
        }
    }
    best
}

/// A token's log-probability at temperature 1, in nats.
pub(crate) fn logp(logits: &[f32], token: u32) -> f32 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
    logits.get(token as usize).map_or(f32::NEG_INFINITY, |&logit| (f64::from(logit) - max - sum.ln()) as f32)
}

fn sample(logits: &[f32], params: &SamplingParams, draw: f64) -> usize {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weight = |logit: f32| ((f64::from(logit) - max) / params.temperature).exp();
    let all = params.top_k.is_none_or(|k| k >= logits.len()) && params.top_p >= 1.0;
    if all {
        let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
        return pick(logits.iter().map(|&logit| weight(logit)).enumerate(), draw * total);
    }
    let mut ranked: Vec<(usize, f64)> = logits.iter().map(|&logit| weight(logit)).enumerate().collect();
    // Equal weights in order of id, so that the choice is one and the same everywhere.
    let order = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if let Some(k) = params.top_k.filter(|&k| k < ranked.len()) {
        ranked.select_nth_unstable_by(k, order);
        ranked.truncate(k);
    }
    let mass = params.top_p * ranked.iter().map(|(_, weight)| weight).sum::<f64>();
    // The nucleus is small as a rule: sort no more than may belong to it.
    let mut head = 64;
    while head < ranked.len() {
        ranked.select_nth_unstable_by(head, order);
        if ranked[..head].iter().map(|(_, weight)| weight).sum::<f64>() > mass {
            ranked.truncate(head);
            break;
        }
        head *= 8;
    }
    ranked.sort_unstable_by(order);
    let mut before = 0.0;
    let nucleus = ranked.iter().take_while(|(_, weight)| {
        let inside = before < mass;
        before += weight;
        inside
    });
    let kept = nucleus.count().max(1);
    ranked.truncate(kept);
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    pick(ranked.into_iter(), draw * total)
}

/// The first item at which the running sum passes `threshold`; rounding at the end falls to the last item with weight.
fn pick(weights: impl Iterator<Item = (usize, f64)>, threshold: f64) -> usize {
    let (mut sum, mut last) = (0.0, 0);
    for (index, weight) in weights {
        if weight > 0.0 {
            sum += weight;
            last = index;
            if sum > threshold {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use sami_policy::SamplingParamsBuilder;

    fn params(temperature: f64, top_p: f64, top_k: Option<usize>) -> SamplingParams {
        SamplingParamsBuilder { temperature, top_p, top_k, ..Default::default() }.check().unwrap()
    }

    /// Shares of each token over many draws.
    fn shares(logits: &[f32], params: &SamplingParams) -> Vec<f64> {
        let mut draws = Draws::new(StreamKey::new(1, 2, 3, 4));
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[choose(logits, params, &mut draws) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn shares_follow_the_tempered_distribution() {
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        for temperature in [0.5, 1.0, 2.0] {
            let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (share, weight) in shares(&logits, &params(temperature, 1.0, None)).iter().zip(&weights) {
                assert!((share - weight / total).abs() < 0.015, "{share} {}", weight / total);
            }
        }
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_that_reaches_top_p() {
        // Probabilities .5, .3, .15, .05.
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln);
        let kept = |params| shares(&logits, &params).iter().filter(|&&share| share > 0.0).count();
        assert_eq!(kept(params(1.0, 0.5, None)), 1);
        assert_eq!(kept(params(1.0, 0.51, None)), 2);
        assert_eq!(kept(params(1.0, 0.9, None)), 3);
        assert_eq!(kept(params(1.0, 1.0, Some(2))), 2);
        assert_eq!(kept(params(1.0, 1e-9, None)), 1);
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals_and_reports_its_logp() {
        let logits = [1.0, 3.0, 3.0];
        let token = choose(&logits, &params(0.0, 1.0, None), &mut Draws::new(StreamKey::new(0, 0, 0, 0)));
        assert_eq!(token, 1);
        let expected = 3.0 - (1f64.exp() + 2.0 * 3f64.exp()).ln();
        assert!((f64::from(logp(&logits, token)) - expected).abs() < 1e-6);
    }

    #[test]
    fn a_nucleus_of_any_size_is_that_of_the_full_order() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        for spread in [0.01, 0.5, 4.0] {
            let logits: Vec<f32> = (0..3000).map(|_| spread * (rng.random::<f32>() * 10.0).round()).collect();
            for (top_p, top_k) in [(0.9, None), (0.3, None), (0.999, Some(700)), (1.0, Some(5))] {
                let mut order: Vec<usize> = (0..logits.len()).collect();
                order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
                order.truncate(top_k.unwrap_or(usize::MAX));
                let weights: Vec<f64> = order.iter().map(|&id| f64::from(logits[id]).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut before = 0.0;
                let kept = weights.iter().take_while(|&&w| {
                    let inside = before < top_p * total * (1.0 - 1e-12);
                    before += w;
                    inside
                });
                let kept = kept.count();
                // The largest draw takes the last token of the nucleus.
                assert_eq!(sample(&logits, &params(1.0, top_p, top_k), 1.0 - 1e-12), order[kept - 1]);
                assert_eq!(sample(&logits, &params(1.0, top_p, top_k), 0.0), order[0]);
            }
        }
    }
}
