//! The names of a file's stages. Not responsible for: what a word means that is none of them.

use std::collections::HashMap;

#[cfg(test)]
use super::budget::done;
use super::steps::Dockerfile;

/// The stages of each name, in ascending order. Several may have the same.
pub(super) struct StageNames<'a>(HashMap<&'a str, Vec<usize>>);

impl<'a> StageNames<'a> {
    pub fn of(file: &'a Dockerfile) -> Self {
        let mut names: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, stage) in file.stages.iter().enumerate() {
            if let Some(name) = &stage.name {
                names.entry(&name.text).or_default().push(index);
            }
        }
        Self(names)
    }

    /// The last one, which `COPY --from` and the target mean.
    pub fn last(&self, name: &str) -> Option<usize> {
        self.0.get(name)?.last().copied()
    }

    /// The last one before a stage, which its `FROM` means.
    pub fn before(&self, name: &str, stage: usize) -> Option<usize> {
        let found = self.0.get(name)?;
        let earlier = found.partition_point(|index| {
            #[cfg(test)]
            done::add(1);
            *index < stage
        });
        found[..earlier].last().copied()
    }
}
