//! Small sealed files that name something: what a program passes on as a descriptor, in the place of a driver's.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A new file that holds this and cannot be changed.
pub(crate) fn file(
    name: &str,
    token: &(impl IntoBytes + Immutable),
) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(name, flags)?;
    let bytes = token.as_bytes();
    if rustix::io::pwrite(&file, bytes, 0)? != bytes.len() {
        return Err(rustix::io::Errno::IO);
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// What any descriptor holds, if it is as long as that.
pub(crate) fn read<Token: FromBytes + IntoBytes>(file: BorrowedFd<'_>) -> Option<Token> {
    let mut token = Token::new_zeroed();
    let read = rustix::io::pread(file, token.as_mut_bytes(), 0);
    (read == Ok(size_of::<Token>())).then_some(token)
}
