//! The folders of lian-build on a runner. Not responsible for: their contents.

/// The build context. The path is fixed, because compiler caches contain absolute paths.
pub const WORKSPACE: &str = "/workspace";
/// In the runner's memory, for private files.
pub const PRIVATE: &str = "/run/lian-build";
/// On the runner's disk, for files of a build that may not fit in memory.
pub const DISK: &str = "/var/lib/lian-build";
