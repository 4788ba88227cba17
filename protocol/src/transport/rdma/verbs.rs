//! Verbs objects with owners: each is made once, ends once, and ends before what it was made of.
//!
//! What: an opened device with its protection domain, registered [`memory`], a completion queue with its channel, a queue pair. Rules: an
//! object holds what it depends on by [`Arc`], so the order of ends is the order of drops; work requests are built here from plain
//! numbers, nowhere else.
//!
//! # Safety
//! Every pointer came from the library and is not null, is used only while its owner lives, and verbs objects may be used by any thread (the library locks
//! where it must). What is registered: [`memory`].
#![expect(unsafe_code, reason = "calls rdma-core")]

mod memory;

use std::ffi::{CStr, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rdma_sys::{
    ibv_access_flags, ibv_comp_channel, ibv_context, ibv_cq, ibv_device_attr, ibv_mtu, ibv_pd,
    ibv_port_attr, ibv_qp, ibv_qp_attr, ibv_qp_attr_mask, ibv_qp_init_attr, ibv_qp_state,
    ibv_qp_type, ibv_recv_wr, ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wc, ibv_wc_opcode,
    ibv_wc_status, ibv_wr_opcode,
};

use super::gid::Gid;
use super::library::{Library, library};
use super::{PathSettings, RdmaError};
pub(super) use memory::{Access, LentMemory, Region, Source};

fn failed(what: &'static str) -> RdmaError {
    RdmaError::Verbs {
        what,
        source: io::Error::last_os_error(),
    }
}

/// Functions that return the error's number.
fn check(what: &'static str, code: c_int) -> Result<(), RdmaError> {
    match code {
        0 => Ok(()),
        code => Err(RdmaError::Verbs {
            what,
            source: io::Error::from_raw_os_error(code.abs()),
        }),
    }
}

/// An opened device.
pub(super) struct Device {
    library: &'static Library,
    context: NonNull<ibv_context>,
    domain: NonNull<ibv_pd>,
    gid: Gid,
    mtu: ibv_mtu::Type,
    reads: u32,
}

// SAFETY: the library's objects may be used by any thread.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// Opens the device that has this address.
    pub(super) fn open(gid: &Gid) -> Result<Arc<Self>, RdmaError> {
        let library = library()?;
        let context = open(library, &gid.device)?;
        let close = || {
            // SAFETY: the context was opened above and is used by nothing. A failure would leave it to the process's end.
            unsafe { (library.ibv_close_device)(context.as_ptr()) };
        };
        let mtu = port_mtu(library, context, gid.port).inspect_err(|_| close())?;
        let reads = most_reads(library, context).inspect_err(|_| close())?;
        // SAFETY: the context is open.
        let domain = NonNull::new(unsafe { (library.ibv_alloc_pd)(context.as_ptr()) });
        let Some(domain) = domain else {
            let error = failed("ibv_alloc_pd");
            close();
            return Err(error);
        };
        Ok(Arc::new(Self {
            library,
            context,
            domain,
            gid: gid.clone(),
            mtu,
            reads,
        }))
    }

    pub(super) fn gid(&self) -> &Gid {
        &self.gid
    }

    /// The port's path MTU, as verbs number it: 1 is 256 bytes, each more is the double.
    pub(super) fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Most reads that may be under way by one queue pair, asked for as well as answered; 0: it has none.
    pub(super) fn reads(&self) -> u32 {
        self.reads
    }

    /// Descriptors that a forked child must not keep: they would keep the session's queue pairs alive.
    pub(super) fn descriptors(&self) -> [RawFd; 2] {
        // SAFETY: the context is open; both are plain numbers in it that do not change.
        unsafe {
            [
                (*self.context.as_ptr()).cmd_fd,
                (*self.context.as_ptr()).async_fd,
            ]
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: whatever was made of the domain and the context held this device, and is gone. Failures leave them to the process's end.
        unsafe {
            (self.library.ibv_dealloc_pd)(self.domain.as_ptr());
            (self.library.ibv_close_device)(self.context.as_ptr());
        }
    }
}

fn open(library: &Library, name: &str) -> Result<NonNull<ibv_context>, RdmaError> {
    let mut count = 0;
    // SAFETY: the count is ours; the list is given back below.
    let list = unsafe { (library.ibv_get_device_list)(&mut count) };
    if list.is_null() {
        return Err(failed("ibv_get_device_list"));
    }
    let mut opened = Err(RdmaError::NoDevice(format!(
        "{name} is not usable by this process"
    )));
    for place in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the list has `count` devices, and stays until it is given back.
        unsafe {
            let device = *list.add(place);
            let its_name = (library.ibv_get_device_name)(device);
            if !its_name.is_null() && CStr::from_ptr(its_name).to_bytes() == name.as_bytes() {
                let context = (library.ibv_open_device)(device);
                opened = NonNull::new(context).ok_or_else(|| failed("ibv_open_device"));
            }
        }
    }
    // SAFETY: it is the list from above; an opened device stays open.
    unsafe { (library.ibv_free_device_list)(list) };
    opened
}

/// Most reads under way that a queue pair of this device may have, in both roles.
fn most_reads(library: &Library, context: NonNull<ibv_context>) -> Result<u32, RdmaError> {
    // SAFETY: numbers only, for which zeros are valid.
    let mut attributes: ibv_device_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the context is open; the attributes are ours.
    let code = unsafe { (library.ibv_query_device)(context.as_ptr(), &mut attributes) };
    check("ibv_query_device", code)?;
    let both = attributes
        .max_qp_rd_atom
        .min(attributes.max_qp_init_rd_atom);
    Ok(u32::try_from(both).unwrap_or(0))
}

fn port_mtu(
    library: &Library,
    context: NonNull<ibv_context>,
    port: u8,
) -> Result<ibv_mtu::Type, RdmaError> {
    // SAFETY: numbers only, for which zeros are valid.
    let mut attributes: ibv_port_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the context is open; the library writes the older structure, which is this one's beginning.
    let code =
        unsafe { (library.ibv_query_port)(context.as_ptr(), port, (&raw mut attributes).cast()) };
    check("ibv_query_port", code)?;
    Ok(attributes.active_mtu)
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completion {
    /// A request of ours, by its number.
    Sent(u64),
    /// A receive: the immediate that came.
    Received(u32),
}

/// Completions that are taken at once: more than one seldom waits where latency counts.
const POLLED: usize = 4;

/// A completion queue with what tells of completions.
pub(super) struct CompletionQueue {
    device: Arc<Device>,
    channel: NonNull<ibv_comp_channel>,
    queue: NonNull<ibv_cq>,
    /// Events that are taken and not yet acknowledged.
    taken: AtomicU32,
}

// SAFETY: the library's objects may be used by any thread.
unsafe impl Send for CompletionQueue {}
// SAFETY: as above.
unsafe impl Sync for CompletionQueue {}

impl CompletionQueue {
    pub(super) fn new(device: &Arc<Device>, entries: u32) -> Result<Self, RdmaError> {
        let library = device.library;
        // SAFETY: the context lives.
        let channel = unsafe { (library.ibv_create_comp_channel)(device.context.as_ptr()) };
        let channel = NonNull::new(channel).ok_or_else(|| failed("ibv_create_comp_channel"))?;
        let entries = c_int::try_from(entries).unwrap_or(c_int::MAX);
        // SAFETY: both live; the queue holds the channel by this object.
        let queue = unsafe {
            (library.ibv_create_cq)(
                device.context.as_ptr(),
                entries,
                std::ptr::null_mut(),
                channel.as_ptr(),
                0,
            )
        };
        let Some(queue) = NonNull::new(queue) else {
            let error = failed("ibv_create_cq");
            // SAFETY: made above, used by nothing.
            unsafe { (library.ibv_destroy_comp_channel)(channel.as_ptr()) };
            return Err(error);
        };
        let made = Self {
            device: Arc::clone(device),
            channel,
            queue,
            taken: AtomicU32::new(0),
        };
        let nonblocking = rustix::io::ioctl_fionbio(made.events(), true);
        nonblocking.map_err(|error| RdmaError::Verbs {
            what: "the channel's descriptor",
            source: error.into(),
        })?;
        Ok(made)
    }

    /// Becomes readable when there is an event.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel lives as long as this borrow, and its descriptor with it.
        unsafe { BorrowedFd::borrow_raw((*self.channel.as_ptr()).fd) }
    }

    /// The next completion will make an event, also one that came since the last look.
    pub(super) fn arm(&self) -> Result<(), RdmaError> {
        // SAFETY: the queue lives.
        check("ibv_req_notify_cq", unsafe {
            rdma_sys::ibv_req_notify_cq(self.queue.as_ptr(), 0)
        })
    }

    /// Takes the events that have come.
    pub(super) fn take_events(&self) {
        let (mut queue, mut context) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the channel lives and does not block; both places are ours.
        while unsafe {
            (self.device.library.ibv_get_cq_event)(self.channel.as_ptr(), &mut queue, &mut context)
        } == 0
        {
            self.taken.fetch_add(1, Relaxed);
        }
    }

    /// Takes completions; says whether there may be more.
    ///
    /// # Errors
    /// [`RdmaError::Completion`]: the queue pair is of no use any more; or what `each` says.
    pub(super) fn poll(
        &self,
        mut each: impl FnMut(Completion) -> Result<(), RdmaError>,
    ) -> Result<bool, RdmaError> {
        let mut done = [const { MaybeUninit::<ibv_wc>::uninit() }; POLLED];
        // SAFETY: the queue lives, and there is room for so many.
        let count = unsafe {
            rdma_sys::ibv_poll_cq(
                self.queue.as_ptr(),
                POLLED as c_int,
                done.as_mut_ptr().cast(),
            )
        };
        let count = usize::try_from(count).map_err(|_| failed("ibv_poll_cq"))?;
        for done in done.iter().take(count) {
            // SAFETY: the library has written so many.
            each(self.completion(unsafe { done.assume_init_ref() })?)?;
        }
        Ok(count >= POLLED)
    }

    fn completion(&self, done: &ibv_wc) -> Result<Completion, RdmaError> {
        if done.status != ibv_wc_status::IBV_WC_SUCCESS {
            return Err(self.error(done.status));
        }
        if done.opcode & ibv_wc_opcode::IBV_WC_RECV == 0 {
            return Ok(Completion::Sent(done.wr_id));
        }
        // SAFETY: every request of our peers carries an immediate; another's would be any number, which is checked.
        let immediate = unsafe { done.imm_data_invalidated_rkey_union.imm_data };
        Ok(Completion::Received(u32::from_be(immediate)))
    }

    fn error(&self, status: ibv_wc_status::Type) -> RdmaError {
        // SAFETY: it takes a number and returns a constant text.
        let text = unsafe { (self.device.library.ibv_wc_status_str)(status) };
        let text = match NonNull::new(text.cast_mut()) {
            // SAFETY: a constant, ended by zero.
            Some(text) => unsafe { CStr::from_ptr(text.as_ptr()) }
                .to_string_lossy()
                .into_owned(),
            None => format!("status {status}"),
        };
        RdmaError::Completion(text)
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: the queue pairs are gone, since they hold this; all events are acknowledged, or destroying would wait for them.
        unsafe {
            (self.device.library.ibv_ack_cq_events)(self.queue.as_ptr(), *self.taken.get_mut());
            (self.device.library.ibv_destroy_cq)(self.queue.as_ptr());
            (self.device.library.ibv_destroy_comp_channel)(self.channel.as_ptr());
        }
    }
}

/// What a queue pair is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depths {
    pub(super) sends: u32,
    pub(super) receives: u32,
    pub(super) inline_bytes: u32,
}

/// The peer's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) gid: [u8; 16],
    pub(super) number: u32,
    pub(super) first_packet: u32,
    pub(super) mtu: u32,
    /// Most reads under way, by either end.
    pub(super) reads: u8,
}

/// What the peer does by a queue pair.
#[derive(Debug, Clone, Copy)]
pub(super) enum Remote {
    /// It writes what is open to that.
    Writes,
    /// It reads what is open to that.
    Reads,
}

/// A reliable-connected queue pair.
pub(super) struct QueuePair {
    completions: CompletionQueue,
    pair: NonNull<ibv_qp>,
    first_packet: u32,
    inline_bytes: u32,
}

// SAFETY: the library's objects may be used by any thread.
unsafe impl Send for QueuePair {}
// SAFETY: as above.
unsafe impl Sync for QueuePair {}

impl QueuePair {
    /// Makes one; if the card cannot send so many bytes inline, with fewer.
    pub(super) fn new(device: &Arc<Device>, depths: Depths) -> Result<Self, RdmaError> {
        let completions = CompletionQueue::new(device, depths.sends + depths.receives)?;
        let mut depths = depths;
        let (pair, inline_bytes) = loop {
            match create(device, &completions, depths) {
                Ok(made) => break made,
                Err(_) if depths.inline_bytes > 0 => depths.inline_bytes /= 2,
                Err(error) => return Err(error),
            }
        };
        let mut random = [0; 4];
        let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        filled.map_err(|error| RdmaError::Verbs {
            what: "getrandom",
            source: error.into(),
        })?;
        let first_packet = u32::from_le_bytes(random) & 0x00FF_FFFF;
        Ok(Self {
            completions,
            pair,
            first_packet,
            inline_bytes,
        })
    }

    pub(super) fn completions(&self) -> &CompletionQueue {
        &self.completions
    }

    pub(super) fn number(&self) -> u32 {
        // SAFETY: the pair lives; it is a plain number.
        unsafe { (*self.pair.as_ptr()).qp_num }
    }

    pub(super) fn first_packet(&self) -> u32 {
        self.first_packet
    }

    /// The most bytes that can be sent without being registered.
    pub(super) fn inline_bytes(&self) -> usize {
        self.inline_bytes as usize
    }

    fn modify(
        &self,
        attributes: &mut ibv_qp_attr,
        mask: ibv_qp_attr_mask,
    ) -> Result<(), RdmaError> {
        let modify = self.completions.device.library.ibv_modify_qp;
        // SAFETY: the pair lives; the attributes are ours, and the mask names those that are set.
        let code = unsafe { modify(self.pair.as_ptr(), attributes, mask.0.cast_signed()) };
        check("ibv_modify_qp", code)
    }

    /// Receives can be posted from here on.
    pub(super) fn initialise(&self, remote: Remote) -> Result<(), RdmaError> {
        use ibv_qp_attr_mask as mask;
        let mut attributes = no_attributes();
        attributes.qp_state = ibv_qp_state::IBV_QPS_INIT;
        attributes.port_num = self.completions.device.gid.port;
        let access = match remote {
            Remote::Writes => ibv_access_flags::IBV_ACCESS_REMOTE_WRITE,
            Remote::Reads => ibv_access_flags::IBV_ACCESS_REMOTE_READ,
        };
        attributes.qp_access_flags = access.0;
        let set = mask::IBV_QP_STATE
            | mask::IBV_QP_PKEY_INDEX
            | mask::IBV_QP_PORT
            | mask::IBV_QP_ACCESS_FLAGS;
        self.modify(&mut attributes, set)
    }

    /// Connects with the peer's end.
    pub(super) fn connect(&self, peer: &Peer, path: &PathSettings) -> Result<(), RdmaError> {
        use ibv_qp_attr_mask as mask;
        let device = &self.completions.device;
        let mut attributes = no_attributes();
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTR;
        attributes.path_mtu = peer.mtu.min(device.mtu);
        attributes.dest_qp_num = peer.number;
        attributes.rq_psn = peer.first_packet;
        attributes.min_rnr_timer = path.receiver_not_ready_timer;
        attributes.max_dest_rd_atomic = peer.reads;
        attributes.ah_attr.is_global = 1;
        attributes.ah_attr.port_num = device.gid.port;
        attributes.ah_attr.grh.dgid.raw = peer.gid;
        attributes.ah_attr.grh.sgid_index = device.gid.index;
        attributes.ah_attr.grh.hop_limit = 64;
        attributes.ah_attr.grh.traffic_class = path.traffic_class;
        let set = mask::IBV_QP_STATE
            | mask::IBV_QP_AV
            | mask::IBV_QP_PATH_MTU
            | mask::IBV_QP_DEST_QPN
            | mask::IBV_QP_RQ_PSN
            | mask::IBV_QP_MAX_DEST_RD_ATOMIC
            | mask::IBV_QP_MIN_RNR_TIMER;
        self.modify(&mut attributes, set)?;
        let mut attributes = no_attributes();
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTS;
        attributes.sq_psn = self.first_packet;
        attributes.timeout = path.timeout;
        attributes.retry_cnt = path.retries;
        attributes.rnr_retry = path.receiver_not_ready_retries;
        attributes.max_rd_atomic = peer.reads;
        let set = mask::IBV_QP_STATE
            | mask::IBV_QP_TIMEOUT
            | mask::IBV_QP_RETRY_CNT
            | mask::IBV_QP_RNR_RETRY
            | mask::IBV_QP_SQ_PSN
            | mask::IBV_QP_MAX_QP_RD_ATOMIC;
        self.modify(&mut attributes, set)
    }

    /// Posts receives for so many immediates.
    pub(super) fn post_receives(&self, count: u32) -> Result<(), RdmaError> {
        for _ in 0..count {
            let mut request = ibv_recv_wr {
                wr_id: 0,
                next: std::ptr::null_mut(),
                sg_list: std::ptr::null_mut(),
                num_sge: 0,
            };
            let mut bad = std::ptr::null_mut();
            // SAFETY: the pair lives; the request names no memory and is copied by the provider.
            let code =
                unsafe { rdma_sys::ibv_post_recv(self.pair.as_ptr(), &mut request, &mut bad) };
            check("ibv_post_recv", code)?;
        }
        Ok(())
    }

    /// Writes `bytes` to the peer, with an immediate; the bytes are taken at once.
    pub(super) fn write_inline(
        &self,
        bytes: &[u8],
        target: Target,
        request: Request,
    ) -> Result<(), RdmaError> {
        // For inline bytes the key is not looked at.
        let piece = ibv_sge {
            addr: bytes.as_ptr() as u64,
            length: u32::try_from(bytes.len()).unwrap_or(0),
            lkey: 0,
        };
        self.write(piece, target, request, ibv_send_flags::IBV_SEND_INLINE)
    }

    /// Writes registered bytes to the peer, with an immediate; they must stay until the completion.
    pub(super) fn write_from(
        &self,
        source: Source,
        length: u64,
        target: Target,
        request: Request,
    ) -> Result<(), RdmaError> {
        let piece = source.piece(length);
        self.write(piece, target, request, ibv_send_flags(0))
    }

    fn write(
        &self,
        piece: ibv_sge,
        target: Target,
        request: Request,
        flags: ibv_send_flags,
    ) -> Result<(), RdmaError> {
        let opcode = ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM;
        self.transfer(opcode, piece, target, request, flags)
    }

    /// Reads the peer's bytes into registered memory, by a request of this number; they are there, or not, when its completion is seen.
    pub(super) fn read_into(
        &self,
        destination: Source,
        length: u64,
        from: Target,
        number: u64,
    ) -> Result<(), RdmaError> {
        let request = Request {
            number,
            immediate: 0,
            is_signalled: true,
        };
        let (opcode, piece) = (ibv_wr_opcode::IBV_WR_RDMA_READ, destination.piece(length));
        self.transfer(opcode, piece, from, request, ibv_send_flags(0))
    }

    fn transfer(
        &self,
        opcode: ibv_wr_opcode::Type,
        mut piece: ibv_sge,
        target: Target,
        request: Request,
        flags: ibv_send_flags,
    ) -> Result<(), RdmaError> {
        let mut order = no_order();
        order.sg_list = &mut piece;
        order.num_sge = 1;
        order.opcode = opcode;
        order.wr.rdma = rdma_sys::rdma_t {
            remote_addr: target.address,
            rkey: target.key,
        };
        self.post(order, request, flags)
    }

    /// Writes no bytes and tells nobody: its completion says that all before it is done.
    pub(super) fn write_nothing(&self, target: Target, request: Request) -> Result<(), RdmaError> {
        let mut order = no_order();
        order.opcode = ibv_wr_opcode::IBV_WR_RDMA_WRITE;
        order.wr.rdma = rdma_sys::rdma_t {
            remote_addr: target.address,
            rkey: target.key,
        };
        self.post(order, request, ibv_send_flags(0))
    }

    /// Sends an immediate alone.
    pub(super) fn send_immediate(&self, request: Request) -> Result<(), RdmaError> {
        let mut order = no_order();
        order.opcode = ibv_wr_opcode::IBV_WR_SEND_WITH_IMM;
        self.post(order, request, ibv_send_flags(0))
    }

    fn post(
        &self,
        mut order: ibv_send_wr,
        request: Request,
        flags: ibv_send_flags,
    ) -> Result<(), RdmaError> {
        let signal = if request.is_signalled {
            ibv_send_flags::IBV_SEND_SIGNALED
        } else {
            ibv_send_flags(0)
        };
        order.wr_id = request.number;
        order.send_flags = (flags | signal).0;
        order.imm_data_invalidated_rkey_union.imm_data = request.immediate.to_be();
        let mut bad = std::ptr::null_mut();
        // SAFETY: the pair lives; the order's piece is alive during the call, and names inline bytes that are taken in it, or a region.
        let code = unsafe { rdma_sys::ibv_post_send(self.pair.as_ptr(), &mut order, &mut bad) };
        check("ibv_post_send", code)
    }
}

/// Where in the peer's memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Target {
    pub(super) address: u64,
    pub(super) key: u32,
}

/// What a request carries beside its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) immediate: u32,
    pub(super) is_signalled: bool,
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: made in `new`, used by nothing else. A failure leaves it to the process's end.
        unsafe { (self.completions.device.library.ibv_destroy_qp)(self.pair.as_ptr()) };
    }
}

fn create(
    device: &Device,
    completions: &CompletionQueue,
    depths: Depths,
) -> Result<(NonNull<ibv_qp>, u32), RdmaError> {
    // SAFETY: numbers and pointers that may be null, for which zeros are valid.
    let mut attributes: ibv_qp_init_attr = unsafe { std::mem::zeroed() };
    attributes.send_cq = completions.queue.as_ptr();
    attributes.recv_cq = completions.queue.as_ptr();
    attributes.qp_type = ibv_qp_type::IBV_QPT_RC;
    attributes.cap.max_send_wr = depths.sends;
    attributes.cap.max_recv_wr = depths.receives;
    attributes.cap.max_send_sge = 1;
    attributes.cap.max_recv_sge = 1;
    attributes.cap.max_inline_data = depths.inline_bytes;
    // SAFETY: the domain and the queue live; the attributes are ours.
    let pair = unsafe { (device.library.ibv_create_qp)(device.domain.as_ptr(), &mut attributes) };
    let pair = NonNull::new(pair).ok_or_else(|| failed("ibv_create_qp"))?;
    Ok((pair, attributes.cap.max_inline_data))
}

fn no_attributes() -> ibv_qp_attr {
    // SAFETY: numbers only, for which zeros are valid.
    unsafe { std::mem::zeroed() }
}

fn no_order() -> ibv_send_wr {
    // SAFETY: numbers and pointers that may be null, for which zeros are valid.
    unsafe { std::mem::zeroed() }
}
