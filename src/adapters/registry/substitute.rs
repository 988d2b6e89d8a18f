//! Substitutes for external images: `oci-layout:DIR`, `oci-layout:DIR:TAG`, `oci-layout:DIR@sha256:…`. Not
//! responsible for: choosing among several images of a layout.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;

use super::checked::Checked;
use super::index::REF_NAME;
use super::parts::PARTS;
use crate::domain::base::{Digest, Platform, counted};
use crate::domain::model::{Classified, FaultClass};
use crate::domain::ports::ImageSource;
use crate::system::confined::{self, Folder};
use crate::system::oci::{self, ConfigFile, Manifest};
use crate::system::read::Cap;

/// An image in an OCI layout that replaces an external one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitute {
    /// The layout.
    pub dir: PathBuf,
    /// The tag, if given.
    pub tag: Option<String>,
    /// The digest, if given.
    pub digest: Option<Digest>,
}

/// A substitute is unusable.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SubstituteError {
    /// The syntax is invalid.
    #[error("`{text}` is not a substitute for an image")]
    #[diagnostic(
        code(lian::registries::substitute),
        help("write `--base-image REF=oci-layout:DIR`, `…:DIR:TAG` or `…:DIR@sha256:…`")
    )]
    Form {
        /// As written.
        text: String,
    },
    /// The folder is not a layout.
    #[error("{dir} is not an OCI image layout: {what}")]
    #[diagnostic(
        code(lian::registries::no_layout),
        help(
            "`make demo` makes one with scripts/base-image.sh; `skopeo copy docker://REF oci:DIR` makes one where Docker Hub is reachable"
        )
    )]
    NoLayout {
        /// The folder.
        dir: PathBuf,
        /// The reason.
        what: String,
    },
    /// Its image is not what its digests say.
    #[error("the image in {dir} is damaged: {} {what}", blob.short())]
    #[diagnostic(
        code(lian::registries::damaged_base),
        help("make the layout anew, or fetch the image again: nothing is built upon it as it is")
    )]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// The blob.
        blob: Digest,
        /// What is wrong with it.
        what: String,
    },
    /// Its image is for other platforms.
    #[error("{dir} holds an image for {held}, and one for {wanted} is needed")]
    #[diagnostic(
        code(lian::registries::other_platform),
        help(
            "add an image for {wanted} to it (`skopeo copy --all` takes those of all platforms), or change `platforms`"
        )
    )]
    OtherPlatform {
        /// The folder.
        dir: PathBuf,
        /// The image's platforms.
        held: String,
        /// The requested one.
        wanted: Platform,
    },
    /// No single image matches.
    #[error("{dir} holds {} {wanted}", counted(*found, "image"))]
    #[diagnostic(
        code(lian::registries::ambiguous),
        help("name one: `oci-layout:DIR:TAG` or `oci-layout:DIR@sha256:…`; it has {tags}")
    )]
    Ambiguous {
        /// The folder.
        dir: PathBuf,
        /// How many images match.
        found: usize,
        /// The requested image.
        wanted: String,
        /// The images in the layout.
        tags: String,
    },
}

impl Classified for SubstituteError {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

impl std::str::FromStr for Substitute {
    type Err = SubstituteError;

    fn from_str(text: &str) -> Result<Self, SubstituteError> {
        let bad = || SubstituteError::Form { text: text.to_owned() };
        let rest = text.strip_prefix("oci-layout:").filter(|rest| !rest.is_empty()).ok_or_else(bad)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (rest, digest) = match rest.rsplit_once('@') {
            Some((dir, digest)) if digest.starts_with("sha256:") => (dir, Some(digest.parse().map_err(|_| bad())?)),
            _ => (rest, None),
        };
        let (dir, tag) = folder_and_tag(rest);
        if dir.is_empty() {
            return Err(bad());
        }
        Ok(Self { dir: dir.into(), tag: tag.map(str::to_owned), digest })
    }
}

/// Folder and tag. Both may hold colons (our own tags do: `lamina/rust:latest`): the longest folder that is a layout
/// wins. Where none is, a tag has no slash.
fn folder_and_tag(text: &str) -> (&str, Option<&str>) {
    let is_layout = |dir: &str| Path::new(dir).join("index.json").is_file();
    if is_layout(text) {
        return (text, None);
    }
    let splits = text.rmatch_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let splits = splits.filter(|(dir, tag)| !dir.is_empty() && !tag.is_empty());
    let found = splits.clone().find(|(dir, _)| is_layout(dir));
    let found = found.or_else(|| splits.clone().next().filter(|(_, tag)| !tag.contains('/')));
    found.map_or((text, None), |(dir, tag)| (dir, Some(tag)))
}

impl Substitute {
    /// The reference with which a builder reads it.
    ///
    /// # Errors
    /// As [`layout_digest`].
    pub fn source(&self, platform: &Platform) -> Result<ImageSource, SubstituteError> {
        self.fitting(layout_digest(self, platform)?, platform)
    }

    /// An image that it holds, if that is one for the platform.
    fn fitting(&self, digest: Digest, platform: &Platform) -> Result<ImageSource, SubstituteError> {
        let held = self.platforms(&digest);
        let fits = |held: &Platform| (held.os(), held.architecture()) == (platform.os(), platform.architecture());
        if !held.is_empty() && !held.iter().any(fits) {
            let held = held.iter().map(Platform::as_str).collect::<Vec<_>>().join(" and ");
            return Err(SubstituteError::OtherPlatform { dir: self.dir.clone(), held, wanted: platform.clone() });
        }
        Ok(self.layout_of(digest))
    }
}

impl Substitute {
    /// As [`Self::source`], for a reference that pins a digest: if the layout holds just that image, it is meant. One for
    /// a single platform is then taken for any, as BuildKit does.
    ///
    /// # Errors
    /// As [`layout_digest`].
    pub fn pinned(&self, pin: Option<&str>, platform: &Platform) -> Result<ImageSource, SubstituteError> {
        match pin.and_then(|pin| self.held(pin)) {
            Some(digest) if self.manifest(&digest).is_some_and(|top| top.children().is_empty()) => {
                Ok(self.layout_of(digest))
            }
            Some(digest) => self.fitting(digest, platform),
            None => self.source(platform),
        }
    }

    /// The image of a pin, if the layout holds just that one and no other one is named.
    fn held(&self, pin: &str) -> Option<Digest> {
        let digest = pin.parse().ok().filter(|_| self.digest.is_none() && self.tag.is_none())?;
        manifest_of(&self.dir, &digest).is_ok().then_some(digest)
    }

    /// Checks that an image which it holds at a pinned digest is one for a platform, where a build insists on it.
    ///
    /// # Errors
    /// [`SubstituteError::OtherPlatform`].
    pub fn insists(&self, pin: &str, platform: &Platform) -> Result<(), SubstituteError> {
        self.held(pin).map_or(Ok(()), |digest| self.fitting(digest, platform).map(|_| ()))
    }

    fn layout_of(&self, digest: Digest) -> ImageSource {
        // Absolute, because buildctl runs in another folder.
        let dir = std::fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        ImageSource::Layout { dir, digest }
    }

    /// The `ONBUILD` lines in the config of its image for a platform; none if it cannot be read.
    pub fn on_build(&self, platform: &Platform) -> Vec<String> {
        let config = || {
            let manifest = self.manifest(&layout_digest(self, platform).ok()?)?;
            match manifest.image_for(Some(platform)) {
                Some(image) => self.config(&self.manifest(&oci::digest(image))?),
                None => self.config(&manifest),
            }
        };
        config().map(|config| config.processes().on_build).unwrap_or_default()
    }

    /// The platforms of an image; none if it does not say.
    fn platforms(&self, digest: &Digest) -> Vec<Platform> {
        let Some(manifest) = self.manifest(digest) else { return Vec::new() };
        if manifest.children().is_empty() {
            return self.config(&manifest).map(|config| config.platform()).into_iter().collect();
        }
        let children = manifest.children().iter().filter_map(|child| child.platform().as_ref());
        let platforms = children.map(|of| Platform::of(&of.os().to_string(), &of.architecture().to_string(), ""));
        platforms.filter(|platform| platform.os() != "unknown").collect()
    }

    /// Refuses an image of which a blob that is used for a platform is not what its digest says, or is a link. What is
    /// not there at all the builder may have already. Blobs that were right are remembered in the `user`'s folder.
    ///
    /// # Errors
    /// [`SubstituteError::Damaged`].
    pub fn check(&self, image: &Digest, platform: &Platform, user: &Path) -> Result<(), SubstituteError> {
        let damaged =
            |blob: &Digest, what: String| SubstituteError::Damaged { dir: self.dir.clone(), blob: blob.clone(), what };
        let Ok(blobs) = blobs_of(&self.dir) else { return Ok(()) };
        let mut manifest = manifest_of(&self.dir, image).map_err(|error| damaged(image, error.to_string()))?;
        if let Some(child) = manifest.image_for(Some(platform)).map(oci::digest) {
            match manifest_of(&self.dir, &child) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                read => manifest = read.map_err(|error| damaged(&child, error.to_string()))?,
            }
        }
        let checked = Checked::of(blobs.path(), user);
        for named in manifest.blobs() {
            let blob = oci::digest(named);
            if matches!(blobs.stat(blob.hex()), Ok(Some(_))) {
                checked.check(&blobs, &blob, named.size()).map_err(|damage| damaged(&blob, damage.what))?;
            }
        }
        Ok(())
    }

    fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        manifest_of(&self.dir, digest).ok()
    }

    fn config(&self, manifest: &Manifest) -> Option<ConfigFile> {
        ConfigFile::read(&blob(&self.dir, &oci::digest(manifest.config()?)).ok()?)
    }
}

/// The folder of a layout's blobs; no link below the layout is followed.
fn blobs_of(dir: &Path) -> io::Result<Folder> {
    confined::open(dir)?.folder("blobs/sha256")
}

/// A blob, if it is what its digest says.
fn blob(dir: &Path, digest: &Digest) -> io::Result<Vec<u8>> {
    let bytes = blobs_of(dir)?.read(digest.hex(), Cap::Manifest.most())?;
    if Digest::of(&bytes) == *digest {
        return Ok(bytes);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "has another digest"))
}

/// The manifest or index of this digest.
fn manifest_of(dir: &Path, digest: &Digest) -> io::Result<Manifest> {
    let odd = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let manifest = Manifest::read(&blob(dir, digest)?).map_err(|error| odd(error.to_string()))?;
    if manifest.config().is_none() && manifest.children().is_empty() {
        return Err(odd("is not an image".to_owned()));
    }
    Ok(manifest)
}

/// The digest of a substitute's image: the named one, the only one, or the only one for the platform.
///
/// # Errors
/// [`SubstituteError`] if there is no layout, no such image, or more than one.
pub fn layout_digest(substitute: &Substitute, platform: &Platform) -> Result<Digest, SubstituteError> {
    let dir = &substitute.dir;
    let no_layout = |what: String| SubstituteError::NoLayout { dir: dir.clone(), what };
    let bytes = confined::open(dir)
        .and_then(|folder| folder.read("index.json", Cap::Manifest.most()))
        .map_err(|error| no_layout(format!("index.json: {error}")))?;
    let index = Manifest::read(&bytes).map_err(|error| no_layout(format!("index.json: {error}")))?;
    let digest = match &substitute.digest {
        Some(digest) => digest.clone(),
        None => choose(substitute, platform, index.children())?,
    };
    match manifest_of(dir, &digest) {
        Ok(_) => Ok(digest),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(no_layout(format!("{} is not in it", digest.short())))
        }
        Err(error) => Err(SubstituteError::Damaged { dir: dir.clone(), blob: digest, what: error.to_string() }),
    }
}

fn choose(substitute: &Substitute, platform: &Platform, entries: &[Descriptor]) -> Result<Digest, SubstituteError> {
    let name = |entry: &Descriptor| entry.annotations().as_ref()?.get(REF_NAME).cloned();
    let is_parts = |entry: &&Descriptor| entry.artifact_type().as_ref().is_some_and(|kind| kind.as_ref() == PARTS);
    let images: Vec<&Descriptor> = entries.iter().filter(|entry| !is_parts(entry)).collect();
    let tags: Vec<String> = images.iter().filter_map(|entry| name(entry)).collect();
    let fits = |entry: &&Descriptor| match &substitute.tag {
        None => true,
        Some(tag) => name(entry).is_some_and(|name| name == *tag || name.ends_with(&format!(":{tag}"))),
    };
    let mut found: Vec<&Descriptor> = images.into_iter().filter(fits).collect();
    found.sort_by_key(|entry| entry.digest().to_string());
    found.dedup_by_key(|entry| entry.digest());
    if found.len() > 1 {
        found.retain(|entry| oci::is_for(entry, platform));
    }
    match found[..] {
        [only] => Ok(oci::digest(only)),
        _ => Err(SubstituteError::Ambiguous {
            dir: substitute.dir.clone(),
            found: found.len(),
            wanted: match &substitute.tag {
                Some(tag) => format!("with the tag `{tag}` for {platform}"),
                None => format!("for {platform}, and one is needed"),
            },
            tags: if tags.is_empty() { "no tags".to_owned() } else { tags.join(", ") },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>, bool) {
        let substitute: Substitute = text.parse().expect("a substitute");
        (substitute.dir.display().to_string(), substitute.tag, substitute.digest.is_some())
    }

    #[test]
    fn a_tag_with_a_colon_is_one_where_the_folder_is_a_layout() {
        let folder = tempfile::tempdir().expect("a folder");
        for layout in ["images", "odd:name"] {
            let layout = folder.path().join(layout);
            std::fs::create_dir(&layout).expect("a folder");
            std::fs::write(layout.join("index.json"), "{}").expect("writable");
        }
        let at = |rest: &str| {
            let (dir, tag, _) = parsed(&format!("oci-layout:{}/{rest}", folder.path().display()));
            (dir.rsplit('/').next().expect("a name").to_owned(), tag)
        };
        assert_eq!(at("images:lamina/rust:latest"), ("images".into(), Some("lamina/rust:latest".into())));
        assert_eq!(at("images:latest"), ("images".into(), Some("latest".into())));
        assert_eq!(at("images"), ("images".into(), None));
        assert_eq!(at("odd:name"), ("odd:name".into(), None));
        assert_eq!(at("odd:name:team/x:1"), ("odd:name".into(), Some("team/x:1".into())));
    }

    #[test]
    fn reads_the_three_forms() {
        assert_eq!(parsed("oci-layout:base"), ("base".into(), None, false));
        assert_eq!(parsed("oci-layout:/a/b:trixie-slim"), ("/a/b".into(), Some("trixie-slim".into()), false));
        assert_eq!(parsed("oci-layout:///a:b/c"), ("/a:b/c".into(), None, false));
        assert_eq!(parsed(&format!("oci-layout:d@sha256:{}", "0".repeat(64))), ("d".into(), None, true));
        for text in ["", "base", "oci-layout:", "docker:x", "oci-layout:d@sha256:0"] {
            assert!(text.parse::<Substitute>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_the_only_image_and_refuses_to_guess() {
        let root = tempfile::tempdir().expect("a folder");
        let blobs = root.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a folder");
        let put = |text: &str| {
            let digest = Digest::of(text);
            std::fs::write(blobs.join(digest.hex()), text).expect("a blob");
            digest
        };
        let config = Digest::of("c");
        let manifest = |size: u32| {
            put(&format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{config}","size":{size}}},"layers":[]}}"#
            ))
        };
        let (one, two) = (manifest(1), manifest(2));
        let index = |entries: &[(&Digest, &str, &str)]| {
            let entries: Vec<_> = entries
                .iter()
                .map(|(digest, arch, tag)| {
                    serde_json::json!({"mediaType":"m","digest":digest,"size":1,
                        "platform":{"os":"linux","architecture":arch},"annotations":{REF_NAME:tag}})
                })
                .collect();
            let text = serde_json::json!({"schemaVersion":2,"manifests":entries}).to_string();
            std::fs::write(root.path().join("index.json"), text).expect("an index");
        };
        let digest = |suffix: &str| {
            let substitute: Substitute =
                format!("oci-layout:{}{suffix}", root.path().display()).parse().expect("a substitute");
            layout_digest(&substitute, &"linux/arm64".into())
        };
        assert!(matches!(digest(""), Err(SubstituteError::NoLayout { .. })));
        index(&[(&one, "amd64", "slim")]);
        assert_eq!(digest("").expect("the only one"), one);
        index(&[(&one, "amd64", "slim"), (&two, "arm64", "host/x:slim")]);
        assert_eq!(digest("").expect("the one for the platform"), two);
        assert_eq!(digest(":slim").expect("the one for the platform"), two);
        assert_eq!(digest(&format!("@{one}")).expect("by digest"), one);
        index(&[(&one, "arm64", "a"), (&two, "arm64", "b")]);
        assert_eq!(digest(":a").expect("by tag"), one);
        let error = digest("").expect_err("two");
        assert!(matches!(&error, SubstituteError::Ambiguous { found: 2, tags, .. } if tags == "a, b"), "{error}");
        assert!(digest(":c").is_err());
    }

    #[test]
    fn what_is_used_of_a_layout_is_what_its_digests_say_and_no_link() {
        let (root, user) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let blobs = root.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a folder");
        let put = |text: &str| {
            std::fs::write(blobs.join(Digest::of(text).hex()), text).expect("a blob");
            Digest::of(text)
        };
        let config = put(r#"{"os":"linux","architecture":"arm64","rootfs":{"type":"layers","diff_ids":[]}}"#);
        let layer = put("a layer");
        let size = |digest: &Digest| std::fs::metadata(blobs.join(digest.hex())).expect("a blob").len();
        let described = |digest: &Digest| serde_json::json!({"mediaType":"m","digest":digest,"size":size(digest)});
        let image =
            put(&serde_json::json!({"schemaVersion":2,"config":described(&config),"layers":[described(&layer)]})
                .to_string());
        let index = serde_json::json!({"schemaVersion":2,"manifests":[described(&image)]}).to_string();
        std::fs::write(root.path().join("index.json"), index).expect("an index");
        let substitute: Substitute = format!("oci-layout:{}", root.path().display()).parse().expect("a substitute");
        let arm = Platform::from("linux/arm64");
        let used = || {
            let digest = substitute.source(&arm)?.digest().clone();
            substitute.check(&digest, &arm, user.path())
        };
        used().expect("sound");
        for blob in [&layer, &config, &image] {
            let path = blobs.join(blob.hex());
            let sound = std::fs::read(&path).expect("a blob");
            // Another byte of the same length, whatever the file's times say.
            let mut flipped = sound.clone();
            flipped[0] ^= 1;
            std::fs::write(&path, flipped).expect("written");
            assert!(matches!(used(), Err(SubstituteError::Damaged { .. })), "{blob}: {:?}", used());
            // The right content, by a link that leads out.
            let outside = user.path().join("outside");
            std::fs::write(&outside, &sound).expect("written");
            std::fs::remove_file(&path).expect("removed");
            std::os::unix::fs::symlink(&outside, &path).expect("a link");
            let error = used().expect_err("a link");
            assert!(matches!(error, SubstituteError::Damaged { .. }) && error.to_string().contains("link"), "{error}");
            std::fs::remove_file(&path).expect("removed");
            std::fs::write(&path, &sound).expect("written");
            used().expect("sound again");
        }
        let aside = root.path().join("aside");
        std::fs::rename(&blobs, &aside).expect("moved");
        std::os::unix::fs::symlink(&aside, &blobs).expect("a link");
        assert!(used().expect_err("a link").to_string().contains("link"));
    }
}
