//! How a box goes from and to an array: in pieces, each a call.
//!
//! | from | to | how |
//! |---|---|---|
//! | host | array | pieces of up to 64 KiB in calls, gathered where rows have gaps: only the bytes of the box travel |
//! | array | host, synchronous, or pageable | rows with gaps, or up to 64 KiB: asked for in such pieces, and scattered |
//! | | | else: fetched, and waited for |
//! | array | pinned, asynchronous, or any in a graph | fetched, in pieces of up to 1 MiB of the host's memory without gaps |
//! | array | mapped or managed, and back | as within the device |
//! | array or device | array or device | one call |
//!
//! *Rules:* pieces are whole elements; a piece's place in the packed box tells where it is in the host's memory.
//!
//! # Safety
//! The program's memory is read and written within the ranges that it gave to a copy, by the contract of the CUDA driver API.
#![expect(
    unsafe_code,
    reason = "the program's memory is where the bytes come from and go to"
)]

use driver_api::abi::CUresult;
use driver_api::volume::{End, Volume};
use driver_api::wire::request::{GpurunCopyVolume, GpurunFetchVolume, GpurunReadVolume};
use protocol::limits::{BULK_CHUNK_BYTES, MAX_INLINE_COPY_BYTES};
use zerocopy::IntoBytes;

use super::copy::{Copy, check_host};
use crate::session::malformed;

/// Bytes of a row, rows, slices; and where a part of a box begins in it.
pub(super) type Extent = [usize; 3];

/// A part of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    origin: Extent,
    size: Extent,
}

impl Piece {
    fn bytes(&self) -> usize {
        self.size.iter().product()
    }
}

/// The end of a box in the program's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostEnd {
    pub(super) first: u64,
    /// Bytes from a row to the next, and from a slice to the next.
    pub(super) row: u64,
    pub(super) slice: u64,
}

impl HostEnd {
    fn at(&self, [x, y, z]: Extent) -> *mut u8 {
        let address = self.first + self.slice * z as u64 + self.row * y as u64 + x as u64;
        core::ptr::with_exposed_provenance_mut(address as usize)
    }

    /// Bytes from the first to behind the last of a box.
    fn span(&self, [width, height, depth]: Extent) -> usize {
        let rows = self.row * (height as u64 - 1) + self.slice * (depth as u64 - 1);
        rows as usize + width
    }

    /// Whether a piece lies there without gaps.
    fn is_packed(&self, piece: &Piece) -> bool {
        let [width, height, depth] = piece.size;
        (height * depth == 1 || self.row == width as u64)
            && (depth == 1 || self.slice == (width * height) as u64)
    }

    /// The rows of a piece: where each is here, and in the packed piece.
    fn rows(self, piece: Piece) -> impl Iterator<Item = (*mut u8, usize)> {
        let ([x, y, z], [width, height, depth]) = (piece.origin, piece.size);
        (0..height * depth).map(move |index| {
            let (row, slice) = (index % height, index / height);
            (self.at([x, y + row, z + slice]), index * width)
        })
    }
}

/// Cuts a box into pieces of at most so many bytes, of whole elements, in packed order: slices where they fit, else rows, else parts of rows.
pub(super) fn pieces(size: Extent, most: usize, element: usize) -> impl Iterator<Item = Piece> {
    let [width, height, depth] = size;
    let (wide, high, deep) = if width > most {
        ((most / element).max(1) * element, 1, 1)
    } else if width * height > most {
        (width, most / width, 1)
    } else {
        (width, height, (most / (width * height)).max(1))
    };
    let piece = move |[x, y, z]: Extent| Piece {
        origin: [x, y, z],
        size: [
            wide.min(width - x),
            high.min(height - y),
            deep.min(depth - z),
        ],
    };
    let rows = move || (0..height).step_by(high);
    let columns = move || (0..width).step_by(wide);
    (0..depth)
        .step_by(deep)
        .flat_map(move |z| rows().flat_map(move |y| columns().map(move |x| piece([x, y, z]))))
}

/// An array's end, moved to a piece.
fn moved(end: &End, piece: &Piece) -> End {
    let mut end = *end;
    for (origin, by) in end.origin.iter_mut().zip(piece.origin) {
        *origin = (origin.get() + by as u64).into();
    }
    end
}

fn volume(destination: End, source: End, size: Extent) -> Volume {
    Volume {
        destination,
        source,
        extent: size.map(|size| (size as u64).into()),
    }
}

impl Copy<'_> {
    /// A box within the device.
    pub(super) fn volume_on_device(
        &self,
        destination: End,
        source: End,
        size: Extent,
    ) -> Result<(), CUresult> {
        let request = GpurunCopyVolume::new(self.stream.wire_id());
        let volume = volume(destination, source, size);
        self.session
            .post_work(self.stream, &request, volume.as_bytes())
    }

    /// A box from the host to an array.
    ///
    /// # Safety
    /// The box is readable in the program's memory.
    pub(super) unsafe fn volume_to_array(
        &self,
        array: &End,
        host: HostEnd,
        size: Extent,
        element: usize,
    ) -> Result<(), CUresult> {
        let span = host.span(size);
        check_host(host.at([0; 3]).addr() as u64)?;
        let pinned = self.is_ready_to_read(host.at([0; 3]), span)?;
        let request = GpurunCopyVolume::new(self.stream.wire_id());
        let mut body = Vec::new();
        for piece in pieces(size, MAX_INLINE_COPY_BYTES, element) {
            let volume = volume(moved(array, &piece), End::default(), piece.size);
            body.clear();
            body.extend_from_slice(volume.as_bytes());
            for (row, _) in host.rows(piece) {
                // SAFETY: the caller's promise; the bytes are copied at once.
                body.extend_from_slice(unsafe { std::slice::from_raw_parts(row, piece.size[0]) });
            }
            self.session.post_work(self.stream, &request, &body)?;
        }
        self.has_sent(pinned, size.iter().product())
    }

    /// A box from an array to the host's memory, which is pinned or not.
    ///
    /// # Safety
    /// The box is writable in the program's memory until the stream has completed the copy.
    pub(super) unsafe fn volume_to_host(
        &self,
        (host, is_pinned): (HostEnd, bool),
        array: &End,
        size: Extent,
        element: usize,
    ) -> Result<(), CUresult> {
        check_host(host.at([0; 3]).addr() as u64)?;
        let whole = Piece {
            origin: [0; 3],
            size,
        };
        let is_large = host.is_packed(&whole) && whole.bytes() > MAX_INLINE_COPY_BYTES;
        match (self.lands_later(is_pinned), is_large) {
            // SAFETY: the caller's promise.
            (true, _) => unsafe { self.fetch_volume(host, array, size, element) },
            (false, true) => {
                // SAFETY: the caller's promise; nothing lands any more when this returns.
                let fetched = unsafe { self.fetch_volume(host, array, size, element) };
                let waited = fetched.and_then(|()| self.stream.synchronise(self.session));
                // What has not landed after a wait never will.
                let (first, length) = (host.at([0; 3]).addr(), host.span(size));
                let memory = &self.session.objects.memory;
                memory
                    .host
                    .withdraw(self.session, self.stream, first, length);
                waited
            }
            // SAFETY: the caller's promise.
            (false, false) => unsafe { self.read_volume(host, array, size, element) },
        }
    }

    /// It is there when this returns.
    ///
    /// # Safety
    /// The box is writable in the program's memory.
    unsafe fn read_volume(
        &self,
        host: HostEnd,
        array: &End,
        size: Extent,
        element: usize,
    ) -> Result<(), CUresult> {
        let request = GpurunReadVolume::new(self.stream.wire_id());
        let mapped = &self.session.objects.memory.mapped;
        mapped.before_work(self.session)?;
        for piece in pieces(size, MAX_INLINE_COPY_BYTES, element) {
            let volume = volume(End::default(), moved(array, &piece), piece.size);
            // It is done when it returns, so it is not counted; but it has to fit.
            self.stream.admit(self.session, 2)?;
            let before = self.stream.last_work();
            let reply =
                self.session
                    .ask_reply(self.stream.context, &request, volume.as_bytes(), || Ok(()))?;
            // A call that was posted before may have failed: that is told before the reply.
            self.stream.fault.check()?;
            if reply.body.len() != piece.bytes() {
                return Err(malformed::<GpurunReadVolume>());
            }
            for (row, offset) in host.rows(piece) {
                let bytes = &reply.body[offset..offset + piece.size[0]];
                // SAFETY: the caller's promise.
                unsafe { row.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            }
            self.stream.has_done(before);
        }
        mapped.after_wait(self.session)
    }

    /// It is there before the stream's next completion is seen.
    ///
    /// # Safety
    /// The box is writable in the program's memory until then.
    unsafe fn fetch_volume(
        &self,
        host: HostEnd,
        array: &End,
        size: Extent,
        element: usize,
    ) -> Result<(), CUresult> {
        let whole = Piece {
            origin: [0; 3],
            size,
        };
        // Of rows with gaps, each row is a piece; a row that is longer than a buffer is several.
        let most = match host.is_packed(&whole) {
            true => BULK_CHUNK_BYTES,
            false => size[0].min(BULK_CHUNK_BYTES),
        };
        for piece in pieces(size, most, element) {
            let volume = volume(End::default(), moved(array, &piece), piece.size);
            // SAFETY: the caller's promise; the piece is packed there.
            unsafe {
                self.fetch_as(host.at(piece.origin), piece.bytes(), |transfer| {
                    let request = GpurunFetchVolume::new(self.stream.wire_id(), transfer);
                    self.session
                        .post_operations(self.stream, 2, &request, volume.as_bytes())
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(size: Extent, most: usize, element: usize) -> Vec<(Extent, Extent)> {
        let pieces = pieces(size, most, element);
        pieces.map(|piece| (piece.origin, piece.size)).collect()
    }

    #[test]
    fn pieces_are_as_large_as_they_may_be_and_of_whole_elements() {
        assert_eq!(sizes([8, 2, 3], 64, 4), [([0; 3], [8, 2, 3])]);
        assert_eq!(
            sizes([8, 2, 3], 32, 4),
            [([0; 3], [8, 2, 2]), ([0, 0, 2], [8, 2, 1])]
        );
        assert_eq!(
            sizes([8, 3, 1], 16, 4),
            [([0; 3], [8, 2, 1]), ([0, 2, 0], [8, 1, 1])]
        );
        assert_eq!(
            sizes([20, 1, 1], 10, 4),
            [
                ([0; 3], [8, 1, 1]),
                ([8, 0, 0], [8, 1, 1]),
                ([16, 0, 0], [4, 1, 1])
            ]
        );
    }

    #[test]
    fn every_byte_is_in_exactly_one_piece() {
        for most in [4, 16, 24, 40, 100, 1000] {
            let mut seen = vec![0_u32; 24 * 5 * 3];
            for piece in pieces([24, 5, 3], most, 4) {
                assert!(piece.bytes() <= most);
                let ([x, y, z], [width, height, depth]) = (piece.origin, piece.size);
                for slice in z..z + depth {
                    for row in y..y + height {
                        for byte in x..x + width {
                            seen[(slice * 5 + row) * 24 + byte] += 1;
                        }
                    }
                }
            }
            assert!(seen.iter().all(|count| *count == 1), "{most}");
        }
    }

    #[test]
    fn rows_with_gaps_are_not_packed() {
        let end = |row, slice| HostEnd {
            first: 4096,
            row,
            slice,
        };
        let piece = Piece {
            origin: [0; 3],
            size: [8, 4, 2],
        };
        assert!(end(8, 32).is_packed(&piece));
        assert!(!end(16, 64).is_packed(&piece));
        assert!(!end(8, 40).is_packed(&piece));
    }
}
