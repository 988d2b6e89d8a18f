//! How much the words of a file may take together. Not responsible for: one word (see `expand`).

use std::cell::Cell;

/// The most work on a file: bytes of values and of what is made of them, and comparisons of characters with patterns.
/// Real files take some thousands.
pub(super) const MOST: usize = 1 << 24;
/// What is wrong with a word that would take more.
pub(super) const TOO_MUCH: &str = "the variables of this file make too much text together";

/// What is left for the words of a file. `None`: something was refused, which its caller reports.
#[derive(Debug)]
pub(super) struct Budget(Cell<Option<usize>>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(Some(MOST)))
    }
}

impl Budget {
    /// Takes so much of what is left; false if less is left. Nothing is left then: who asked for too much once would ask
    /// for it in each line.
    pub(super) fn take(&self, work: usize) -> bool {
        let left = self.0.get().and_then(|left| left.checked_sub(work));
        self.0.set(left);
        left.is_some()
    }

    /// Whether something was refused, so that no other word may be worked on.
    pub(super) fn is_spent(&self) -> bool {
        self.0.get().is_none()
    }

    /// A copy of a value.
    pub(super) fn copy(&self, value: &str) -> Result<String, String> {
        if !self.take(value.len()) {
            return Err(TOO_MUCH.to_owned());
        }
        #[cfg(test)]
        done::add(value.len());
        Ok(value.to_owned())
    }
}

/// What is really done in a test, whoever counts it or not.
#[cfg(test)]
pub(super) mod done {
    use std::cell::Cell;

    thread_local!(static DONE: Cell<usize> = const { Cell::new(0) });

    pub(in super::super) fn add(work: usize) {
        DONE.set(DONE.get() + work);
    }

    /// What was done since the last look.
    pub(in super::super) fn take() -> usize {
        DONE.replace(0)
    }
}
