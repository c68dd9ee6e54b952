//! The known word that somebody probably meant. It proposes and never decides: a misspelt word stays a mistake.

/// A word that is less alike than this is not proposed: a wrong proposal is worse than none.
const ALIKE: f64 = 0.6;

/// Nobody writes longer words by mistake, and comparing takes time proportional to both lengths.
const LONGEST: usize = 80;

/// The candidate that is most alike, if any is alike enough; the first of equals.
#[must_use]
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let alike = likeness(&word, candidate);
        if alike >= ALIKE && best.is_none_or(|(known, _)| alike > known) {
            best = Some((alike, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// 1 for the same word; an abbreviation of three letters or more is as alike as one slip.
fn likeness(word: &str, candidate: &str) -> f64 {
    let alike = strsim::normalized_damerau_levenshtein(word, candidate);
    if word.len() >= 3 && candidate.starts_with(word) { alike.max(ALIKE) } else { alike }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_nonsense_finds_none() {
        let levels = ["disabled", "minimal", "standard", "aggressive", "maximum"];
        assert_eq!(nearest("agressive", levels), Some("aggressive"));
        assert_eq!(nearest("Standard", levels), Some("standard"));
        assert_eq!(nearest("max", levels), Some("maximum"));
        assert_eq!(nearest("banana", levels), None);
        assert_eq!(nearest("", levels), None);
        assert_eq!(nearest(&"x".repeat(100_000), levels), None);
    }
}
