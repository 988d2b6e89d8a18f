//! Reads and writes `index.json`: tags and the manifests that they point to. Unknown entries and fields are
//! preserved. Not responsible for: blobs.

use std::collections::HashMap;
use std::sync::OnceLock;

use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Map, Value, json};

use super::files::failed;
use crate::domain::base::{Digest, Timestamp};
use crate::domain::ports::ImageStoreError;
use crate::system::confined::Folder;

/// Its name in the layout's folder.
pub(super) const FILE: &str = "index.json";
/// The most bytes of it that are read: about 60,000 tags.
const MOST: u64 = 32 << 20;
/// The most values in it: each takes far more memory than its text.
const MOST_VALUES: usize = 2_000_000;

/// Annotation with an entry's tag; here it includes the image name, `<name>:<tag>`.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the time of promotion, in milliseconds since the epoch.
pub(super) const PROMOTED_AT: &str = "dev.lian-build.promoted-at";
/// Annotation of a parts artifact with its image, so that a lookup need not read every artifact.
pub(super) const SUBJECT: &str = "dev.lian-build.subject";
/// Annotation with this user's mark of the entry. Without it the entry is somebody else's.
const MARK: &str = "dev.lian-build.mark";

/// The content of `index.json`.
#[derive(Debug, Clone)]
pub(super) struct Index {
    value: Map<String, Value>,
    /// Built on the first lookup and cleared by every change, because a plan looks up every layer.
    places: OnceLock<Places>,
}

/// Positions of entries in the list.
#[derive(Debug, Clone, Default)]
struct Places {
    by_reference: HashMap<String, usize>,
    /// By the subject's digest and the image name.
    by_subject: HashMap<(String, String), usize>,
}

/// A valid entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) reference: Option<String>,
    pub(super) digest: Digest,
    pub(super) promoted_at: Option<Timestamp>,
    pub(super) subject: Option<Digest>,
    pub(super) mark: Option<String>,
}

impl Entry {
    /// Its name and tag, if it has both.
    pub(super) fn name_and_tag(&self) -> Option<(&str, &str)> {
        let reference = self.reference.as_deref()?;
        let (name, tag) = reference.rsplit_once(':')?;
        (!tag.contains('/')).then_some((name, tag))
    }
}

impl Default for Index {
    fn default() -> Self {
        let mut value = Map::new();
        value.insert("schemaVersion".to_owned(), 2.into());
        value.insert("mediaType".to_owned(), MediaType::ImageIndex.as_ref().into());
        value.insert("manifests".to_owned(), Value::Array(Vec::new()));
        Self { value, places: OnceLock::new() }
    }
}

impl Index {
    /// Reads the index. A missing file counts as empty.
    pub(super) fn read(folder: &Folder) -> Result<Self, ImageStoreError> {
        let path = folder.path().join(FILE);
        let bytes = match folder.read(FILE, MOST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed("cannot read", &path, error)),
        };
        let damaged = |what: String| ImageStoreError::Corrupt { path: path.clone(), what, name: "NAME".to_owned() };
        if bytes.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count() > MOST_VALUES {
            return Err(damaged("it has more entries than a layout of lian-build".to_owned()));
        }
        let mut value: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| damaged(format!("it is not JSON: {error}")))?;
        if !value.entry("manifests").or_insert_with(|| Value::Array(Vec::new())).is_array() {
            return Err(damaged("`manifests` is not a list".to_owned()));
        }
        let index = Self { value, places: OnceLock::new() };
        match index.doubled() {
            Some(tag) => {
                Err(damaged(format!("it has two entries for the tag {tag:?}, and nobody can tell which one counts")))
            }
            None => Ok(index),
        }
    }

    /// The first tag that has two entries.
    fn doubled(&self) -> Option<String> {
        let mut seen = std::collections::HashSet::new();
        let valid = self.list().iter().filter(|value| entry(value).is_some());
        let doubled = valid.filter_map(|value| annotation(value, REF_NAME)).find(|tag| !seen.insert(*tag));
        doubled.map(str::to_owned)
    }

    /// Writes the index atomically.
    pub(super) fn write(&self, folder: &Folder) -> Result<(), ImageStoreError> {
        let bytes = serde_json::to_vec(&self.value).expect("invariant: JSON values serialise");
        folder.write_whole(FILE, &bytes).map_err(|error| failed("cannot write", &folder.path().join(FILE), error))
    }

    fn list(&self) -> &[Value] {
        self.value.get("manifests").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn list_mut(&mut self) -> &mut Vec<Value> {
        self.places = OnceLock::new();
        let list = self.value.get_mut("manifests").and_then(Value::as_array_mut);
        list.expect("invariant: `manifests` is a list since it was read")
    }

    /// All valid entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.list().iter().filter_map(entry)
    }

    /// The entry of this tag.
    pub(super) fn find(&self, name: &str, tag: &str) -> Option<Entry> {
        self.list().get(*self.places().by_reference.get(&format!("{name}:{tag}"))?).and_then(entry)
    }

    /// The entry of the artifact (the parts) of this image.
    pub(super) fn belonging(&self, subject: &Digest, name: &str) -> Option<Entry> {
        let key = (subject.as_str().to_owned(), name.to_owned());
        self.list().get(*self.places().by_subject.get(&key)?).and_then(entry)
    }

    fn places(&self) -> &Places {
        self.places.get_or_init(|| {
            let mut places = Places::default();
            for (at, value) in self.list().iter().enumerate().filter(|(_, value)| entry(value).is_some()) {
                let Some(reference) = annotation(value, REF_NAME) else { continue };
                places.by_reference.insert(reference.to_owned(), at);
                let name = reference.rsplit_once(':').map_or(reference, |(name, _)| name);
                if let Some(subject) = annotation(value, SUBJECT) {
                    places.by_subject.insert((subject.to_owned(), name.to_owned()), at);
                }
            }
            places
        })
    }

    /// Points a tag to a manifest.
    pub(super) fn set(&mut self, tag: &NewTag<'_>) {
        let reference = format!("{}:{}", tag.name, tag.tag);
        let mut value = json!(tag.target);
        let mut annotations = Map::new();
        annotations.insert(REF_NAME.to_owned(), reference.clone().into());
        annotations.insert(PROMOTED_AT.to_owned(), tag.at.0.to_string().into());
        annotations.insert(MARK.to_owned(), tag.mark.into());
        if let Some(subject) = tag.subject {
            annotations.insert(SUBJECT.to_owned(), subject.as_str().into());
            value["artifactType"] = super::parts::PARTS.into();
        }
        value["annotations"] = annotations.into();
        let list = self.list_mut();
        list.retain(|value| annotation(value, REF_NAME) != Some(&reference));
        list.push(value);
    }

    /// Keeps only entries that satisfy `keep`; invalid entries are kept too. Returns the number removed.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) -> usize {
        let list = self.list_mut();
        let before = list.len();
        list.retain(|value| entry(value).is_none_or(|entry| keep(&entry)));
        before - list.len()
    }
}

/// A tag to set.
pub(super) struct NewTag<'a> {
    pub(super) name: &'a str,
    pub(super) tag: &'a str,
    pub(super) target: &'a Descriptor,
    pub(super) at: Timestamp,
    pub(super) subject: Option<&'a Digest>,
    pub(super) mark: &'a str,
}

fn annotation<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get("annotations")?.get(key)?.as_str()
}

fn entry(value: &Value) -> Option<Entry> {
    Some(Entry {
        reference: annotation(value, REF_NAME).map(str::to_owned),
        digest: value.get("digest")?.as_str()?.parse().ok()?,
        promoted_at: annotation(value, PROMOTED_AT).and_then(|at| at.parse().ok()).map(Timestamp),
        subject: annotation(value, SUBJECT).and_then(|digest| digest.parse().ok()),
        mark: annotation(value, MARK).map(str::to_owned),
    })
}
