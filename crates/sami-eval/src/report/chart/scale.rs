//! Axes.

/// From values to places.
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) begin: f64,
    pub(super) end: f64,
    pub(super) step: f64,
}

impl Scale {
    /// The place of a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)
    }

    /// Round values within.
    pub(super) fn marks(&self) -> impl Iterator<Item = f64> + '_ {
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last).map(|index| index as f64 * self.step)
    }
}

/// The round number (1, 2 or 5 times a power of ten) at or above `value`.
pub(super) fn nice(value: f64) -> f64 {
    if !(value.is_finite() && value > 0.0) {
        return 1.0;
    }
    let power = 10.0_f64.powf(value.log10().floor());
    let lead = value / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|round| lead <= round + 1e-9).unwrap_or(10.0)
}

/// A mark's number with as many digits as its step needs, and a true minus.
pub(super) fn number(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).max(0.0) as usize;
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    if digits > 5 || value.abs() >= 1e6 {
        return format!("{value:.0e}").replace('-', "−");
    }
    format!("{value:.digits$}").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_numbers_short() {
        let seen = [0.0731, 0.2, 1.1, 3.4, 70.0, f64::NAN, 0.0].map(nice);
        assert_eq!(seen, [0.1, 0.2, 2.0, 5.0, 100.0, 1.0, 1.0]);
        assert_eq!(number(0.30000000000000004, 0.1), "0.3");
        assert_eq!(number(-0.25, 0.05), "−0.25");
        assert_eq!(number(1e-18, 0.5), "0.0");
        assert_eq!(number(2e-7, 1e-7), "2e−7");
    }
}
