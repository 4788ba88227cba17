//! The command line: options end at the first word that is none.
//!
//! That word is a command of ours (`list`, `login`, `version`, `run`) or else the program, and everything behind a program is the
//! program's. `gpurun run … PROGRAM` and `gpurun … -- PROGRAM` run a program whatever its name.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use protocol::config::Texts;
use protocol::limits::MAX_DEVICES;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Request {
    /// Run a program: its name and its arguments.
    Run {
        options: Options,
        program: Vec<OsString>,
    },
    /// List devices.
    List { options: Options, json: bool },
    /// Take in a bundle.
    Login(PathBuf),
    /// Print the release.
    Version,
}

/// Run an unmodified CUDA program on GPUs that are elsewhere.
#[derive(Parser, Debug)]
#[command(
    name = "gpurun",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    override_usage = "gpurun [OPTIONS] PROGRAM [ARGUMENT]...\n       gpurun [OPTIONS] list [--json]\n       gpurun login BUNDLE\n       gpurun version",
    after_help = EXAMPLES
)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    word: Option<Word>,
}

const EXAMPLES: &str = "\
Options end at the first word that is none; everything behind PROGRAM is the program's.

Examples:
  gpurun python train.py                       on the configured server, else on this machine
  gpurun --server gpu1 python train.py         on the server gpu1, port 7370
  gpurun --server unix:/run/gpurun/server.sock ./vector_add
  gpurun --server gpu1 --transport rdma python train.py
  gpurun -n 2 ./multi                          the program sees two devices
  gpurun --device soft ./vector_add            on the software GPU, with no GPU anywhere
  GPURUN_STATS=1 gpurun ./vector_add           and say afterwards what was called
  gpurun list --server gpu1                    the devices of a server
  gpurun login ann.gpurun                      take in what a server's operator gave you
  gpurun -- list                               a program that is called list

Settings come from options, then GPURUN_SERVER, GPURUN_TRANSPORT and GPURUN_DEVICE, then
~/.config/gpurun/config.toml, then /etc/gpurun/config.toml. With no server configured, gpurun starts a
private one for the run.

Exit status: the program's own; 128 + N if signal N ended it; 126 or 127 if it cannot be run or found; 2 for
wrong usage; 120 no server, 121 refused, 123 internal failure.";

#[derive(Subcommand, Debug)]
enum Word {
    /// List the devices of the servers
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take in the bundle that a server's operator gave you
    Login {
        /// The file of gpu-server token create
        bundle: PathBuf,
    },
    /// Run a program, whatever its name
    Run,
    /// Print the release
    Version,
}

/// The options of every command.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Options {
    /// How many devices the program sees
    #[arg(short = 'n', long, value_name = "N", global = true,
        value_parser = clap::value_parser!(u32).range(1..=MAX_DEVICES as i64))]
    pub(crate) devices: Option<u32>,
    /// The servers
    #[arg(
        long,
        value_name = "LIST",
        global = true,
        help = "The servers: [tcp://]HOST[:PORT] or unix:PATH, with commas between"
    )]
    pub(crate) server: Option<String>,
    /// How to reach them: auto, tcp, unix or rdma
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) transport: Option<String>,
    /// The RDMA device, where several are there
    #[arg(
        long,
        value_name = "DEVICE",
        global = true,
        help = "The RDMA device, DEVICE[:PORT[:GID]] [default: the one that has the connection's address]"
    )]
    pub(crate) rdma_device: Option<String>,
    /// What devices are made of: auto, gpu or soft
    #[arg(long, value_name = "KIND", global = true)]
    pub(crate) device: Option<String>,
}

impl Options {
    /// The options as the first source of settings.
    pub(crate) fn texts(&self) -> Texts {
        Texts {
            server: self.server.clone(),
            transport: self.transport.clone(),
            device: self.device.clone(),
            rdma_device: self.rdma_device.clone(),
            ..Texts::default()
        }
    }
}

/// Where the options end.
struct Split {
    options: Vec<OsString>,
    /// The first word and everything behind it.
    words: Vec<OsString>,
    /// The first word stands behind `--`.
    is_separated: bool,
}

fn split(arguments: Vec<OsString>) -> Split {
    let command = CommandLine::command();
    let takes_value = |text: &str| {
        command.get_arguments().any(|argument| {
            let is_named = match text.strip_prefix("--") {
                Some(long) => argument.get_long() == Some(long),
                // A short option whose value is not attached.
                None => argument
                    .get_short()
                    .is_some_and(|short| text == format!("-{short}")),
            };
            is_named && argument.get_action().takes_values()
        })
    };
    let mut options = Vec::new();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        if text == "--" {
            return Split {
                options,
                words: rest.collect(),
                is_separated: true,
            };
        }
        if !text.starts_with('-') || text == "-" {
            let words = std::iter::once(argument).chain(rest).collect();
            return Split {
                options,
                words,
                is_separated: false,
            };
        }
        let has_value = takes_value(&text);
        options.push(argument);
        if has_value {
            options.extend(rest.next());
        }
    }
    Split {
        options,
        words: Vec::new(),
        is_separated: false,
    }
}

/// Understands the command line, without the name of this program.
///
/// # Errors
/// What to print: a mistake, or the help that was asked for.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Request, clap::Error> {
    let Split {
        mut options,
        mut words,
        is_separated,
    } = split(arguments);
    let first = words
        .first()
        .map(|word| word.to_string_lossy().into_owned());
    match first.as_deref() {
        Some("list" | "login" | "version") if !is_separated => {
            options.append(&mut words);
            return parse_ours(options);
        }
        Some("run") if !is_separated => {
            let behind = split(words.split_off(1));
            options.extend(behind.options);
            words = behind.words;
        }
        _ => {}
    }
    let line = parse_line(options)?;
    if words.is_empty() {
        let message =
            "no program to run: gpurun [OPTIONS] PROGRAM [ARGUMENT]... (see gpurun --help)\n";
        return Err(clap::Error::raw(
            clap::error::ErrorKind::MissingRequiredArgument,
            message,
        ));
    }
    Ok(Request::Run {
        options: line.options,
        program: words,
    })
}

fn parse_line(arguments: Vec<OsString>) -> Result<CommandLine, clap::Error> {
    let name = OsString::from("gpurun");
    CommandLine::try_parse_from(std::iter::once(name).chain(arguments))
}

fn parse_ours(arguments: Vec<OsString>) -> Result<Request, clap::Error> {
    let line = parse_line(arguments)?;
    let options = line.options;
    Ok(match line.word {
        Some(Word::List { json }) => Request::List { options, json },
        Some(Word::Login { bundle }) => Request::Login(bundle),
        Some(Word::Version) => Request::Version,
        Some(Word::Run) | None => Request::Run {
            options,
            program: Vec::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn request(line: &str) -> Result<Request, clap::Error> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn login_takes_a_bundle() {
        assert!(matches!(request("login /b"), Ok(Request::Login(path)) if path == Path::new("/b")));
        assert!(request("login").is_err());
        assert_eq!(program("-- login /b").1, "login /b");
    }

    fn program(line: &str) -> (Options, String) {
        match request(line) {
            Ok(Request::Run { options, program }) => {
                let words: Vec<_> = program.iter().map(|word| word.to_string_lossy()).collect();
                (options, words.join(" "))
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_end_at_the_first_word() {
        let (options, words) = program("-n 2 --server a,b prog -n 3 --help -- x");
        assert_eq!(words, "prog -n 3 --help -- x");
        assert_eq!(
            (options.devices, options.server.as_deref()),
            (Some(2), Some("a,b"))
        );
        let (options, words) = program("-n2 --device=soft prog list");
        assert_eq!(
            (options.devices, options.device.as_deref()),
            (Some(2), Some("soft"))
        );
        assert_eq!(words, "prog list");
    }

    #[test]
    fn any_name_can_be_a_program() {
        assert_eq!(program("-- list --json").1, "list --json");
        assert_eq!(program("--transport tcp -- -odd").1, "-odd");
        let (options, words) = program("--server a run -n 4 list");
        assert_eq!((words.as_str(), options.devices), ("list", Some(4)));
        assert_eq!(options.server.as_deref(), Some("a"));
        assert_eq!(program("run -- run").1, "run");
    }

    #[test]
    fn our_words() {
        match request("--server a list --json") {
            Ok(Request::List {
                options,
                json: true,
            }) => {
                assert_eq!(options.server.as_deref(), Some("a"));
            }
            other => panic!("{other:?}"),
        }
        match request("list --server b") {
            Ok(Request::List {
                options,
                json: false,
            }) => {
                assert_eq!(options.server.as_deref(), Some("b"));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(request("version"), Ok(Request::Version)));
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
        ] {
            assert!(request(line).expect_err(line).use_stderr(), "{line}");
        }
        let help = request("--help").expect_err("help");
        assert!(!help.use_stderr());
        assert!(
            help.to_string()
                .contains("gpurun --server gpu1 python train.py")
        );
        assert!(!request("list --help").expect_err("help").use_stderr());
    }
}
