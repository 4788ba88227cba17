//! Round trips and streaming of frames over each transport, between two threads of one process.
//!
//! `cargo run --release -p protocol --example transport_speed`

use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use protocol::frame::{FrameHeader, FrameKind};
use protocol::limits::BULK_CHUNK_BYTES;
use protocol::transport::{Connection, FrameReceiver, Patience, TransportError};

const ROUND_TRIPS: usize = 20_000;
const SMALL_FRAMES: usize = 1_000_000;
const CHUNKS: usize = 4096;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome {
    for is_spinning in [false, true] {
        for name in ["tcp", "unix"] {
            let (client, server) = pair(name)?;
            let serving = thread::spawn(move || serve(server, is_spinning));
            let how = if is_spinning { "spinning" } else { "blocking" };
            measure(&format!("{name} {how}"), client, is_spinning)?;
            serving.join().map_err(|_| "the server failed")??;
        }
    }
    Ok(())
}

fn pair(name: &str) -> std::io::Result<(Connection, Connection)> {
    let (one, other) = if name == "tcp" {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        (client.into(), listener.accept()?.0.into())
    } else {
        let (one, other) = UnixStream::pair()?;
        (one.into(), other.into())
    };
    Ok((
        Connection::from_fd(one, Patience::default())?,
        Connection::from_fd(other, Patience::default())?,
    ))
}

fn next(
    receiver: &mut dyn FrameReceiver,
    is_spinning: bool,
) -> Result<FrameHeader, TransportError> {
    loop {
        if let Some(header) = receiver.poll_header()? {
            return Ok(header);
        }
        if !is_spinning {
            receiver.wait(None)?;
        }
    }
}

/// Answers each call, passes over bulk, answers a heartbeat.
fn serve(mut connection: Connection, is_spinning: bool) -> Outcome {
    let mut payload = vec![0; BULK_CHUNK_BYTES];
    loop {
        let header = next(&mut *connection.receiver, is_spinning)?;
        let payload = &mut payload[..header.length as usize];
        connection.receiver.read_payload(payload)?;
        match header.kind {
            FrameKind::Goodbye => return Ok(()),
            FrameKind::Calls | FrameKind::Heartbeat => {
                connection.sender.send(&header, &[IoSlice::new(payload)])?;
            }
            _ => {}
        }
    }
}

fn measure(name: &str, mut client: Connection, is_spinning: bool) -> Outcome {
    let small = [7_u8; 64];
    let mut payload = [0_u8; 64];
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let begin = Instant::now();
        client
            .sender
            .send(&FrameHeader::new(FrameKind::Calls), &[IoSlice::new(&small)])?;
        next(&mut *client.receiver, is_spinning)?;
        client.receiver.read_payload(&mut payload)?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let frames = stream(&mut client, is_spinning, SMALL_FRAMES, &small)?;
    let chunk = vec![1; BULK_CHUNK_BYTES];
    let bulk = stream(&mut client, is_spinning, CHUNKS, &chunk)?;
    client
        .sender
        .send(&FrameHeader::new(FrameKind::Goodbye), &[])?;
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{name}: round trip of 64 bytes {:.1} us (p99 {:.1}); small frames {:.2} M/s; 1 MiB chunks {:.2} GB/s",
        microseconds(times[ROUND_TRIPS / 2]),
        microseconds(times[ROUND_TRIPS * 99 / 100]),
        SMALL_FRAMES as f64 / frames.as_secs_f64() / 1e6,
        (CHUNKS * BULK_CHUNK_BYTES) as f64 / bulk.as_secs_f64() / 1e9,
    );
    Ok(())
}

/// The time until so many frames of this payload have arrived.
fn stream(
    client: &mut Connection,
    is_spinning: bool,
    frames: usize,
    payload: &[u8],
) -> Result<Duration, TransportError> {
    let begin = Instant::now();
    for _ in 0..frames {
        client
            .sender
            .send(&FrameHeader::bulk(1, 0), &[IoSlice::new(payload)])?;
    }
    client
        .sender
        .send(&FrameHeader::new(FrameKind::Heartbeat), &[])?;
    next(&mut *client.receiver, is_spinning)?;
    Ok(begin.elapsed())
}
