//! What the syntax tree says without evaluation: the layer's name, where its fields' values are written, and what is
//! imported.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nickel_lang_core::ast::{Ast, AstAlloc, Import, InputFormat, Node, primop::PrimOp, record::FieldPathElem};
use nickel_lang_core::cache::{CacheHub, SourcePath};
use nickel_lang_core::position::RawSpan;
use nickel_lang_core::traverse::{TraverseAlloc, TraverseControl};

/// What a file says about itself.
#[derive(Debug, Default, Clone)]
pub(super) struct Outline {
    /// `name`, if it is a plain string.
    pub name: Option<String>,
    /// Where the values of fields and of array elements are written, by dotted path.
    pub values: BTreeMap<String, RawSpan>,
    /// Where the names of fields are written, by dotted path.
    pub names: BTreeMap<String, RawSpan>,
    /// Where the record itself is written.
    pub record: Option<RawSpan>,
}

/// An `import` expression.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// An import of a file.
    File { path: PathBuf, format: InputFormat, span: Option<RawSpan> },
    /// An import of a package, which lian-build does not support.
    Package { name: String, span: Option<RawSpan> },
}

/// A Nickel string literal.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for character in text.chars() {
        match character {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            '%' => literal.push_str("\\%"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            other => literal.push(other),
        }
    }
    literal.push('"');
    literal
}

/// Reads the outline of the record that a file ends in.
pub(super) fn outline(ast: &Ast<'_>) -> Outline {
    let mut outline = Outline::default();
    visit(ast, "", &mut outline);
    outline
}

fn visit(ast: &Ast<'_>, prefix: &str, outline: &mut Outline) {
    match &ast.node {
        Node::Let { body, .. } => visit(body, prefix, outline),
        Node::Annotated { inner, .. } => visit(inner, prefix, outline),
        Node::PrimOpApp { op: PrimOp::Merge(_), args } => args.iter().for_each(|arg| visit(arg, prefix, outline)),
        Node::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                let path = joined(prefix, &index.to_string());
                note(element, &path, outline);
                visit(element, &path, outline);
            }
        }
        Node::Record(record) => {
            if prefix.is_empty() {
                outline.record = ast.pos.into_opt();
            }
            for field in record.field_defs {
                let mut path = prefix.to_owned();
                for element in field.path {
                    let FieldPathElem::Ident(ident) = element else { break };
                    path = joined(&path, ident.label());
                    if let Some(span) = ident.pos.into_opt() {
                        outline.names.entry(path.clone()).or_insert(span);
                    }
                }
                let named = field.path.iter().all(|element| matches!(element, FieldPathElem::Ident(_)));
                if let (true, Some(value)) = (named, &field.value) {
                    if path == "name" {
                        outline.name = text(value);
                    }
                    note(value, &path, outline);
                    visit(value, &path, outline);
                }
            }
        }
        _ => {}
    }
}

fn note(value: &Ast<'_>, path: &str, outline: &mut Outline) {
    if let Some(span) = value.pos.into_opt() {
        outline.values.insert(path.to_owned(), span);
    }
}

/// The string, if this is a string literal.
pub(super) fn text(ast: &Ast<'_>) -> Option<String> {
    match &ast.node {
        Node::String(text) => Some((*text).to_owned()),
        node => node.try_str_chunk_as_static_str(),
    }
}

/// The layer's name in a text that does not parse, if a line says `name = "…"`.
pub(super) fn name_in(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let value = line.trim_start().trim_start_matches('{').trim_start().strip_prefix("name")?.trim_start();
        let quoted = value.strip_prefix('=')?.trim_start().strip_prefix('"')?;
        quoted.split_once('"').map(|(name, _)| name.to_owned())
    })
}

/// Whether the text is a Nickel value that needs no evaluation: `--set` takes such a value as Nickel, and other text as text.
pub(super) fn is_plain_value(text: &str) -> bool {
    let mut hub = CacheHub::new();
    let file = hub.sources.add_string(SourcePath::Generated("setting".to_owned()), text.to_owned());
    let alloc = AstAlloc::new();
    let result = hub.sources.parse_nickel(&alloc, file);
    result.is_ok_and(|ast| is_literal(&ast))
}

fn is_literal(ast: &Ast<'_>) -> bool {
    match &ast.node {
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) => true,
        Node::EnumVariant { arg, .. } => arg.is_none_or(is_literal),
        Node::Array(elements) => elements.iter().all(is_literal),
        Node::Record(record) => {
            record.includes.is_empty()
                && record.field_defs.iter().all(|field| {
                    field.metadata.is_empty()
                        && field.path.iter().all(|element| matches!(element, FieldPathElem::Ident(_)))
                        && field.value.as_ref().is_some_and(is_literal)
                })
        }
        _ => text(ast).is_some(),
    }
}

/// `outer.inner`, or `inner` at the top.
pub(super) fn joined(outer: &str, inner: &str) -> String {
    if outer.is_empty() { inner.to_owned() } else { format!("{outer}.{inner}") }
}

/// Every import of a file, in order.
pub(super) fn imports<'ast>(ast: &'ast Ast<'ast>) -> Vec<Wanted> {
    let mut found = Vec::new();
    let _: Option<()> = ast.traverse_ref(
        &mut |node: &'ast Ast<'ast>, (): &()| {
            if let Node::Import(import) = &node.node {
                let span = node.pos.into_opt();
                found.push(match import {
                    Import::Path { path, format } => Wanted::File { path: PathBuf::from(path), format: *format, span },
                    Import::Package { id } => Wanted::Package { name: id.label().to_owned(), span },
                });
            }
            TraverseControl::Continue
        },
        &(),
    );
    found
}
