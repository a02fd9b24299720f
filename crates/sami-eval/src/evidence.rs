//! Where in a response its constitution shows: ln p(c | y up to t).

use sami_data::{PairConstitution, PairRecord};
use sami_policy::{ContrastPolicy, ContrastResponse, ContrastSet};
use serde::{Deserialize, Serialize};

use crate::principles::{PrincipleSides, log_softmax, principles};

/// A response is followed for at most so many words; reading a beginning costs its length for each of its words.
pub const MAX_WORDS: usize = 160;

/// A word of a response with the white space before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// Its text; the words of a response, joined, are the response.
    pub text: String,
    /// ln p(c | y up to and with this word) for each constitution, all equally likely beforehand; nats.
    pub log_posterior: Vec<f64>,
}

/// A response, and how the model's belief about its constitution grows while it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The query's id.
    pub id: String,
    /// The query.
    pub query: String,
    /// The constitutions that it could have been.
    pub constitutions: Vec<PairConstitution>,
    /// The one that it was sampled under.
    pub asked: usize,
    /// The response's words.
    pub words: Vec<Word>,
    /// What follows the last word that was followed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rest: String,
}

impl Evidence {
    /// Follows response `response` of a record, word by word: every beginning of it is scored under every constitution's training
    /// prompt, so any policy can do it, whatever its tokens. `None` where the record has no such response, or one without
    /// words.
    ///
    /// # Errors
    ///
    /// What the policy refuses.
    pub fn new<P: ContrastPolicy>(
        policy: &mut P,
        record: &PairRecord,
        response: usize,
    ) -> Result<Option<Self>, P::Error> {
        let Some(answer) = record.responses.get(response) else { return Ok(None) };
        let ends = word_ends(&answer.text);
        let followed = &ends[..ends.len().min(MAX_WORDS)];
        let beginnings = followed.iter().map(|&end| ContrastResponse {
            text: answer.text[..end].to_owned(),
            token_ids: None,
            constitution: answer.constitution,
        });
        let set = ContrastSet::new(record.id.clone(), record.prompts.clone(), beginnings.collect());
        let Ok(set) = set else { return Ok(None) };
        let logps = policy.score(std::slice::from_ref(&set))?;
        let Some(logps) = logps.first() else { return Ok(None) };
        let mut begin = 0;
        let words = followed.iter().zip(logps.sum_logps.columns()).map(|(&end, column)| {
            let text = answer.text[begin..end].to_owned();
            begin = end;
            Word { text, log_posterior: log_softmax(&column.to_vec()) }
        });
        let words: Vec<Word> = words.collect();
        Ok(Some(Self {
            id: record.id.clone(),
            query: record.query.clone(),
            constitutions: record.constitutions.clone(),
            asked: answer.constitution,
            words,
            rest: answer.text[begin..].to_owned(),
        }))
    }

    /// The principles that the constitutions differ on.
    pub fn principles(&self) -> Vec<PrincipleSides> {
        principles(self.constitutions.iter().map(|constitution| constitution.id.as_str()))
    }

    /// For each word, by how much it raises ln p(what was asked | text so far), in nats: of the whole constitution, or of one
    /// principle's side. Their sum is the evidence in the whole text.
    pub fn steps(&self, principle: Option<&PrincipleSides>) -> Vec<f64> {
        let asked = |posterior: &[f64]| match principle {
            Some(principle) => principle.log_side(posterior, self.asked),
            None => posterior.get(self.asked).copied().unwrap_or(f64::NEG_INFINITY),
        };
        let mut before = match principle {
            Some(principle) => principle.log_prior(self.asked),
            None => -(self.constitutions.len() as f64).ln(),
        };
        let mut steps = Vec::with_capacity(self.words.len());
        for word in &self.words {
            let now = asked(&word.log_posterior);
            steps.push(now - before);
            before = now;
        }
        steps
    }
}

/// Ends of words, in bytes: a word is white space and what follows it up to the next. White space at the end belongs to none.
fn word_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut in_word = false;
    for (at, c) in text.char_indices() {
        if in_word && c.is_whitespace() {
            ends.push(at);
        }
        in_word = !c.is_whitespace();
    }
    if in_word {
        ends.push(text.len());
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use ndarray::Array2;
    use sami_policy::{GradientOf, SetLogps};

    #[test]
    fn words_join_to_the_text() {
        let text = " Ein  Wörtchen,\nnoch eins. ";
        let ends = word_ends(text);
        assert_eq!(&text[..ends[0]], " Ein");
        assert_eq!(&text[ends[0]..ends[1]], "  Wörtchen,");
        assert_eq!((ends.len(), ends[3]), (4, text.len() - 1));
        assert!(word_ends(" \n").is_empty() && word_ends("").is_empty());
    }

    /// Knows "sorry" to be four times as likely under prompts with "kind", whatever else there is.
    struct Sorry;

    impl ContrastPolicy for Sorry {
        type Error = sami_core::Error;

        fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>, Self::Error> {
            let score = |set: &ContrastSet| {
                let shape = (set.prompts().len(), set.responses().len());
                let logp = |(row, column): (usize, usize)| {
                    let text = &set.responses()[column].text;
                    let sorry = text.matches("sorry").count() as f64;
                    let kind = f64::from(u8::from(set.prompts()[row].contains("kind")));
                    -(text.len() as f64) + sorry * kind * 4.0_f64.ln()
                };
                SetLogps {
                    sum_logps: Array2::from_shape_fn(shape, logp),
                    tokens: Array2::from_elem(shape, 1),
                    kl: None,
                }
            };
            Ok(sets.iter().map(score).collect())
        }

        fn contrast_step(
            &mut self,
            sets: &[ContrastSet],
            _: &mut GradientOf<'_>,
        ) -> Result<Vec<SetLogps>, Self::Error> {
            self.score(sets)
        }
    }

    #[test]
    fn the_telling_word_gets_the_evidence() {
        let record: PairRecord = serde_json::from_str(
            r#"{"id":"q","query":"Why?","constitutions":[{"id":"brief+kind","text":"a"},{"id":"brief+not-kind","text":"b"},{"id":"kind+not-brief","text":"c"},{"id":"not-brief+not-kind","text":"d"}],
            "prompts":["kind brief","rude brief","kind long","rude long"],
            "responses":[{"constitution":0,"text":"I am sorry to say no."},{"constitution":1,"text":"sorry"}, {"constitution":2,"text":" "}, {"constitution":3,"text":"x"}]}"#,
        )
        .unwrap();
        let evidence = Evidence::new(&mut Sorry, &record, 0).unwrap().unwrap();
        let words: Vec<_> = evidence.words.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(words, ["I", " am", " sorry", " to", " say", " no."]);
        // p(kind) from 1/2 to 4/5 at the third word; all else says nothing.
        let kind = evidence.principles().into_iter().find(|principle| principle.name == "kind").unwrap();
        let brief = evidence.principles().into_iter().find(|principle| principle.name == "brief").unwrap();
        for (steps, expected) in [
            (evidence.steps(Some(&kind)), 1.6_f64.ln()),
            (evidence.steps(None), 1.6_f64.ln()),
            (evidence.steps(Some(&brief)), 0.0),
        ] {
            for (index, step) in steps.iter().enumerate() {
                assert_abs_diff_eq!(*step, if index == 2 { expected } else { 0.0 }, epsilon = 1e-9);
            }
        }
        // Who asked for the opposite is contradicted.
        let against = Evidence::new(&mut Sorry, &record, 1).unwrap().unwrap();
        assert_abs_diff_eq!(against.steps(Some(&kind))[0], 0.4_f64.ln(), epsilon = 1e-9);
        assert_eq!(Evidence::new(&mut Sorry, &record, 2).unwrap(), None);
        assert_eq!(Evidence::new(&mut Sorry, &record, 9).unwrap(), None);
    }

    #[test]
    fn long_responses_are_followed_in_part() {
        let text = "word ".repeat(MAX_WORDS + 3);
        let record: PairRecord = serde_json::from_value(serde_json::json!({
            "id": "q", "query": "", "constitutions": [{"id": "a", "text": ""}, {"id": "not-a", "text": ""}],
            "prompts": ["p", "q"], "responses": [{"constitution": 0, "text": text}],
        }))
        .unwrap();
        let evidence = Evidence::new(&mut Sorry, &record, 0).unwrap().unwrap();
        assert_eq!((evidence.words.len(), evidence.rest.as_str()), (MAX_WORDS, " word word word "));
    }
}
