//! `gpu-server init` and `gpu-server token`: what an operator types.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use data_encoding::BASE32_NOPAD;
use protocol::address::Address;
use protocol::credentials::{self, Credential, Entry, write_private};
use protocol::size::parse_bytes;
use serde_json::json;

use super::directory::{Directory, DirectoryError, fill_random};
use super::token::{self, Claims};
use crate::pool::{Compute, Limits, Moment, Tenant, TokenId};

/// Where a server keeps its state, if nothing else is said.
pub const DEFAULT_STATE: &str = "/var/lib/gpurun";

/// Random bytes of a token's id.
const ID_BYTES: usize = 10;

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The authority's files.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// An option that makes no sense.
    #[error("{option}: {problem}")]
    Option {
        /// Which.
        option: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The bundle cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Bundle {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No token of this id was made here.
    #[error("no token {0} was made here; gpu-server token list shows those that were")]
    Unknown(TokenId),
}

/// Options of `gpu-server init`.
#[derive(Args, Debug)]
pub struct Init {
    /// The server's state directory
    #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_STATE)]
    state: PathBuf,
    /// A name or IP address by which clients reach the server; may be repeated
    #[arg(
        long = "name",
        value_name = "HOST",
        help = "A name or IP address by which clients reach the server; may be repeated [default: this machine's name]"
    )]
    names: Vec<String>,
    /// Make only a new certificate of the server, by the authority that is there
    #[arg(long)]
    renew: bool,
}

/// What is done with tokens.
#[derive(Subcommand, Debug)]
pub enum Token {
    /// Make a token, and a bundle for its user
    Create(Create),
    /// List the tokens that were made
    List {
        /// The server's state directory
        #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_STATE)]
        state: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// End a token, and its sessions, at once
    Revoke {
        /// The token's id, as list shows it
        id: TokenId,
        /// The server's state directory
        #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_STATE)]
        state: PathBuf,
    },
}

/// Options of `gpu-server token create`.
#[derive(Args, Debug)]
pub struct Create {
    /// Whom leases of this token belong to
    #[arg(long)]
    tenant: Tenant,
    /// Most slices of devices that the tenant may have at once
    #[arg(long, value_name = "N")]
    devices: Option<u32>,
    /// Most device memory that the tenant may have at once, such as 64GiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Most compute that the tenant may have at once: 1.5 is one device and a half
    #[arg(long, value_name = "F")]
    compute: Option<f64>,
    /// How long one lease may last, such as 12h
    #[arg(long, value_name = "DURATION")]
    time: Option<String>,
    /// Most leases that the tenant may have at once
    #[arg(long, value_name = "N")]
    leases: Option<u32>,
    /// The holder may see and end everybody's leases, and drain the server
    #[arg(long)]
    operator: bool,
    /// How long the token is good, such as 30d; without it, until it is revoked
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,
    /// Write everything that the user needs into this file, for `gpurun login FILE`
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// An address that the bundle names instead of those of `gpu-server init`; may be repeated
    #[arg(long = "server", value_name = "ADDRESS")]
    servers: Vec<Address>,
    /// The authority's certificate for the bundle, where the server's certificate is not of `gpu-server init`
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
    /// The server's state directory
    #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_STATE)]
    state: PathBuf,
}

/// `gpu-server init`.
///
/// # Errors
/// See [`CommandError`].
pub fn init(init: &Init) -> Result<(), CommandError> {
    let directory = Directory::of_state(&init.state);
    let names = match init.names.is_empty() {
        false => init.names.clone(),
        true => vec![this_machine()],
    };
    for name in &names {
        let address = format!("{}:1", bracketed(name));
        let wrong = |problem| CommandError::Option {
            option: "--name",
            problem,
        };
        address
            .parse::<Address>()
            .map_err(|error| wrong(error.to_string()))?;
    }
    if init.renew {
        directory.renew(&with_loopback(&names))?;
        println!("made a new certificate for {}", names.join(", "));
        println!("a server that runs takes it by: kill -HUP $(pidof gpu-server)");
        return Ok(());
    }
    let servers: Vec<_> = names.iter().map(|name| server_address(name)).collect();
    directory.create(&with_loopback(&names), &servers)?;
    println!("made an authority in {}", directory.path().display());
    println!("the server's certificate is for {}", names.join(", "));
    println!("next:");
    println!("  1. in /etc/gpurun/server.toml:");
    println!("       state = '{}'", init.state.display());
    println!("       listen = ['tcp://0.0.0.0:7370']");
    println!("  2. gpu-server serve");
    println!("  3. gpu-server token create --tenant NAME --bundle NAME.gpurun");
    println!("     and give that file to its user, who says: gpurun login NAME.gpurun");
    Ok(())
}

/// Names that the certificate is good for beside those that were asked for.
fn with_loopback(names: &[String]) -> Vec<String> {
    let mut all = names.to_vec();
    for name in ["localhost", "127.0.0.1", "::1"] {
        if !all.iter().any(|one| one == name) {
            all.push(name.to_owned());
        }
    }
    all
}

fn this_machine() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

fn server_address(host: &str) -> String {
    let port = protocol::limits::DEFAULT_PORT;
    format!("tcp://{}:{port}", bracketed(host))
}

/// `gpu-server token …`.
///
/// # Errors
/// See [`CommandError`].
pub fn token(token: Token) -> Result<(), CommandError> {
    match token {
        Token::Create(create) => print_created(&create),
        Token::List { state, json } => list(&Directory::of_state(&state), json),
        Token::Revoke { id, state } => revoke(&Directory::of_state(&state), &id),
    }
}

fn print_created(create: &Create) -> Result<(), CommandError> {
    let directory = Directory::of_state(&create.state);
    let claims = claims(create)?;
    let token = token::sign(&claims, &directory.signing_key()?);
    if let Some(path) = &create.bundle {
        let text = bundle(create, &directory, &token)?;
        write_private(path, text.as_bytes()).map_err(|source| CommandError::Bundle {
            path: path.clone(),
            source,
        })?;
    }
    // Known before anybody has it, so that it can be revoked.
    directory.append("tokens.jsonl", &record(&claims).to_string())?;
    match &create.bundle {
        Some(path) => {
            println!("made token {} of tenant {}", claims.id, claims.tenant);
            println!(
                "wrote {}: whoever has it can use the server. Its user says: gpurun login {}",
                path.display(),
                path.display()
            );
        }
        None => println!("{token}"),
    }
    Ok(())
}

fn claims(create: &Create) -> Result<Claims, CommandError> {
    let mut random = [0; ID_BYTES];
    fill_random(&mut random).map_err(DirectoryError::Random)?;
    let id = format!("t-{}", BASE32_NOPAD.encode(&random).to_lowercase());
    let issued = Moment::now();
    let expires = duration("--expires", create.expires.as_deref())?;
    Ok(Claims {
        id: id.parse().map_err(|error| CommandError::Option {
            option: "id",
            problem: format!("{error}"),
        })?,
        tenant: create.tenant.clone(),
        limits: limits(create)?,
        is_operator: create.operator,
        issued,
        expires: expires.map(|time| issued + time),
    })
}

fn limits(create: &Create) -> Result<Limits, CommandError> {
    let memory = create.memory.as_deref().map(parse_bytes).transpose();
    let memory_bytes = memory.map_err(|error| CommandError::Option {
        option: "--memory",
        problem: error.to_string(),
    })?;
    let compute = create.compute;
    if compute.is_some_and(|compute| !(compute > 0.0 && compute.is_finite())) {
        return Err(CommandError::Option {
            option: "--compute",
            problem: "must be above 0".to_owned(),
        });
    }
    Ok(Limits {
        devices: create.devices,
        memory_bytes,
        compute: compute.map(Compute::from_fraction),
        lease_time: duration("--time", create.time.as_deref())?,
        leases: create.leases,
    })
}

fn duration(option: &'static str, text: Option<&str>) -> Result<Option<Duration>, CommandError> {
    let parsed = text.map(humantime::parse_duration).transpose();
    parsed.map_err(|error| CommandError::Option {
        option,
        problem: format!("not a time such as 90s, 12h or 30d ({error})"),
    })
}

fn bundle(create: &Create, directory: &Directory, token: &str) -> Result<String, CommandError> {
    let authority = match &create.authority {
        None => directory.text("authority.pem")?,
        Some(path) => std::fs::read_to_string(path).map_err(|source| DirectoryError::File {
            path: path.clone(),
            source,
        })?,
    };
    let servers = match create.servers.is_empty() {
        false => create.servers.clone(),
        true => known_servers(directory)?,
    };
    let entries: Vec<_> = servers
        .into_iter()
        .map(|address| Entry {
            address,
            credential: Credential {
                token: Some(token.to_owned()),
                authority: Some(authority.clone()),
            },
        })
        .collect();
    Ok(format!(
        "# For one user of these servers; keep it secret. Install it with: gpurun login THIS_FILE\n\n{}",
        credentials::format_bundle(&entries)
    ))
}

fn known_servers(directory: &Directory) -> Result<Vec<Address>, CommandError> {
    let text = directory.text("servers")?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            line.trim().parse().map_err(|error| {
                let path = directory.file("servers");
                let problem = format!("{error}");
                DirectoryError::Content { path, problem }.into()
            })
        })
        .collect()
}

/// A token's line in the list.
fn record(claims: &Claims) -> serde_json::Value {
    let limits = &claims.limits;
    json!({
        "id": claims.id,
        "tenant": claims.tenant,
        "operator": claims.is_operator,
        "issued": time(claims.issued),
        "expires": claims.expires.map(time),
        "devices": limits.devices,
        "memory_bytes": limits.memory_bytes,
        "compute": limits.compute.map(Compute::fraction),
        "lease_seconds": limits.lease_time.map(|time| time.as_secs()),
        "leases": limits.leases,
    })
}

fn time(moment: Moment) -> String {
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(moment.0);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn list(directory: &Directory, as_json: bool) -> Result<(), CommandError> {
    let mut tokens = records(directory)?;
    let revoked = super::revoked(directory)?;
    for token in &mut tokens {
        let id = token["id"].as_str().and_then(|id| id.parse().ok());
        let is_revoked = id.is_some_and(|id: TokenId| revoked.contains(&id));
        token["revoked"] = is_revoked.into();
    }
    if as_json {
        println!("{:#}", serde_json::Value::Array(tokens));
        return Ok(());
    }
    println!(
        "{:<18}  {:<20}  {:<20}  {:<20}  state",
        "id", "tenant", "issued", "expires"
    );
    for token in &tokens {
        let text = |name: &str| token[name].as_str().unwrap_or("never").to_owned();
        let is = |name: &str| token[name].as_bool().unwrap_or(false);
        let state = match (is("revoked"), is("operator")) {
            (true, _) => "revoked",
            (false, true) => "operator",
            (false, false) => "",
        };
        println!(
            "{:<18}  {:<20}  {:<20}  {:<20}  {state}",
            text("id"),
            text("tenant"),
            text("issued"),
            text("expires")
        );
    }
    Ok(())
}

fn records(directory: &Directory) -> Result<Vec<serde_json::Value>, CommandError> {
    let text = directory.text("tokens.jsonl")?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            serde_json::from_str(line).map_err(|error| {
                let path = directory.file("tokens.jsonl");
                let problem = error.to_string();
                DirectoryError::Content { path, problem }.into()
            })
        })
        .collect()
}

fn revoke(directory: &Directory, id: &TokenId) -> Result<(), CommandError> {
    let is_known = |token: &serde_json::Value| token["id"].as_str() == Some(id.as_str());
    if !records(directory)?.iter().any(is_known) {
        return Err(CommandError::Unknown(id.clone()));
    }
    if super::revoked(directory)?.contains(id) {
        println!("token {id} was revoked before");
        return Ok(());
    }
    directory.append("revoked", id.as_str())?;
    println!("revoked token {id}; a server that runs ends its sessions at once");
    Ok(())
}
