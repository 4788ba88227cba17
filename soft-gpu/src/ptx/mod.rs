//! PTX text into a typed module.
//!
//! [`parse`] reads a module's declarations: kernels and functions with their parameters, global and constant
//! variables with their initialisers. Function bodies are only measured (a module can have 35 MB of them); the
//! executor parses a body when its kernel is decoded.

mod body;
mod layout;
mod lexer;
mod opaque;
mod parser;
mod types;

use std::collections::HashMap;

pub(crate) use body::{Operand, Scoped, Statement, parse_body};
pub(crate) use layout::align_up;
use lexer::{Lexer, Token};
pub use opaque::{Opaque, OpaqueKind};
pub(crate) use parser::Declaration;
pub use types::{Class, Space, Type};

/// Largest size in bytes that a declared variable or parameter list may have.
pub const MAX_VARIABLE_BYTES: u64 = 1 << 32;
/// Largest number of registers that one function may declare.
pub const MAX_REGISTERS: u32 = 1 << 22;
/// Deepest nesting of braces, brackets and parentheses.
pub const MAX_NESTING: u32 = 64;

/// Why text is not a PTX module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {message}")]
pub struct PtxError {
    /// Line, counted from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

/// One parameter of a kernel or function, at its place in the parameter buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name in the text.
    pub name: String,
    /// Bytes from the start of the parameter buffer.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// A kernel (`.entry`) or device function (`.func`).
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name in the text.
    pub name: String,
    /// Whether it is a kernel.
    pub is_kernel: bool,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// Return values of a device function, in order.
    pub returns: Vec<Param>,
    /// `.maxntid`: the product of its numbers.
    pub max_threads: Option<u32>,
    /// `.maxnreg`: the most registers that it may have, the least if it says several.
    pub max_registers: Option<u32>,
    /// `.reqntid`, with ones where it has fewer numbers.
    pub required_threads: Option<[u32; 3]>,
    /// `.reqnctapercluster`, with ones where it has fewer numbers.
    pub required_cluster: Option<[u32; 3]>,
    /// `.maxclusterrank`: the most blocks that a cluster may have.
    pub max_cluster_rank: Option<u32>,
    /// `.explicitcluster`: a launch has to say how large its clusters are, or the kernel.
    pub has_explicit_cluster: bool,
    /// `.blocksareclusters`: a launch's grid counts clusters.
    pub blocks_are_clusters: bool,
    /// Line of the declaration.
    pub line: u32,
    /// Where the body lies in the module's text, and the number of its first line; `None` for a declaration.
    pub(crate) body: Option<(std::ops::Range<usize>, u32)>,
}

impl Entry {
    /// Size in bytes of all parameters together.
    pub fn param_bytes(&self) -> u32 {
        self.params
            .last()
            .map_or(0, |param| param.offset.saturating_add(param.size))
    }
}

/// An address inside an initialiser, to be filled in when its target has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Byte offset in [`Global::init`].
    pub offset: u64,
    /// Size in bytes of the place.
    pub size: u32,
    /// Name of the variable or function.
    pub symbol: String,
    /// Added to its address.
    pub addend: i64,
}

/// A variable of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Name in the text.
    pub name: String,
    /// [`Space::Global`], [`Space::Const`] or [`Space::Shared`].
    pub space: Space,
    /// Alignment in bytes.
    pub align: u32,
    /// Size in bytes; 0 for an `.extern` array without a size (dynamic shared memory).
    pub size: u64,
    /// Bytes of an element, by which an index counts.
    pub element: u32,
    /// Leading bytes; the rest is zero.
    pub init: Vec<u8>,
    /// Addresses within `init`.
    pub relocations: Vec<Relocation>,
    /// Whether it is declared `.extern`.
    pub is_extern: bool,
    /// Whether the host accesses it too.
    pub is_managed: bool,
}

/// A parsed module.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// `.version`: major and minor.
    pub version: (u32, u32),
    /// `.target`, for example `sm_80`.
    pub target: String,
    /// `.address_size`.
    pub address_size: u32,
    /// Whether `.target` says `texmode_independent`: samplers are variables of their own.
    pub has_samplers: bool,
    text: String,
    functions: Vec<Entry>,
    by_name: HashMap<String, usize>,
    globals: Vec<Global>,
    globals_by_name: HashMap<String, usize>,
    opaques: Vec<Opaque>,
    opaques_by_name: HashMap<String, usize>,
    aliases: HashMap<String, String>,
    /// Distinguishes the addresses of its functions from those of other modules.
    serial: u64,
}

/// Start of the window in which functions have their addresses: no memory is there.
const FUNCTION_WINDOW: u64 = 0x7300_0000_0000_0000;
/// Addresses that a module has for its functions.
const FUNCTION_SPAN: u64 = 1 << 24;
/// Modules with addresses of their own; what comes later begins anew.
const FUNCTION_MODULES: u64 = 1 << 28;

impl Module {
    /// The number in `.target`: 80 of `sm_80`, 90 of `sm_90a`; 0 if there is none.
    pub fn target_number(&self) -> i32 {
        let digits = self
            .target
            .trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit());
        digits[..end.unwrap_or(digits.len())].parse().unwrap_or(0)
    }

    /// The names of all kernels, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.functions
            .iter()
            .filter(|entry| entry.is_kernel)
            .map(|entry| entry.name.as_str())
    }

    /// The kernel called `name`.
    pub fn kernel(&self, name: &str) -> Option<&Entry> {
        self.function(name).filter(|entry| entry.is_kernel)
    }

    /// The variables in global and constant memory, which need addresses before a kernel is decoded.
    pub fn globals(&self) -> impl Iterator<Item = &Global> {
        self.globals
            .iter()
            .filter(|global| global.space != Space::Shared)
    }

    /// The variable called `name`, in any space.
    pub fn variable(&self, name: &str) -> Option<&Global> {
        self.globals_by_name
            .get(name)
            .map(|&index| &self.globals[index])
    }

    /// The variables of opaque types.
    pub fn opaques(&self) -> &[Opaque] {
        &self.opaques
    }

    /// The variable of an opaque type called `name`.
    pub fn opaque(&self, name: &str) -> Option<&Opaque> {
        self.opaques_by_name
            .get(name)
            .map(|&index| &self.opaques[index])
    }

    /// The kernel or function called `name`, following aliases.
    pub fn function(&self, name: &str) -> Option<&Entry> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        self.by_name.get(name).map(|&index| &self.functions[index])
    }

    /// The address of the kernel or function called `name`, if it has a body: the same in all kernels of the module,
    /// and nothing that could be read.
    pub fn function_address(&self, name: &str) -> Option<u64> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        let index = *self.by_name.get(name)?;
        self.functions[index].body.as_ref()?;
        let index = u64::try_from(index)
            .ok()
            .filter(|&index| index < FUNCTION_SPAN / 16)?;
        Some(FUNCTION_WINDOW + self.serial % FUNCTION_MODULES * FUNCTION_SPAN + 16 * index)
    }

    /// All kernels and functions.
    pub fn functions(&self) -> &[Entry] {
        &self.functions
    }

    /// Lets a kernel have no more registers, or all of them.
    pub(crate) fn limit_registers(&mut self, kernel: Option<&str>, most: u32) {
        let meant = match kernel {
            None => 0..self.functions.len(),
            Some(name) => {
                let index = self.by_name.get(name);
                index.map_or(0..0, |index| *index..index + 1)
            }
        };
        let meant = self.functions[meant].iter_mut();
        for entry in meant.filter(|entry| entry.is_kernel) {
            let before = entry.max_registers.unwrap_or(most);
            entry.max_registers = Some(before.min(most));
        }
    }

    /// All of its text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text of `entry`'s body and its first line, if it has one.
    pub(crate) fn body(&self, entry: &Entry) -> Option<(&str, u32)> {
        let (range, line) = entry.body.as_ref()?;
        self.text.get(range.clone()).map(|text| (text, *line))
    }
}

/// Parses a module.
///
/// # Errors
///
/// The first place where `text` is not PTX. Bodies are not looked at here.
pub fn parse(text: &str) -> Result<Module, PtxError> {
    parser::parse_module(text)
}

/// Parses a module, and tells its declarations in the order of the text.
pub(crate) fn declarations(text: &str) -> Result<(Module, Vec<Declaration>), PtxError> {
    parser::parse_declarations(text)
}

/// The text of a module in which every kernel says that it has at most so many registers.
pub(crate) fn with_most_registers(text: &str, most: u32) -> Result<String, PtxError> {
    let module = parse(text)?;
    let kernels = module.functions.iter().filter(|entry| entry.is_kernel);
    let bodies = kernels.filter_map(|kernel| kernel.body.as_ref());
    let mut starts: Vec<usize> = bodies.map(|(range, _)| range.start).collect();
    starts.sort_unstable();
    let mut limited = String::with_capacity(text.len());
    let mut copied = 0;
    for start in starts {
        // Before the brace that opens the body.
        let brace = text[..start].rfind('{').unwrap_or(start);
        limited.push_str(&text[copied..brace]);
        limited.push_str(&format!(".maxnreg {most}\n"));
        copied = brace;
    }
    limited.push_str(&text[copied..]);
    Ok(limited)
}

/// The words of PTX text, and where they stand.
pub(crate) fn words(text: &str) -> Result<Vec<(std::ops::Range<usize>, &str)>, PtxError> {
    let mut lexer = Lexer::new(text, 1)?;
    let mut words = Vec::new();
    loop {
        let start = lexer.start();
        match lexer.next()? {
            Token::End => return Ok(words),
            Token::Word(word) => words.push((start..start + word.len(), word)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_registers_never_raises_what_a_kernel_says() {
        const TEXT: &str = "
.version 7.0
.target sm_80
.address_size 64
.entry less() .maxnreg 32 { ret; }
.entry more() .maxnreg 128 { ret; }
.entry none() { ret; }
";
        let limited = parse(&with_most_registers(TEXT, 64).unwrap()).unwrap();
        let most = |name| limited.kernel(name).unwrap().max_registers;
        assert_eq!(["less", "more", "none"].map(most), [32, 64, 64].map(Some));
    }
}
