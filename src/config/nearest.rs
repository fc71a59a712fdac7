//! Which known word was probably meant.

/// The candidate that differs least from `word`, if one is near enough to be what was meant: at most a third
/// of its letters inserted, dropped, changed or swapped with their neighbour,
/// or just one.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Bounded, since the cost is quadratic and the word is foreign.
    let word: Vec<char> = word.chars().take(MAX_LETTERS).flat_map(char::to_lowercase).collect();
    candidates
        .into_iter()
        .map(|candidate| {
            let letters: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
            (distance(&word, &letters), letters.len(), candidate)
        })
        .filter(|(distance, length, _)| {
            let longest = (*length).max(word.len());
            *distance * 3 <= longest || (*distance == 1 && longest > 1)
        })
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
}

/// Optimal string alignment distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

const MAX_LETTERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_obvious_word_is_found() {
        let keys = ["base-url", "listen", "listen-http", "grace-seconds"];
        assert_eq!(nearest("base-ulr", keys), Some("base-url"));
        assert_eq!(nearest("base_url", keys), Some("base-url"));
        assert_eq!(nearest("lisen", keys), Some("listen"));
        assert_eq!(nearest("Listen_HTTP", keys), Some("listen-http"));
    }

    #[test]
    fn what_resembles_nothing_finds_nothing() {
        assert_eq!(nearest("colour", ["base-url", "listen"]), None);
        assert_eq!(nearest("", ["listen"]), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        let d = |a: &str, b: &str| {
            distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
        };
        assert_eq!(d("kitten", "sitting"), 3);
        assert_eq!(d("ab", "ba"), 1);
        assert_eq!(d("", "abc"), 3);
        assert_eq!(d("same", "same"), 0);
    }
}
