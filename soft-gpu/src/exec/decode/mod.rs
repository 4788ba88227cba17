//! From PTX to operations.
//!
//! Each function is decoded on its own: [`function`] resolves names and hands every instruction to its family
//! ([`integer`], [`bits`], [`float`], [`video`], [`compare`], [`convert`], [`space`], [`memory`], [`atomic`], [`asynchronous`], [`texture`], [`warp`], [`matrix`],
//! [`control`]), which picks handlers;
//! [`allocate`] then finds rows for the virtual registers. A form that no family knows is an error that names it.

mod allocate;
mod asynchronous;
mod atomic;
mod bits;
mod bulk;
mod compare;
mod control;
mod convert;
mod copies;
mod float;
mod form;
mod function;
mod integer;
mod matrix;
mod memory;
mod multimem;
mod names;
mod quad;
mod reuse;
mod space;
mod surface;
mod texture;
mod video;
mod warp;

use std::collections::{HashMap, HashSet};

use crate::ptx::{self, Space};

use super::op::Kind;
use super::path::Path;
use super::program::{
    CallSite, Callee, Code, Fixed, Function, Program, ProgramAttributes, Service, ServiceSite,
};
use super::rows::LANES;
use super::{DecodeError, MAX_BLOCK_THREADS, REGISTER_UNIT, REGISTERS_PER_MULTIPROCESSOR};

/// Most operations of a program.
const MAX_OPERATIONS: usize = 1 << 24;
/// Local memory of a thread that recursive calls may use.
const RECURSION_BYTES: u32 = 64 << 10;
/// Most static shared memory.
const MAX_SHARED_BYTES: u32 = 232 << 10;
/// Most local memory of a thread.
const MAX_LOCAL_BYTES: u32 = 512 << 10;
/// Most functions in all lists of what pointers can mean.
const MAX_POINTER_TARGETS: usize = 1 << 20;

/// Sizes of arguments and return values.
pub(super) type Signature = (Vec<u32>, Vec<u32>);
/// Who says what a pointer can mean: a function's list of targets, by both names, or else all functions of the signature.
pub(super) type Pointed = (Option<(String, String)>, Signature);

/// What functions refer to outside themselves.
pub(super) struct Linker<'m> {
    pub(super) module: &'m ptx::Module,
    pub(super) global_addresses: &'m dyn Fn(&str) -> Option<u64>,
    pub(super) path: Path,
    /// Functions by name, the kernel first.
    functions: Vec<String>,
    numbers: HashMap<String, u32>,
    /// Static shared variables that were given a place.
    shared: HashMap<String, u32>,
    shared_bytes: u32,
    uses_dynamic_shared: bool,
    pub(super) calls: Vec<CallSite>,
    pointed: HashMap<Pointed, u32>,
    pointer_targets: Vec<Vec<(u64, u32)>>,
    pub(super) services: Vec<ServiceSite>,
    pub(super) lists: Vec<super::op::OperandList>,
    references: Vec<String>,
    reference_numbers: HashMap<String, u32>,
    pub(super) cache_slots: u32,
    /// The forms of instructions that were looked up.
    admitted: HashSet<&'m str>,
}

/// Where a variable of the module lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In device memory, by address.
    Device(u64),
    /// In static shared memory, by offset.
    Shared(u32),
    /// At the start of dynamic shared memory.
    DynamicShared,
}

impl Linker<'_> {
    /// The number of the function called `name`.
    pub(super) fn function(&mut self, name: &str) -> Result<u32, String> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        let known = self
            .module
            .function(name)
            .filter(|entry| entry.body.is_some());
        if known.is_none() {
            return Err(format!(
                "call of `{name}`, which the module does not define"
            ));
        }
        let number = self.functions.len() as u32;
        self.functions.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }

    /// The list that is known under `key`.
    pub(super) fn pointed(&self, key: &Pointed) -> Option<u32> {
        self.pointed.get(key).copied()
    }

    /// Keeps a list of addresses and functions.
    pub(super) fn add_pointed(
        &mut self,
        key: Pointed,
        mut targets: Vec<(u64, u32)>,
    ) -> Result<u32, String> {
        targets.sort_unstable();
        targets.dedup();
        let known: usize = self.pointer_targets.iter().map(Vec::len).sum();
        if known + targets.len() > MAX_POINTER_TARGETS {
            return Err("too many functions that pointers can mean".into());
        }
        let list = self.pointer_targets.len() as u32;
        self.pointer_targets.push(targets);
        self.pointed.insert(key, list);
        Ok(list)
    }

    /// Gives static shared memory to a variable.
    pub(super) fn place_shared(&mut self, size: u64, align: u32) -> Result<u32, String> {
        let offset = u64::from(self.shared_bytes).next_multiple_of(u64::from(align.max(1)));
        let end = offset + size;
        if end > u64::from(MAX_SHARED_BYTES) {
            return Err(format!("{end} bytes of shared memory are too many"));
        }
        self.shared_bytes = end as u32;
        Ok(offset as u32)
    }

    /// The number of an opaque variable among those that are used.
    pub(super) fn reference(&mut self, name: &str) -> Option<u32> {
        if let Some(&number) = self.reference_numbers.get(name) {
            return Some(number);
        }
        self.module.opaque(name).filter(|known| !known.is_extern)?;
        let number = self.references.len() as u32;
        self.references.push(name.to_owned());
        self.reference_numbers.insert(name.to_owned(), number);
        Some(number)
    }

    /// Where the module's variable called `name` lies.
    pub(super) fn variable(&mut self, name: &str) -> Result<Option<Place>, String> {
        let Some(variable) = self.module.variable(name) else {
            return Ok(None);
        };
        if variable.space != Space::Shared {
            return match (self.global_addresses)(name) {
                Some(address) => Ok(Some(Place::Device(address))),
                None => Err(format!("variable `{name}` has no address")),
            };
        }
        if variable.is_extern && variable.size == 0 {
            self.uses_dynamic_shared = true;
            return Ok(Some(Place::DynamicShared));
        }
        if let Some(&offset) = self.shared.get(name) {
            return Ok(Some(Place::Shared(offset)));
        }
        let offset = self.place_shared(variable.size, variable.align)?;
        self.shared.insert(name.to_owned(), offset);
        Ok(Some(Place::Shared(offset)))
    }
}

/// Decodes `kernel` and everything that it calls.
pub(super) fn decode(
    module: &ptx::Module,
    kernel: &str,
    global_addresses: &dyn Fn(&str) -> Option<u64>,
    path: Path,
) -> Result<Program, DecodeError> {
    let error = |line: u32, message: String| DecodeError {
        kernel: kernel.to_owned(),
        line,
        message,
    };
    let entry = module
        .kernel(kernel)
        .ok_or_else(|| error(0, "the module has no such kernel".into()))?;
    let mut linker = Linker {
        module,
        global_addresses,
        path,
        functions: vec![kernel.to_owned()],
        numbers: HashMap::from([(kernel.to_owned(), 0)]),
        shared: HashMap::new(),
        shared_bytes: 0,
        uses_dynamic_shared: false,
        calls: Vec::new(),
        pointed: HashMap::new(),
        pointer_targets: Vec::new(),
        services: Vec::new(),
        lists: Vec::new(),
        references: Vec::new(),
        reference_numbers: HashMap::new(),
        cache_slots: 0,
        admitted: HashSet::new(),
    };
    let mut code = Code {
        param_bytes: entry.param_bytes(),
        ..Code::default()
    };
    let mut index = 0;
    // Functions that this device does not execute. They may only be reached through pointers, and fault then.
    let mut failed: HashMap<u32, (u32, String)> = HashMap::new();
    while let Some(name) = linker.functions.get(index).cloned() {
        let entry = module
            .function(&name)
            .ok_or_else(|| error(0, format!("no function `{name}`")))?;
        let decoded = match function::decode(&mut linker, entry) {
            Ok(decoded) => decoded,
            Err((line, message)) => {
                if index == 0 {
                    return Err(error(line, message));
                }
                failed.insert(index as u32, (line, message.clone()));
                code.refused
                    .push(format!("`{name}`, PTX line {line}: {message}"));
                function::refused(code.refused.len() as u32 - 1, line)
            }
        };
        append(&mut code, decoded);
        if code.ops.len() > MAX_OPERATIONS {
            return Err(error(entry.line, "too many instructions".into()));
        }
        index += 1;
    }
    finish(linker, &mut code);
    if let Some((line, message)) = called(&code).iter().find_map(|index| failed.remove(index)) {
        return Err(error(line, message));
    }
    code.local_stride = local_stride(&code).map_err(|message| error(entry.line, message))?;
    let attributes = attributes(module, entry, &code);
    Ok(Program {
        kernel: kernel.to_owned(),
        attributes,
        code,
    })
}

/// Adds a function's code behind what is there.
fn append(code: &mut Code, decoded: function::Decoded) {
    let base = code.ops.len() as u32;
    let targets_base = code.targets.len() as u32;
    for mut op in decoded.ops {
        match op.kind {
            Kind::Branch => op.link += base,
            Kind::BranchTable => op.link += targets_base,
            _ => {}
        }
        code.ops.push(op);
    }
    code.lines.extend(decoded.lines);
    let shift = |list: Vec<u32>| list.into_iter().map(|target| target + base).collect();
    code.targets.extend(decoded.targets.into_iter().map(shift));
    code.functions.push(Function {
        entry: base,
        ..decoded.layout
    });
}

/// Puts dynamic shared memory behind the static part, and takes over the linker's tables.
fn finish(linker: Linker<'_>, code: &mut Code) {
    code.static_shared = if linker.uses_dynamic_shared {
        linker.shared_bytes.next_multiple_of(16)
    } else {
        linker.shared_bytes
    };
    for fixed in code
        .functions
        .iter_mut()
        .flat_map(|function| &mut function.fixed)
    {
        if fixed.value == Fixed::DynamicShared {
            fixed.value = Fixed::Constant(u64::from(code.static_shared));
        }
    }
    code.calls = linker.calls;
    code.pointer_targets = linker.pointer_targets;
    code.services = linker.services;
    code.lists = linker.lists;
    code.references = linker.references;
    code.cache_slots = linker.cache_slots;
}

/// The operations of function `index`.
fn ops_of(code: &Code, index: usize) -> &[super::op::Op] {
    let start = code.functions[index].entry as usize;
    let end = code
        .functions
        .get(index + 1)
        .map_or(code.ops.len(), |next| next.entry as usize);
    &code.ops[start..end]
}

/// The functions that the kernel calls by name, and those that they call.
fn called(code: &Code) -> Vec<u32> {
    let mut reached = vec![0u32];
    let mut known = vec![false; code.functions.len()];
    let mut index = 0;
    while let Some(&function) = reached.get(index) {
        for op in ops_of(code, function as usize) {
            if op.kind == Kind::Call
                && let Callee::Function(callee) = code.calls[op.link as usize].callee
                && !std::mem::replace(&mut known[callee as usize], true)
            {
                reached.push(callee);
            }
        }
        index += 1;
    }
    reached
}

/// Whom a function calls: functions by name, and lists of what pointers mean; each once.
fn callees(code: &Code, index: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut named, mut lists) = (Vec::new(), Vec::new());
    let is_call = |kind: Kind| matches!(kind, Kind::Call | Kind::CallPointer);
    for op in ops_of(code, index).iter().filter(|op| is_call(op.kind)) {
        match code.calls[op.link as usize].callee {
            Callee::Function(function) => named.push(function),
            Callee::Pointer(list) => lists.push(list),
        }
    }
    for callees in [&mut named, &mut lists] {
        callees.sort_unstable();
        callees.dedup();
    }
    (named, lists)
}

/// The local memory of a lane: that of the deepest chain of calls, and more where functions call themselves.
fn local_stride(code: &Code) -> Result<u32, String> {
    let callees: Vec<_> = (0..code.functions.len())
        .map(|index| callees(code, index))
        .collect();
    // Longest paths by repeated relaxation; still growing after as many rounds as functions means a cycle.
    let mut depth: Vec<u64> = code
        .functions
        .iter()
        .map(|function| u64::from(function.local_bytes))
        .collect();
    let mut recursive = false;
    for round in 0..=code.functions.len().min(64) {
        let mut changed = false;
        let deepest = |functions: &mut dyn Iterator<Item = u32>, depth: &[u64]| {
            let depths = functions.map(|function| depth[function as usize]);
            depths.max().unwrap_or(0)
        };
        let lists: Vec<u64> = code
            .pointer_targets
            .iter()
            .map(|list| deepest(&mut list.iter().map(|target| target.1), &depth))
            .collect();
        for (index, function) in code.functions.iter().enumerate() {
            let (named, pointed) = &callees[index];
            let pointed = pointed.iter().map(|&list| lists[list as usize]);
            let below = deepest(&mut named.iter().copied(), &depth).max(pointed.max().unwrap_or(0));
            let all = (u64::from(function.local_bytes) + below).min(u64::from(MAX_LOCAL_BYTES) + 1);
            changed |= all != depth[index];
            depth[index] = all;
        }
        if !changed {
            break;
        }
        recursive = round == code.functions.len().min(64);
    }
    let has_stack = code.functions.iter().any(|function| function.has_stack);
    let bytes = if recursive || has_stack {
        let once: u64 = code
            .functions
            .iter()
            .map(|function| u64::from(function.local_bytes))
            .sum();
        // What does not fit is a fault of the call that needs it.
        (once + u64::from(RECURSION_BYTES)).min(u64::from(MAX_LOCAL_BYTES))
    } else {
        depth.first().copied().unwrap_or(0)
    };
    if bytes > u64::from(MAX_LOCAL_BYTES) {
        return Err(format!("{bytes} bytes of local memory are too many"));
    }
    Ok((bytes as u32).next_multiple_of(16))
}

/// Most registers that a kernel says it has: a block of as many threads as may be launched fits on a multiprocessor, as a compiler for a
/// device makes sure of.
fn most_registers(max_threads: u32) -> u32 {
    const MOST: u32 = 255;
    const WARP: u32 = LANES as u32;
    const UNIT: u32 = REGISTER_UNIT / WARP;
    (REGISTERS_PER_MULTIPROCESSOR / max_threads.next_multiple_of(WARP) / UNIT * UNIT).min(MOST)
}

fn attributes(module: &ptx::Module, entry: &ptx::Entry, code: &Code) -> ProgramAttributes {
    let consts = module
        .globals()
        .filter(|global| global.space == Space::Const);
    let const_bytes = consts.map(|global| global.size).sum::<u64>();
    let rows = code
        .functions
        .first()
        .map_or(0, |function| function.frame_bytes / super::rows::ROW_BYTES);
    let required = entry
        .required_threads
        .map(|dims| dims.into_iter().fold(1, u32::saturating_mul));
    let max_threads = required
        .or(entry.max_threads)
        .unwrap_or(MAX_BLOCK_THREADS)
        .clamp(1, MAX_BLOCK_THREADS);
    let most_registers = most_registers(max_threads).min(entry.max_registers.unwrap_or(u32::MAX));
    ProgramAttributes {
        shared_bytes: code.static_shared,
        local_bytes: code.local_stride,
        registers: rows.min(most_registers).max(1),
        const_bytes: u32::try_from(const_bytes).unwrap_or(u32::MAX),
        max_threads,
        param_bytes: code.param_bytes,
        uses_printf: code
            .services
            .iter()
            .any(|site| site.service == Service::Printf),
        uses_heap: code
            .services
            .iter()
            .any(|site| matches!(site.service, Service::Malloc | Service::Free)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_can_mean_the_same_share_a_list() {
        const TEXT: &str = "
.version 7.0
.target sm_80
.address_size 64
.func one(.param .b32 a) { .reg .b32 %r<9>; ret; }
.func two(.param .b32 a) { .local .b8 memory[64]; ret; }
.func other(.param .b64 a) { ret; }
.visible .entry k()
{
    .reg .b64 %f;
    .param .b32 p;
    mov.u64 %f, one;
    call %f, (p), prototype;
    call %f, (p), prototype;
    call %f, (p), list;
    call %f, (p), list;
prototype: .callprototype _ (.param .b32 _);
list: .calltargets two, one, two;
    ret;
}
";
        let module = ptx::parse(TEXT).unwrap();
        let program = decode(&module, "k", &|_| None, Path::detect()).unwrap();
        let lists = &program.code.pointer_targets;
        assert_eq!((program.code.calls.len(), lists.len()), (4, 2));
        assert_eq!(lists[0], lists[1], "each function once");
        assert_eq!(lists[0].len(), 2);
        // Room for the deeper one.
        assert!(program.attributes.local_bytes >= 64);
    }

    fn decoded(kernel: &str) -> Result<Program, DecodeError> {
        let text = format!(".version 7.0\n.target sm_80\n.address_size 64\n{kernel}");
        decode(&ptx::parse(&text).unwrap(), "k", &|_| None, Path::detect())
    }

    #[test]
    fn numbers_beyond_all_bounds_are_none_that_are_small() {
        let threads = decoded(".entry k() .reqntid 65536, 65536, 3 { ret; }");
        assert_eq!(threads.unwrap().attributes.max_threads, MAX_BLOCK_THREADS);
        let load = |offset| {
            let body =
                format!("{{ .reg .b32 %r<2>; ld.param.v2.b32 {{%r0, %r1}}, [p+{offset}]; }}");
            decoded(&format!(".entry k(.param .b64 p) {body}"))
        };
        assert!(
            load("4294967292").is_err(),
            "the second is not the first parameter"
        );
        // An address like any other, which is no parameter's.
        assert!(load("9223372036854775807").is_ok());
    }

    #[test]
    fn a_variable_of_an_opaque_type_has_one_number_in_a_kernel() {
        let kernel = "
.global .texref one, two;
.entry k()
{
    .reg .b32 %r<4>;
    tex.1d.v4.u32.s32 {%r0, %r1, %r2, %r3}, [two, {%r0}];
    tex.1d.v4.u32.s32 {%r0, %r1, %r2, %r3}, [one, {%r0}];
    tex.1d.v4.u32.s32 {%r0, %r1, %r2, %r3}, [two, {%r0}];
    ret;
}";
        assert_eq!(decoded(kernel).unwrap().code.references, ["two", "one"]);
    }
}
