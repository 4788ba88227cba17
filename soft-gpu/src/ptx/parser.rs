//! Module-level declarations.

use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::{Scalar, align_up, append_scalar};
use super::lexer::{Lexer, Token};
use super::{
    Entry, Global, MAX_NESTING, MAX_VARIABLE_BYTES, Module, Opaque, OpaqueKind, Param, PtxError,
    Relocation, Space, Type,
};

/// Who sees what is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Linkage {
    /// The text itself.
    #[default]
    Own,
    Visible,
    Weak,
    Common,
    Extern,
}

impl Linkage {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            ".visible" => Self::Visible,
            ".weak" => Self::Weak,
            ".common" => Self::Common,
            ".extern" => Self::Extern,
            _ => return None,
        })
    }

    /// Whether several texts may define the same.
    pub(crate) fn may_repeat(self) -> bool {
        matches!(self, Self::Weak | Self::Common)
    }
}

/// One declaration of a module.
#[derive(Debug, Default)]
pub(crate) struct Declaration {
    /// Its text, up to the next one.
    pub(crate) range: std::ops::Range<usize>,
    /// Whether it is `.version`, `.target` or `.address_size`.
    pub(crate) is_header: bool,
    pub(crate) linkage: Linkage,
    /// The functions or variables that it declares.
    pub(crate) names: Vec<String>,
    /// Whether it says what they are, and not only that they are somewhere.
    is_definition: bool,
    is_kernel: bool,
}

impl Declaration {
    /// Whether only the text itself sees what it defines. The program sees all kernels.
    pub(crate) fn is_own(&self) -> bool {
        self.is_definition && self.linkage == Linkage::Own && !self.is_kernel
    }

    /// Whether it defines what other texts see.
    pub(crate) fn is_shared_definition(&self) -> bool {
        self.is_definition && self.linkage != Linkage::Extern && !self.is_own()
    }
}

pub(super) fn parse_module(text: &str) -> Result<Module, PtxError> {
    parse_declarations(text).map(|(module, _)| module)
}

pub(super) fn parse_declarations(text: &str) -> Result<(Module, Vec<Declaration>), PtxError> {
    static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);
    let mut module = Module {
        text: text.to_owned(),
        serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed),
        address_size: 64,
        ..Module::default()
    };
    let mut parser = Parser {
        lexer: Lexer::new(text, 1)?,
        current: Declaration::default(),
    };
    let mut declarations = Vec::new();
    while parser.lexer.peek() != Token::End {
        let start = parser.lexer.start();
        parser.declaration(&mut module)?;
        let mut declaration = std::mem::take(&mut parser.current);
        declaration.range = start..parser.lexer.start();
        declarations.push(declaration);
    }
    if module.address_size != 64 {
        return Err(PtxError {
            line: 1,
            message: "only .address_size 64 is supported".into(),
        });
    }
    Ok((module, declarations))
}

/// A declared variable, before anything is known of its initialiser.
pub(super) struct Declarator<'t> {
    pub(super) name: &'t str,
    pub(super) ty: Type,
    pub(super) align: u32,
    /// Size in bytes; `None` for `name[]`.
    pub(super) size: Option<u64>,
    /// Bytes of an element, which an index counts; of an array of arrays too.
    pub(super) element: u32,
    /// Whether it has the attribute `.managed`.
    pub(super) is_managed: bool,
    /// Of an opaque type; the type of its value is `.b64`.
    pub(super) opaque: Option<OpaqueKind>,
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The declaration that is being read.
    current: Declaration,
}

impl<'t> Parser<'t> {
    fn declaration(&mut self, module: &mut Module) -> Result<(), PtxError> {
        loop {
            let line = self.lexer.ahead();
            if self.lexer.accept(b';')? {
                return Ok(());
            }
            let word = self.lexer.word()?;
            if let Some(linkage) = Linkage::of(word) {
                self.current.linkage = linkage;
                continue;
            }
            self.current.is_header = matches!(word, ".version" | ".target" | ".address_size");
            match word {
                ".version" => return self.version(module),
                ".target" => return self.target(module),
                ".address_size" => {
                    module.address_size = self.lexer.integer()? as u32;
                    return Ok(());
                }
                ".entry" | ".func" => return self.function(module, word == ".entry", line),
                ".global" | ".const" | ".shared" => {
                    let space = Space::from_name(&word[1..]).unwrap_or(Space::Global);
                    return self.globals(module, space);
                }
                ".alias" => return self.alias(module),
                ".file" => return self.file(),
                ".pragma" => return self.skip_statement(),
                ".section" => return self.section(),
                ".loc" => return self.skip_line(line),
                _ => return Err(self.lexer.error(format!("unknown directive `{word}`"))),
            }
        }
    }

    fn version(&mut self, module: &mut Module) -> Result<(), PtxError> {
        let Token::Double(bits) = self.lexer.next()? else {
            return Err(self.lexer.error("expected a version".into()));
        };
        let tenths = (f64::from_bits(bits) * 10.0).round() as u32;
        module.version = (tenths / 10, tenths % 10);
        Ok(())
    }

    fn target(&mut self, module: &mut Module) -> Result<(), PtxError> {
        module.target = self.lexer.word()?.to_owned();
        while self.lexer.accept(b',')? {
            module.has_samplers |= self.lexer.word()? == "texmode_independent";
        }
        Ok(())
    }

    fn alias(&mut self, module: &mut Module) -> Result<(), PtxError> {
        let name = self.lexer.word()?.to_owned();
        self.lexer.expect(b',')?;
        let target = self.lexer.word()?.to_owned();
        module.aliases.insert(name, target);
        Ok(())
    }

    fn file(&mut self) -> Result<(), PtxError> {
        self.lexer.integer()?;
        self.lexer.next()?;
        while self.lexer.accept(b',')? {
            self.lexer.integer()?;
        }
        Ok(())
    }

    fn section(&mut self) -> Result<(), PtxError> {
        self.lexer.next()?;
        self.lexer.skip_block()?;
        Ok(())
    }

    fn skip_statement(&mut self) -> Result<(), PtxError> {
        while !matches!(self.lexer.next()?, Token::Mark(b';') | Token::End) {}
        Ok(())
    }

    fn skip_line(&mut self, line: u32) -> Result<(), PtxError> {
        while self.lexer.ahead() == line && self.lexer.peek() != Token::End {
            self.lexer.next()?;
        }
        Ok(())
    }

    fn function(
        &mut self,
        module: &mut Module,
        is_kernel: bool,
        line: u32,
    ) -> Result<(), PtxError> {
        let returns = if !is_kernel && self.lexer.peek() == Token::Mark(b'(') {
            self.params(is_kernel)?
        } else {
            Vec::new()
        };
        let name = self.lexer.word()?.to_owned();
        let params = if self.lexer.peek() == Token::Mark(b'(') {
            self.params(is_kernel)?
        } else {
            Vec::new()
        };
        let mut entry = Entry {
            name,
            is_kernel,
            params,
            returns,
            max_threads: None,
            max_registers: None,
            required_threads: None,
            required_cluster: None,
            max_cluster_rank: None,
            has_explicit_cluster: false,
            blocks_are_clusters: false,
            line,
            body: None,
        };
        self.directives(&mut entry)?;
        if self.lexer.peek() == Token::Mark(b'{') {
            entry.body = Some(self.lexer.skip_block()?);
        } else {
            self.lexer.accept(b';')?;
        }
        self.current.names.push(entry.name.clone());
        (self.current.is_definition, self.current.is_kernel) = (entry.body.is_some(), is_kernel);
        add_function(module, entry);
        Ok(())
    }

    /// The performance directives between a function's parameters and its body.
    fn directives(&mut self, entry: &mut Entry) -> Result<(), PtxError> {
        while let Token::Word(word) = self.lexer.peek() {
            match word {
                ".maxntid" => {
                    self.lexer.next()?;
                    let dims = self.dimensions()?;
                    entry.max_threads = Some(
                        dims.iter()
                            .fold(1u32, |product, &dim| product.saturating_mul(dim)),
                    );
                }
                ".reqntid" => {
                    self.lexer.next()?;
                    entry.required_threads = Some(self.dimensions()?);
                }
                ".maxnreg" => {
                    self.lexer.next()?;
                    let most = u32::try_from(self.lexer.integer()?).ok();
                    let said = [entry.max_registers, most].into_iter().flatten();
                    entry.max_registers = said.min();
                }
                ".minnctapersm" | ".maxnctapersm" => {
                    self.lexer.next()?;
                    self.lexer.integer()?;
                }
                ".maxclusterrank" => {
                    self.lexer.next()?;
                    entry.max_cluster_rank = u32::try_from(self.lexer.integer()?).ok();
                }
                ".reqnctapercluster" => {
                    self.lexer.next()?;
                    entry.required_cluster = Some(self.dimensions()?);
                }
                ".noreturn" | ".explicitcluster" | ".blocksareclusters" => {
                    self.lexer.next()?;
                    entry.has_explicit_cluster |= word == ".explicitcluster";
                    entry.blocks_are_clusters |= word == ".blocksareclusters";
                }
                ".pragma" => self.skip_statement()?,
                _ => break,
            }
        }
        Ok(())
    }

    fn dimensions(&mut self) -> Result<[u32; 3], PtxError> {
        let mut dims = [1; 3];
        for (index, dim) in dims.iter_mut().enumerate() {
            if index > 0 && !self.lexer.accept(b',')? {
                break;
            }
            *dim = self.lexer.integer()?.clamp(0, i64::from(u32::MAX)) as u32;
        }
        Ok(dims)
    }

    fn params(&mut self, is_kernel: bool) -> Result<Vec<Param>, PtxError> {
        let mut params = Vec::new();
        let mut offset = 0u64;
        self.lexer.expect(b'(')?;
        while !self.lexer.accept(b')')? {
            self.lexer.accept(b',')?;
            let declarator = self.param()?;
            let natural = declarator.ty.bytes();
            // Of a scalar kernel parameter, `.ptr .align` speaks of what it points to.
            let align = if is_kernel && declarator.size == Some(u64::from(natural)) {
                natural
            } else {
                declarator.align
            };
            offset = align_up(offset, u64::from(align));
            let size = declarator.size.unwrap_or(0);
            if offset + size > MAX_VARIABLE_BYTES / 2 {
                return Err(self.lexer.error("parameters too large".into()));
            }
            params.push(Param {
                name: declarator.name.to_owned(),
                offset: offset as u32,
                size: size as u32,
                align,
            });
            offset += size;
        }
        Ok(params)
    }

    fn param(&mut self) -> Result<Declarator<'t>, PtxError> {
        let space = self.lexer.word()?;
        if !matches!(space, ".param" | ".reg") {
            return Err(self
                .lexer
                .error(format!("expected `.param`, found `{space}`")));
        }
        declarator(&mut self.lexer)
    }

    fn globals(&mut self, module: &mut Module, space: Space) -> Result<(), PtxError> {
        let is_extern = self.current.linkage == Linkage::Extern;
        self.current.is_definition = !is_extern;
        let first = declarator(&mut self.lexer)?;
        let (ty, align) = (first.ty, first.align);
        if let Some(kind) = first.opaque {
            if space != Space::Global || first.size != Some(8) {
                let name = first.name;
                let message = format!("`{name}` is of an opaque type: one variable in `.global`");
                return Err(self.lexer.error(message));
            }
            self.opaque(module, kind, is_extern, first.name)?;
            while self.lexer.accept(b',')? {
                let name = self.lexer.word()?;
                self.opaque(module, kind, is_extern, name)?;
            }
            self.lexer.expect(b';')?;
            return Ok(());
        }
        self.global(module, space, is_extern, first)?;
        while self.lexer.accept(b',')? {
            let next = named(&mut self.lexer, ty, align)?;
            self.global(module, space, is_extern, next)?;
        }
        self.lexer.accept(b';')?;
        Ok(())
    }

    /// A variable of an opaque type. A definition takes the place of a declaration.
    fn opaque(
        &mut self,
        module: &mut Module,
        kind: OpaqueKind,
        is_extern: bool,
        name: &str,
    ) -> Result<(), PtxError> {
        self.current.names.push(name.to_owned());
        let mut opaque = Opaque::new(name, kind, is_extern);
        if self.lexer.accept(b'=')? {
            opaque.fields(&mut self.lexer)?;
        }
        let known = module.opaques_by_name.get(name).copied();
        match known {
            Some(_) if is_extern => {}
            Some(index) => module.opaques[index] = opaque,
            None => {
                let index = module.opaques.len();
                module.opaques_by_name.insert(name.to_owned(), index);
                module.opaques.push(opaque);
            }
        }
        Ok(())
    }

    fn global(
        &mut self,
        module: &mut Module,
        space: Space,
        is_extern: bool,
        declarator: Declarator<'t>,
    ) -> Result<(), PtxError> {
        self.current.names.push(declarator.name.to_owned());
        let mut global = Global {
            name: declarator.name.to_owned(),
            space,
            align: declarator.align,
            size: 0,
            element: declarator.element,
            init: Vec::new(),
            relocations: Vec::new(),
            is_extern,
            is_managed: declarator.is_managed,
        };
        if self.lexer.accept(b'=')? {
            self.initialiser(&mut global, declarator.ty, 0)?;
        }
        global.size = declarator.size.unwrap_or(global.init.len() as u64);
        if global.init.len() as u64 > global.size {
            return Err(self
                .lexer
                .error(format!("initialiser of `{}` too long", global.name)));
        }
        let known = module.globals_by_name.get(&global.name).copied();
        match known {
            Some(index) if is_extern && module.globals[index].size > 0 => {}
            Some(index) => module.globals[index] = global,
            None => {
                module
                    .globals_by_name
                    .insert(global.name.clone(), module.globals.len());
                module.globals.push(global);
            }
        }
        Ok(())
    }

    fn initialiser(&mut self, global: &mut Global, ty: Type, depth: u32) -> Result<(), PtxError> {
        if depth > MAX_NESTING {
            return Err(self.lexer.error("initialiser nested too deeply".into()));
        }
        if self.lexer.accept(b'{')? {
            while !self.lexer.accept(b'}')? {
                self.initialiser(global, ty, depth + 1)?;
                self.lexer.accept(b',')?;
            }
            return Ok(());
        }
        self.element(global, ty)
    }

    fn element(&mut self, global: &mut Global, ty: Type) -> Result<(), PtxError> {
        let line = self.lexer.ahead();
        let negative = self.lexer.accept(b'-')?;
        let scalar = match self.lexer.next()? {
            Token::Integer(bits) if negative => Scalar::Integer(bits.wrapping_neg()),
            Token::Integer(bits) => Scalar::Integer(bits),
            Token::Single(bits) => Scalar::Single(bits ^ (u32::from(negative) << 31)),
            Token::Double(bits) => Scalar::Double(bits ^ (u64::from(negative) << 63)),
            Token::Word(word) if !negative => return self.address(global, ty, word),
            other => return Err(self.lexer.error(format!("{other:?} in an initialiser"))),
        };
        append_scalar(&mut global.init, ty, scalar, line)
    }

    /// `symbol`, `symbol+4` or `generic(symbol)+4`.
    fn address(&mut self, global: &mut Global, ty: Type, word: &str) -> Result<(), PtxError> {
        let symbol = if word == "generic" {
            self.lexer.expect(b'(')?;
            let inner = self.lexer.word()?;
            self.lexer.expect(b')')?;
            inner
        } else {
            word
        };
        let addend = if self.lexer.accept(b'+')? {
            self.lexer.integer()?
        } else {
            0
        };
        if ty.bytes() != 8 {
            return Err(self
                .lexer
                .error(format!("address of `{symbol}` in a narrow variable")));
        }
        global.relocations.push(Relocation {
            offset: global.init.len() as u64,
            size: ty.bytes(),
            symbol: symbol.to_owned(),
            addend,
        });
        append_scalar(&mut global.init, ty, Scalar::Integer(0), self.lexer.ahead())
    }
}

/// Adds a function; a body replaces an earlier declaration, never the other way round.
fn add_function(module: &mut Module, entry: Entry) {
    match module.by_name.get(&entry.name) {
        Some(&index) if entry.body.is_some() => module.functions[index] = entry,
        Some(_) => {}
        None => {
            module
                .by_name
                .insert(entry.name.clone(), module.functions.len());
            module.functions.push(entry);
        }
    }
}

/// `.align 8 .b8 name[16]` and the like, after the state space.
pub(super) fn declarator<'t>(lexer: &mut Lexer<'t>) -> Result<Declarator<'t>, PtxError> {
    let (mut align, mut ty, mut lanes) = (None, None, 1);
    let (mut is_managed, mut opaque) = (false, None);
    loop {
        let word = lexer.word()?;
        match word {
            ".align" => {
                let value = lexer.integer()?;
                if !(1..=4096).contains(&value) || !(value as u64).is_power_of_two() {
                    return Err(lexer.error(format!("alignment {value}")));
                }
                align = Some(value as u32);
            }
            ".ptr" | ".global" | ".shared" | ".const" | ".local" | ".generic" | ".attribute" => {
                if word == ".attribute" {
                    is_managed |= attributes(lexer)?;
                }
            }
            ".v2" => lanes = 2,
            ".v4" => lanes = 4,
            _ if word.starts_with('.') && OpaqueKind::from_name(&word[1..]).is_some() => {
                (opaque, ty) = (OpaqueKind::from_name(&word[1..]), Some(Type::B64));
            }
            _ if word.starts_with('.') => {
                ty = Some(Type::from_name(&word[1..]).ok_or_else(|| {
                    lexer.error(format!("unsupported type or attribute `{word}`"))
                })?);
            }
            name => {
                let ty = ty.ok_or_else(|| lexer.error(format!("`{name}` has no type")))?;
                let align = align.unwrap_or(ty.bytes() * lanes);
                let declarator = array(lexer, name, ty, align, u64::from(ty.bytes() * lanes))?;
                return Ok(Declarator {
                    is_managed,
                    opaque,
                    ..declarator
                });
            }
        }
    }
}

/// A further name in a list of declarators.
fn named<'t>(lexer: &mut Lexer<'t>, ty: Type, align: u32) -> Result<Declarator<'t>, PtxError> {
    let name = lexer.word()?;
    array(lexer, name, ty, align, u64::from(ty.bytes()))
}

fn array<'t>(
    lexer: &mut Lexer<'t>,
    name: &'t str,
    ty: Type,
    align: u32,
    element: u64,
) -> Result<Declarator<'t>, PtxError> {
    let mut size = Some(element);
    while lexer.accept(b'[')? {
        if lexer.accept(b']')? {
            size = None;
            continue;
        }
        let count = lexer.integer()?;
        lexer.expect(b']')?;
        size = size.and_then(|size| size.checked_mul(u64::try_from(count).ok()?));
        if size.is_none_or(|size| size > MAX_VARIABLE_BYTES) {
            return Err(lexer.error(format!("`{name}` is too large")));
        }
    }
    Ok(Declarator {
        name,
        ty,
        align,
        size,
        element: element as u32,
        is_managed: false,
        opaque: None,
    })
}

/// What is in the parentheses of `.attribute`: whether `.managed` is.
fn attributes(lexer: &mut Lexer<'_>) -> Result<bool, PtxError> {
    lexer.expect(b'(')?;
    let (mut depth, mut is_managed) = (1, false);
    while depth > 0 {
        match lexer.next()? {
            Token::Mark(b'(') => depth += 1,
            Token::Mark(b')') => depth -= 1,
            Token::Word(".managed") => is_managed = true,
            Token::End => return Err(lexer.error("`(` without `)`".into())),
            _ => {}
        }
    }
    Ok(is_managed)
}
