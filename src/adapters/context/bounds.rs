//! How much a context may hold. Not responsible for: what is left out of it.

use std::path::{Path, PathBuf};

use crate::domain::ports::ContextError;

/// The bytes and the entries of a context, so many at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bytes: u64,
    pub(super) entries: usize,
}

impl Bounds {
    /// 50 GB in half a million files; the user's environment raises it. More files need more memory than a plan should.
    pub(super) fn from_env() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str, usual: u64| variable(name).and_then(|text| text.trim().parse().ok()).unwrap_or(usual);
        let bytes = number("LIAN_CONTEXT_GB", 50).saturating_mul(1_000_000_000);
        let entries = usize::try_from(number("LIAN_CONTEXT_FILES", 500_000)).unwrap_or(usize::MAX);
        Self { bytes, entries }
    }
}

/// What was counted so far.
#[derive(Debug)]
pub(super) struct Counted {
    bounds: Bounds,
    bytes: u64,
    entries: usize,
    largest: (PathBuf, u64),
}

impl Counted {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, bytes: 0, entries: 0, largest: (PathBuf::new(), 0) }
    }

    /// Counts an entry with its bytes.
    ///
    /// # Errors
    /// `TooLarge`, `TooMany`.
    pub(super) fn add(&mut self, path: &Path, bytes: u64) -> Result<(), ContextError> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries += 1;
        if bytes > self.largest.1 {
            self.largest = (path.to_owned(), bytes);
        }
        if self.bytes > self.bounds.bytes {
            let (largest, size) = self.largest.clone();
            return Err(ContextError::TooLarge { largest, size, most: self.bounds.bytes });
        }
        if self.entries > self.bounds.entries {
            return Err(ContextError::TooMany { path: path.to_owned(), most: self.bounds.entries });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_entries_are_counted_and_the_largest_file_is_named() {
        let mut counted = Counted::new(Bounds { bytes: 100, entries: 3 });
        counted.add(Path::new("a"), 60).expect("room");
        let full = counted.add(Path::new("b"), 50).expect_err("full");
        assert!(matches!(full, ContextError::TooLarge { largest, size: 60, .. } if largest == Path::new("a")));
        let mut counted = Counted::new(Bounds { bytes: 100, entries: 1 });
        counted.add(Path::new("a"), 0).expect("room");
        assert!(matches!(counted.add(Path::new("b"), 0), Err(ContextError::TooMany { most: 1, .. })));
    }

    #[test]
    fn the_user_raises_the_bounds() {
        let raised = Bounds::of(|name| (name == "LIAN_CONTEXT_GB").then(|| "2000".to_owned()));
        assert_eq!((raised.bytes, raised.entries), (2_000_000_000_000, 500_000));
    }
}
