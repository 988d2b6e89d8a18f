//! Writes an image as the archive that `docker load` and `podman load` read, old and new. Not responsible for: an
//! engine.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use tar::{Builder, Header};

use super::files::failed;
use super::layout::{BLOBS, MOST_OF_MANIFEST};
use crate::domain::base::{Digest, Hasher, Platform};
use crate::domain::model::ImageRef;
use crate::domain::ports::ImageStoreError;
use crate::system::confined::{self, Folder};
use crate::system::oci::{self, Manifest};

/// The first bytes of compressed layers.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An image in an OCI layout, to be written as an archive.
#[derive(Debug, Clone)]
pub struct Archive {
    /// The layout's folder.
    pub layout: PathBuf,
    /// The image, or an index.
    pub image: Digest,
    /// From an index, the image of this platform.
    pub platform: Platform,
    /// The name that the engine gives it.
    pub name: ImageRef,
    /// A folder with room for its largest layer.
    pub scratch: PathBuf,
}

/// Why an archive could not be written.
#[derive(Debug)]
pub enum ArchiveStop {
    /// The image cannot be read.
    Image(ImageStoreError),
    /// The scratch folder takes no more.
    Scratch(io::Error),
    /// The reader takes no more.
    Reader(io::Error),
}

impl From<ImageStoreError> for ArchiveStop {
    fn from(error: ImageStoreError) -> Self {
        Self::Image(error)
    }
}

impl Archive {
    /// Writes it. Layers are uncompressed, which every version of both engines reads. Each blob is opened once, below the
    /// layout's folder, and compared with its digest as it is read. Blocks.
    ///
    /// # Errors
    /// [`ArchiveStop`].
    pub fn write(&self, out: impl Write) -> Result<(), ArchiveStop> {
        let blobs = confined::open(&self.layout).and_then(|layout| layout.folder(BLOBS));
        let blobs = blobs.map_err(|error| failed("cannot open the folder", &self.layout.join(BLOBS), error))?;
        let manifest = self.manifest(&blobs)?;
        let config = manifest.config().map(oci::digest).ok_or_else(|| self.damaged("it has no config"))?;
        let mut archive = Builder::new(out);
        let (mut layers, mut written) = (Vec::new(), BTreeSet::new());
        for layer in manifest.layers().iter().map(oci::digest) {
            let name = format!("{}.tar", layer.hex());
            // An engine reads a file as often as it is listed.
            if written.insert(layer.clone()) {
                let (size, content) = self.content(&blobs, &layer)?;
                add(&mut archive, &name, size, content).map_err(|stop| match stop {
                    // No pipe says so.
                    ArchiveStop::Reader(error) if error.kind() == ErrorKind::InvalidData => {
                        self.unreadable(&layer, error)
                    }
                    stop => stop,
                })?;
            }
            layers.push(name);
        }
        let text = self.small(&blobs, &config)?;
        let config = format!("{}.json", config.hex());
        add(&mut archive, &config, text.len() as u64, &text[..])?;
        let listed = serde_json::json!([{ "Config": config, "RepoTags": [self.name.normalised()], "Layers": layers }]);
        let listed = listed.to_string();
        add(&mut archive, "manifest.json", listed.len() as u64, listed.as_bytes())?;
        archive.into_inner().and_then(|mut out| out.flush()).map_err(ArchiveStop::Reader)
    }

    /// A manifest or a config.
    fn small(&self, blobs: &Folder, digest: &Digest) -> Result<Vec<u8>, ArchiveStop> {
        let bytes = blobs.read(digest.hex(), MOST_OF_MANIFEST).map_err(|error| self.unreadable(digest, error))?;
        if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(self.unreadable(digest, other_content())) }
    }

    fn manifest(&self, blobs: &Folder) -> Result<Manifest, ArchiveStop> {
        let read = |digest: &Digest| {
            let bytes = self.small(blobs, digest)?;
            Manifest::read(&bytes).map_err(|error| self.damaged(&error.to_string()))
        };
        let top = read(&self.image)?;
        match (&top, top.image_for(Some(&self.platform))) {
            (Manifest::Image(_), _) => Ok(top),
            (Manifest::Index(_), Some(child)) => read(&oci::digest(child)),
            (Manifest::Index(_), None) => Err(self.damaged("it holds no image")),
        }
    }

    /// The size of an uncompressed layer, which stands before it in the archive, and its content. What is compressed is
    /// decompressed once, into a nameless file: neither the memory nor the blob says beforehand how large it is.
    fn content(&self, blobs: &Folder, layer: &Digest) -> Result<(u64, Box<dyn Read>), ArchiveStop> {
        let unreadable = |error| self.unreadable(layer, error);
        let file = blobs.open_file(layer.hex()).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut blob = Compared { file, hasher: Some(Hasher::default()), digest: layer.clone() };
        let mut magic = Vec::new();
        (&mut blob).take(4).read_to_end(&mut magic).map_err(unreadable)?;
        if !magic.starts_with(&GZIP) && !magic.starts_with(&ZSTD) {
            return Ok((size, Box::new(Cursor::new(magic).chain(blob))));
        }
        let whole = BufReader::new(Cursor::new(magic.clone()).chain(&mut blob));
        let mut compressed: Box<dyn Read> = if magic.starts_with(&GZIP) {
            Box::new(flate2::bufread::MultiGzDecoder::new(whole))
        } else {
            let zstd = ruzstd::decoding::StreamingDecoder::new(whole);
            Box::new(zstd.map_err(|error| unreadable(io::Error::new(ErrorKind::InvalidData, error.to_string())))?)
        };
        let mut plain = tempfile::tempfile_in(&self.scratch).map_err(ArchiveStop::Scratch)?;
        let (mut size, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            let count = match compressed.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.map_err(unreadable)?,
            };
            plain.write_all(&buffer[..count]).map_err(ArchiveStop::Scratch)?;
            size += count as u64;
        }
        drop(compressed);
        // What stands behind the compressed data belongs to the blob, too.
        io::copy(&mut blob, &mut io::sink()).map_err(unreadable)?;
        plain.rewind().map_err(ArchiveStop::Scratch)?;
        Ok((size, Box::new(plain)))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.layout.join(BLOBS).join(digest.hex())
    }

    fn unreadable(&self, digest: &Digest, error: io::Error) -> ArchiveStop {
        ArchiveStop::Image(failed("cannot read", &self.blob(digest), error))
    }

    fn damaged(&self, what: &str) -> ArchiveStop {
        let (path, what) = (self.blob(&self.image), what.to_owned());
        let name = self.name.repository.clone();
        ArchiveStop::Image(ImageStoreError::Corrupt { path, what, name })
    }
}

/// A blob that is compared with its digest while it is read: whoever swaps it, or writes into it, after it was checked,
/// is noticed at its end.
struct Compared {
    file: File,
    /// `None`: it was compared.
    hasher: Option<Hasher>,
    digest: Digest,
}

impl Read for Compared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        #[cfg(test)]
        tests::READ.set(tests::READ.get() + count);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        if count == 0
            && !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
            && hasher.finish() != self.digest
        {
            return Err(other_content());
        }
        Ok(count)
    }
}

fn other_content() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "its content has another digest")
}

/// Adds a file. What cannot be read in between ends the archive, as a reader that takes no more does.
fn add(archive: &mut Builder<impl Write>, name: &str, size: u64, content: impl Read) -> Result<(), ArchiveStop> {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    archive.append_data(&mut header, Path::new(name), content).map_err(ArchiveStop::Reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        /// Bytes of layers that were read.
        pub(super) static READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    /// A layout with one image, whose layers have this content.
    fn layout(layers: &[&[u8]]) -> (tempfile::TempDir, Digest) {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = folder.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a folder");
        let blob = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            std::fs::write(blobs.join(digest.hex()), bytes).expect("writable");
            serde_json::json!({ "mediaType": "m", "digest": digest, "size": bytes.len() })
        };
        let layers: Vec<_> = layers.iter().map(|layer| blob(layer)).collect();
        let image = serde_json::json!({ "schemaVersion": 2, "config": blob(b"{}"), "layers": layers });
        let image = blob(image.to_string().as_bytes());
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [image] }).to_string();
        blob(index.as_bytes());
        (folder, Digest::of(index))
    }

    fn archive(folder: &tempfile::TempDir, image: Digest) -> Archive {
        let (layout, name) = (folder.path().to_owned(), "lamina/tiny".parse().expect("a name"));
        Archive { scratch: layout.clone(), layout, image, platform: "linux/amd64".into(), name }
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(content).expect("memory");
        gzip.finish().expect("memory")
    }

    #[test]
    fn an_image_is_written_as_every_engine_reads_it() {
        let gzip = gzip(b"squeezed");
        let zstd = ruzstd::encoding::compress_to_vec(&b"pressed"[..], ruzstd::encoding::CompressionLevel::Fastest);
        let (folder, image) = layout(&[b"plain", &gzip, &zstd, b"plain"]);
        let archive = archive(&folder, image);
        let mut bytes = Vec::new();
        archive.write(&mut bytes).expect("written");
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(&bytes[..]).entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let (path, mut text) = (entry.path().expect("a path").display().to_string(), String::new());
            entry.read_to_string(&mut text).expect("text");
            assert!(files.insert(path, text).is_none(), "a layer is there twice");
        }
        let manifest: serde_json::Value = serde_json::from_str(&files["manifest.json"]).expect("json");
        assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["docker.io/lamina/tiny:latest"]));
        assert_eq!(files[manifest[0]["Config"].as_str().expect("a name")], "{}");
        let layers = manifest[0]["Layers"].as_array().expect("a list").iter();
        let layers: Vec<&str> = layers.map(|layer| files[layer.as_str().expect("a name")].as_str()).collect();
        assert_eq!(layers, ["plain", "squeezed", "pressed", "plain"]);
    }

    #[test]
    fn a_blob_that_is_missing_is_named() {
        let (folder, image) = layout(&[b"plain"]);
        std::fs::remove_file(folder.path().join("blobs/sha256").join(Digest::of("plain").hex())).expect("removable");
        let archive = archive(&folder, image);
        let Err(ArchiveStop::Image(error)) = archive.write(io::sink()) else { panic!("it was written") };
        assert!(error.to_string().contains(Digest::of("plain").hex()), "{error}");
    }

    #[test]
    fn a_compressed_layer_is_read_once() {
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let squeezed = gzip(&content);
        let (folder, image) = layout(&[&squeezed]);
        let mut bytes = Vec::new();
        READ.set(0);
        archive(&folder, image).write(&mut bytes).expect("written");
        assert_eq!(READ.get(), squeezed.len());
        let mut archived = tar::Archive::new(&bytes[..]);
        let mut layer = archived.entries().expect("an archive").next().expect("a layer").expect("an entry");
        let mut text = Vec::new();
        layer.read_to_end(&mut text).expect("its content");
        assert!(text == content, "{} bytes instead of {}", text.len(), content.len());
    }

    /// Whoever can write in the layout changes a blob after it was checked.
    #[test]
    fn a_blob_that_is_not_what_was_checked_ends_the_archive() {
        let zstd = ruzstd::encoding::compress_to_vec(&b"pressed"[..], ruzstd::encoding::CompressionLevel::Fastest);
        let outside = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(outside.path(), "plain").expect("writable");
        for layer in [&b"plain"[..], &gzip(b"squeezed"), &zstd, b"{}"] {
            type Swap<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);
            let swaps: [Swap<'_>; 3] = [
                ("more", Box::new(|blob| std::fs::write(blob, [layer, b"more"].concat()).expect("writable"))),
                ("a link", {
                    let link = |blob: &Path| {
                        std::fs::write(outside.path(), layer).expect("writable");
                        std::fs::remove_file(blob).expect("removable");
                        std::os::unix::fs::symlink(outside.path(), blob).expect("a link");
                    };
                    Box::new(link)
                }),
                ("a pipe", {
                    let pipe = |blob: &Path| {
                        std::fs::remove_file(blob).expect("removable");
                        assert!(std::process::Command::new("mkfifo").arg(blob).status().expect("mkfifo").success());
                    };
                    Box::new(pipe)
                }),
            ];
            for (what, swap) in swaps {
                let (folder, image) = layout(&[layer]);
                swap(&folder.path().join(BLOBS).join(Digest::of(layer).hex()));
                let mut bytes = Vec::new();
                let Err(ArchiveStop::Image(error)) = archive(&folder, image).write(&mut bytes) else {
                    panic!("{what}: it was written")
                };
                assert!(error.to_string().contains(Digest::of(layer).hex()), "{what}: {error}");
                // An engine takes nothing without it.
                assert!(!bytes.windows(13).any(|part| part == b"manifest.json"), "{what}");
            }
        }
    }
}
