//! What a device's sensors and counters say: as the server's driver says it, or not supported.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use core::ffi::c_uint;

use protocol::hello::Reading;
use protocol::nvml::{CLOCKS, ECC_COUNTERS};

use crate::answer::{get, guarded, put};
use crate::layout::{
    ARGUMENT_VERSION_MISMATCH, INVALID_ARGUMENT, NO_NUMBER, NOT_SUPPORTED, Return, TemperatureV1,
    Utilization, version_of,
};
use crate::state::with_usage;

/// What the sensor says, if the device has it.
fn read(device: usize, reading: Reading) -> Result<u64, Return> {
    with_usage(device, |_, usage| {
        usage.reading(reading).ok_or(NOT_SUPPORTED)
    })
}

fn number(value: u64) -> c_uint {
    c_uint::try_from(value).unwrap_or(NO_NUMBER)
}

macro_rules! numbers {
    ($($name:ident => $reading:ident,)*) => {$(
        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $name(device: usize, value: *mut c_uint) -> Return {
            guarded(|| put(value, number(read(device, Reading::$reading)?)))
        }
    )*};
}
protocol::for_each_nvml_number!(numbers);

macro_rules! pairs {
    ($($name:ident => $first:ident, $second:ident;)*) => {$(
        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $name(device: usize, first: *mut c_uint, second: *mut c_uint) -> Return {
            guarded(|| {
                let values = [read(device, Reading::$first)?, read(device, Reading::$second)?];
                put(first, number(values[0]))?;
                put(second, number(values[1]))
            })
        }
    )*};
}
protocol::for_each_nvml_pair!(pairs);

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetUtilizationRates(
    device: usize,
    rates: *mut Utilization,
) -> Return {
    guarded(|| {
        let gpu = number(read(device, Reading::GpuUtilization)?);
        let memory = number(read(device, Reading::MemoryUtilization)?);
        put(rates, Utilization { gpu, memory })
    })
}

/// `NVML_TEMPERATURE_GPU`, the only sensor that nvml.h names.
const GPU_SENSOR: c_uint = 0;

fn temperature(device: usize, sensor: c_uint) -> Result<c_uint, Return> {
    if sensor != GPU_SENSOR {
        return Err(INVALID_ARGUMENT);
    }
    Ok(number(read(device, Reading::Temperature)?))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetTemperature(
    device: usize,
    sensor: c_uint,
    degrees: *mut c_uint,
) -> Return {
    guarded(|| put(degrees, temperature(device, sensor)?))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetTemperatureV(
    device: usize,
    reading: *mut TemperatureV1,
) -> Return {
    guarded(|| {
        let version = get(reading.cast_const().cast())?;
        if version != version_of::<TemperatureV1>(1) {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let sensor = get(reading.cast_const().cast::<c_uint>().wrapping_add(1))?;
        put(
            reading,
            TemperatureV1 {
                version,
                sensor,
                temperature: temperature(device, sensor)?.cast_signed(),
            },
        )
    })
}

fn clock(kind: c_uint) -> Result<(Reading, Reading), Return> {
    CLOCKS.get(kind as usize).copied().ok_or(INVALID_ARGUMENT)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetClockInfo(
    device: usize,
    kind: c_uint,
    mhz: *mut c_uint,
) -> Return {
    guarded(|| put(mhz, number(read(device, clock(kind)?.0)?)))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetMaxClockInfo(
    device: usize,
    kind: c_uint,
    mhz: *mut c_uint,
) -> Return {
    guarded(|| put(mhz, number(read(device, clock(kind)?.1)?)))
}

/// The first fan's speed, or all fans' where there is no telling them apart.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetFanSpeed_v2(
    device: usize,
    fan: c_uint,
    percent: *mut c_uint,
) -> Return {
    guarded(|| match fan {
        0 => put(percent, number(read(device, Reading::FanSpeed)?)),
        _ => Err(INVALID_ARGUMENT),
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    device: usize,
    millijoules: *mut u64,
) -> Return {
    guarded(|| put(millijoules, read(device, Reading::TotalEnergy)?))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: usize,
    kind: c_uint,
    counter: c_uint,
    count: *mut u64,
) -> Return {
    guarded(|| {
        let row = ECC_COUNTERS
            .iter()
            .find(|row| (row.0, row.1) == (kind, counter));
        let (_, _, reading) = row.ok_or(INVALID_ARGUMENT)?;
        put(count, read(device, *reading)?)
    })
}
