//! Which marked places of a file are shown in one snippet. Not responsible for: drawing it.

/// Places that are further apart than this, in lines, have a snippet each: all lines between are drawn.
const NEAR: usize = 50;

/// The line of a place in a text, counted from 0.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// Places that are near the first one of a snippet, together.
pub(super) fn together<T>(places: impl Iterator<Item = T>, line: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut snippets: Vec<(usize, Vec<T>)> = Vec::new();
    for place in places {
        let at = line(&place);
        match snippets.iter_mut().find(|(first, _)| first.abs_diff(at) <= NEAR) {
            Some((_, near)) => near.push(place),
            None => snippets.push((at, vec![place])),
        }
    }
    snippets.into_iter().map(|(_, near)| near).collect()
}
