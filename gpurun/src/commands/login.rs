//! `gpurun login BUNDLE`: takes in what an operator gave, so that its servers can be used.
//!
//! Rules: the credentials are their user's alone (0600), also in the bundle that they came in; what was there for other servers stays; the file of
//! settings keeps every byte that is not the list of servers; nothing is written before all of it is understood; what was done is said.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use protocol::address::Address;
use protocol::config::{self, Sources};
use protocol::credentials::{self, Entry, format_bundle, parse_bundle, write_private};
use serde::Deserialize;
use toml::Spanned;

use crate::exit::{Failure, INTERNAL, USAGE};

/// Takes in a bundle.
pub(super) fn login(bundle: &Path) -> Result<u8, Failure> {
    let (Some(credentials), Some(settings)) = (credentials::user_file(), config::user_file())
    else {
        return Err(Failure::new(
            USAGE,
            "no home directory: set HOME or XDG_CONFIG_HOME",
        ));
    };
    let text = read(bundle)?.ok_or_else(|| no_bundle(bundle, "no such file"))?;
    let new = parse_bundle(&text).map_err(|error| no_bundle(bundle, error))?;
    if new.is_empty() {
        return Err(no_bundle(bundle, "no server in it"));
    }
    let known = match read(&credentials)? {
        Some(text) => parse_bundle(&text).map_err(|error| no_bundle(&credentials, error))?,
        None => Vec::new(),
    };
    let merged = merge(known, &new);
    let servers: Vec<Address> = new.iter().map(|entry| entry.address.clone()).collect();
    let old_settings = read(&settings)?.unwrap_or_default();
    let new_settings = with_servers(&settings, &old_settings, &servers)?;
    if make_private(bundle)? {
        println!(
            "{}: others could read it; now only you can",
            bundle.display()
        );
    }
    make_directory(&credentials)?;
    write(&credentials, &format_bundle(&merged))?;
    println!(
        "{}: the credentials for {}",
        credentials.display(),
        Address::format_list(&servers)
    );
    if new_settings == old_settings {
        println!("{}: names them already", settings.display());
    } else {
        write(&settings, &new_settings)?;
        println!("{}: names them as servers", settings.display());
    }
    println!("Try: gpurun list");
    Ok(0)
}

fn no_bundle(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::new(USAGE, format!("{}: {reason}", path.display()))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(INTERNAL, format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    write_private(path, text.as_bytes()).map_err(|error| failed(path, &error))
}

fn make_directory(file: &Path) -> Result<(), Failure> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|error| failed(directory, &error))
}

/// Takes a bundle away from everybody else; whether that was necessary.
fn make_private(bundle: &Path) -> Result<bool, Failure> {
    let metadata = std::fs::metadata(bundle).map_err(|error| failed(bundle, &error))?;
    if !metadata.is_file() || metadata.mode() & 0o077 == 0 {
        return Ok(false);
    }
    let private = std::fs::set_permissions(bundle, Permissions::from_mode(0o600));
    private.map_err(|error| {
        let message = format!(
            "{}: others can read it, and that cannot be changed ({error}). Ask the operator to revoke its token and to make \
             another one, and keep the file to yourself",
            bundle.display()
        );
        Failure::new(USAGE, message)
    })?;
    Ok(true)
}

/// What was known, with what is new in the place of what was there for the same servers.
fn merge(known: Vec<Entry>, new: &[Entry]) -> Vec<Entry> {
    let is_other = |entry: &Entry| new.iter().all(|one| one.address != entry.address);
    let others = known.into_iter().filter(is_other);
    new.iter().cloned().chain(others).collect()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
struct Servers {
    server: Option<Spanned<OneOrMore>>,
}

/// The settings with these servers among them.
fn with_servers(path: &Path, text: &str, servers: &[Address]) -> Result<String, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::new(USAGE, format!("{}: {error}", path.display()));
    let found: Servers = toml::from_str(text).map_err(|error| wrong(&error))?;
    let (range, named) = match found.server {
        Some(server) => (Some(server.span()), server.into_inner()),
        None => (None, OneOrMore::More(Vec::new())),
    };
    let named = match named {
        OneOrMore::One(list) => list,
        OneOrMore::More(list) => list.join(","),
    };
    let mut all = match named.is_empty() {
        true => Vec::new(),
        false => Address::parse_list(&named).map_err(|error| wrong(&error))?,
    };
    let missing: Vec<_> = servers
        .iter()
        .filter(|server| !all.contains(server))
        .collect();
    if missing.is_empty() {
        return Ok(text.to_owned());
    }
    all.extend(missing.into_iter().cloned());
    let texts: Vec<String> = all.iter().map(|server| format!("\"{server}\"")).collect();
    let list = format!("[{}]", texts.join(", "));
    let changed = match range {
        Some(range) => format!("{}{list}{}", &text[..range.start], &text[range.end..]),
        // Before everything else: behind the head of a table it would be the table's.
        None => format!("server = {list}\n{text}"),
    };
    let sources = Sources {
        files: vec![(PathBuf::from(path), changed.clone())],
        ..Sources::default()
    };
    config::resolve(&sources)?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &str) -> Vec<Address> {
        Address::parse_list(list).expect("addresses")
    }

    fn merged(text: &str, list: &str) -> String {
        with_servers(Path::new("/c"), text, &addresses(list)).expect("settings")
    }

    #[test]
    fn servers_are_added_and_nothing_else_is_touched() {
        assert_eq!(merged("", "a"), "server = [\"tcp://a:7370\"]\n");
        assert_eq!(
            merged("# mine\ndevice = 'gpu'\n", "a"),
            "server = [\"tcp://a:7370\"]\n# mine\ndevice = 'gpu'\n"
        );
        assert_eq!(
            merged("server = 'b,unix:/s' # two\ndevice='gpu'", "a,b"),
            "server = [\"tcp://b:7370\", \"unix:/s\", \"tcp://a:7370\"] # two\ndevice='gpu'"
        );
        let there = "server = [\n  'a',\n]";
        assert_eq!(merged(there, "tcp://a:7370"), there);
        let error = with_servers(Path::new("/c"), "server = 7", &addresses("a"));
        assert!(error.expect_err("no list").to_string().starts_with("/c: "));
    }
}
