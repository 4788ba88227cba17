//! Single and double arithmetic in the processor's other rounding modes.
//!
//! # Safety
//!
//! The mode is set, one operation executed, and the mode put back within one piece of assembly, so that no other
//! arithmetic sees it.
#![expect(unsafe_code, reason = "the rounding mode is not Rust's to change")]

use std::arch::asm;

/// The control word for a direction: all exceptions masked.
fn control(direction: &str) -> u32 {
    let mode = match direction {
        "rn" => 0,
        "rm" => 1,
        "rp" => 2,
        _ => 3,
    };
    0x1f80 | mode << 13
}

macro_rules! operations {
    ($($name:ident, $type:ty, $instruction:literal;)*) => { $(
        /// One operation in a direction.
        pub(crate) fn $name(a: $type, b: $type, direction: &str) -> $type {
            let (mode, mut before, mut result) = (control(direction), 0u32, a);
            // SAFETY: as the module says; both words are locals.
            unsafe {
                asm!(
                    "stmxcsr [{before}]",
                    "ldmxcsr [{mode}]",
                    concat!($instruction, " {result}, {b}"),
                    "ldmxcsr [{before}]",
                    before = in(reg) &mut before,
                    mode = in(reg) &mode,
                    result = inout(xmm_reg) result,
                    b = in(xmm_reg) b,
                );
            }
            result
        }
    )* };
}
operations! {
    add_single, f32, "addss";
    subtract_single, f32, "subss";
    multiply_single, f32, "mulss";
    divide_single, f32, "divss";
    root_single, f32, "sqrtss";
    add_double, f64, "addsd";
    subtract_double, f64, "subsd";
    multiply_double, f64, "mulsd";
    divide_double, f64, "divsd";
    root_double, f64, "sqrtsd";
}

macro_rules! fused {
    ($($name:ident, $type:ty, $instruction:literal;)*) => { $(
        /// `a * b + c` in a direction, where the machine has an instruction for it.
        pub(crate) fn $name(a: $type, b: $type, c: $type, direction: &str) -> Option<$type> {
            if direction == "rn" {
                return Some(a.mul_add(b, c));
            }
            if !is_x86_feature_detected!("fma") {
                return None;
            }
            let (mode, mut before, mut result) = (control(direction), 0u32, a);
            // SAFETY: as the module says; the machine has the instruction.
            unsafe {
                asm!(
                    "stmxcsr [{before}]",
                    "ldmxcsr [{mode}]",
                    concat!($instruction, " {result}, {b}, {c}"),
                    "ldmxcsr [{before}]",
                    before = in(reg) &mut before,
                    mode = in(reg) &mode,
                    result = inout(xmm_reg) result,
                    b = in(xmm_reg) b,
                    c = in(xmm_reg) c,
                );
            }
            Some(result)
        }
    )* };
}
fused! {
    fused_single, f32, "vfmadd213ss";
    fused_double, f64, "vfmadd213sd";
}

/// A double as a single.
pub(crate) fn narrow(value: f64, direction: &str) -> f32 {
    let (mode, mut before, mut result) = (control(direction), 0u32, 0f32);
    // SAFETY: as the module says.
    unsafe {
        asm!(
            "stmxcsr [{before}]",
            "ldmxcsr [{mode}]",
            "cvtsd2ss {result}, {value}",
            "ldmxcsr [{before}]",
            before = in(reg) &mut before,
            mode = in(reg) &mode,
            result = inout(xmm_reg) result,
            value = in(xmm_reg) value,
        );
    }
    result
}

/// `a + b` with the last bit set where bits were lost: rounding it once more to fewer bits is as good as once.
pub(crate) fn add_to_odd(a: f64, b: f64) -> f64 {
    let (down, up) = (add_double(a, b, "rm"), add_double(a, b, "rp"));
    if down == up || !down.is_finite() || !up.is_finite() {
        // Exact; and zero has the sign that the nearest one has.
        return a + b;
    }
    if down.to_bits() & 1 != 0 { down } else { up }
}
