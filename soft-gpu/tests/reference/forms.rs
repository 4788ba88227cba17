//! Which forms the scalar instructions have, by the device's own table of what it takes: the measure for how many of them the references cover.

/// The opcodes of one lane each, which `docs/soft-gpu.md` lists in the rows of these families.
pub(crate) const FAMILIES: [&str; 5] = ["integer", "video", "float", "compare", "move"];

/// Every form.
pub(crate) fn all() -> Vec<String> {
    soft_gpu::exec::syntax::forms("scalar")
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
