//! What tests of a run share: jobs, steps and services as plain as they can be. Not responsible for: what a test is
//! about.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Job, RunServices};
use crate::domain::base::{LayerName, Platform};
use crate::domain::life::{Placement, StepSpec};
use crate::domain::model::{ImageName, KeyParts};
use crate::domain::ports::fakes::{Forgetful, Generous, Reached, Still};
use crate::domain::ports::{BuildRequest, Builder, ImageStore, samples};

/// The job of a layer without parents.
pub fn job(parts: KeyParts) -> Job {
    Job {
        image: ImageName::new("test", &parts.layer),
        request: BuildRequest { platforms: parts.platforms.clone(), ..samples::build_request() },
        parents: Vec::new(),
        key: parts.key(),
        parts,
        forced: false,
        listing: samples::listing(),
        tools: Vec::new(),
        artifact_paths: Vec::new(),
    }
}

/// A step that must be built.
pub fn step_spec(layer: LayerName, parents: Vec<LayerName>, platform: Platform) -> StepSpec {
    let place = Placement { platform, namespace: String::new() };
    StepSpec { layer, parents, reuse: None, place, sizes: vec![samples::size()] }
}

/// Services that answer at once, but for these two.
pub fn services(builder: Arc<dyn Builder>, images: Arc<dyn ImageStore>) -> RunServices {
    RunServices {
        provider: Arc::new(Generous),
        runners: Arc::new(Reached(builder)),
        images,
        contexts: Arc::new(Still),
        journal: Arc::new(Forgetful),
        project_root: PathBuf::new(),
        max_lifetime: Duration::from_secs(3600),
    }
}
