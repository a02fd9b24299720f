//! Whether a server refuses everything.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Refusals before the first answer that end a job.
const FEW: usize = 4;
/// The same where the server names the prompt as the cause: one prompt says less about the next.
const FEW_OF_PROMPTS: usize = 16;
/// And where that was all of a batch, which may have been all of a job.
const FEW_OF_A_BATCH: usize = 6;

/// What requests came to, until the first one has an answer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    answered: bool,
    refused: usize,
    /// Of them, those whose cause is the prompt by the server's own words.
    of_prompts: usize,
    under_way: usize,
    /// What was said first.
    message: Option<String>,
}

/// What one request came to.
#[derive(Debug)]
pub(crate) enum CameTo<'a> {
    Answer,
    Refusal { message: &'a str, of_prompt: bool },
    Nothing,
}

/// All requests so far were refused.
#[derive(Debug)]
pub(crate) struct AllRefused {
    pub(crate) refused: usize,
    pub(crate) message: String,
}

impl State {
    fn all_refused(&self, few_of_prompts: usize) -> Option<AllRefused> {
        let few = self.refused - self.of_prompts >= FEW || self.refused >= few_of_prompts;
        let message = self.message.clone().filter(|_| few && !self.answered)?;
        Some(AllRefused { refused: self.refused, message })
    }
}

impl Tally {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a request. Refusals are quick and answers take their time, so once there are a few of the former, those
    /// under way are waited for.
    pub(crate) fn begin(&self) -> Result<(), AllRefused> {
        let mut state = self.state();
        while let Some(all) = state.all_refused(FEW_OF_PROMPTS) {
            if state.under_way == 0 {
                return Err(all);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.under_way += 1;
        Ok(())
    }

    /// After a request.
    pub(crate) fn end(&self, came_to: CameTo<'_>) {
        let mut state = self.state();
        state.under_way -= 1;
        match came_to {
            CameTo::Answer => state.answered = true,
            CameTo::Refusal { message, of_prompt } => {
                state.refused += 1;
                state.of_prompts += usize::from(of_prompt);
                state.message.get_or_insert_with(|| message.to_owned());
            }
            CameTo::Nothing => {}
        }
        drop(state);
        self.changed.notify_all();
    }

    /// After a batch of requests that were all refused.
    pub(crate) fn all_refused(&self) -> Result<(), AllRefused> {
        self.state().all_refused(FEW_OF_A_BATCH).map_or(Ok(()), Err)
    }
}
