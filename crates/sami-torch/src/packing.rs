//! Packing: a prompt and its responses as one sequence, the prompt once.
//!
//! A row of the contrast is one prompt with R responses. Padded scoring computes the prompt R times; here it is computed
//! once, followed by one segment per response. A segment begins with the last prompt token, so that every counted token is
//! predicted inside its own segment, and ends before the response's last token, which predicts nothing.

use std::collections::BTreeMap;

use crate::model::Frequencies;

/// One prompt with one response, as tokens: `ids[start..]` are the response's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) ids: Vec<u32>,
    pub(crate) start: usize,
    /// Those of its whole length.
    pub(crate) frequencies: Frequencies,
}

impl Sequence {
    pub(crate) fn counted(&self) -> usize {
        self.ids.len() - self.start
    }
}

/// A token whose log-probability is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Place, among the row's segment tokens, of the position that predicts it.
    pub(crate) place: usize,
    /// The token.
    pub(crate) target: u32,
    /// Which of the packed sequences it belongs to.
    pub(crate) sequence: usize,
}

/// Sequences with one prompt, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedRow {
    /// Prefix, then every segment.
    pub(crate) ids: Vec<u32>,
    /// 0 in the prefix, from 1 in the segments.
    pub(crate) segment: Vec<i64>,
    /// Logical positions: those of the sequence on its own.
    pub(crate) position: Vec<i64>,
    /// Length of the shared prefix.
    pub(crate) prefix: usize,
    /// Counted tokens in order of sequence, then of position.
    pub(crate) counted: Vec<Counted>,
    /// Of all its sequences.
    pub(crate) frequencies: Frequencies,
}

impl PackedRow {
    /// Packs sequences whose prompts are the same text and whose frequencies are the same ([`alike`]). Every sequence has
    /// at least one prompt token and one counted token.
    pub(crate) fn new(sequences: &[&Sequence]) -> Self {
        let prefix = shared_prefix(sequences);
        let first = sequences.first().map_or(&[][..], |sequence| &sequence.ids[..prefix]);
        let mut row = Self {
            ids: first.to_vec(),
            segment: vec![0; prefix],
            position: (0..prefix as i64).collect(),
            prefix,
            counted: Vec::new(),
            frequencies: sequences.first().map_or(Frequencies::Original, |sequence| sequence.frequencies),
        };
        for (index, sequence) in sequences.iter().enumerate() {
            for position in prefix..sequence.ids.len() - 1 {
                if position + 1 >= sequence.start {
                    let target = sequence.ids[position + 1];
                    row.counted.push(Counted { place: row.ids.len() - prefix, target, sequence: index });
                }
                row.ids.push(sequence.ids[position]);
                row.segment.push(index as i64 + 1);
                row.position.push(position as i64);
            }
        }
        row
    }

    /// Prompts that begin with the same `prefix` tokens and go on differently; nothing is counted. `rests` are what follows
    /// the prefix, none of them empty.
    pub(crate) fn continuations(prefix: &[u32], rests: &[&[u32]], frequencies: Frequencies) -> Self {
        let mut row = Self {
            ids: prefix.to_vec(),
            segment: vec![0; prefix.len()],
            position: (0..prefix.len() as i64).collect(),
            prefix: prefix.len(),
            counted: Vec::new(),
            frequencies,
        };
        for (index, rest) in rests.iter().enumerate() {
            row.ids.extend_from_slice(rest);
            row.segment.extend(rest.iter().map(|_| index as i64 + 1));
            row.position.extend((prefix.len()..prefix.len() + rest.len()).map(|position| position as i64));
        }
        row
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Lengths of the segments, in order.
    pub(crate) fn segment_lengths(&self) -> Vec<usize> {
        self.segment[self.prefix..].chunk_by(|a, b| a == b).map(<[i64]>::len).collect()
    }
}

/// Longest common prefix that leaves the last prompt token of every sequence to its segment: responses often share
/// their first words, and those must be predicted too.
pub(crate) fn shared_prefix(sequences: &[&Sequence]) -> usize {
    let Some((first, rest)) = sequences.split_first() else { return 0 };
    let limit = sequences.iter().map(|sequence| sequence.start).min().unwrap_or(1).saturating_sub(1);
    rest.iter().fold(limit, |shared, sequence| {
        first.ids[..shared].iter().zip(&sequence.ids).take_while(|(a, b)| a == b).count()
    })
}

/// The places of sequences that may share a prefix, in order: a token's keys and values depend on the frequencies.
pub(crate) fn alike(sequences: &[Sequence]) -> Vec<Vec<usize>> {
    let mut places: BTreeMap<Frequencies, Vec<usize>> = BTreeMap::new();
    for (place, sequence) in sequences.iter().enumerate() {
        places.entry(sequence.frequencies).or_default().push(place);
    }
    places.into_values().collect()
}

/// Tokens that packing these sequences would take.
pub(crate) fn packed_len(sequences: &[&Sequence]) -> usize {
    let prefix = shared_prefix(sequences);
    prefix + sequences.iter().map(|sequence| sequence.ids.len() - 1 - prefix).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sequence(ids: &[u32], start: usize) -> Sequence {
        Sequence { ids: ids.to_vec(), start, frequencies: Frequencies::Original }
    }

    #[test]
    fn responses_that_begin_alike_are_still_predicted_in_their_own_segment() {
        let (a, b) = (sequence(&[1, 2, 3, 7, 8], 3), sequence(&[1, 2, 3, 7, 9, 9], 3));
        let row = PackedRow::new(&[&a, &b]);
        assert_eq!(row.prefix, 2);
        assert_eq!(row.ids, [1, 2, 3, 7, 3, 7, 9]);
        assert_eq!(row.segment, [0, 0, 1, 1, 2, 2, 2]);
        assert_eq!(row.position, [0, 1, 2, 3, 2, 3, 4]);
        let counted: Vec<_> = row.counted.iter().map(|c| (c.place, c.target, c.sequence)).collect();
        assert_eq!(counted, [(0, 7, 0), (1, 8, 0), (2, 7, 1), (3, 9, 1), (4, 9, 1)]);
    }

    #[test]
    fn merges_across_the_boundary_shorten_the_prefix_and_nothing_else() {
        // Jointly tokenised, the second response swallowed the prompt's last token.
        let (a, b) = (sequence(&[1, 2, 3, 7], 3), sequence(&[1, 2, 30, 8], 3));
        let row = PackedRow::new(&[&a, &b]);
        assert_eq!((row.prefix, row.len()), (2, 4));
        let c = sequence(&[1, 40, 8], 2);
        assert_eq!(PackedRow::new(&[&a, &c]).prefix, 1);
        // A token of the shortened prompt is fed, but not counted.
        let counted = PackedRow::new(&[&a, &c]).counted;
        assert_eq!(counted.iter().map(|c| c.target).collect::<Vec<_>>(), [7, 8]);
    }

    #[test]
    fn only_sequences_with_the_same_frequencies_are_alike() {
        let [original, long] = [Frequencies::Original, Frequencies::Long];
        let with = |frequencies| Sequence { frequencies, ..sequence(&[1, 2, 3], 2) };
        let stretched = Frequencies::Stretched;
        assert_eq!(alike(&[original, original, original].map(with)), [[0, 1, 2]]);
        assert_eq!(alike(&[long, original, long].map(with)), [vec![1], vec![0, 2]]);
        assert_eq!(
            alike(&[stretched(9), original, stretched(8), stretched(9)].map(with)),
            [vec![1], vec![2], vec![0, 3]]
        );
    }

    proptest! {
        #[test]
        fn every_response_token_is_counted_once_at_its_own_position(
            prompt in prop::collection::vec(0u32..4, 1..12),
            responses in prop::collection::vec(prop::collection::vec(0u32..4, 1..6), 1..5),
        ) {
            let sequences: Vec<Sequence> = responses
                .iter()
                .map(|response| sequence(&[prompt.clone(), response.clone()].concat(), prompt.len()))
                .collect();
            let refs: Vec<&Sequence> = sequences.iter().collect();
            let row = PackedRow::new(&refs);
            prop_assert_eq!(row.len(), packed_len(&refs));
            for (index, response) in responses.iter().enumerate() {
                let counted: Vec<_> = row.counted.iter().filter(|c| c.sequence == index).collect();
                prop_assert_eq!(counted.iter().map(|c| c.target).collect::<Vec<_>>(), response.clone());
                for (offset, c) in counted.iter().enumerate() {
                    let place = row.prefix + c.place;
                    prop_assert_eq!(row.position[place] as usize, prompt.len() - 1 + offset);
                    prop_assert_eq!(row.segment[place] as usize, index + 1);
                }
            }
            // What a segment's token sees, in order of position, is the sequence on its own.
            for (place, (&segment, &position)) in row.segment.iter().zip(&row.position).enumerate() {
                if segment > 0 {
                    let seen: Vec<u32> = (0..=place)
                        .filter(|&p| row.segment[p] == 0 || row.segment[p] == segment)
                        .map(|p| row.ids[p])
                        .collect();
                    prop_assert_eq!(&seen[..], &sequences[segment as usize - 1].ids[..=position as usize]);
                }
            }
        }
    }
}
