//! Chooses the progress sink: a live view on a terminal, plain lines elsewhere. Not responsible for: the content of
//! the lines.

use std::collections::BTreeMap;

use super::live::Live;
use super::plain::Plain;
use super::progress::{Progress, ProgressOptions};
use crate::domain::base::LayerName;
use crate::domain::model::Plan;
use crate::domain::ports::Sink;

/// A sink that shows the progress of this plan, and has `out` write its result. `ladders` are the runner types that each
/// layer may get, smallest first.
pub fn terminal(
    plan: &Plan,
    look: ProgressOptions,
    ladders: BTreeMap<LayerName, Vec<String>>,
    out: fn(&str),
) -> Box<dyn Sink> {
    let mut progress = Progress::new(plan, look);
    progress.board.ladders = ladders;
    if look.style.live && !look.quiet {
        Box::new(Live::start(progress, out))
    } else {
        Box::new(Plain::new(progress, out))
    }
}
