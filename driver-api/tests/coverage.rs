//! What the table says of itself: `docs/COVERAGE.md` is current, and each function that is served names a test that exists and calls it.

use std::path::{Path, PathBuf};

use driver_api_generator::model::{Row, Specification};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn specification() -> Specification {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec");
    driver_api_generator::read_specification(&directory).expect("it built")
}

/// `GPURUN_BLESS=1 cargo test -p driver-api --test coverage` writes the file anew.
#[test]
fn the_document_is_current() {
    let file = repository().join("docs/COVERAGE.md");
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec");
    let text = driver_api_generator::coverage(&spec).expect("it built");
    if std::env::var_os("GPURUN_BLESS").is_some() {
        std::fs::write(&file, &text).expect("the source tree can be written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        text == written,
        "docs/COVERAGE.md is not what the table says: GPURUN_BLESS=1 cargo test -p driver-api --test coverage"
    );
}

/// The text of a program that calls driver functions by name.
fn program(name: &str) -> Option<String> {
    let file = repository()
        .join("tests/programs")
        .join(format!("{name}.cpp"));
    std::fs::read_to_string(file).ok()
}

/// Why a row's test does not prove it, if it does not.
fn unproved(row: &Row) -> Option<String> {
    let name = &row.name;
    let Some(test) = &row.test else {
        return Some(format!("{name} is served, but names no test"));
    };
    match program(test) {
        None => Some(format!("{name}: there is no tests/programs/{test}.cpp")),
        Some(text) if !text.contains(&format!("\"{name}\"")) => {
            Some(format!("{name}: {test} does not call it"))
        }
        Some(_) => None,
    }
}

#[test]
fn what_is_served_names_a_program_that_calls_it() {
    let specification = specification();
    let served = specification.rows.iter().filter(|row| row.is_served());
    let wrong: Vec<String> = served.filter_map(unproved).collect();
    assert!(
        wrong.is_empty(),
        "{} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
