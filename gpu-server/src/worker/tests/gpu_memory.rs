//! What is found of GPU memory, by a driver that exports it and one that does not, and by a card that takes it and one that does not.

use std::io;

use protocol::transport::rdma::RdmaError;

use super::fake::{self, EXPORTING_DEVICE};
use crate::worker::gpu_memory::{Unreachable, describe, probe};

#[test]
fn a_driver_that_exports_nothing_is_not_asked() {
    let found = probe(fake::driver(true), 0, |_, _| panic!("nothing to register"));
    assert!(matches!(found, Err(Unreachable::NotExported)), "{found:?}");
    assert!(describe(&found).contains("the driver exports no dma-buf"));
}

#[test]
fn a_card_that_takes_it_is_told_from_one_that_does_not() {
    let driver = fake::driver(true);
    let taken = probe(driver, EXPORTING_DEVICE, |buffer, length| {
        let size = rustix::fs::fstat(buffer).expect("an open file").st_size;
        assert_eq!(usize::try_from(size), Ok(length));
        Ok(())
    });
    assert!(taken.is_ok(), "{taken:?}");
    assert!(describe(&taken).contains("could reach it"));
    let refused = probe(driver, EXPORTING_DEVICE, |_, _| {
        Err(RdmaError::Verbs {
            what: "ibv_reg_dmabuf_mr",
            source: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        })
    });
    assert!(describe(&refused).contains("the NIC refuses dma-buf: ibv_reg_dmabuf_mr"));
}
