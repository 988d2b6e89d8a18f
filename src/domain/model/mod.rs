//! Plain data that mirrors `schemas/`, and that the modules exchange. Not responsible for: behaviour, apart from
//! parsing and formatting itself.

mod catalog;
mod diagnostic;
mod directives;
mod dockerfile;
mod event;
mod fault;
mod image;
mod image_name;
mod key;
mod layer;
mod lock;
mod plan;
mod provider;
mod run;
mod size;
mod workflow;

pub use catalog::{Catalog, CatalogSettings, Declared};
pub use diagnostic::{Diagnostic, Label, Severity, Sources};
pub use directives::{Actor, Artifact, CachePolicy, Disposition, LIBRARIES};
pub use dockerfile::{
    DockerfileFacts, DockerfileFault, DockerfileFaultKind, DockerfileRead, ImageUse, LintFinding, MountPlace,
    StageName, StagePlatform, Trigger, UseKind,
};
pub use event::{BuildEvent, Event, EventBody, Measured, Outcome, RunOutcome, StepEnd, VertexState};
pub use fault::{Classified, Fault, FaultClass, FaultKind};
pub use image::{ImageRef, ImageRefError};
pub use image_name::{ImageName, LATEST, TaggedName};
pub use key::{FileEntry, FileKind, ImageRecord, KEY_LABEL, KeyParts, LayerKey, Listing, ParentKey};
pub use layer::{Base, Kind, Layer, Secret, Tool};
pub use lock::{Lock, Pin};
pub use plan::{Action, Forecast, Plan, PlanSummary, PlannedStep, Unusable, Why, WhyKind};
pub use provider::{
    ContextTransfer, ProviderName, ProviderNameError, ProviderSettings, RegistrySettings, RunnerReuse, RunnerSettings,
};
pub use run::{RunRecord, RunState};
pub use size::{BuildSpec, Offer, Price, Size};
pub use workflow::{RegistryProvider, Workflow};
