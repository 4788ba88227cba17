//! What travels: every request and reply is its own encoding, and the shapes are those of `wire.lock`.

use std::path::Path;

use driver_api::ROWS;
use driver_api::wire::{DecodeError, Request, RequestVisitor, decode, visit_requests};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use zerocopy::{FromBytes, IntoBytes};

/// Encodes and decodes random values of each type.
struct RoundTrips {
    runner: TestRunner,
    requests: usize,
}

impl RequestVisitor for RoundTrips {
    fn visit<R: Request + PartialEq + std::fmt::Debug>(&mut self)
    where
        R::Reply: PartialEq + std::fmt::Debug,
    {
        self.requests += 1;
        assert_eq!(ROWS[R::ROW].number, R::NUMBER);
        let sizes = (size_of::<R>(), size_of::<R::Reply>());
        let bytes = (
            prop::collection::vec(any::<u8>(), sizes.0),
            prop::collection::vec(any::<u8>(), sizes.1),
            any::<prop::sample::Index>(),
        );
        let outcome = self.runner.run(&bytes, |(request, reply, cut)| {
            let decoded: R = decode(&request).expect("exactly its size");
            prop_assert_eq!(decoded.as_bytes(), &request[..]);
            let decoded = R::Reply::read_from_bytes(&reply).expect("exactly its size");
            prop_assert_eq!(decoded.as_bytes(), &reply[..]);
            if !request.is_empty() {
                let short = decode::<R>(&request[..cut.index(request.len())]);
                let refused = matches!(short, Err(DecodeError::TooShort { .. }));
                prop_assert!(refused, "a part was taken for the whole");
            }
            let long = [&request[..], &[0]].concat();
            let refused = matches!(
                decode::<R>(&long),
                Err(DecodeError::TooLong { excess: 1, .. })
            );
            prop_assert!(refused, "a byte too many was taken");
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", ROWS[R::ROW].name));
    }
}

#[test]
fn every_request_and_reply_is_its_own_encoding() {
    let config = ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..Default::default()
    };
    let mut visitor = RoundTrips {
        runner: TestRunner::new(config),
        requests: 0,
    };
    visit_requests(&mut visitor);
    assert!(visitor.requests > 30);
}

#[test]
fn fields_are_little_endian_in_the_order_of_the_row() {
    use driver_api::id::StreamId;
    use driver_api::wire::request::GpurunMark;
    let mark = GpurunMark::new(StreamId(0x0102_0304), 1, 0x1112_1314_1516_1718);
    let expected = [
        4, 3, 2, 1, 1, 0, 0, 0, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
    ];
    assert_eq!(mark.as_bytes(), expected);
    assert_eq!(
        (mark.stream(), mark.mark()),
        (StreamId(0x0102_0304), 0x1112_1314_1516_1718)
    );
}

/// `GPURUN_BLESS=1 cargo test -p driver-api --test wire` writes the file anew.
#[test]
fn shapes_are_those_of_the_lock() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock = manifest.join("wire.lock");
    let shapes = driver_api_generator::wire_lock(&manifest.join("spec")).expect("it built");
    if std::env::var_os("GPURUN_BLESS").is_some() {
        std::fs::write(&lock, &shapes).expect("the source tree can be written");
    }
    let locked = std::fs::read_to_string(&lock).unwrap_or_default();
    assert_eq!(
        shapes, locked,
        "the wire has changed: see CONTRIBUTING.md, `Changing the wire`"
    );
}
