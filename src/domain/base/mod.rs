//! Ids, digests, platforms, times and text spans: values that know nothing of layers.

mod count;
mod digest;
mod foreign;
mod ids;
#[cfg(test)]
pub mod mutated;
mod names;
mod platform;
mod span;
mod time;

pub use count::{agrees, counted};
pub use digest::{Digest, DigestError, Hasher};
pub use foreign::{harmless, harmless_json, output_line, shown, shown_lines, shown_source};
pub use ids::{LayerName, LeaseId, RunId};
pub use names::nearest;
pub use platform::{Platform, Platforms};
pub use span::{SourceLocation, Span};
pub use time::{Timestamp, human_bytes, human_duration};
