//! Which forms the scalar instructions have, after the syntax in the PTX ISA: the measure for how many of them the references cover.
//!
//! A line has the parts of a form between dots, each with its alternatives; `ftz?` may be left out, and `xorsign&abs` are two modifiers
//! that come together.

/// The opcodes of one lane each, which `docs/soft-gpu.md` lists in the rows of these families.
pub(crate) const FAMILIES: [&str; 5] = ["integer", "video", "float", "compare", "move"];

const FORMS: &[&str] = &[
    "add|sub|div|rem|min|max|sad.u16|s16|u32|s32|u64|s64",
    "add|sub.sat.s32",
    "add|sub.cc.u32|s32|u64|s64",
    "addc|subc.cc?.u32|s32|u64|s64",
    "mul|mad.lo|hi.u16|s16|u32|s32|u64|s64",
    "mul|mad.wide.u16|s16|u32|s32",
    "mad.hi.sat.s32",
    "mad.lo|hi.cc.u32|s32|u64|s64",
    "madc.lo|hi.cc?.u32|s32|u64|s64",
    "mul24|mad24.lo|hi.u32|s32",
    "mad24.hi.sat.s32",
    "min|max.relu.s32|s16x2",
    "add|min|max.u16x2|s16x2",
    "abs|neg.s16|s32|s64",
    "and|or|xor|not.pred|b16|b32|b64",
    "cnot|shl|shr.b16|b32|b64",
    "shr.u16|s16|u32|s32|u64|s64",
    "shf.l|r.clamp|wrap.b32",
    "popc|clz|brev|bfi.b32|b64",
    "bfind.shiftamt?.u32|s32|u64|s64",
    "bfe.u32|s32|u64|s64",
    "bmsk.clamp|wrap.b32",
    "szext.clamp|wrap.u32|s32",
    "fns|lop3.b32",
    "prmt.b32.f4e?|b4e?|rc8?|ecl?|ecr?|rc16?",
    "dp4a.u32|s32.u32|s32",
    "dp2a.lo|hi.u32|s32.u32|s32",
    "selp.b16|b32|b64|u16|s16|u32|s32|u64|s64|f32|f64",
    // Video.
    "vadd|vsub|vabsdiff|vmin|vmax.u32|s32.u32|s32.u32|s32.sat?.add?|min?|max?",
    "vshl|vshr.u32|s32.u32|s32.u32.sat?.clamp|wrap.add?|min?|max?",
    "vset.u32|s32.u32|s32.eq|ne|lt|le|gt|ge.add?|min?|max?",
    "vmad.u32|s32.u32|s32.u32|s32.po?.sat?.shr7?|shr15?",
    "vadd2|vsub2|vavrg2|vabsdiff2|vmin2|vmax2|vadd4|vsub4|vavrg4|vabsdiff4|vmin4|vmax4.u32|s32.u32|s32.u32|s32.sat?|add?",
    "vset2|vset4.u32|s32.u32|s32.eq|ne|lt|le|gt|ge.add?",
    // Floating point.
    "add|sub|mul.rn|rz|rm|rp.ftz?.sat?.f32",
    "add|sub|mul.rn|rz|rm|rp.f64",
    "fma|mad.rn|rz|rm|rp.ftz?.sat?.f32",
    "fma|mad.rn|rz|rm|rp.f64",
    "div.approx|full|rn|rz|rm|rp.ftz?.f32",
    "div.rn|rz|rm|rp.f64",
    "rcp|sqrt.approx|rn|rz|rm|rp.ftz?.f32",
    "rcp|sqrt.rn|rz|rm|rp.f64",
    "rcp.approx.ftz.f64",
    "rsqrt.approx.ftz?.f32",
    "rsqrt.approx.ftz?.f64",
    "min|max.ftz?.NaN?.xorsign&abs?.f32|f16|f16x2",
    "min|max.NaN?.xorsign&abs?.bf16|bf16x2",
    "min|max.f64",
    "abs|neg.ftz?.f32|f16|f16x2",
    "abs|neg.f64|bf16|bf16x2",
    "copysign.f32|f64",
    "ex2|lg2|sin|cos.approx.ftz?.f32",
    "ex2.approx.f16|f16x2",
    "ex2.approx.ftz.bf16|bf16x2",
    "tanh.approx.f32|f16|f16x2|bf16|bf16x2",
    "add|sub|mul.rn.ftz?.sat?.f16|f16x2",
    "add|sub|mul.rn.bf16|bf16x2",
    "fma.rn.ftz?.sat?|relu?.f16|f16x2",
    "fma.rn.relu?.bf16|bf16x2",
    // Comparisons.
    "setp.eq|ne.and?|or?|xor?.b16|b32|b64",
    "setp.eq|ne|lt|le|gt|ge.and?|or?|xor?.s16|s32|s64",
    "setp.eq|ne|lt|le|gt|ge|lo|ls|hi|hs.and?|or?|xor?.u16|u32|u64",
    "setp.eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan.and?|or?|xor?.ftz?.f32|f16",
    "setp.eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan.and?|or?|xor?.f64|bf16",
    "set.eq|ne.and?|or?|xor?.u32|s32|f32.b16|b32|b64",
    "set.eq|ne|lt|le|gt|ge.and?|or?|xor?.u32|s32|f32.s16|s32|s64",
    "set.eq|ne|lt|le|gt|ge|lo|ls|hi|hs.and?|or?|xor?.u32|s32|f32.u16|u32|u64",
    "set.eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan.and?|or?|xor?.ftz?.u32|s32|f32.f32|f16",
    "set.eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan.and?|or?|xor?.u32|s32|f32.f64|bf16",
    "slct.b16|b32|b64|u16|s16|u32|s32|u64|s64|f32|f64.s32",
    "slct.ftz?.b16|b32|b64|u16|s16|u32|s32|u64|s64|f32|f64.f32",
    "testp.finite|infinite|number|notanumber|normal|subnormal.f32|f64",
    // Moves and conversions.
    "mov.pred|b16|b32|b64|u16|s16|u32|s32|u64|s64|f32|f64",
    "cvt.sat?.u8|s8|u16|s16|u32|s32|u64|s64.u8|s8|u16|s16|u32|s32|u64|s64",
    "cvt.rn|rz|rm|rp.f16|bf16|f32|f64.u8|s8|u16|s16|u32|s32|u64|s64",
    "cvt.rni|rzi|rmi|rpi.u8|s8|u16|s16|u32|s32|u64|s64.f16|bf16|f64",
    "cvt.rni|rzi|rmi|rpi.ftz?.u8|s8|u16|s16|u32|s32|u64|s64.f32",
    "cvt.rni|rzi|rmi|rpi.f16.f16",
    "cvt.rni|rzi|rmi|rpi.bf16.bf16",
    "cvt.rni|rzi|rmi|rpi.ftz?.f32.f32",
    "cvt.rni|rzi|rmi|rpi.f64.f64",
    "cvt.rn|rz|rm|rp.ftz?|sat?.f32.f64",
    "cvt.rn|rz|rm|rp.sat?.f16|bf16.f64",
    // Of singles to halves the ISA has no directions up and down; they are executed all the same.
    "cvt.rn|rz|rm|rp.sat?|relu?.f16|bf16.f32",
    "cvt.rn|rz|rm|rp.ftz.f16.f32",
    "cvt.rn|rz.relu?.f16x2|bf16x2.f32",
    "cvt.sat.f32.f32",
    "cvt.sat.f64.f64",
    "cvt.rna.tf32.f32",
    "cvt.f32|f64.f16",
    "cvt.ftz.f32.f16",
    "cvt.ftz?.f64.f32",
    "cvt.f32|f64.bf16",
    "cvta.to?.global|const|param|shared|local.u64",
    "isspacep.global|shared|local",
];

/// Every form.
pub(crate) fn all() -> Vec<String> {
    FORMS.iter().flat_map(|line| expand(line)).collect()
}

/// The forms that a line stands for.
fn expand(line: &str) -> Vec<String> {
    let mut forms = vec![String::new()];
    for slot in line.split('.') {
        let mut parts: Vec<String> = slot
            .split('|')
            .map(|part| format!(".{}", part.trim_end_matches('?').replace('&', ".")))
            .collect();
        if slot.ends_with('?') {
            parts.push(String::new());
        }
        let with = |form: &String| {
            let form = form.clone();
            let parts = parts.clone();
            parts.into_iter().map(move |part| form.clone() + &part)
        };
        forms = forms.iter().flat_map(with).collect();
    }
    let named = forms.iter().map(|form| form[1..].to_owned());
    named.collect()
}

/// A form with its modifiers in alphabetical order, its types in theirs. Rounding to nearest is what there is without a direction.
pub(crate) fn key(form: &str) -> String {
    let is_type = |part: &&str| soft_gpu::ptx::Type::from_name(part).is_some();
    let mut parts = form.split('.');
    let opcode = parts.next().unwrap_or("");
    let (types, mut modifiers): (Vec<&str>, Vec<&str>) =
        parts.filter(|part| *part != "rn").partition(is_type);
    modifiers.sort_unstable();
    [&[opcode], &modifiers[..], &types[..]].concat().join(".")
}

/// Why a form has no reference of its own, if there is a reason.
pub(crate) fn reason(form: &str) -> Option<&'static str> {
    let opcode = form.split('.').next().unwrap_or("");
    let last = form.rsplit('.').next().unwrap_or("");
    Some(match opcode {
        "mov" => "a copy: every kernel here has some",
        "mad" if matches!(last, "f32" | "f64") => "decoded as fma",
        "and" | "or" | "xor" | "not" if last == "pred" => {
            "the rows of predicates are words of ones and zeros: decoded as of b32"
        }
        _ => return None,
    })
}
