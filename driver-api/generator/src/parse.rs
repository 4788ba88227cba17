//! From the text of the specification to the model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Expr, ForeignItem, ForeignItemFn, Item, Lit, Token, Type};

use crate::model::{
    Blocks, Custom, Direction, Disposition, Parameter, Row, Specification, Twin, Wire,
};

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

/// Reads all files of a directory.
///
/// # Errors
/// A file cannot be read, a row does not parse, or two rows contradict each other.
pub fn read_specification(directory: &Path) -> Result<Specification, SpecificationError> {
    let mut rows = Vec::new();
    for file in rust_files(directory)? {
        let text = read(&file)?;
        let syntax = parse_file(&file, &text)?;
        let area = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for item in foreign_functions(syntax) {
            rows.push(row(&area, item).map_err(|error| in_file(&file, &error))?);
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
    let blocks = match (words.name("blocks").as_deref(), travels) {
        (Some("never"), true) | (None, false) => Blocks::Never,
        (Some("device"), true) => Blocks::Device,
        (Some("unbounded"), true) => Blocks::Unbounded,
        _ => {
            return Err(fail(
                "blocks = never | device | unbounded, for a row that travels",
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
    if let Some(word) = words.words.keys().next() {
        return Err(fail(&format!("`{word}` is not a word of a row")));
    }
    let parameters = function
        .sig
        .inputs
        .iter()
        .map(|input| parameter(input, travels))
        .collect::<syn::Result<Vec<_>>>()?;
    Ok(Row {
        area: area.to_owned(),
        documentation: documentation(&function.attrs),
        number: words.number,
        private,
        disposition,
        via,
        custom,
        blocks,
        since: since.unwrap_or(0),
        twin,
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

fn parameter(input: &syn::FnArg, travels: bool) -> syn::Result<Parameter> {
    let syn::FnArg::Typed(typed) = input else {
        return Err(syn::Error::new(
            input.span(),
            "a driver function has no self",
        ));
    };
    let syn::Pat::Ident(name) = &*typed.pat else {
        return Err(syn::Error::new(typed.span(), "a parameter needs a name"));
    };
    let mut direction = Direction::Input;
    for attribute in &typed.attrs {
        let word = attribute.path().require_ident()?.to_string();
        direction = match word.as_str() {
            "out" => Direction::Out,
            "creates" => Direction::Creates,
            "destroys" => Direction::Destroys,
            "rest" => Direction::Rest,
            "out_rest" => Direction::OutRest,
            _ => {
                return Err(syn::Error::new(
                    attribute.span(),
                    "not a word of a parameter",
                ));
            }
        };
    }
    let wire = if travels {
        wire_of(&typed.ty, direction)?
    } else {
        None
    };
    Ok(Parameter {
        name: name.ident.clone(),
        ty: (*typed.ty).clone(),
        direction,
        wire,
    })
}

/// How a parameter travels; `None` for the bytes after the fixed part.
fn wire_of(ty: &Type, direction: Direction) -> syn::Result<Option<Wire>> {
    match (direction, ty) {
        (Direction::Rest | Direction::OutRest, _) => Ok(None),
        (Direction::Out | Direction::Creates, Type::Ptr(pointer)) => {
            scalar(&pointer.elem).map(Some)
        }
        (Direction::Input | Direction::Destroys, _) => scalar(ty).map(Some),
        _ => Err(syn::Error::new(ty.span(), "an out parameter is a pointer")),
    }
}

/// The scalars that may stand in a row that travels.
const SCALARS: &[(&str, Wire)] = &[
    ("u8", Wire::U8),
    ("c_uchar", Wire::U8),
    ("u16", Wire::U16),
    ("c_ushort", Wire::U16),
    ("u32", Wire::U32),
    ("c_uint", Wire::U32),
    ("c_int", Wire::I32),
    ("CUdevice", Wire::I32),
    ("u64", Wire::U64),
    ("c_ulonglong", Wire::U64),
    ("CUdeviceptr", Wire::U64),
    ("usize", Wire::Size),
    ("f32", Wire::F32),
    ("CUlimit", Wire::U32),
    ("CUfunction_attribute", Wire::U32),
    ("CUfunc_cache", Wire::U32),
    ("CUcontext", Wire::Handle("ContextId")),
    ("CUstream", Wire::Handle("StreamId")),
    ("CUevent", Wire::Handle("EventId")),
    ("CUmodule", Wire::Handle("ModuleId")),
    ("CUfunction", Wire::Handle("FunctionId")),
    ("CUkernel", Wire::Handle("FunctionId")),
    ("CUlibrary", Wire::Handle("LibraryId")),
];

fn scalar(ty: &Type) -> syn::Result<Wire> {
    let unknown = || {
        syn::Error::new(
            ty.span(),
            "this type cannot travel: see SCALARS in the generator",
        )
    };
    match ty {
        Type::Path(path) => {
            let name = path.path.require_ident()?.to_string();
            let found = SCALARS.iter().find(|(scalar, _)| *scalar == name);
            found.map(|(_, wire)| wire.clone()).ok_or_else(unknown)
        }
        Type::Array(array) => {
            let Expr::Lit(syn::ExprLit {
                lit: Lit::Int(length),
                ..
            }) = &array.len
            else {
                return Err(unknown());
            };
            Ok(Wire::Array(
                Box::new(scalar(&array.elem)?),
                length.base10_parse()?,
            ))
        }
        _ => Err(unknown()),
    }
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
