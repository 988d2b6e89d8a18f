//! Shortens a file for a snippet: long lines to what is around the marked places, and marks over many lines to the first
//! of them. Moves the places along. Not responsible for: drawing it.
//!
//! The drawing cannot pad to more than 65,535 columns, and nobody reads a hundred.

/// How much of a line is shown before a marked place, and behind its beginning; bytes.
const BEFORE: usize = 60;
const BEHIND: usize = 240;
/// Over how many lines a mark goes at most.
const LINES: usize = 12;
/// How many places are marked at most; with more, nothing could be told apart.
pub(super) const PLACES: usize = 24;
const MARK: char = '…';

/// What was left out: from where, and how many bytes shorter the text is by it.
struct Cut {
    from: usize,
    to: usize,
    shorter: usize,
}

/// The text with its long lines shortened, and the places (byte ranges) in it. Places that do not fit the text are made
/// to fit.
pub(super) fn clip(text: String, places: &mut [(usize, usize)]) -> String {
    for place in places.iter_mut() {
        *place = fitted(&text, *place);
    }
    let mut cuts: Vec<Cut> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let body = start..start + line.trim_end_matches(['\n', '\r']).len();
        cuts.extend(cuts_of(&text, body, places));
        start += line.len();
    }
    if cuts.is_empty() {
        return text;
    }
    for (from, to) in places {
        (*from, *to) = (moved(*from, &cuts), moved(*to, &cuts));
    }
    let mut shorter = String::new();
    let mut at = 0;
    for cut in &cuts {
        shorter.push_str(&text[at..cut.from]);
        shorter.push(MARK);
        at = cut.to;
    }
    shorter.push_str(&text[at..]);
    shorter
}

/// A place within the text, between characters, over not too many lines.
fn fitted(text: &str, (from, to): (usize, usize)) -> (usize, usize) {
    let from = floor(text, from);
    let to = floor(text, to).max(from);
    let last = text[from..to].match_indices('\n').nth(LINES - 1);
    (from, last.map_or(to, |(at, _)| from + at))
}

/// What is left out of a line: all but the surroundings of where a place begins or ends, or its beginning.
fn cuts_of(text: &str, body: std::ops::Range<usize>, places: &[(usize, usize)]) -> Vec<Cut> {
    if body.len() <= BEHIND + MARK.len_utf8() {
        return Vec::new();
    }
    let inside = |at: &usize| (body.start..=body.end).contains(at);
    let begun = places.iter().map(|(from, _)| *from).filter(inside);
    let begun = begun.map(|at| (at.saturating_sub(BEFORE), at + BEHIND));
    let ended = places.iter().filter(|(from, to)| inside(to) && !inside(from));
    let ended = ended.map(|(_, to)| (to.saturating_sub(BEFORE), to + BEFORE));
    let mut shown: Vec<(usize, usize)> = begun.chain(ended).collect();
    if shown.is_empty() {
        shown.push((body.start, body.start + BEHIND));
    }
    shown.sort_unstable();
    let mut cuts = Vec::new();
    let mut at = body.start;
    for (from, to) in shown.into_iter().chain([(body.end, body.end)]) {
        let from = floor(text, from.clamp(body.start, body.end));
        if from > at + MARK.len_utf8() {
            cuts.push(Cut { from: at, to: from, shorter: from - at - MARK.len_utf8() });
        }
        at = at.max(floor(text, to.clamp(body.start, body.end)));
    }
    cuts
}

/// The nearest place between two characters at or before this one.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Where a place of the whole text is in the shortened one.
fn moved(at: usize, cuts: &[Cut]) -> usize {
    let before: usize = cuts.iter().filter(|cut| cut.to <= at).map(|cut| cut.shorter).sum();
    let inside = cuts.iter().find(|cut| (cut.from..cut.to).contains(&at));
    inside.map_or(at, |cut| cut.from) - before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_and_places_stay_on_their_words() {
        let long = format!("RUN {}", "ö".repeat(40_000));
        let text = format!("FROM a\n{long}\r\nCOPY --from=tools / /\n");
        let tools = text.find("tools").expect("a word");
        let mut places = [(0, 4), (7, 10), (7, 7 + long.len()), (tools, tools + 5)];
        let shorter = clip(text, &mut places);
        assert!(shorter.len() < 400, "{}", shorter.len());
        let words = places.map(|(from, to)| &shorter[from..to]);
        assert_eq!((words[0], words[1], words[3]), ("FROM", "RUN", "tools"));
        assert!(words[2].starts_with("RUN öö") && words[2].ends_with('…'), "{}", words[2]);
        assert_eq!(shorter.lines().count(), 3);
        assert!(shorter.lines().nth(1).expect("a line").ends_with('…'));
    }

    #[test]
    fn what_is_marked_far_to_the_right_is_shown_alone() {
        let text = format!("{}here{}there{}\n", "x".repeat(70_000), "y".repeat(70_000), "z".repeat(1000));
        let mut places = [(70_000, 70_004), (140_004, 140_009)];
        let shorter = clip(text, &mut places);
        let words = places.map(|(from, to)| &shorter[from..to]);
        assert_eq!(words, ["here", "there"]);
        assert!(shorter.starts_with("…x") && shorter.len() < 700, "{}", shorter.len());
    }

    #[test]
    fn a_mark_over_many_lines_ends_early() {
        let text = "line\n".repeat(100_000);
        let mut places = [(2, 400_000)];
        let text = clip(text, &mut places);
        assert_eq!(text[places[0].0..places[0].1].lines().count(), LINES);
    }

    #[test]
    fn short_lines_stay() {
        assert_eq!(clip("a\nb".to_owned(), &mut [(0, 1)]), "a\nb");
    }
}
