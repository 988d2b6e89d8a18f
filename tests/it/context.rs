//! What the room `context` lists is what a real buildkitd is sent: kinds, modes, contents, names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lian_build::adapters::context::Reader;
use lian_build::domain::base::Digest;
use lian_build::domain::model::FileKind;
use lian_build::domain::ports::{Builder as _, ContextReader as _};

use crate::support::buildkitd::{scratch, stage};

/// Kind, mode (none of links) and content (or where a link leads), by the path's bytes.
type Tree = BTreeMap<Vec<u8>, (FileKind, u32, Digest)>;

const IGNORE: &str = "\
# nested exceptions below folders that are left out
out
!out/kept
out/kept/not
!out/deep/*/wanted.txt
**/*.log
!important.log
empty-out
[ab]?.tmp
# what the build itself adds
Dockerfile
.dockerignore
";

const FILES: [&str; 17] = [
    "plain",
    "with space",
    "ünï/cödé",
    "back\\slash",
    "out/gone",
    "out/kept/here",
    "out/kept/not/x",
    "out/kept/a.log",
    "out/deep/one/wanted.txt",
    "out/deep/one/other.txt",
    "out/deep/two/other.txt",
    "x.log",
    "important.log",
    "sub/important.log",
    "a1.tmp",
    "sub/a1.tmp",
    "sub/.hidden/.file",
];

fn put(path: &Path, text: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    fs::write(path, text).expect("a file");
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// A context with all that is tricky.
fn plant(context: &Path) {
    for (at, file) in FILES.iter().enumerate() {
        put(&context.join(file), format!("{at} {file}").as_bytes());
    }
    put(&context.join(OsStr::from_bytes(b"raw-\xff\xfe")), b"no text in its name");
    for (file, bits) in [("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1644), ("none", 0o000), ("all", 0o777)] {
        put(&context.join("modes").join(file), file.as_bytes());
        mode(&context.join("modes").join(file), bits);
    }
    for (folder, bits) in
        [("empty", 0o755), ("empty-out", 0o755), ("sub/empty", 0o700), ("shared", 0o1777), ("group", 0o2775)]
    {
        fs::create_dir_all(context.join(folder)).expect("a folder");
        mode(&context.join(folder), bits);
    }
    mode(&context.join("out"), 0o711);
    for (to, link) in [
        ("plain", "link"),
        ("nowhere", "dangling"),
        ("../..", "upward"),
        ("/etc/passwd", "absolute"),
        ("sub", "to-folder"),
        ("gone", "out/link"),
        ("here", "out/kept/link"),
    ] {
        symlink(to, context.join(link)).expect("a link");
    }
    fs::hard_link(context.join("plain"), context.join("twin")).expect("a link");
    put(&context.join(".dockerignore"), IGNORE.as_bytes());
}

/// The bytes that a listing's name stands for.
fn unescaped(name: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), name);
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        rest = match after.strip_prefix('x') {
            Some(hex) => {
                bytes.push(u8::from_str_radix(&hex[..2], 16).expect("two digits"));
                &hex[2..]
            }
            None => {
                bytes.push(b'\\');
                after.strip_prefix('\\').expect("a second backslash")
            }
        };
    }
    bytes.extend(rest.as_bytes());
    bytes
}

fn listed(project: &Path, context: &Path) -> Tree {
    let listing = Reader::default().list(project, context, &context.join("Dockerfile")).expect("a listing");
    listing.files.into_iter().map(|(name, entry)| (unescaped(&name), (entry.kind, entry.mode, entry.digest))).collect()
}

/// The tree of an image's layers, unpacked one over the other.
fn unpacked(layout: &Path, manifest: &Digest, into: &Path) -> Tree {
    let blob = |digest: &str| layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let text = fs::read_to_string(blob(&manifest.to_string())).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for layer in manifest["layers"].as_array().expect("layers") {
        let file = fs::File::open(blob(layer["digest"].as_str().expect("a digest"))).expect("a blob");
        let mut tar = Command::new("tar");
        tar.args(["-x", "-p", "--same-owner"]);
        match layer["mediaType"].as_str().expect("a type") {
            kind if kind.ends_with("gzip") => tar.arg("-z"),
            kind if kind.ends_with("zstd") => tar.arg("--zstd"),
            _ => &mut tar,
        };
        let status = tar.arg("-C").arg(into).stdin(Stdio::from(file)).status().expect("tar runs");
        assert!(status.success());
    }
    let mut tree = Tree::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(into.join(&folder)).expect("a folder").flatten() {
            let (path, full) = (folder.join(entry.file_name()), entry.path());
            let metadata = fs::symlink_metadata(&full).expect("metadata");
            let bits = metadata.mode() & 0o7777;
            let found = if metadata.is_dir() {
                folders.push(path.clone());
                (FileKind::Folder, bits, Digest::of(""))
            } else if metadata.is_symlink() {
                (FileKind::Link, 0, Digest::of(fs::read_link(&full).expect("a link").as_os_str().as_bytes()))
            } else {
                (FileKind::File, bits, Digest::of(fs::read(&full).expect("a file")))
            };
            tree.insert(path.into_os_string().into_vec(), found);
        }
    }
    tree
}

fn told(tree: &Tree) -> String {
    let line = |(path, (kind, mode, digest)): (&Vec<u8>, &(FileKind, u32, Digest))| {
        format!("{kind:?} {mode:04o} {} {}\n", &digest.hex()[..8], path.escape_ascii())
    };
    tree.iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_is_what_buildkit_is_sent() {
    let folder = scratch();
    let mut request = stage().request(folder.path(), "FROM scratch\nCOPY . /\n");
    plant(&request.context);
    let read = Reader::default().read(folder.path(), &request.context, &request.dockerfile);
    request.definition = read.expect("a context").1;
    let listed = listed(folder.path(), &request.context);
    let built = stage().builder().build(&request, &|_| ()).await.expect("built");
    let into = folder.path().join("unpacked");
    fs::create_dir(&into).expect("a folder");
    let sent = unpacked(&request.staging, &built.digest, &into);
    assert_eq!(told(&listed), told(&sent));

    // Both hold what the case is about.
    let has = |path: &str| sent.contains_key(path.as_bytes());
    for path in ["out/kept/here", "out/deep/one/wanted.txt", "important.log", "sub/empty", "dangling", "back\\slash"] {
        assert!(has(path), "{path} is missing:\n{}", told(&sent));
    }
    for path in [
        "out/gone",
        "out/kept/not",
        "out/kept/a.log",
        "sub/important.log",
        "out/deep/two",
        "empty-out",
        "out/link",
        "a1.tmp",
    ] {
        assert!(!has(path), "{path} was sent:\n{}", told(&sent));
    }
    assert_eq!(sent[b"modes/setuid".as_slice()].1, 0o4755);
}
