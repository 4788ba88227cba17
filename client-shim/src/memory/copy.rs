//! Copies, and when each may return.
//!
//! | from | to | how | returns |
//! |---|---|---|---|
//! | pageable | device, asynchronous | ≤ 64 KiB in the call; else from the user's memory | when copied; when the worker has it |
//! | pinned | device, asynchronous | the same, after what still lands in that memory | the same |
//! | host | device, synchronous | the same, or [read](super::offered) by the worker's card | pageable ≤ 64 KiB as above unless memory is mapped or managed; else when the device has it |
//! | device | pageable | asked | with the bytes |
//! | device | pinned, asynchronous | posted; lands before the stream's next completion is seen | at once |
//! | device | device | posted | at once |
//! | device | pageable, in a graph | as pinned | at once |
//! | mapped or managed | device or the like, and back | as within the device | asynchronous: at once; else when done |
//! | device, called the host's | device | as between any device memory | the same |
//!
//! What other copies will still write into the source is waited for before its bytes leave, and where a stream is still to call a function of the
//! program, which may write it, so is the copy's own stream. Otherwise a copy takes the bytes of the call: a program that changes pinned memory before it
//! lets a held stream go would not see the change.
//!
//! # Safety
//! The program's memory is read and written within the ranges that it gave to a copy, by the contract of the CUDA driver API, and
//! no reference to it is made beyond the piece that a system call reads.
#![expect(
    unsafe_code,
    reason = "the program's memory is where the bytes come from and go to"
)]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_void;
use std::sync::Arc;

use driver_api::abi::{CUdeviceptr, CUresult, CUstream};
use driver_api::wire::request::{
    GpurunCopyFromDevice, GpurunCopyOnDevice, GpurunCopyToDevice, GpurunFetchFromDevice,
};
use protocol::limits::{BULK_CHUNK_BYTES, MAX_INLINE_COPY_BYTES};

use super::{BoxCopy, host};
use crate::capture;
use crate::entry::code;
use crate::graph::Operation;
use crate::session::{self, Session, malformed};
use crate::stream::{self, Stream};

/// Whether the call returns before the copy is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    Now,
    Later,
    /// At once, also where it lands in pageable memory: the program keeps what a graph names until the graph is over.
    InGraph,
}

/// One copy's surroundings.
pub(crate) struct Copy<'a> {
    pub(super) session: &'a Session,
    pub(super) stream: &'a Arc<Stream>,
    when: When,
}

/// Runs a copy in a stream of the current context.
pub(super) fn in_stream(
    stream: CUstream,
    body: impl FnOnce(&Copy<'_>) -> Result<(), CUresult>,
) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        let stream = stream::resolve_in(session, &context, stream)?;
        body(&Copy {
            session,
            stream: &stream,
            when: When::Now,
        })
    })())
}

/// Runs a copy that is done later; of a captured stream it is a node of the graph, which `describe` makes.
pub(super) fn later(
    stream: CUstream,
    describe: impl FnOnce(&Session) -> Result<BoxCopy, CUresult>,
    body: impl FnOnce(&Copy<'_>) -> Result<(), CUresult>,
) -> CUresult {
    code((|| {
        let (session, context) = session::current()?;
        let stream = stream::resolve_any(session, &context, stream)?;
        if capture::is_captured(session, &stream)? {
            return capture::add(&stream, Operation::Copy(describe(session)?.of_graph()?));
        }
        body(&Copy::later(session, &stream))
    })())
}

impl<'a> Copy<'a> {
    /// The surroundings of a copy that is done later.
    pub(super) fn later(session: &'a Session, stream: &'a Arc<Stream>) -> Self {
        Self {
            session,
            stream,
            when: When::Later,
        }
    }

    /// The surroundings of a copy that its call waits for.
    #[cfg(test)]
    pub(super) fn now(session: &'a Session, stream: &'a Arc<Stream>) -> Self {
        Self {
            session,
            stream,
            when: When::Now,
        }
    }

    /// The surroundings of a graph's copy.
    pub(crate) fn in_graph(session: &'a Session, stream: &'a Arc<Stream>) -> Self {
        Self {
            session,
            stream,
            when: When::InGraph,
        }
    }
}

impl Copy<'_> {
    /// From host to device.
    ///
    /// # Safety
    /// `source` is readable for `length` bytes.
    pub(crate) unsafe fn to_device(
        &self,
        destination: u64,
        source: *const u8,
        length: usize,
    ) -> Result<(), CUresult> {
        if length == 0 {
            return Ok(());
        }
        let memory = &self.session.objects.memory;
        memory.reach(self.session, destination, length as u64)?;
        check_host(source.addr() as u64)?;
        if self.is_reached(source.addr() as u64, length) {
            return self.within_device(destination, source.addr() as u64, length);
        }
        let pinned = self.is_ready_to_read(source, length)?;
        if length <= MAX_INLINE_COPY_BYTES {
            // SAFETY: the caller's promise; the bytes are copied into the queue before this returns.
            let bytes = unsafe { std::slice::from_raw_parts(source, length) };
            let request =
                GpurunCopyToDevice::new(destination, length as u64, 0, self.stream.wire_id());
            self.session.post_work(self.stream, &request, bytes)?;
        } else if self.when == When::Now {
            // SAFETY: the caller's promise.
            if unsafe { self.send_now(destination, source, length) }? {
                return Ok(());
            }
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.send(destination, source, length) }?;
        }
        let is_seen = pinned || memory.mapped.holds(destination, length as u64);
        self.has_sent(is_seen, length)
    }

    /// Waits until the bytes of host memory are what this copy shall take; whether they are pinned.
    pub(super) fn is_ready_to_read(
        &self,
        source: *const u8,
        length: usize,
    ) -> Result<bool, CUresult> {
        let memory = &self.session.objects.memory;
        let pinned = memory.host.find(source.addr(), length).is_some();
        // Pageable memory is read by the call.
        let is_read_later = pinned || self.when != When::Later;
        if is_read_later && self.session.objects.host_functions.are_unfinished() {
            self.stream.synchronise(self.session)?;
        }
        // Copies of graphs land in pageable memory too.
        self.wait_for_landing(source, length)?;
        Ok(pinned)
    }

    /// Whether what lands in host memory may do so after the call.
    pub(super) fn lands_later(&self, pinned: bool) -> bool {
        self.when == When::InGraph || (self.when == When::Later && pinned)
    }

    /// Waits for a copy from host memory where its call does: `is_seen` if the device reads that memory itself, or the program what it becomes. A driver's
    /// synchronous copy waits for what is before it in its stream, which a program sees where memory is mapped or managed.
    pub(super) fn has_sent(&self, is_seen: bool, length: usize) -> Result<(), CUresult> {
        let is_seen = is_seen || self.session.objects.memory.mapped.is_any();
        if self.when == When::Now && (is_seen || length > MAX_INLINE_COPY_BYTES) {
            return self.stream.synchronise(self.session);
        }
        Ok(())
    }

    /// Sends a large copy from where the bytes are, and waits until the worker has them.
    ///
    /// # Safety
    /// As [`Copy::to_device`].
    pub(super) unsafe fn send(
        &self,
        destination: u64,
        source: *const u8,
        length: usize,
    ) -> Result<(), CUresult> {
        let transfer = self.session.link.transfer_number();
        let request =
            GpurunCopyToDevice::new(destination, length as u64, transfer, self.stream.wire_id());
        self.session
            .post_operations(self.stream, operations_of(length), &request, &[])?;
        // SAFETY: the caller's promise, and the wait below.
        let last = unsafe { self.session.link.send_transfer(transfer, source, length) }?;
        self.session.link.wait_acknowledged(last)?;
        Ok(())
    }

    /// What earlier copies will still write into the source must be there before it is read.
    fn wait_for_landing(&self, source: *const u8, length: usize) -> Result<(), CUresult> {
        let memory = &self.session.objects.memory;
        let landing = memory.host.landing_in(source.addr(), length);
        host::wait_for_landings(self.session, &landing)
    }

    /// From device to host.
    ///
    /// # Safety
    /// `destination` is writable for `length` bytes, until the stream has completed the copy.
    pub(crate) unsafe fn to_host(
        &self,
        destination: *mut u8,
        source: u64,
        length: usize,
    ) -> Result<(), CUresult> {
        if length == 0 {
            return Ok(());
        }
        let memory = &self.session.objects.memory;
        memory.reach(self.session, source, length as u64)?;
        check_host(destination.addr() as u64)?;
        if self.is_reached(destination.addr() as u64, length) {
            return self.within_device(destination.addr() as u64, source, length);
        }
        let pinned = memory.host.find(destination.addr(), length).is_some();
        if self.lands_later(pinned) {
            // SAFETY: pinned memory stays until it is freed, and freeing waits for what lands in it; other memory is the program's to keep.
            return unsafe { self.fetch(destination, source, length) };
        }
        // It is done when it returns, so it is not counted; but it has to fit.
        self.stream
            .admit(self.session, operations_of(MAX_INLINE_COPY_BYTES))?;
        memory.mapped.before_work(self.session)?;
        let before = self.stream.last_work();
        if length <= MAX_INLINE_COPY_BYTES {
            // SAFETY: the caller's promise.
            unsafe { self.ask_bytes(destination, source, length) }?;
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.ask_transfer(destination, source, length) }?;
        }
        self.stream.has_done(before);
        memory.mapped.after_wait(self.session)
    }

    /// Whether the device reaches these bytes. All addresses are of one space, so a program may also call device memory the host's, and a copy
    /// goes by what the memory is.
    fn is_reached(&self, address: u64, length: usize) -> bool {
        let memory = &self.session.objects.memory;
        memory.find(address).is_some() || memory.mapped.holds(address, length as u64)
    }

    /// The device's own affair, at its place in the stream, also where it reaches the host's memory.
    pub(super) fn within_device(
        &self,
        destination: u64,
        source: u64,
        length: usize,
    ) -> Result<(), CUresult> {
        self.on_device(destination, source, length)?;
        self.wait_where_seen([destination, source].map(|end| (end, length as u64)))
    }

    /// A synchronous copy from or to memory that the program shares with the device is done when it returns.
    pub(super) fn wait_where_seen(&self, ends: [(u64, u64); 2]) -> Result<(), CUresult> {
        let mapped = &self.session.objects.memory.mapped;
        let is_seen = |(first, length): &(u64, u64)| mapped.holds(*first, *length);
        match self.when == When::Now && ends.iter().any(is_seen) {
            true => self.stream.synchronise(self.session),
            false => Ok(()),
        }
    }

    /// A large copy: the bytes come before the reply.
    ///
    /// # Safety
    /// `destination` is writable for `length` bytes.
    unsafe fn ask_transfer(
        &self,
        destination: *mut u8,
        source: u64,
        length: usize,
    ) -> Result<(), CUresult> {
        // SAFETY: the caller's promise; the transfer is done or withdrawn before this returns.
        let transfer = unsafe { self.session.link.expect_transfer(destination, length) };
        let request = GpurunCopyFromDevice::new(
            source,
            length as u64,
            transfer.number,
            self.stream.wire_id(),
        );
        let result = self
            .session
            .ask_reply(self.stream.context, &request, &[], || Ok(()));
        let complete = transfer.is_done();
        self.session.link.withdraw_transfer(&transfer);
        match result {
            // A call that was posted before may have failed: that is told before the reply.
            Ok(_) if complete => self.stream.fault.check(),
            Ok(_) => Err(malformed::<GpurunCopyFromDevice>()),
            Err(code) => Err(code),
        }
    }

    /// A small copy: the bytes come in the reply.
    ///
    /// # Safety
    /// `destination` is writable for `length` bytes.
    unsafe fn ask_bytes(
        &self,
        destination: *mut u8,
        source: u64,
        length: usize,
    ) -> Result<(), CUresult> {
        let request = GpurunCopyFromDevice::new(source, length as u64, 0, self.stream.wire_id());
        let reply = self
            .session
            .ask_reply(self.stream.context, &request, &[], || Ok(()))?;
        // A call that was posted before may have failed: that is told before the reply.
        self.stream.fault.check()?;
        if reply.body.len() != length {
            return Err(malformed::<GpurunCopyFromDevice>());
        }
        // SAFETY: the caller's promise; the reply has exactly so many bytes.
        unsafe { destination.copy_from_nonoverlapping(reply.body.as_ptr(), length) };
        Ok(())
    }

    /// A posted copy into pinned memory.
    ///
    /// # Safety
    /// `destination` is writable for `length` bytes until the transfer is done.
    unsafe fn fetch(
        &self,
        destination: *mut u8,
        source: u64,
        length: usize,
    ) -> Result<(), CUresult> {
        let post = |transfer| {
            let stream = self.stream.wire_id();
            let request = GpurunFetchFromDevice::new(source, length as u64, transfer, stream);
            self.session
                .post_operations(self.stream, operations_of(length), &request, &[])
        };
        // SAFETY: the caller's promise.
        unsafe { self.fetch_as(destination, length, post) }
    }

    /// A posted copy, whose call `post` posts with the number of its transfer.
    ///
    /// # Safety
    /// As [`Copy::fetch`].
    pub(super) unsafe fn fetch_as(
        &self,
        destination: *mut u8,
        length: usize,
        post: impl FnOnce(u64) -> Result<(), CUresult>,
    ) -> Result<(), CUresult> {
        // SAFETY: the caller's promise.
        let transfer = unsafe { self.session.link.expect_transfer(destination, length) };
        if let Err(code) = post(transfer.number) {
            self.session.link.withdraw_transfer(&transfer);
            return Err(code);
        }
        let stream = Arc::clone(self.stream);
        self.session.objects.memory.host.will_land(stream, transfer);
        Ok(())
    }

    pub(super) fn on_device(
        &self,
        destination: u64,
        source: u64,
        length: usize,
    ) -> Result<(), CUresult> {
        if length == 0 {
            return Ok(());
        }
        let memory = &self.session.objects.memory;
        memory.reach(self.session, destination, length as u64)?;
        memory.reach(self.session, source, length as u64)?;
        let request =
            GpurunCopyOnDevice::new(destination, source, length as u64, self.stream.wire_id());
        self.session.post_work(self.stream, &request, &[])
    }

    /// Between any two addresses: what is not device memory is the host's.
    ///
    /// # Safety
    /// Host addresses are readable or writable for `length` bytes.
    pub(crate) unsafe fn unified(
        &self,
        destination: u64,
        source: u64,
        length: usize,
    ) -> Result<(), CUresult> {
        let host = |address: u64| core::ptr::with_exposed_provenance_mut::<u8>(address as usize);
        let is_reached = |address| self.is_reached(address, length);
        match (is_reached(destination), is_reached(source)) {
            (true, true) => self.within_device(destination, source, length),
            // SAFETY: the caller's promise.
            (true, false) => unsafe { self.to_device(destination, host(source), length) },
            // SAFETY: the caller's promise.
            (false, true) => unsafe { self.to_host(host(destination), source, length) },
            (false, false) => {
                check_host(destination)?;
                check_host(source)?;
                self.stream.synchronise(self.session)?;
                // SAFETY: the caller's promise; `copy` allows overlap.
                unsafe { host(destination).copy_from(host(source), length) };
                Ok(())
            }
        }
    }
}

/// What the worker puts into the stream for a copy through its buffers: for each buffer the copy, and a point behind it.
fn operations_of(length: usize) -> u64 {
    2 * length.div_ceil(BULK_CHUNK_BYTES) as u64
}

/// The null page is never memory of a program.
pub(super) fn check_host(address: u64) -> Result<(), CUresult> {
    if address < 4096 {
        Err(CUresult::INVALID_VALUE)
    } else {
        Ok(())
    }
}

pub(crate) unsafe fn cuMemcpyHtoD_v2(
    dst_device: CUdeviceptr,
    src_host: *const c_void,
    byte_count: usize,
) -> CUresult {
    // SAFETY: the API's contract.
    in_stream(CUstream(0), |copy| unsafe {
        copy.to_device(dst_device, src_host.cast(), byte_count)
    })
}

pub(crate) unsafe fn cuMemcpyHtoDAsync_v2(
    dst_device: CUdeviceptr,
    src_host: *const c_void,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let describe = |session: &Session| {
        let source = (HOST, src_host.expose_provenance() as u64);
        BoxCopy::linear(session, (DEVICE, dst_device), source, byte_count)
    };
    // SAFETY: the API's contract.
    later(stream, describe, |copy| unsafe {
        copy.to_device(dst_device, src_host.cast(), byte_count)
    })
}

pub(crate) unsafe fn cuMemcpyDtoH_v2(
    dst_host: *mut c_void,
    src_device: CUdeviceptr,
    byte_count: usize,
) -> CUresult {
    // SAFETY: the API's contract.
    in_stream(CUstream(0), |copy| unsafe {
        copy.to_host(dst_host.cast(), src_device, byte_count)
    })
}

pub(crate) unsafe fn cuMemcpyDtoHAsync_v2(
    dst_host: *mut c_void,
    src_device: CUdeviceptr,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let describe = |session: &Session| {
        let destination = (HOST, dst_host.expose_provenance() as u64);
        BoxCopy::linear(session, destination, (DEVICE, src_device), byte_count)
    };
    // SAFETY: the API's contract.
    later(stream, describe, |copy| unsafe {
        copy.to_host(dst_host.cast(), src_device, byte_count)
    })
}

/// Between memory of the device asynchronous for the host even in its synchronous form, as the driver documents it.
pub(crate) unsafe fn cuMemcpyDtoD_v2(
    dst_device: CUdeviceptr,
    src_device: CUdeviceptr,
    byte_count: usize,
) -> CUresult {
    in_stream(CUstream(0), |copy| {
        copy.within_device(dst_device, src_device, byte_count)
    })
}

pub(crate) unsafe fn cuMemcpyDtoDAsync_v2(
    dst_device: CUdeviceptr,
    src_device: CUdeviceptr,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let describe = |session: &Session| {
        BoxCopy::linear(
            session,
            (DEVICE, dst_device),
            (DEVICE, src_device),
            byte_count,
        )
    };
    later(stream, describe, |copy| {
        copy.within_device(dst_device, src_device, byte_count)
    })
}

pub(crate) unsafe fn cuMemcpy(dst: CUdeviceptr, src: CUdeviceptr, byte_count: usize) -> CUresult {
    // SAFETY: the API's contract.
    in_stream(CUstream(0), |copy| unsafe {
        copy.unified(dst, src, byte_count)
    })
}

pub(crate) unsafe fn cuMemcpyAsync(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    byte_count: usize,
    stream: CUstream,
) -> CUresult {
    let describe =
        |session: &Session| BoxCopy::linear(session, (UNIFIED, dst), (UNIFIED, src), byte_count);
    // SAFETY: the API's contract.
    later(stream, describe, |copy| unsafe {
        copy.unified(dst, src, byte_count)
    })
}

/// `CU_MEMORYTYPE_*`.
pub(crate) const HOST: u32 = 1;
pub(crate) const DEVICE: u32 = 2;
pub(crate) const UNIFIED: u32 = 4;
