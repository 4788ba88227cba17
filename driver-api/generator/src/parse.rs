//! From the text of the specification to the model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use syn::parse::{Parse, ParseStream};
use syn::{Expr, ForeignItem, ForeignItemFn, Item, Lit, Token};

use crate::model::{Blocks, Custom, Disposition, Row, Specification, Twin};
use crate::parameter;

/// Why a specification cannot be used.
#[derive(Debug)]
pub enum SpecificationError {
    /// A file cannot be read or written.
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A row says something that the vocabulary does not have.
    Row {
        /// The file.
        file: PathBuf,
        /// The line in it.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Two rows contradict each other.
    Table(String),
    /// The generated code does not parse: a defect of the generator.
    Generated {
        /// The file that was to be written.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl std::fmt::Display for SpecificationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { file, source } => write!(f, "{}: {source}", file.display()),
            Self::Row {
                file,
                line,
                message,
            } => {
                write!(f, "{}:{line}: {message}", file.display())
            }
            Self::Table(message) => f.write_str(message),
            Self::Generated { file, message } => {
                write!(f, "generated code for {}: {message}", file.display())
            }
        }
    }
}

impl std::error::Error for SpecificationError {}

/// Reads all files of a directory: an area's rows are in `<area>.rs`, and where they are many, in files of `<area>/` as well.
///
/// # Errors
/// A file cannot be read, a row does not parse, or two rows contradict each other.
pub fn read_specification(directory: &Path) -> Result<Specification, SpecificationError> {
    let mut rows = Vec::new();
    for file in rust_files(directory)? {
        let area = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let folder = directory.join(&area);
        let mut files = vec![file];
        if folder.is_dir() {
            files.extend(rust_files(&folder)?);
        }
        for file in files {
            let syntax = parse_file(&file, &read(&file)?)?;
            for item in foreign_functions(syntax) {
                rows.push(row(&area, item).map_err(|error| in_file(&file, &error))?);
            }
        }
    }
    check(&rows)?;
    Ok(Specification { rows })
}

/// The Rust files of a directory, by name.
pub(crate) fn rust_files(directory: &Path) -> Result<Vec<PathBuf>, SpecificationError> {
    let in_directory = |source| SpecificationError::File {
        file: directory.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(in_directory)? {
        let path = entry.map_err(in_directory)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

pub(crate) fn read(file: &Path) -> Result<String, SpecificationError> {
    std::fs::read_to_string(file).map_err(|source| SpecificationError::File {
        file: file.to_owned(),
        source,
    })
}

pub(crate) fn parse_file(file: &Path, text: &str) -> Result<syn::File, SpecificationError> {
    syn::parse_file(text).map_err(|error| in_file(file, &error))
}

fn in_file(file: &Path, error: &syn::Error) -> SpecificationError {
    SpecificationError::Row {
        file: file.to_owned(),
        line: error.span().start().line,
        message: error.to_string(),
    }
}

fn foreign_functions(file: syn::File) -> impl Iterator<Item = ForeignItemFn> {
    file.items
        .into_iter()
        .filter_map(|item| {
            if let Item::ForeignMod(block) = item {
                Some(block.items)
            } else {
                None
            }
        })
        .flatten()
        .filter_map(|item| {
            if let ForeignItem::Fn(function) = item {
                Some(function)
            } else {
                None
            }
        })
}

/// The words of one `#[row(…)]`.
struct RowAttribute {
    number: u16,
    words: HashMap<String, Option<Expr>>,
}

impl Parse for RowAttribute {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let number = input.parse::<syn::LitInt>()?.base10_parse()?;
        let mut words = HashMap::new();
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            let word: syn::Ident = input.parse()?;
            let value = if input.parse::<Option<Token![=]>>()?.is_some() {
                Some(input.parse()?)
            } else {
                None
            };
            if words.insert(word.to_string(), value).is_some() {
                return Err(syn::Error::new(word.span(), "this word is given twice"));
            }
        }
        Ok(Self { number, words })
    }
}

impl RowAttribute {
    fn flag(&mut self, word: &str) -> bool {
        self.words.remove(word).is_some()
    }

    fn name(&mut self, word: &str) -> Option<String> {
        match self.words.remove(word)?? {
            Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
            _ => None,
        }
    }

    fn text(&mut self, word: &str) -> Option<String> {
        match self.words.remove(word)?? {
            Expr::Lit(syn::ExprLit {
                lit: Lit::Str(text),
                ..
            }) => Some(text.value()),
            _ => None,
        }
    }

    fn version(&mut self, word: &str) -> Option<u32> {
        match self.words.remove(word)?? {
            Expr::Lit(syn::ExprLit {
                lit: Lit::Int(number),
                ..
            }) => number.base10_parse().ok(),
            _ => None,
        }
    }
}

fn row(area: &str, function: ForeignItemFn) -> syn::Result<Row> {
    let name = function.sig.ident.to_string();
    let fail =
        |message: &str| syn::Error::new(function.sig.ident.span(), format!("{name}: {message}"));
    let attribute = function
        .attrs
        .iter()
        .find(|attribute| attribute.path().is_ident("row"));
    let mut words: RowAttribute = attribute
        .ok_or_else(|| fail("a row needs #[row(number, …)]"))?
        .parse_args()?;
    let private = words.flag("private");
    let elsewhere = words.flag("elsewhere");
    let unlisted = words.flag("unlisted");
    let disposition = disposition(&mut words).ok_or_else(|| {
        fail("exactly one of local, posted, asked, refused = \"reason\" must be said")
    })?;
    let via = words.name("via");
    let custom = match words.name("custom").as_deref() {
        None => Custom {
            client: via.is_some() || disposition == Disposition::Local,
            worker: false,
        },
        Some("client") => Custom {
            client: true,
            worker: false,
        },
        Some("worker") => Custom {
            client: private,
            worker: true,
        },
        Some("both") => Custom {
            client: true,
            worker: true,
        },
        Some(_) => return Err(fail("custom is client, worker or both")),
    };
    let travels = matches!(disposition, Disposition::Posted | Disposition::Asked) && via.is_none();
    let blocks = match words.name("blocks").as_deref() {
        Some("never") => Blocks::Never,
        Some("device") => Blocks::Device,
        Some("unbounded") => Blocks::Unbounded,
        _ => {
            return Err(fail(
                "blocks = never | device | unbounded: what the driver does",
            ));
        }
    };
    let since = words.version("since");
    if since.is_none() && !private {
        return Err(fail("since = the version of the driver that has it first"));
    }
    let twin = ["ptds", "ptsz"]
        .into_iter()
        .find_map(|suffix| words.version(suffix).map(|since| Twin { suffix, since }));
    let test = words.text("test");
    if test.is_some() && (private || matches!(disposition, Disposition::Refused(_))) {
        return Err(fail("only a served function names a test"));
    }
    if let Some(word) = words.words.keys().next() {
        return Err(fail(&format!("`{word}` is not a word of a row")));
    }
    let parameters = parameter::parameters(&function, travels)?;
    Ok(Row {
        area: area.to_owned(),
        documentation: documentation(&function.attrs),
        number: words.number,
        private,
        elsewhere,
        unlisted,
        disposition,
        via,
        custom,
        blocks,
        since: since.unwrap_or(0),
        twin,
        test,
        parameters,
        name,
    })
}

fn documentation(attributes: &[syn::Attribute]) -> Vec<String> {
    let text = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(syn::ExprLit {
                lit: Lit::Str(text),
                ..
            }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

fn disposition(words: &mut RowAttribute) -> Option<Disposition> {
    let mut said = Vec::new();
    if words.flag("local") {
        said.push(Disposition::Local);
    }
    if words.flag("posted") {
        said.push(Disposition::Posted);
    }
    if words.flag("asked") {
        said.push(Disposition::Asked);
    }
    said.extend(words.text("refused").map(Disposition::Refused));
    if said.len() == 1 { said.pop() } else { None }
}

/// What holds between rows: numbers and names are unique, `via` names a private row.
fn check(rows: &[Row]) -> Result<(), SpecificationError> {
    let mut numbers = HashMap::new();
    let mut names = HashMap::new();
    for row in rows {
        if let Some(other) = numbers.insert(row.number, &row.name) {
            let message = format!("{} and {other} have the number {}", row.name, row.number);
            return Err(SpecificationError::Table(message));
        }
        if names.insert(row.name.as_str(), row).is_some() {
            return Err(SpecificationError::Table(format!(
                "{} has two rows",
                row.name
            )));
        }
    }
    for row in rows {
        let Some(via) = &row.via else { continue };
        if !names.get(via.as_str()).is_some_and(|other| other.private) {
            let message = format!("{} is via {via}, which is not a private row", row.name);
            return Err(SpecificationError::Table(message));
        }
    }
    Ok(())
}
