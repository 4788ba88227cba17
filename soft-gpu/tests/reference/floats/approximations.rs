//! Approximations, within the bounds of the ISA.

use super::super::Want::{Bits, Near, Open};
use super::super::{Format, Name, Reference};
use super::{double, number, single};

/// A form, and what it computes of one double.
type OnDouble = (Name, fn(f64) -> f64);

/// Numbers in the normal range of singles, and zero and infinity.
fn is_plain(value: f32) -> bool {
    !value.is_subnormal()
}

/// Every form.
pub(super) fn all(all: &mut Vec<Reference>) {
    let ty = "f32";
    let near = |value: f64, absolute: f64, relative: f64| Near {
        value,
        absolute,
        relative,
    };
    let last = 2f64.powi(-23);
    let mut unary = |name: &str, absolute: f64, relative: f64, compute: fn(f64) -> Option<f64>| {
        for ftz in ["", ".ftz"] {
            all.push(Reference::new(
                format!("{name}{ftz}.f32"),
                ty,
                &[ty],
                move |[a, ..]| {
                    let a = single(a);
                    match compute(a.into()) {
                        Some(value) if is_plain(a) => near(value, absolute, relative),
                        _ => Open,
                    }
                },
            ));
        }
    };
    // Results that may be flushed, and the last places of subnormals, are within the smallest normal number.
    let tiny = f64::from(f32::MIN_POSITIVE);
    unary("rcp.approx", tiny, last, |a| Some(1.0 / a));
    unary("sqrt.approx", 0.0, last, |a| Some(a.sqrt()));
    unary("rsqrt.approx", 0.0, 2f64.powf(-22.9), |a| {
        Some(1.0 / a.sqrt())
    });
    unary("ex2.approx", tiny, 2.0 * last, |a| Some(a.exp2()));
    unary("lg2.approx", 2f64.powi(-22), 2f64.powi(-22), |a| {
        Some(if a < 0.0 { f64::NAN } else { a.log2() })
    });
    unary("sin.approx", 2f64.powf(-20.5), 0.0, |a| {
        (a.abs() < 6.25).then(|| a.sin())
    });
    unary("cos.approx", 2f64.powf(-20.5), 0.0, |a| {
        (a.abs() < 6.25).then(|| a.cos())
    });
    // Twenty bits of the mantissa, which is what the ISA has of the coarse forms; subnormals are left open.
    let coarse: [OnDouble; 3] = [
        ("rcp.approx.ftz.f64", |a| 1.0 / a),
        ("rsqrt.approx.f64", |a| 1.0 / a.sqrt()),
        ("rsqrt.approx.ftz.f64", |a| 1.0 / a.sqrt()),
    ];
    for (form, compute) in coarse {
        all.push(Reference::new(
            form.into(),
            "f64",
            &["f64"],
            move |[a, ..]| {
                let a = double(a);
                match compute(a) {
                    value if a.is_subnormal() || value.is_subnormal() => Open,
                    value => near(value, 0.0, 2f64.powi(-19)),
                }
            },
        ));
    }
    for name in ["div.approx", "div.full"] {
        for ftz in ["", ".ftz"] {
            all.push(Reference::new(
                format!("{name}{ftz}.f32"),
                ty,
                &[ty, ty],
                move |[a, b, ..]| {
                    let (a, b) = (single(a), single(b));
                    let (low, high) = (2f32.powi(-126), 2f32.powi(126));
                    if !is_plain(a) || !(low..=high).contains(&b.abs()) {
                        return Open;
                    }
                    near(f64::from(a) / f64::from(b), tiny, 2.0 * last)
                },
            ));
        }
    }
    all.push(Reference::new(
        "tanh.approx.f32".into(),
        ty,
        &[ty],
        move |[a, ..]| near(f64::from(single(a)).tanh(), 0.0, 2f64.powi(-11)),
    ));
    for (ty, relative, absolute) in [
        ("f16", 2f64.powf(-9.9), 2f64.powf(-10.9)),
        ("bf16", 2f64.powi(-7), 2f64.powi(-8)),
    ] {
        let smallest = 2f64.powi(Format::of(ty).lowest);
        let flush_name = if ty == "bf16" { ".ftz" } else { "" };
        all.push(Reference::new(
            format!("ex2.approx{flush_name}.{ty}"),
            ty,
            &[ty],
            move |[a, ..]| near(number(ty, a).exp2(), smallest, relative),
        ));
        all.push(Reference::new(
            format!("tanh.approx.{ty}"),
            ty,
            &[ty],
            move |[a, ..]| near(number(ty, a).tanh(), absolute, 0.0),
        ));
    }
    for (pair, half) in [("f16x2", "f16"), ("bf16x2", "bf16")] {
        for name in ["ex2.approx", "tanh.approx"] {
            let flush_name = if name == "ex2.approx" && half == "bf16" {
                ".ftz"
            } else {
                ""
            };
            // As of each half alone, which is compared with a number above: no bit differs.
            let one = format!("{name}{flush_name}.{half}");
            let form = format!("{name}{flush_name}.{pair}");
            let text = format!(
                ".reg .b16 %x0, %x1; mov.b32 {{%x0, %x1}}, %s0; {one} %x0, %x0; {one} %x1, %x1; \
                 mov.b32 %t0, {{%x0, %x1}}; {form} %t1, %s0; xor.b32 %d, %t0, %t1;"
            );
            let reference = Reference::new(form, "b32", &["b32"], |_| Bits(0));
            all.push(reference.with_text(text));
        }
    }
}
