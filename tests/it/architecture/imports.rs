//! Which source file uses which: the edges that the circles test walks. Not responsible for: judging them.
//!
//! A path is followed through modules as far as they go. Where it ends at a `mod.rs`, the edge leads to the file that
//! defines the re-exported item. Re-exports themselves and tests make no edges.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::Visit;

/// The files that each file uses, by module path (`domain::model::layer`).
pub type Edges = BTreeMap<String, BTreeSet<String>>;

type Path = Vec<String>;

/// One source file, as far as imports go.
#[derive(Default)]
struct File {
    /// Whether it is a `mod.rs`, `lib.rs` or `main.rs`: its own `use` items may be re-exports.
    folder: bool,
    /// The names that its `use` items bind, as paths from the crate's root.
    bound: BTreeMap<String, Path>,
    /// Paths that `use x::*` names.
    globs: Vec<Path>,
    /// Paths of its private `use` items and of its code.
    used: BTreeSet<Path>,
}

/// Reads files given as (path below `src`, text) and says who uses whom.
pub fn edges(sources: &[(String, String)]) -> Edges {
    let mut files = BTreeMap::new();
    for (path, _) in sources {
        let folder = path.ends_with("mod.rs") || path == "lib.rs";
        files.insert(module(path), File { folder, ..File::default() });
    }
    let modules: BTreeSet<Path> = files.keys().cloned().collect();
    let mut tests = BTreeSet::new();
    for (path, text) in sources {
        let own = module(path);
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut reader =
            Reader { modules: &modules, inside: own.clone(), file: files.remove(&own).unwrap_or_default(), tests };
        reader.visit_file(&parsed);
        tests = reader.tests;
        files.insert(own, reader.file);
    }
    files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    let mut edges = Edges::new();
    for (own, file) in &files {
        let targets = file.used.iter().filter_map(|path| definition(&files, path, 8)).filter(|target| target != own);
        edges.insert(own.join("::"), targets.map(|target| target.join("::")).collect());
    }
    edges
}

/// `domain/model/layer.rs` as the path of its module.
fn module(path: &str) -> Path {
    let path = path.trim_end_matches(".rs");
    path.split('/').filter(|part| !["mod", "lib"].contains(part)).map(str::to_owned).collect()
}

/// The file that defines what a path names; none for a folder that is named as a whole and for what is outside.
fn definition(files: &BTreeMap<Path, File>, path: &Path, hops: usize) -> Option<Path> {
    let depth = (0..=path.len()).rev().find(|depth| files.contains_key(&path[..*depth]))?;
    let (module, rest) = path.split_at(depth);
    let file = &files[module];
    let Some((item, rest)) = rest.split_first() else {
        return (!file.folder).then(|| module.to_vec());
    };
    if !file.folder || hops == 0 {
        return Some(module.to_vec());
    }
    if let Some(target) = file.bound.get(item) {
        return definition(files, &[target.as_slice(), rest].concat(), hops - 1);
    }
    let through = |glob: &Path| {
        let inside = files.get(glob).is_some_and(|file| !file.folder);
        inside.then(|| glob.clone())
    };
    file.globs.iter().find_map(through).or_else(|| Some(module.to_vec()))
}

/// Collects what one file uses.
struct Reader<'a> {
    modules: &'a BTreeSet<Path>,
    /// The module that is being read: the file's own or one written inside it.
    inside: Path,
    file: File,
    /// Modules that only tests have.
    tests: BTreeSet<Path>,
}

impl Reader<'_> {
    /// A path as written here, from the crate's root; none for other crates and for local names.
    fn absolute(&self, written: &[String]) -> Option<Path> {
        let (first, rest) = written.split_first()?;
        let mut from = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.inside.clone(),
            "super" => self.inside[..self.inside.len().checked_sub(1)?].to_vec(),
            name => match self.file.bound.get(name) {
                Some(bound) => bound.clone(),
                None => {
                    let child = [self.inside.as_slice(), &[name.to_owned()]].concat();
                    self.modules.contains(&child).then_some(child)?
                }
            },
        };
        for name in rest {
            if name == "super" {
                from.pop()?;
            } else {
                from.push(name.clone());
            }
        }
        Some(from)
    }

    fn note(&mut self, written: &[String]) {
        // A single name is either local or bound by a `use` that is noted already.
        if written.len() > 1
            && let Some(path) = self.absolute(written)
        {
            self.file.used.insert(path);
        }
    }

    /// Takes one `use` apart.
    fn import(&mut self, prefix: &[String], tree: &syn::UseTree, leaves: &mut Vec<(Option<String>, Path)>) {
        let with = |name: &syn::Ident| match name.to_string() {
            name if name == "self" && !prefix.is_empty() => prefix.to_vec(),
            name => [prefix, &[name]].concat(),
        };
        match tree {
            syn::UseTree::Path(path) => self.import(&with(&path.ident), &path.tree, leaves),
            syn::UseTree::Name(name) => {
                let path = with(&name.ident);
                leaves.push((path.last().cloned(), path));
            }
            syn::UseTree::Rename(rename) => leaves.push((Some(rename.rename.to_string()), with(&rename.ident))),
            syn::UseTree::Glob(_) => leaves.push((None, prefix.to_vec())),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(prefix, tree, leaves)),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let test = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    };
    attributes.iter().any(test)
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        let child = [self.inside.as_slice(), &[name]].concat();
        if is_test(&item.attrs) {
            self.tests.insert(child);
        } else if item.content.is_some() {
            let outer = std::mem::replace(&mut self.inside, child);
            syn::visit::visit_item_mod(self, item);
            self.inside = outer;
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        let public = !matches!(item.vis, syn::Visibility::Inherited);
        let mut leaves = Vec::new();
        self.import(&[], &item.tree, &mut leaves);
        for (name, written) in leaves {
            let Some(path) = self.absolute(&written) else { continue };
            match name {
                Some(name) => drop(self.file.bound.insert(name, path.clone())),
                None => self.file.globs.push(path.clone()),
            }
            if !(self.file.folder && public) {
                self.file.used.insert(path);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let written: Path = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&written);
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let text = item.tokens.to_string().replace(" ::", "::").replace(":: ", "::");
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c))) {
            let written: Path = word.trim_matches(':').split("::").map(str::to_owned).collect();
            self.note(&written);
        }
        syn::visit::visit_macro(self, item);
    }
}
