//! Which runner a step asks for. The first tier that has an answer decides: what was said explicitly, then the
//! language's default; measured history will stand between the two. Not responsible for: reading files, asking providers.

mod ladder;
mod platform;
mod resolve;
mod tables;

pub use ladder::{LadderError, ladder, named};
pub use platform::runner_platform;
pub use resolve::{SizingError, resolve, wanted};
pub use tables::{Defaults, LANGUAGES, OTHER_LANGUAGES, TIERS, Tier, language_default, smallest_fitting, tier};
