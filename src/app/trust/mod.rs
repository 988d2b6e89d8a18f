//! What a project's files want of the user's world, and what the user grants (ADR-021). What comes from the user (flags,
//! variables, the user's configuration) needs no grant. Not responsible for: asking a person (the caller's `ask`).

mod collect;
mod demand;
mod error;
mod grants;
mod own;
mod peers;
mod policy;
mod user_config;
mod want;

pub use collect::{Purpose, wants};
pub use demand::{
    demand, is_granted, is_missing, place_of, record_all, refusals, refused, sources, unasked, with_granted_images,
};
pub use error::TrustError;
pub use grants::{Grant, exported, read as read_grants, revoke};
pub use policy::{Ask, Given, Trust};
pub use user_config::recorded_endpoint;
pub use want::{Kind, Want};
