//! Finds the name that a person probably meant. If no name is similar enough, there is none.

/// The candidate that is most similar to `wanted`, if it is similar enough to be a typing error: at most a third of the
/// letters differ (Damerau-Levenshtein), or one begins with the other.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != wanted)
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(wanted, candidate);
            let prefix = wanted.len() >= 3 && (candidate.starts_with(wanted) || wanted.starts_with(candidate));
            (if prefix { distance.min(bound) } else { distance }, candidate)
        })
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_refuses_strangers() {
        let known = ["debian", "rust", "rust-deps", "nushell"];
        assert_eq!(nearest("debain", known), Some("debian"));
        assert_eq!(nearest("nushel", known), Some("nushell"));
        assert_eq!(nearest("rustdeps", known), Some("rust-deps"));
        assert_eq!(nearest("python", known), None);
        assert_eq!(nearest("rust", ["rust"]), None);
    }
}
