//! How `cuGetProcAddress` finds a function: by name, version and flags.
//!
//! Observed on the real drivers 535 and 555 and in the typedef headers of toolkits 11.8 to 13: the highest version of the name that is not
//! above the asked one; flag 2 picks the per-thread twin, and of a name that has one, versions without are not found; a name with a
//! suffix (`cuMemAlloc_v2`) is not found. `tests/driver_names.rs` asks the real driver, where it can be had.

use crate::table::Procedure;
use crate::{PROCEDURES, ROWS};

/// `CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM`.
pub const PER_THREAD_DEFAULT_STREAM: u64 = 2;
/// The flags that exist: legacy stream, per-thread stream.
pub const ALL_FLAGS: u64 = 3;

/// What a search found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// The function of this row, or its twin.
    Function {
        /// Place in the row table.
        row: usize,
        /// True if the per-thread twin is meant.
        per_thread: bool,
    },
    /// No function has this name: query result 1.
    UnknownName,
    /// The name exists, but in newer versions only: query result 2.
    VersionTooLow,
}

/// Searches for `name` as of toolkit version `version` (such as 12040) on a driver of version `driver`.
#[must_use]
pub fn find(name: &str, version: u32, per_thread: bool, driver: u32) -> Found {
    let first = PROCEDURES.partition_point(|procedure| procedure.name < name);
    let versions = PROCEDURES[first..]
        .iter()
        .take_while(|procedure| procedure.name == name);
    let twins = per_thread && versions.clone().any(|it| it.twin_since.is_some());
    let newest = version.min(driver);
    let mut named = false;
    let mut best: Option<&Procedure> = None;
    for procedure in versions {
        named = true;
        let since = if twins {
            procedure.twin_since
        } else {
            Some(procedure.since)
        };
        if since.is_some_and(|since| since <= newest) {
            best = Some(procedure);
        }
    }
    match best {
        Some(procedure) => Found::Function {
            row: procedure.row,
            per_thread: twins,
        },
        None if named => Found::VersionTooLow,
        None => Found::UnknownName,
    }
}

/// The name of the function that was found, as exported.
#[must_use]
pub fn exported_name(row: usize) -> &'static str {
    ROWS[row].name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(found: Found) -> (&'static str, bool) {
        match found {
            Found::Function { row, per_thread } => (exported_name(row), per_thread),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_highest_version_not_above_the_asked_one() {
        assert_eq!(
            name_of(find("cuMemAlloc", 13000, false, 13000)),
            ("cuMemAlloc_v2", false)
        );
        assert_eq!(
            name_of(find("cuMemAlloc", 3010, false, 13000)),
            ("cuMemAlloc", false)
        );
        assert_eq!(
            name_of(find("cuCtxCreate", 12040, false, 13000)),
            ("cuCtxCreate_v3", false)
        );
        assert_eq!(
            name_of(find("cuCtxCreate", 13000, false, 12040)),
            ("cuCtxCreate_v3", false)
        );
        assert_eq!(
            name_of(find("cuCtxSynchronize", 12000, false, 13000)),
            ("cuCtxSynchronize", false)
        );
        assert_eq!(
            name_of(find("cuCtxSynchronize", 13000, false, 13000)),
            ("cuCtxSynchronize_v2", false)
        );
    }

    #[test]
    fn the_twin_where_there_is_one() {
        assert_eq!(
            name_of(find("cuMemcpyHtoD", 12000, true, 13000)),
            ("cuMemcpyHtoD_v2", true)
        );
        assert_eq!(
            name_of(find("cuMemAlloc", 12000, true, 13000)),
            ("cuMemAlloc_v2", false)
        );
    }

    #[test]
    fn of_a_name_with_a_twin_nothing_else() {
        assert_eq!(
            find("cuMemcpyHtoD", 6050, true, 13000),
            Found::VersionTooLow
        );
        assert_eq!(
            name_of(find("cuMemcpyHtoD", 6050, false, 13000)),
            ("cuMemcpyHtoD_v2", false)
        );
    }

    #[test]
    fn misses() {
        assert_eq!(
            find("cuMemAlloc_v2", 13000, false, 13000),
            Found::UnknownName
        );
        assert_eq!(find("", 0, false, 13000), Found::UnknownName);
        assert_eq!(
            find("cuStreamGetDevice", 12000, false, 13000),
            Found::VersionTooLow
        );
        assert_eq!(find("gpurunMark", 13000, false, 13000), Found::UnknownName);
    }

    #[test]
    fn the_table_is_sorted() {
        let sorted =
            |pair: &[Procedure]| (pair[0].name, pair[0].since) < (pair[1].name, pair[1].since);
        assert!(PROCEDURES.windows(2).all(sorted));
    }
}
