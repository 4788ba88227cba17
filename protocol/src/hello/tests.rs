use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::io::Cursor;

fn device() -> DeviceSnapshot {
    DeviceSnapshot {
        name: "Device".to_owned(),
        uuid: vec![7; UUID_BYTES],
        attributes: (1..150).map(|id| (id, i32::MAX)).collect(),
        ..DeviceSnapshot::default()
    }
}

fn accepted() -> Accepted {
    Accepted {
        version: 1,
        server: Some(ServerInfo::default()),
        devices: vec![device()],
        ..Accepted::default()
    }
}

fn hello(oldest: u32, newest: u32) -> Hello {
    Hello {
        oldest_version: oldest,
        newest_version: newest,
        ..Hello::new(Intent::Session)
    }
}

#[test]
fn reading_takes_exactly_the_message() {
    let sent = Hello::new(Intent::Session);
    let mut bytes = Vec::new();
    write(&mut bytes, &sent).expect("well-formed");
    bytes.extend_from_slice(b"frames");
    let mut stream = Cursor::new(bytes);
    assert_eq!(read::<Hello>(&mut stream).expect("well-formed"), sent);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "frames");
}

#[test]
fn the_newest_common_version_is_chosen() {
    assert_eq!(choose_among(&hello(1, 3), 2, 5), Ok(3));
    assert_eq!(choose_among(&hello(2, 9), 1, 4), Ok(4));
    assert_eq!(choose_among(&hello(4, 4), 4, 4), Ok(4));
    let refused = choose_among(&hello(1, 2), 3, 4).expect_err("nothing in common");
    assert_eq!(refused.code(), RefusalCode::Version);
    assert!(refused.message.contains("speaks 1 to 2") && refused.message.contains("3 to 4"));
    assert_eq!(
        choose_version(&Hello::new(Intent::Session)),
        Ok(NEWEST_VERSION)
    );
}

#[test]
fn other_shapes_are_refused_with_both_releases_named() {
    let mut hello = hello(1, 1);
    hello.shape_hash = vec![1, 2];
    hello.client_version = "9.8.7".to_owned();
    assert_eq!(check_shape(&hello, &[1, 2]), Ok(()));
    let refused = check_shape(&hello, &[1, 3]).expect_err("other shapes");
    assert!(refused.message.contains("9.8.7") && refused.message.contains(RELEASE));
}

#[test]
fn sixty_four_devices_fit() {
    let devices = (0..64).map(|_| device()).collect();
    let reply = HelloReply::from(Accepted {
        devices,
        ..accepted()
    });
    // Attributes of real devices are mostly small numbers; these are the largest.
    let length = reply.encoded_len();
    assert!(length < 2 * MAX_HELLO_BYTES, "{length} bytes");
    let devices = (0..16).map(|_| device()).collect();
    let reply = HelloReply::from(Accepted {
        devices,
        ..accepted()
    });
    assert!(encode(&reply).is_ok());
}

/// An end of a connection by RDMA that is well-formed.
fn rdma_end() -> RdmaEnd {
    let pair = Some(RdmaQueuePair {
        number: 17,
        first_packet: 12_345,
    });
    RdmaEnd {
        gid: vec![7; 16],
        mtu: 3,
        outgoing: pair,
        incoming: pair,
        ring_address: 0x7000_0000_0000,
        ring_key: 0x1234_5678,
        ring_bytes: 1 << 20,
        slots: 128,
        reading: pair,
        reads: 16,
    }
}

#[test]
fn rules_are_checked() {
    let malformed = |change: &dyn Fn(&mut Hello)| {
        let mut hello = hello(1, 1);
        change(&mut hello);
        let bytes = hello.encode_to_vec();
        match decode::<Hello>(&bytes) {
            Err(HelloError::Malformed(what)) => what,
            other => panic!("{other:?}"),
        }
    };
    malformed(&|hello| hello.oldest_version = 2);
    malformed(&|hello| hello.intent = 0);
    malformed(&|hello| hello.intent = 77);
    malformed(&|hello| hello.shape_hash = vec![0; MAX_SHAPE_HASH_BYTES + 1]);
    malformed(&|hello| hello.client_version = "x".repeat(MAX_STRING_BYTES + 1));
    malformed(&|hello| hello.windows = vec![Window { base: 1, size: 1 }; MAX_WINDOWS + 1]);
    malformed(&|hello| {
        hello.windows = vec![Window {
            base: u64::MAX,
            size: 2,
        }]
    });
    malformed(&|hello| {
        hello.windows = vec![Window {
            base: 4096,
            size: 0,
        }]
    });
    malformed(&|hello| {
        hello.environment = (0..=MAX_ENVIRONMENT)
            .map(|n| (n.to_string(), String::new()))
            .collect();
    });
    malformed(&|hello| {
        hello.devices = Some(DeviceRequest {
            memory_fraction: f64::NAN,
            ..DeviceRequest::default()
        });
    });
    let end = |change: &dyn Fn(&mut RdmaEnd)| {
        let mut end = rdma_end();
        change(&mut end);
        let hello = Hello {
            rdma: Some(end),
            ..hello(1, 1)
        };
        decode::<Hello>(&hello.encode_to_vec())
    };
    assert!(end(&|_| ()).is_ok());
    assert!(end(&|end| (end.reading, end.reads) = (None, 0)).is_ok());
    let wrong: [&dyn Fn(&mut RdmaEnd); 4] = [
        &|end| end.reads = 0,
        &|end| end.reads = 256,
        &|end| end.incoming = None,
        &|end| {
            end.reading = Some(RdmaQueuePair {
                number: 1 << 24,
                first_packet: 0,
            });
        },
    ];
    for change in wrong {
        assert!(matches!(end(change), Err(HelloError::Malformed(_))));
    }
    let mut reply = accepted();
    reply.devices[0].uuid.pop();
    assert!(matches!(
        encode(&HelloReply::from(reply)),
        Err(HelloError::Malformed(_))
    ));
    assert!(matches!(
        encode(&HelloReply::default()),
        Err(HelloError::Malformed(_))
    ));
}

#[test]
fn other_protocols_and_giants_are_refused() {
    let mut http = Cursor::new(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    assert!(matches!(read::<Hello>(&mut http), Err(HelloError::NotOurs)));
    let mut giant = MAGIC.to_vec();
    giant.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        read::<Hello>(&mut Cursor::new(giant)),
        Err(HelloError::TooLong { .. })
    ));
    assert!(matches!(
        read::<Hello>(&mut Cursor::new(vec![])),
        Err(HelloError::Closed)
    ));
}

#[test]
fn what_is_asked_of_a_process_is_bounded_and_goes_with_its_intent() {
    let pair = DevicePair {
        old: vec![1; UUID_BYTES],
        new: vec![2; UUID_BYTES],
    };
    let asked = Checkpoint {
        operation: CheckpointOperation::Restore.into(),
        pairs: vec![pair.clone(); MAX_DEVICES],
        ..Checkpoint::default()
    };
    let hello = |checkpoint: Option<Checkpoint>| Hello {
        checkpoint,
        ..Hello::new(Intent::Checkpoint)
    };
    assert!(encode(&hello(Some(asked.clone()))).is_ok());
    let mut long = asked.clone();
    long.pairs.push(pair);
    let mut short = asked.clone();
    short.pairs[0].new.pop();
    let unspecified = Checkpoint {
        operation: 99,
        ..asked.clone()
    };
    for wrong in [None, Some(long), Some(short), Some(unspecified)] {
        let encoded = encode(&hello(wrong));
        assert!(matches!(encoded, Err(HelloError::Malformed(_))));
    }
    let session = Hello {
        checkpoint: Some(asked),
        ..Hello::new(Intent::Session)
    };
    assert!(matches!(encode(&session), Err(HelloError::Malformed(_))));
    for intent in [0, 4, -1] {
        let unknown = Hello {
            intent,
            ..Hello::new(Intent::Session)
        };
        assert!(matches!(encode(&unknown), Err(HelloError::Malformed(_))));
    }
}

#[test]
fn refusals_are_cut_at_a_character() {
    let refused = refusal(RefusalCode::Internal, "é".repeat(MAX_STRING_BYTES));
    assert_eq!(refused.message.len(), MAX_STRING_BYTES);
}

proptest! {
    #[test]
    fn hellos_come_back(
        oldest in 0_u32..5, more in 0_u32..5, hash in vec(any::<u8>(), 0..=MAX_SHAPE_HASH_BYTES),
        environment in btree_map("[A-Z_]{1,20}", ".{0,40}", 0..20), snapshot: bool, bases in vec(any::<u32>(), 0..8),
    ) {
        let sent = Hello {
            shape_hash: hash,
            environment,
            windows: bases.into_iter().map(|base| Window { base: base.into(), size: 4096 }).collect(),
            intent: if snapshot { Intent::Snapshot } else { Intent::Session }.into(),
            ..hello(oldest, oldest + more)
        };
        let bytes = encode(&sent).expect("well-formed");
        prop_assert_eq!(read::<Hello>(&mut Cursor::new(bytes)).expect("well-formed"), sent);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = decode::<Hello>(&bytes);
        let _ = decode::<HelloReply>(&bytes);
        let _ = decode::<ProbeReport>(&bytes);
        let _ = read::<Hello>(&mut Cursor::new(&bytes));
        let mut ours = MAGIC.to_vec();
        ours.extend_from_slice(&u32::try_from(bytes.len()).expect("short").to_le_bytes());
        ours.extend_from_slice(&bytes);
        let _ = read::<HelloReply>(&mut Cursor::new(&ours));
    }

    #[test]
    fn cut_hellos_are_closed(keep in 0_usize..40) {
        let mut bytes = encode(&Hello::new(Intent::Session)).expect("well-formed");
        bytes.truncate(keep.min(bytes.len() - 1));
        let result = read::<Hello>(&mut Cursor::new(bytes));
        prop_assert!(matches!(result, Err(HelloError::Closed)));
    }
}

fn usage(readings: usize, links: usize, processes: usize) -> DeviceUsage {
    let link = NvLink {
        number: 17,
        active: true,
        version: Some(7),
        capabilities: 63,
        remote_type: Some(255),
        remote: Some(PciPlace {
            domain: 0xFFFF,
            bus: 255,
            device: 31,
            id: u32::MAX,
        }),
    };
    DeviceUsage {
        free_memory: Some(u64::MAX),
        readings: (0..)
            .take(readings)
            .map(|id| (id, u64::from(u32::MAX)))
            .collect(),
        processes: vec![
            ProcessUsage {
                process: u32::MAX,
                memory: Some(1 << 40),
            };
            processes
        ],
        serial: "0123456789012".to_owned(),
        links: vec![link; links],
    }
}

/// What is bounded over all devices is the first one's.
fn used(devices: usize, readings: usize, links: usize, processes: usize) -> HelloReply {
    let device = |index| {
        let (links, processes) = if index == 0 {
            (links, processes)
        } else {
            (0, 0)
        };
        DeviceSnapshot {
            attributes: Default::default(),
            usage: Some(usage(readings, links, processes)),
            ..device()
        }
    };
    HelloReply::from(Accepted {
        devices: (0..devices).map(device).collect(),
        ..accepted()
    })
}

#[test]
fn the_usage_of_sixty_four_devices_fits() {
    let bytes =
        encode(&used(MAX_DEVICES, 44, MAX_USAGE_LINKS, MAX_USAGE_PROCESSES)).expect("it fits");
    let reply: HelloReply = decode(&bytes[PREAMBLE_BYTES..]).expect("well-formed");
    let Some(Answer::Accepted(accepted)) = reply.answer else {
        panic!("accepted");
    };
    let last = accepted
        .devices
        .last()
        .and_then(|device| device.usage.clone());
    assert_eq!(last, Some(usage(44, 0, 0)));
}

#[test]
fn usage_is_bounded() {
    for (reply, what) in [
        (
            used(1, MAX_READINGS + 1, 0, 0),
            "a hello with too many readings",
        ),
        (
            used(1, 1, 0, MAX_USAGE_PROCESSES + 1),
            "a hello with too many processes",
        ),
        (
            used(1, 1, MAX_USAGE_LINKS + 1, 0),
            "a hello with too many links",
        ),
    ] {
        assert_eq!(encode(&reply).expect_err(what).to_string(), what);
        let bytes = reply.encode_to_vec();
        assert!(decode::<HelloReply>(&bytes).is_err(), "{what}");
    }
    let report = UsageReport {
        devices: vec![
            usage(1, 0, MAX_USAGE_PROCESSES / 2),
            usage(1, 0, MAX_USAGE_PROCESSES / 2 + 1),
        ],
        ..UsageReport::default()
    };
    assert!(encode(&report).is_err(), "all devices together");
}

#[test]
fn a_process_knows_where_its_number_means_something() {
    let namespace = Identity::of_this_process().process_namespace;
    assert!(namespace.contains("pid:["), "{namespace}");
    assert_eq!(namespace, Identity::of_this_process().process_namespace);
}
