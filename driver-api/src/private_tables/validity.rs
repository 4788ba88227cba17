//! The value by which cudart checks that it talks to a driver.
//!
//! cudart asks for it three times, with its version V, V + 1 and V + 2, and gives up (error 103) on a wrong answer.
//! The first two are constants (the top byte of the second is the size of the table that the function is in: cudart 11.8 looks at
//! both); the third is an HMAC-MD2 over what identifies this process, thread, driver
//! and its devices, so it has to be computed in the client's own process. Observed with seven builds of cudart
//! from 11.8 to 13.5.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md2::Md2;

use super::DeviceIdentity;

const KEY: [u8; 16] = [
    0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52, 0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f,
];

/// Everything that the value depends on.
pub(super) struct Question {
    pub(super) driver_version: u32,
    pub(super) asked_version: u32,
    pub(super) process: u32,
    /// The low half of `pthread_self`.
    pub(super) thread: u32,
    /// The address of the table that starts with 6BD5FB6C.
    pub(super) runtime_table: u64,
    /// The address of the table that starts with D4082055.
    pub(super) validity_table: u64,
    /// The address of the function that is asked.
    pub(super) function: u64,
    pub(super) unix_seconds: u64,
    pub(super) devices: Vec<DeviceIdentity>,
}

/// The two words of the answer.
pub(super) fn answer(question: &Question) -> [u64; 2] {
    match question.asked_version % 10 {
        0 => [0x3341_181C_03CB_675C, 0x8ED3_83AA_1F4C_D1E8],
        1 => [0x1841_181C_03CB_675C, 0x8ED3_83AA_1F4C_D1E8],
        _ => halves(&authenticate(&message(question))),
    }
}

fn message(question: &Question) -> Vec<u8> {
    let mut message = Vec::new();
    for word in [
        question.driver_version,
        question.asked_version,
        question.process,
        question.thread,
    ] {
        message.extend_from_slice(&word.to_le_bytes());
    }
    for word in [
        question.runtime_table,
        question.validity_table,
        question.function,
        question.unix_seconds,
    ] {
        message.extend_from_slice(&word.to_le_bytes());
    }
    for device in &question.devices {
        message.extend_from_slice(&device.uuid);
        for word in [device.pci_domain, device.pci_bus, device.pci_device] {
            message.extend_from_slice(&word.to_le_bytes());
        }
    }
    message
}

fn authenticate(message: &[u8]) -> [u8; 16] {
    // The key is exactly as long as a block of MD2, the one length that needs neither padding nor hashing.
    let mut mac = Hmac::<Md2>::new(&KEY.into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn halves(bytes: &[u8; 16]) -> [u64; 2] {
    let word = |start: usize| {
        (0..8).fold(0u64, |word, index| {
            word | u64::from(bytes[start + index]) << (8 * index)
        })
    };
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(asked_version: u32) -> Question {
        let device = |seed: u8, bus| DeviceIdentity {
            uuid: core::array::from_fn(|index| seed.wrapping_add(index as u8)),
            pci_domain: 0,
            pci_bus: bus,
            pci_device: 3,
        };
        Question {
            driver_version: 13000,
            asked_version,
            process: 4242,
            thread: 0x8765_4321,
            runtime_table: 0x7f00_1234_5678,
            validity_table: 0x7f00_1234_9abc,
            function: 0x7f00_1000_0010,
            unix_seconds: 1_700_000_000,
            devices: vec![device(0x10, 1), device(0xf8, 2)],
        }
    }

    #[test]
    fn the_first_two_are_constants() {
        assert_eq!(answer(&question(12080))[0], 0x3341_181C_03CB_675C);
        assert_eq!(answer(&question(12081))[0], 0x1841_181C_03CB_675C);
    }

    /// The expected words come from `testdata/hmac_md2.py`, a plain implementation of RFC 1319 and RFC 2104.
    #[test]
    fn the_third_is_an_hmac() {
        assert_eq!(
            answer(&question(13002)),
            [0xCAF0_E99A_F41B_5ACF, 0x8AB2_2E2F_A563_5CAF]
        );
    }
}
