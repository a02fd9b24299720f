//! How a template ends an assistant's turn.

use sami_policy::{ChatMessage, Role};

use super::ChatTemplate;

/// Words that no template writes, nor changes.
const ANSWER: &str = "sami-answer";
const QUESTION: &str = "sami-question";

impl ChatTemplate {
    /// Which of these tokens the template writes right after an assistant's words; `None` where it writes none there, or
    /// takes no such conversation. Longer tokens must come first.
    ///
    /// Some templates end a turn only where another follows. There the next turn has a token of its own at its beginning,
    /// so the first of two is the end, and a single one is not.
    pub(crate) fn end_of_turn(&self, tokens: &[String]) -> Option<String> {
        let turn = |role, text| ChatMessage::new(role, text);
        let answered = [turn(Role::User, "Hello."), turn(Role::Assistant, ANSWER)];
        let last = self.after_answer(&answered)?;
        if let Some(end) = first(&last, tokens) {
            return Some(end);
        }
        let [asked, answer] = answered;
        let between = self.after_answer(&[asked, answer, turn(Role::User, QUESTION)])?;
        let (between, _) = between.split_once(QUESTION)?;
        let end = first(between, tokens)?;
        let opening = between.trim_start().strip_prefix(end.as_str())?;
        tokens.iter().any(|token| !token.trim().is_empty() && opening.contains(token.as_str())).then_some(end)
    }

    fn after_answer(&self, messages: &[ChatMessage]) -> Option<String> {
        let text = self.render(messages, false).ok()?;
        text.rsplit_once(ANSWER).map(|(_, after)| after.to_owned())
    }
}

/// The token that the text begins with, after white space.
fn first(text: &str, tokens: &[String]) -> Option<String> {
    let text = text.trim_start();
    tokens.iter().find(|token| !token.trim().is_empty() && text.starts_with(token.as_str())).cloned()
}
