//! Evaluates catalogs and workflows written in Nickel, inside lian-build's own binary but in processes of their own with
//! limits, so that no file can hang, fill or crash the command. Not responsible for: judging whether layers fit together.
//!
//! - A request goes to children (`lian-build __evaluate`), each with one context for many files; a file that kills its
//!   child is named, and the others go on in another child.
//! - Before anything is evaluated, imports are followed through the syntax trees: they stay inside the project.
//! - `schemas/*.ncl` and `defaults/*.ncl` are embedded and found by every catalog anywhere.
//! - `--set PATH=VALUE` merges a value of priority `force`; PATH is `<layer>.<field>…`, or `catalog.<field>…`.
//! - Codes: `lian::nickel::` `parse`, `type`, `contract`, `missing_field`, `unknown_field`, `import_not_found`,
//!   `import_outside`, `import_cycle`, `eval`, `limit`, `crash`, `unreadable`, `path`, `setting`; `no_catalog`,
//!   `no_workflow`, `process`.

mod advice;
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
