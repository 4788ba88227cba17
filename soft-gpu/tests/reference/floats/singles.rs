//! Arithmetic of singles.

use super::super::Want::{Bits, Number, Open};
use super::super::{Name, ROUNDINGS, Reference, fpu};
use super::{extreme, flush, result, single};

/// A name, and what it computes of two singles in a direction.
type OnSingles = (Name, fn(f32, f32, &str) -> f32);

/// Every form.
pub(super) fn all(all: &mut Vec<Reference>) {
    let ty = "f32";
    for direction in ROUNDINGS {
        for (ftz, flush_name) in [(false, ""), (true, ".ftz")] {
            for (sat, sat_name) in [(false, ""), (true, ".sat")] {
                let suffix = format!("{direction}{flush_name}{sat_name}.f32");
                let operations: [OnSingles; 3] = [
                    ("add", fpu::add_single),
                    ("sub", fpu::subtract_single),
                    ("mul", fpu::multiply_single),
                ];
                for (name, compute) in operations {
                    all.push(Reference::new(
                        format!("{name}.{suffix}"),
                        ty,
                        &[ty, ty],
                        move |[a, b, ..]| {
                            result(
                                compute(flush(single(a), ftz), flush(single(b), ftz), direction),
                                ftz,
                                sat,
                            )
                        },
                    ));
                }
                all.push(Reference::new(
                    format!("fma.{suffix}"),
                    ty,
                    &[ty; 3],
                    move |[a, b, c, _]| {
                        let [a, b, c] = [a, b, c].map(|bits| flush(single(bits), ftz));
                        fpu::fused_single(a, b, c, direction)
                            .map_or(Open, |value| result(value, ftz, sat))
                    },
                ));
            }
            let suffix = format!("{direction}{flush_name}.f32");
            all.push(Reference::new(
                format!("div.{suffix}"),
                ty,
                &[ty, ty],
                move |[a, b, ..]| {
                    result(
                        fpu::divide_single(flush(single(a), ftz), flush(single(b), ftz), direction),
                        ftz,
                        false,
                    )
                },
            ));
            all.push(Reference::new(
                format!("rcp.{suffix}"),
                ty,
                &[ty],
                move |[a, ..]| {
                    result(
                        fpu::divide_single(1.0, flush(single(a), ftz), direction),
                        ftz,
                        false,
                    )
                },
            ));
            all.push(Reference::new(
                format!("sqrt.{suffix}"),
                ty,
                &[ty],
                move |[a, ..]| {
                    let a = flush(single(a), ftz);
                    result(fpu::root_single(a, a, direction), ftz, false)
                },
            ));
        }
    }
    for (ftz, flush_name) in [(false, ""), (true, ".ftz")] {
        all.push(Reference::new(
            format!("abs{flush_name}.f32"),
            ty,
            &[ty],
            move |[a, ..]| result(flush(single(a), ftz).abs(), ftz, false),
        ));
        all.push(Reference::new(
            format!("neg{flush_name}.f32"),
            ty,
            &[ty],
            move |[a, ..]| result(-flush(single(a), ftz), ftz, false),
        ));
        for name in ["min", "max"] {
            for (nan, nan_name) in [(false, ""), (true, ".NaN")] {
                for (xor, xor_name) in [(false, ""), (true, ".xorsign.abs")] {
                    let form = format!("{name}{flush_name}{nan_name}{xor_name}.f32");
                    all.push(Reference::new(form, ty, &[ty, ty], move |[a, b, ..]| {
                        let (a, b) = (flush(single(a), ftz), flush(single(b), ftz));
                        Number(u64::from(
                            (extreme(a.into(), b.into(), name, nan, xor) as f32).to_bits(),
                        ))
                    }));
                }
            }
        }
    }
    all.push(Reference::new(
        "copysign.f32".into(),
        ty,
        &[ty, ty],
        |[a, b, ..]| Bits(a & 0x8000_0000 | b & 0x7fff_ffff),
    ));
}
