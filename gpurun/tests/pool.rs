//! Leases as a person meets them: gpurun and real servers on the software GPU, as processes.

mod installation;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use installation::{gpurun, installation, output, text};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here takes, several times over.
const LIMIT: Duration = Duration::from_secs(60);

/// The driver: the software GPU, as `scripts/build` makes it.
fn driver() -> PathBuf {
    let named = std::env::var_os("GPURUN_TEST_DRIVER").map(PathBuf::from);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let driver = named.unwrap_or_else(|| workspace.join("target/release/libsoft_gpu.so"));
    assert!(
        driver.exists(),
        "no software GPU: cargo build --release -p soft-gpu"
    );
    driver
}

/// A server of so many software GPUs of 1 GiB.
struct Server {
    child: Child,
    address: String,
    state: tempfile::TempDir,
}

impl Server {
    fn start(gpus: u32) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        Self::on(state, gpus, "")
    }

    /// One that takes loopback for another machine: TLS and tokens.
    fn far() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let output = gpu_server(&["init", "--name", "localhost"], state.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        Self::on(state, 1, "trust_loopback = false")
    }

    fn on(state: tempfile::TempDir, gpus: u32, settings: &str) -> Self {
        let (child, address) = serve(state.path(), gpus, settings, "tcp://127.0.0.1:0");
        Self {
            child,
            address,
            state,
        }
    }

    /// Kills it and starts it again, at the same address and with the same state.
    fn restart(&mut self, gpus: u32) {
        self.child.kill().expect("killed");
        self.child.wait().expect("its status");
        (self.child, _) = serve(self.state.path(), gpus, "", &self.address);
    }

    /// A file with a new token of this tenant, and the authority.
    fn bundle(&self, tenant: &str, words: &[&str]) -> PathBuf {
        let file = self.state.path().join(tenant);
        let path = file.display().to_string();
        let mut all = vec!["token", "create", "--tenant", tenant];
        all.extend(words);
        all.extend(["--bundle", &path, "--server", &self.address]);
        let output = gpu_server(&all, self.state.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        file
    }

    /// gpurun with this server.
    fn gpurun(&self, words: &[&str]) -> Command {
        let mut command = gpurun(words);
        command.env("GPURUN_SERVER", &self.address);
        command
    }

    fn says(&self, words: &[&str]) -> Output {
        output(&mut self.gpurun(words))
    }

    fn json(&self, words: &[&str]) -> Value {
        json(&self.says(words))
    }

    fn leases(&self) -> Vec<Value> {
        let value = self.json(&["leases", "--json"]);
        value["leases"].as_array().expect("leases").clone()
    }

    /// Waits until there are so many requests in the queue.
    fn wait_for_queue(&self, length: usize) {
        let end = Instant::now() + LIMIT;
        let queued = || {
            self.json(&["leases", "--json"])["queue"]
                .as_array()
                .map(Vec::len)
        };
        while queued() != Some(length) {
            assert!(Instant::now() < end, "the queue has not {length}");
        }
    }

    /// Waits until there is no lease.
    fn wait_for_no_lease(&self) {
        let end = Instant::now() + LIMIT;
        while !self.leases().is_empty() {
            assert!(Instant::now() < end, "a lease stays");
        }
    }

    /// A program under a lease, that has begun.
    fn run(&self, words: &[&str]) -> Program {
        let mut program = self.ask(words);
        program.begin();
        program
    }

    /// A program that may have to wait for its lease.
    fn ask(&self, words: &[&str]) -> Program {
        Program::start(&mut self.gpurun(words))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server's process, and where it listens.
fn serve(state: &Path, gpus: u32, settings: &str, listen: &str) -> (Child, String) {
    let config = state.join("server.toml");
    let settings = format!("state = '{}'\n{settings}\n", state.display());
    std::fs::write(&config, settings).expect("written");
    // A device of this server's own: a name that begins with a dot would be refused, and the user's device taken.
    let segment = format!("gpurun-cli{}", state.file_name().expect("a name").display());
    let mut child = Command::new(installation().join("bin/gpu-server"))
        .args(["serve", "--device", "soft", "--listen", listen])
        .arg("--driver")
        .arg(driver())
        .arg("--config")
        .arg(&config)
        .env("GPURUN_SOFT_GPUS", gpus.to_string())
        .env("GPURUN_SOFT_MEMORY", "1GiB")
        .env("GPURUN_SOFT_SEGMENT", segment)
        .env_remove("GPURUN_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("gpu-server");
    let mut line = String::new();
    let output = child.stdout.take().expect("stdout");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("listening on ");
    (child, address.expect("an address").to_owned())
}

fn gpu_server(words: &[&str], state: &Path) -> Output {
    let mut command = Command::new(installation().join("bin/gpu-server"));
    command.args(words).arg("--state").arg(state);
    command.output().expect("gpu-server")
}

fn json(output: &Output) -> Value {
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{errors}"))
}

/// What ends: a status, and what was said of it.
fn failure(output: &Output) -> (i32, String) {
    let status = output.status.code().expect("a status");
    (status, text(&output.stderr))
}

/// Lines of a pipe, each within [`LIMIT`].
struct Lines(Receiver<String>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (give, take) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if give.send(line).is_err() {
                    return;
                }
            }
        });
        Self(take)
    }

    /// The next one; nothing at the end.
    fn next(&self) -> Option<String> {
        match self.0.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line in time"),
        }
    }

    /// The next one with this in it.
    fn until(&self, words: &str) -> String {
        let mut seen = Vec::new();
        while let Some(line) = self.next() {
            if line.contains(words) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with '{words}' in {seen:?}");
    }

    /// Whether nothing has come yet.
    fn is_silent(&self) -> bool {
        self.0.try_recv().is_err()
    }
}

/// A program under gpurun that says its lease and its server, and ends with its input.
struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines,
    errors: Lines,
    lease: String,
    server: String,
    devices: String,
}

const SCRIPT: &str = "echo $GPURUN_LEASE $GPURUN_SERVER $GPURUN_DEVICES; read line; exit 0";

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .args(["sh", "-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpurun");
        Self {
            input: child.stdin.take(),
            lines: Lines::of(child.stdout.take().expect("stdout")),
            errors: Lines::of(child.stderr.take().expect("stderr")),
            child,
            lease: String::new(),
            server: String::new(),
            devices: String::new(),
        }
    }

    /// Waits until it has a lease and runs.
    fn begin(&mut self) {
        let line = self.lines.next().unwrap_or_else(|| {
            let errors: Vec<String> = std::iter::from_fn(|| self.errors.next()).collect();
            panic!("it did not begin: {errors:?}");
        });
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().expect("a word");
        (self.lease, self.server, self.devices) = (word(), word(), word());
    }

    /// Ends it; its status.
    fn end(mut self) -> Option<i32> {
        drop(self.input.take());
        self.child.wait().expect("its status").code()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signalled");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn programs_share_a_device_by_fractions() {
    let server = Server::start(1);
    let one = server.run(&["-p", "0.5"]);
    let two = server.run(&["-m", "256", "--compute", "0.5"]);
    assert_ne!(one.lease, two.lease);
    assert_eq!(one.server, server.address);
    assert_eq!(one.devices, "1");
    let leases = server.leases();
    let slice = |lease: &str| {
        let found = leases.iter().find(|found| found["lease"] == lease);
        let slice = &found.expect("a lease")["devices"][0];
        (slice["memory_bytes"].as_u64(), slice["compute"].as_f64())
    };
    assert_eq!(slice(&one.lease), (Some(512 << 20), Some(0.5)));
    assert_eq!(slice(&two.lease), (Some(256 << 20), Some(0.5)));

    let (status, errors) = failure(&server.says(&["-p", "0.5", "--no-wait", "true"]));
    assert_eq!(status, 121);
    assert!(errors.contains("refused: nothing is free"), "{errors}");
    let (status, errors) = failure(&server.says(&["--wait", "100ms", "true"]));
    assert_eq!(status, 122);
    assert!(errors.contains("place 1 of 1"), "{errors}");
    assert!(
        server.json(&["leases", "--json"])["queue"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    assert_eq!((one.end(), two.end()), (Some(0), Some(0)));
    assert!(server.leases().is_empty(), "given back before gpurun ends");
}

#[test]
fn a_slice_that_cannot_be_is_refused_in_words() {
    let server = Server::start(1);
    let (status, errors) = failure(&server.says(&["-m", "2GiB", "true"]));
    assert_eq!(status, 121);
    assert!(errors.contains("more than any device can give"), "{errors}");
    let (status, errors) = failure(&server.says(&["-m", "1", "true"]));
    assert_eq!(status, 121);
    assert!(errors.contains("cannot hold a CUDA context"), "{errors}");
    let filter = ["--filter", "device.name=Tesla*", "true"];
    let (status, errors) = failure(&server.says(&filter));
    assert_eq!(status, 121);
    assert!(errors.contains("with device.name=Tesla*"), "{errors}");
    let filter = ["--filter", "device.phy-memory>=1GiB", "true"];
    assert!(server.says(&filter).status.success());
    let both = server.says(&["-p", "0.5", "-m", "1GiB", "true"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn the_queue_is_in_order_and_says_where_one_stands() {
    let server = Server::start(1);
    let holder = server.run(&[]);
    let mut first = server.ask(&[]);
    server.wait_for_queue(1);
    let mut second = server.ask(&[]);
    server.wait_for_queue(2);
    let line = first.errors.until("waiting");
    assert!(line.contains("waiting: place 1 of "), "{line}");
    let line = second.errors.until("waiting");
    assert!(line.contains("waiting: place 2 of 2"), "{line}");
    let queue = text(&server.says(&["leases"]).stdout);
    assert!(
        queue.contains("place") && queue.contains("1 device"),
        "{queue}"
    );
    assert!(first.lines.is_silent() && second.lines.is_silent());
    assert_eq!(holder.end(), Some(0));
    first.begin();
    assert!(second.lines.is_silent());
    assert_eq!(first.end(), Some(0));
    second.begin();
    assert_eq!(second.end(), Some(0));
}

#[test]
fn who_goes_away_leaves_the_queue() {
    let server = Server::start(1);
    let holder = server.run(&[]);
    let waiting = server.ask(&[]);
    server.wait_for_queue(1);
    waiting.signal(Signal::INT);
    server.wait_for_queue(0);
    drop(waiting);
    assert_eq!(holder.end(), Some(0));
}

#[test]
fn a_lease_ends_with_its_program_however_that_ends() {
    let server = Server::start(1);
    let killed = output(&mut server.gpurun(&["sh", "-c", "kill -KILL $$"]));
    assert_eq!(killed.status.code(), Some(128 + 9));
    assert!(server.leases().is_empty());
    let missing = server.says(&["/etc/passwd"]);
    assert_eq!(missing.status.code(), Some(126));
    assert!(server.leases().is_empty());

    let mut terminated = server.run(&[]);
    terminated.signal(Signal::TERM);
    let status = terminated.child.wait().expect("its status");
    assert_eq!(status.code(), Some(128 + 15));
    assert!(server.leases().is_empty());
}

#[test]
fn a_lease_does_not_outlive_its_launcher() {
    let state = tempfile::tempdir().expect("a directory");
    let server = Server::on(state, 1, "[pool]\nholder_grace = '200ms'");
    let program = server.run(&[]);
    assert_eq!(server.leases().len(), 1);
    program.signal(Signal::KILL);
    server.wait_for_no_lease();
}

#[test]
fn a_lease_without_a_program() {
    let server = Server::start(2);
    let requested = server.says(&["request", "-n", "2", "-p", "0.5", "--time", "1h"]);
    let lease = text(&requested.stdout).trim_end().to_owned();
    let details = text(&requested.stderr);
    assert!(lease.starts_with("l-") && !lease.contains(char::is_whitespace));
    assert!(
        details.contains("512 MiB of device 0") && details.contains("until "),
        "{details}"
    );
    let found = &server.leases()[0];
    assert_eq!(
        (&found["lease"], &found["detached"]),
        (&lease.as_str().into(), &true.into())
    );

    let mut command = server.gpurun(&["exec", &lease]);
    let mut program = Program::start(&mut command);
    program.begin();
    assert_eq!((&program.lease, &program.server), (&lease, &server.address));
    assert_eq!(program.devices, "2");
    assert_eq!(program.end(), Some(0));
    let status = server.says(&["exec", &lease, "sh", "-c", "exit 7"]).status;
    assert_eq!(status.code(), Some(7));
    assert_eq!(server.leases().len(), 1, "it stays");

    let renewed = server.says(&["renew", &lease, "2h"]);
    assert!(text(&renewed.stderr).contains(&format!("lease {lease} ends ")));
    assert!(server.says(&["release", &lease]).status.success());
    assert!(server.leases().is_empty());
    for words in [
        &["release", &lease][..],
        &["exec", &lease, "true"],
        &["renew", &lease, "1h"],
    ] {
        let (status, errors) = failure(&server.says(words));
        assert_eq!(status, 121, "{words:?}");
        assert!(
            errors.contains(&format!("there is no lease {lease}")),
            "{errors}"
        );
    }
    let (status, errors) = failure(&output(&mut gpurun(&["request"])));
    assert_eq!(status, 2);
    assert!(errors.contains("no server configured"), "{errors}");
}

#[test]
fn a_gpurun_inside_shares_the_lease() {
    let server = Server::start(1);
    let inner = installation().join("bin/gpurun");
    let inner = inner.display();
    let script = format!(
        "echo $GPURUN_LEASE; {inner} sh -c 'echo $GPURUN_LEASE'; \
         {inner} -p 0.5 true; echo $?; {inner} --server other true; echo $?"
    );
    let outer = server.says(&["sh", "-c", &script]);
    let lines: Vec<String> = text(&outer.stdout).lines().map(str::to_owned).collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2..], ["2", "2"]);
    let errors = text(&outer.stderr);
    assert!(
        errors.contains(&format!(
            "-p cannot be chosen here: the program shares lease {}",
            lines[0]
        )),
        "{errors}"
    );
    assert!(
        errors.contains("--server cannot be chosen here"),
        "{errors}"
    );
}

#[test]
fn a_lease_that_is_set_by_hand_prepares_for_its_devices() {
    const SAYS: [&str; 3] = ["sh", "-c", "echo $GPURUN_LEASE $CUPY_COMPILE_WITH_PTX"];
    let server = Server::start(1);
    let lease = text(&output(&mut server.gpurun(&["request"])).stdout)
        .trim()
        .to_owned();
    let inside = output(server.gpurun(&SAYS).env("GPURUN_LEASE", &lease));
    assert_eq!(text(&inside.stdout).trim(), format!("{lease} 1"));
    // Of two servers it is the one that has the lease; one that cannot be asked hinders nothing.
    let both = format!("tcp://127.0.0.1:1,{}", server.address);
    let mut command = gpurun(&["--server", &both]);
    let inside = output(command.args(SAYS).env("GPURUN_LEASE", &lease));
    assert_eq!(text(&inside.stdout).trim(), format!("{lease} 1"));
    let mut command = gpurun(&["--server", "tcp://127.0.0.1:1"]);
    let inside = output(command.args(SAYS).env("GPURUN_LEASE", &lease));
    assert_eq!(text(&inside.stdout).trim(), lease);
}

#[test]
fn the_private_server_gives_leases_too() {
    let mut command = gpurun(&["--device", "soft", "-p", "0.25"]);
    let mut program = Program::start(&mut command);
    program.begin();
    assert!(program.lease.starts_with("l-") && program.server.starts_with("unix:"));
    let leases = gpurun(&["leases", "--json", "--server", &program.server]).output();
    let leases = json(&leases.expect("gpurun"));
    let slice = &leases["leases"][0]["devices"][0];
    assert_eq!(slice["compute"], 0.25);
    assert_eq!(program.end(), Some(0));
    let (status, errors) = failure(&output(&mut gpurun(&[
        "--device", "soft", "-n", "9", "true",
    ])));
    assert_eq!(status, 121);
    assert!(errors.contains("no server has 9 devices"), "{errors}");
}

#[test]
fn the_first_server_that_has_it_gives_it() {
    let (full, free) = (Server::start(1), Server::start(1));
    let holder = full.run(&[]);
    let both = format!("{},{}", full.address, free.address);
    let ask = || {
        let mut command = gpurun(&["--server", &both]);
        Program::start(&mut command)
    };
    let mut program = ask();
    program.begin();
    assert_eq!(program.server, free.address);
    full.wait_for_queue(0);

    let mut waiting = ask();
    full.wait_for_queue(1);
    free.wait_for_queue(1);
    let line = waiting.errors.until("waiting");
    assert!(line.contains("and in 1 other queue"), "{line}");
    assert_eq!(holder.end(), Some(0));
    waiting.begin();
    assert_eq!(waiting.server, full.address);
    free.wait_for_queue(0);
    assert_eq!((waiting.end(), program.end()), (Some(0), Some(0)));
    assert!(full.leases().is_empty() && free.leases().is_empty());
}

#[test]
fn what_came_second_is_given_back() {
    let (one, two) = (Server::start(1), Server::start(1));
    let both = format!("{},{}", one.address, two.address);
    for _ in 0..5 {
        let ran = output(&mut gpurun(&["--server", &both, "true"]));
        assert!(ran.status.success(), "{}", text(&ran.stderr));
        assert!(one.leases().is_empty() && two.leases().is_empty());
    }
    let requested = output(&mut gpurun(&["request", "--server", &both]));
    assert!(requested.status.success());
    assert_eq!(one.leases().len() + two.leases().len(), 1);
}

#[test]
fn no_server_has_so_many() {
    let (one, two) = (Server::start(1), Server::start(2));
    for list in [
        format!("{},{}", one.address, two.address),
        format!("{},{}", two.address, one.address),
    ] {
        let (status, errors) = failure(&output(&mut gpurun(&[
            "--server", &list, "-n", "3", "true",
        ])));
        assert_eq!(status, 121);
        assert!(
            errors.starts_with("gpurun: no server has 3 devices; largest: "),
            "{errors}"
        );
        assert!(
            errors.ends_with(" with 2\n") && errors.lines().count() == 1,
            "{errors}"
        );
    }
}

#[test]
fn servers_that_are_not_there_and_those_that_are_not_meant() {
    let server = Server::start(1);
    let list = format!("127.0.0.1:1,{}", server.address);
    let with = |words: &[&str]| {
        let mut command = gpurun(&["--server", &list]);
        command.args(words);
        command
    };
    let mut program = Program::start(&mut with(&[]));
    program.begin();
    let (status, errors) = failure(&output(&mut with(&["--wait", "10ms", "true"])));
    assert_eq!(status, 122);
    assert!(
        errors.contains("cannot reach tcp://127.0.0.1:1"),
        "{errors}"
    );
    assert_eq!(program.end(), Some(0));

    let here = format!("server.addr={}", server.address);
    let only = output(&mut with(&["--filter", &here, "true"]));
    assert_eq!(
        (only.status.code(), text(&only.stderr)),
        (Some(0), String::new())
    );
    let (status, errors) = failure(&output(&mut with(&[
        "--filter",
        "server.addr=other",
        "true",
    ])));
    assert_eq!(status, 2);
    assert!(
        errors.contains("no server is as server.addr=other says"),
        "{errors}"
    );
    let (status, _) = failure(&output(&mut gpurun(&[
        "--server",
        "127.0.0.1:1",
        "request",
    ])));
    assert_eq!(status, 120);
}

#[test]
fn a_lease_belongs_to_its_tenant() {
    let server = Server::far();
    let (ann, bob) = (server.bundle("ann", &[]), server.bundle("bob", &[]));
    let chief = server.bundle("chief", &["--operator"]);
    let with = |bundle: &Path, words: &[&str]| {
        let mut command = server.gpurun(words);
        output(command.env("GPURUN_TOKEN_FILE", bundle))
    };
    let requested = with(&ann, &["request", "-p", "0.5"]);
    let lease = text(&requested.stdout).trim_end().to_owned();
    assert!(lease.starts_with("l-"), "{}", text(&requested.stderr));
    for words in [
        &["release", &lease][..],
        &["renew", &lease, "1h"],
        &["exec", &lease, "true"],
        &["smi", &lease],
    ] {
        let (status, errors) = failure(&with(&bob, words));
        assert_eq!(status, 121, "{words:?}");
        assert!(errors.contains("belongs to another tenant"), "{errors}");
    }
    let leases = |bundle: &Path| json(&with(bundle, &["leases", "--json"]))["leases"].clone();
    assert_eq!(leases(&bob), Value::Array(Vec::new()));
    assert_eq!(leases(&ann)[0]["tenant"], "ann");
    assert_eq!(leases(&chief)[0]["lease"], lease.as_str());
    let (status, errors) = failure(&with(&ann, &["drain"]));
    assert_eq!(status, 121);
    assert!(errors.contains("only operators"), "{errors}");

    let health = text(&with(&ann, &["health"]).stdout);
    assert!(
        health.contains("TLS 1.3") && health.contains("with a token"),
        "{health}"
    );
    let ran = with(&bob, &["-p", "0.5", "sh", "-c", "echo $GPURUN_LEASE"]);
    assert!(text(&ran.stdout).starts_with("l-"), "{}", text(&ran.stderr));
    assert!(with(&ann, &["release", &lease]).status.success());
    let (status, errors) = failure(&server.says(&["request"]));
    assert_eq!(status, 121);
    assert!(errors.contains("gpurun login"), "{errors}");
}

#[test]
fn a_server_that_is_drained() {
    let server = Server::start(1);
    let mut program = server.run(&[]);
    let drained = text(&server.says(&["drain"]).stdout);
    assert!(drained.contains("(1 lease) end by themselves"), "{drained}");
    let warning = program.errors.next().expect("a warning");
    assert!(
        warning.starts_with("gpurun: ") && warning.contains("drain"),
        "{warning}"
    );
    let (status, errors) = failure(&server.says(&["-p", "0.1", "true"]));
    assert_eq!(status, 121);
    assert!(errors.contains("draining"), "{errors}");
    let listed = server.says(&["list"]);
    assert!(text(&listed.stderr).contains("is draining"));

    let drained = server.json(&["drain", "--revoke", "--json"]);
    assert_eq!(drained["draining"], true);
    let over = program.errors.until("is over (drained)");
    assert!(over.contains(&program.lease), "{over}");
    drop(program.input.take());
    assert!(program.child.wait().expect("its status").success());
    let again = text(&server.says(&["drain", "--undo"]).stdout);
    assert!(again.contains("gives leases again"), "{again}");
    assert!(server.says(&["true"]).status.success());
    let several = gpurun(&["drain", "--server", "a,b"]).output();
    assert_eq!(several.expect("gpurun").status.code(), Some(2));
}

#[test]
fn a_program_goes_on_when_its_server_is_gone() {
    let mut server = Server::start(1);
    let program = server.run(&[]);
    server.child.kill().expect("killed");
    server.child.wait().expect("its status");
    let line = program.errors.until("the program goes on");
    assert!(line.contains(&server.address), "{line}");
    assert_eq!(program.end(), Some(0));
}

#[test]
fn a_lease_outlives_a_restart_of_its_server() {
    let mut server = Server::start(1);
    let program = server.run(&["-p", "0.5"]);
    server.restart(1);
    let line = program.errors.until("again");
    let line = match line.contains("trying") {
        true => program.errors.until("again"),
        false => line,
    };
    assert!(
        line.ends_with(&format!("holds lease {} again", program.lease)),
        "{line}"
    );
    assert_eq!(server.leases()[0]["lease"], program.lease.as_str());
    assert_eq!(program.end(), Some(0));
    assert!(
        server.leases().is_empty(),
        "given back over the new connection"
    );
}

#[test]
fn what_there_is_and_how_it_is_used() {
    let server = Server::start(2);
    let program = server.run(&["-p", "0.25", "--filter", "device.id=1"]);
    let devices = server.json(&["list", "--json"]);
    assert_eq!(devices[0]["free_memory_bytes"], 1_u64 << 30);
    assert_eq!(devices[1]["free_memory_bytes"], 768 << 20);
    assert_eq!(devices[1]["free_compute"], 0.75);
    assert_eq!(
        (&devices[1]["leases"], &devices[1]["queued"]),
        (&1.into(), &0.into())
    );
    let table = text(&server.says(&["list"]).stdout);
    assert!(
        table.contains("free compute") && table.contains("0.75"),
        "{table}"
    );

    let table = text(&server.says(&["leases"]).stdout);
    assert!(
        table.contains(&program.lease) && table.contains("1: 256 MiB × 0.25"),
        "{table}"
    );
    assert_eq!(server.leases()[0]["holder"]["program"], "sh");

    let used = server.json(&["smi", "--json"]);
    assert_eq!(used[0]["lease"], program.lease.as_str());
    assert_eq!(used[0]["devices"][0]["memory_bytes"], 256 << 20);
    let one = server.says(&["smi", &program.lease]);
    let one = text(&one.stdout);
    assert!(one.contains(&program.lease) && one.contains("25%"), "{one}");
    let mut inside = server.gpurun(&["smi", "--json"]);
    let inside = json(&output(inside.env("GPURUN_LEASE", &program.lease)));
    assert_eq!(inside[0]["lease"], program.lease.as_str());

    assert!(server.json(&["stats", "--json"]).is_array());
    assert!(server.says(&["stats"]).status.success());
    assert_eq!(program.end(), Some(0));
    let none = server.says(&["leases"]);
    assert_eq!(text(&none.stdout), "no leases\n");
}

#[test]
fn what_is_well_and_what_is_not() {
    let server = Server::start(1);
    let health = server.json(&["health", "--json"]);
    let checks = health.as_array().expect("checks");
    let result = |check: &str| {
        let found = checks.iter().find(|found| found["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {health:#}"))["result"].clone()
    };
    for check in ["libraries", "versions", "encryption", "MTU", "transport"] {
        assert_eq!(result(check), "good", "{check}");
    }
    // A busy machine may be slow to answer.
    assert_ne!(result("server"), "bad");
    assert_eq!(result("driver"), "warning");
    let table = text(&server.says(&["health"]).stdout);
    assert!(
        table.contains("median of 9") && table.contains("what to do"),
        "{table}"
    );

    let list = format!("127.0.0.1:1,{}", server.address);
    let one_gone = output(&mut gpurun(&["health", "--server", &list]));
    assert_eq!(one_gone.status.code(), Some(1));
    let none = output(&mut gpurun(&["health", "--server", "127.0.0.1:1"]));
    assert_eq!(none.status.code(), Some(120));
    assert!(text(&none.stdout).contains("connection refused"));
    let private = output(&mut gpurun(&["health", "--device", "soft"]));
    assert!(
        text(&private.stdout).contains("SOFTWARE"),
        "{}",
        text(&private.stderr)
    );
}

#[test]
fn shells_complete_what_is_typed() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&mut gpurun(&["completions", shell]));
        assert!(script.status.success());
        assert!(text(&script.stdout).contains("request"), "{shell}");
    }
}
