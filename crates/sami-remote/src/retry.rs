//! How long to wait before trying again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The wait before attempt `attempt + 1`: `backoff` doubled with every attempt up to `cap`, of which a random half is
/// taken off, so that clients that failed together do not come back together.
pub(crate) fn backoff(backoff: Duration, cap: Duration, attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
    let whole = backoff.saturating_mul(1 << doublings).min(cap);
    // Seeded by the system anew each time; results never depend on it.
    let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    whole.mul_f64(0.5 + 0.5 * random)
}

/// `Retry-After`: seconds, some servers' with a fraction, or a date.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    // Rounded up: a moment too early would be refused again.
    let wait = date.duration_since(now).unwrap_or_default();
    Some(Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)))
}

/// A pause that a server asked for, kept by everybody who asks it.
#[derive(Debug, Default)]
pub(crate) struct Pause(Mutex<Option<Instant>>);

impl Pause {
    /// Nobody asks before `wait` is over.
    pub(crate) fn extend(&self, wait: Duration) {
        let until = Instant::now().checked_add(wait);
        let mut pause = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *pause = (*pause).max(until);
    }

    /// Returns when the pause is over, should it be extended meanwhile too.
    pub(crate) fn wait(&self) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match until.and_then(|until| until.checked_duration_since(Instant::now())) {
                Some(left) if !left.is_zero() => std::thread::sleep(left),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_differ() {
        let (first, cap) = (Duration::from_millis(100), Duration::from_millis(900));
        for (attempt, whole) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 900), (500, 900)] {
            let waits: Vec<_> = (0..50).map(|_| backoff(first, cap, attempt)).collect();
            let (least, most) = (Duration::from_millis(whole / 2), Duration::from_millis(whole));
            assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{attempt}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]));
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let seconds = |value| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(seconds(" 17 "), Some(17));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("1.5", now), Some(Duration::from_millis(1_500)));
        for no_time in ["-3", "NaN", "inf"] {
            assert_eq!(retry_after(no_time, now), None, "{no_time}");
        }
        let early = now - Duration::from_millis(1_500);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", early), Some(Duration::from_secs(2)));
    }
}
