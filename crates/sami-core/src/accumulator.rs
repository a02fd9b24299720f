//! Means and standard errors over queries, in one pass, mergeable.

use crate::MutualInformation;

/// A mean over queries with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Estimate {
    /// Mean over queries.
    pub mean: f64,
    /// Sample standard deviation over √n; `None` for a single query, which says nothing about its own scatter.
    pub standard_error: Option<f64>,
}

impl Estimate {
    /// mean ± z standard errors: z = 1.96 covers 95% when queries are many and independent.
    pub fn interval(&self, z: f64) -> Option<(f64, f64)> {
        self.standard_error.map(|error| (self.mean - z * error, self.mean + z * error))
    }
}

/// Mutual information over many queries, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MiEstimate {
    /// Over constitutions: the usable figure.
    pub constitutions: Estimate,
    /// Over responses.
    pub responses: Estimate,
    /// Mean of the two; its standard error is that of the queries' own two-sided figures.
    pub two_sided: Estimate,
    /// Mean of ln C over the queries.
    pub cap: f64,
    /// Number of queries.
    pub n: u64,
}

/// Running mean and sum of squared deviations (Welford 1962; merged as in Chan, Golub and LeVeque 1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Moments {
    mean: f64,
    squares: f64,
}

impl Moments {
    fn push(&mut self, value: f64, n: f64) {
        let delta = value - self.mean;
        self.mean += delta / n;
        self.squares += delta * (value - self.mean);
    }

    fn merge(&mut self, other: &Self, n: f64, other_n: f64) {
        let delta = other.mean - self.mean;
        let total = n + other_n;
        self.mean += delta * (other_n / total);
        self.squares += other.squares + delta * delta * (n * other_n / total);
    }

    fn estimate(&self, n: f64) -> Estimate {
        let standard_error = (n > 1.0).then(|| (self.squares / (n - 1.0) / n).sqrt());
        Estimate { mean: self.mean, standard_error }
    }
}

/// Collects [`MutualInformation`] query by query. Accumulators of parts merge into that of the whole, and one that was
/// stored goes on where it stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MiAccumulator {
    n: u64,
    constitutions: Moments,
    responses: Moments,
    two_sided: Moments,
    cap: Moments,
}

impl MiAccumulator {
    /// An empty accumulator.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of queries so far.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Adds one query.
    pub fn push(&mut self, query: &MutualInformation) {
        self.n += 1;
        let n = self.n as f64;
        self.constitutions.push(query.constitutions, n);
        self.responses.push(query.responses, n);
        self.two_sided.push(query.two_sided, n);
        self.cap.push(query.cap, n);
    }

    /// Adds everything that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        let (n, other_n) = (self.n as f64, other.n as f64);
        self.n += other.n;
        self.constitutions.merge(&other.constitutions, n, other_n);
        self.responses.merge(&other.responses, n, other_n);
        self.two_sided.merge(&other.two_sided, n, other_n);
        self.cap.merge(&other.cap, n, other_n);
    }

    /// Means and standard errors, or `None` before the first query.
    pub fn finish(&self) -> Option<MiEstimate> {
        let n = self.n as f64;
        (self.n > 0).then(|| MiEstimate {
            constitutions: self.constitutions.estimate(n),
            responses: self.responses.estimate(n),
            two_sided: self.two_sided.estimate(n),
            cap: self.cap.mean,
            n: self.n,
        })
    }
}
