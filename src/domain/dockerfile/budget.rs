//! How much the words of a file may take together. Not responsible for: one word (see `expand`).

use std::cell::Cell;

use super::expand::Expanded;

/// The most [`Expanded::work`] of a file. Real ones take some thousands.
const MOST: usize = 1 << 24;
/// What is wrong with a word that would take more.
pub(super) const TOO_MUCH: &str = "the variables of this file make too much text together";

/// What is left for the words of a file.
#[derive(Debug)]
pub(super) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(MOST))
    }
}

impl Budget {
    /// Counts a word. The error says what is wrong with it.
    pub(super) fn spend(&self, found: Expanded) -> Result<Expanded, String> {
        if self.has(found.work) { Ok(found) } else { Err(TOO_MUCH.to_owned()) }
    }

    /// Counts so many bytes; false if they are too many.
    pub(super) fn has(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        left.inspect(|left| self.0.set(*left)).is_some()
    }
}
