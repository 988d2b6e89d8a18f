//! Where the values of a layer's fields are written. Not responsible for: places of defaults, which are in the schema.

use std::collections::BTreeMap;

use nickel_lang_core::cache::CacheHub;
use nickel_lang_core::eval::VmContext;
use nickel_lang_core::eval::cache::CacheImpl;
use nickel_lang_core::eval::value::{Container, NickelValue, ValueContentRef};
use nickel_lang_core::files::FileId;
use nickel_lang_core::position::RawSpan;

use super::faults::Drawer;
use super::syntax::{Outline, joined};
use crate::domain::base::SourceLocation;

struct Walk<'a> {
    file: FileId,
    outline: &'a Outline,
    context: &'a VmContext<CacheHub, CacheImpl>,
    drawer: &'a Drawer<'a>,
    places: BTreeMap<String, SourceLocation>,
}

/// The places of an evaluated record's fields and array elements: where the value is written, if that is in the layer's
/// own file; else where the file names the field; else where the value comes from.
pub(super) fn of(
    value: &NickelValue,
    file: FileId,
    outline: &Outline,
    context: &VmContext<CacheHub, CacheImpl>,
    drawer: &Drawer<'_>,
) -> BTreeMap<String, SourceLocation> {
    let mut walk = Walk { file, outline, context, drawer, places: BTreeMap::new() };
    walk.visit(value, "");
    walk.places
}

impl Walk<'_> {
    fn visit(&mut self, value: &NickelValue, path: &str) {
        if !path.is_empty() {
            self.note(value, path);
        }
        match value.content_ref() {
            ValueContentRef::Record(Container::Alloc(record)) => {
                for (ident, field) in &record.fields {
                    if let Some(value) = &field.value {
                        self.visit(value, &joined(path, ident.label()));
                    }
                }
            }
            ValueContentRef::Array(Container::Alloc(array)) => {
                for (index, element) in array.array.iter().enumerate() {
                    self.visit(element, &joined(path, &index.to_string()));
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, value: &NickelValue, path: &str) {
        let written = value.pos(&self.context.pos_table).into_opt();
        let here = written.filter(|span| span.src_id == self.file);
        let said = || self.outline.values.get(path).copied();
        if let Some(place) = here.or_else(said).or(written).and_then(|span| self.place(span)) {
            self.places.insert(path.to_owned(), place);
        }
    }

    fn place(&self, span: RawSpan) -> Option<SourceLocation> {
        self.drawer.user_place(&self.context.import_resolver, span)
    }
}
