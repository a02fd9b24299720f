//! What somebody meant who wrote a name that does not exist.

/// Serde's message about an unknown field or variant, with the name that was probably meant.
pub(super) fn with_suggestion(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let (true, Some(given)) = (message.starts_with("unknown "), names.next()) else {
        return message.to_owned();
    };
    let known: Vec<&str> = names.collect();
    match nearest(given, &known) {
        Some(name) => format!("{message}; did you mean `{name}`?"),
        None => message.to_owned(),
    }
}

/// The name that takes the fewest edits, if they are at most a third of its length; or one that begins like what was given.
pub(super) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
    let given = plain(given);
    let scored = known.iter().map(|name| (edits(&given, &plain(name)), *name));
    let (distance, name) = scored.min_by_key(|(distance, _)| *distance)?;
    if distance <= (name.len().max(given.len()) / 3).max(1) {
        return Some(name);
    }
    let begins = |name: &str| given.len() >= 3 && (name.starts_with(&given) || given.starts_with(name));
    known.iter().copied().find(|name| begins(&plain(name)))
}

/// Insertions, deletions, replacements and exchanges of neighbours between two words (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i.max(j)
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let least = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                let exchanged = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if exchanged { least.min(table[i - 2][j - 2] + 1) } else { least }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, distance) in
            [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 1), ("rnak", "rank", 1)]
        {
            assert_eq!(edits(a, b), distance, "{a} {b}");
            assert_eq!(edits(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["batch_size", "batches", "batches_increment", "learning_rate"];
        assert_eq!(nearest("batchsize", &known), Some("batch_size"));
        assert_eq!(nearest("learning-rte", &known), Some("learning_rate"));
        assert_eq!(nearest("learn", &known), Some("learning_rate"));
        assert_eq!(nearest("lr", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
