//! The client of one OCI registry: requests with whatever login or token it asks for, tried again where that may help.
//! Not responsible for: which images are asked for, and why.

mod api_error;
mod auth;
mod body;
mod pull;
mod push;
mod request;

pub(super) use api_error::{ApiError, Cause};
pub(super) use auth::Access;
pub(super) use pull::RawManifest;
pub(super) use push::Blob;
pub(super) use request::{Client, Endpoint};
