//! Output for people and programs: diagnostics, plans, progress, results. Not responsible for: writing it, except in
//! the sinks of a running apply; all other functions return text.

mod clip;
mod diagnostics;
mod explained;
mod faults;
mod gives;
mod graphs;
mod json;
mod leases;
mod lines;
mod live;
mod logs;
mod near;
mod outlet;
mod plain;
mod plan;
mod progress;
mod run_view;
mod runs;
mod schedule;
mod screen;
mod shortened;
mod style;
mod terminal;
mod text;

pub use diagnostics::{
    at_the_edges, check_json, diagnostic_rows, draw_diagnostics, draw_error, error_json, summary_line,
};
pub use explained::Explained;
pub use gives::{GivenRow, gives_json, gives_lines};
pub use graphs::{dot, mermaid};
pub use json::{JSON, json_events, json_text};
pub use leases::{LeaseRow, leases_json, leases_table};
pub use live::aside;
pub use logs::{LogForm, LogStop, copy_log, logs_json};
pub use outlet::Outlet;
pub use plan::{plan_json, plan_table};
pub use progress::{ProgressOptions, TERMINAL};
pub use runs::{runs_json, runs_table};
pub use screen::{end_errors, result_lines, results, say, say_as_it_is, say_at_once, whisper};
pub use style::Style;
pub use terminal::terminal;
pub use text::{clean_lines, count};
