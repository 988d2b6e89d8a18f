//! One Nickel context that many files share, because loading the standard library takes 17 ms. Not responsible for:
//! limiting what an evaluation may use (the process around it does).

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nickel_lang_core::ast::InputFormat;
use nickel_lang_core::cache::{CacheHub, SourcePath};
use nickel_lang_core::error::{Error, NullReporter};
use nickel_lang_core::eval::cache::CacheImpl;
use nickel_lang_core::eval::value::NickelValue;
use nickel_lang_core::eval::{VirtualMachine, VmContext};
use nickel_lang_core::files::FileId;
use serde::Deserialize as _;

use super::embedded;
use super::faults::Drawer;
use super::guard::Guard;
use super::places;
use super::protocol::{BatchRequest, Contract, Finished, Item, Setting, Value};
use super::schemas::Schemas;
use super::settings;
use super::syntax::{self, Outline};
use crate::domain::base::LayerName;
use crate::domain::model::{BuildSpec, CatalogSettings, Declared, Diagnostic, Layer, Workflow};
use crate::system::read::Cap;

/// A lenient context is replaced after this many files, because each error holds a copy of all positions so far.
const LENIENT_FILES: usize = 16;
/// The largest value of a declaration, in bytes of JSON.
const VALUE_BYTES: usize = 1 << 20;

/// A context with its guard.
struct EvalContext {
    context: VmContext<CacheHub, CacheImpl>,
    guard: Guard,
    /// What is bound around directives.
    bindings: String,
    served: usize,
}

/// A file that passed the guard.
struct Opened {
    file: Option<(FileId, PathBuf)>,
    outline: Outline,
}

impl EvalContext {
    fn new(schemas: &Schemas, request: &BatchRequest, lenient: bool) -> Self {
        let mut hub = CacheHub::new();
        let names = schemas.files().map(|(name, _)| name.to_owned()).collect();
        let mut guard = Guard::new(request.import_scope.clone(), names);
        for (name, text) in schemas.files() {
            let text = if lenient { embedded::opened(text) } else { text.to_owned() };
            let path = SourcePath::Path(embedded::path_of(name), InputFormat::Nickel);
            guard.approve(hub.sources.add_string(path, text));
        }
        hub.sources.add_import_paths(std::iter::once(embedded::FOLDER));
        let context = VmContext::new(hub, io::sink(), NullReporter {});
        Self { context, guard, bindings: request.bindings.clone(), served: 0 }
    }

    fn hub(&mut self) -> &mut CacheHub {
        &mut self.context.import_resolver
    }

    fn open(&mut self, path: &Path, drawer: &Drawer<'_>, contract: Contract) -> Result<Opened, Vec<Diagnostic>> {
        if !self.guard.allows(path) {
            return Err(vec![drawer.leads_outside(path)]);
        }
        let bindings = if contract == Contract::Directives { self.bindings.as_str() } else { "" };
        let file = self
            .guard
            .load_bound(&mut self.context.import_resolver, (path, bindings), InputFormat::Nickel, Cap::Declaration)
            .map_err(|error| vec![drawer.unreadable(path, &error)])?;
        let faults = self.guard.check(&mut self.context.import_resolver, file, path);
        let outline = self.hub().asts.get(file).map(syntax::outline).unwrap_or_default();
        if faults.is_empty() {
            return Ok(Opened { file: Some((file, path.to_owned())), outline });
        }
        let hub = &self.context.import_resolver;
        Err(faults.into_iter().flat_map(|fault| drawer.import_fault(hub, fault, contract)).collect())
    }

    /// The program that checks a file against its contract, with its overrides.
    fn program(&mut self, item: &Item, settings: &[&Setting]) -> FileId {
        let base = match &item.file {
            Some(path) => format!("(import {})", syntax::quoted(&path.to_string_lossy())),
            None => "{}".to_owned(),
        };
        let schema = syntax::quoted(&embedded::path_of(item.contract.schema()).to_string_lossy());
        let name = item.contract.name();
        let overrides: String = settings.iter().map(|setting| settings::merged(setting)).collect();
        let text = format!("let {{ {name}, .. }} = import {schema} in\n({base}{overrides}) | {name}");
        self.hub().sources.add_string(SourcePath::Generated(format!("item {}", item.index)), text)
    }

    fn prepare(&mut self, program: FileId) -> Result<NickelValue, Error> {
        let value = self.context.prepare_eval(program)?;
        Ok(value)
    }

    /// An import that the guard did not see. The interpreter's own list of imports is complete.
    fn smuggled(&self, program: FileId) -> Option<FileId> {
        let imports = self.context.import_resolver.import_data.transitive_imports(program);
        imports.into_iter().find(|file| !self.guard.is_approved(*file))
    }
}

/// Evaluates the files of a request.
pub(super) struct Interpreter<'a> {
    request: &'a BatchRequest,
    schemas: &'a Schemas,
    strict: EvalContext,
    lenient: Option<EvalContext>,
    sent: HashSet<PathBuf>,
}

impl<'a> Interpreter<'a> {
    /// An interpreter for the files of this request.
    pub(super) fn new(request: &'a BatchRequest, schemas: &'a Schemas) -> Self {
        let strict = EvalContext::new(schemas, request, false);
        Self { request, schemas, strict, lenient: None, sent: HashSet::new() }
    }

    fn drawer(&self) -> Drawer<'a> {
        let directives = self.request.items.iter().find(|item| item.contract == Contract::Directives);
        let bound = directives.and_then(|item| Some((item.file.as_deref()?, self.request.bindings.len())));
        Drawer { shown: &self.request.shown, schemas: self.schemas, bound }
    }

    /// Evaluates one file.
    pub(super) fn evaluate(&mut self, item: &Item) -> Finished {
        let drawer = self.drawer();
        let opened = match &item.file {
            Some(path) => self.strict.open(path, &drawer, item.contract),
            None => Ok(Opened { file: None, outline: Outline::default() }),
        };
        let (name, result) = match opened {
            Ok(opened) => {
                let name = opened.outline.name.clone().unwrap_or_else(|| item.folder.clone());
                (name.clone(), self.evaluate_opened(item, &opened, &name))
            }
            Err(diagnostics) => {
                let file = item.file.as_ref().and_then(|path| {
                    self.strict.hub().sources.id_of(&SourcePath::Path(path.clone(), InputFormat::Nickel))
                });
                let name = file.and_then(|file| {
                    let hub = self.strict.hub();
                    let outline = hub.asts.get(file).map(syntax::outline);
                    outline.map_or_else(|| syntax::name_in(hub.sources.source(file)), |outline| outline.name)
                });
                (name.unwrap_or_else(|| item.folder.clone()), Err(diagnostics))
            }
        };
        let (value, mut diagnostics) = match result {
            Ok(value) => (Some(value), Vec::new()),
            Err(diagnostics) => (None, diagnostics),
        };
        let name = match &value {
            Some(Value::Layer(declared)) => declared.layer.name.as_str().to_owned(),
            _ => name,
        };
        if item.contract == Contract::Layer {
            for diagnostic in &mut diagnostics {
                diagnostic.layer.get_or_insert_with(|| LayerName::new(name.as_str()));
            }
        }
        let files = self.unsent(item, value.as_ref(), &diagnostics);
        Finished { index: item.index, value, name: Some(name), diagnostics, files }
    }

    fn evaluate_opened(&mut self, item: &Item, opened: &Opened, name: &str) -> Result<Value, Vec<Diagnostic>> {
        let mut settings = self.settings_for(item.contract, name);
        let mut value = self.attempt(item, opened, &settings)?;
        // The name may be computed, so only now do we know which overrides apply.
        if let Value::Layer(declared) = &value {
            let meant = self.settings_for(item.contract, declared.layer.name.as_str());
            if meant != settings {
                settings = meant;
                value = self.attempt(item, opened, &settings)?;
            }
        }
        Ok(value)
    }

    fn settings_for(&self, contract: Contract, name: &str) -> Vec<&'a Setting> {
        let wanted = match contract {
            Contract::Layer => Some(name),
            Contract::Catalog => None,
            Contract::Workflow | Contract::Directives | Contract::BuildSpec => return Vec::new(),
        };
        self.request.settings.iter().filter(|setting| setting.layer.as_deref() == wanted).collect()
    }

    fn attempt(&mut self, item: &Item, opened: &Opened, settings: &[&Setting]) -> Result<Value, Vec<Diagnostic>> {
        let drawer = self.drawer();
        let program = self.strict.program(item, settings);
        let evaluated = self.strict.prepare(program);
        if let Some(file) = self.strict.smuggled(program) {
            return Err(vec![drawer.smuggled(&self.strict.context.import_resolver, file)]);
        }
        let evaluated = evaluated.and_then(|value| {
            let mut machine = VirtualMachine::new(&mut self.strict.context);
            machine.eval_full_for_export(value).map_err(Error::from)
        });
        match evaluated {
            Ok(value) => self.deserialized(item, opened, value),
            Err(error) => Err(self.explained(item, opened, settings, error)),
        }
    }

    /// All faults of a file that failed, or at least the fault that stopped it.
    fn explained(&mut self, item: &Item, opened: &Opened, settings: &[&Setting], error: Error) -> Vec<Diagnostic> {
        let drawer = self.drawer();
        let mut found = Vec::new();
        if matches!(error, Error::EvalError(_)) {
            if self.lenient.as_ref().is_none_or(|session| session.served >= LENIENT_FILES) {
                self.lenient = Some(EvalContext::new(self.schemas, self.request, true));
            }
            let session = self.lenient.as_mut().expect("invariant: it was made just before");
            session.served += 1;
            found = all_faults(session, item, settings, &drawer);
        }
        if found.is_empty() {
            found = drawer.error(&self.strict.context.import_resolver, error, item.contract);
        }
        drawer.tidied(found, &self.strict.context.import_resolver, &opened.outline)
    }

    fn deserialized(&mut self, item: &Item, opened: &Opened, value: NickelValue) -> Result<Value, Vec<Diagnostic>> {
        let drawer = self.drawer();
        let file = item.file.as_deref().map(|path| drawer.shown(path)).unwrap_or_default();
        let places = match (&opened.file, item.contract) {
            (Some((id, _)), Contract::Layer | Contract::Directives) => {
                places::of(&value, *id, &opened.outline, &self.strict.context, &drawer)
            }
            _ => BTreeMap::new(),
        };
        let result = match item.contract {
            Contract::Layer => Layer::deserialize(value)
                .map(|layer| Value::Layer(Box::new(Declared { layer, file: file.clone(), places })))
                .map_err(|error| error.to_string()),
            Contract::Catalog => {
                CatalogSettings::deserialize(value).map(Value::Catalog).map_err(|error| error.to_string())
            }
            Contract::Workflow | Contract::Directives => {
                workflow(&value).map(|read| Value::Workflow(Box::new(read), places)).map_err(|error| error.to_string())
            }
            Contract::BuildSpec => {
                BuildSpec::deserialize(value).map(Value::BuildSpec).map_err(|error| error.to_string())
            }
        };
        let value = result.map_err(|error| vec![Drawer::misfit(&file, item.contract, &error)])?;
        let bytes = serde_json::to_vec(&value).map_or(usize::MAX, |json| json.len());
        if bytes > VALUE_BYTES { Err(vec![Drawer::too_large(&file, bytes)]) } else { Ok(value) }
    }

    /// The texts of the item's file and of every file that its places point into. Each text is sent once.
    fn unsent(&mut self, item: &Item, value: Option<&Value>, diagnostics: &[Diagnostic]) -> Vec<(PathBuf, Arc<str>)> {
        let drawer = self.drawer();
        let sources = &self.strict.context.import_resolver.sources;
        let mut files = Vec::new();
        if let Some(path) = &item.file
            && let Some(id) = sources.id_of(&SourcePath::Path(path.clone(), InputFormat::Nickel))
        {
            let shown = drawer.shown(path);
            if self.sent.insert(shown.clone()) {
                let text = sources.clone_source(id);
                let before = drawer.before(path);
                files.push((shown, if before == 0 { text } else { text[before..].into() }));
            }
        }
        let labels = diagnostics.iter().flat_map(|diagnostic| &diagnostic.labels);
        let mut wanted: HashSet<&PathBuf> = labels.map(|label| &label.place.file).collect();
        if let Some(Value::Layer(declared)) = value {
            wanted.extend(declared.places.values().map(|place| &place.file));
        }
        wanted.retain(|file| !self.sent.contains(*file));
        if wanted.is_empty() {
            return files;
        }
        for (id, path) in &sources.file_paths {
            if let Some(shown) = drawer.shown_source(path)
                && wanted.remove(&shown)
            {
                self.sent.insert(shown.clone());
                files.push((shown, sources.clone_source(*id)));
            }
        }
        files
    }
}

fn all_faults(session: &mut EvalContext, item: &Item, settings: &[&Setting], drawer: &Drawer<'_>) -> Vec<Diagnostic> {
    if let Some(path) = &item.file
        && session.open(path, drawer, item.contract).is_err()
    {
        return Vec::new();
    }
    let program = session.program(item, settings);
    let Ok(value) = session.prepare(program) else { return Vec::new() };
    let mut machine = VirtualMachine::new(&mut session.context);
    let errors = machine.eval_permissive(value.clone(), 128);
    let root = machine.eval(value).ok();
    drop(machine);
    let hub = &session.context.import_resolver;
    let mut found = Vec::new();
    if let Some(record) = root.as_ref().and_then(NickelValue::as_record).and_then(|record| record.into_opt()) {
        for ident in record.fields.keys() {
            if !item.contract.fields().contains(&ident.label()) {
                found.push(drawer.unknown_field(hub, ident.label(), ident.pos, item.contract));
            }
        }
    }
    found.extend(errors.into_iter().flat_map(|error| drawer.error(hub, Error::EvalError(error), item.contract)));
    found
}

/// Through JSON, so that the settings of providers, whose types are not known here, keep whole numbers whole.
fn workflow(value: &NickelValue) -> Result<Workflow, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(value)?)
}
