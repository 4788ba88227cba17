//! Lines and what is understood of them.

use super::*;
use std::path::Path;

fn request(line: &str) -> Result<Request, clap::Error> {
    parse(line.split_whitespace().map(OsString::from).collect())
}

fn joined(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn program(line: &str) -> (Options, NeedOptions, String) {
    match request(line) {
        Ok(Request::Run {
            options,
            need,
            program,
        }) => (options, need, joined(&program)),
        other => panic!("{line}: {other:?}"),
    }
}

fn word(line: &str) -> (Options, Word) {
    match request(line) {
        Ok(Request::Ours { options, word }) => (options, word),
        other => panic!("{line}: {other:?}"),
    }
}

fn mistake(line: &str) -> String {
    let error = request(line).expect_err(line);
    assert!(error.use_stderr(), "{line}");
    error.to_string()
}

#[test]
fn login_takes_a_bundle() {
    let (_, word) = word("login /b");
    assert!(matches!(word, Word::Login { bundle } if bundle == Path::new("/b")));
    mistake("login");
    assert_eq!(program("-- login /b").2, "login /b");
}

#[test]
fn options_end_at_the_first_word() {
    let (options, need, words) = program("-n 2 --server a,b prog -n 3 --help -- x");
    assert_eq!(words, "prog -n 3 --help -- x");
    assert_eq!(
        (need.devices, options.server.as_deref()),
        (Some(2), Some("a,b"))
    );
    let (options, need, words) = program("-n2 --device=soft prog list");
    assert_eq!(
        (need.devices, options.device.as_deref()),
        (Some(2), Some("soft"))
    );
    assert_eq!(words, "prog list");
}

#[test]
fn what_is_said_of_a_lease() {
    let (_, need, words) = program(
        "-p 0.25 --compute 0.5 --filter device.name=*A100* --filter device.phy-memory>=40GiB --wait 10m ./train -p x",
    );
    assert_eq!(words, "./train -p x");
    assert_eq!((need.partial, need.compute), (Some(0.25), Some(0.5)));
    assert_eq!(need.filters.len(), 2);
    assert_eq!(need.wait, Some(Duration::from_secs(600)));
    let (_, need, _) = program("-m 512 --no-wait true");
    assert_eq!((need.memory, need.no_wait), (Some(512 << 20), true));
    assert_eq!(program("-m 2GiB true").1.memory, Some(2 << 30));
    assert_eq!(program("true").1, NeedOptions::default());
}

#[test]
fn what_cannot_be_said_of_a_lease() {
    assert!(mistake("-p 0.5 -m 512 true").contains("cannot be used with"));
    assert!(mistake("--wait 1s --no-wait true").contains("cannot be used with"));
    for line in [
        "-p 0 true",
        "-p 1.5 true",
        "-p NaN true",
        "--compute -1 true",
        "-p x true",
    ] {
        mistake(line);
    }
    assert!(mistake("-p 2 true").contains("at most 1"));
    assert!(mistake("-m 0 true").contains("not a size"));
    assert!(mistake("--wait 5 true").contains("10m"));
    assert!(mistake("--filter device.nam=x true").contains("device.phy-memory"));
}

#[test]
fn any_name_can_be_a_program() {
    assert_eq!(program("-- list --json").2, "list --json");
    assert_eq!(program("--transport tcp -- -odd").2, "-odd");
    let (options, need, words) = program("--server a run -n 4 list");
    assert_eq!((words.as_str(), need.devices), ("list", Some(4)));
    assert_eq!(options.server.as_deref(), Some("a"));
    assert_eq!(program("run -- run").2, "run");
    assert_eq!(program("run exec").2, "exec");
}

#[test]
fn our_words() {
    for line in ["--server a list --json", "list --json --server a"] {
        let (options, word) = word(line);
        assert!(matches!(word, Word::List { json: true }));
        assert_eq!(options.server.as_deref(), Some("a"));
    }
    assert!(matches!(word("version").1, Word::Version));
    assert!(matches!(word("release l").1, Word::Release { lease } if lease == "l"));
    assert!(
        matches!(word("renew l 8h").1, Word::Renew { lease, time } if lease == "l" && time.as_secs() == 8 * 3600)
    );
    assert!(matches!(word("leases").1, Word::Leases { json: false }));
    assert!(matches!(
        word("smi").1,
        Word::Smi {
            lease: None,
            json: false
        }
    ));
    assert!(matches!(
        word("smi l --json").1,
        Word::Smi {
            lease: Some(_),
            json: true
        }
    ));
    assert!(matches!(word("stats").1, Word::Stats { json: false }));
    assert!(matches!(word("health").1, Word::Health { json: false }));
    let (_, drain) = word("drain --revoke --time 30m");
    assert!(
        matches!(drain, Word::Drain { revoke: true, time: Some(time), undo: false, .. } if time.as_secs() == 1800)
    );
    assert!(matches!(
        word("completions zsh").1,
        Word::Completions { .. }
    ));
}

#[test]
fn request_takes_what_a_program_takes() {
    for line in [
        "-n 2 request -p 0.5 --time 8h",
        "request -n 2 -p 0.5 --time 8h",
    ] {
        let (_, word) = word(line);
        let Word::Request { need, time } = word else {
            panic!("{line}: {word:?}")
        };
        assert_eq!((need.devices, need.partial), (Some(2), Some(0.5)));
        assert_eq!(time, Some(Duration::from_secs(8 * 3600)));
    }
    assert!(mistake("-p 0.5 request -m 1GiB").contains("together"));
    assert!(mistake("-n 2 list").contains("-n cannot be chosen here"));
    mistake("list -n 2");
}

#[test]
fn exec_takes_a_lease_and_a_program() {
    for line in [
        "exec l --server a bash -c x",
        "exec --server a l bash -c x",
        "--server a exec l -- bash -c x",
    ] {
        match request(line) {
            Ok(Request::Exec {
                options,
                lease,
                program,
            }) => {
                assert_eq!(
                    (lease.as_str(), joined(&program).as_str()),
                    ("l", "bash -c x")
                );
                assert_eq!(options.server.as_deref(), Some("a"));
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    assert!(mistake("exec l").contains("no program to run"));
    mistake("exec");
    assert!(mistake("-p 0.5 exec l bash").contains("-p cannot be chosen here"));
    assert!(!request("exec --help").expect_err("help").use_stderr());
}

#[test]
fn mistakes_and_help() {
    for line in [
        "",
        "run",
        "-n 2",
        "-n 0 prog",
        "-n 65 prog",
        "--sever a prog",
        "--server",
        "list x",
        "renew l",
        "drain --time 5m",
        "drain --undo --revoke",
        "completions dos",
    ] {
        mistake(line);
    }
    let help = request("--help").expect_err("help");
    assert!(!help.use_stderr());
    assert!(help.to_string().contains("gpurun -p 0.25 python train.py"));
}

#[test]
fn every_command_has_an_example() {
    let command = CommandLine::command();
    for word in command.get_subcommands().filter(|word| !word.is_hide_set()) {
        let name = word.get_name();
        let line = format!("{name} --help");
        let help = word.clone().render_long_help().to_string();
        assert!(help.contains("Example"), "{name}");
        if name != "run" {
            assert!(!request(&line).expect_err("help").use_stderr(), "{name}");
        }
    }
}

#[test]
fn shells_complete_our_words() {
    let script = completions(clap_complete::Shell::Bash);
    let script = String::from_utf8(script).expect("text");
    for word in ["request", "completions", "--no-wait"] {
        assert!(script.contains(word), "{word}");
    }
}
