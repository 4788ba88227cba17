//! Where a device is on its server's bus: the same that CUDA says in this program.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use core::ffi::{c_char, c_uint};

use protocol::hello::{PciPlace, Reading};

use crate::answer::{get_text, guarded, put};
use crate::layout::{INVALID_ARGUMENT, NOT_FOUND, PciInfoV1, PciInfoV2, PciInfoV3, Return};
use crate::state::{self, with_usage};

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetPciInfo_v3(device: usize, info: *mut PciInfoV3) -> Return {
    guarded(|| put(info, of(device)?))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetPciInfo_v2(device: usize, info: *mut PciInfoV2) -> Return {
    guarded(|| put(info, of(device)?.second))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetPciInfo(device: usize, info: *mut PciInfoV1) -> Return {
    guarded(|| put(info, of(device)?.second.first))
}

/// The ids of the device and its subsystem are 0 where the server does not tell them, as for a device that is on no bus.
fn of(handle: usize) -> Result<PciInfoV3, Return> {
    let (_, device) = state::device(handle)?;
    let id = |reading| {
        let told = with_usage(handle, |_, usage| Ok(usage.reading(reading)));
        told.ok()
            .flatten()
            .and_then(|id| c_uint::try_from(id).ok())
            .unwrap_or(0)
    };
    let place = PciPlace {
        domain: device.pci_domain,
        bus: device.pci_bus,
        device: device.pci_device,
        id: id(Reading::PciDevice),
    };
    Ok(info(place, id(Reading::PciSubsystem)))
}

/// What is at a place.
pub(crate) fn info(place: PciPlace, subsystem_id: c_uint) -> PciInfoV3 {
    let (domain, bus, device) = (place.domain, place.bus, place.device);
    PciInfoV3 {
        second: PciInfoV2 {
            first: PciInfoV1 {
                bus_id: characters(&format!("{domain:04X}:{bus:02X}:{device:02X}.0")),
                domain,
                bus,
                device,
                device_id: place.id,
            },
            subsystem_id,
        },
        bus_id: characters(&format!("{domain:08X}:{bus:02X}:{device:02X}.0")),
    }
}

/// Text in a field, ended by a zero.
fn characters<const LENGTH: usize>(text: &str) -> [c_char; LENGTH] {
    let mut field = [0; LENGTH];
    for (place, byte) in field[..LENGTH - 1].iter_mut().zip(text.bytes()) {
        *place = byte.cast_signed() as c_char;
    }
    field
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    bus_id: *const c_char,
    device: *mut usize,
) -> Return {
    guarded(|| {
        let devices = &state::server()?.devices;
        let (domain, bus, number) = parse(get_text(bus_id)?).ok_or(INVALID_ARGUMENT)?;
        let found = devices.iter().position(|device| {
            (device.pci_domain, device.pci_bus, device.pci_device) == (domain, bus, number)
        });
        put(device, state::handle(found.ok_or(NOT_FOUND)?))
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetHandleByPciBusId(
    bus_id: *const c_char,
    device: *mut usize,
) -> Return {
    nvmlDeviceGetHandleByPciBusId_v2(bus_id, device)
}

/// `[domain:]bus:device[.function]`, all hexadecimal: domain, bus, device.
fn parse(text: &str) -> Option<(u32, u32, u32)> {
    let (place, function) = text.split_once('.').unwrap_or((text, "0"));
    let number = |part: &str| u32::from_str_radix(part, 16).ok();
    number(function)?;
    let parts: Option<Vec<u32>> = place.split(':').map(number).collect();
    match parts?.as_slice() {
        [domain, bus, device] => Some((*domain, *bus, *device)),
        [bus, device] => Some((0, *bus, *device)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_the_bus_in_every_spelling() {
        for text in ["00000001:0a:1F.0", "1:0A:1f", "0001:0a:1f.0"] {
            assert_eq!(parse(text), Some((1, 0x0A, 0x1F)), "{text}");
        }
        assert_eq!(parse("0a:00.0"), Some((0, 0x0A, 0)));
        for text in ["", "x", "1:2:3:4", "1:2:3.x", "0a"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn both_texts_of_a_place() {
        let place = PciPlace {
            domain: 1,
            bus: 0xAB,
            device: 2,
            id: 7,
        };
        let info = info(place, 8);
        let text = |field: &[c_char]| -> String {
            let bytes = field.iter().map(|byte| byte.cast_unsigned());
            bytes
                .take_while(|byte| *byte != 0)
                .map(char::from)
                .collect()
        };
        assert_eq!(text(&info.second.first.bus_id), "0001:AB:02.0");
        assert_eq!(text(&info.bus_id), "00000001:AB:02.0");
        assert_eq!(
            (info.second.first.device_id, info.second.subsystem_id),
            (7, 8)
        );
    }
}
