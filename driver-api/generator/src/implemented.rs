//! Which rows a driver's sources serve: those for which the area's files have a function of the row's name.

use std::collections::HashSet;
use std::path::Path;

use crate::model::Specification;
use crate::parse::{SpecificationError, parse_file, read, rust_files};

/// The names of the rows served by the sources: `<area>.rs` and all files in `<area>/`.
pub(crate) fn find(
    sources: &Path,
    specification: &Specification,
) -> Result<HashSet<String>, SpecificationError> {
    let mut served = HashSet::new();
    let areas: HashSet<&str> = specification
        .rows
        .iter()
        .map(|row| row.area.as_str())
        .collect();
    for area in areas {
        let mut files = Vec::new();
        let file = sources.join(format!("{area}.rs"));
        if file.exists() {
            files.push(file);
        }
        let directory = sources.join(area);
        if directory.is_dir() {
            files.extend(rust_files(&directory)?);
        }
        for file in files {
            for item in parse_file(&file, &read(&file)?)?.items {
                let syn::Item::Fn(function) = item else {
                    continue;
                };
                let name = function.sig.ident.to_string();
                if is_driver_name(&name) {
                    check(specification, area, &name)?;
                    served.insert(name);
                }
            }
        }
    }
    Ok(served)
}

/// The driver's names are `cu` and a capital; `current` is a helper.
fn is_driver_name(name: &str) -> bool {
    name.strip_prefix("cu")
        .and_then(|rest| rest.chars().next())
        .is_some_and(|c| c.is_ascii_uppercase())
}

/// A function named like one of the driver's must have a row, in this area.
fn check(specification: &Specification, area: &str, name: &str) -> Result<(), SpecificationError> {
    match specification.rows.iter().find(|row| row.name == name) {
        None => Err(SpecificationError::Table(format!(
            "{area}: {name} has no row in the specification"
        ))),
        Some(row) if row.area != area => Err(SpecificationError::Table(format!(
            "{name} stands in {area}, but its row in {}",
            row.area
        ))),
        Some(_) => Ok(()),
    }
}
