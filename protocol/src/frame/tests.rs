use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn call_strategy() -> impl Strategy<Value = (CallRecord, Vec<u8>)> {
    (
        any::<u16>(),
        0_u16..4,
        any::<u32>(),
        any::<u32>(),
        vec(any::<u8>(), 0..200),
    )
        .prop_map(|(number, bits, thread, context, body)| {
            let call = CallRecord {
                number,
                flags: CallFlags::from_bits(bits).expect("known flags"),
                length: u32::try_from(body.len()).expect("short"),
                thread,
                context,
            };
            (call, body)
        })
}

fn header_strategy() -> impl Strategy<Value = FrameHeader> {
    (0_usize..8, any::<[u64; 4]>(), any::<u32>()).prop_map(|(kind, words, length)| {
        let kind = FrameKind::ALL[kind];
        let most = u32::try_from(kind.max_payload_bytes()).expect("small") + 1;
        FrameHeader {
            length: length % most,
            kind,
            sequence: words[0],
            acknowledged: words[1],
            argument: words[2],
            offset: words[3],
        }
    })
}

proptest! {
    #[test]
    fn headers_come_back(header in header_strategy()) {
        let wire = header.to_wire();
        let bytes: [u8; HEADER_BYTES] = zerocopy::transmute!(wire);
        let again = WireHeader::read_from_bytes(&bytes).expect("40 bytes");
        prop_assert_eq!(FrameHeader::from_wire(&again), Ok(header));
    }

    #[test]
    fn random_headers_never_panic(bytes: [u8; HEADER_BYTES]) {
        let wire = WireHeader::read_from_bytes(&bytes).expect("40 bytes");
        if let Ok(header) = FrameHeader::from_wire(&wire) {
            prop_assert!(header.length as usize <= header.kind.max_payload_bytes());
        }
    }

    #[test]
    fn calls_come_back(calls in vec(call_strategy(), 0..40)) {
        let mut buffer = RecordBuffer::new();
        for (call, body) in &calls {
            buffer.push_call(call, |bytes| bytes.extend_from_slice(body)).expect("fits");
            prop_assert_eq!(buffer.len() % RECORD_ALIGNMENT, 0);
        }
        prop_assert_eq!(buffer.records(), calls.len());
        let read: Vec<_> = Calls::new(buffer.as_bytes())
            .map(|item| item.map(|(call, body)| (call, body.to_vec())))
            .collect::<Result<_, _>>()
            .expect("what was written");
        prop_assert_eq!(read, calls);
    }

    #[test]
    fn random_payloads_never_panic(payload in vec(any::<u8>(), 0..300)) {
        prop_assert!(Calls::new(&payload).count() <= 19);
        prop_assert!(Replies::new(&payload).count() <= 19);
        prop_assert!(Completions::new(&payload).count() <= 19);
    }

    #[test]
    fn cut_payloads_are_errors(call in call_strategy(), cut in 1_usize..16) {
        let mut buffer = RecordBuffer::new();
        buffer.push_parts(&call.0, &[&call.1]).expect("fits");
        let payload = &buffer.as_bytes()[..buffer.len() - cut];
        let items: Vec<_> = Calls::new(payload).collect();
        if payload.is_empty() {
            prop_assert!(items.is_empty());
        } else {
            prop_assert_eq!(items.len(), 1);
            let is_cut = matches!(items[0], Err(FrameError::RecordCut { .. }));
            prop_assert!(is_cut);
        }
    }
}

#[test]
fn replies_and_completions_come_back() {
    let reply = ReplyRecord {
        call: 7,
        result: 0,
        length: 3,
    };
    let failed = ReplyRecord {
        call: 8,
        result: 2,
        length: 0,
    };
    let mut buffer = RecordBuffer::with_capacity(64);
    buffer.push_parts(&reply, &[b"a", b"bc"]).expect("fits");
    buffer.push_parts(&failed, &[]).expect("fits");
    let items: Vec<_> = Replies::new(buffer.as_bytes()).collect();
    assert_eq!(items, [Ok((reply, &b"abc"[..])), Ok((failed, &b""[..]))]);

    let done = CompletionRecord {
        stream: 3,
        result: 700,
        mark: u64::MAX,
    };
    buffer.clear();
    assert!(buffer.is_empty());
    buffer.push_parts(&done, &[]).expect("fits");
    let items: Vec<_> = Completions::new(buffer.as_bytes()).collect();
    assert_eq!(items, [Ok((done, &b""[..]))]);
}

#[test]
fn headers_that_break_a_rule_are_refused() {
    let good: [u8; HEADER_BYTES] =
        zerocopy::transmute!(FrameHeader::new(FrameKind::Goodbye).to_wire());
    let refused = |place: usize, value: u8| {
        let mut bytes = good;
        bytes[place] = value;
        FrameHeader::from_wire(&WireHeader::read_from_bytes(&bytes).expect("40 bytes"))
    };
    assert_eq!(refused(4, 0), Err(FrameError::UnknownKind(0)));
    assert_eq!(refused(4, 9), Err(FrameError::UnknownKind(9)));
    assert_eq!(refused(5, 1), Err(FrameError::ReservedBits));
    assert_eq!(refused(7, 128), Err(FrameError::ReservedBits));
    assert!(matches!(refused(3, 255), Err(FrameError::TooLong { .. })));
    assert!(matches!(
        refused(2, 1),
        Err(FrameError::TooLong {
            most: MAX_TEXT_BYTES,
            ..
        })
    ));
}

#[test]
fn records_that_break_a_rule_are_refused() {
    assert_eq!(
        CallFlags::from_bits(4),
        Err(FrameError::UnknownCallFlags(4))
    );
    let reply = ReplyRecord {
        call: 1,
        result: 0,
        length: 0,
    };
    let mut bytes = reply.to_wire(8).to_vec();
    bytes.extend_from_slice(&[0; 8]);
    bytes[8] = 1;
    assert_eq!(
        Replies::new(&bytes).next(),
        Some(Err(FrameError::BodyOfError {
            result: 1,
            length: 8
        }))
    );
    let long = reply.to_wire(u32::MAX);
    let mut records = Replies::new(&long);
    assert!(matches!(
        records.next(),
        Some(Err(FrameError::RecordTooLong { .. }))
    ));
    assert!(records.next().is_none());
}

#[test]
fn a_buffer_refuses_what_does_not_fit_and_stays_as_it_was() {
    let call = CallRecord {
        number: 1,
        flags: CallFlags::NONE,
        length: 0,
        thread: 1,
        context: 0,
    };
    let body = vec![1; MAX_CALL_BYTES];
    let mut buffer = RecordBuffer::new();
    while buffer.fits(body.len()) {
        buffer.push_parts(&call, &[&body]).expect("fits");
    }
    let (before, records) = (buffer.len(), buffer.records());
    assert_eq!(
        buffer.push_parts(&call, &[&body]),
        Err(DoesNotFit {
            body_bytes: MAX_CALL_BYTES
        })
    );
    assert!(
        buffer
            .push_call(&call, |bytes| bytes.extend(vec![0; MAX_CALL_BYTES + 1]))
            .is_err()
    );
    assert_eq!((buffer.len(), buffer.records()), (before, records));
    assert!(records > 1);
}
