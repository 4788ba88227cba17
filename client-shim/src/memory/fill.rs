//! Fills: posted; the synchronous forms are asynchronous for the host too, as the driver documents it, unless the program sees the memory itself: pinned
//! and managed memory is filled when they return.
#![expect(unsafe_code, reason = "functions of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_uchar, c_uint, c_ushort};

use driver_api::abi::{CUdeviceptr, CUresult, CUstream};
use driver_api::id::StreamId;
use driver_api::wire::request::GpurunFill;

use crate::capture;
use crate::entry::code;
use crate::graph::Operation;
use crate::session::{self, Session};
use crate::stream::{self, Stream};

/// Rows of equal elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    pub(crate) destination: u64,
    pub(crate) pitch: usize,
    pub(crate) value: u32,
    pub(crate) element_bytes: u32,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Fill {
    fn row(destination: u64, value: u32, element_bytes: u32, count: usize) -> Self {
        Self {
            destination,
            pitch: 0,
            value,
            element_bytes,
            width: count,
            height: 1,
        }
    }

    fn run(&self, stream: CUstream) -> Result<(), CUresult> {
        let (session, context) = session::current()?;
        let stream = stream::resolve_any(session, &context, stream)?;
        if capture::is_captured(session, &stream)? {
            self.check(session)?;
            return capture::add(&stream, Operation::Fill(*self));
        }
        self.post(session, &stream)
    }

    /// In the default stream, as the synchronous forms do it.
    fn run_now(&self) -> Result<(), CUresult> {
        self.run(CUstream(0))?;
        let (session, context) = session::current()?;
        let is_seen = session.objects.memory.mapped.holds(self.destination, 1);
        if self.is_empty() || !is_seen {
            return Ok(());
        }
        stream::resolve_any(session, &context, CUstream(0))?.synchronise(session)
    }

    /// Whether all of it is device memory, and aligned.
    pub(crate) fn check(&self, session: &Session) -> Result<(), CUresult> {
        if self.width == 0 || self.height == 0 {
            return Ok(());
        }
        if !matches!(self.element_bytes, 1 | 2 | 4)
            || !self.destination.is_multiple_of(self.element_bytes.into())
        {
            return Err(CUresult::INVALID_VALUE);
        }
        let row = self
            .width
            .checked_mul(self.element_bytes as usize)
            .ok_or(CUresult::INVALID_VALUE)?;
        if self.height > 1
            && (self.pitch < row || !self.pitch.is_multiple_of(self.element_bytes as usize))
        {
            return Err(CUresult::INVALID_VALUE);
        }
        let rows = self
            .pitch
            .checked_mul(self.height - 1)
            .and_then(|rows| rows.checked_add(row));
        let size = rows.ok_or(CUresult::INVALID_VALUE)? as u64;
        session
            .objects
            .memory
            .reach(session, self.destination, size)
    }

    pub(crate) fn post(&self, session: &Session, stream: &Stream) -> Result<(), CUresult> {
        self.check(session)?;
        if self.is_empty() {
            return Ok(());
        }
        session.post_work(stream, &self.request(stream.wire_id()), &[])
    }

    /// Whether nothing is filled.
    pub(crate) fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    fn request(&self, stream: StreamId) -> GpurunFill {
        GpurunFill::new(
            self.destination,
            self.pitch as u64,
            self.width as u64,
            self.height as u64,
            self.value,
            self.element_bytes,
            stream,
        )
    }

    /// As it travels in a graph, of no stream.
    pub(crate) fn of_graph(&self) -> GpurunFill {
        self.request(StreamId(0))
    }
}

macro_rules! fills {
    ($($value:ty, $bytes:literal: $now:ident, $later:ident, $now_2d:ident, $later_2d:ident;)*) => {$(
        pub(crate) unsafe fn $now(dst: CUdeviceptr, value: $value, n: usize) -> CUresult {
            code(Fill::row(dst, value.into(), $bytes, n).run_now())
        }

        pub(crate) unsafe fn $later(dst: CUdeviceptr, value: $value, n: usize, stream: CUstream) -> CUresult {
            code(Fill::row(dst, value.into(), $bytes, n).run(stream))
        }

        pub(crate) unsafe fn $now_2d(
            destination: CUdeviceptr,
            pitch: usize,
            value: $value,
            width: usize,
            height: usize,
        ) -> CUresult {
            let value = value.into();
            code(Fill { destination, pitch, value, element_bytes: $bytes, width, height }.run_now())
        }

        pub(crate) unsafe fn $later_2d(
            destination: CUdeviceptr,
            pitch: usize,
            value: $value,
            width: usize,
            height: usize,
            stream: CUstream,
        ) -> CUresult {
            let value = value.into();
            code(Fill { destination, pitch, value, element_bytes: $bytes, width, height }.run(stream))
        }
    )*};
}

fills! {
    c_uchar, 1: cuMemsetD8_v2, cuMemsetD8Async, cuMemsetD2D8_v2, cuMemsetD2D8Async;
    c_ushort, 2: cuMemsetD16_v2, cuMemsetD16Async, cuMemsetD2D16_v2, cuMemsetD2D16Async;
    c_uint, 4: cuMemsetD32_v2, cuMemsetD32Async, cuMemsetD2D32_v2, cuMemsetD2D32Async;
}
