//! The names under which the images of a catalog are stored: `<namespace>/<layer>`, the artifacts image beside it, and a tag.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The tag of the image that a layer was built into last.
pub const LATEST: &str = "latest";

/// What the name of an artifacts image ends with.
const ARTIFACTS: &str = "-artifacts";

/// The name of an image without a tag: `<namespace>/<layer>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageName(String);

impl ImageName {
    /// The image of a layer in a namespace, which may have several parts.
    pub fn new(namespace: &str, layer: impl fmt::Display) -> Self {
        Self(format!("{namespace}/{layer}"))
    }

    /// The text, `lamina/rust`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the image that holds just the layer's `artifact_paths`: `lamina/rust-artifacts`.
    #[must_use]
    pub fn artifacts(&self) -> Self {
        Self(format!("{}{ARTIFACTS}", self.0))
    }

    /// The layer whose artifacts image has this name, both without their namespace: `rust` for `rust-artifacts`.
    pub fn layer_of_artifacts(name: &str) -> Option<&str> {
        name.strip_suffix(ARTIFACTS)
    }

    /// The image of another layer in the same namespace.
    #[must_use]
    pub fn sibling(&self, layer: impl fmt::Display) -> Self {
        match self.0.rsplit_once('/') {
            Some((namespace, _)) => Self::new(namespace, layer),
            None => Self(layer.to_string()),
        }
    }

    /// This name with a tag.
    pub fn with_tag(&self, tag: impl Into<String>) -> TaggedName {
        TaggedName { name: self.clone(), tag: tag.into() }
    }

    /// This name with the tag `latest`.
    pub fn latest(&self) -> TaggedName {
        self.with_tag(LATEST)
    }
}

impl From<&str> for ImageName {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of an image with its tag: `lamina/rust:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct TaggedName {
    /// The name.
    pub name: ImageName,
    /// The tag.
    pub tag: String,
}

impl From<String> for TaggedName {
    fn from(text: String) -> Self {
        match text.rsplit_once(':') {
            // A colon before a slash belongs to a port.
            Some((name, tag)) if !tag.contains('/') => ImageName::from(name).with_tag(tag),
            _ => ImageName(text).latest(),
        }
    }
}

impl From<TaggedName> for String {
    fn from(tagged: TaggedName) -> Self {
        tagged.to_string()
    }
}

impl fmt::Display for TaggedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_its_artifacts_its_siblings_and_its_tags() {
        let name = ImageName::new("team/lamina", "rust");
        assert_eq!(name.artifacts().as_str(), "team/lamina/rust-artifacts");
        assert_eq!(ImageName::layer_of_artifacts("rust-artifacts"), Some("rust"));
        assert_eq!(ImageName::layer_of_artifacts("rust"), None);
        assert_eq!(name.sibling("debian").as_str(), "team/lamina/debian");
        assert_eq!(name.latest().to_string(), "team/lamina/rust:latest");
        assert_eq!(name.with_tag("key-0123").to_string(), "team/lamina/rust:key-0123");
    }

    #[test]
    fn a_tagged_name_is_one_text_in_json() {
        let tagged = ImageName::new("lamina", "rust").with_tag("v1");
        assert_eq!(serde_json::to_string(&tagged).expect("JSON"), r#""lamina/rust:v1""#);
        assert_eq!(serde_json::from_str::<TaggedName>(r#""lamina/rust:v1""#).expect("a name"), tagged);
        assert_eq!(TaggedName::from("host:5000/rust".to_owned()), ImageName::from("host:5000/rust").latest());
    }
}
