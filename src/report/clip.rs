//! Shortens the long lines of a file for a snippet, and moves the places in it along. Not responsible for: drawing it.

/// How much of a line is shown behind the beginning of what is marked, bytes.
const SHOWN: usize = 240;
const MARK: char = '…';

/// What was left out: from where, and how many bytes shorter the text is by it.
struct Cut {
    from: usize,
    to: usize,
    shorter: usize,
}

/// The text with its long lines shortened, and the places (byte ranges) in it. A line with places is shown up to some way
/// behind the last one's beginning.
pub(super) fn clip(text: String, places: &mut [(usize, usize)]) -> String {
    let mut cuts: Vec<Cut> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches(['\n', '\r']).len();
        let marked = places.iter().filter(|(at, _)| (start..start + line.len()).contains(at)).map(|(at, _)| at - start);
        let mut shown = marked.max().unwrap_or_default() + SHOWN;
        if body > shown + MARK.len_utf8() {
            while !line.is_char_boundary(shown) {
                shown -= 1;
            }
            let (from, to) = (start + shown, start + body);
            cuts.push(Cut { from, to, shorter: to - from - MARK.len_utf8() });
        }
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
    fn what_is_marked_far_to_the_right_is_shown() {
        let text = format!("{}here{}\n", "x".repeat(1000), "y".repeat(1000));
        let mut places = [(1000, 1004)];
        let shorter = clip(text, &mut places);
        assert_eq!(&shorter[places[0].0..places[0].1], "here");
        assert_eq!(shorter.trim_end().len(), 1000 + SHOWN + MARK.len_utf8());
    }

    #[test]
    fn short_lines_stay() {
        assert_eq!(clip("a\nb".to_owned(), &mut [(0, 1)]), "a\nb");
    }
}
