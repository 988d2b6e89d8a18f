//! The folders that lian-build uses on a runner. Not responsible for: their contents.

/// The build context. The path is fixed, because compilers' caches hold absolute paths.
pub const WORKSPACE: &str = "/workspace";
/// In the runner's memory, for what nobody else may read.
pub const PRIVATE: &str = "/run/lian-build";
/// On the runner's disk, for what a build needs and memory may be too small for.
pub const DISK: &str = "/var/lib/lian-build";
