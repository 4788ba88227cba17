//! A link that is not there: a relay between a client and the server that delays bytes and limits how many pass in a second.
//!
//! What: each direction has a reader, which notes when what it read would have arrived, and a writer, which waits for that. Why in user
//! space: it needs no rights, and the same tables come out at any delay. It is exact to some microseconds: the writer spins for the last of them.
//! Its own cost, two more copies and thread changes, is part of what is measured: compare with a delay of zero.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What one read takes at most.
const PIECE_BYTES: usize = 64 << 10;

/// What a direction holds beyond what is under way: a switch's buffer.
const BUFFER_BYTES: usize = 1 << 20;

/// Before so long, the writer no longer sleeps.
const SPIN: Duration = Duration::from_micros(100);

/// A link: `DELAY[,GBIT]`, as `1ms` or `20us,10`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Link {
    /// One way.
    pub(crate) delay: Duration,
    /// Bytes in a second; none: no limit.
    pub(crate) bytes_per_second: Option<f64>,
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (delay, rate) = match text.split_once(',') {
            Some((delay, rate)) => (delay, Some(rate)),
            None => (text, None),
        };
        let digits = delay.trim_end_matches(|letter: char| letter.is_alphabetic());
        let number: u64 = digits
            .parse()
            .map_err(|_| format!("'{delay}' is no delay: write 20us or 1ms"))?;
        let delay = match &delay[digits.len()..] {
            "us" => Duration::from_micros(number),
            "ms" => Duration::from_millis(number),
            _ => return Err(format!("'{delay}' is no delay: write 20us or 1ms")),
        };
        let gigabits = rate.map(str::parse::<f64>).transpose();
        let gigabits = gigabits.map_err(|_| format!("'{text}': the rate is a number of Gbit/s"))?;
        if gigabits.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            return Err(format!("'{text}': the rate is above 0"));
        }
        Ok(Self {
            delay,
            bytes_per_second: gigabits.map(|rate| rate * 1e9 / 8.0),
        })
    }
}

impl Link {
    /// Relays every connection to `server`; where it listens. It ends with the process.
    ///
    /// # Errors
    /// It cannot listen.
    pub(crate) fn start(self, server: &str) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let server = server.trim_start_matches("tcp://").to_owned();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else {
                    continue;
                };
                // A connection that cannot be relayed ends, which its client sees.
                let _ = self.relay(client, server);
            }
        });
        Ok(address)
    }

    fn relay(self, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.one_way(client.try_clone()?, server.try_clone()?);
        self.one_way(server, client);
        Ok(())
    }

    /// Most bytes under way.
    fn window(self) -> usize {
        let rate = self.bytes_per_second.unwrap_or(10e9);
        (rate * self.delay.as_secs_f64()) as usize + BUFFER_BYTES
    }

    fn one_way(self, mut from: TcpStream, mut to: TcpStream) {
        let queue = Arc::new(Queue::default());
        let filling = Arc::clone(&queue);
        thread::spawn(move || {
            let mut free_at = Instant::now();
            loop {
                let mut bytes = vec![0; PIECE_BYTES];
                let count = from.read(&mut bytes).unwrap_or(0);
                bytes.truncate(count);
                let now = Instant::now();
                let takes = self
                    .bytes_per_second
                    .map_or(0.0, |rate| count as f64 / rate);
                free_at = free_at.max(now) + Duration::from_secs_f64(takes);
                let is_end = bytes.is_empty();
                filling.put(free_at + self.delay, bytes, self.window());
                if is_end {
                    return;
                }
            }
        });
        thread::spawn(move || {
            loop {
                let (arrives, bytes) = queue.take();
                let left = arrives.saturating_duration_since(Instant::now());
                thread::sleep(left.saturating_sub(SPIN));
                while Instant::now() < arrives {
                    std::hint::spin_loop();
                }
                if bytes.is_empty() || to.write_all(&bytes).is_err() {
                    // The other direction goes on until its own end.
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
            }
        });
    }
}

/// What is under way, and when it arrives.
#[derive(Default)]
struct Queue {
    state: Mutex<UnderWay>,
    changed: Condvar,
}

#[derive(Default)]
struct UnderWay {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Queue {
    fn put(&self, arrives: Instant, bytes: Vec<u8>, window: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.bytes > window {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += bytes.len();
        state.pieces.push_back((arrives, bytes));
        self.changed.notify_all();
    }

    fn take(&self) -> (Instant, Vec<u8>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                state.bytes -= piece.1.len();
                self.changed.notify_all();
                return piece;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_written_as_a_delay_and_a_rate() {
        let link: Link = "20us,10".parse().expect("a link");
        assert_eq!(link.delay, Duration::from_micros(20));
        assert_eq!(link.bytes_per_second, Some(1.25e9));
        let link: Link = "10ms".parse().expect("a link");
        assert_eq!(
            (link.delay, link.bytes_per_second),
            (Duration::from_millis(10), None)
        );
        for wrong in ["", "10", "ms", "1s", "1ms,", "1ms,0", "1ms,-3", "1ms,x"] {
            assert!(wrong.parse::<Link>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_arrive_whole_and_not_early() {
        let echo = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = echo.local_addr().expect("an address").to_string();
        thread::spawn(move || {
            let (mut stream, _) = echo.accept().expect("a client");
            let mut other = stream.try_clone().expect("a copy");
            io::copy(&mut stream, &mut other).expect("echoed");
        });
        let link = Link {
            delay: Duration::from_millis(20),
            bytes_per_second: None,
        };
        let mut client = TcpStream::connect(link.start(&server).expect("a relay")).expect("there");
        let begun = Instant::now();
        let sent: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        client.write_all(&sent).expect("sent");
        client.shutdown(Shutdown::Write).expect("ended");
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect("echoed");
        assert!(got == sent);
        assert!(begun.elapsed() >= Duration::from_millis(40));
    }
}
