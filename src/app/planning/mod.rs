//! From a catalog's files to a plan and the work that carries it out. Not responsible for: deciding what is rebuilt (see
//! `domain::plan`), executing.

pub mod forecast;
pub mod pins;
pub mod platforms;
pub mod prepare;
pub mod preview;
pub mod specs;
pub mod survey;
pub mod target_platforms;
