//! The places of what a layer uses: in its own Dockerfile, or in a trigger (`ONBUILD`) of a parent that runs there. Not
//! responsible for: what is wrong with it.

use super::layer_index::LayerIndex;
use crate::domain::base::{LayerName, SourceLocation, Span};
use crate::domain::model::{Diagnostic, DockerfileRead, Trigger};

pub(super) struct Places<'a> {
    pub indexed: &'a LayerIndex<'a>,
    pub read: &'a DockerfileRead,
}

impl Places<'_> {
    /// The place in the layer's own Dockerfile.
    pub fn own(&self, span: Span) -> SourceLocation {
        SourceLocation { file: self.read.file.clone(), span }
    }

    /// The subject of a sentence about what the layer uses.
    pub fn user(&self, layer: &LayerName, trigger: Option<&Trigger>) -> String {
        match trigger {
            None => format!("the Dockerfile of `{layer}`"),
            Some(trigger) => format!("`{layer}`, through a trigger of `{}`,", self.shown(trigger)),
        }
    }

    /// Marks a use. A trigger has two places: where it runs, and where it is written if a layer of the catalog has it.
    pub fn marked(&self, fault: Diagnostic, span: Span, trigger: Option<&Trigger>, text: &str) -> Diagnostic {
        let Some(trigger) = trigger else { return fault.label(self.own(span), text) };
        let fault = fault.label(self.own(span), "its triggers run here");
        let layer = self.layer(trigger);
        match layer.and_then(|layer| self.indexed.evidence.dockerfiles.get(layer)) {
            Some(read) => fault.label(SourceLocation { file: read.file.clone(), span: trigger.span }, text),
            None => fault.note(format!("`{}` has it in its config (`OnBuild`)", trigger.image)),
        }
    }

    fn layer(&self, trigger: &Trigger) -> Option<&LayerName> {
        let name = self.indexed.in_namespace(&trigger.image.parse().ok()?)?;
        self.indexed.find(&name).map(|declared| &declared.layer.name)
    }

    fn shown<'t>(&'t self, trigger: &'t Trigger) -> &'t str {
        self.layer(trigger).map_or(trigger.image.as_str(), LayerName::as_str)
    }
}
