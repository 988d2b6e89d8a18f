//! Loads catalogs and workflows: finds the files, has child processes evaluate them, and collects the results.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::NickelError;
use super::locate;
use super::pool::{self, Death, ItemOutcome, Limits};
use super::protocol::{BatchRequest, Contract, Finished, Item, Setting, Shown, Value};
use super::{bindings, settings, syntax};
use crate::domain::base::{LayerName, SourceLocation, Span, nearest};
use crate::domain::model::{BuildSpec, Catalog, CatalogSettings, Declared, Diagnostic, Sources, Workflow};
use crate::system::bug;

/// What to load.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The catalog's folder, as the user named it.
    pub root: PathBuf,
    /// Overrides, `--set PATH=VALUE` (see `settings`).
    pub settings: Vec<(String, String)>,
    /// Folders outside the project from which files may be imported.
    pub allow_imports: Vec<PathBuf>,
    /// The project's root.
    pub project_root: PathBuf,
}

/// A catalog, as far as it could be read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The layers that evaluated.
    pub catalog: Catalog,
    /// What is wrong with the others.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that the diagnostics' places point into.
    pub sources: Sources,
    /// The layers that did not evaluate: by name, or by folder if the file does not give its name. Layers that name
    /// them must not be reported as naming an unknown layer.
    pub broken: Vec<LayerName>,
    /// Whether the catalog's own settings failed to evaluate, so that `catalog` holds the defaults.
    pub unsettled: bool,
}

/// A workflow, as far as it could be read.
#[derive(Debug, Clone, Default)]
pub struct LoadedWorkflow {
    /// Where the values of its fields are written, by dotted path; for directives only.
    pub places: BTreeMap<String, SourceLocation>,
    /// The workflow, where it evaluated. Its paths can be used from the working directory: relative ones were taken as
    /// relative to the workflow's own folder. Paths in the settings of providers are as the file says them.
    pub workflow: Option<Workflow>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that the diagnostics' places point into.
    pub sources: Sources,
}

/// Build specifications, as far as they could be read.
#[derive(Debug, Clone)]
pub struct LoadedSpecs {
    /// In the order of the files; `None` for a file that did not evaluate.
    pub specs: Vec<Option<BuildSpec>>,
    /// What is wrong with them.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that the diagnostics' places point into.
    pub sources: Sources,
}

/// Evaluates Nickel in child processes of this program.
#[derive(Debug, Clone)]
pub struct Evaluator {
    program: PathBuf,
    limits: Limits,
}

impl Evaluator {
    /// An evaluator that runs `program` as its child: a binary whose `main` calls [`child_main`](super::child_main). In
    /// production that is this process's own binary.
    pub fn new(program: PathBuf) -> Self {
        Self { program, limits: Limits::default() }
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// As it is, but all files together get no more than this elapsed time.
    #[must_use]
    pub fn within(mut self, most: Duration) -> Self {
        self.limits.wall = self.limits.wall.min(most);
        self
    }

    /// Loads a catalog. Faults inside its files become diagnostics; an error means that nothing could be read.
    pub fn load(&self, request: &LoadRequest) -> Result<Loaded, NickelError> {
        let actual = fs::canonicalize(&request.root)
            .ok()
            .filter(|path| path.is_dir())
            .ok_or_else(|| NickelError::no_catalog(request.root.clone()))?;
        let shown = locate::shown(&request.root, &actual);
        let scope = locate::scope(&request.project_root, &request.allow_imports);
        let (found, mut diagnostics) = locate::layers(&actual, &shown, &scope)?;
        let mut broken: Vec<LayerName> = diagnostics.iter().filter_map(|fault| fault.layer.clone()).collect();
        let mut settings = Vec::new();
        for (path, value) in &request.settings {
            match settings::parse(path, value) {
                Ok(setting) => settings.push(setting),
                Err(fault) => diagnostics.push(*fault),
            }
        }
        let mut items = Vec::new();
        let own = actual.join("catalog.ncl");
        let own = fs::symlink_metadata(&own).is_ok().then_some(own);
        if own.is_some() || settings.iter().any(|setting| setting.layer.is_none()) {
            items.push(Item { index: 0, contract: Contract::Catalog, file: own, folder: String::new() });
        }
        for found in found {
            let index = items.len();
            items.push(Item { index, contract: Contract::Layer, file: Some(found.file), folder: found.folder });
        }
        let expected = items.first().is_some_and(|item| item.contract == Contract::Catalog);
        let work = Work { settings: settings.clone(), ..Work::of(items, scope, shown) };
        let gathered = self.evaluate(work)?;
        let unsettled = expected && gathered.settings.is_none();
        diagnostics.extend(gathered.diagnostics);
        broken.extend(gathered.broken);
        diagnostics.extend(unmet(&settings, &gathered.layers, &broken));
        let catalog = Catalog {
            root: request.root.clone(),
            project_root: request.project_root.clone(),
            settings: gathered.settings.unwrap_or_default(),
            layers: gathered.layers,
        };
        Ok(Loaded { catalog, diagnostics, sources: gathered.sources, broken, unsettled })
    }

    /// Loads a workflow file.
    pub fn workflow(&self, file: &Path, allow_imports: &[PathBuf]) -> Result<LoadedWorkflow, NickelError> {
        self.one_workflow((file, Contract::Workflow), String::new(), allow_imports)
    }

    /// Loads directives: a workflow that says for which workspace it builds, with names bound around its text
    /// (`--set NAME=VALUE`, see `bindings`).
    pub fn directives(
        &self,
        file: &Path,
        set: &[(String, String)],
        allow_imports: &[PathBuf],
    ) -> Result<LoadedWorkflow, NickelError> {
        match bindings::around(set) {
            Ok(text) => self.one_workflow((file, Contract::Directives), text, allow_imports),
            Err(diagnostics) => Ok(LoadedWorkflow { diagnostics, ..LoadedWorkflow::default() }),
        }
    }

    fn one_workflow(
        &self,
        (file, contract): (&Path, Contract),
        bindings: String,
        allow_imports: &[PathBuf],
    ) -> Result<LoadedWorkflow, NickelError> {
        fs::canonicalize(file).map_err(|_| NickelError::NoWorkflow { path: file.to_owned() })?;
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        // The project is that of the path as it was named: a link in it may lead to a file of somebody else.
        let named = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        let root = crate::system::catalog_root(named);
        let actual = locate::actual(file, &root);
        let shown = locate::shown(&folder, actual.parent().unwrap_or(Path::new("/")));
        let scope = locate::scope(&root, allow_imports);
        let item = Item { index: 0, contract, file: Some(actual.clone()), folder: String::new() };
        let gathered = self.evaluate(Work { bindings, ..Work::of(vec![item], scope, shown) })?;
        let (workflow, places) = gathered.workflow.unzip();
        Ok(LoadedWorkflow {
            workflow: workflow.map(|workflow| resolved(workflow, &folder)),
            places: places.unwrap_or_default(),
            diagnostics: gathered.diagnostics,
            sources: gathered.sources,
        })
    }

    /// Loads `.build-spec.ncl` files. The result is `None` for a file that did not evaluate.
    pub fn build_specs(&self, files: &[PathBuf], project_root: &Path) -> Result<LoadedSpecs, NickelError> {
        let item = |(index, file): (usize, &PathBuf)| {
            let file = Some(locate::actual(file, project_root));
            Item { index, contract: Contract::BuildSpec, file, folder: String::new() }
        };
        let items: Vec<Item> = files.iter().enumerate().map(item).collect();
        let shown = items.iter().zip(files).filter_map(|(item, file)| {
            Some(Shown { actual: item.file.as_deref()?.parent()?.to_owned(), shown: file.parent()?.to_owned() })
        });
        let (shown, scope) = (shown.collect(), locate::scope(project_root, &[]));
        let gathered = self.evaluate(Work::of(items, scope, shown))?;
        let mut specs = vec![None; files.len()];
        for (index, spec) in gathered.specs {
            specs[index] = Some(spec);
        }
        Ok(LoadedSpecs { specs, diagnostics: gathered.diagnostics, sources: gathered.sources })
    }

    fn evaluate(&self, work: Work) -> Result<Gathered, NickelError> {
        let Work { items, settings, bindings, import_scope, shown } = work;
        let paths = import_scope.iter().chain(shown.iter().flat_map(|one| [&one.actual, &one.shown]));
        for path in paths.chain(items.iter().filter_map(|item| item.file.as_ref())) {
            if path.to_str().is_none() {
                return Err(NickelError::NotUtf8 { path: path.clone() });
            }
        }
        if items.is_empty() {
            return Ok(Gathered::default());
        }
        let request = BatchRequest {
            items,
            settings,
            bindings,
            import_scope,
            shown,
            memory_bytes: self.limits.memory_bytes,
            cpu_seconds: self.limits.cpu.as_secs().max(1),
            stack_bytes: self.limits.stack_bytes,
        };
        let outcomes = pool::run(&self.program, &request, &self.limits)
            .map_err(|source| NickelError::Process { program: self.program.clone(), source })?;
        Ok(Gathered::from(outcomes, &request.shown, &self.limits))
    }
}

/// What children are to do.
struct Work {
    items: Vec<Item>,
    settings: Vec<Setting>,
    bindings: String,
    import_scope: Vec<PathBuf>,
    shown: Vec<Shown>,
}

impl Work {
    fn of(items: Vec<Item>, import_scope: Vec<PathBuf>, shown: Vec<Shown>) -> Self {
        Self { items, settings: Vec::new(), bindings: String::new(), import_scope, shown }
    }
}

#[derive(Default)]
struct Gathered {
    layers: Vec<Declared>,
    settings: Option<CatalogSettings>,
    workflow: Option<(Workflow, BTreeMap<String, SourceLocation>)>,
    specs: Vec<(usize, BuildSpec)>,
    diagnostics: Vec<Diagnostic>,
    sources: Sources,
    broken: Vec<LayerName>,
}

impl Gathered {
    fn from(outcomes: Vec<ItemOutcome>, shown: &[Shown], limits: &Limits) -> Self {
        let mut gathered = Self::default();
        let mut finished: Vec<Finished> = Vec::new();
        for outcome in outcomes {
            match outcome {
                ItemOutcome::Finished(one) => finished.push(*one),
                ItemOutcome::Died(item, death) => finished.push(buried(&item, &death, shown, limits)),
            }
        }
        finished.sort_by_key(|one| one.index);
        let mut seen: HashMap<_, usize> = HashMap::new();
        for one in finished {
            let failed = one.value.is_none();
            match one.value {
                Some(Value::Layer(declared)) => gathered.layers.push(*declared),
                Some(Value::Catalog(settings)) => gathered.settings = Some(settings),
                Some(Value::Workflow(workflow, places)) => gathered.workflow = Some((*workflow, places)),
                Some(Value::BuildSpec(spec)) => gathered.specs.push((one.index, spec)),
                None => {}
            }
            for (file, text) in one.files {
                gathered.sources.add(file, text);
            }
            if failed && let Some(name) = one.name.filter(|name| !name.is_empty()) {
                gathered.broken.push(LayerName::new(name));
            }
            for diagnostic in one.diagnostics {
                // Every layer that imports a shared file meets its fault, which is reported once.
                let place = diagnostic.labels.first().map(|label| label.place.clone());
                let key = (diagnostic.code.clone(), diagnostic.message.clone(), place);
                match seen.get(&key) {
                    Some(at) if key.2.is_some() => gathered.diagnostics[*at].layer = None,
                    _ => {
                        seen.insert(key, gathered.diagnostics.len());
                        gathered.diagnostics.push(diagnostic);
                    }
                }
            }
        }
        gathered
    }
}

/// The result of a file whose evaluation killed its process.
fn buried(item: &Item, death: &Death, shown: &[Shown], limits: &Limits) -> Finished {
    let file = item.file.as_deref().map(|path| Shown::path(shown, path)).unwrap_or_default();
    let name = file.display();
    let limit = "lian::nickel::limit";
    let fault = match death {
        Death::Stack => Diagnostic::error(limit, format!("{name} nests too deeply: the stack limit was reached"))
            .help("look for a function or a contract that calls itself without end, or nest less deeply"),
        Death::Memory => Diagnostic::error(
            limit,
            format!(
                "{name} needs more than {} to evaluate: the memory limit was reached",
                crate::domain::base::human_bytes(limits.memory_bytes)
            ),
        )
        .help("look for a value that grows without end"),
        Death::Time => Diagnostic::error(
            limit,
            format!(
                "{name} takes more than {} to evaluate: the time limit was reached",
                crate::domain::base::human_duration(limits.cpu)
            ),
        )
        .help("look for a function that calls itself without end"),
        Death::Starved => Diagnostic::error(
            limit,
            format!(
                "{name} was not evaluated: the catalog as a whole used up {}",
                crate::domain::base::human_duration(limits.wall)
            ),
        )
        .help("correct the files that reached a limit first, or give the whole more time with --check-budget"),
        Death::Crash(what) => {
            Diagnostic::error("lian::nickel::crash", format!("{name} makes the Nickel interpreter fail: {what}"))
                .help(format!("{}; a simpler declaration may get round it", bug::way()))
        }
    };
    let mut fault = fault.label(SourceLocation { file: file.clone(), span: Span::default() }, "");
    // Only the start of the text is read: the file may be anything.
    let text = item.file.as_deref().and_then(start_of).unwrap_or_default();
    let name = syntax::name_in(&text).unwrap_or_else(|| item.folder.clone());
    fault.layer = (item.contract == Contract::Layer).then(|| LayerName::new(name.as_str()));
    let first: String = text.lines().next().unwrap_or_default().chars().take(400).collect();
    let files = vec![(file, first.into())];
    Finished { index: item.index, value: None, name: Some(name), diagnostics: vec![fault], files }
}

fn start_of(file: &Path) -> Option<String> {
    let bytes = crate::system::read::beginning(file, 4096).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reports overrides of layers that do not exist.
fn unmet(settings: &[Setting], layers: &[Declared], broken: &[LayerName]) -> Vec<Diagnostic> {
    let names: Vec<&str> =
        layers.iter().map(|one| one.layer.name.as_str()).chain(broken.iter().map(LayerName::as_str)).collect();
    let mut faults = Vec::new();
    for setting in settings {
        let Some(wanted) = setting.layer.as_deref().filter(|layer| !names.contains(layer)) else { continue };
        let help = match nearest(wanted, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "the first part of the path is a layer's name, or `catalog` for its settings".to_owned(),
        };
        let message = format!("there is no layer `{wanted}` to set `{}` of", setting.path.join("."));
        faults.push(Diagnostic::error("lian::nickel::setting", message).help(help));
    }
    faults
}

/// The workflow with its relative paths resolved, so that they can be used from the working directory.
fn resolved(mut workflow: Workflow, folder: &Path) -> Workflow {
    let joined = |path: &Path| resolve_path(folder, path);
    workflow.catalog = workflow.catalog.map(|path| joined(&path));
    workflow.ca_bundle = workflow.ca_bundle.map(|path| joined(&path));
    if let Some(artifact) = &mut workflow.artifact {
        artifact.context = artifact.context.take().map(|path| joined(&path));
        artifact.dockerfile = artifact.dockerfile.take().map(|path| joined(&path));
    }
    for substitute in workflow.base_images.values_mut() {
        if let Some(dir) = substitute.strip_prefix("oci-layout:") {
            *substitute = format!("oci-layout:{}", joined(Path::new(dir)).display());
        }
    }
    workflow
}

/// A path that a file in this folder names, seen from the working directory.
pub fn resolve_path(folder: &Path, path: &Path) -> PathBuf {
    tidy(&folder.join(path))
}

/// `workflows/../catalog` as `catalog`. Where the folder before `..` is a link the path stays as it is.
fn tidy(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut tidied = PathBuf::new();
    for component in path.components() {
        let removable = matches!(tidied.components().next_back(), Some(Component::Normal(_))) && !tidied.is_symlink();
        match component {
            Component::CurDir => {}
            Component::ParentDir if removable => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    if tidied.as_os_str().is_empty() { PathBuf::from(".") } else { tidied }
}
