//! OpenAPI 3.1 description of the service. Not responsible for: answering requests.

use serde_json::{Value, json};

use super::request::MIN_TTL_S;

/// Path of the description.
pub const PATH: &str = "/api/v1/openapi.json";
/// Path of the leases.
pub const POOL: &str = "/api/v1/vm-pool";
/// Path of the offers.
pub const OFFERS: &str = "/api/v1/offers";

/// The description.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "lian-build VM pool",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Leases runners. A lease ends when it is given back or expires; the pool then destroys the machine."
        },
        "security": [{ "bearer": [] }],
        "paths": paths(),
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas()
        }
    })
}

fn paths() -> Value {
    let id = json!({ "name": "lease_id", "in": "path", "required": true, "schema": { "type": "string" } });
    json!({
        "/api/v1/vm-pool": { "post": lease(), "get": list(), "delete": give_back_by_key() },
        "/api/v1/vm-pool/{lease_id}": {
            "get": {
                "operationId": "showLease", "summary": "Shows a lease", "parameters": [id],
                "responses": answers(&[("200", "Lease"), ("401", "Problem"), ("403", "Problem"), ("404", "Problem")])
            },
            "delete": {
                "operationId": "giveBack",
                "summary": "Gives a lease back; what is gone already is given back",
                "parameters": [id],
                "responses": with_nothing(&[("202", "Lease"), ("401", "Problem"), ("403", "Problem")])
            }
        },
        "/api/v1/vm-pool/{lease_id}/renew": {
            "post": {
                "operationId": "renewLease",
                "summary": "Moves a lease's end to ttl_s from now, at most to the pool's longest life",
                "parameters": [id],
                "requestBody": content("Renewal"),
                "responses": answers(&[
                    ("200", "Lease"), ("400", "Problem"), ("401", "Problem"), ("403", "Problem"), ("404", "Problem"),
                    ("409", "Problem"), ("410", "Problem"), ("422", "Problem")
                ])
            }
        },
        "/api/v1/offers": {
            "get": {
                "operationId": "listOffers", "summary": "Lists the sizes that there are, smallest first",
                "responses": answers(&[("200", "Offers"), ("401", "Problem"), ("503", "Problem")])
            }
        },
        PATH: {
            "get": {
                "operationId": "describe", "summary": "This description", "security": [],
                "responses": { "200": { "description": "OpenAPI 3.1" } }
            }
        },
        "/healthz": {
            "get": {
                "operationId": "health", "summary": "Whether the service and its ledger work", "security": [],
                "responses": { "200": { "description": "It works" }, "503": answer("Problem") }
            }
        },
        "/metrics": {
            "get": {
                "operationId": "metrics", "summary": "Counters, in Prometheus' text form",
                "responses": {
                    "200": { "description": "Counters", "content": { "text/plain": { "schema": { "type": "string" } } } },
                    "401": answer("Problem")
                }
            }
        }
    })
}

fn key(place: &str, name: &str) -> Value {
    json!({
        "name": name, "in": place, "required": true,
        "description": "The caller's own name for the lease",
        "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" }
    })
}

fn lease() -> Value {
    json!({
        "operationId": "leaseMachine",
        "summary": "Leases a machine and waits until it is granted, which may take minutes",
        "description": "The same key with the same body answers the same lease. A key whose lease ended is answered 410.",
        "parameters": [key("header", "Idempotency-Key")],
        "requestBody": content("LeaseRequest"),
        "responses": answers(&[
            ("201", "Lease"), ("200", "Lease"), ("400", "Problem"), ("401", "Problem"), ("403", "Problem"),
            ("408", "Problem"), ("409", "Problem"), ("410", "Problem"), ("413", "Problem"), ("422", "Problem"),
            ("429", "Problem"), ("501", "Problem"), ("503", "Problem")
        ])
    })
}

fn list() -> Value {
    json!({
        "operationId": "listLeases", "summary": "Lists the leases of the caller's workspaces, oldest first",
        "responses": answers(&[("200", "Leases"), ("401", "Problem")])
    })
}

fn give_back_by_key() -> Value {
    json!({
        "operationId": "giveBackByKey",
        "summary": "Gives the lease of an idempotency key back; a later request with the key makes no machine",
        "parameters": [key("query", "idempotency_key")],
        "responses": with_nothing(&[("202", "Lease"), ("400", "Problem"), ("401", "Problem")])
    })
}

fn content(schema: &str) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
    json!({ "required": true, "content": { "application/json": { "schema": schema } } })
}

fn answer(schema: &str) -> Value {
    let mut answer = content(schema);
    let fields = answer.as_object_mut().expect("invariant: content is an object");
    fields.remove("required");
    fields.insert("description".to_owned(), json!(schema));
    answer
}

fn answers(of: &[(&str, &str)]) -> Value {
    of.iter().map(|(status, schema)| ((*status).to_owned(), answer(schema))).collect()
}

fn with_nothing(of: &[(&str, &str)]) -> Value {
    let mut answers = answers(of);
    answers["204"] = json!({ "description": "It is gone" });
    answers
}

fn schemas() -> Value {
    let platform = platform();
    json!({
        "LeaseRequest": {
            "type": "object", "additionalProperties": false,
            "required": ["workspace", "cpu", "memory_gb", "platform", "ttl_s", "ssh_public_key"],
            "properties": {
                "workspace": { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" },
                "cpu": whole(1, "At least so many virtual CPUs"),
                "memory_gb": whole(1, "At least so much memory, GB"),
                "platform": platform,
                "ttl_s": whole(MIN_TTL_S, "For how long, seconds"),
                "ssh_public_key": { "type": "string", "description": "Who may log in: `ssh-ed25519 AAAA…`" }
            }
        },
        "Renewal": {
            "type": "object", "additionalProperties": false, "required": ["ttl_s"],
            "properties": { "ttl_s": whole(MIN_TTL_S, "From now, seconds") }
        },
        "Lease": lease_schema(),
        "Leases": listed("leases", "Lease"),
        "Offer": {
            "type": "object", "required": ["runner_type", "cpu", "memory_gb", "platform"],
            "properties": {
                "runner_type": { "type": "string" }, "cpu": whole(1, "Virtual CPUs"), "memory_gb": whole(1, "GB"),
                "platform": platform,
                "price": {
                    "type": ["object", "null"],
                    "properties": { "currency": { "type": "string" }, "hourly_micros": whole(0, "Millionths") }
                }
            }
        },
        "Offers": listed("offers", "Offer"),
        "Problem": {
            "type": "object", "required": ["error"],
            "properties": { "error": {
                "type": "object", "required": ["code", "message", "help"],
                "properties": {
                    "code": { "type": "string" }, "message": { "type": "string" }, "help": { "type": "string" }
                }
            } }
        }
    })
}

fn lease_schema() -> Value {
    let optional = |kind: &str, what: &str| json!({ "type": [kind, "null"], "description": what });
    let time = json!({ "type": "string", "format": "date-time" });
    json!({
        "type": "object", "required": ["lease_id", "workspace", "state", "created_at", "expires_at"],
        "properties": {
            "lease_id": { "type": "string" },
            "workspace": { "type": "string" },
            "state": { "type": "string", "enum": ["asked", "held", "releasing", "stuck"] },
            "address": optional("string", "IPv4, IPv6 or a name"),
            "port": optional("integer", "sshd's port"),
            "user": optional("string", "Who logs in"),
            "host_key": optional("string", "The only host key to accept"),
            "runner_type": optional("string", "The provider's name for the size"),
            "cpu": whole(1, "Virtual CPUs, granted"),
            "memory_gb": whole(1, "Memory, GB, granted"),
            "platform": platform(),
            "created_at": time,
            "expires_at": time,
            "failures": whole(0, "How often giving it back failed"),
            "fault": optional("string", "Why it failed last"),
            "idempotency_key": { "type": "string", "description": "Of the caller's own leases only" }
        }
    })
}

fn whole(least: u64, what: &str) -> Value {
    json!({ "type": "integer", "minimum": least, "description": what })
}

fn platform() -> Value {
    json!({ "type": "string", "enum": ["linux/amd64", "linux/arm64"] })
}

fn listed(field: &str, schema: &str) -> Value {
    let items = json!({ "$ref": format!("#/components/schemas/{schema}") });
    json!({ "type": "object", "required": [field], "properties": { field: { "type": "array", "items": items } } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::http::routes;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let mut described: Vec<(String, String)> = Vec::new();
        for (path, methods) in paths {
            let methods = methods.as_object().expect("methods").keys();
            described.extend(methods.map(|method| (method.clone(), path.clone())));
        }
        let mut answered: Vec<(String, String)> =
            routes().into_iter().map(|(method, path, _)| (method.to_owned(), path.to_owned())).collect();
        described.sort();
        answered.sort();
        assert_eq!(described, answered);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let text = document.to_string();
        for after in text.split("#/components/schemas/").skip(1) {
            let name = after.split('"').next().unwrap_or("");
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
