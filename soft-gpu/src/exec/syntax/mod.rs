//! The forms of instructions that this device executes, after the syntax in the PTX ISA.
//!
//! *What:* a line for each group of forms. Its parts stand between dots, each with its alternatives; what has a question mark at the end may be left out,
//! `xorsign&abs` are two modifiers that come together, and a word in capitals is one of `SETS`. *Why here:* one table says both what the decoder takes and what the
//! tests have to prove. *Rules:* types count in the order in which they are written, modifiers in any order, as assemblers take them. What depends on
//! operands is the decoder's business; textures are, altogether.

mod matrix;
mod memory;
mod quad;
mod scalar;
mod warp;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ptx::Type;

/// Words that stand for alternatives.
const SETS: &[(&str, &str)] = &[
    ("INTEGER", "u16|s16|u32|s32|u64|s64"),
    (
        "ANY",
        "b8|b16|b32|b64|u8|u16|u32|u64|s8|s16|s32|s64|f32|f64",
    ),
    ("SHORT", "b8|b16|b32|u8|u16|u32|s8|s16|s32|f32"),
    ("ROUNDING", "rn|rz|rm|rp"),
    ("WHOLE", "rni|rzi|rmi|rpi"),
    ("ORDER", "eq|ne|lt|le|gt|ge"),
    ("UNSIGNED", "lo|ls|hi|hs"),
    ("UNORDERED", "equ|neu|ltu|leu|gtu|geu|num|nan"),
    ("JOIN", "and|or|xor"),
    ("RESULT", "u32|s32|f32|f16|bf16"),
    ("CACHING", "ca|cg|cs|lu|cv"),
    ("WRITING", "wb|cg|cs|wt"),
    (
        "PRIORITY",
        "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate",
    ),
    ("CACHE", "CACHING|PRIORITY"),
    ("FURTHER", "L2::evict_last|L2::evict_normal|L2::evict_first"),
    ("AHEAD", "L2::64B|L2::128B|L2::256B"),
    ("ORDERS", "relaxed|acquire|release|acq_rel"),
    ("SCOPE", "cta|cluster|gpu|sys"),
    ("CUBE", "m16n16k16|m8n32k16|m32n8k16"),
    ("SHARED", "shared|shared::cta|shared::cluster"),
    ("DIMENSIONS", "1d|2d|3d|4d|5d"),
    ("MEMORY", "global|shared|shared::cta"),
];

/// The families of instructions, each with its lines.
const FAMILIES: [(&str, &[&str]); 5] = [
    ("scalar", scalar::LINES),
    ("memory", memory::LINES),
    ("quad", quad::LINES),
    ("warp", warp::LINES),
    ("matrix", matrix::LINES),
];

/// Instructions whose forms are known to their own decoder alone.
const TEXTURES: [&str; 8] = [
    "tex", "tld4", "txq", "istypep", "suld", "sust", "sured", "suq",
];

/// Modifiers of which one belongs to a form.
#[derive(Debug)]
struct Slot {
    /// Each of one modifier, or of several that come together.
    alternatives: Vec<Vec<&'static str>>,
    optional: bool,
}

/// A line, less its opcodes.
type Line = Vec<Slot>;

/// The alternatives of a slot, sets among them.
fn alternatives(slot: &'static str) -> Vec<Vec<&'static str>> {
    let each = |word: &'static str| match SETS.iter().find(|(name, _)| *name == word) {
        Some((_, words)) => alternatives(words),
        None => vec![word.split('&').collect()],
    };
    slot.split('|').flat_map(each).collect()
}

fn slots(line: &'static str) -> (Vec<Vec<&'static str>>, Line) {
    let mut parts = line.split('.');
    let opcodes = parts.next().map(alternatives).unwrap_or_default();
    let slot = |part: &'static str| Slot {
        alternatives: alternatives(part.trim_end_matches('?')),
        optional: part.ends_with('?'),
    };
    (opcodes, parts.map(slot).collect())
}

/// All lines, by opcode.
static TABLE: LazyLock<HashMap<&'static str, Vec<&'static Line>>> = LazyLock::new(|| {
    let mut table: HashMap<_, Vec<_>> = HashMap::new();
    for &line in FAMILIES.iter().flat_map(|(_, lines)| *lines) {
        let (opcodes, line) = slots(line);
        let line: &'static Line = Box::leak(Box::new(line));
        for opcode in opcodes.concat() {
            table.entry(opcode).or_default().push(line);
        }
    }
    table
});

/// What a form lacks of a line: how many of its modifiers, and one thing to say of it.
fn lack(line: &Line, modifiers: &[&str]) -> Option<(usize, String)> {
    let mut left = modifiers.to_vec();
    for slot in line {
        // The first type that is written is the first type of the line.
        let of_types = Type::from_name(slot.alternatives[0][0]).is_some();
        let place = left.iter().position(|part| match of_types {
            true => Type::from_name(part).is_some(),
            false => slot.alternatives.iter().any(|words| words[0] == *part),
        });
        let words = place.and_then(|place| {
            let fits = |words: &&Vec<&str>| words[0] == left[place];
            slot.alternatives.iter().find(fits)
        });
        let complete = words.is_some_and(|words| words.iter().all(|word| left.contains(word)));
        if let (true, Some(words)) = (complete, words) {
            for word in words {
                let at = left.iter().position(|part| part == word);
                at.map(|at| left.remove(at));
            }
        } else if !slot.optional {
            let names: Vec<String> = slot
                .alternatives
                .iter()
                .map(|words| format!("`.{}`", words.join(".")))
                .collect();
            return Some((left.len(), format!("it lacks {}", names.join(" or "))));
        }
    }
    left.first()
        .map(|part| (left.len(), format!("modifier `.{part}`")))
}

/// That `form` is executed.
///
/// # Errors
///
/// Why it is not: names the instruction, and what is too much of it or missing.
pub fn admit(form: &str) -> Result<(), String> {
    let mut parts = form.split('.');
    let opcode = parts.next().unwrap_or("");
    if TEXTURES.contains(&opcode) {
        return Ok(());
    }
    let modifiers: Vec<&str> = parts.collect();
    let mut nearest: Option<(usize, String)> = None;
    for line in TABLE.get(opcode).into_iter().flatten() {
        match lack(line, &modifiers) {
            None => return Ok(()),
            Some(lack) if nearest.as_ref().is_none_or(|known| lack.0 < known.0) => {
                nearest = Some(lack);
            }
            Some(_) => {}
        }
    }
    let refused = format!("`{form}` is not executed by this device");
    Err(match nearest {
        Some((_, lack)) => format!("{refused}: {lack}"),
        None => refused,
    })
}

/// Every form of a family: `scalar`, `memory`, `quad`, `warp` or `matrix`.
pub fn forms(family: &str) -> Vec<String> {
    let lines = FAMILIES.iter().filter(|(name, _)| *name == family);
    lines
        .flat_map(|(_, lines)| *lines)
        .flat_map(|line| expand(line))
        .collect()
}

/// The forms that a line stands for.
fn expand(line: &'static str) -> Vec<String> {
    let (opcodes, slots) = slots(line);
    let mut forms: Vec<String> = opcodes.concat().into_iter().map(str::to_owned).collect();
    for slot in slots {
        let mut parts: Vec<String> = slot
            .alternatives
            .iter()
            .map(|words| format!(".{}", words.join(".")))
            .collect();
        if slot.optional {
            parts.push(String::new());
        }
        let with = |form: &String| {
            let form = form.clone();
            let parts = parts.clone();
            parts.into_iter().map(move |part| form.clone() + &part)
        };
        forms = forms.iter().flat_map(with).collect();
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_table_is_admitted() {
        let mut count = 0;
        for (family, _) in FAMILIES {
            for form in forms(family) {
                assert_eq!(admit(&form), Ok(()), "{form}");
                count += 1;
            }
        }
        assert!(count > 10_000, "{count}");
    }

    #[test]
    fn a_refusal_names_the_instruction_and_what_is_wrong() {
        for (form, words) in [
            ("neg.approx.f32", "modifier `.approx`"),
            ("neg.f32.approx", "modifier `.approx`"),
            ("add.rn.rz.f32", "modifier `.rz`"),
            ("fma.f32", "it lacks `.rn` or `.rz` or `.rm` or `.rp`"),
            ("cvt.f16.f32", "`cvt.f16.f32`"),
            ("mul.wide.u64", "`mul.wide.u64`"),
            ("min.xorsign.f32", "modifier `.xorsign`"),
            ("ld.volatile.global.cg.u32", "modifier `.volatile`"),
            ("ld.shared.v4.f64", "`ld.shared.v4.f64`"),
            ("st.acquire.gpu.u32", "modifier `.acquire`"),
            ("frobnicate.b32", "`frobnicate.b32` is not executed"),
        ] {
            let message = admit(form).expect_err(form);
            assert!(
                message.contains(form) && message.contains(words),
                "{message}"
            );
        }
        assert_eq!(admit("ld.global.volatile.u32"), Ok(()), "in any order");
    }
}
