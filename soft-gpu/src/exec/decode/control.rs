//! Branches, calls, barriers, and special registers that change.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::ptx::{Entry, Operand, Param, Type};

use super::super::op::{Kind, NONE, Op, Role, Row};
use super::super::program::{CallSite, Callee, Fixed, Service, ServiceSite};
use super::super::rows::{doubled, nothing, rare_unary, unary};
use super::form::Form;
use super::function::FunctionDecoder;

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    match form.base {
        "bra" => {
            form.take("uni");
            let [Operand::Name(label)] = operands else {
                return form.refuse();
            };
            decoder.jump(label);
            // Lanes that leave a loop one after the other meet behind it.
            decoder.emit_always(Op::new(Kind::Join, nothing));
        }
        "brx" => branch_table(decoder, form, operands)?,
        "ret" => {
            form.take("uni");
            decoder.emit(Op::new(Kind::Return, nothing));
        }
        "exit" => {
            decoder.emit(Op::new(Kind::Exit, nothing));
        }
        "trap" | "brkpt" => {
            decoder.emit(Op::new(Kind::Trap, nothing));
        }
        "call" => call(decoder, form, operands)?,
        "alloca" | "stacksave" | "stackrestore" => stack(decoder, form, operands)?,
        "bar" | "barrier" => return barrier(decoder, form, operands),
        "membar" | "fence" => fence(form),
        "nanosleep" => {
            form.take_all(|_| true);
            decoder.emit(Op::new(Kind::Poll, nothing));
        }
        "pmevent" | "setmaxnreg" | "griddepcontrol" => {
            form.take_all(|_| true);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Blocks run on one thread each; between them, x86 orders stores, and atomics order the rest. Nothing here goes through another proxy.
fn fence(form: &mut Form<'_>) {
    form.take_all(|_| true);
}

fn branch_table<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    form.take("uni");
    let [index, Operand::Name(list)] = operands else {
        return form.refuse();
    };
    if !form.take("idx") {
        return form.refuse();
    }
    let labels = decoder
        .target_lists
        .get(list)
        .cloned()
        .ok_or_else(|| format!("unknown list `{list}`"))?;
    let mut op = Op::new(Kind::BranchTable, nothing);
    op.a = decoder.source(index, Type::U32)?;
    op.link = decoder.table(labels);
    decoder.emit(op);
    decoder.emit_always(Op::new(Kind::Join, nothing));
    Ok(())
}

fn call<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    form.take("uni");
    let (returns, rest) = match operands {
        [Operand::List(returns), rest @ ..] => (returns.as_slice(), rest),
        rest => (&[][..], rest),
    };
    let (name, arguments, targets) = match rest {
        [Operand::Name(name)] => (*name, &[][..], None),
        [Operand::Name(name), Operand::List(arguments)] => (*name, arguments.as_slice(), None),
        [Operand::Name(name), Operand::Name(targets)] => (*name, &[][..], Some(*targets)),
        [
            Operand::Name(name),
            Operand::List(arguments),
            Operand::Name(targets),
        ] => (*name, arguments.as_slice(), Some(*targets)),
        _ => return form.refuse(),
    };
    let variables = |operands: &[Operand<'t>]| -> Result<Vec<(u32, u32)>, String> {
        operands
            .iter()
            .map(|operand| decoder.local_variable(operand))
            .collect()
    };
    let (returns, arguments) = (variables(returns)?, variables(arguments)?);
    if decoder.names.register(name).is_some() {
        let targets = targets.ok_or("a call through a pointer without a prototype")?;
        let pointer = decoder.source(&Operand::Name(name), Type::U64)?;
        let callee = pointer_targets(decoder, targets, &arguments, &returns)?;
        emit_call(decoder, callee, pointer, &arguments, &returns);
        return Ok(());
    }
    if let Some(service) = service(
        name,
        decoder
            .linker
            .module
            .function(name)
            .is_some_and(|f| f.body.is_some()),
    ) {
        let site = ServiceSite {
            service,
            arguments: offsets(&arguments),
            returns: offsets(&returns),
        };
        decoder.linker.services.push(site);
        let mut op = Op::new(Kind::Service, nothing);
        op.link = decoder.linker.services.len() as u32 - 1;
        decoder.emit(op);
        return Ok(());
    }
    let number = decoder.linker.function(name)?;
    let module = decoder.linker.module;
    let callee = module
        .function(name)
        .ok_or_else(|| format!("call of unknown `{name}`"))?;
    if !fits(callee, &arguments, &returns) {
        return Err(format!("call of `{name}` does not fit its declaration"));
    }
    // What a function does not return its caller does not get.
    let returns = if callee.returns.is_empty() {
        &[][..]
    } else {
        &returns
    };
    emit_call(decoder, Callee::Function(number), NONE, &arguments, returns);
    Ok(())
}

/// A variable's offset and size.
type Variable = (u32, u32);

fn offsets(variables: &[Variable]) -> Vec<u32> {
    variables.iter().map(|variable| variable.0).collect()
}

fn sizes(variables: &[Variable]) -> Vec<u32> {
    variables.iter().map(|variable| variable.1).collect()
}

/// Whether a call with these variables is one of `callee`. Linked texts need not agree about a function's result: a caller may want one where there is none.
fn fits(callee: &Entry, arguments: &[Variable], returns: &[Variable]) -> bool {
    let declared = |params: &[Param]| params.iter().map(|param| param.size).collect::<Vec<_>>();
    declared(&callee.params) == sizes(arguments)
        && (callee.returns.is_empty() || declared(&callee.returns) == sizes(returns))
}

/// Whom a call through a pointer can mean: the functions of a `.calltargets` list, or all that are as a `.callprototype` says.
fn pointer_targets(
    decoder: Decoder<'_, '_, '_>,
    targets: &str,
    arguments: &[Variable],
    returns: &[Variable],
) -> Result<Callee, String> {
    let list = decoder.target_lists.get(targets);
    let signature = (sizes(arguments), sizes(returns));
    if list.is_none() {
        let prototype = decoder.prototypes.get(targets);
        let (returns, arguments) =
            prototype.ok_or_else(|| format!("unknown prototype `{targets}`"))?;
        if (arguments, returns) != (&signature.0, &signature.1) {
            return Err(format!("a call does not fit its prototype `{targets}`"));
        }
    }
    let named = list.map(|_| (decoder.entry.name.clone(), targets.to_owned()));
    let key = (named, signature);
    if let Some(known) = decoder.linker.pointed(&key) {
        return Ok(Callee::Pointer(known));
    }
    let module = decoder.linker.module;
    let is_target = |entry: &&Entry| {
        !entry.is_kernel && entry.body.is_some() && fits(entry, arguments, returns)
    };
    let names: Vec<&str> = list.cloned().unwrap_or_else(|| {
        let all = module.functions().iter().filter(is_target);
        all.map(|entry| entry.name.as_str()).collect()
    });
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        if !module.function(name).is_some_and(|entry| is_target(&entry)) {
            return Err(format!("a call does not fit its target `{name}`"));
        }
        let address = module.function_address(name);
        let address = address.ok_or_else(|| format!("`{name}` has no address"))?;
        found.push((address, decoder.linker.function(name)?));
    }
    decoder.linker.add_pointed(key, found).map(Callee::Pointer)
}

/// Adds a call; `pointer` is the row of its address, if it goes through one.
fn emit_call(
    decoder: Decoder<'_, '_, '_>,
    callee: Callee,
    pointer: Row,
    arguments: &[Variable],
    returns: &[Variable],
) {
    decoder.linker.calls.push(CallSite {
        callee,
        arguments: offsets(arguments),
        returns: offsets(returns),
    });
    let kind = if pointer == NONE {
        Kind::Call
    } else {
        Kind::CallPointer
    };
    let mut op = Op::new(kind, nothing);
    op.link = decoder.linker.calls.len() as u32 - 1;
    (op.a, op.e) = (pointer, decoder.stack.unwrap_or(NONE));
    decoder.emit(op);
    decoder.emit_always(Op::new(Kind::Join, nothing));
}

/// Offsets beyond all local memory: where an allocation ends that is too large. Using it is a fault.
const STACK_LIMIT: u64 = 1 << 31;

/// The part of a frame whose size is only known while it runs. [`FunctionDecoder::stack`] is its end.
fn stack<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let path = decoder.path;
    let stack = decoder.stack.ok_or("a stack that was not foreseen")?;
    let ty = form.take_type()?;
    if !matches!(ty, Type::U32 | Type::U64 | Type::B32 | Type::B64) {
        return form.refuse();
    }
    match (form.base, operands) {
        ("stacksave", [d]) => give(decoder, d, ty, stack),
        ("stackrestore", [a]) => {
            let end = wide_source(decoder, a, ty)?;
            decoder.apply(rare_unary(path, |a: u64| a.min(STACK_LIMIT)), stack, &[end]);
            Ok(())
        }
        ("alloca", [d, size, rest @ ..]) => {
            let align = match rest {
                [] => 8,
                [Operand::Integer(align)] if align.is_power_of_two() && *align <= 1 << 23 => *align,
                _ => return form.refuse(),
            };
            let mut op = Op::new(
                Kind::Straight,
                doubled(path, |stack: u64, size: u64, align: u64| {
                    let start = stack.saturating_add(align - 1) & !(align - 1);
                    let start = start.min(STACK_LIMIT);
                    (start, start.saturating_add(size).min(STACK_LIMIT))
                }),
            );
            (op.a, op.b) = (stack, wide_source(decoder, size, ty)?);
            op.c = decoder.constant(align.max(8), true);
            op.d = decoder.temporary(true);
            (op.extra[0], op.extra_role) = (stack, Role::Written);
            let start = op.d;
            decoder.emit(op);
            give(decoder, d, ty, start)
        }
        _ => form.refuse(),
    }
}

/// A source of type `ty` as 64 bits.
fn wide_source<'t>(
    decoder: Decoder<'_, 't, '_>,
    operand: &Operand<'t>,
    ty: Type,
) -> Result<Row, String> {
    let row = decoder.source(operand, ty)?;
    if ty.is_wide() {
        return Ok(row);
    }
    let (wide, path) = (decoder.temporary(true), decoder.path);
    decoder.apply(rare_unary(path, |a: u32| u64::from(a)), wide, &[row]);
    Ok(wide)
}

/// Copies the 64-bit row `value` to the destination `operand` of type `ty`.
fn give<'t>(
    decoder: Decoder<'_, 't, '_>,
    operand: &Operand<'t>,
    ty: Type,
    value: Row,
) -> Result<(), String> {
    let (d, path) = (decoder.destination(operand, ty)?, decoder.path);
    let handler = if ty.is_wide() {
        rare_unary(path, |a: u64| a)
    } else {
        rare_unary(path, |a: u64| a as u32)
    };
    decoder.apply(handler, d, &[value]);
    decoder.settle(operand, d, ty)
}

/// Begins the changing part of a frame, of functions that have one.
pub(super) fn begin_stack(decoder: Decoder<'_, '_, '_>) {
    let (stack, path) = (decoder.temporary(true), decoder.path);
    let start = decoder.fixed(Fixed::LocalEnd, true);
    decoder.apply(rare_unary(path, |a: u64| a), stack, &[start]);
    decoder.stack = Some(stack);
}

/// What a driver provides to kernels under a function's name.
fn service(name: &str, defined: bool) -> Option<Service> {
    match name {
        _ if defined => None,
        "vprintf" => Some(Service::Printf),
        "__assertfail" => Some(Service::AssertFail),
        "malloc" => Some(Service::Malloc),
        "free" => Some(Service::Free),
        _ => None,
    }
}

/// `bar` and `barrier` of the block; `bar.warp.sync` belongs to the warp.
fn barrier<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    if form.has("warp") {
        return Ok(false);
    }
    if form.take("cluster") {
        return cluster_barrier(decoder, form, operands).map(|()| true);
    }
    form.take("cta");
    form.take("aligned");
    let action = form
        .take_one(&["sync", "red", "arrive"])
        .ok_or("barrier without action")?;
    let mut op = Op::new(Kind::Barrier, nothing);
    op.count = 0;
    let mut rest = operands;
    if action == 1 {
        reduction(decoder, form, &mut op, &mut rest)?;
    } else if action == 2 {
        op.count = 4;
    }
    let number = decoder.constant(0, false);
    op.a = rest
        .first()
        .map_or(Ok(number), |operand| decoder.source(operand, Type::U32))?;
    op.b = rest
        .get(1)
        .map_or(Ok(number), |operand| decoder.source(operand, Type::U32))?;
    if rest.len() > 2 {
        return Err("too many operands of a barrier".into());
    }
    decoder.emit(op);
    if action != 2 {
        decoder.emit_always(Op::new(Kind::Join, nothing));
    }
    Ok(true)
}

/// `barrier.cluster`: its order is that of every access here.
fn cluster_barrier<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let action = form.take_one(&["arrive", "wait"]);
    form.take_all(|part| super::memory::is_hint(part) || part == "aligned");
    let kind = match (action, operands) {
        (Some(0), []) => Kind::ClusterArrive,
        (Some(1), []) => Kind::ClusterWait,
        _ => return form.refuse(),
    };
    decoder.emit(Op::new(kind, nothing));
    if kind == Kind::ClusterWait {
        decoder.emit_always(Op::new(Kind::Join, nothing));
    }
    Ok(())
}

/// The destination and predicate of `bar.red`; leaves the barrier's number and count in `rest`.
fn reduction<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    op: &mut Op,
    rest: &mut &[Operand<'t>],
) -> Result<(), String> {
    let kind = form
        .take_one(&["popc", "and", "or"])
        .ok_or("bar.red without operation")?;
    let ty = form.take_type()?;
    let ([d, middle @ ..], true) = (*rest, rest.len() >= 3) else {
        return form.refuse();
    };
    let (numbers, predicate) = middle.split_at(middle.len() - 1);
    op.count = kind as u8 + 1;
    op.c = decoder.predicate(&predicate[0])?;
    op.d = decoder.destination(d, ty)?;
    // Lanes are released one split at a time, so that a row keeps what it held for the others.
    if op.d == NONE {
        return form.refuse();
    }
    *rest = numbers;
    Ok(())
}

/// The nanoseconds since some time ago.
fn nanoseconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos() as u64)
}

/// A row with the present value of a clock, if `name` is one.
pub(super) fn changing_special(
    decoder: Decoder<'_, '_, '_>,
    name: &str,
    wide: bool,
) -> Result<Option<Row>, String> {
    let path = decoder.path;
    let zero = decoder.constant(0, true);
    let handler = match (name, wide) {
        ("%clock64" | "%globaltimer", true) => unary(path, |_: u64| nanoseconds()),
        ("%clock" | "%clock_hi" | "%globaltimer_lo", false) => {
            unary(path, |_: u64| nanoseconds() as u32)
        }
        ("%globaltimer_hi", false) => unary(path, |_: u64| (nanoseconds() >> 32) as u32),
        _ => return Ok(None),
    };
    let row = decoder.temporary(wide);
    decoder.apply(handler, row, &[zero]);
    Ok(Some(row))
}
