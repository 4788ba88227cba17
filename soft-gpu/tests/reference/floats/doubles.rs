//! Arithmetic of doubles.

use super::super::Want::{Bits, Number, Open};
use super::super::{Name, ROUNDINGS, Reference, fpu};
use super::{double, extreme};

/// A name, and what it computes of two doubles in a direction.
type OnDoubles = (Name, fn(f64, f64, &str) -> f64);

/// Every form.
pub(super) fn all(all: &mut Vec<Reference>) {
    let ty = "f64";
    for direction in ROUNDINGS {
        let operations: [OnDoubles; 4] = [
            ("add", fpu::add_double),
            ("sub", fpu::subtract_double),
            ("mul", fpu::multiply_double),
            ("div", fpu::divide_double),
        ];
        for (name, compute) in operations {
            all.push(Reference::new(
                format!("{name}.{direction}.f64"),
                ty,
                &[ty, ty],
                move |[a, b, ..]| Number(compute(double(a), double(b), direction).to_bits()),
            ));
        }
        all.push(Reference::new(
            format!("rcp.{direction}.f64"),
            ty,
            &[ty],
            move |[a, ..]| Number(fpu::divide_double(1.0, double(a), direction).to_bits()),
        ));
        all.push(Reference::new(
            format!("sqrt.{direction}.f64"),
            ty,
            &[ty],
            move |[a, ..]| Number(fpu::root_double(double(a), double(a), direction).to_bits()),
        ));
        all.push(Reference::new(
            format!("fma.{direction}.f64"),
            ty,
            &[ty; 3],
            move |[a, b, c, _]| {
                let value = fpu::fused_double(double(a), double(b), double(c), direction);
                value.map_or(Open, |value| Number(value.to_bits()))
            },
        ));
    }
    all.push(Reference::new("abs.f64".into(), ty, &[ty], |[a, ..]| {
        Number(a & !(1 << 63))
    }));
    all.push(Reference::new("neg.f64".into(), ty, &[ty], |[a, ..]| {
        Number(a ^ 1 << 63)
    }));
    all.push(Reference::new(
        "copysign.f64".into(),
        ty,
        &[ty, ty],
        |[a, b, ..]| Bits(a & 1 << 63 | b & !(1 << 63)),
    ));
    for name in ["min", "max"] {
        all.push(Reference::new(
            format!("{name}.f64"),
            ty,
            &[ty, ty],
            move |[a, b, ..]| Number(extreme(double(a), double(b), name, false, false).to_bits()),
        ));
    }
}
