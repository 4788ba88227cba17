//! Where the next daemon comes to a worker: a socket for each session, in a directory that only the server's user enters.
//!
//! *What:* the daemon makes the socket and passes it to the worker, which takes connections on it once its daemon is gone; the next daemon
//! goes through the directory. *Why the daemon comes to the workers, and not they to it:* a worker may have been taken over by its client, so it
//! shall be able to connect to nothing; and a daemon that begins knows at once whom to wait for. *Rules:* a socket that nobody listens on is a
//! session that is over, and is removed; a name is a session's number.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that wait to be taken: daemons that came and ended while the worker had another.
const BACKLOG: i32 = 64;

/// What a socket's file is called after its session.
const EXTENSION: &str = "sock";

/// A session's socket. The file stays until it is [removed](Self::remove): it is found by the next daemon, however this one ends.
#[derive(Debug)]
pub(super) struct Door(PathBuf);

impl Door {
    /// Makes the directory, if it is not there, and leaves it to the server's user alone.
    pub(super) fn prepare(directory: &Path) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        rustix::fs::chmod(directory, Mode::RWXU)?;
        Ok(())
    }

    /// Makes the socket of a session; it listens already, so that a daemon that begins before the worker does finds it.
    pub(super) fn make(directory: &Path, session: u64) -> io::Result<(Self, OwnedFd)> {
        let path = directory.join(format!("{session}.{EXTENSION}"));
        let path = path.as_path();
        let named = |error: Errno| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        remove(path);
        let listener = socket(SocketFlags::CLOEXEC)?;
        let address = SocketAddrUnix::new(path).map_err(named)?;
        rustix::net::bind(&listener, &address).map_err(named)?;
        rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR).map_err(named)?;
        rustix::net::listen(&listener, BACKLOG).map_err(named)?;
        Ok((Self(path.to_owned()), listener))
    }

    /// Those that are there.
    pub(super) fn all(directory: &Path) -> io::Result<Vec<Self>> {
        let mut doors = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|has| has == EXTENSION) {
                doors.push(Self(path));
            }
        }
        Ok(doors)
    }

    /// Which, for people.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Comes to the worker; nothing if it is over.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: too many have come before; the operating system's.
    pub(super) fn connect(&self) -> io::Result<Option<OwnedFd>> {
        let connection = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // Before anything can be sent: who sends it, the kernel tells.
        rustix::net::sockopt::set_socket_passcred(&connection, true)?;
        match rustix::net::connect(&connection, &SocketAddrUnix::new(&self.0)?) {
            Ok(()) => Ok(Some(connection)),
            Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The session is over.
    pub(super) fn remove(self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("{}: {error}", path.display());
        }
        _ => {}
    }
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let kind = SocketType::SEQPACKET;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_door_is_there_until_its_session_is_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path().join("workers");
        Door::prepare(&directory).expect("prepared");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode(&directory) & 0o777, 0o700);
        let (door, listener) = Door::make(&directory, 7).expect("made");
        assert_eq!(mode(door.path()) & 0o777, 0o600);
        let found = Door::all(&directory).expect("read");
        assert_eq!(found.len(), 1);
        assert!(found[0].connect().expect("asked").is_some());
        drop(listener);
        assert!(door.connect().expect("asked").is_none(), "nobody listens");
        drop(found);
        let path = door.path().to_owned();
        assert!(path.exists());
        door.remove();
        assert!(!path.exists());
    }

    #[test]
    fn whom_nobody_takes_in_is_told_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let (door, _listener) = Door::make(directory.path(), 7).expect("made");
        let mut waiting = Vec::new();
        let error = loop {
            match door.connect() {
                Ok(connection) => waiting.push(connection.expect("somebody listens")),
                Err(error) => break error,
            }
            assert!(waiting.len() < 1000);
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
