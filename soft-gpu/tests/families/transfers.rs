//! Loads and stores: a kernel for each memory, vector and type, with all forms that differ in caching, order and scope one after the other.
//! Every other form finds its lanes' places in the opposite order, so that they are once in line and once not.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use soft_gpu::exec::Path;

use super::{POLICY, SCRATCH, cut, kernel, noise, policy, results_on, space, width};

const LANES: usize = 32;

/// What forms have in common that are tried in one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Access<'f> {
    space: &'static str,
    /// What generic addresses lead to.
    target: &'static str,
    count: usize,
    ty: &'f str,
}

impl Access<'_> {
    fn bytes(self) -> usize {
        width(self.ty) as usize / 8
    }

    /// Bytes of a lane's elements together.
    fn size(self) -> usize {
        self.count * self.bytes()
    }

    /// Registers are wider than integers, so that it shows how those are extended.
    fn register(self) -> &'static str {
        match self.ty {
            "f32" => "f32",
            "f64" => "f64",
            _ => "b64",
        }
    }

    /// Registers of elements, in braces where there are several.
    fn registers(self) -> String {
        let names: Vec<String> = (0..self.count).map(|index| format!("%v{index}")).collect();
        match self.count {
            1 => names.concat(),
            _ => format!("{{{}}}", names.join(", ")),
        }
    }

    /// Declares the elements' registers, and the addresses `%a0` and `%a1` of a lane's place, in line and in the opposite order.
    fn places(self) -> String {
        let size = self.size();
        let (declared, start) = match (self.space, self.target) {
            ("shared" | "shared::cluster", _) => (".reg .b32", "mov.u32 %a0, tile;".to_owned()),
            ("shared::cta", _) => (".reg .b64", "mov.u64 %a0, tile;".to_owned()),
            ("", "shared") => (
                ".reg .b64",
                "mov.u64 %a0, tile; cvta.shared.u64 %a0, %a0;".to_owned(),
            ),
            ("local", _) => (".reg .b64", "mov.u64 %a0, own;".to_owned()),
            ("", "local") => (
                ".reg .b64",
                "mov.u64 %a0, own; cvta.local.u64 %a0, %a0;".to_owned(),
            ),
            ("const", _) => (".reg .b64", "mov.u64 %a0, constants;".to_owned()),
            _ => (".reg .b64", "add.u64 %a0, %in, %start;".to_owned()),
        };
        let mut text = format!(
            ".shared .align 16 .b8 tile[512];\n.local .align 16 .b8 own[16];\n.reg .{} %v<4>;\n{declared} %a<2>;\n{start}\n",
            self.register()
        );
        // A lane has local memory of its own.
        if self.space == "local" || self.target == "local" {
            text += "mov.b64 %a1, %a0;\n";
        } else if declared == ".reg .b32" {
            writeln!(
                text,
                "mad.lo.u32 %a1, %back, {size}, %a0; mad.lo.u32 %a0, %lane, {size}, %a0;"
            )
            .unwrap();
        } else {
            writeln!(
                text,
                "mad.wide.u32 %a1, %back, {size}, %a0; mad.wide.u32 %a0, %lane, {size}, %a0;"
            )
            .unwrap();
        }
        text
    }
}

/// The lane whose place the form of this number takes.
fn taken(access: Access<'_>, number: usize, lane: usize) -> usize {
    let is_own = access.space == "local" || access.target == "local";
    if number.is_multiple_of(2) || is_own {
        lane
    } else {
        LANES - 1 - lane
    }
}

/// Forms by what they have in common.
fn grouped(forms: &[String]) -> BTreeMap<Access<'_>, Vec<&str>> {
    let mut groups: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for form in forms {
        let has = |part: &str| form.split('.').any(|other| other == part);
        let access = |target| Access {
            space: space(form),
            target,
            count: if has("v4") {
                4
            } else {
                1 + usize::from(has("v2"))
            },
            ty: form.rsplit('.').next().expect("a type"),
        };
        // Caches and orders are the same wherever a generic address leads.
        let is_plain = ["L1::", "L2::", "cta", "cluster", "gpu", "sys"];
        let is_plain = !is_plain.iter().any(|word| form.contains(word));
        let targets: &[&str] = match space(form) {
            "" if is_plain => &["global", "shared", "local"],
            "" => &["global"],
            _ => &[""],
        };
        for target in targets {
            groups.entry(access(target)).or_default().push(form);
        }
    }
    groups
}

/// What both kinds of kernels begin with.
fn begin(start: usize) -> String {
    format!(
        "{POLICY}\n.reg .b64 %start, %from; .reg .b32 %back, %t; .reg .b64 %w;\nmov.u64 %start, {start};\nsub.u32 %back, 31, %lane;\n"
    )
}

/// Copies the page's beginning to shared memory, and a lane's own part to local memory.
fn fill(access: Access<'_>) -> String {
    let mut text = String::from(
        "mad.wide.u32 %from, %lane, 16, %in;\nmov.u32 %t, tile;\nmad.lo.u32 %t, %lane, 16, %t;\n",
    );
    for offset in [0, 8] {
        writeln!(
            text,
            "ld.global.b64 %w, [%from+{offset}]; st.shared.b64 [%t+{offset}], %w;"
        )
        .unwrap();
    }
    writeln!(
        text,
        "bar.sync 0;\nmad.wide.u32 %from, %lane, {}, %in;",
        access.size()
    )
    .unwrap();
    for offset in 0..access.size() {
        writeln!(
            text,
            "ld.global.b8 %w, [%from+{offset}]; st.local.b8 [own+{offset}], %w;"
        )
        .unwrap();
    }
    text
}

/// The elements of `access` at a byte of the page, extended as registers have them.
fn elements(access: Access<'_>, page: &[u64], at: usize) -> Vec<u64> {
    let bytes: Vec<u8> = page.iter().flat_map(|word| word.to_le_bytes()).collect();
    let element = |index: usize| {
        let from = at + index * access.bytes();
        let mut word = [0u8; 8];
        word[..access.bytes()].copy_from_slice(&bytes[from..from + access.bytes()]);
        let shift = 64 - width(access.ty);
        let plain = u64::from_le_bytes(word);
        match access.ty.starts_with('s') {
            true => ((plain << shift) as i64 >> shift) as u64,
            false => plain,
        }
    };
    (0..access.count).map(element).collect()
}

/// The first forms of each group on every path of the machine; all on one, since they differ for the decoder alone.
fn on_paths(forms: &[String], check: impl Fn(Access<'_>, &[&str], &[Path])) {
    for (access, forms) in grouped(forms) {
        let paths = Path::available();
        check(access, &forms[..forms.len().min(4)], paths);
        check(access, &forms, &paths[..1]);
    }
}

pub(crate) fn check_loads(forms: &[String]) {
    let page: Vec<u64> = (0..64).map(noise).collect();
    on_paths(forms, |access, forms, paths| {
        let is_param = access.space.starts_with("param");
        let stride = access.count * 8;
        let mut body = String::new();
        for (number, form) in forms.iter().enumerate() {
            let address = match access.space {
                "param::func" => "x".to_owned(),
                _ if is_param => "low".to_owned(),
                _ => format!("%a{}", number % 2),
            };
            writeln!(
                body,
                "{form} {}, [{address}]{};",
                access.registers(),
                policy(form)
            )
            .unwrap();
            for index in 0..access.count {
                let offset = number * LANES * stride + index * 8;
                let ty = access.register();
                writeln!(body, "st.global.{ty} [%to+{offset}], %v{index};").unwrap();
            }
        }
        let to = format!(".reg .b64 %to; mad.wide.u32 %to, %lane, {stride}, %out;\n");
        let declared = format!(".reg .{} %v<4>;\n", access.register());
        let text = match access.space {
            // The function's own parameter.
            "param::func" => {
                let function = format!(
                    ".func f(.param .align 16 .b8 x[16], .param .b64 to)\n{{\n{declared}.reg .b64 %to; ld.param.b64 %to, [to];\n{body}ret;\n}}"
                );
                let mut call = begin(0) + &to + "{ .param .align 16 .b8 x[16]; .param .b64 to;\n";
                for offset in [0, 8] {
                    writeln!(
                        call,
                        "ld.global.b64 %w, [%in+{offset}]; st.param.b64 [x+{offset}], %w;"
                    )
                    .unwrap();
                }
                call += "st.param.b64 [to], %to;\ncall f, (x, to);\n}\n";
                kernel(&call, &function)
            }
            _ if is_param => kernel(&(begin(0) + &declared + &to + &body), ""),
            _ => kernel(
                &(begin(0) + &access.places() + &fill(access) + &to + &body),
                "",
            ),
        };
        for (path, out) in results_on(paths, &text, 32, &page, forms.len() * LANES * access.count) {
            for (number, form) in forms.iter().enumerate() {
                for lane in 0..LANES {
                    let at = match is_param {
                        true => 0,
                        false => taken(access, number, lane) * access.size(),
                    };
                    let want: Vec<u64> = elements(access, &page, at);
                    let got = &out[(number * LANES + lane) * access.count..][..access.count];
                    assert_eq!(
                        got, want,
                        "{form} of {} in lane {lane} on {path:?}",
                        access.target
                    );
                }
            }
        }
    });
}

pub(crate) fn check_stores(forms: &[String]) {
    let page: Vec<u64> = (0..LANES * 4).map(noise).collect();
    on_paths(forms, |access, forms, paths| {
        let is_param = access.space.starts_with("param");
        let plain_space = match access.space {
            "" => "",
            _ if is_param => "param",
            space => space,
        };
        let dot = if plain_space.is_empty() { "" } else { "." };
        let plain = format!("{dot}{plain_space}.b{}", width(access.ty));
        let stride = access.count * 8;
        let mut body = String::new();
        for (number, form) in forms.iter().enumerate() {
            let address = match is_param {
                true => "x".to_owned(),
                false => format!("%a{}", number % 2),
            };
            let mut each = |what: &dyn Fn(usize) -> String| {
                (0..access.count).for_each(|index| body += &what(index * access.bytes()));
            };
            each(&|at| format!("st{plain} [{address}+{at}], %zero;\n"));
            writeln!(
                body,
                "{form} [{address}], {}{};",
                access.registers(),
                policy(form)
            )
            .unwrap();
            for index in 0..access.count {
                let at = index * access.bytes();
                let offset = number * LANES * stride + index * 8;
                writeln!(
                    body,
                    "ld{plain} %w, [{address}+{at}]; st.global.b64 [%to+{offset}], %w;"
                )
                .unwrap();
            }
        }
        let mut text = begin(SCRATCH);
        text += &match is_param {
            true => format!(
                ".param .align 16 .b8 x[16];\n.reg .{} %v<4>;\n",
                access.register()
            ),
            false => access.places(),
        };
        writeln!(text, ".reg .b64 %to, %zero; mov.b64 %zero, 0;\nmad.wide.u32 %to, %lane, {stride}, %out;\nmad.wide.u32 %from, %lane, 32, %in;").unwrap();
        for index in 0..access.count {
            writeln!(
                text,
                "ld.global.{} %v{index}, [%from+{}];",
                access.register(),
                index * 8
            )
            .unwrap();
        }
        let text = kernel(&(text + &body), "");
        for (path, out) in results_on(paths, &text, 32, &page, forms.len() * LANES * access.count) {
            for (number, form) in forms.iter().enumerate() {
                for lane in 0..LANES {
                    let word = |index: usize| cut(width(access.ty), page[lane * 4 + index]);
                    let want: Vec<u64> = (0..access.count).map(word).collect();
                    let got = &out[(number * LANES + lane) * access.count..][..access.count];
                    assert_eq!(
                        got, want,
                        "{form} to {} in lane {lane} on {path:?}",
                        access.target
                    );
                }
            }
        }
    });
}
