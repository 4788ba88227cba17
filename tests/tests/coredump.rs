//! GPU core dumps of unmodified programs, asked for by the variables that the debugger's manual has: the same file with and without a distance, on the program's machine and nowhere else.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use object::LittleEndian;
use object::elf::{ET_CORE, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use tests::{
    LIVENESS_LIMIT, Outcome, Server, Transport, Way, lines_of, patiently, program, run, wait,
};

const ENABLE: (&str, &str) = ("CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "1");
const FLAGS: &str = "CUDA_COREDUMP_GENERATION_FLAGS";
const FILE: &str = "CUDA_COREDUMP_FILE";
const ABORTED: Option<i32> = Some(6);

/// Types of sections, as NVIDIA's debugger has them.
const OWN: u32 = 0x8000_0000;
const GLOBAL_MEMORY: u32 = OWN + 2;
const LANES: u32 = OWN + 15;
/// `CUDBG_EXCEPTION_WARP_ILLEGAL_ADDRESS`.
const ILLEGAL_ADDRESS: u32 = 14;

/// A folder for dumps.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// A program whose dumps go there.
    fn command(&self, way: &Way, kind: &str, variables: &[(&str, &str)]) -> Command {
        let mut command = way.command(&program("static13", "fault"));
        command.arg(kind);
        self.aim(&mut command, variables);
        command
    }

    fn aim(&self, command: &mut Command, variables: &[(&str, &str)]) {
        command
            .env(FILE, self.0.path().join("core.%p"))
            .envs([ENABLE])
            .envs(variables.iter().copied())
            .current_dir(self.0.path());
    }

    /// What is in it.
    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.path()).expect("a folder");
        entries.flatten().map(|entry| entry.path()).collect()
    }

    /// The one file that is in it.
    fn dump(&self, outcome: &Outcome) -> Dump {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?} {outcome:?}");
        Dump::read(&files[0])
    }
}

/// A dump, as a reader of ELF files finds it.
struct Dump {
    /// Name, type and bytes of each section.
    sections: Vec<(String, u32, Vec<u8>)>,
}

impl Dump {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("it can be read");
        let header = FileHeader64::<LittleEndian>::parse(&*bytes).expect("an ELF file");
        let endian = LittleEndian;
        assert_eq!(
            header.e_machine.get(endian),
            object::elf::Machine(190),
            "EM_CUDA"
        );
        assert_eq!(header.e_type.get(endian), ET_CORE);
        assert_eq!(header.endian().expect("known"), LittleEndian);
        let table = header.sections(endian, &*bytes).expect("sections");
        let read = |section: &object::elf::SectionHeader64<LittleEndian>| {
            let name = table.section_name(endian, section).expect("a name");
            let data = section.data(endian, &*bytes).expect("within the file");
            let name = String::from_utf8_lossy(name).into_owned();
            (name, section.sh_type(endian).0, data.to_vec())
        };
        let sections = table.iter().map(read).collect();
        Self { sections }
    }

    fn names(&self) -> Vec<&str> {
        let names = self.sections.iter().map(|(name, ..)| name.as_str());
        names.filter(|name| !name.is_empty()).collect()
    }

    fn section(&self, name: &str) -> &[u8] {
        let found = self.sections.iter().find(|(own, ..)| own == name);
        let (_, _, bytes) = found.unwrap_or_else(|| panic!("no {name} in {:?}", self.names()));
        bytes
    }

    fn of_type(&self, kind: u32) -> Vec<&[u8]> {
        let found = self.sections.iter().filter(|(_, own, _)| *own == kind);
        found.map(|(_, _, bytes)| bytes.as_slice()).collect()
    }

    /// What a dump of `fault address` must tell.
    fn check(&self) {
        let fault = String::from_utf8_lossy(self.section(".gpurun.fault"));
        assert!(fault.contains("write_at") && fault.contains("illegal address 0x10000"));
        for table in ["devtbl", "ctxtbl.dev0", "modtbl.dev0.ctx0", "gridtbl.dev0"] {
            assert!(!self.section(&format!(".cudbg.{table}")).is_empty());
        }
        let lanes = self.of_type(LANES);
        assert_eq!((lanes.len(), lanes[0].len()), (1, 56), "one thread");
        let exception = u32::from_le_bytes(lanes[0][32..36].try_into().expect("four bytes"));
        assert_eq!(exception, ILLEGAL_ADDRESS);
        let word = |bytes: &[u8], at: usize| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
        };
        let (grid, contexts) = (
            self.section(".cudbg.gridtbl.dev0"),
            self.section(".cudbg.ctxtbl.dev0"),
        );
        assert_eq!(word(grid, 8), word(contexts, 0), "the grid's context");
        let block = self.section(".cudbg.ctatbl.dev0.sm0");
        assert_eq!(word(block, 0), word(grid, 0), "the block's grid");
        // Address and value.
        let parameters = self.section(".cudbg.param.dev0.grid0");
        assert_eq!(word(parameters, 0), 0x10000);
    }
}

fn ways(servers: &[Server]) -> Vec<Way> {
    let addresses = servers.iter().map(|server| server.address.clone());
    let mut ways: Vec<Way> = addresses.map(Way::Preload).collect();
    ways.extend([
        Way::Direct,
        Way::Gpurun(servers[0].address.clone()),
        Way::Embedded,
    ]);
    ways
}

fn servers() -> [Server; 2] {
    [Transport::Tcp, Transport::Unix].map(Server::start)
}

#[test]
fn a_fault_leaves_a_dump_and_ends_the_program() {
    let servers = servers();
    for way in ways(&servers) {
        let folder = Folder::new();
        let outcome = run(folder.command(&way, "address", &[]));
        let ended = outcome.status.signal();
        // `gpurun` tells of a signal as a shell does.
        let is_aborted = ended == ABORTED || outcome.status.code() == Some(128 + 6);
        assert!(is_aborted, "{way:?}: {outcome:?}");
        assert!(!outcome.stdout.contains("FAIL"), "{way:?}: {outcome:?}");
        let dump = folder.dump(&outcome);
        dump.check();
        let memory = dump.of_type(GLOBAL_MEMORY);
        assert!(memory.iter().any(|bytes| bytes.len() >= 4 << 16), "{way:?}");
        let is_text = |(name, _, bytes): &(String, u32, Vec<u8>)| {
            name == ".gpurun.ptx.dev0.ctx0" && String::from_utf8_lossy(bytes).contains("write_at")
        };
        assert!(dump.sections.iter().any(is_text), "{way:?}");
    }
    for server in &servers {
        let scratch = std::fs::read_dir(server.scratch()).expect("a folder");
        assert_eq!(scratch.count(), 0, "nothing is left there");
    }
}

#[test]
fn a_program_may_live_on() {
    let servers = servers();
    let ways = ways(&servers);
    let lives = [
        (FLAGS, "skip_abort"),
        ("CUDA_ENABLE_CPU_COREDUMP_ON_EXCEPTION", "0"),
    ];
    for (way, variable) in ways.iter().zip(lives.iter().cycle()) {
        let folder = Folder::new();
        let outcome = run(folder.command(way, "address", &[*variable]));
        outcome.assert_passed(&format!("{way:?}"));
        folder.dump(&outcome).check();
    }
}

#[test]
fn what_is_left_out_is_left_out() {
    let server = Server::start(Transport::Unix);
    for way in [Way::Direct, Way::Preload(server.address.clone())] {
        for variable in [
            ("CUDA_ENABLE_LIGHTWEIGHT_COREDUMP", "1"),
            (
                FLAGS,
                "skip_nonrelocated_elf_images,skip_global_memory,skip_shared_memory,skip_local_memory",
            ),
        ] {
            let folder = Folder::new();
            let outcome = run(folder.command(&way, "address", &[variable]));
            assert_eq!(outcome.status.signal(), ABORTED, "{way:?}: {outcome:?}");
            let dump = folder.dump(&outcome);
            let names = dump.names();
            let is_left_out = |name: &&&str| {
                [".cudbg.global", ".cudbg.shared", ".gpurun.ptx"]
                    .iter()
                    .any(|begin| name.starts_with(begin))
            };
            assert_eq!(names.iter().find(is_left_out), None, "{way:?}: {names:?}");
            assert!(names.contains(&".cudbg.lntbl.dev0.sm0.cta0.wp0"));
        }
    }
}

#[test]
fn who_asks_for_nothing_gets_nothing() {
    let server = Server::start_with(Transport::Unix, &[ENABLE, (FILE, "/nonexistent/core")]);
    let way = Way::Preload(server.address.clone());
    let folder = Folder::new();
    for variables in [
        &[(ENABLE.0, "0")][..],
        &[(FLAGS, "log_only,skip_abort")][..],
    ] {
        let outcome = run(folder.command(&way, "address", variables));
        outcome.assert_passed("as without core dumps");
        assert!(folder.files().is_empty());
    }
    // What the server's own environment says is not for its sessions.
    let mut command = way.command(&program("static13", "fault"));
    command.arg("address");
    run(command).assert_passed("as without core dumps");
}

#[test]
fn a_program_that_makes_no_call_is_told() {
    let servers = servers();
    for way in ways(&servers) {
        let folder = Folder::new();
        let begin = Instant::now();
        let outcome = run(folder.command(&way, "silent", &[]));
        assert!(!outcome.status.success(), "{way:?}: {outcome:?}");
        assert!(begin.elapsed() < patiently(Duration::from_secs(40)));
        folder.dump(&outcome).check();
    }
}

#[test]
fn a_server_bounds_what_it_holds() {
    let small = Server::configured(Transport::Tcp, "[sandbox]\ncoredump_max = '64KiB'\n");
    let way = Way::Preload(small.address.clone());
    let folder = Folder::new();
    let outcome = run(folder.command(&way, "address", &[]));
    // There was an exception, and the program's settings say what comes behind one.
    assert_eq!(outcome.status.signal(), ABORTED, "{outcome:?}");
    assert!(outcome.stderr.contains("larger than the server allows"));
    assert!(folder.files().is_empty());
    // What fits is there.
    let small = (FLAGS, "skip_global_memory");
    let outcome = run(folder.command(&way, "address", &[small]));
    folder.dump(&outcome).check();
    let none = Server::configured(Transport::Tcp, "[sandbox]\ncoredump_max = '0'\n");
    let way = Way::Preload(none.address.clone());
    let outcome = run(Folder::new().command(&way, "address", &[]));
    outcome.assert_passed("no dumps, and no end");
    let told = "the server's settings allow no core dumps";
    assert!(outcome.stderr.contains(told), "{outcome:?}");
}

#[test]
fn a_driver_without_flags_dumps_as_well() {
    let old = [("GPURUN_SOFT_DRIVER", "12.2")];
    let server = Server::start_with(Transport::Unix, &old);
    let way = Way::Preload(server.address.clone());
    let folder = Folder::new();
    let mut command = way.command(&program("dynamic12", "fault"));
    command.arg("address");
    folder.aim(&mut command, &[(FLAGS, "skip_abort")]);
    let outcome = run(command);
    outcome.assert_passed("by the older attributes");
    folder.dump(&outcome).check();
}

/// Nothing waits for a dump that a lost connection will not bring, and no exception is no end of the process.
#[test]
fn a_lost_connection_ends_no_program() {
    let mut server = Server::start(Transport::Tcp);
    let folder = Folder::new();
    let mut command = folder.command(&Way::Preload(server.address.clone()), "spin", &[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("it can be started");
    let lines = lines_of(child.stdout.take().expect("piped"));
    let line = lines.recv_timeout(patiently(LIVENESS_LIMIT));
    assert_eq!(line.as_deref(), Ok("spinning"));
    server.kill();
    let status = wait(&mut child, LIVENESS_LIMIT).expect("it ends");
    assert!(status.code().is_some_and(|code| code != 0), "{status:?}");
    assert!(folder.files().is_empty());
}
