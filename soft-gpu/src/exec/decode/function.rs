//! One function: names, operands, and the way from statements to operations.

use std::collections::HashMap;

use crate::ptx::{Entry, Operand, Scoped, Space, Statement, Type, align_up, parse_body};

use super::super::op::{Kind, NONE, Op, OperandList, Row};
use super::super::path::Path;
use super::super::program::{Fixed, FixedRow, Function, Special};
use super::super::rows::{Handler, binary, not_executed, nothing, ternary, unary};
use super::super::syntax;
use super::form::Form;
use super::names::{Binding, Names, Register, special};
use super::{
    Linker, Place, allocate, asynchronous, atomic, bits, compare, control, convert, float, integer,
    matrix, memory, multimem, quad, space, texture, video, warp,
};

/// Largest frame-local memory of one function.
const MAX_FRAME_LOCAL: u64 = 512 << 10;

/// A decoded function; branch targets count from its first operation.
pub(super) struct Decoded {
    pub(super) ops: Vec<Op>,
    pub(super) lines: Vec<u32>,
    pub(super) targets: Vec<Vec<u32>>,
    pub(super) layout: Function,
}

/// A virtual register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Virtual {
    pub(super) wide: bool,
    /// What it holds from the start, if it is never written.
    pub(super) fixed: Option<Fixed>,
}

/// The guard of the instruction being decoded.
#[derive(Clone, Copy, Debug)]
struct Guard {
    row: Row,
    negated: bool,
}

/// The base and offset of an address operand.
pub(super) struct Address {
    pub(super) base: Row,
    pub(super) wide: bool,
    pub(super) offset: i64,
    /// The space that the base says, if it is a variable.
    pub(super) space: Option<Space>,
}

/// A function being decoded.
pub(super) struct FunctionDecoder<'t, 'l> {
    pub(super) linker: &'l mut Linker<'t>,
    pub(super) path: Path,
    pub(super) entry: &'t Entry,
    pub(super) names: Names<'t>,
    pub(super) virtuals: Vec<Virtual>,
    registers: HashMap<u32, Row>,
    /// The upper halves of registers of 128 bits.
    upper_halves: HashMap<u32, Row>,
    next_register: u32,
    fixed: HashMap<(Fixed, bool), Row>,
    pub(super) ops: Vec<Op>,
    lines: Vec<u32>,
    line: u32,
    guard: Option<Guard>,
    /// Labels by scope and name.
    labels: HashMap<(u32, &'t str), u32>,
    /// The scopes that are open, and the parent of each scope.
    scope: u32,
    parents: Vec<u32>,
    /// Branches to be given their targets: operation, scope, label.
    jumps: Vec<(usize, u32, &'t str)>,
    /// Target lists by name, and those in use: list, scope, labels.
    pub(super) target_lists: HashMap<&'t str, Vec<&'t str>>,
    pub(super) tables: Vec<(u32, Vec<&'t str>)>,
    /// Sizes of return values and parameters of call prototypes, by name.
    pub(super) prototypes: HashMap<&'t str, (Vec<u32>, Vec<u32>)>,
    /// The end of the frame's local memory, where `alloca` changes it.
    pub(super) stack: Option<Row>,
    local_bytes: u64,
    carry: Option<Row>,
}

/// Decodes `entry`. Errors carry the PTX line.
pub(super) fn decode<'m>(
    linker: &mut Linker<'m>,
    entry: &'m Entry,
) -> Result<Decoded, (u32, String)> {
    let module = linker.module;
    let (text, line) = module
        .body(entry)
        .ok_or_else(|| (entry.line, format!("`{}` has no body", entry.name)))?;
    let statements = parse_body(text, line).map_err(|error| (error.line, error.message))?;
    let mut decoder = FunctionDecoder::new(linker, entry);
    decoder
        .bind_params()
        .map_err(|message| (entry.line, message))?;
    decoder.look_ahead(&statements);
    for (line, statement) in &statements {
        decoder.line = *line;
        decoder
            .statement(statement)
            .map_err(|message| (*line, message))?;
    }
    decoder
        .finish()
        .map_err(|message| (decoder_line(&statements), message))
}

/// What stands for a function that is not executed: a fault, with the words of `code.refused[reason]`.
pub(super) fn refused(reason: u32, line: u32) -> Decoded {
    let mut op = Op::new(Kind::Straight, not_executed);
    op.link = reason;
    Decoded {
        ops: vec![op, Op::new(Kind::Return, nothing)],
        lines: vec![line; 2],
        targets: Vec::new(),
        layout: Function::default(),
    }
}

fn decoder_line(statements: &[Scoped<'_>]) -> u32 {
    statements.last().map_or(0, |(line, _)| *line)
}

impl<'t, 'l> FunctionDecoder<'t, 'l> {
    fn new(linker: &'l mut Linker<'t>, entry: &'t Entry) -> Self {
        let path = linker.path;
        let mut names = Names::default();
        names.open();
        FunctionDecoder {
            linker,
            path,
            entry,
            names,
            virtuals: Vec::new(),
            registers: HashMap::new(),
            upper_halves: HashMap::new(),
            next_register: 0,
            fixed: HashMap::new(),
            ops: Vec::new(),
            lines: Vec::new(),
            line: entry.line,
            guard: None,
            labels: HashMap::new(),
            scope: 0,
            parents: vec![0],
            jumps: Vec::new(),
            target_lists: HashMap::new(),
            tables: Vec::new(),
            prototypes: HashMap::new(),
            stack: None,
            local_bytes: 0,
            carry: None,
        }
    }

    fn bind_params(&mut self) -> Result<(), String> {
        let entry = self.entry;
        for param in entry.returns.iter().chain(&entry.params) {
            let binding = if entry.is_kernel {
                Binding::KernelParam(param.offset)
            } else {
                Binding::Local(
                    self.place_local(u64::from(param.size), param.align)?,
                    param.size,
                    0,
                )
            };
            self.names.bind(&param.name, binding);
        }
        Ok(())
    }

    /// Target lists and prototypes may stand behind what uses them; a stack has to begin before it is used.
    fn look_ahead(&mut self, statements: &[Scoped<'t>]) {
        let mut has_stack = false;
        for (_, statement) in statements {
            match statement {
                Statement::Targets { name, labels } => {
                    self.target_lists.insert(name, labels.clone());
                }
                Statement::Prototype {
                    name,
                    returns,
                    params,
                } => {
                    self.prototypes
                        .insert(name, (returns.clone(), params.clone()));
                }
                Statement::Instruction { opcode, .. } => {
                    let stacks = ["alloca.", "stacksave.", "stackrestore."];
                    has_stack |= stacks.iter().any(|name| opcode.starts_with(name));
                }
                _ => {}
            }
        }
        if has_stack {
            control::begin_stack(self);
        }
    }

    fn statement(&mut self, statement: &Statement<'t>) -> Result<(), String> {
        match statement {
            Statement::Open => {
                self.names.open();
                self.parents.push(self.scope);
                self.scope = self.parents.len() as u32 - 1;
            }
            Statement::Close => {
                self.names.close();
                self.scope = self.parents[self.scope as usize];
            }
            Statement::Label(name) => {
                if self
                    .labels
                    .insert((self.scope, name), self.ops.len() as u32)
                    .is_some()
                {
                    return Err(format!("label `{name}` twice"));
                }
                self.emit(Op::new(Kind::Join, nothing));
            }
            Statement::Registers { ty, names } => {
                for &(name, count) in names {
                    self.declare(*ty, name, count)?;
                }
            }
            Statement::Variable {
                space,
                name,
                align,
                size,
                element,
            } => self.variable(*space, name, *align, (*size, *element))?,
            Statement::Targets { .. } | Statement::Prototype { .. } => {}
            Statement::Instruction {
                guard,
                opcode,
                operands,
            } => {
                self.guard = match guard {
                    Some(guard) => {
                        let row = self.predicate(&Operand::Name(guard.register))?;
                        Some(Guard {
                            row,
                            negated: guard.negated,
                        })
                    }
                    None => None,
                };
                self.instruction(opcode, operands)?;
                self.guard = None;
            }
        }
        Ok(())
    }

    fn declare(&mut self, ty: Type, name: &'t str, count: Option<u32>) -> Result<(), String> {
        if ty.bytes() > 8 && !quad::is_quad(ty) {
            return Err(format!("registers of type {ty:?} are not supported"));
        }
        let first = self.next_register;
        self.next_register = first
            .checked_add(count.unwrap_or(1))
            .filter(|&all| all <= crate::ptx::MAX_REGISTERS)
            .ok_or("too many registers")?;
        self.names
            .bind(name, Binding::Registers { first, count, ty });
        Ok(())
    }

    fn variable(
        &mut self,
        space: Space,
        name: &'t str,
        align: u32,
        (size, element): (Option<u64>, u32),
    ) -> Result<(), String> {
        let size = size.ok_or_else(|| format!("`{name}` has no size"))?;
        let binding = match space {
            Space::Shared => Binding::Shared(self.linker.place_shared(size, align)?, element),
            _ => Binding::Local(
                self.place_local(size, align)?,
                size.min(u64::from(u32::MAX)) as u32,
                element,
            ),
        };
        self.names.bind(name, binding);
        Ok(())
    }

    /// A place in the frame's local memory.
    fn place_local(&mut self, size: u64, align: u32) -> Result<u32, String> {
        // Places of parameters are copied as words of eight bytes when a host call reads them.
        let offset = align_up(self.local_bytes, u64::from(align.max(8)));
        self.local_bytes = offset + size.max(8);
        if self.local_bytes > MAX_FRAME_LOCAL {
            return Err(format!(
                "{} bytes of local memory are too many",
                self.local_bytes
            ));
        }
        Ok(offset as u32)
    }

    fn instruction(&mut self, opcode: &'t str, operands: &[Operand<'t>]) -> Result<(), String> {
        if !self.linker.admitted.contains(opcode) {
            syntax::admit(opcode)?;
            self.linker.admitted.insert(opcode);
        }
        let mut form = Form::new(opcode);
        let known = integer::decode(self, &mut form, operands)?
            || bits::decode(self, &mut form, operands)?
            || float::decode(self, &mut form, operands)?
            || compare::decode(self, &mut form, operands)?
            || quad::decode(self, &mut form, operands)?
            || memory::decode(self, &mut form, operands)?
            || convert::decode(self, &mut form, operands)?
            || space::decode(self, &mut form, operands)?
            || control::decode(self, &mut form, operands)?
            || warp::decode(self, &mut form, operands)?
            || matrix::decode(self, &mut form, operands)?
            || asynchronous::decode(self, &mut form, operands)?
            || video::decode(self, &mut form, operands)?
            || atomic::decode(self, &mut form, operands)?
            || multimem::decode(self, &mut form, operands)?
            || texture::decode(self, &mut form, operands)?;
        if !known {
            return form.refuse();
        }
        form.finish()
    }

    /// Adds an operation under the instruction's guard, and gives its index.
    pub(super) fn emit(&mut self, mut op: Op) -> usize {
        if let Some(guard) = self.guard {
            op.guard = guard.row;
            op.negated = guard.negated;
            if matches!(op.kind, Kind::Straight | Kind::Copy) {
                op.kind = Kind::Guarded;
            }
        }
        self.ops.push(op);
        self.lines.push(self.line);
        self.ops.len() - 1
    }

    /// Adds `d = handler(sources)`.
    pub(super) fn apply(&mut self, handler: Handler, d: Row, sources: &[Row]) {
        let mut op = Op::new(Kind::Straight, handler);
        op.d = d;
        let fields = [&mut op.a, &mut op.b, &mut op.c, &mut op.e];
        for (field, &source) in fields.into_iter().zip(sources) {
            *field = source;
        }
        self.emit(op);
    }

    /// Adds an operation without a guard, whatever the instruction's guard is.
    pub(super) fn emit_always(&mut self, op: Op) -> usize {
        let guard = self.guard.take();
        let index = self.emit(op);
        self.guard = guard;
        index
    }

    /// A new virtual register.
    pub(super) fn temporary(&mut self, wide: bool) -> Row {
        self.virtuals.push(Virtual { wide, fixed: None });
        self.virtuals.len() as Row - 1
    }

    /// The virtual register that holds `value`.
    pub(super) fn fixed(&mut self, value: Fixed, wide: bool) -> Row {
        if let Some(&row) = self.fixed.get(&(value, wide)) {
            return row;
        }
        self.virtuals.push(Virtual {
            wide,
            fixed: Some(value),
        });
        let row = self.virtuals.len() as Row - 1;
        self.fixed.insert((value, wide), row);
        row
    }

    /// The virtual register that holds the number `bits`.
    pub(super) fn constant(&mut self, bits: u64, wide: bool) -> Row {
        let bits = if wide {
            bits
        } else {
            bits & u64::from(u32::MAX)
        };
        self.fixed(Fixed::Constant(bits), wide)
    }

    /// The carry flag of `add.cc` and its kin.
    pub(super) fn carry(&mut self) -> Row {
        if let Some(row) = self.carry {
            return row;
        }
        let row = self.temporary(false);
        self.carry = Some(row);
        row
    }

    fn register_row(&mut self, register: Register) -> Row {
        if let Some(&row) = self.registers.get(&register.number) {
            return row;
        }
        let row = self.temporary(register.ty.is_wide());
        self.registers.insert(register.number, row);
        row
    }

    /// A register, with its type.
    pub(super) fn register(&mut self, operand: &Operand<'t>) -> Result<(Row, Type), String> {
        let Operand::Name(name) = operand else {
            return Err(format!("{operand:?} is not a register"));
        };
        let register = self
            .names
            .register(name)
            .ok_or_else(|| format!("unknown register `{name}`"))?;
        if quad::is_quad(register.ty) {
            return Err(format!("`{name}` has 128 bits"));
        }
        Ok((self.register_row(register), register.ty))
    }

    /// The two rows of a register of 128 bits, the lower half first.
    pub(super) fn halves(&mut self, operand: &Operand<'t>) -> Result<[Row; 2], String> {
        let register = match operand {
            Operand::Name(name) => self.names.register(name),
            _ => None,
        };
        let Some(register) = register.filter(|register| quad::is_quad(register.ty)) else {
            return Err(format!("{operand:?} is not a register of 128 bits"));
        };
        let mut row = |halves: fn(&mut Self) -> &mut HashMap<u32, Row>| {
            if let Some(&row) = halves(self).get(&register.number) {
                return row;
            }
            let row = self.temporary(true);
            halves(self).insert(register.number, row);
            row
        };
        Ok([
            row(|decoder| &mut decoder.registers),
            row(|decoder| &mut decoder.upper_halves),
        ])
    }

    /// A predicate register, or its negation.
    pub(super) fn predicate(&mut self, operand: &Operand<'t>) -> Result<Row, String> {
        if let Operand::Not(inner) = operand {
            let row = self.predicate(inner)?;
            let result = self.temporary(false);
            let path = self.path;
            self.apply(unary(path, |a: u32| !a), result, &[row]);
            return Ok(result);
        }
        if *operand == Operand::Name("%is_explicit_cluster") {
            return Ok(self.fixed(Fixed::Special(Special::IsExplicitCluster), false));
        }
        if let Operand::Integer(value) = operand {
            return Ok(self.constant(if *value != 0 { u64::MAX } else { 0 }, false));
        }
        match self.register(operand)? {
            (row, Type::Pred) => Ok(row),
            _ => Err(format!("{operand:?} is not a predicate")),
        }
    }

    /// The row of a source operand of type `ty`; wide where the type is.
    pub(super) fn source(&mut self, operand: &Operand<'t>, ty: Type) -> Result<Row, String> {
        if ty == Type::Pred {
            return self.predicate(operand);
        }
        match operand {
            Operand::Name(name) if self.names.register(name).is_some() => {
                let (row, actual) = self.register(operand)?;
                self.fit_source(row, actual, ty)
            }
            Operand::Name(name) => self.named(name, 0, ty),
            Operand::Offset(name, offset) => self.named(name, *offset, ty),
            Operand::Integer(bits) => {
                if matches!(ty, Type::F32 | Type::F64 | Type::Tf32) {
                    return Err("an integer where a float should be".into());
                }
                Ok(self.constant(*bits, ty.is_wide()))
            }
            Operand::Single(bits) => {
                let bits = if ty == Type::F64 {
                    f64::from(f32::from_bits(*bits)).to_bits()
                } else {
                    u64::from(*bits)
                };
                Ok(self.constant(bits, ty.is_wide()))
            }
            Operand::Double(bits) => {
                let bits = match ty {
                    Type::F32 => u64::from((f64::from_bits(*bits) as f32).to_bits()),
                    _ if ty.is_wide() => *bits,
                    _ => return Err("a double where a narrower number should be".into()),
                };
                Ok(self.constant(bits, ty.is_wide()))
            }
            other => Err(format!("{other:?} cannot be read")),
        }
    }

    /// Reads a register of type `actual` as a value of type `ty`: the low bits of a wider one.
    pub(super) fn fit_source(&mut self, row: Row, actual: Type, ty: Type) -> Result<Row, String> {
        if actual == Type::Pred {
            return Err("a predicate where a number should be".into());
        }
        if actual.is_wide() == ty.is_wide() {
            return Ok(row);
        }
        if ty.is_wide() {
            return Err(format!(
                "a register of type {actual:?} is too narrow for {ty:?}"
            ));
        }
        let narrow = self.temporary(false);
        let path = self.path;
        self.apply(unary(path, |a: u64| a as u32), narrow, &[row]);
        Ok(narrow)
    }

    /// A special register's value or a variable's address, plus `offset`.
    fn named(&mut self, name: &str, offset: i64, ty: Type) -> Result<Row, String> {
        if let Some(special) = special(name).filter(|_| offset == 0) {
            return Ok(self.fixed(Fixed::Special(special), ty.is_wide()));
        }
        if name == "WARP_SZ" {
            return Ok(self.constant(32, ty.is_wide()));
        }
        if let Some(row) = control::changing_special(self, name, ty.is_wide())? {
            return Ok(row);
        }
        let (row, _) = self.variable_address(name, ty.is_wide())?;
        if offset == 0 {
            return Ok(row);
        }
        let (result, path) = (self.temporary(ty.is_wide()), self.path);
        let addend = self.constant(offset as u64, ty.is_wide());
        let handler = if ty.is_wide() {
            binary(path, |a: u64, b: u64| a.wrapping_add(b))
        } else {
            binary(path, |a: u32, b: u32| a.wrapping_add(b))
        };
        self.apply(handler, result, &[row, addend]);
        Ok(result)
    }

    /// The row that holds the address of variable `name` in its space.
    pub(super) fn variable_address(
        &mut self,
        name: &str,
        wide: bool,
    ) -> Result<(Row, Space), String> {
        match self.names.find(name) {
            Some(Binding::Shared(offset, _)) => {
                return Ok((self.constant(u64::from(offset), wide), Space::Shared));
            }
            Some(Binding::Local(offset, ..)) => {
                return Ok((self.fixed(Fixed::Local(offset), wide), Space::Local));
            }
            Some(Binding::KernelParam(offset)) => {
                return Ok((self.fixed(Fixed::ParamAddress(offset), wide), Space::Param));
            }
            Some(Binding::Registers { .. }) | None => {}
        }
        if let Some(index) = self.linker.reference(name) {
            return Ok((self.fixed(Fixed::Reference(index), wide), Space::Global));
        }
        match self.linker.variable(name)? {
            Some(Place::Device(address)) => Ok((self.constant(address, wide), Space::Global)),
            Some(Place::Shared(offset)) => {
                Ok((self.constant(u64::from(offset), wide), Space::Shared))
            }
            Some(Place::DynamicShared) => {
                Ok((self.fixed(Fixed::DynamicShared, wide), Space::Shared))
            }
            None => match self.linker.module.function_address(name).filter(|_| wide) {
                Some(address) => Ok((self.constant(address, true), Space::Global)),
                None => Err(format!("unknown name `{name}`")),
            },
        }
    }

    /// The row of a destination of type `ty`. A register that is wider gets the value extended by
    /// [`FunctionDecoder::settle`], which must follow.
    pub(super) fn destination(&mut self, operand: &Operand<'t>, ty: Type) -> Result<Row, String> {
        if *operand == Operand::Name("_") {
            return Ok(self.temporary(ty.is_wide()));
        }
        let (row, actual) = self.register(operand)?;
        if (actual == Type::Pred) != (ty == Type::Pred) {
            return Err(format!(
                "destination {operand:?} is of type {actual:?}, not {ty:?}"
            ));
        }
        if actual.is_wide() == ty.is_wide() {
            return Ok(row);
        }
        if ty.is_wide() {
            return Err(format!("destination {operand:?} is too narrow for {ty:?}"));
        }
        Ok(self.temporary(false))
    }

    /// Extends the value in `row` to the register `operand` where that is wider.
    pub(super) fn settle(
        &mut self,
        operand: &Operand<'t>,
        row: Row,
        ty: Type,
    ) -> Result<(), String> {
        if *operand == Operand::Name("_") {
            return Ok(());
        }
        let (register, _) = self.register(operand)?;
        if register == row {
            return Ok(());
        }
        let path = self.path;
        let handler = if ty.class() == crate::ptx::Class::Signed {
            unary(path, |a: i32| i64::from(a))
        } else {
            unary(path, |a: u32| u64::from(a))
        };
        self.apply(handler, register, &[row]);
        Ok(())
    }

    /// The bytes of an element of variable `name`.
    fn element_of(&self, name: &str) -> Result<u32, String> {
        let element = match self.names.find(name) {
            Some(Binding::Shared(_, element) | Binding::Local(_, _, element)) => Some(element),
            Some(_) => None,
            None => self.linker.module.variable(name).map(|it| it.element),
        };
        let element = element.filter(|element| *element > 0);
        element.ok_or_else(|| format!("`{name}` has no elements"))
    }

    /// The address of an element: an index counts elements, and one in a register is not negative.
    fn element(
        &mut self,
        array: &'t str,
        register: Option<&'t str>,
        index: i64,
    ) -> Result<Address, String> {
        let element = self.element_of(array)?;
        let (base, space) = self.variable_address(array, true)?;
        let Some(register) = register else {
            return Ok(Address {
                base,
                wide: true,
                offset: index.wrapping_mul(i64::from(element)),
                space: Some(space),
            });
        };
        let (row, ty) = self.register(&Operand::Name(register))?;
        let path = self.path;
        let addend = self.constant(index as u64, ty.is_wide());
        let place = self.temporary(true);
        // As wide as the register: what is too large begins again there.
        let count = match ty.is_wide() {
            true => binary(path, |a: u64, b: u64| a.wrapping_add(b)),
            false => binary(path, |a: u32, b: u32| u64::from(a.wrapping_add(b))),
        };
        self.apply(count, place, &[row, addend]);
        let (bytes, sum) = (
            self.constant(u64::from(element), true),
            self.temporary(true),
        );
        let step = ternary(path, |a: u64, b: u64, c: u64| {
            a.wrapping_mul(b).wrapping_add(c)
        });
        self.apply(step, sum, &[place, bytes, base]);
        Ok(Address {
            base: sum,
            wide: true,
            offset: 0,
            space: Some(space),
        })
    }

    /// An address operand.
    pub(super) fn address(&mut self, operand: &Operand<'t>) -> Result<Address, String> {
        if let Operand::Element {
            array,
            register,
            index,
        } = *operand
        {
            return self.element(array, register, index);
        }
        let Operand::Address(base, offset) = operand else {
            return Err(format!("{operand:?} is not an address"));
        };
        let offset = *offset;
        match base.as_ref() {
            Operand::Name(name) if self.names.register(name).is_some() => {
                let (base, ty) = self.register(base)?;
                Ok(Address {
                    base,
                    wide: ty.is_wide(),
                    offset,
                    space: None,
                })
            }
            Operand::Name(name) => {
                let (base, space) = self.variable_address(name, true)?;
                Ok(Address {
                    base,
                    wide: true,
                    offset,
                    space: Some(space),
                })
            }
            Operand::Integer(value) => Ok(Address {
                base: self.constant(*value, true),
                wide: true,
                offset,
                space: None,
            }),
            other => Err(format!("{other:?} is not an address")),
        }
    }

    /// The offset and size in local memory of the variable `operand`.
    pub(super) fn local_variable(&self, operand: &Operand<'t>) -> Result<(u32, u32), String> {
        if let Operand::Name(name) = operand
            && let Some(Binding::Local(offset, size, _)) = self.names.find(name)
        {
            return Ok((offset, size));
        }
        Err(format!("{operand:?} is not a parameter variable"))
    }

    /// The offset in the parameter buffer, if `operand` addresses a kernel parameter by name.
    pub(super) fn kernel_param(&self, operand: &Operand<'t>) -> Option<u32> {
        let Operand::Address(base, offset) = operand else {
            return None;
        };
        let Operand::Name(name) = base.as_ref() else {
            return None;
        };
        match self.names.find(name) {
            Some(Binding::KernelParam(start)) => i64::from(start)
                .checked_add(*offset)
                .and_then(|offset| u32::try_from(offset).ok()),
            _ => None,
        }
    }

    /// Adds a branch to `label`.
    pub(super) fn jump(&mut self, label: &'t str) {
        let index = self.emit(Op::new(Kind::Branch, nothing));
        self.jumps.push((index, self.scope, label));
    }

    /// Registers a target list for a table branch, and gives its number.
    pub(super) fn table(&mut self, labels: Vec<&'t str>) -> u32 {
        self.tables.push((self.scope, labels));
        self.tables.len() as u32 - 1
    }

    /// Registers an operand list, and gives its number.
    pub(super) fn list(&mut self, list: OperandList) -> u32 {
        self.linker.lists.push(list);
        self.linker.lists.len() as u32 - 1
    }

    /// A slot of the address cache.
    pub(super) fn cache_slot(&mut self) -> u32 {
        self.linker.cache_slots += 1;
        self.linker.cache_slots - 1
    }

    fn label(&self, mut scope: u32, name: &str) -> Result<u32, String> {
        loop {
            if let Some(&target) = self.labels.get(&(scope, name)) {
                return Ok(target);
            }
            if scope == 0 {
                return Err(format!("unknown label `{name}`"));
            }
            scope = self.parents[scope as usize];
        }
    }

    fn finish(mut self) -> Result<Decoded, String> {
        self.guard = None;
        self.emit(Op::new(Kind::Return, nothing));
        for (index, scope, label) in std::mem::take(&mut self.jumps) {
            self.ops[index].link = self.label(scope, label)?;
        }
        let mut targets = Vec::new();
        for (scope, labels) in &self.tables {
            targets.push(
                labels
                    .iter()
                    .map(|label| self.label(*scope, label))
                    .collect::<Result<_, _>>()?,
            );
        }
        let mut code = allocate::Code {
            ops: self.ops,
            lines: self.lines,
            targets,
            virtuals: self.virtuals,
            lists: &mut self.linker.lists,
        };
        let frame_bytes = allocate::allocate(&mut code)?;
        let fixed = code.virtuals_fixed(&self.fixed);
        let local = |name: &str| match self.names.find(name) {
            Some(Binding::Local(offset, size, _)) => (offset, size),
            _ => (0, 0),
        };
        let local_bytes = (self.local_bytes as u32).next_multiple_of(16);
        let layout = Function {
            entry: 0,
            frame_bytes: frame_bytes.bytes,
            local_bytes,
            has_stack: self.stack.is_some(),
            fixed: fixed
                .into_iter()
                .map(|(row, wide, value)| FixedRow {
                    row: frame_bytes.rows[row as usize],
                    wide,
                    value: match value {
                        Fixed::LocalEnd => Fixed::Local(local_bytes),
                        value => value,
                    },
                })
                .filter(|fixed| fixed.row != NONE)
                .collect(),
            params: self
                .entry
                .params
                .iter()
                .map(|param| local(&param.name))
                .collect(),
            returns: self
                .entry
                .returns
                .iter()
                .map(|param| local(&param.name))
                .collect(),
        };
        Ok(Decoded {
            ops: code.ops,
            lines: code.lines,
            targets: code.targets,
            layout,
        })
    }
}
