//! Every schema and default that a catalog can import: those that are the same in every lian-build, and those of its
//! providers. Not responsible for: which providers there are.

use std::borrow::Cow;

use super::embedded::{self, NESTED_FIELDS};
use super::syntax;

/// A provider as far as the schemas know it.
#[derive(Debug, Clone)]
pub struct ProviderSchema {
    /// What stands for it in `compute_provider`, without the tick.
    pub name: String,
    /// What `providers.<name>` may say; none where there is nothing to say.
    pub settings: Option<ProviderContract>,
}

/// The contract of a provider's settings.
#[derive(Debug, Clone)]
pub struct ProviderContract {
    /// What the provider is, in a sentence.
    pub summary: &'static str,
    /// The text of a Nickel file whose value is the contract. It may import `../values.ncl`.
    pub text: &'static str,
    /// The fields of each closed record in it, by the field that holds it.
    pub records: &'static [(&'static str, &'static [&'static str])],
}

/// All files that a catalog can import beside its own, and what help needs to know of them.
#[derive(Debug, Clone)]
pub struct Schemas {
    files: Vec<(String, Cow<'static, str>)>,
    records: Vec<(&'static str, Vec<String>)>,
}

impl Schemas {
    /// With these providers, in this order.
    pub fn new(providers: &[ProviderSchema]) -> Self {
        let owned = |(name, text): &(&'static str, &'static str)| ((*name).to_owned(), Cow::Borrowed(*text));
        let mut files: Vec<_> = embedded::embedded().iter().map(owned).collect();
        files.push(("schemas/providers.ncl".to_owned(), Cow::Owned(listing(providers))));
        let texts = |fields: &[&str]| fields.iter().map(|&field| field.to_owned()).collect();
        let mut records: Vec<(&'static str, Vec<String>)> =
            NESTED_FIELDS.iter().map(|(holder, fields)| (*holder, texts(fields))).collect();
        let with_settings = providers.iter().filter(|provider| provider.settings.is_some());
        records.push(("providers", with_settings.map(|provider| provider.name.clone()).collect()));
        for (provider, contract) in providers.iter().filter_map(|one| Some((one, one.settings.as_ref()?))) {
            files.push((format!("schemas/{}", file_of(provider)), Cow::Borrowed(contract.text)));
            records.extend(contract.records.iter().map(|(holder, fields)| (*holder, texts(fields))));
        }
        Self { files, records }
    }

    /// The path by which each file is imported, and its text.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(name, text)| (name.as_str(), &**text))
    }

    /// Whether one of them is imported by this path.
    pub(super) fn holds(&self, path: &std::path::Path) -> bool {
        self.files.iter().any(|(name, _)| path == std::path::Path::new(name))
    }

    /// The fields of the closed record that this field of a workflow holds.
    pub(super) fn fields_of(&self, holder: &str) -> Option<Vec<&str>> {
        let (_, fields) = self.records.iter().find(|(name, _)| *name == holder)?;
        Some(fields.iter().map(String::as_str).collect())
    }
}

/// The file of a provider's contract, seen from the folder of the schemas.
fn file_of(provider: &ProviderSchema) -> String {
    format!("providers/{}.ncl", provider.name)
}

/// The file that lists the providers. Their names are checked by a contract of its own rather than an enumeration, which would
/// not say what it allows once it has a name.
fn listing(providers: &[ProviderSchema]) -> String {
    let names: Vec<String> = providers.iter().map(|provider| format!("'{}", provider.name)).collect();
    let shown: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let mut text = format!(
        r#"# The providers that this lian-build knows: it makes this file of their descriptors.

{{
  ProviderName
    | doc "A provider of runners."
    =
      let names = [{}] in
      std.contract.from_validator (fun value =>
        if std.array.elem value names then
          'Ok
        else
          'Error {{
            message = if std.is_enum value then "this is none of the allowed tags" else "expected an enum",
            notes = ["expected one of {}"],
          }}
      ),

  ProviderSettings
    | doc "What each provider needs to know."
    = {{
"#,
        names.join(", "),
        shown.join(", "),
    );
    for (provider, contract) in providers.iter().filter_map(|one| Some((one, one.settings.as_ref()?))) {
        let (name, file) = (&provider.name, file_of(provider));
        let doc = syntax::quoted(contract.summary);
        let field = format!("      {name}\n        | (import \"{file}\")\n        | doc {doc}\n        | optional,\n");
        text.push_str(&field);
    }
    text.push_str("    },\n}\n");
    text
}
