//! The OpenAPI 3.1 document, as the routes and types describe themselves: what all operations have in common, and which
//! statuses each may answer with. Not responsible for: the operations (`http`), bodies (`fields`, `views`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type};
use utoipa::{IntoResponses, OpenApi};

use super::fields::schema;
use super::problem::{KIND, ProblemView};
use super::request::{lease_fields, renewal_fields};

/// Path of the description.
pub(super) const PATH: &str = "/api/v1/openapi.json";
/// Path of the leases.
pub(super) const POOL: &str = "/api/v1/vm-pool";
/// Path of the offers.
pub(super) const OFFERS: &str = "/api/v1/offers";
/// Paths that need no token: they expose no data of a caller.
pub(super) const OPEN: [&str; 2] = ["/healthz", PATH];

/// What is said of the whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "lian-build VM pool",
        description = "Leases runners. A lease ends when it is given back or expires; the pool then destroys the machine.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemView))
)]
pub(super) struct Whole;

/// What each status of a problem means, whatever the operation.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is malformed: its body is no JSON object, or a parameter is missing or makes no sense",
        401 => "There is no bearer token, or it is not known",
        403 => "The token is not for the workspace",
        404 => "There is no such lease, or it is of a workspace that the token is not for",
        406 => "The `Accept` header takes nothing that this path answers with",
        408 => "The request did not come in time, or gave way to others of the same caller",
        409 => "The provider refuses, or the lease is not held",
        410 => "The lease is over",
        413 => "The body is longer than 64 KiB",
        415 => "The body is not said to be `application/json`",
        422 => "Fields are wrong, or the idempotency key was used with another body",
        429 => {
            "The caller has as many requests under way, or the pool, the workspace or the token as many leases, as it may have"
        }
        501 => "The pool cannot lease such a machine at all",
        503 => "The service or the provider cannot answer now",
        _ => "A problem",
    }
}

fn problem(status: u16) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let mut response = ResponseBuilder::new().description(meaning(status)).content(KIND, content);
    let header = |kind, about: &str| {
        HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(kind).build()))
            .description(Some(about))
            .build()
    };
    if matches!(status, 429 | 503) {
        response = response.header("Retry-After", header(Type::Integer, "When to try again, in seconds"));
    }
    if status == 401 {
        response = response.header("WWW-Authenticate", header(Type::String, "`Bearer`"));
    }
    RefOr::T(response.build())
}

/// Problems that operations share, by their statuses.
macro_rules! problems {
    ($($(#[$about:meta])* $name:ident: $($status:literal)+;)+) => {$(
        $(#[$about])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$($status),+].into_iter().map(|status| (status.to_string(), problem(status))).collect()
            }
        }
    )+};
}

problems! {
    /// Of every operation.
    Always: 406 503;
    /// Of every operation that needs a token.
    Guarded: 401 429;
    /// Of operations that read a body.
    OfBody: 400 408 413 415 422;
    /// Of operations that read a parameter.
    Malformed: 400;
    /// Of operations on one lease.
    Unknown: 404;
    /// Of operations for a workspace.
    Forbidden: 403;
    /// Of operations that need a lease that lives.
    Ended: 409 410;
    /// Of operations that ask the provider.
    Refused: 409;
    /// Of requests for a machine.
    Impossible: 501;
}

/// The whole document. `max_ttl_s` is the longest life of a lease; without `tokens` nobody shows one.
pub(super) fn finished(described: &utoipa::openapi::OpenApi, max_ttl_s: u64, tokens: bool) -> Value {
    let mut document = serde_json::to_value(described).expect("invariant: the description is plain data");
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    let bodies = [("LeaseRequest", schema(&lease_fields(max_ttl_s))), ("Renewal", schema(&renewal_fields(max_ttl_s)))];
    for (name, body) in bodies {
        document["components"]["schemas"][name] = body;
    }
    for operation in operations(&mut document) {
        if let Some(body) = operation.get_mut("requestBody") {
            body["required"] = json!(true);
        }
    }
    if tokens {
        let about = "A token that the pool's operator gave you";
        document["components"]["securitySchemes"] =
            json!({ "bearer": { "type": "http", "scheme": "bearer", "description": about } });
        document["security"] = json!([{ "bearer": [] }]);
    } else {
        withdraw_tokens(&mut document);
    }
    document
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut)
}

/// On a socket file nobody shows a token.
fn withdraw_tokens(document: &mut Value) {
    for operation in operations(document) {
        for status in ["401", "403"] {
            operation["responses"].as_object_mut().map(|responses| responses.remove(status));
        }
    }
}

/// What the document promises, for those who keep it.
#[derive(Debug, Default)]
pub(super) struct Contract {
    statuses: BTreeMap<(String, String), BTreeSet<u16>>,
    bodies: BTreeSet<(String, String)>,
}

impl Contract {
    /// The promises of a document.
    pub fn of(document: &Value) -> Self {
        let mut contract = Self::default();
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                let place = (method.to_uppercase(), path.clone());
                let statuses = operation["responses"].as_object().into_iter().flat_map(Map::keys);
                contract.statuses.insert(place.clone(), statuses.filter_map(|status| status.parse().ok()).collect());
                if !operation["requestBody"].is_null() {
                    contract.bodies.insert(place);
                }
            }
        }
        contract
    }

    /// Whether an operation reads a body.
    pub fn takes_body(&self, method: &str, path: &str) -> bool {
        self.bodies.contains(&(method.to_owned(), path.to_owned()))
    }

    /// Whether there is such an operation. `HEAD` is answered as `GET` is.
    pub fn knows(&self, method: &str, path: &str) -> bool {
        self.statuses_of(method, path).is_some()
    }

    /// Whether an operation may answer with a status.
    pub fn promises(&self, method: &str, path: &str, status: u16) -> bool {
        self.statuses_of(method, path).is_some_and(|statuses| statuses.contains(&status))
    }

    fn statuses_of(&self, method: &str, path: &str) -> Option<&BTreeSet<u16>> {
        let method = if method == "HEAD" { "GET" } else { method };
        self.statuses.get(&(method.to_owned(), path.to_owned()))
    }
}
