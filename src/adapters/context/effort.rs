//! How much work the patterns of an ignore file may make in one context. Not responsible for: what they mean.

/// The most steps: some seconds. A large context with a long ignore file takes some hundred millions.
const MOST: u64 = 1 << 33;
/// The most matches that are kept for folders that wait to be read.
const HELD: usize = 1 << 22;

/// What is left of it.
#[derive(Debug)]
pub struct Effort {
    left: u64,
    held: usize,
}

/// The patterns make more work than a context may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

impl Default for Effort {
    fn default() -> Self {
        Self::of(MOST, HELD)
    }
}

impl Effort {
    /// So many steps, and so many matches that are kept at a time.
    pub(super) fn of(steps: u64, held: usize) -> Self {
        Self { left: steps, held }
    }

    /// Takes steps of what is left.
    pub(super) fn take(&mut self, steps: usize) -> Result<(), TooMuch> {
        self.left = self.left.checked_sub(steps as u64).ok_or(TooMuch)?;
        Ok(())
    }

    /// Keeps matches until they are let go.
    pub(super) fn keep(&mut self, matches: usize) -> Result<(), TooMuch> {
        self.held = self.held.checked_sub(matches).ok_or(TooMuch)?;
        Ok(())
    }

    /// Lets kept matches go.
    pub(super) fn let_go(&mut self, matches: usize) {
        self.held += matches;
    }
}
