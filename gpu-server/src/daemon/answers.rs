//! What is told of the server, its devices and its leases: to hellos that ask for a snapshot, and by the pool's service.
//!
//! Rules: a client that names its lease sees the devices as its slices, and of the programs on them only its own; leases and the queue are
//! told to their own tenant, and to operators; what is not known is not told.

use control_plane::{
    Check, CheckResult, LeasesReply, ListReply, PoolDevice, Program as LeaseProgram, SliceUsage,
    StatsReply, UsageReply, Waiting,
};
use protocol::hello::{
    self, Accepted, DeviceSnapshot, Hello, Identity, RefusalCode, Refused, ServerInfo,
};

use super::Daemon;
use super::handshake::{self, Client};
use super::usage::{self, Program};
use crate::pool::{Caller, Lease, LeaseError, LeaseId, Moment};

/// This machine's name.
pub(super) fn hostname() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// Who we are, for the client.
pub(super) fn server_info(devices: &super::Devices) -> ServerInfo {
    ServerInfo {
        host: hostname(),
        version: hello::RELEASE.to_owned(),
        device_kind: devices.kind.into(),
        driver_version: devices.report.driver_version,
        driver_release: String::new(),
    }
}

impl Daemon {
    /// Answers with the devices, all of them or those of a lease.
    pub(super) fn answer_snapshot(
        &mut self,
        client: Client,
        hello: &Hello,
        version: u32,
        caller: &Caller,
    ) {
        let seen = match self.seen(hello, caller) {
            Ok(seen) => seen,
            Err(refused) => return self.refuse(client, refused),
        };
        let mut accepted = Accepted {
            version,
            server: Some(server_info(&self.devices)),
            devices: seen.devices,
            ..Accepted::default()
        };
        if !hello.with_usage {
            tokio::spawn(handshake::reply(client, accepted.into()));
            return;
        }
        let report = self.usage.ask();
        let identity = hello.identity.as_ref();
        let namespace =
            identity.map_or_else(String::new, |identity| identity.process_namespace.clone());
        tokio::spawn(async move {
            let report = report.await;
            usage::describe(&mut accepted, report.as_deref(), &seen.programs, &namespace);
            for (device, free) in accepted.devices.iter_mut().zip(seen.free) {
                if let Some(usage) = &mut device.usage {
                    usage.free_memory = Some(free);
                }
            }
            handshake::reply(client, accepted.into()).await;
        });
    }

    /// What a client sees of the devices.
    fn seen(&self, hello: &Hello, caller: &Caller) -> Result<Seen, Refused> {
        if hello.lease.is_empty() {
            return Ok(Seen {
                devices: self.devices.report.devices.clone(),
                programs: self.workers.programs(|_| true),
                free: Vec::new(),
            });
        }
        let wrong = |code, message: String| hello::refusal(code, message);
        let id: LeaseId = hello
            .lease
            .parse()
            .map_err(|error: crate::pool::InvalidName| {
                wrong(RefusalCode::Lease, error.to_string())
            })?;
        let lease = self
            .lease_of(&id, caller)
            .map_err(|error| wrong(error.code(), error.to_string()))?;
        let device = |slice: &crate::pool::Slice| {
            let mut devices = self.devices.report.devices.iter();
            let device = devices.find(|device| device.uuid == slice.uuid)?;
            Some(DeviceSnapshot {
                total_memory: slice.memory,
                usable_memory: slice.memory,
                ..device.clone()
            })
        };
        Ok(Seen {
            devices: lease.slices.iter().filter_map(device).collect(),
            programs: self.workers.programs(|other| *other == id),
            free: self.leases.free_memory(&id),
        })
    }

    /// A lease that this caller may look at.
    fn lease_of(&self, id: &LeaseId, caller: &Caller) -> Result<&Lease, LeaseError> {
        let lease = self.leases.scheduler.lease(id);
        let lease = lease.filter(|lease| lease.ended.is_none());
        let lease = lease.ok_or_else(|| LeaseError::Unknown(id.clone()))?;
        if lease.belongs_to(caller) || caller.is_operator {
            return Ok(lease);
        }
        Err(LeaseError::Forbidden(id.clone()))
    }

    /// The server, its devices and what is free of them.
    pub(super) fn list(&self) -> ListReply {
        let scheduler = &self.leases.scheduler;
        let device = |free: crate::pool::Free| {
            let device = scheduler.capacity().device(free.ordinal)?;
            let mut snapshots = self.devices.report.devices.iter();
            let snapshot = snapshots.find(|other| other.uuid == device.uuid)?;
            Some(PoolDevice {
                device: Some(snapshot.clone()),
                usable_memory: device.usable_memory,
                free_memory: free.memory,
                free_compute: free.compute.fraction(),
                leases: free.leases,
                least_slice: device.least_slice,
            })
        };
        let server = ServerInfo {
            driver_release: scheduler.capacity().server.driver_release.clone(),
            ..server_info(&self.devices)
        };
        ListReply {
            server: Some(server),
            devices: scheduler.free().into_iter().filter_map(device).collect(),
            queued: u32::try_from(scheduler.waiting().len()).unwrap_or(u32::MAX),
            draining: scheduler.draining().is_some(),
            has_rdma: self.has_rdma,
        }
    }

    /// The leases and the queue, as far as they are this caller's to see.
    pub(super) fn leases_of(&self, caller: &Caller) -> LeasesReply {
        let scheduler = &self.leases.scheduler;
        let leases = scheduler.leases();
        let leases = leases.filter(|lease| caller.is_operator || lease.belongs_to(caller));
        let waiting = scheduler.waiting().iter();
        let waiting = waiting
            .filter(|waiting| caller.is_operator || waiting.ask.caller.tenant == caller.tenant)
            .map(|waiting| Waiting {
                tenant: waiting.ask.caller.tenant.to_string(),
                identity: Some(Identity::from(&waiting.ask.holder)),
                need: Some((&waiting.ask.need).into()),
                since_unix_ms: waiting.since.0,
                place: waiting.place.as_ref().map(Into::into),
            });
        LeasesReply {
            leases: leases.map(Into::into).collect(),
            waiting: waiting.collect(),
        }
    }

    /// One lease's devices and programs; how the whole devices are used comes a moment later.
    pub(super) fn usage_of(
        &self,
        id: &LeaseId,
        caller: &Caller,
    ) -> Result<impl Future<Output = UsageReply> + Send + use<>, LeaseError> {
        let lease = self.lease_of(id, caller)?;
        let compute = self.leases.used_compute(id);
        let memory = self.leases.used_memory(id);
        let sessions = self.workers.of_lease(id);
        let slices: Vec<SliceUsage> = lease
            .slices
            .iter()
            .enumerate()
            .map(|(index, slice)| SliceUsage {
                slice: Some(slice.into()),
                used_memory: memory.get(index).copied().unwrap_or(0),
                used_compute: compute.get(index).copied().unwrap_or(0.0),
                device: None,
                programs: sessions
                    .iter()
                    .map(|(session, identity)| LeaseProgram {
                        identity: Some(identity.clone()),
                        session: *session,
                        used_memory: self.leases.used_by(id, *session, index),
                    })
                    .collect(),
            })
            .collect();
        let mut reply = UsageReply {
            lease: Some(lease.into()),
            slices,
            driver_release: String::new(),
            driver_version: self.devices.report.driver_version,
        };
        let report = self.usage.ask();
        Ok(async move {
            let Some(report) = report.await else {
                return reply;
            };
            reply.driver_release.clone_from(&report.driver_release);
            for usage in &mut reply.slices {
                let ordinal = usage.slice.as_ref().map_or(0, |slice| slice.ordinal);
                let device = report.devices.get(ordinal as usize).cloned();
                // Whose processes are on the rest of the device is not this tenant's to know.
                usage.device = device.map(|device| protocol::hello::DeviceUsage {
                    processes: Vec::new(),
                    ..device
                });
            }
            reply
        })
    }

    /// What tenants have used.
    pub(super) fn stats_of(&self, caller: &Caller) -> StatsReply {
        let meter = self.books.meter();
        let usage = meter.usage(Moment::now());
        let usage = usage
            .iter()
            .filter(|(tenant, _)| caller.is_operator || **tenant == caller.tenant);
        StatsReply {
            tenants: usage
                .map(|(tenant, totals)| totals.to_message(tenant))
                .collect(),
            since_unix_ms: meter.since().0,
        }
    }

    /// What the server finds when it looks at itself.
    pub(super) fn health(&self) -> control_plane::HealthReply {
        let check = |name: &str, is_good: bool, finding: String, advice: &str| Check {
            name: name.to_owned(),
            result: match is_good {
                true => CheckResult::Good.into(),
                false => CheckResult::Warning.into(),
            },
            finding,
            advice: if is_good {
                String::new()
            } else {
                advice.to_owned()
            },
        };
        let devices = self.devices.report.devices.len();
        let is_draining = self.leases.scheduler.draining().is_some();
        let is_stored = self.config.state.is_some();
        let mut checks = vec![
            check(
                "devices",
                true,
                format!(
                    "{devices} of kind {}",
                    super::devices::name(self.devices.kind)
                ),
                "",
            ),
            check(
                "leases",
                !is_draining,
                match is_draining {
                    true => "the server is draining: it gives no new leases".to_owned(),
                    false => format!("{} given", self.leases.scheduler.leases().count()),
                },
                "an operator ends that with gpurun drain --undo",
            ),
            check(
                "state",
                is_stored,
                match &self.config.state {
                    Some(path) => format!("kept in {}", path.display()),
                    None => "not kept: a restart of the server ends all leases".to_owned(),
                },
                "name a directory: state = '/var/lib/gpurun' in server.toml",
            ),
            check(
                "encryption",
                self.security.acceptor().is_some(),
                match self.security.acceptor() {
                    Some(_) => "TLS is served".to_owned(),
                    None => {
                        "there is no certificate: only this machine is served safely".to_owned()
                    }
                },
                "gpu-server init makes one",
            ),
        ];
        checks.push(self.rdma_check());
        control_plane::HealthReply { checks }
    }

    fn rdma_check(&self) -> Check {
        let finding = match (self.has_rdma, self.config.rdma.refusal) {
            (true, _) => "served; what travels so is not encrypted".to_owned(),
            (false, Some(refusal)) => refusal.to_owned(),
            (false, None) => "there is no RDMA device, or rdma-core is not installed".to_owned(),
        };
        let locked = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        const ENOUGH: u64 = 1 << 30;
        let is_bound = self.has_rdma && locked.is_some_and(|bytes| bytes < ENOUGH);
        Check {
            name: "rdma".to_owned(),
            result: match is_bound {
                true => CheckResult::Warning.into(),
                false => CheckResult::Good.into(),
            },
            finding: match locked.filter(|_| is_bound) {
                Some(bytes) => format!("{finding}; only {bytes} bytes may be locked in memory"),
                None => finding,
            },
            advice: match is_bound {
                true => "LimitMEMLOCK=infinity in the server's unit".to_owned(),
                false => String::new(),
            },
        }
    }
}

/// What a client sees of the devices.
struct Seen {
    devices: Vec<DeviceSnapshot>,
    programs: Vec<Program>,
    /// Bytes that are free of each slice; nothing where whole devices are seen.
    free: Vec<u64>,
}
