//! `/etc/ld.so.preload`: every program of a machine gets the library, and those that do not use CUDA must not notice.
//!
//! Each test has a mount namespace of its own, in which `/etc` is a copy; that needs root. Without it the tests say that they are skipped.
//! What the library costs is printed, never asserted: `cargo nextest run -p tests --test preload --no-capture`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Outcome, Server, Transport, program, release, run};

/// A machine whose `/etc` is its own.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// None, said aloud, where there are no rights to make one.
    fn new() -> Option<Self> {
        let may_mount = Command::new("unshare").args(["--mount", "true"]).status();
        if !may_mount.is_ok_and(|status| status.success()) {
            println!("SKIPPED: a mount namespace needs root");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Programs that run as somebody else load from here.
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody).expect("its mode can be set");
        let etc = folder.path().join("etc");
        let copied = Command::new("cp").arg("-a").arg("/etc").arg(&etc).status();
        assert!(copied.expect("cp can be started").success());
        Some(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file into the machine.
    fn put(&self, file: &Path, name: &str) -> PathBuf {
        let place = self.path(name);
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("it can be made");
        std::fs::copy(file, &place).expect("it can be copied");
        place
    }

    fn write(&self, name: &str, text: &str) {
        let place = self.path(name);
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("it can be made");
        std::fs::write(place, text).expect("it can be written");
    }

    /// A command that runs in it.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(r#"mount --bind "$0" /etc && exec "$@""#)
            .arg(self.path("etc"))
            .arg(program)
            .env("XDG_CONFIG_HOME", "/nonexistent");
        for variable in ["GPURUN_SERVER", "LD_PRELOAD", "LD_LIBRARY_PATH"] {
            command.env_remove(variable);
        }
        command
    }

    /// What a program does without the library, and then with it.
    fn both(&self, list: &str, command: impl Fn() -> Command) -> [Outcome; 2] {
        self.write("etc/ld.so.preload", "");
        let without = run(command());
        self.write("etc/ld.so.preload", &format!("{list}\n"));
        [without, run(command())]
    }
}

fn assert_same([without, with]: &[Outcome; 2], what: &str) {
    assert_eq!(without.status, with.status, "{what}: {with:?}");
    assert_eq!(without.stdout, with.stdout, "{what}");
    assert_eq!(without.stderr, with.stderr, "{what}");
    assert_eq!(without.status.code(), Some(3), "{what}: {without:?}");
}

/// The program of 32 bits, where its C library is there.
fn program_32() -> Option<PathBuf> {
    let path = program("manners", "plain").with_file_name("plain-32");
    if path.exists() {
        return Some(path);
    }
    println!("SKIPPED: no 32-bit C library here");
    None
}

fn as_nobody(machine: &Machine, program: &Path) -> Command {
    let mut command = machine.command(Path::new("setpriv"));
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program);
    command
}

/// A copy that runs with the rights of its owner.
fn setuid(machine: &Machine, program: &Path) -> PathBuf {
    let copy = machine.put(program, "setuid");
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).expect("its mode");
    copy
}

#[test]
fn dynamic_static_and_setuid_programs_do_not_notice() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let library = machine.put(&release("libgpurun_cuda.so"), "guest/libcuda.so.1");
    let library = library.to_str().expect("a plain path");
    for name in ["plain", "plain-static"] {
        let program = program("manners", name);
        assert_same(&machine.both(library, || machine.command(&program)), name);
    }
    let program = setuid(&machine, &program("manners", "plain"));
    let outcomes = machine.both(library, || as_nobody(&machine, &program));
    assert_eq!(outcomes[0].stdout, "plain 0 1\n", "it runs as its owner");
    assert_same(&outcomes, "setuid");
}

#[test]
fn programs_of_32_bits_run_and_can_be_spared_the_linker_s_complaint() {
    let (Some(machine), Some(program)) = (Machine::new(), program_32()) else {
        return;
    };
    let library = machine.put(&release("libgpurun_cuda.so"), "guest/libcuda.so.1");
    let library = library.to_str().expect("a plain path");
    // The dynamic linker itself says that it cannot preload a library of the other kind, and goes on.
    let [without, with] = machine.both(library, || machine.command(&program));
    assert_eq!(without.status.code(), Some(3), "{without:?}");
    assert_eq!(
        (without.status, &without.stdout),
        (with.status, &with.stdout)
    );
    for line in with.stderr.lines() {
        assert!(line.starts_with("ERROR: ld.so: object"), "{}", with.stderr);
    }
    // With `$LIB` in the list, each kind finds its own: an empty library for this one.
    let empty = program.with_file_name("empty-32.so");
    for folder in ["lib32", "lib/i386-linux-gnu", "lib"] {
        machine.put(&empty, &format!("guest/{folder}/libcuda.so.1"));
    }
    for folder in ["lib64", "lib/x86_64-linux-gnu"] {
        let place = format!("guest/{folder}/libcuda.so.1");
        machine.put(&release("libgpurun_cuda.so"), &place);
    }
    let list = machine.path("guest/$LIB/libcuda.so.1");
    let list = list.to_str().expect("a plain path");
    assert_same(&machine.both(list, || machine.command(&program)), "32 bits");
    let plain = tests::program("manners", "plain");
    assert_same(&machine.both(list, || machine.command(&plain)), "64 bits");
}

#[test]
fn a_privileged_program_takes_its_settings_from_the_system_alone() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let server = Server::start(Transport::Tcp);
    let library = machine.put(&release("libgpurun_cuda.so"), "guest/libcuda.so.1");
    machine.write("etc/ld.so.preload", library.to_str().expect("a plain path"));
    let settings = format!("server = \"{}\"\n", server.address);
    machine.write("etc/gpurun/config.toml", &settings);
    // It runs as root; what its user wants in the environment would be done with root's rights.
    let program = setuid(&machine, &program("manners", "descriptors"));
    let log = machine.path("log");
    let mut command = as_nobody(&machine, &program);
    command
        .arg("prints")
        .env("GPURUN_LOG_FILE", &log)
        .env("GPURUN_LOG", "debug")
        .env("GPURUN_SERVER", "tcp://127.0.0.1:1");
    let outcome = run(command);
    outcome.assert_passed("a setuid program");
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(!log.exists());
}

#[test]
fn what_the_library_costs_a_program_that_does_not_use_it() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let library = machine.put(&release("libgpurun_cuda.so"), "guest/libcuda.so.1");
    let cost = program("manners", "start_cost");
    let programs = [
        ("dynamic", Some(program("manners", "plain"))),
        ("static", Some(program("manners", "plain-static"))),
        ("32 bits", program_32()),
        (
            "setuid",
            Some(setuid(&machine, &program("manners", "plain"))),
        ),
    ];
    for (what, program) in programs {
        let Some(program) = program else { continue };
        let mut command = machine.command(&cost);
        command.arg("/etc/ld.so.preload").arg(&library);
        command.arg("200").arg(program);
        let outcome = run(command);
        outcome.assert_passed(what);
        println!("{what}: {}", outcome.stdout.trim_end());
    }
}
