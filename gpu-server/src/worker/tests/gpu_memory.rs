//! What is found of GPU memory, by a driver that exports it and one that does not, and by a card that takes it and one that does not.

use std::cell::Cell;
use std::io;

use protocol::transport::Reached;
use protocol::transport::rdma::RdmaError;

use super::fake::{self, EXPORTING_DEVICE};
use crate::worker::gpu_memory::{Reach, describe, probe};

fn refusal(what: &'static str, code: i32) -> RdmaError {
    let source = io::Error::from_raw_os_error(code);
    RdmaError::Verbs { what, source }
}

#[test]
fn a_driver_that_exports_nothing_has_its_addresses_taken() {
    let asked = Cell::new(0);
    let found = probe(fake::driver(true), 0, |memory| {
        assert!(matches!(memory.reached, Reached::ByAddress));
        assert!(memory.address != 0 && memory.length == 2 << 20);
        asked.set(asked.get() + 1);
        Ok(())
    });
    assert_eq!(
        (found.as_ref().ok(), asked.get()),
        (Some(&Reach::PeerMemory), 1)
    );
    assert!(describe(&found, false) == "large copies from the GPU go directly, by peer memory");
}

#[test]
fn a_dma_buf_is_taken_first() {
    let taken = probe(fake::driver(true), EXPORTING_DEVICE, |memory| {
        let Reached::ByDmaBuf { buffer, offset } = memory.reached else {
            panic!("{memory:?}");
        };
        let size = rustix::fs::fstat(buffer).expect("an open file").st_size;
        // Whole pages around it.
        let wanted = (offset + memory.length as u64).next_multiple_of(4096);
        assert_eq!(u64::try_from(size), Ok(wanted));
        assert_eq!(offset, memory.address % 4096);
        Ok(())
    });
    assert_eq!(taken.as_ref().ok(), Some(&Reach::DmaBuf));
    assert!(describe(&taken, true) == "large copies from and to the GPU go directly, by dma-buf");
}

#[test]
fn a_card_that_refuses_a_dma_buf_may_take_the_address() {
    let found = probe(
        fake::driver(true),
        EXPORTING_DEVICE,
        |memory| match memory.reached {
            Reached::ByAddress => Ok(()),
            Reached::ByDmaBuf { .. } => Err(refusal("ibv_reg_dmabuf_mr", libc::EOPNOTSUPP)),
        },
    );
    assert_eq!(found.ok(), Some(Reach::PeerMemory));
}

#[test]
fn a_card_that_takes_neither_is_named_with_both_reasons() {
    let refused = probe(fake::driver(true), EXPORTING_DEVICE, |memory| {
        Err(match memory.reached {
            Reached::ByAddress => refusal("ibv_reg_mr", libc::EFAULT),
            Reached::ByDmaBuf { .. } => refusal("ibv_reg_dmabuf_mr", libc::EOPNOTSUPP),
        })
    });
    let text = describe(&refused, true);
    assert!(
        text.starts_with("GPU memory by way of host memory: "),
        "{text}"
    );
    for reason in ["ibv_reg_dmabuf_mr", "ibv_reg_mr: Bad address"] {
        assert!(text.contains(reason), "{text}");
    }
    let refused = probe(fake::driver(true), 0, |_| {
        Err(refusal("ibv_reg_mr", libc::EFAULT))
    });
    assert!(describe(&refused, true).contains("the driver exports no dma-buf"));
}
