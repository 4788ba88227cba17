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
    /// Negative results become zero.
    relu: bool,
    /// `min` and `max` of magnitudes, with the product of the signs.
    xor_sign: bool,
}

impl Mode {
    fn take(form: &mut Form<'_>) -> Mode {
        // How exactly is the same here.
        form.take_one(&["approx", "full"]);
        Mode {
            rounding: form.take_one(&["rn", "rz", "rm", "rp"]).unwrap_or(0),
            ftz: form.take("ftz"),
            saturate: form.take("sat"),
            nan: form.take("NaN"),
            relu: form.take("relu"),
            xor_sign: form.take("xorsign") & form.take("abs"),
        }
    }

    /// What becomes of a result of halves.
    fn after(self) -> Option<After> {
        match (self.saturate, self.relu) {
            _ if self.rounding != 0 => None,
            (true, true) => None,
            (true, false) => Some(After::Saturate),
            (false, true) => Some(After::Relu),
            (false, false) => Some(After::Nothing),
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
    let of_halves = matches!(ty, Type::F16 | Type::Bf16 | Type::F16x2 | Type::Bf16x2);
    if mode.relu && !(of_halves && form.base == "fma") {
        return form.refuse();
    }
    let handler = match ty {
        Type::F32 => single(decoder.path, form.base, mode),
        Type::F64 if mode.xor_sign => None,
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
    // Halves saturate in their own handlers.
    if mode.saturate && !of_halves {
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
        Type::Bf16 => unary(path, |a: Bf16| {
            let value = a.to_f32();
            Bf16::nearest(if value > 0.0 { value.min(1.0) } else { 0.0 })
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

/// The handler of `make` for each direction of rounding, which the body knows as `D`.
macro_rules! directed {
    ($rounding:expr, $make:expr) => {
        match $rounding {
            1 => {
                const D: u8 = 0;
                $make
            }
            2 => {
                const D: u8 = 1;
                $make
            }
            _ => {
                const D: u8 = 2;
                $make
            }
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
        "min" if mode.xor_sign && mode.nan => {
            flushing!(path, ftz, binary, |a, b| xor_sign(a, b, lesser, true))
        }
        "min" if mode.xor_sign => {
            flushing!(path, ftz, binary, |a, b| xor_sign(a, b, lesser, false))
        }
        "max" if mode.xor_sign && mode.nan => {
            flushing!(path, ftz, binary, |a, b| xor_sign(a, b, greater, true))
        }
        "max" if mode.xor_sign => {
            flushing!(path, ftz, binary, |a, b| xor_sign(a, b, greater, false))
        }
        "min" if mode.nan => flushing!(path, ftz, binary, |a, b| lesser(a, b, true)),
        "min" => flushing!(path, ftz, binary, |a, b| lesser(a, b, false)),
        "max" if mode.nan => flushing!(path, ftz, binary, |a, b| greater(a, b, true)),
        "max" => flushing!(path, ftz, binary, |a, b| greater(a, b, false)),
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

/// The greater of two numbers.
#[inline(always)]
fn greater(a: f32, b: f32, nan: bool) -> f32 {
    -lesser(-a, -b, nan)
}

/// One of the magnitudes, chosen by `choose`, with the product of the signs.
#[inline(always)]
fn xor_sign(a: f32, b: f32, choose: impl Fn(f32, f32, bool) -> f32, nan: bool) -> f32 {
    let sign = (a.to_bits() ^ b.to_bits()) & 1 << 31;
    let chosen = choose(a.abs(), b.abs(), nan);
    f32::from_bits(chosen.to_bits() | sign)
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
    macro_rules! each {
        ($make:ident, |$($arg:ident),+| $body:expr) => {
            match mode.rounding {
                1 => each!(0, $make, |$($arg),+| $body),
                2 => each!(1, $make, |$($arg),+| $body),
                _ => each!(2, $make, |$($arg),+| $body),
            }
        };
        ($direction:literal, $make:ident, |$($arg:ident),+| $body:expr) => {{
            const D: u8 = $direction;
            flushing!(path, mode.ftz, $make, |$($arg),+| {
                $(let $arg = f64::from($arg);)+
                math::narrow::<D>($body)
            })
        }};
    }
    Some(match base {
        "add" => each!(binary, |a, b| math::add_to_odd::<D>(a, b)),
        "sub" => each!(binary, |a, b| math::add_to_odd::<D>(a, -b)),
        "mul" => each!(binary, |a, b| a * b),
        "fma" | "mad" => each!(ternary, |a, b, c| math::add_to_odd::<D>(a * b, c)),
        "div" => each!(rare_binary, |a, b| divide_to_odd(a, b)),
        "rcp" => each!(rare_unary, |a| divide_to_odd(1.0, a)),
        "sqrt" => each!(rare_unary, |a| {
            let root = a.sqrt();
            to_odd(root, root.mul_add(-root, a))
        }),
        _ => return None,
    })
}

/// `value` with its last bit set where `residue`, by which it misses the exact result, is not zero.
#[inline(always)]
fn to_odd(value: f64, residue: f64) -> f64 {
    let inexact = residue != 0.0 && residue.is_finite() && value.is_finite();
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
        _ => return None,
    })
}

fn double_directed(path: Path, base: &str, rounding: usize) -> Option<Handler> {
    use super::super::directed::{fused, product, quotient, root, sum};
    Some(match base {
        "add" => directed!(rounding, rare_binary(path, |a: f64, b: f64| sum::<D>(a, b))),
        "sub" => directed!(
            rounding,
            rare_binary(path, |a: f64, b: f64| sum::<D>(a, -b))
        ),
        "mul" => directed!(
            rounding,
            rare_binary(path, |a: f64, b: f64| product::<D>(a, b))
        ),
        "fma" | "mad" => directed!(
            rounding,
            rare_ternary(path, |a: f64, b: f64, c: f64| fused::<D>(a, b, c))
        ),
        "div" => directed!(
            rounding,
            rare_binary(path, |a: f64, b: f64| quotient::<D>(a, b))
        ),
        "rcp" => directed!(rounding, rare_unary(path, |a: f64| quotient::<D>(1.0, a))),
        "sqrt" => directed!(rounding, rare_unary(path, |a: f64| root::<D>(a))),
        _ => return None,
    })
}

/// What a half becomes after the operation: clamped, or zero where it is negative.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Nothing,
    Saturate,
    Relu,
}

/// [`half::flush`] where `FTZ`.
#[inline(always)]
fn flushed<H: Half, const FTZ: bool>(value: H) -> H {
    if FTZ { half::flush(value) } else { value }
}

/// `value` flushed where `FTZ`, then clamped (1) or made positive (2) as `AFTER` says.
#[inline(always)]
fn finished<H: Half, const FTZ: bool, const AFTER: u8>(value: H) -> H {
    let value = flushed::<H, FTZ>(value);
    let single = value.to_f32();
    match AFTER {
        1 if single > 0.0 => H::nearest(single.min(1.0)),
        1 => H::from_bits(0),
        2 => half::relu(value),
        _ => value,
    }
}

/// One operation on halves, by way of singles. `$unary` and its like make handlers of functions of halves.
macro_rules! half_operations {
    ($base:expr, $mode:expr, $unary:ident, $binary:ident, $ternary:ident) => {
        match $base {
            "add" => $binary!(|a, b| H::nearest(a.to_f32() + b.to_f32())),
            "sub" => $binary!(|a, b| H::nearest(a.to_f32() - b.to_f32())),
            "mul" => $binary!(|a, b| H::nearest(a.to_f32() * b.to_f32())),
            "fma" | "mad" => $ternary!(|a, b, c| half::fused(a, b, c)),
            "min" => match ($mode.nan, $mode.xor_sign) {
                (true, false) => $binary!(|a, b| half::lesser(a, b, true)),
                (false, false) => $binary!(|a, b| half::lesser(a, b, false)),
                (true, true) => $binary!(|a, b| half::xor_sign(a, b, half::lesser, true)),
                (false, true) => $binary!(|a, b| half::xor_sign(a, b, half::lesser, false)),
            },
            "max" => match ($mode.nan, $mode.xor_sign) {
                (true, false) => $binary!(|a, b| half::greater(a, b, true)),
                (false, false) => $binary!(|a, b| half::greater(a, b, false)),
                (true, true) => $binary!(|a, b| half::xor_sign(a, b, half::greater, true)),
                (false, true) => $binary!(|a, b| half::xor_sign(a, b, half::greater, false)),
            },
            "abs" => $unary!(|a| H::from_bits(a.bits() & 0x7fff)),
            "neg" => $unary!(|a| H::from_bits(a.bits() ^ 0x8000)),
            "ex2" => $unary!(|a| H::nearest(math::exp2(a.to_f32()))),
            "tanh" => $unary!(|a| H::nearest(math::tanh(a.to_f32()))),
            _ => return None,
        }
    };
}

/// Chooses the build for what comes before and after the operation.
macro_rules! by_mode {
    ($function:ident::<$half:ident>($path:expr, $base:expr, $mode:expr)) => {
        match ($mode.ftz, $mode.after()?) {
            (false, After::Nothing) => $function::<$half, false, 0>($path, $base, $mode),
            (false, After::Saturate) => $function::<$half, false, 1>($path, $base, $mode),
            (false, After::Relu) => $function::<$half, false, 2>($path, $base, $mode),
            (true, After::Nothing) => $function::<$half, true, 0>($path, $base, $mode),
            (true, After::Saturate) => $function::<$half, true, 1>($path, $base, $mode),
            (true, After::Relu) => $function::<$half, true, 2>($path, $base, $mode),
        }
    };
}

fn halves<H: Half + super::super::rows::Lane>(
    path: Path,
    base: &str,
    mode: Mode,
) -> Option<Handler> {
    by_mode!(halves_of::<H>(path, base, mode))
}

fn halves_of<H: Half + super::super::rows::Lane, const FTZ: bool, const AFTER: u8>(
    path: Path,
    base: &str,
    mode: Mode,
) -> Option<Handler> {
    macro_rules! one {
        (|$a:ident| $body:expr) => {
            unary(path, |$a: H| {
                let $a = flushed::<H, FTZ>($a);
                finished::<H, FTZ, AFTER>($body)
            })
        };
    }
    macro_rules! two {
        (|$a:ident, $b:ident| $body:expr) => {
            binary(path, |$a: H, $b: H| {
                let ($a, $b) = (flushed::<H, FTZ>($a), flushed::<H, FTZ>($b));
                finished::<H, FTZ, AFTER>($body)
            })
        };
    }
    macro_rules! three {
        (|$a:ident, $b:ident, $c:ident| $body:expr) => {
            ternary(path, |$a: H, $b: H, $c: H| {
                let ($a, $b) = (flushed::<H, FTZ>($a), flushed::<H, FTZ>($b));
                let $c = flushed::<H, FTZ>($c);
                finished::<H, FTZ, AFTER>($body)
            })
        };
    }
    Some(half_operations!(base, mode, one, two, three))
}

fn pairs<H: Half>(path: Path, base: &str, mode: Mode) -> Option<Handler> {
    by_mode!(pairs_of::<H>(path, base, mode))
}

fn pairs_of<H: Half, const FTZ: bool, const AFTER: u8>(
    path: Path,
    base: &str,
    mode: Mode,
) -> Option<Handler> {
    macro_rules! one {
        (|$a:ident| $body:expr) => {
            unary(path, |word: u32| {
                half::pair(word, word, |$a: H, _: H| {
                    let $a = flushed::<H, FTZ>($a);
                    finished::<H, FTZ, AFTER>($body)
                })
            })
        };
    }
    macro_rules! two {
        (|$a:ident, $b:ident| $body:expr) => {
            binary(path, |first: u32, second: u32| {
                half::pair(first, second, |$a: H, $b: H| {
                    let ($a, $b) = (flushed::<H, FTZ>($a), flushed::<H, FTZ>($b));
                    finished::<H, FTZ, AFTER>($body)
                })
            })
        };
    }
    macro_rules! three {
        (|$a:ident, $b:ident, $c:ident| $body:expr) => {
            ternary(path, |first: u32, second: u32, third: u32| {
                half::triple(first, second, third, |$a: H, $b: H, $c: H| {
                    let ($a, $b) = (flushed::<H, FTZ>($a), flushed::<H, FTZ>($b));
                    let $c = flushed::<H, FTZ>($c);
                    finished::<H, FTZ, AFTER>($body)
                })
            })
        };
    }
    Some(half_operations!(base, mode, one, two, three))
}
