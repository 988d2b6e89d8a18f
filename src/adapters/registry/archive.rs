//! Writes an image as the archive that `docker load` and `podman load` read, old and new. Not responsible for: an
//! engine.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use tar::{Builder, Header};

use super::files::failed;
use crate::domain::base::{Digest, Platform};
use crate::domain::model::ImageRef;
use crate::domain::ports::ImageStoreError;
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
    /// Writes it. Layers are uncompressed, which every version of both engines reads. Blocks.
    ///
    /// # Errors
    /// [`ArchiveStop`].
    pub fn write(&self, out: impl Write) -> Result<(), ArchiveStop> {
        let manifest = self.manifest()?;
        let config = manifest.config().map(oci::digest).ok_or_else(|| self.damaged("it has no config"))?;
        let mut archive = Builder::new(out);
        let (mut layers, mut written) = (Vec::new(), BTreeSet::new());
        for layer in manifest.layers().iter().map(oci::digest) {
            let name = format!("{}.tar", layer.hex());
            // An engine reads a file as often as it is listed.
            if written.insert(layer.clone()) {
                let (size, content) = self.content(&layer)?;
                add(&mut archive, &name, size, content)?;
            }
            layers.push(name);
        }
        let text = std::fs::read(self.blob(&config)).map_err(|error| self.unreadable(&config, error))?;
        let config = format!("{}.json", config.hex());
        add(&mut archive, &config, text.len() as u64, &text[..])?;
        let listed = serde_json::json!([{ "Config": config, "RepoTags": [self.name.normalised()], "Layers": layers }]);
        let listed = listed.to_string();
        add(&mut archive, "manifest.json", listed.len() as u64, listed.as_bytes())?;
        archive.into_inner().and_then(|mut out| out.flush()).map_err(ArchiveStop::Reader)
    }

    fn manifest(&self) -> Result<Manifest, ArchiveStop> {
        let read = |digest: &Digest| {
            let bytes = std::fs::read(self.blob(digest)).map_err(|error| self.unreadable(digest, error))?;
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
    fn content(&self, layer: &Digest) -> Result<(u64, Box<dyn Read>), ArchiveStop> {
        let unreadable = |error| self.unreadable(layer, error);
        let (mut magic, mut blob) = (Vec::new(), File::open(self.blob(layer)).map_err(unreadable)?);
        (&mut blob).take(4).read_to_end(&mut magic).map_err(unreadable)?;
        let size = blob.metadata().map_err(unreadable)?.len();
        let whole = BufReader::new(Cursor::new(magic.clone()).chain(blob));
        let mut compressed: Box<dyn Read> = if magic.starts_with(&GZIP) {
            Box::new(flate2::bufread::MultiGzDecoder::new(whole))
        } else if magic.starts_with(&ZSTD) {
            let zstd = ruzstd::decoding::StreamingDecoder::new(whole);
            Box::new(zstd.map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error.to_string())))?)
        } else {
            return Ok((size, Box::new(whole)));
        };
        let mut plain = tempfile::tempfile_in(&self.scratch).map_err(ArchiveStop::Scratch)?;
        let (mut size, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            let count = match compressed.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(unreadable)?,
            };
            plain.write_all(&buffer[..count]).map_err(ArchiveStop::Scratch)?;
            size += count as u64;
        }
        plain.rewind().map_err(ArchiveStop::Scratch)?;
        Ok((size, Box::new(plain)))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.layout.join("blobs/sha256").join(digest.hex())
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
        // A pipe gives its content once: whoever opens it again waits for ever.
        let blob = folder.path().join("blobs/sha256").join(Digest::of(&squeezed).hex());
        std::fs::remove_file(&blob).expect("removable");
        assert!(std::process::Command::new("mkfifo").arg(&blob).status().expect("mkfifo").success());
        std::thread::spawn(move || std::fs::write(&blob, squeezed));
        let (sender, done) = std::sync::mpsc::channel();
        let archive = archive(&folder, image);
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            archive.write(&mut bytes).expect("written");
            sender.send(bytes)
        });
        let bytes = done.recv_timeout(std::time::Duration::from_secs(30)).expect("a layer is read twice");
        let mut archived = tar::Archive::new(&bytes[..]);
        let mut layer = archived.entries().expect("an archive").next().expect("a layer").expect("an entry");
        let mut text = Vec::new();
        layer.read_to_end(&mut text).expect("its content");
        assert!(text == content, "{} bytes instead of {}", text.len(), content.len());
        drop(folder);
    }
}
