//! What requests cost, and when to stop.

use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::RemoteError;

/// What may be spent, in whatever currency the prices are in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpendCap {
    /// At most so much, for this [`crate::Endpoint`] and its clones.
    pub most: f64,
    /// Price of a million prompt tokens.
    pub prompt_price: f64,
    /// Price of a million response tokens.
    pub response_price: f64,
}

impl SpendCap {
    pub(crate) fn check(&self) -> Result<(), RemoteError> {
        let amounts = [
            ("max_spend", self.most),
            ("prompt_price", self.prompt_price),
            ("response_price", self.response_price),
        ];
        match amounts.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            Some((field, value)) => Err(RemoteError::Amount { field, value }),
            None => Ok(()),
        }
    }

    fn price(&self, tokens: Tokens) -> f64 {
        (tokens.prompt as f64 * self.prompt_price + tokens.response as f64 * self.response_price) / 1e6
    }
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Tokens {
    #[serde(rename = "prompt_tokens", default)]
    pub(crate) prompt: u64,
    #[serde(rename = "completion_tokens", default)]
    pub(crate) response: u64,
}

/// What an [`crate::Endpoint`] and its clones have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Requests sent, attempts that failed included.
    pub requests: u64,
    /// Of them, those sent again after a failure.
    pub retries: u64,
    /// Answers taken from the cache, which cost nothing.
    pub from_cache: u64,
    /// Prompt tokens, as far as the server counted them.
    pub prompt_tokens: u64,
    /// Response tokens, as far as the server counted them.
    pub response_tokens: u64,
    /// Money spent; 0 without prices. A request whose price is not known (no count, or no answer at all) counts at the
    /// highest that it can have had.
    pub spent: f64,
}

/// What a request turned out to cost.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cost {
    /// The server counted.
    Counted(Tokens),
    /// The server refused: nothing.
    Nothing,
    /// An answer without a count, or a connection that broke.
    Unknown,
}

#[derive(Debug, Default)]
pub(crate) struct Budget {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    usage: Usage,
    /// Highest prices of the requests under way.
    reserved: f64,
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Reservation(f64);

impl Budget {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn usage(&self) -> Usage {
        self.state().usage
    }

    pub(crate) fn count_cached(&self) {
        self.state().usage.from_cache += 1;
    }

    /// Room for one more request of at most so many tokens.
    pub(crate) fn reserve(
        &self,
        most_requests: Option<u64>,
        cap: Option<SpendCap>,
        bound: Tokens,
        is_retry: bool,
    ) -> Result<Reservation, RemoteError> {
        let mut state = self.state();
        if let Some(most) = most_requests.filter(|most| state.usage.requests >= *most) {
            return Err(RemoteError::RequestCap { most });
        }
        let next = cap.map_or(0.0, |cap| cap.price(bound));
        let spent = state.usage.spent + state.reserved;
        if let Some(cap) = cap.filter(|cap| spent + next > cap.most) {
            return Err(RemoteError::SpendCap { spent, most: cap.most, next });
        }
        state.reserved += next;
        state.usage.requests += 1;
        state.usage.retries += u64::from(is_retry);
        Ok(Reservation(next))
    }

    pub(crate) fn settle(&self, reservation: Reservation, cap: Option<SpendCap>, cost: Cost) {
        let mut state = self.state();
        state.reserved -= reservation.0;
        match cost {
            Cost::Counted(tokens) => {
                state.usage.prompt_tokens += tokens.prompt;
                state.usage.response_tokens += tokens.response;
                state.usage.spent += cap.map_or(0.0, |cap| cap.price(tokens));
            }
            Cost::Nothing => {}
            Cost::Unknown => state.usage.spent += reservation.0,
        }
    }
}
