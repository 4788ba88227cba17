//! The sockets that the daemon listens on.
//!
//! Rules: TCP only on loopback unless there is an authority, or the settings accept more; a unix socket is its user's alone (mode 0600), in a
//! directory where nobody else could put another in its place, and is removed at the end if it is still ours.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::address::Address;
use rustix::fs::Mode;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use super::Event;
use super::handshake::Client;
use super::stream::{Origin, Peer, Stream};
use crate::config::{Config, ConfigError, check_exposure};

/// After a failure to accept (no descriptors left, mostly), how long to wait before the next attempt.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Most connections that the kernel keeps until we take them; the standard library's number is small, and a client that finds no room tries
/// again only a second later. The kernel bounds it (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not allowed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system's reason.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// Something is there already.
    #[error("cannot listen on {0}: another server answers there")]
    InUse(Address),
    /// Something other than a socket is there.
    #[error("cannot listen on {0}: a file that is no socket is there")]
    NoSocket(Address),
    /// Others could put their own socket there.
    #[error(
        "cannot listen on {address}: the directory {} belongs to somebody else, or others may write to it",
        directory.display()
    )]
    Directory {
        /// Where.
        address: Address,
        /// The directory.
        directory: PathBuf,
    },
}

/// One listening socket.
pub(super) struct Listener {
    address: Address,
    socket: Socket,
    /// Kept to be removed with the listener.
    _file: Option<SocketFile>,
}

#[derive(Clone)]
enum Socket {
    Tcp(Arc<TcpListener>),
    Unix(Arc<UnixListener>),
}

/// A socket in the file system, removed when nobody listens on it any more.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if is_ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), "cannot remove the socket: {error}");
        }
    }
}

/// Binds every address of the settings, inside the runtime's context.
///
/// # Errors
/// One of them cannot be.
pub(super) fn bind_all(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        match address {
            Address::Tcp { host, port } => {
                let may_be_reached = config.insecure || config.security.is_protected();
                listeners.push(bind_tcp(address, host, *port, may_be_reached)?);
            }
            Address::Unix(path) => listeners.push(bind_unix(address, path)?),
        }
    }
    Ok(listeners)
}

fn bind_tcp(
    address: &Address,
    host: &str,
    port: u16,
    may_be_reached: bool,
) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Bind {
        address: address.clone(),
        source,
    };
    let mut sockets: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(failed)?.collect();
    // A name such as localhost may stand for both families; one listener has one.
    sockets.sort_by_key(|socket| !socket.is_ipv4());
    for socket in &sockets {
        check_exposure(address, socket.ip(), may_be_reached)?;
    }
    let bind = || {
        let listener = std::net::TcpListener::bind(&sockets[..])?;
        listener.set_nonblocking(true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((TcpListener::from_std(listener)?, bound))
    };
    let (listener, bound) = bind().map_err(failed)?;
    Ok(Listener {
        address: Address::Tcp {
            host: bound.ip().to_string(),
            port: bound.port(),
        },
        socket: Socket::Tcp(Arc::new(listener)),
        _file: None,
    })
}

fn bind_unix(address: &Address, path: &Path) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Bind {
        address: address.clone(),
        source,
    };
    check_directory(address, path)?;
    clear_place(address, path)?;
    // The daemon has one thread yet, so nobody else makes a file under this mask.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = bound.map_err(failed)?;
    rustix::net::listen(&listener, BACKLOG).map_err(|error| failed(error.into()))?;
    let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    };
    Ok(Listener {
        address: address.clone(),
        socket: Socket::Unix(Arc::new(listener)),
        _file: Some(file),
    })
}

/// Whether only we (or the superuser) decide what is at `path`.
fn check_directory(address: &Address, path: &Path) -> Result<(), ListenError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let metadata = std::fs::metadata(directory).map_err(|source| ListenError::Bind {
        address: address.clone(),
        source,
    })?;
    let user = rustix::process::geteuid().as_raw();
    let is_owned = metadata.uid() == user || metadata.uid() == 0;
    let (others_may_write, is_sticky) =
        (metadata.mode() & 0o022 != 0, metadata.mode() & 0o1000 != 0);
    if metadata.is_dir() && is_owned && (!others_may_write || is_sticky) {
        return Ok(());
    }
    Err(ListenError::Directory {
        address: address.clone(),
        directory: directory.to_owned(),
    })
}

/// Removes the socket of a server that ended without removing it.
fn clear_place(address: &Address, path: &Path) -> Result<(), ListenError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NoSocket(address.clone()));
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| ListenError::Bind {
                address: address.clone(),
                source,
            })
        }
        _ => Err(ListenError::InUse(address.clone())),
    }
}

impl Listener {
    /// Where it listens: the port that was given, or got.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Accepts until aborted. A failure to accept is waited out, never the end.
    pub(super) fn accept_all(
        &self,
        events: mpsc::Sender<Event>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let socket = self.socket.clone();
        let address = self.address.clone();
        async move {
            loop {
                match accept(&socket).await {
                    Ok(client) => {
                        if events.send(Event::Accepted(client)).await.is_err() {
                            return;
                        }
                        // In a flood, more would come before anybody has looked at what this one said, and push it out.
                        tokio::task::yield_now().await;
                    }
                    Err(error) => {
                        tracing::warn!(%address, "cannot accept: {error}");
                        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                    }
                }
            }
        }
    }
}

async fn accept(socket: &Socket) -> io::Result<Client> {
    match socket {
        Socket::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let peer = Peer {
                name: format!("tcp://{peer}"),
                origin: Origin::of(peer.ip()),
            };
            Ok(Client::new(peer, Stream::Tcp(stream)))
        }
        Socket::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let credentials = stream.peer_cred().ok();
            let process = credentials.and_then(|peer| peer.pid());
            let name = process.map_or("unix".to_owned(), |process| {
                format!("unix process {process}")
            });
            let origin = Origin::User(credentials.map(|peer| peer.uid()));
            Ok(Client::new(Peer { name, origin }, Stream::Unix(stream)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn config(listen: &str) -> Config {
        crate::config::load(&crate::config::Flags {
            listen: vec![listen.to_owned()],
            ..Default::default()
        })
        .expect("a config")
    }

    fn bind(listen: &str) -> Result<Vec<Listener>, ListenError> {
        bind_all(&config(listen))
    }

    #[tokio::test]
    async fn loopback_with_any_port() {
        let listeners = bind("tcp://127.0.0.1:0,tcp://localhost:0").expect("bound");
        let text = listeners[0].address().to_string();
        assert!(text.starts_with("tcp://127.0.0.1:") && !text.ends_with(":0"));
    }

    #[tokio::test]
    async fn other_addresses_are_refused() {
        let error = bind("tcp://0.0.0.0:0").err().expect("refused").to_string();
        assert!(error.contains("--insecure"), "{error}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_private_and_goes_away() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let listen = format!("unix:{}", path.display());
        let first = bind(&listen).expect("bound");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(bind(&listen), Err(ListenError::InUse(_))));
        drop(first);
        assert!(!path.exists());

        // What a killed server leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        drop(bind(&listen).expect("the stale socket is replaced"));

        std::fs::write(&path, "precious").expect("written");
        assert!(matches!(bind(&listen), Err(ListenError::NoSocket(_))));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let listen = format!("unix:{}/s", directory.path().display());
        let set = |mode| {
            std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(mode))
                .expect("changed");
        };
        set(0o777);
        assert!(matches!(bind(&listen), Err(ListenError::Directory { .. })));
        set(0o1777);
        assert!(bind(&listen).is_ok());
    }
}
