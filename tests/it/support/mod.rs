//! What tests share: one real thing of each kind. A missing one fails the test; nothing is skipped.

pub mod buildkitd;
pub mod clock;
pub mod cloud_init;
pub mod docker;
pub mod git;
pub mod hetzner;
pub mod lines;
pub mod machines;
pub mod project;
pub mod proxmox;
pub mod registry;
pub mod sandbox;
pub mod silencer;
