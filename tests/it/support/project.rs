//! A project in a folder of its own, and the binary run in it. Not responsible for: knowing what a test wants.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lian_build::app::state::State;
use lian_build::domain::ports::ImageSource;
use serde_json::Value;

use super::buildkitd;

/// The binary under test.
pub const LIAN: &str = env!("CARGO_BIN_EXE_lian-build");

/// A project: a `.git`, a catalog, and whatever the test writes.
pub struct Project {
    dir: tempfile::TempDir,
    /// What lian-build keeps for the user of this project: each test has a user of its own.
    data: tempfile::TempDir,
    base: Option<PathBuf>,
    /// What its commands run.
    pub binary: PathBuf,
}

/// What a command came to.
pub struct Ran {
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Both streams, for messages.
    pub fn both(&self) -> String {
        format!("exit {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }

    /// Asserts the exit code, showing everything where it is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.both());
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{}", self.both()))
    }

    /// Standard output as one JSON value a line.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{}", self.both()));
        self.stdout.lines().map(parse).collect()
    }

    /// The outcome of each step, by layer, sorted: `app=built`.
    #[track_caller]
    pub fn outcomes(&self) -> Vec<String> {
        let mut ends: Vec<String> = self
            .events()
            .iter()
            .filter(|event| event["type"] == "step.finished")
            .map(|event| format!("{}={}", text(&event["layer"]), text(&event["outcome"])))
            .collect();
        ends.sort();
        ends
    }
}

/// A JSON string's text.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("<none>")
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Project {
    /// An empty project with a `.git`.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("lian-it-").tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join(".git")).expect("writable");
        let data = tempfile::Builder::new().prefix("lian-user-").tempdir().expect("a temporary folder");
        Self { dir, data, base: None, binary: LIAN.into() }
    }

    /// A project whose layers may stand on `base.example/busybox:1` (a substitute), on the shared daemon.
    pub fn with_base() -> Self {
        let ImageSource::Layout { dir, .. } = &buildkitd::stage().base else { panic!("the base is a layout") };
        Self { base: Some(dir.clone()), ..Self::new() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The folder for everything that lian-build keeps for this project's user.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The project's state folder, there or not.
    pub fn state(&self) -> PathBuf {
        let root = std::fs::canonicalize(self.path()).expect("a folder");
        State::of(&root, self.data(), None).path().to_owned()
    }

    /// Writes a file, making its folders.
    pub fn write(&self, path: &str, content: &str) -> &Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the project")).expect("writable");
        std::fs::write(path, content).expect("writable");
        self
    }

    /// Declares a layer: fields beside name and kind, and its Dockerfile.
    pub fn layer(&self, name: &str, fields: &str, dockerfile: &str) -> &Self {
        let declaration = format!(
            "let {{ Layer, .. }} = import \"schemas/workflow.ncl\" in\n{{\n  name = \"{name}\",\n  kind = 'utility,\n{fields}\n}} | Layer\n"
        );
        self.write(&format!("catalog/{name}/workflow.ncl"), &declaration);
        self.write(&format!("catalog/{name}/Dockerfile"), dockerfile)
    }

    /// The binary with these arguments, in the project.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(self.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        command.env("LIAN_DATA_DIR", self.data()).env_remove("LIAN_STATE");
        // What a stranger may make it do has tests of its own.
        command.env("LIAN_TRUST", "all");
        if let (Some(base), Some("plan" | "apply" | "dispatch")) = (&self.base, arguments.first().copied()) {
            command.arg(format!("--base-image=base.example/busybox:1=oci-layout:{}", base.display()));
            command.env("BUILDKIT_HOST", buildkitd::stage().daemon.address());
            command.env("LIAN_BUILDKIT_BIN", buildkitd::binaries().buildctl.parent().expect("a folder"));
        }
        command
    }

    /// Runs the binary to its end.
    #[track_caller]
    pub fn lian(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("the binary starts").into()
    }

    /// The references in the project's image layout, sorted: `lamina/app:latest`.
    pub fn references(&self) -> Vec<String> {
        let Ok(text) = std::fs::read_to_string(self.state().join("images/index.json")) else { return Vec::new() };
        let index: Value = serde_json::from_str(&text).expect("an index");
        let manifests = index["manifests"].as_array().expect("manifests");
        let mut names: Vec<String> =
            manifests.iter().map(|entry| text_of(&entry["annotations"]["org.opencontainers.image.ref.name"])).collect();
        names.sort();
        names
    }

    /// The digest that a reference points to.
    pub fn digest(&self, reference: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.state().join("images/index.json")).ok()?;
        let index: Value = serde_json::from_str(&text).ok()?;
        let found = index["manifests"]
            .as_array()?
            .iter()
            .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == reference)?;
        Some(text_of(&found["digest"]))
    }
}

fn text_of(value: &Value) -> String {
    text(value).to_owned()
}
