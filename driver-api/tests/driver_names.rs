//! The table against what NVIDIA publishes: the exports of driver 535, its `cuGetProcAddress`, and the headers of the toolkits.
//!
//! *What is where:* the names that driver 535 exports are a list beside this file, which is always compared. The driver itself and the
//! headers are never part of the repository: `scripts/toolchain names` fetches them, and the tests that need them are ignored unless
//! asked for (`cargo nextest run -p driver-api --test driver_names --run-ignored all`; `scripts/test` does).
//!
//! # Safety
//! The fetched driver is loaded and asked for addresses: `cuGetProcAddress_v2` has the signature of the headers and writes through the two
//! pointers alone. Nothing else of it is called.
#![expect(
    unsafe_code,
    reason = "a driver is loaded and one of its functions called"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, c_int, c_void};
use std::path::{Path, PathBuf};

use driver_api::proc_address::{self, Found};
use driver_api_generator::model::{Row, Specification};
use object::{Object, ObjectSymbol};

/// The version that driver 535 says it is.
const VERSION: u32 = 12_020;

/// Rows that no header declares.
const WITHOUT_A_HEADER: [&str; 3] = [
    // EGL's set-up, for a library of the driver itself.
    "cuEGLApiInit",
    // Exported since driver 470, undocumented.
    "cuMemGetAttribute",
    "cuMemGetAttribute_v2",
];

/// Functions that a header defines itself, for programs with a default stream of each thread: no driver exports them.
const IN_THE_HEADER: [&str; 2] = ["cuGetProcAddress_ptsz", "cuGetProcAddress_v2_ptsz"];

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tools() -> PathBuf {
    manifest().join("../target/tools")
}

fn specification() -> Specification {
    driver_api_generator::read_specification(&manifest().join("spec")).expect("it built")
}

fn listed() -> BTreeSet<String> {
    let text = include_str!("driver-535.txt");
    text.lines().map(str::to_owned).collect()
}

/// The exported names of the rows that exist in a driver of this version, twins included.
fn exported(specification: &Specification, version: u32) -> BTreeSet<String> {
    let rows = specification.rows.iter().filter(|row| row.is_exported());
    rows.flat_map(|row| {
        let own = (row.since <= version).then(|| row.name.clone());
        let twin = row.twin.as_ref().filter(|twin| twin.since <= version);
        [own, twin.and_then(|_| row.twin_name())]
    })
    .flatten()
    .collect()
}

#[test]
fn the_exports_are_those_of_driver_535() {
    let (ours, theirs) = (exported(&specification(), VERSION), listed());
    assert_eq!(theirs.len(), 592);
    let missing: Vec<&String> = theirs.difference(&ours).collect();
    let extra: Vec<&String> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "not in the table: {missing:?}; not in the driver: {extra:?}"
    );
}

/// The driver that `scripts/toolchain names` has fetched.
fn fetched_driver() -> PathBuf {
    let folder = tools().join("names/driver");
    let entries = std::fs::read_dir(&folder).expect("scripts/toolchain names has fetched a driver");
    let found = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut libraries = found.filter(|path| path.to_string_lossy().contains("libcuda.so"));
    libraries
        .next()
        .expect("scripts/toolchain names has fetched a driver")
}

#[test]
#[ignore = "needs the driver that scripts/toolchain names fetches"]
fn the_list_is_what_the_driver_exports() {
    let bytes = std::fs::read(fetched_driver()).expect("it was fetched");
    let file = object::File::parse(&*bytes).expect("a library");
    let defined = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition());
    let names: BTreeSet<String> = defined
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .filter(|name| is_driver_name(name))
        .collect();
    assert_eq!(names, listed());
}

/// `cu` and a capital: `cudbg…` is the debugger's own interface.
fn is_driver_name(name: &str) -> bool {
    let rest = name.strip_prefix("cu").unwrap_or_default();
    rest.starts_with(|first: char| first.is_ascii_uppercase())
}

type GetProcAddress =
    unsafe extern "C" fn(*const i8, *mut *mut c_void, c_int, u64, *mut c_int) -> c_int;

/// What the real driver answers: an address, or the query result that says why there is none.
fn ask(get: GetProcAddress, name: &str, version: u32, flags: u64) -> Result<*mut c_void, c_int> {
    let text = CString::new(name).expect("a name");
    let (mut address, mut status) = (core::ptr::null_mut(), -1);
    let version = c_int::try_from(version).expect("a version");
    // SAFETY: the driver's documented signature; both pointers are to local variables.
    let result = unsafe { get(text.as_ptr(), &mut address, version, flags, &mut status) };
    assert_eq!(result, 0, "{name}");
    if address.is_null() {
        Err(status)
    } else {
        Ok(address)
    }
}

/// Each version at which the answer for a name can change, and the one before it.
fn versions_of(rows: &[&Row]) -> BTreeSet<u32> {
    let own = rows.iter().map(|row| row.since);
    let twins = rows.iter().filter_map(|row| Some(row.twin.as_ref()?.since));
    let changes = own.chain(twins).chain([VERSION]);
    changes
        .flat_map(|version| [version - 10, version])
        .filter(|version| *version <= VERSION)
        .collect()
}

#[test]
#[ignore = "needs the driver that scripts/toolchain names fetches"]
fn functions_are_found_as_the_driver_finds_them() {
    // SAFETY: the driver's initialisation code, which asks for no device.
    let library = unsafe { libloading::Library::new(fetched_driver()) }.expect("it loads");
    let symbol = |name: &str| {
        // SAFETY: only the address is used, except for the function below, whose signature is documented.
        unsafe { library.get::<*mut c_void>(name.as_bytes()) }.map(|found| *found)
    };
    // SAFETY: the documented signature.
    let get = unsafe { library.get::<GetProcAddress>(b"cuGetProcAddress_v2") };
    let get = *get.expect("every driver since 12.0 has it");
    let specification = specification();
    let mut names: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in specification.rows.iter().filter(|row| !row.private) {
        names.entry(row.base_name()).or_default().push(row);
    }
    let (mut asked, mut wrong) = (0, Vec::new());
    for (name, rows) in &names {
        for version in versions_of(rows) {
            for flags in [0, 1, 2] {
                asked += 1;
                let theirs = ask(get, name, version, flags);
                let ours = match proc_address::find(name, version, flags == 2, VERSION) {
                    Found::Function { row, per_thread } => {
                        let row = specification
                            .rows
                            .iter()
                            .find(|it| it.name == driver_api::ROWS[row].name);
                        let row = row.expect("the same table");
                        let twin = row.twin_name().filter(|_| per_thread);
                        let exported = twin.unwrap_or_else(|| row.name.clone());
                        symbol(&exported).map_err(|_| -1)
                    }
                    // A name that only newer drivers know is unknown to this one.
                    Found::VersionTooLow if rows.iter().all(|row| row.since > VERSION) => Err(1),
                    Found::VersionTooLow => Err(2),
                    Found::UnknownName => Err(1),
                };
                if ours != theirs {
                    wrong.push(format!(
                        "{name} {version} {flags}: {ours:?}, the driver {theirs:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{asked} asked:\n{}", wrong.join("\n"));
    assert!(asked > 5000, "only {asked} asked");
}

/// The headers of one toolkit, without comments, by the name of the folder.
fn toolkits() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let root = tools().join("names/headers");
    let entries = std::fs::read_dir(&root).expect("scripts/toolchain names has fetched headers");
    for entry in entries.filter_map(Result::ok) {
        let mut texts = Vec::new();
        collect_headers(&entry.path(), &mut texts);
        found.insert(entry.file_name().to_string_lossy().into_owned(), texts);
    }
    found
}

/// The headers of the driver's interface that lie below a folder.
fn collect_headers(folder: &Path, texts: &mut Vec<String>) {
    let entries = std::fs::read_dir(folder).expect("a folder");
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let stem = name.trim_end_matches("Typedefs");
        let wanted = ["cuda", "cudaGL", "cudaEGL", "cudaVDPAU", "cudaProfiler"].contains(&stem);
        if path.is_dir() {
            collect_headers(&path, texts);
        } else if wanted && path.extension().is_some_and(|extension| extension == "h") {
            let bytes = std::fs::read(&path).expect("a header");
            texts.push(without_comments(&String::from_utf8_lossy(&bytes)));
        }
    }
}

fn without_comments(text: &str) -> String {
    let mut parts = text.split("/*");
    let mut code = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        code.push_str(part.split_once("*/").map_or("", |(_, after)| after));
    }
    code
}

/// What a header declares: name and parameters.
struct Declared<'a> {
    name: &'a str,
    parameters: Vec<&'a str>,
}

/// The functions (`CUresult CUDAAPI cuInit(…)`) and pointers to such (`(CUDAAPI *PFN_cuInit_v2000)(…)`) of a header.
fn declarations(text: &str) -> impl Iterator<Item = Declared<'_>> {
    text.split("CUDAAPI").skip(1).filter_map(|piece| {
        let piece = piece.trim_start().trim_start_matches('*');
        let (name, rest) = piece.split_at(piece.find(|c: char| !c.is_alphanumeric() && c != '_')?);
        let rest = rest.trim_start().trim_start_matches(')').trim_start();
        let (parameters, _) = rest.strip_prefix('(')?.split_once(");")?;
        let parameters = parameters.trim();
        let none = parameters.is_empty() || parameters == "void";
        let parameters = parameters.split(',').map(str::trim);
        Some(Declared {
            name,
            parameters: parameters.filter(|_| !none).collect(),
        })
    })
}

/// What stands for a function by `#define cuMemAlloc cuMemAlloc_v2` or `… __CUDA_API_PTDS(cuMemcpyHtoD_v2)`.
fn renamed(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let defines = words.next()? == "#define" && is_driver_name(words.next()?);
        let target = words.next().filter(|_| defines)?;
        let per_thread = |suffix: &str| {
            let macro_name = format!("__CUDA_API_{}(", suffix.to_uppercase());
            let inner = target.strip_prefix(&macro_name)?.strip_suffix(')')?;
            Some(format!("{inner}_{suffix}"))
        };
        let plain = is_driver_name(target).then(|| target.to_owned());
        plain
            .or_else(|| per_thread("ptds"))
            .or_else(|| per_thread("ptsz"))
    })
}

#[test]
#[ignore = "needs the headers that scripts/toolchain names fetches"]
fn every_name_in_the_headers_has_a_row() {
    let specification = specification();
    let mut ours: BTreeSet<String> = exported(&specification, u32::MAX);
    ours.extend(specification.rows.iter().map(|row| row.name.clone()));
    let mut seen = BTreeSet::new();
    let toolkits = toolkits();
    assert!(toolkits.len() >= 8, "{:?}", toolkits.keys());
    for (toolkit, texts) in &toolkits {
        let before = seen.len();
        for text in texts {
            let declared = declarations(text).map(|found| found.name.to_owned());
            let names = declared.chain(renamed(text));
            seen.extend(names.filter(|name| is_driver_name(name)));
        }
        assert!(
            !texts.is_empty() && (before > 0 || seen.len() > 400),
            "{toolkit}"
        );
    }
    let missing: Vec<&String> = seen
        .difference(&ours)
        .filter(|name| !IN_THE_HEADER.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
    let invented: Vec<&String> = ours
        .difference(&seen)
        .filter(|name| {
            let private = name.starts_with("gpurun");
            !private && !WITHOUT_A_HEADER.contains(&name.as_str())
        })
        .collect();
    assert!(invented.is_empty(), "in no header: {invented:?}");
}

/// `PFN_cuMemcpyHtoD_v7000_ptds`: base name, version, suffix.
fn typedef(name: &str) -> Option<(&str, Option<u32>, Option<&str>)> {
    let name = name.strip_prefix("PFN_")?;
    let (name, suffix) = match name.rsplit_once('_') {
        Some((name, suffix @ ("ptds" | "ptsz"))) => (name, Some(suffix)),
        _ => (name, None),
    };
    let versioned = name
        .rsplit_once("_v")
        .and_then(|(base, version)| Some((base, version.parse().ok()?)));
    Some(versioned.map_or((name, None, suffix), |(base, version)| {
        (base, Some(version), suffix)
    }))
}

/// The row that a typedef is of. Some toolkits forgot the version of a few: the first one is meant.
fn row_of<'a>(specification: &'a Specification, name: &str) -> Option<&'a Row> {
    let (base, version, suffix) = typedef(name)?;
    let since = |row: &Row| match suffix {
        Some(suffix) => row
            .twin
            .as_ref()
            .filter(|twin| twin.suffix == suffix)
            .map(|twin| twin.since),
        None => Some(row.since),
    };
    let mut rows = specification.rows.iter().filter(|row| !row.private);
    rows.find(|row| {
        row.base_name() == base && version.is_none_or(|version| since(row) == Some(version))
    })
}

/// How often a C parameter is pointed to.
fn c_depth(parameter: &str) -> usize {
    parameter.matches(['*', '[']).count()
}

fn rust_depth(ty: &syn::Type) -> usize {
    match ty {
        syn::Type::Ptr(pointer) => 1 + rust_depth(&pointer.elem),
        _ => 0,
    }
}

#[test]
#[ignore = "needs the headers that scripts/toolchain names fetches"]
fn versions_and_parameters_are_those_of_the_headers() {
    let specification = specification();
    let (mut compared, mut wrong) = (BTreeSet::new(), BTreeSet::new());
    for (toolkit, texts) in toolkits() {
        let texts = texts.iter().flat_map(|text| declarations(text));
        for found in texts.filter(|found| found.name.starts_with("PFN_cu")) {
            let Some(row) = row_of(&specification, found.name) else {
                wrong.insert(format!("{toolkit}: {} has no row", found.name));
                continue;
            };
            let theirs: Vec<usize> = found.parameters.iter().map(|it| c_depth(it)).collect();
            let ours: Vec<usize> = row.parameters.iter().map(|it| rust_depth(&it.ty)).collect();
            compared.insert(found.name.to_owned());
            if ours != theirs {
                wrong.insert(format!(
                    "{toolkit}: {} {ours:?}: {:?}",
                    row.name, found.parameters
                ));
            }
        }
    }
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared.len() > 700, "only {} compared", compared.len());
}
