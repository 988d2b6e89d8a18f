//! A client for one OCI registry: requests with login or token, and retries. Not responsible for: which images are
//! requested.

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
