//! The API over HTTP, as strict as the real one: rights, parameters, locks and tasks. Not responsible for: what the provider does not
//! ask for, with 501.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State as Ours};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use lian_build::domain::base::Timestamp;
use lian_build::system::http::http_date;
use lian_build::system::now;
use serde_json::{Map, Value, json};

use super::state::{Config, NODE, POOL, Seen, Shared, State, TEMPLATE, Trick, Vm, Work, decode, is_public_key};
use super::tls::Cut;
use super::{TOKEN, agent};

/// Why something is refused.
pub struct No {
    status: u16,
    message: String,
    errors: Map<String, Value>,
}

impl From<String> for No {
    /// What `die` does.
    fn from(message: String) -> Self {
        Self { status: 500, message, errors: Map::new() }
    }
}

fn no(status: u16, message: impl Into<String>) -> No {
    No { status, message: message.into(), errors: Map::new() }
}

fn bad(name: &str, error: &str) -> No {
    let errors = Map::from_iter([(name.to_owned(), json!(format!("{error}\n")))]);
    No { status: 400, message: "Parameter verification failed.".to_owned(), errors }
}

type Answer = Result<Value, No>;

/// Answers one request.
pub async fn handle(
    Ours(shared): Ours<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared.tick().await;
    let form = String::from_utf8(body.to_vec()).expect("a form");
    let encoded = if method == Method::POST { form.as_str() } else { uri.query().unwrap_or("") };
    let url = reqwest::Url::parse(&format!("http://host/?{encoded}")).expect("a query");
    let fields: Config = url.query_pairs().into_owned().collect();
    let seen = Seen { method: method.to_string(), path: uri.path().to_owned(), fields: fields.clone() };
    let is_held = |seen: &Seen| {
        let held = shared.state().held;
        held.is_some_and(|(method, end)| seen.method == method && seen.path.ends_with(end))
    };
    let waits = is_held(&seen);
    shared.state().requests.push(seen.clone());
    while waits && is_held(&seen) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut state = shared.state();
    let answer = match headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        None => Err(no(401, "No ticket")),
        Some(value) if value != format!("PVEAPIToken={TOKEN}") => Err(no(401, "invalid token value!")),
        Some(_) => match state.trick(method.as_str(), uri.path()) {
            Some(Trick::Refuse(status, message)) => Err(no(status, message)),
            Some(Trick::Fail(exit)) => route(&mut state, &method, uri.path(), &fields, Some(exit.to_owned())),
            Some(Trick::Rename(id, name)) => {
                state.there(id).expect("a machine").config.insert("name".to_owned(), name.to_owned());
                route(&mut state, &method, uri.path(), &fields, None)
            }
            Some(Trick::Lose) => {
                cut.now();
                route(&mut state, &method, uri.path(), &fields, None)
            }
            None => route(&mut state, &method, uri.path(), &fields, None),
        },
    };
    let date = now().0.saturating_add_signed(state.clock * 1000);
    let date = http_date(Timestamp(date)).expect("a date").parse().expect("a header");
    let mut response = respond(answer, state.terse);
    response.headers_mut().insert(header::DATE, date);
    response
}

fn respond(answer: Answer, terse: bool) -> Response {
    let refused = match answer {
        Ok(data) => return Json(json!({ "data": data })).into_response(),
        Err(refused) => refused,
    };
    let mut body = json!({ "data": null });
    if !refused.errors.is_empty() {
        body["errors"] = Value::Object(refused.errors);
    }
    if !terse {
        body["message"] = json!(format!("{}\n", refused.message));
    }
    let status = StatusCode::from_u16(refused.status).expect("a status");
    let mut response = (status, Json(body)).into_response();
    let phrase = hyper::ext::ReasonPhrase::try_from(refused.message).expect("a phrase");
    response.extensions_mut().insert(phrase);
    response
}

fn route(state: &mut State, method: &Method, path: &str, fields: &Config, fate: Option<String>) -> Answer {
    let unknown = || no(501, format!("Method '{method} {path}' not implemented"));
    if (method.as_str(), path) == ("GET", "/api2/json/cluster/nextid") {
        return next_id(state, fields);
    }
    let below = path.strip_prefix("/api2/json/nodes/").ok_or_else(unknown)?;
    let parts: Vec<String> = below.split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if parts[0] != NODE {
        let at = parts[0];
        return Err(no(500, format!("hostname lookup '{at}' failed - failed to get address info for: {at}")));
    }
    let id = |text: &str| text.parse::<u32>().map_err(|_| bad("vmid", "type check ('integer') failed"));
    match (method.as_str(), &parts[1..]) {
        ("GET", ["qemu"]) => Ok(list(state)),
        ("GET", ["tasks"]) => Ok(tasks(state, fields)),
        ("GET", ["tasks", task, "status"]) => status(state, task),
        ("GET", ["qemu", vm, "config"]) => config(state, id(vm)?),
        ("GET", ["qemu", vm, "status", "current"]) => current(state, id(vm)?),
        ("GET", ["qemu", vm, "agent", command]) => {
            let vm = id(vm)?;
            may(state, vm)?;
            Ok(agent::answer(state.there(vm)?, vm, command, fields)?)
        }
        ("POST", ["qemu", vm, "clone"]) => clone(state, id(vm)?, fields, fate),
        ("POST", ["qemu", vm, "config"]) => configure(state, id(vm)?, fields, fate),
        ("POST", ["qemu", vm, "status", "start"]) => start(state, id(vm)?, fields, fate),
        ("POST", ["qemu", vm, "status", "stop"]) => {
            let vm = id(vm)?;
            only(fields, &[])?;
            may(state, vm)?;
            state.there(vm)?;
            Ok(json!(state.begin("qmstop", vm, Work::Stop { id: vm }, fate)))
        }
        ("DELETE", ["qemu", vm]) => destroy(state, id(vm)?, fields, fate),
        _ => Err(unknown()),
    }
}

/// Whether an id is free in the whole cluster: whoever has a token may ask.
fn next_id(state: &State, fields: &Config) -> Answer {
    only(fields, &["vmid"])?;
    let id = fields.get("vmid").and_then(|id| id.parse::<u32>().ok()).ok_or_else(|| bad("vmid", "missing"))?;
    let taken = state.vms.contains_key(&id) || state.moved.contains(&id);
    if taken { Err(bad("vmid", &format!("VM {id} already exists"))) } else { Ok(json!(id.to_string())) }
}

/// Refuses parameters that the schema does not have.
fn only(fields: &Config, known: &[&str]) -> Result<(), No> {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            Err(bad(name, "property is not defined in schema and the schema does not allow additional properties"))
        }
    }
}

fn sees(state: &State, id: u32, vm: &Vm) -> bool {
    state.all_rights || id == TEMPLATE || vm.pool.as_deref() == Some(POOL)
}

/// Rights come before everything else: without them a machine that is there looks like one that is not.
fn may(state: &State, id: u32) -> Result<(), No> {
    let seen = state.all_rights || state.vms.get(&id).is_some_and(|vm| sees(state, id, vm));
    if seen { Ok(()) } else { Err(no(403, format!("Permission check failed (/vms/{id}, VM.Audit)"))) }
}

fn list(state: &State) -> Value {
    let shown = |vm: &Vm| vm.made.is_none_or(|made| made.elapsed() >= state.lag);
    let seen = state.vms.iter().filter(|(id, vm)| shown(vm) && sees(state, **id, vm));
    let line = |(id, vm): (&u32, &Vm)| {
        let name = if vm.get("name").is_empty() { format!("VM {id}") } else { vm.get("name").to_owned() };
        let status = if vm.running { "running" } else { "stopped" };
        let mut line = json!({ "vmid": id, "name": name, "status": status, "cpus": 1 });
        for key in ["tags", "lock"] {
            if let Some(value) = vm.config.get(key) {
                line[key] = json!(value);
            }
        }
        // Perl's truth.
        line["template"] = if vm.get("template") == "1" { json!(1) } else { json!("") };
        line
    };
    Value::Array(seen.map(line).collect())
}

fn tasks(state: &State, fields: &Config) -> Value {
    assert_eq!(fields.get("source").map(String::as_str), Some("active"), "the fake knows no archive");
    let wanted = fields.get("typefilter").map_or("", String::as_str);
    let active = state.tasks.iter().filter(|(_, task)| task.exit.is_none() && task.kind == wanted);
    let line = |(upid, task): (&String, &super::state::Task)| json!({ "upid": upid, "type": task.kind, "id": task.id.to_string(), "status": "RUNNING" });
    Value::Array(active.map(line).collect())
}

fn status(state: &State, upid: &str) -> Answer {
    let task = state.tasks.get(upid).ok_or_else(|| bad("upid", "no such task"))?;
    Ok(match &task.exit {
        None => json!({ "upid": upid, "status": "running", "type": task.kind }),
        Some(exit) => json!({ "upid": upid, "status": "stopped", "type": task.kind, "exitstatus": exit }),
    })
}

fn config(state: &mut State, id: u32) -> Answer {
    may(state, id)?;
    let vm = state.there(id)?;
    let mut config = json!(vm.config);
    config["digest"] = json!("0123456789abcdef0123456789abcdef01234567");
    Ok(config)
}

fn current(state: &mut State, id: u32) -> Answer {
    may(state, id)?;
    let vm = state.there(id)?;
    Ok(json!({ "vmid": id, "status": if vm.running { "running" } else { "stopped" }, "name": vm.get("name") }))
}

fn is_label(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !text.is_empty() && text.len() <= 63 && text.chars().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

fn clone(state: &mut State, id: u32, fields: &Config, fate: Option<String>) -> Answer {
    only(fields, &["newid", "name", "description", "full", "pool", "storage", "target", "format", "snapname"])?;
    let get = |name: &str| fields.get(name).map_or("", String::as_str);
    let new: u32 = get("newid").parse().map_err(|_| bad("newid", "type check ('integer') failed"))?;
    if !(100..=999_999_999).contains(&new) {
        return Err(bad("newid", "value out of range"));
    }
    if !get("name").split('.').all(is_label) {
        return Err(bad("name", "invalid format - value does not look like a valid DNS name"));
    }
    if !["", "0", "1"].contains(&get("full")) {
        return Err(bad("full", "type check ('boolean') failed"));
    }
    may(state, id)?;
    match fields.get("pool").map(String::as_str) {
        Some(POOL) => {}
        Some(pool) => return Err(no(500, format!("pool '{pool}' does not exist"))),
        None if state.all_rights => {}
        None => return Err(no(403, format!("Permission check failed (/vms/{new}, VM.Allocate)"))),
    }
    let mut made = state.there(id)?.config.clone();
    if state.vms.contains_key(&new) {
        return Err(no(500, format!("unable to create VM {new}: config file already exists")));
    }
    made.remove("template");
    made.insert("name".to_owned(), get("name").to_owned());
    if !get("description").is_empty() {
        made.insert("description".to_owned(), format!("{}\n", get("description")));
    }
    // Until it is done it has neither name nor pool.
    state.vms.insert(new, Vm::new(&[("lock", "clone"), ("description", "qmclone temporary file\n")]));
    let work = Work::Clone { id: new, config: made, pool: fields.get("pool").cloned() };
    Ok(json!(state.begin("qmclone", id, work, fate)))
}

fn configure(state: &mut State, id: u32, fields: &Config, fate: Option<String>) -> Answer {
    let known = ["sockets", "cores", "memory", "balloon", "ciuser", "sshkeys", "ipconfig0", "ciupgrade", "agent"];
    only(fields, &[&known[..], &["tags", "description", "name"]].concat())?;
    for name in ["sockets", "cores", "memory", "balloon"] {
        if fields.get(name).is_some_and(|value| value.parse::<u32>().is_err()) {
            return Err(bad(name, "type check ('integer') failed"));
        }
    }
    let keys = fields.get("sshkeys").map_or("", String::as_str);
    if !keys.chars().all(|c| c.is_ascii_alphanumeric() || "-%_.!~*'()".contains(c)) {
        return Err(bad("sshkeys", "invalid format - invalid urlencoded string"));
    }
    if fields.get("ipconfig0").is_some_and(|value| !value.starts_with("ip=")) {
        return Err(bad("ipconfig0", "invalid format"));
    }
    let mut changes = fields.clone();
    if let Some(tags) = changes.get_mut("tags") {
        let mut split: Vec<&str> = tags.split([';', ',', ' ']).collect();
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-+.".contains(c);
        if !split.iter().all(|tag| tag.chars().all(inside) && !tag.starts_with(['-', '+', '.']) && !tag.is_empty()) {
            return Err(bad("tags", "invalid format - value does not look like a valid tag"));
        }
        split.sort_unstable();
        *tags = split.join(";");
    }
    if let Some(description) = changes.get_mut("description") {
        description.push('\n');
    }
    may(state, id)?;
    if !decode(keys).lines().all(is_public_key) {
        return Err(no(500, "SSH public key validation error"));
    }
    state.there(id)?;
    Ok(json!(state.begin("qmconfig", id, Work::Configure { id, changes }, fate)))
}

fn start(state: &mut State, id: u32, fields: &Config, fate: Option<String>) -> Answer {
    only(fields, &["timeout"])?;
    may(state, id)?;
    if state.there(id)?.get("template") == "1" {
        return Err(no(500, "you can't start a vm if it's a template"));
    }
    Ok(json!(state.begin("qmstart", id, Work::Start { id }, fate)))
}

fn destroy(state: &mut State, id: u32, fields: &Config, fate: Option<String>) -> Answer {
    only(fields, &["purge", "destroy-unreferenced-disks"])?;
    may(state, id)?;
    if state.there(id)?.running {
        return Err(no(500, format!("VM {id} is running - destroy failed")));
    }
    Ok(json!(state.begin("qmdestroy", id, Work::Destroy { id }, fate)))
}
