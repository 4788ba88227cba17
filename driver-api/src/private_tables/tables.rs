//! The tables themselves.
//!
//! # Safety
//!
//! Slots are called by client libraries through pointers, with the argument lists that those libraries use;
//! both are known from observation only. Pointers to results are checked for null and written once; nothing else
//! that a client passes is dereferenced. A slot that does not know its arguments takes none, which
//! the C ABI of x86-64 and AArch64 allows.

#![expect(
    unsafe_code,
    reason = "the slots are C functions that write through pointers"
)]

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::AtomicU64;

use super::storage::{self, Destructor};
use super::validity::{self, Question};
use super::{host, log_once};
use crate::abi::{CUresult, CUuuid};

/// One table: pointers to functions, the first word its size in bytes.
#[repr(transparent)]
struct Table<const SLOTS: usize>([*const c_void; SLOTS]);

// SAFETY: a table is never written, and what it points to is code.
unsafe impl<const SLOTS: usize> Sync for Table<SLOTS> {}

impl<const SLOTS: usize> Table<SLOTS> {
    /// Its size in slot 0, the given functions in their slots, a refusal in all others.
    const fn new<const KNOWN: usize>(known: [(usize, *const ()); KNOWN]) -> Self {
        let mut slots = [unknown_slot as *const () as *const c_void; SLOTS];
        slots[0] = ptr::without_provenance(SLOTS * size_of::<usize>());
        let mut index = 0;
        while index < KNOWN {
            slots[known[index].0] = known[index].1.cast();
            index += 1;
        }
        Self(slots)
    }

    fn address(&'static self) -> *const c_void {
        self.0.as_ptr().cast()
    }
}

static RUNTIME: Table<13> = Table::new([
    (2, primary_context as *const ()),
    (6, load_fat_binary as *const ()),
    (7, zero as *const ()),
    (12, zero as *const ()),
]);
static TOOL_HOOKS: Table<7> = Table::new([
    (2, first_hooks as *const ()),
    (6, second_hooks as *const ()),
]);
static CURRENT_CONTEXT: Table<3> = Table::new([(2, current_context as *const ())]);
/// The only one without a size.
static LOCAL_STORAGE: Table<3> = {
    let mut table = Table::new([
        (1, storage_delete as *const ()),
        (2, storage_get as *const ()),
    ]);
    table.0[0] = storage_put as *const () as *const c_void;
    table
};
static CONTEXT_CHECKS: Table<4> =
    Table::new([(2, context_check as *const ()), (3, zero as *const ())]);
/// Three slots, although two are known: cudart 11.8 compares the table's size, 24, with the top byte of the second answer.
static VALIDITY: Table<3> = Table::new([(1, validity_value as *const ())]);
static IDENTITIES: Table<52> = Table::new([
    (4, context_id as *const ()),
    (39, stream_id as *const ()),
    (51, stream_object as *const ()),
]);
static TWO_ZEROS: Table<5> = Table::new([(4, two_zeros as *const ())]);
static MODULE_FUNCTIONS: Table<8> = Table::new([(7, module_functions as *const ())]);
/// A header alone: its client then gives up politely, where a refusal sends it into endless recursion.
static PROFILER: Table<1> = Table::new([]);

/// What is answered to a UUID.
enum Answer {
    Table(*const c_void),
    /// Clients ask for it, do without, and would break on a pretence.
    Refused,
    Unknown,
}

fn find(uuid: &CUuuid) -> Answer {
    let table = match u128::from_be_bytes(uuid.bytes) {
        0x6bd5fb6c_5bf4_e74a_8987_d93912fd9df9 => RUNTIME.address(),
        0xa094798c_2e74_2e74_93f2_0800200c0a66 => TOOL_HOOKS.address(),
        0x42d85a81_23f6_cb47_8298_f6e78a3aecdc => CURRENT_CONTEXT.address(),
        0xc693336e_1121_df11_a8c3_68f355d89593 => LOCAL_STORAGE.address(),
        0x263e8860_7cd2_6143_92f6_bbd5006dfa7e => CONTEXT_CHECKS.address(),
        0xd4082055_bde6_704b_8d34_ba123c66e1f2 => VALIDITY.address(),
        0x21318c60_9714_3248_8ca6_41ff7324c8f2 => IDENTITIES.address(),
        0x1734dc26_800d_4745_8726_c0f1e7dd8bca => TWO_ZEROS.address(),
        0x6e163fbe_b958_444d_835c_e182aff1991e => MODULE_FUNCTIONS.address(),
        0x7cb63f9b_9ca4_8e42_a484_beb66e6aed7f => PROFILER.address(),
        0xf8cff951_2146_8b4e_b9e2_fb469e7c0dd9 | 0xda9151d3_3ae6_cc41_a5c0_4f26d533e328 => {
            return Answer::Refused;
        }
        _ => return Answer::Unknown,
    };
    Answer::Table(table)
}

/// `cuGetExportTable`.
///
/// # Safety
///
/// `uuid` is null or points to a UUID; `table` is null or points to where a pointer may be written.
pub unsafe fn get_export_table(table: *mut *const c_void, uuid: *const CUuuid) -> CUresult {
    if table.is_null() || uuid.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: by contract, and not null.
    let uuid = unsafe { uuid.read_unaligned() };
    let (found, result) = match find(&uuid) {
        Answer::Table(found) => (found, CUresult::SUCCESS),
        Answer::Refused => (ptr::null(), CUresult::INVALID_VALUE),
        Answer::Unknown => {
            let number = u128::from_be_bytes(uuid.bytes);
            log_once(format!(
                "cuGetExportTable: no private table {number:032X} is known"
            ));
            (ptr::null(), CUresult::INVALID_VALUE)
        }
    };
    // SAFETY: by contract, and not null.
    unsafe { table.write(found) };
    result
}

/// Writes `value` if there is one and `target` is not null.
///
/// # Safety
///
/// `target` is null or may be written.
unsafe fn answer<T>(target: *mut T, value: Result<T, CUresult>) -> CUresult {
    match value {
        _ if target.is_null() => CUresult::INVALID_VALUE,
        Ok(value) => {
            // SAFETY: by contract, and not null.
            unsafe { target.write(value) };
            CUresult::SUCCESS
        }
        Err(error) => error,
    }
}

extern "C" fn unknown_slot() -> CUresult {
    log_once("a client called a slot of a private table that is not known".to_owned());
    CUresult::NOT_SUPPORTED
}

extern "C" fn zero() -> CUresult {
    CUresult::SUCCESS
}

unsafe extern "C" fn primary_context(context: *mut usize, device: i32) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe {
        answer(
            context,
            host().and_then(|host| host.primary_context(device)),
        )
    }
}

unsafe extern "C" fn load_fat_binary(module: *mut usize, wrapper: usize) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe {
        answer(
            module,
            host().and_then(|host| host.load_fat_binary(wrapper)),
        )
    }
}

/// Where tools would hang their callbacks in: nobody does, so the words stay zero. Twice the size told.
static FIRST_HOOKS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];
static SECOND_HOOKS: [AtomicU64; 14] = [const { AtomicU64::new(0) }; 14];

unsafe extern "C" fn first_hooks(words: *mut *const c_void, count: *mut usize) {
    // SAFETY: the caller passes two places, or null.
    unsafe { hooks(&FIRST_HOOKS, words, count) };
}

unsafe extern "C" fn second_hooks(words: *mut *const c_void, count: *mut usize) {
    // SAFETY: the caller passes two places, or null.
    unsafe { hooks(&SECOND_HOOKS, words, count) };
}

/// # Safety
///
/// Both pointers are null or may be written.
unsafe fn hooks(array: &'static [AtomicU64], words: *mut *const c_void, count: *mut usize) {
    // SAFETY: by contract.
    unsafe {
        answer(words, Ok(array.as_ptr().cast()));
        answer(count, Ok(array.len()));
    }
}

unsafe extern "C" fn current_context(context: *mut usize) -> CUresult {
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(context, host().map(|host| host.current_context())) }
}

/// The context itself, or the current one for 0.
fn or_current(context: usize) -> Result<usize, CUresult> {
    let context = if context == 0 {
        host()?.current_context()
    } else {
        context
    };
    if context == 0 {
        Err(CUresult::INVALID_CONTEXT)
    } else {
        Ok(context)
    }
}

fn code(result: Result<(), CUresult>) -> CUresult {
    result.err().unwrap_or(CUresult::SUCCESS)
}

extern "C" fn storage_put(
    context: usize,
    key: usize,
    value: usize,
    destructor: Option<Destructor>,
) -> CUresult {
    code(or_current(context).and_then(|context| storage::put(context, key, value, destructor)))
}

extern "C" fn storage_delete(context: usize, key: usize) -> CUresult {
    code(or_current(context).and_then(|context| storage::delete(context, key)))
}

unsafe extern "C" fn storage_get(value: *mut usize, context: usize, key: usize) -> CUresult {
    let found = or_current(context).and_then(|context| storage::get(context, key));
    // SAFETY: the caller passes a place for a pointer.
    unsafe { answer(value, found) }
}

unsafe extern "C" fn context_check(
    _context: usize,
    word: *mut u32,
    pointer: *mut *const c_void,
) -> CUresult {
    // SAFETY: the caller passes two places, or null.
    unsafe {
        answer(word, Ok(0));
        answer(pointer, Ok(ptr::null()));
    }
    CUresult::SUCCESS
}

unsafe extern "C" {
    /// POSIX: the calling thread; cannot fail.
    safe fn pthread_self() -> usize;
}

unsafe extern "C" fn validity_value(
    asked_version: u32,
    unix_seconds: u64,
    words: *mut [u64; 2],
) -> CUresult {
    let value = host().map(|host| {
        validity::answer(&Question {
            driver_version: host.driver_version(),
            asked_version,
            process: std::process::id(),
            thread: pthread_self() as u32,
            runtime_table: RUNTIME.address().addr() as u64,
            validity_table: VALIDITY.address().addr() as u64,
            function: VALIDITY.0[1].addr() as u64,
            unix_seconds,
            devices: host.devices(),
        })
    });
    // SAFETY: the caller passes a place for two words.
    unsafe { answer(words, value) }
}

unsafe extern "C" fn context_id(context: usize, id: *mut u64) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(id, host().and_then(|host| host.context_id(context))) }
}

/// The object that stands for a stream in [`stream_id`]: the stream's own handle, the legacy stream's 1 for 0.
unsafe extern "C" fn stream_object(_context: usize, stream: usize, object: *mut usize) -> CUresult {
    // SAFETY: the caller passes a place for a pointer.
    unsafe { answer(object, Ok(stream.max(1))) }
}

unsafe extern "C" fn stream_id(context: usize, object: usize, id: *mut u64) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(id, host().and_then(|host| host.stream_id(context, object))) }
}

unsafe extern "C" fn two_zeros(first: *mut u64, second: *mut u64) -> CUresult {
    // SAFETY: the caller passes two places, or null.
    unsafe {
        answer(first, Ok(0));
        answer(second, Ok(0));
    }
    CUresult::SUCCESS
}

type FunctionVisitor = unsafe extern "C" fn(user_data: *mut c_void, function: usize);

/// Returns 1 for success, unlike everything else here.
unsafe extern "C" fn module_functions(
    _context: usize,
    module: usize,
    visitor: Option<FunctionVisitor>,
    user_data: *mut c_void,
) -> i32 {
    let functions = host().and_then(|host| host.module_functions(module));
    let (Ok(functions), Some(visitor)) = (functions, visitor) else {
        return 0;
    };
    for function in functions {
        // SAFETY: the caller passes a function that takes its own pointer and a handle.
        unsafe { visitor(user_data, function) };
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(number: u128) -> (CUresult, *const usize) {
        let mut found = ptr::dangling();
        let uuid = CUuuid {
            bytes: number.to_be_bytes(),
        };
        // SAFETY: both pointers are to locals.
        let result = unsafe { get_export_table(&raw mut found, &raw const uuid) };
        (result, found.cast())
    }

    #[test]
    fn sizes_are_in_slot_0_of_all_but_one() {
        for (number, bytes) in [
            (0x6bd5fb6c_5bf4_e74a_8987_d93912fd9df9, 13 * 8),
            (0x21318c60_9714_3248_8ca6_41ff7324c8f2, 52 * 8),
            (0xd4082055_bde6_704b_8d34_ba123c66e1f2, 0x18),
            (0x7cb63f9b_9ca4_8e42_a484_beb66e6aed7f, 8),
            (
                0xc693336e_1121_df11_a8c3_68f355d89593,
                (storage_put as *const ()).addr(),
            ),
        ] {
            let (result, found) = table(number);
            assert_eq!(result, CUresult::SUCCESS);
            // SAFETY: a table that was found has at least one slot.
            assert_eq!(unsafe { found.read() }, bytes);
        }
    }

    #[test]
    fn refused_and_unknown_tables_are_null() {
        for number in [0xf8cff951_2146_8b4e_b9e2_fb469e7c0dd9, 7] {
            assert_eq!(table(number), (CUresult::INVALID_VALUE, ptr::null()));
        }
    }

    #[test]
    fn nothing_is_written_through_null() {
        // SAFETY: null is what is tested.
        unsafe {
            assert_eq!(
                get_export_table(ptr::null_mut(), ptr::null()),
                CUresult::INVALID_VALUE
            );
            assert_eq!(
                two_zeros(ptr::null_mut(), ptr::null_mut()),
                CUresult::SUCCESS
            );
            first_hooks(ptr::null_mut(), ptr::null_mut());
        }
    }
}
