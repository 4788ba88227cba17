//! Several PTX texts into one.
//!
//! A text is taken apart into its declarations ([`ptx::declarations`]), and put together without the headers. What has the same name in two
//! texts is one thing if the linker sees it: then one definition stays, and of `.weak` and `.common` ones there may be several. What only its
//! own text sees (nvcc calls every text's first string `$str`) gets another name there.

use std::collections::{HashMap, HashSet};

use crate::module::LoadError;
use crate::ptx::{self, Declaration};

/// One text and what it declares.
struct Unit<'t> {
    text: &'t str,
    module: ptx::Module,
    declarations: Vec<Declaration>,
}

impl Unit<'_> {
    /// What only this text sees, and defines.
    fn own(&self) -> impl Iterator<Item = &str> {
        let own = self.declarations.iter().filter(|it| it.is_own());
        own.flat_map(|it| it.names.iter().map(String::as_str))
    }
}

/// One text of several, with the newest version and target.
pub(super) fn join(texts: &[String]) -> Result<String, LoadError> {
    let units = texts.iter().map(|text| {
        let (module, declarations) = ptx::declarations(text)?;
        Ok(Unit {
            text,
            module,
            declarations,
        })
    });
    let units: Vec<Unit<'_>> = units.collect::<Result<_, LoadError>>()?;
    let newest = units.iter().map(|unit| &unit.module);
    let Some(newest) = newest.max_by_key(|module| module.version) else {
        return Ok(String::new());
    };
    let target = units.iter().map(|unit| &unit.module);
    let target = target
        .max_by_key(|module| module.target_number())
        .unwrap_or(newest);
    let (major, minor) = newest.version;
    let target = &target.target;
    let mut joined = format!(".version {major}.{minor}\n.target {target}\n.address_size 64\n");
    let kept = kept(&units)?;
    let names = names(&units);
    for (index, (unit, names)) in units.iter().zip(&names).enumerate() {
        for declaration in &unit.declarations {
            let is_kept = |name: &String| kept.get(name.as_str()).is_none_or(|&one| one == index);
            let goes = declaration.is_shared_definition() && !declaration.names.iter().any(is_kept);
            if !declaration.is_header && !goes {
                let text = &unit.text[declaration.range.clone()];
                joined.push_str(&renamed(text.trim_end_matches('\0'), names)?);
            }
        }
        joined.push('\n');
    }
    // It must be a module.
    ptx::parse(&joined)?;
    Ok(joined)
}

/// The text whose definition stays, of each name that all texts see.
fn kept<'u>(units: &'u [Unit<'_>]) -> Result<HashMap<&'u str, usize>, LoadError> {
    let mut strong = HashMap::new();
    let mut weak = HashMap::new();
    for (index, unit) in units.iter().enumerate() {
        let definitions = unit.declarations.iter();
        for declaration in definitions.filter(|it| it.is_shared_definition()) {
            for name in &declaration.names {
                if declaration.linkage.may_repeat() {
                    weak.entry(name.as_str()).or_insert(index);
                } else if strong.insert(name.as_str(), index).is_some() {
                    return Err(LoadError::Twice(name.clone()));
                }
            }
        }
    }
    weak.extend(strong);
    Ok(weak)
}

/// For each text, new names of what only it sees and another text names too.
fn names<'u>(units: &'u [Unit<'_>]) -> Vec<HashMap<&'u str, String>> {
    let all = units.iter().flat_map(|unit| &unit.declarations);
    let shared = all.filter(|it| !it.is_own()).flat_map(|it| &it.names);
    let mut taken: HashSet<String> = shared.cloned().collect();
    let mut renames = Vec::with_capacity(units.len());
    for (index, unit) in units.iter().enumerate() {
        let mut names = HashMap::new();
        for name in unit.own() {
            let numbers = std::iter::once(String::new()).chain((index..).map(|n| format!("${n}")));
            let mut free = numbers.map(|number| format!("{name}{number}"));
            // There always is a further number.
            let Some(free) = free.find(|name| !taken.contains(name)) else {
                continue;
            };
            if free != name {
                names.insert(name, free.clone());
            }
        }
        taken.extend(unit.own().map(str::to_owned));
        taken.extend(names.values().cloned());
        renames.push(names);
    }
    renames
}

/// A declaration's text with other names.
fn renamed(text: &str, names: &HashMap<&str, String>) -> Result<String, LoadError> {
    if names.is_empty() {
        return Ok(text.to_owned());
    }
    let mut renamed = String::with_capacity(text.len());
    let mut copied = 0;
    for (range, word) in ptx::words(text)? {
        if let Some(name) = names.get(word) {
            renamed.push_str(&text[copied..range.start]);
            renamed.push_str(name);
            copied = range.end;
        }
    }
    renamed.push_str(&text[copied..]);
    Ok(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = ".version 7.0\n.target sm_75\n.address_size 64\n";

    fn joined(first: &str, second: &str) -> Result<ptx::Module, LoadError> {
        let text = |body: &str| format!("{HEADER}{body}");
        let joined = join(&[text(first), text(second)])?;
        Ok(ptx::parse(&joined)?)
    }

    #[test]
    fn a_text_of_one_line_keeps_its_code() {
        let one = ".version 7.1 .target sm_80, debug .address_size 64 .visible .entry k() { ret; }";
        let joined = join(&[one.to_owned()]).unwrap();
        let module = ptx::parse(&joined).unwrap();
        assert_eq!(module.kernels().collect::<Vec<_>>(), ["k"]);
        assert_eq!((module.version, module.target.as_str()), ((7, 1), "sm_80"));
    }

    #[test]
    fn what_only_one_text_sees_keeps_apart() {
        let module = joined(
            ".global .align 1 .b8 $str[2] = {65, 0};
             .visible .global .u64 first = generic($str);",
            ".global .align 1 .b8 $str[3] = {66, 67, 0};
             .func own() { ret; }
             .visible .global .u64 second = generic($str);",
        );
        let module = module.unwrap();
        let string = |of: &str| {
            let symbol = &module.variable(of).unwrap().relocations[0].symbol;
            module.variable(symbol).unwrap().init.clone()
        };
        assert_eq!(string("first"), b"A\0");
        assert_eq!(string("second"), b"BC\0");
    }

    #[test]
    fn of_weak_definitions_one_stays() {
        let weak = |size: u32| {
            format!(
                ".weak .func f(.param .b32 a) .pragma \"x\"; {{ .reg .b32 %r<{size}>; ret; }}
                 .weak .global .b32 shared = {size};"
            )
        };
        let module = joined(&weak(1), &weak(2)).unwrap();
        assert_eq!(module.variable("shared").unwrap().init[0], 1);
        let body = |module: &ptx::Module| {
            let entry = module.function("f").unwrap();
            module.body(entry).unwrap().0.to_owned()
        };
        assert!(body(&module).contains("%r<1>"));
        // A definition that is not weak comes first, wherever it stands.
        let strong = weak(2).replace(".weak", ".visible");
        let module = joined(&weak(1), &strong).unwrap();
        assert!(body(&module).contains("%r<2>"));
        assert_eq!(module.variable("shared").unwrap().init[0], 2);
        let twice = joined(&strong, &strong);
        assert!(matches!(twice, Err(LoadError::Twice(_))), "{twice:?}");
    }
}
