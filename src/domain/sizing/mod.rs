//! Chooses the size of runner that a step asks for. The first source with an answer decides: the explicit size, then
//! the language's default. Measured history will come between the two. Not responsible for: reading files, asking
//! providers.

mod ladder;
mod platform;
mod resolve;
mod tables;

pub use ladder::{LadderError, ladder, named};
pub use platform::runner_platform;
pub use resolve::{SizingError, resolve, wanted};
pub use tables::{
    Defaults, LANGUAGES, OTHER_LANGUAGES, SizeAlias, TIERS, Tier, language_default, smallest_fitting, tier,
};
