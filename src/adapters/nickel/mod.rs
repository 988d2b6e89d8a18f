//! Evaluates catalogs and workflows written in Nickel, in child processes with limits, so that no file can hang, fill
//! or crash the command. Not responsible for: whether layers fit together.
//!
//! - A request goes to child processes (`lian-build __evaluate`), each with one context for many files. If a file kills
//!   its child, the file is reported and another child continues with the others.
//! - Before anything is evaluated, imports are followed through the syntax trees: they must stay inside the project.
//! - `schemas/*.ncl` and `defaults/*.ncl` are embedded, so that every catalog can import them.
//! - `--set PATH=VALUE` merges a value of priority `force`; PATH is `<layer>.<field>…`, or `catalog.<field>…`.
//! - Codes: `lian::nickel::` `parse`, `type`, `contract`, `missing_field`, `unknown_field`, `import_not_found`,
//!   `import_outside`, `import_cycle`, `eval`, `limit`, `crash`, `unreadable`, `path`, `setting`; `no_catalog`,
//!   `no_workflow`, `process`.

mod advice;
mod bindings;
mod child;
mod embedded;
mod error;
mod evaluator;
mod faults;
mod guard;
mod interpreter;
mod locate;
mod places;
mod pool;
mod protocol;
mod schemas;
mod settings;
mod syntax;

pub use child::{child_main, is_child};
pub use embedded::embedded;
pub use error::NickelError;
pub use evaluator::{Evaluator, LoadRequest, Loaded, LoadedSpecs, LoadedWorkflow, resolve_path};
pub use pool::Limits;
pub use schemas::{ProviderContract, ProviderSchema, Schemas};
