//! Branches, calls, barriers, and special registers that change.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::ptx::{Operand, Type};

use super::super::op::{Kind, NONE, Op, Row};
use super::super::program::{CallSite, Service, ServiceSite};
use super::super::rows::{nothing, unary};
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

/// Blocks run on one thread each; between them, x86 orders stores, and atomics order the rest.
fn fence(form: &mut Form<'_>) {
    form.take_all(|part| {
        super::memory::is_hint(part) || matches!(part, "gl" | "proxy" | "alias" | "async")
    });
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
    let (name, arguments) = match rest {
        [Operand::Name(name)] => (*name, &[][..]),
        [Operand::Name(name), Operand::List(arguments)] => (*name, arguments.as_slice()),
        _ => return Err("an indirect call is not executed by this device".into()),
    };
    if decoder.names.register(name).is_some() {
        return Err("an indirect call is not executed by this device".into());
    }
    let variables = |operands: &[Operand<'t>]| -> Result<Vec<(u32, u32)>, String> {
        operands
            .iter()
            .map(|operand| decoder.local_variable(operand))
            .collect()
    };
    let (returns, arguments) = (variables(returns)?, variables(arguments)?);
    let offsets = |variables: &[(u32, u32)]| {
        variables
            .iter()
            .map(|variable| variable.0)
            .collect::<Vec<_>>()
    };
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
    let sizes =
        |params: &[crate::ptx::Param]| params.iter().map(|param| param.size).collect::<Vec<_>>();
    let given = |variables: &[(u32, u32)]| {
        variables
            .iter()
            .map(|variable| variable.1)
            .collect::<Vec<_>>()
    };
    if sizes(&callee.params) != given(&arguments) || sizes(&callee.returns) != given(&returns) {
        return Err(format!("call of `{name}` does not fit its declaration"));
    }
    let site = CallSite {
        function: number,
        arguments: offsets(&arguments),
        returns: offsets(&returns),
    };
    decoder.linker.calls.push(site);
    let mut op = Op::new(Kind::Call, nothing);
    op.link = decoder.linker.calls.len() as u32 - 1;
    decoder.emit(op);
    decoder.emit_always(Op::new(Kind::Join, nothing));
    Ok(())
}

/// What a driver provides to kernels under a function's name.
fn service(name: &str, defined: bool) -> Option<Service> {
    match name {
        _ if defined => None,
        "vprintf" => Some(Service::Printf),
        "__assertfail" => Some(Service::AssertFail),
        _ => None,
    }
}

/// `bar` and `barrier` of the block; `bar.warp.sync` belongs to the warp.
fn barrier<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    if form.has("warp") || form.has("cluster") {
        return Ok(false);
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
        // Where a block runs is not to be known from its results.
        ("%smid" | "%nsmid", false) => {
            return Ok(Some(decoder.constant(u64::from(name == "%nsmid"), false)));
        }
        _ => return Ok(None),
    };
    let row = decoder.temporary(wide);
    decoder.apply(handler, row, &[zero]);
    Ok(Some(row))
}
