//! What stands now, written down whenever somebody asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use protocol::hello::{RELEASE, Reading, UsageReport};

use crate::pool::meter::Totals;
use crate::pool::{Scheduler, Tenant};

/// A device of the pool.
#[derive(Debug)]
pub(super) struct DeviceView {
    ordinal: u32,
    uuid: String,
    name: String,
    total_memory: u64,
    usable_memory: u64,
    leased_memory: u64,
    leased_compute: f64,
    slices: u32,
}

/// What a monitor has measured of a device.
#[derive(Debug)]
pub(super) struct Measured {
    free_memory: Option<u64>,
    utilization: Option<f64>,
}

/// What stands now.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) devices: Vec<DeviceView>,
    /// In the order of the devices.
    pub(super) measured: Vec<Measured>,
    pub(super) leases: BTreeMap<String, u64>,
    pub(super) sessions: BTreeMap<String, u64>,
    pub(super) usage: BTreeMap<String, Totals>,
    pub(super) queue_length: usize,
    pub(super) is_draining: bool,
}

/// The view, for who tells it and who writes it down.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<View>);

impl Shown {
    pub(super) fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The devices of a pool, and what is leased of them.
pub(super) fn devices(scheduler: &Scheduler) -> Vec<DeviceView> {
    let free = scheduler.free();
    let devices = scheduler.capacity().devices.iter();
    let views = devices.map(|device| {
        let free = free.iter().find(|free| free.ordinal == device.ordinal);
        let (memory, compute, slices) = free.map_or((0, 0.0, 0), |free| {
            (free.memory, free.compute.fraction(), free.leases)
        });
        DeviceView {
            ordinal: device.ordinal,
            uuid: data_encoding::HEXLOWER.encode(&device.uuid),
            name: device.name.clone(),
            total_memory: device.total_memory,
            usable_memory: device.usable_memory,
            leased_memory: device.usable_memory.saturating_sub(memory),
            leased_compute: 1.0 - compute,
            slices,
        }
    });
    views.collect()
}

/// What a report says of each device.
pub(super) fn measured(report: &UsageReport) -> Vec<Measured> {
    let devices = report.devices.iter().map(|device| Measured {
        free_memory: device.free_memory,
        utilization: device
            .reading(Reading::GpuUtilization)
            .and_then(|percent| u32::try_from(percent).ok())
            .map(|percent| f64::from(percent) / 100.0),
    });
    devices.collect()
}

impl Totals {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            leased: self.leased.saturating_add(other.leased),
            used: self.used.saturating_add(other.used),
            memory: self.memory.saturating_add(other.memory),
            leases: self.leases.saturating_add(other.leases),
            sessions: self.sessions.saturating_add(other.sessions),
        }
    }
}

/// Writes families of values.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ([(&'static str, String); N], f64)>,
    ) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            encoder.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        encoder.encode_gauge(&value)
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ([(&'static str, String); N], f64)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            encoder
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, f64, f64>(&value, None)?;
        }
        Ok(())
    }
}

fn by_tenant<'a, T>(
    values: &'a BTreeMap<String, T>,
    value: impl Fn(&T) -> f64 + 'a,
) -> impl Iterator<Item = ([(&'static str, String); 1], f64)> + 'a {
    values
        .iter()
        .map(move |(tenant, of)| ([("tenant", tenant.clone())], value(of)))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
const fn number(value: u64) -> f64 {
    value as f64
}

impl View {
    fn of_devices(&self, out: &mut Writer<'_>) -> fmt::Result {
        let by_device = |value: fn(&DeviceView) -> f64| {
            let devices = self.devices.iter();
            devices.map(move |device| ([("device", device.ordinal.to_string())], value(device)))
        };
        let infos = self.devices.iter().map(|device| {
            let labels = [
                ("device", device.ordinal.to_string()),
                ("uuid", device.uuid.clone()),
                ("name", device.name.clone()),
            ];
            (labels, 1.0)
        });
        out.gauges("device_info", "Which device it is", infos)?;
        out.gauges(
            "device_memory_bytes",
            "Memory of the device",
            by_device(|device| number(device.total_memory)),
        )?;
        out.gauges(
            "device_usable_memory_bytes",
            "Memory that slices can be made of",
            by_device(|device| number(device.usable_memory)),
        )?;
        out.gauges(
            "device_leased_memory_bytes",
            "Memory that leases have",
            by_device(|device| number(device.leased_memory)),
        )?;
        out.gauges(
            "device_leased_compute_ratio",
            "Part of the compute time that leases have",
            by_device(|device| device.leased_compute),
        )?;
        out.gauges(
            "device_slices",
            "Slices of the device",
            by_device(|device| device.slices.into()),
        )?;
        self.of_measurements(out)
    }

    fn of_measurements(&self, out: &mut Writer<'_>) -> fmt::Result {
        let both = || self.devices.iter().zip(&self.measured);
        let label = |device: &DeviceView| [("device", device.ordinal.to_string())];
        let used = both().filter_map(|(device, measured)| {
            let used = device.total_memory.saturating_sub(measured.free_memory?);
            Some((label(device), number(used)))
        });
        out.gauges(
            "device_used_memory_bytes",
            "Memory that is in use, as the driver says",
            used,
        )?;
        let utilization =
            both().filter_map(|(device, measured)| Some((label(device), measured.utilization?)));
        out.gauges(
            "device_utilization_ratio",
            "Part of the time in which kernels ran, as the driver says",
            utilization,
        )
    }

    fn of_usage(&self, out: &mut Writer<'_>) -> fmt::Result {
        let whole = |totals: &Totals| totals.to_message(&Tenant::local());
        out.counters(
            "leased_gpu_seconds",
            "Compute that tenants have leased: part of a device times time",
            by_tenant(&self.usage, move |totals| whole(totals).leased_gpu_seconds),
        )?;
        out.counters(
            "used_gpu_seconds",
            "Device time that kernels of tenants have used, where it is measured",
            by_tenant(&self.usage, move |totals| whole(totals).used_gpu_seconds),
        )?;
        out.counters(
            "leased_gib_hours",
            "Memory that tenants have leased",
            by_tenant(&self.usage, move |totals| whole(totals).leased_gib_hours),
        )
    }
}

impl Collector for Shown {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = self.lock();
        let mut out = Writer(encoder);
        let release = std::iter::once(([("release", RELEASE.to_owned())], 1.0));
        out.gauges("server_info", "Which release it is", release)?;
        view.of_devices(&mut out)?;
        out.gauges(
            "leases",
            "Leases that are not over",
            by_tenant(&view.leases, |count| number(*count)),
        )?;
        out.gauges(
            "sessions",
            "Sessions of leases",
            by_tenant(&view.sessions, |count| number(*count)),
        )?;
        let length = u32::try_from(view.queue_length).unwrap_or(u32::MAX);
        out.gauge("queue_length", "Requests that wait", length.into())?;
        let draining = f64::from(u8::from(view.is_draining));
        out.gauge("draining", "Whether no new lease is given", draining)?;
        view.of_usage(&mut out)
    }
}
