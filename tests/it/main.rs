//! The one integration binary: it links once.

mod buildkit;
mod buildkit_daemon;
mod buildkit_verify;
mod nickel;
mod support;
