//! Floating-point arithmetic: single, double, half and packed halves.

use crate::ptx::{Operand, Type};

use super::super::half::{self, Bf16, F16, Half};
use super::super::math::{self, flush};
use super::super::op::Row;
use super::super::path::Path;
use super::super::rows::{Handler, binary, rare_binary, rare_ternary, rare_unary, ternary, unary};
use super::form::Form;
use super::function::FunctionDecoder;
use super::integer::sources;

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Modifiers of a form, besides its type.
#[derive(Clone, Copy)]
struct Mode {
    /// 0 to nearest, then toward zero, down, up.
    rounding: usize,
    ftz: bool,
    saturate: bool,
    /// NaN wins, in `min` and `max`.
    nan: bool,
    approximate: bool,
}

impl Mode {
    fn take(form: &mut Form<'_>) -> Mode {
        Mode {
            rounding: form.take_one(&["rn", "rz", "rm", "rp"]).unwrap_or(0),
            ftz: form.take("ftz"),
            saturate: form.take("sat"),
            nan: form.take("NaN"),
            approximate: form.take("approx") | form.take("full"),
        }
    }
}

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    let arity = match form.base {
        "abs" | "neg" | "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => 1,
        "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" => 2,
        "fma" | "mad" => 3,
        _ => return Ok(false),
    };
    let mode = Mode::take(form);
    let ty = form.take_type()?;
    let handler = match ty {
        Type::F32 => single(decoder.path, form.base, mode),
        Type::F64 => double(decoder.path, form.base, mode),
        Type::F16 => halves::<F16>(decoder.path, form.base, mode),
        Type::Bf16 => halves::<Bf16>(decoder.path, form.base, mode),
        Type::F16x2 => pairs::<F16>(decoder.path, form.base, mode),
        Type::Bf16x2 => pairs::<Bf16>(decoder.path, form.base, mode),
        _ => None,
    };
    let Some(handler) = handler else {
        return form.refuse();
    };
    let types = [ty; 3];
    let rows = sources(decoder, &types[..arity], operands)?;
    let d = decoder.destination(&operands[0], ty)?;
    decoder.apply(handler, d, &rows);
    if mode.saturate {
        saturate(decoder, ty, d)
            .ok_or(())
            .or_else(|()| form.refuse())?;
    }
    Ok(true)
}

/// Clamps a result to [0, 1]; NaN becomes 0.
pub(super) fn saturate(decoder: Decoder<'_, '_, '_>, ty: Type, d: Row) -> Option<()> {
    let path = decoder.path;
    let handler = match ty {
        Type::F32 => unary(path, |a: f32| if a > 0.0 { a.min(1.0) } else { 0.0 }),
        Type::F64 => unary(path, |a: f64| if a > 0.0 { a.min(1.0) } else { 0.0 }),
        Type::F16 => unary(path, |a: F16| {
            let value = a.to_f32();
            F16::nearest(if value > 0.0 { value.min(1.0) } else { 0.0 })
        }),
        _ => return None,
    };
    decoder.apply(handler, d, &[d]);
    Some(())
}

/// The handler of `make` with subnormal inputs and results flushed where `$ftz`.
macro_rules! flushing {
    ($path:expr, $ftz:expr, $make:ident, |$($arg:ident),+| $body:expr) => {
        if $ftz {
            $make($path, |$($arg: f32),+| {
                $(let $arg = flush($arg);)+
                flush($body)
            })
        } else {
            $make($path, |$($arg: f32),+| $body)
        }
    };
}

/// The handler of `make` for each direction of rounding.
macro_rules! directed {
    ($path:expr, $rounding:expr, $make:ident, $type:ty, $round:ident, |$($arg:ident),+| $body:expr) => {
        match $rounding {
            1 => $make($path, |$($arg: $type),+| $round::<0>($body)),
            2 => $make($path, |$($arg: $type),+| $round::<1>($body)),
            _ => $make($path, |$($arg: $type),+| $round::<2>($body)),
        }
    };
}

fn single(path: Path, base: &str, mode: Mode) -> Option<Handler> {
    if mode.rounding != 0 {
        return single_directed(path, base, mode);
    }
    let ftz = mode.ftz;
    Some(match base {
        "add" => flushing!(path, ftz, binary, |a, b| a + b),
        "sub" => flushing!(path, ftz, binary, |a, b| a - b),
        "mul" => flushing!(path, ftz, binary, |a, b| a * b),
        "div" => flushing!(path, ftz, binary, |a, b| a / b),
        "fma" | "mad" => flushing!(path, ftz, ternary, |a, b, c| a.mul_add(b, c)),
        "min" if mode.nan => flushing!(path, ftz, binary, |a, b| lesser(a, b, true)),
        "min" => flushing!(path, ftz, binary, |a, b| lesser(a, b, false)),
        "max" if mode.nan => flushing!(path, ftz, binary, |a, b| -lesser(-a, -b, true)),
        "max" => flushing!(path, ftz, binary, |a, b| -lesser(-a, -b, false)),
        "abs" => flushing!(path, ftz, unary, |a| a.abs()),
        "neg" => flushing!(path, ftz, unary, |a| -a),
        "copysign" => binary(path, |a: f32, b: f32| b.copysign(a)),
        "rcp" => flushing!(path, ftz, unary, |a| 1.0 / a),
        "sqrt" => flushing!(path, ftz, unary, |a| a.sqrt()),
        "rsqrt" => flushing!(path, ftz, unary, |a| 1.0 / a.sqrt()),
        "ex2" => flushing!(path, ftz, unary, |a| math::exp2(a)),
        "lg2" => flushing!(path, ftz, unary, |a| math::log2(a)),
        "sin" => flushing!(path, ftz, unary, |a| math::sin(a)),
        "cos" => flushing!(path, ftz, unary, |a| math::cos(a)),
        "tanh" => unary(path, |a: f32| math::tanh(a)),
        _ => return None,
    })
}

/// The lesser of two numbers; a number before NaN unless `nan` wins; -0 before +0.
#[inline(always)]
fn lesser(a: f32, b: f32, nan: bool) -> f32 {
    let least = if a < b || (a == b && a.is_sign_negative()) {
        a
    } else {
        b
    };
    let (left, right) = if nan { (a, b) } else { (b, a) };
    let least = if a.is_nan() { left } else { least };
    if b.is_nan() { right } else { least }
}

/// [`lesser`] of doubles.
#[inline(always)]
fn lesser_double(a: f64, b: f64) -> f64 {
    let least = if a < b || (a == b && a.is_sign_negative()) {
        a
    } else {
        b
    };
    let least = if a.is_nan() { b } else { least };
    if b.is_nan() { a } else { least }
}

/// Single-precision results are computed so closely in double precision that one rounding remains.
fn single_directed(path: Path, base: &str, mode: Mode) -> Option<Handler> {
    use math::narrow;
    if mode.ftz {
        return None;
    }
    Some(match base {
        "add" => directed!(path, mode.rounding, rare_binary, f32, narrow, |a, b| {
            math::add_to_odd(f64::from(a), f64::from(b))
        }),
        "sub" => directed!(path, mode.rounding, rare_binary, f32, narrow, |a, b| {
            math::add_to_odd(f64::from(a), -f64::from(b))
        }),
        "mul" => directed!(
            path,
            mode.rounding,
            rare_binary,
            f32,
            narrow,
            |a, b| f64::from(a) * f64::from(b)
        ),
        "fma" | "mad" => directed!(path, mode.rounding, rare_ternary, f32, narrow, |a, b, c| {
            math::add_to_odd(f64::from(a) * f64::from(b), f64::from(c))
        }),
        "div" => directed!(path, mode.rounding, rare_binary, f32, narrow, |a, b| {
            divide_to_odd(f64::from(a), f64::from(b))
        }),
        "rcp" => directed!(path, mode.rounding, rare_unary, f32, narrow, |a| {
            divide_to_odd(1.0, f64::from(a))
        }),
        "sqrt" => directed!(path, mode.rounding, rare_unary, f32, narrow, |a| {
            let root = f64::from(a).sqrt();
            to_odd(root, root.mul_add(-root, f64::from(a)))
        }),
        _ => return None,
    })
}

/// `value` with its last bit set where `residue`, by which it misses the exact result, is not zero.
#[inline(always)]
fn to_odd(value: f64, residue: f64) -> f64 {
    let inexact = residue != 0.0 && value.is_finite();
    let beyond = inexact && (residue < 0.0) == (value > 0.0);
    let bits = value.to_bits().wrapping_sub(u64::from(beyond));
    f64::from_bits(bits | u64::from(inexact))
}

#[inline(always)]
fn divide_to_odd(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    let residue = (-quotient).mul_add(b, a);
    to_odd(quotient, if b < 0.0 { -residue } else { residue })
}

fn double(path: Path, base: &str, mode: Mode) -> Option<Handler> {
    if mode.ftz && !matches!(base, "rcp" | "rsqrt") {
        return None;
    }
    if mode.rounding != 0 {
        return double_directed(path, base, mode.rounding);
    }
    Some(match base {
        "add" => binary(path, |a: f64, b: f64| a + b),
        "sub" => binary(path, |a: f64, b: f64| a - b),
        "mul" => binary(path, |a: f64, b: f64| a * b),
        "div" => binary(path, |a: f64, b: f64| a / b),
        "fma" | "mad" => ternary(path, |a: f64, b: f64, c: f64| a.mul_add(b, c)),
        "min" => binary(path, lesser_double),
        "max" => binary(path, |a: f64, b: f64| -lesser_double(-a, -b)),
        "abs" => unary(path, |a: f64| a.abs()),
        "neg" => unary(path, |a: f64| -a),
        "copysign" => binary(path, |a: f64, b: f64| b.copysign(a)),
        "rcp" => unary(path, |a: f64| 1.0 / a),
        "sqrt" => unary(path, |a: f64| a.sqrt()),
        "rsqrt" => unary(path, |a: f64| 1.0 / a.sqrt()),
        // tinygrad asks for these, which hardware does not have.
        "ex2" if mode.approximate => unary(path, |a: f64| a.exp2()),
        "lg2" if mode.approximate => unary(path, |a: f64| a.log2()),
        "sin" if mode.approximate => unary(path, |a: f64| a.sin()),
        _ => return None,
    })
}

/// The rounding to nearest, corrected by the sign of what it lost. Results near the ends of the range, where the
/// loss itself would be rounded, are not corrected by the products.
fn double_directed(path: Path, base: &str, rounding: usize) -> Option<Handler> {
    use math::direct;
    macro_rules! corrected {
        ($make:ident, |$($arg:ident),+| $body:expr) => {
            match rounding {
                1 => $make(path, |$($arg: f64),+| { let (r, e) = $body; direct::<0>(r, e) }),
                2 => $make(path, |$($arg: f64),+| { let (r, e) = $body; direct::<1>(r, e) }),
                _ => $make(path, |$($arg: f64),+| { let (r, e) = $body; direct::<2>(r, e) }),
            }
        };
    }
    Some(match base {
        "add" => corrected!(rare_binary, |a, b| sum_and_loss(a, b)),
        "sub" => corrected!(rare_binary, |a, b| sum_and_loss(a, -b)),
        "mul" => corrected!(rare_binary, |a, b| {
            let product = a * b;
            (product, a.mul_add(b, -product))
        }),
        "div" => corrected!(rare_binary, |a, b| {
            let quotient = a / b;
            let loss = (-quotient).mul_add(b, a);
            (quotient, if b < 0.0 { -loss } else { loss })
        }),
        "rcp" => corrected!(rare_unary, |a| {
            let quotient = 1.0 / a;
            let loss = (-quotient).mul_add(a, 1.0);
            (quotient, if a < 0.0 { -loss } else { loss })
        }),
        "sqrt" => corrected!(rare_unary, |a| {
            let root = a.sqrt();
            (root, root.mul_add(-root, a))
        }),
        _ => return None,
    })
}

#[inline(always)]
fn sum_and_loss(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// One operation on halves, by way of singles.
macro_rules! half_operations {
    ($path:expr, $base:expr, $mode:expr, $unary:ident, $binary:ident) => {
        match $base {
            "add" => $binary!($path, |a, b| H::nearest(a.to_f32() + b.to_f32())),
            "sub" => $binary!($path, |a, b| H::nearest(a.to_f32() - b.to_f32())),
            "mul" => $binary!($path, |a, b| H::nearest(a.to_f32() * b.to_f32())),
            "min" if $mode.nan => $binary!($path, |a, b| H::nearest(lesser(
                a.to_f32(),
                b.to_f32(),
                true
            ))),
            "min" => $binary!($path, |a, b| H::nearest(lesser(
                a.to_f32(),
                b.to_f32(),
                false
            ))),
            "max" if $mode.nan => {
                $binary!($path, |a, b| H::nearest(-lesser(
                    -a.to_f32(),
                    -b.to_f32(),
                    true
                )))
            }
            "max" => $binary!($path, |a, b| H::nearest(-lesser(
                -a.to_f32(),
                -b.to_f32(),
                false
            ))),
            "abs" => $unary!($path, |a| H::from_bits(a.bits() & 0x7fff)),
            "neg" => $unary!($path, |a| H::from_bits(a.bits() ^ 0x8000)),
            "ex2" => $unary!($path, |a| H::nearest(math::exp2(a.to_f32()))),
            "tanh" => $unary!($path, |a| H::nearest(math::tanh(a.to_f32()))),
            _ => return None,
        }
    };
}

fn halves<H: Half + super::super::rows::Lane>(
    path: Path,
    base: &str,
    mode: Mode,
) -> Option<Handler> {
    if mode.rounding != 0 || mode.ftz {
        return None;
    }
    if matches!(base, "fma" | "mad") {
        return Some(ternary(path, |a: H, b: H, c: H| half::fused(a, b, c)));
    }
    macro_rules! one {
        ($path:expr, |$a:ident| $body:expr) => {
            unary($path, |$a: H| $body)
        };
    }
    macro_rules! two {
        ($path:expr, |$a:ident, $b:ident| $body:expr) => {
            binary($path, |$a: H, $b: H| $body)
        };
    }
    Some(half_operations!(path, base, mode, one, two))
}

fn pairs<H: Half>(path: Path, base: &str, mode: Mode) -> Option<Handler> {
    if mode.rounding != 0 || mode.ftz || mode.saturate {
        return None;
    }
    if matches!(base, "fma" | "mad") {
        return Some(ternary(path, |a: u32, b: u32, c: u32| {
            half::fused_pair::<H>(a, b, c)
        }));
    }
    macro_rules! one {
        ($path:expr, |$a:ident| $body:expr) => {
            unary($path, |word: u32| {
                half::pair(word, word, |$a: H, _: H| $body)
            })
        };
    }
    macro_rules! two {
        ($path:expr, |$a:ident, $b:ident| $body:expr) => {
            binary($path, |first: u32, second: u32| {
                half::pair(first, second, |$a: H, $b: H| $body)
            })
        };
    }
    Some(half_operations!(path, base, mode, one, two))
}
