//! The parameters of requests: how each is read and described. Not responsible for: bodies (`request`).

use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

use super::machine::{KEY_MOST, KeyIn, read_key};
use super::problem::Problem;

fn described(name: &str, place: ParameterIn, about: &str, schema: ObjectBuilder) -> Vec<Parameter> {
    let schema = schema.schema_type(Type::String).build();
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(Required::True);
    vec![parameter.description(Some(about)).schema(Some(schema)).build()]
}

fn key_schema() -> ObjectBuilder {
    let schema = ObjectBuilder::new().min_length(Some(1)).max_length(Some(KEY_MOST)).pattern(Some("^[!-~]+$"));
    schema.examples([serde_json::json!("run-7f3-app-1")])
}

/// The id of a lease in a path. Any text is read: one that is no id is the id of no lease.
pub(super) struct LeaseId(pub Path<String>);

impl<S: Send + Sync> FromRequestParts<S> for LeaseId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // What is not UTF-8 is the id of no lease, too.
        Ok(Self(Path::from_request_parts(parts, state).await.unwrap_or_else(|_| Path(String::new()))))
    }
}

impl IntoParams for LeaseId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new().pattern(Some("^pool-[0-9a-f]{24}$"));
        let schema = schema.examples([serde_json::json!("pool-0123456789abcdef01234567")]);
        described("lease_id", ParameterIn::Path, "The pool's name for the lease", schema)
    }
}

/// The header `Idempotency-Key`.
pub(super) struct KeyHeader;

impl IntoParams for KeyHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        described("Idempotency-Key", ParameterIn::Header, "The caller's own name for the lease", key_schema())
    }
}

/// The parameter `?idempotency_key=`.
pub(super) struct KeyQuery;

impl IntoParams for KeyQuery {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        described("idempotency_key", ParameterIn::Query, "The caller's own name for the lease", key_schema())
    }
}

/// The idempotency key of a query that holds nothing else.
pub(super) fn only_key(uri: &Uri) -> Result<String, Problem> {
    let query = uri.query().unwrap_or("");
    // Two, or a misspelt one, are no key that the caller can have meant.
    let mut pairs = reqwest::Url::parse("http://pool").map(|mut url| {
        url.set_query(Some(query));
        url.query_pairs()
            .into_owned()
            .filter(|(name, value)| !(name.is_empty() && value.is_empty()))
            .take(2)
            .collect::<Vec<_>>()
    });
    let pairs = pairs.as_mut().map(std::mem::take).unwrap_or_default();
    match pairs.as_slice() {
        [] => read_key(None, KeyIn::Query),
        [(name, key)] if name == "idempotency_key" => read_key(Some(key), KeyIn::Query),
        _ => {
            let message = "the query holds something else than one `idempotency_key`";
            Err(Problem::new(400, "query", message, "DELETE /api/v1/vm-pool?idempotency_key=KEY names the lease"))
        }
    }
}
