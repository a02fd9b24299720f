//! What many responses look like: leaks of the constitution, loops, sameness ([`sami_data::text`]).

use std::collections::HashSet;

use sami_data::text::{Leak, repetition, words};
use sami_data::{Finish, PairRecord};
use serde::{Deserialize, Serialize};

use crate::statistics::{Interval, wilson};

/// Figures of many responses, those of rejected sets included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextFigures {
    /// Responses that were looked at.
    pub responses: usize,
    /// Of them, those that name the constitution.
    pub naming: usize,
    /// Of them, those that copy from it.
    pub copying: usize,
    /// Of them, those that do either.
    pub leaking: usize,
    /// Share of leaking responses, with its Wilson interval of 95%.
    pub leak_rate: f64,
    /// The interval.
    pub leak_interval: Option<Interval>,
    /// Share of responses whose text no other response has. Greedy sampling and collapse lower it.
    pub distinct: f64,
    /// Mean share of repeated runs of three words, over the responses that have so many: 0 in prose, near 1 in a loop.
    pub repeated: f64,
    /// Share of responses that reached the limit of tokens, of those whose end is known.
    pub truncated: Option<f64>,
}

impl TextFigures {
    /// Looks at all responses of some records; `None` when there is none.
    pub fn new(records: &[PairRecord]) -> Option<Self> {
        let mut leaks = Vec::new();
        let (mut texts, mut repeats) = (HashSet::new(), Vec::new());
        let (mut truncated, mut ended) = (0_usize, 0_usize);
        for record in records {
            for response in &record.responses {
                let constitution = record.constitutions.get(response.constitution);
                let constitution = constitution.map_or("", |constitution| constitution.text.as_str());
                leaks.push(Leak::of(&response.text, constitution, &record.query));
                texts.insert(response.text.trim());
                repeats.extend(repetition(&words(&response.text)));
                if let Some(finish) = response.finish {
                    ended += 1;
                    truncated += usize::from(finish == Finish::Length);
                }
            }
        }
        let count = |wanted: fn(&Leak) -> bool| leaks.iter().filter(|leak| wanted(leak)).count();
        let (n, leaking) = (leaks.len() as f64, count(|leak| leak.any()));
        (!leaks.is_empty()).then(|| Self {
            responses: leaks.len(),
            naming: count(|leak| leak.names),
            copying: count(|leak| leak.copies),
            leaking,
            leak_rate: leaking as f64 / n,
            leak_interval: wilson(leaking as f64 / n, leaks.len()),
            distinct: texts.len() as f64 / n,
            repeated: repeats.iter().sum::<f64>() / repeats.len().max(1) as f64,
            truncated: (ended > 0).then(|| truncated as f64 / ended as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_loops_and_sameness_are_counted() {
        let record: PairRecord = serde_json::from_str(
            r#"{"id":"q","query":"How?","constitutions":[{"id":"a","text":"1. Be kind."},{"id":"not-a","text":"1. Be rude."}],
            "prompts":["p","q"],"responses":[{"constitution":0,"text":" No.","finish":"length"},{"constitution":1,"text":"No. ","finish":"eos"},
            {"constitution":0,"text":"I follow the principles.","finish":"eos"},{"constitution":0,"text":"Yes."}]}"#,
        )
        .unwrap();
        let figures = TextFigures::new(&[record]).unwrap();
        assert_eq!((figures.responses, figures.naming, figures.copying, figures.leaking), (4, 1, 0, 1));
        assert_eq!((figures.leak_rate, figures.distinct, figures.repeated), (0.25, 0.75, 0.0));
        assert_eq!(figures.truncated, Some(1.0 / 3.0));
        assert_eq!(TextFigures::new(&[]), None);
    }
}
