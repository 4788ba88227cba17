//! `libibverbs.so.1`, if this machine has it.
//!
//! What: the exported functions that the transport calls, found when first needed. Why: the same shim and the same server run where
//! rdma-core is absent, so nothing here may be linked. What the library's header defines as inline (posting, polling) comes from
//! `rdma-sys` and calls the provider through the objects that these functions return.
//!
//! # Safety
//! Each field has the type that rdma-core's header gives the function of that name, as `rdma-sys` bound it from that header. The
//! library is never unloaded: its providers start threads and keep addresses.
#![expect(
    unsafe_code,
    reason = "loads a library and calls what its header declares"
)]

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use rdma_sys::{
    _compat_ibv_port_attr, ibv_comp_channel, ibv_context, ibv_cq, ibv_device, ibv_device_attr,
    ibv_mr, ibv_pd, ibv_qp, ibv_qp_attr, ibv_qp_init_attr, ibv_wc_status,
};

use super::RdmaError;

/// Declares the functions, and how they are found: newer ones may be absent.
macro_rules! library {
    (
        newer { $($(#[$more_doc:meta])* $more:ident: fn($($more_argument:ty),*) $(-> $more_result:ty)?;)* }
        $($(#[$doc:meta])* $name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*
    ) => {
        /// The functions.
        pub(super) struct Library {
            $($(#[$doc])* pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            $($(#[$more_doc])* pub(super) $more: Option<unsafe extern "C" fn($($more_argument),*) $(-> $more_result)?>,)*
        }

        impl Library {
            fn find(library: &'static libloading::Library) -> Result<Self, libloading::Error> {
                // SAFETY: the type is the one of rdma-core's header for this name, and the library stays.
                unsafe {
                    Ok(Self {
                        $($name: *library.get(concat!(stringify!($name), "\0").as_bytes())?,)*
                        $($more: library.get(concat!(stringify!($more), "\0").as_bytes()).ok().map(|found| *found),)*
                    })
                }
            }
        }
    };
}

library! {
    newer {
        /// Registers memory of another device: since version 34.
        ibv_reg_dmabuf_mr: fn(*mut ibv_pd, u64, usize, u64, c_int, c_int) -> *mut ibv_mr;
    }
    /// The devices, ended by null.
    ibv_get_device_list: fn(*mut c_int) -> *mut *mut ibv_device;
    /// Gives the list back; opened devices stay.
    ibv_free_device_list: fn(*mut *mut ibv_device);
    /// A device's name.
    ibv_get_device_name: fn(*mut ibv_device) -> *const c_char;
    /// Opens a device.
    ibv_open_device: fn(*mut ibv_device) -> *mut ibv_context;
    /// Closes it.
    ibv_close_device: fn(*mut ibv_context) -> c_int;
    /// What the device can do.
    ibv_query_device: fn(*mut ibv_context, *mut ibv_device_attr) -> c_int;
    /// A port's state; the structure is the newer one's beginning.
    ibv_query_port: fn(*mut ibv_context, u8, *mut _compat_ibv_port_attr) -> c_int;
    /// A protection domain.
    ibv_alloc_pd: fn(*mut ibv_context) -> *mut ibv_pd;
    /// Ends it.
    ibv_dealloc_pd: fn(*mut ibv_pd) -> c_int;
    /// Registers memory.
    ibv_reg_mr: fn(*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
    /// Gives it back.
    ibv_dereg_mr: fn(*mut ibv_mr) -> c_int;
    /// What tells of completions.
    ibv_create_comp_channel: fn(*mut ibv_context) -> *mut ibv_comp_channel;
    /// Ends it.
    ibv_destroy_comp_channel: fn(*mut ibv_comp_channel) -> c_int;
    /// A completion queue.
    ibv_create_cq: fn(*mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int) -> *mut ibv_cq;
    /// Ends it, once its events are acknowledged.
    ibv_destroy_cq: fn(*mut ibv_cq) -> c_int;
    /// Takes one event.
    ibv_get_cq_event: fn(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int;
    /// Acknowledges events.
    ibv_ack_cq_events: fn(*mut ibv_cq, c_uint);
    /// A queue pair.
    ibv_create_qp: fn(*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp;
    /// Ends it.
    ibv_destroy_qp: fn(*mut ibv_qp) -> c_int;
    /// Brings it into another state.
    ibv_modify_qp: fn(*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int;
    /// What a completion's status means.
    ibv_wc_status_str: fn(ibv_wc_status::Type) -> *const c_char;
}

/// The library, loaded once.
///
/// # Errors
/// [`RdmaError::NoLibrary`].
pub(super) fn library() -> Result<&'static Library, RdmaError> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    let load = || {
        // SAFETY: rdma-core's initialisers only read its configuration.
        let library = unsafe { libloading::Library::new("libibverbs.so.1") };
        let library = Box::leak(Box::new(library.map_err(|error| error.to_string())?));
        Library::find(library).map_err(|error| error.to_string())
    };
    LIBRARY
        .get_or_init(load)
        .as_ref()
        .map_err(|reason| RdmaError::NoLibrary(reason.clone()))
}
