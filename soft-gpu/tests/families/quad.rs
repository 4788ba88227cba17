//! Registers of 128 bits and transfers of 256: every form moves what it finds, byte for byte.

use std::fmt::Write as _;

use super::{POLICY, SCRATCH, cut, kernel, noise, policy, results, space};

const LANES: usize = 32;
/// Forms of one kernel.
const CHUNK: usize = 32;

/// How a form's elements lie in memory and in registers.
#[derive(Clone, Copy)]
struct Shape {
    count: usize,
    bits: u32,
    /// Words of less than 64 bits go through wider registers, so that it shows how they are extended.
    is_signed: bool,
}

impl Shape {
    fn of(form: &str) -> Self {
        let ty = form.rsplit('.').next().expect("a type");
        let (count, bits) = match ty {
            "b128" => (2, 64),
            "b64" | "u64" | "s64" | "f64" => (4, 64),
            _ => (8, 32),
        };
        Self {
            count,
            bits,
            is_signed: ty == "s32",
        }
    }

    /// Bytes of a lane.
    fn size(self) -> usize {
        self.count * self.bits as usize / 8
    }

    /// An element as a register of 64 bits has it.
    fn element(self, page: &[u64], lane: usize, index: usize) -> u64 {
        let bit = (lane * self.size() * 8) + index * self.bits as usize;
        let word = cut(self.bits, page[bit / 64] >> (bit % 64));
        match self.is_signed {
            true => word as u32 as i32 as i64 as u64,
            false => word,
        }
    }

    /// The operand of the registers `%v…`, and what comes before a use of it, or after.
    fn operand(self, form: &str) -> (String, &'static str, &'static str) {
        if form.ends_with("b128") {
            let (join, part) = (
                "mov.b128 %q, {%v0, %v1};",
                "mov.b128 %p, %q; mov.b128 {%v0, %v1}, %p;",
            );
            return ("%q".to_owned(), join, part);
        }
        let names: Vec<String> = (0..self.count).map(|index| format!("%v{index}")).collect();
        (format!("{{{}}}", names.join(", ")), "", "")
    }
}

/// A kernel's beginning: `%at` is a lane's place of `size` bytes in the memory that a form says, `%back` that of the lane opposite.
fn places(form: &str, shape: Shape, start: usize) -> String {
    let size = shape.size();
    let mut text = format!(
        "{POLICY}\n.shared .align 32 .b8 tile[512];\n.local .align 16 .b8 own[16];\n.reg .b64 %v<8>, %from, %to, %w, %base, %at, %back;\n.reg .b32 %other, %t, %s, %sback;\n.reg .b128 %q, %p;\n\
         add.u64 %base, %in, 31; and.b64 %base, %base, -32;\nsub.u32 %other, 31, %lane;\n"
    );
    text += &match space(form) {
        "shared" | "shared::cta" => "mov.u64 %at, tile;\n".to_owned(),
        "const" => "mov.u64 %at, constants;\n".to_owned(),
        "local" => "mov.u64 %at, own;\n".to_owned(),
        _ => format!("add.u64 %at, %base, {start};\n"),
    };
    if space(form) == "local" {
        text += "mov.b64 %back, %at;\n";
    } else {
        writeln!(
            text,
            "mad.wide.u32 %back, %other, {size}, %at; mad.wide.u32 %at, %lane, {size}, %at;"
        )
        .unwrap();
    }
    text
}

/// Copies the page to shared memory, and a lane's own part to local memory.
const FILL: &str = "mad.wide.u32 %from, %lane, 16, %in;\nmov.u32 %t, tile; mad.lo.u32 %t, %lane, 16, %t;\n\
     ld.global.b64 %w, [%from]; st.shared.b64 [%t], %w; st.local.b64 [own], %w;\n\
     ld.global.b64 %w, [%from+8]; st.shared.b64 [%t+8], %w; st.local.b64 [own+8], %w;\nbar.sync 0;\n";

/// The lane whose place a form takes: every other one the lane's opposite, so that lanes are once in line and once not.
fn taken(form: &str, number: usize, lane: usize) -> usize {
    if number.is_multiple_of(2) || space(form) == "local" {
        lane
    } else {
        LANES - 1 - lane
    }
}

fn place(number: usize) -> &'static str {
    if number.is_multiple_of(2) {
        "%at"
    } else {
        "%back"
    }
}

pub(crate) fn check(forms: &[String]) {
    let opcode = |form: &String| form.split('.').next().unwrap_or("").to_owned();
    let mut groups: std::collections::BTreeMap<_, Vec<&String>> = Default::default();
    for form in forms.iter().filter(|form| *form != "mov.b128") {
        let ty = form.rsplit('.').next().unwrap_or("");
        groups
            .entry((opcode(form), space(form), ty))
            .or_default()
            .push(form);
    }
    for ((opcode, ..), forms) in groups {
        for chunk in forms.chunks(CHUNK) {
            match opcode.as_str() {
                "ld" => check_loads(chunk),
                "st" => check_stores(chunk),
                "atom" => check_atomics(chunk),
                other => panic!("no reference of `{other}`"),
            }
        }
    }
}

/// Copies what `from` says in words to the places that begin at a multiple of 32.
fn moved(words: usize) -> String {
    let mut text = String::from(
        "mad.wide.u32 %from, %lane, 32, %in; mad.wide.u32 %to, %lane, 32, %base; add.u64 %to, %to, PLACE;\n",
    );
    for offset in (0..words).map(|word| word * 8) {
        writeln!(
            text,
            "ld.global.b64 %w, [%from+{offset}]; st.global.b64 [%to+{offset}], %w;"
        )
        .unwrap();
    }
    text.replace("PLACE", &SCRATCH.to_string())
}

/// Stores the registers to the results of a form.
fn shown(shape: Shape, number: usize) -> String {
    let mut text = String::new();
    for index in 0..shape.count {
        let offset = (number * LANES * shape.count + index) * 8;
        writeln!(text, "st.global.b64 [%to+{offset}], %v{index};").unwrap();
    }
    text
}

fn to_results(shape: Shape) -> String {
    format!("mad.wide.u32 %to, %lane, {}, %out;\n", shape.count * 8)
}

fn compare(
    forms: &[&String],
    shape: Shape,
    text: &str,
    page: &[u64],
    want: impl Fn(usize, usize, usize) -> u64,
) {
    let count = forms.len() * LANES * shape.count;
    for (path, out) in results(&kernel(text, ""), 32, page, count) {
        for (number, form) in forms.iter().enumerate() {
            for lane in 0..LANES {
                for index in 0..shape.count {
                    let got = out[(number * LANES + lane) * shape.count + index];
                    assert_eq!(
                        got,
                        want(number, lane, index),
                        "{form}, element {index} of lane {lane} on {path:?}"
                    );
                }
            }
        }
    }
}

fn check_loads(forms: &[&String]) {
    let shape = Shape::of(forms[0]);
    let page: Vec<u64> = (0..LANES * 4).map(noise).collect();
    // The copy is where 32 bytes are in line, and constants are the page itself.
    let mut body =
        places(forms[0], shape, SCRATCH) + FILL + &moved(4) + "bar.sync 0;\n" + &to_results(shape);
    for (number, form) in forms.iter().enumerate() {
        let (operand, _, part) = shape.operand(form);
        writeln!(
            body,
            "{form} {operand}, [{}]{};\n{part}",
            place(number),
            policy(form)
        )
        .unwrap();
        body += &shown(shape, number);
    }
    compare(forms, shape, &body, &page, |number, lane, index| {
        shape.element(&page, taken(forms[0], number, lane), index)
    });
}

fn check_stores(forms: &[&String]) {
    let shape = Shape::of(forms[0]);
    let page: Vec<u64> = (0..LANES * 4).map(noise).collect();
    let plain = match space(forms[0]) {
        "" => String::new(),
        space => format!(".{space}"),
    };
    let mut body = places(forms[0], shape, SCRATCH) + &to_results(shape);
    let step = shape.size();
    for (number, form) in forms.iter().enumerate() {
        let (operand, join, _) = shape.operand(form);
        let at = place(number);
        writeln!(body, "mad.wide.u32 %from, %lane, {step}, %in;").unwrap();
        for index in 0..shape.count {
            writeln!(
                body,
                "ld.global.b{} %v{index}, [%from+{}];",
                shape.bits,
                index * shape.bits as usize / 8
            )
            .unwrap();
        }
        writeln!(body, "{join}\n{form} [{at}], {operand}{};", policy(form)).unwrap();
        for index in 0..shape.count {
            let offset = index * shape.bits as usize / 8;
            writeln!(
                body,
                "ld{plain}.b{} %v{index}, [{at}+{offset}];",
                shape.bits
            )
            .unwrap();
        }
        body += &shown(shape, number);
    }
    let unsigned = Shape {
        is_signed: false,
        ..shape
    };
    compare(forms, shape, &body, &page, |_, lane, index| {
        unsigned.element(&page, lane, index)
    });
}

/// Every third lane finds what it expects.
fn check_atomics(forms: &[&String]) {
    let page: Vec<u64> = (0..LANES * 4).map(noise).collect();
    let shape = Shape {
        count: 4,
        bits: 64,
        is_signed: false,
    };
    let quad = Shape::of(forms[0]);
    let plain = match space(forms[0]) {
        "" => String::new(),
        space => format!(".{space}"),
    };
    let mut body = places(forms[0], quad, SCRATCH)
        + ".reg .pred %p0; .reg .b128 %a, %b, %c; .reg .b64 %x<4>; .reg .b32 %third;\n"
        + &to_results(shape);
    body += "mad.wide.u32 %from, %lane, 32, %in;\nld.global.b64 %x0, [%from]; ld.global.b64 %x1, [%from+8]; ld.global.b64 %x2, [%from+16]; ld.global.b64 %x3, [%from+24];\n";
    body += "rem.u32 %third, %lane, 3; setp.eq.u32 %p0, %third, 0;\nmov.b128 %c, {%x2, %x3};\n";
    for (number, form) in forms.iter().enumerate() {
        let at = place(number);
        // What is expected has another upper half than what is there, or the same.
        body += "add.u64 %w, %x1, 1; @%p0 mov.b64 %w, %x1;\nmov.b128 %b, {%x0, %w};\n";
        writeln!(
            body,
            "st{plain}.b64 [{at}], %x0; st{plain}.b64 [{at}+8], %x1;"
        )
        .unwrap();
        let given = if form.contains(".cas.") {
            "%b, %c"
        } else {
            "%c"
        };
        writeln!(
            body,
            "{form} %a, [{at}], {given}{};\nmov.b128 {{%v0, %v1}}, %a;",
            policy(form)
        )
        .unwrap();
        writeln!(
            body,
            "ld{plain}.b64 %v2, [{at}]; ld{plain}.b64 %v3, [{at}+8];"
        )
        .unwrap();
        body += &shown(shape, number);
    }
    compare(forms, shape, &body, &page, |number, lane, index| {
        let is_stored = !forms[number].contains(".cas.") || lane % 3 == 0;
        let words = &page[lane * 4..][..4];
        match index {
            0 | 1 => words[index],
            _ if is_stored => words[index],
            _ => words[index - 2],
        }
    });
}
