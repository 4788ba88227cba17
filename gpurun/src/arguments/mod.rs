//! The command line: options end at the first word that is none.
//!
//! That word is a command of ours (`list`, `request`, `smi` …) or else the program, and everything behind a program is the
//! program's. `gpurun run … PROGRAM` and `gpurun … -- PROGRAM` run a program whatever its name; `gpurun exec LEASE PROGRAM` runs it under a lease.
//!
//! Rules: which words are commands is said once, by [`Word`]; what is said of a lease stands with a program or with `request`, and is a mistake elsewhere.

mod options;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use options::{NeedOptions, Options};

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Request {
    /// Run a program: its name and its arguments.
    Run {
        options: Options,
        need: NeedOptions,
        program: Vec<OsString>,
    },
    /// Run a program under a lease that is there.
    Exec {
        options: Options,
        lease: String,
        program: Vec<OsString>,
    },
    /// One of our commands.
    Ours { options: Options, word: Word },
}

/// Run an unmodified CUDA program on GPUs that are elsewhere.
#[derive(Parser, Debug)]
#[command(
    name = "gpurun",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    override_usage = "gpurun [OPTIONS] PROGRAM [ARGUMENT]...\n       gpurun [OPTIONS] exec LEASE PROGRAM [ARGUMENT]...\n       gpurun [OPTIONS] COMMAND",
    after_help = EXAMPLES
)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    need: NeedOptions,
    #[command(subcommand)]
    word: Option<Word>,
}

const EXAMPLES: &str = "\
Options end at the first word that is none; everything behind PROGRAM is the program's.

Examples:
  gpurun python train.py                       on the configured server, else on this machine
  gpurun -p 0.25 python train.py               on a quarter of one device: memory, and compute under contention
  gpurun -n 2 -m 8GiB ./multi                  on 8 GiB of each of two devices
  gpurun --filter 'device.name=*A100*' --filter 'device.phy-memory>=40GiB' ./train
  gpurun --wait 10m ./train                    gives up after ten minutes in the queue
  gpurun --server gpu1,gpu2 python train.py    on whichever has it first; port 7370
  gpurun --server unix:/run/gpurun/server.sock ./vector_add
  gpurun --server gpu1 --transport rdma python train.py
  gpurun --device soft ./vector_add            on the software GPU, with no GPU anywhere
  GPURUN_STATS=1 gpurun ./vector_add           and say afterwards what was called
  LEASE=$(gpurun request -p 0.5 --time 8h)     a lease that stays; then
  gpurun exec $LEASE bash                      a shell, all of whose programs share it
  gpurun list --server gpu1                    the devices of a server, and what is free of them
  gpurun -- list                               a program that is called list

Settings come from options, then GPURUN_SERVER, GPURUN_TRANSPORT and GPURUN_DEVICE, then
~/.config/gpurun/config.toml, then /etc/gpurun/config.toml. With no server configured, gpurun starts a
private one for the run. A gpurun inside a gpurun shares its lease.

Exit status: the program's own; 128 + N if signal N ended it; 126 or 127 if it cannot be run or found; 2 for
wrong usage; 120 no server, 121 refused, 122 the time of --wait is over, 123 internal failure.";

/// A command of ours.
#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Word {
    /// List the devices of the servers, and what is free of them
    #[command(after_help = "Example: gpurun list --server gpu1,gpu2 --json")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take in the bundle that a server's operator gave you
    #[command(after_help = "Example: gpurun login ann.gpurun")]
    Login {
        /// The file of gpu-server token create
        bundle: PathBuf,
    },
    /// Lease devices without a program, and print the lease's name
    #[command(
        after_help = "Example: LEASE=$(gpurun request -n 2 --time 8h); gpurun exec $LEASE ./train; gpurun release $LEASE"
    )]
    Request {
        #[command(flatten)]
        need: NeedOptions,
        /// How long it lasts, such as 90m or 8h [default: as long as you may]
        #[arg(long, value_name = "DURATION", value_parser = options::duration)]
        time: Option<Duration>,
    },
    /// Run a program under a lease that is there, such as a shell
    #[command(
        after_help = "Example: gpurun exec $LEASE bash",
        override_usage = "gpurun [OPTIONS] exec LEASE PROGRAM [ARGUMENT]..."
    )]
    Exec {
        /// The lease's name
        lease: String,
    },
    /// End a lease, and the programs that use it
    #[command(after_help = "Example: gpurun release $LEASE")]
    Release {
        /// The lease's name
        lease: String,
    },
    /// Set a new end for a lease of `gpurun request`: so long from now
    #[command(after_help = "Example: gpurun renew $LEASE 8h")]
    Renew {
        /// The lease's name
        lease: String,
        /// How long from now, such as 90m or 8h
        #[arg(value_parser = options::duration)]
        time: Duration,
    },
    /// Show leases and the queue: yours, or all for an operator
    #[command(after_help = "Example: gpurun leases --server gpu1")]
    Leases {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how the devices of a lease are used now
    #[command(after_help = "Example: watch gpurun smi $LEASE")]
    Smi {
        /// The lease's name [default: GPURUN_LEASE, else all that are yours]
        lease: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what tenants have used
    #[command(after_help = "Example: gpurun stats --json")]
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look whether everything is well between here and the servers, and say what to do
    #[command(
        after_help = "Example: gpurun health --server gpu1\n\nExit status: 0, 1 if something is bad, 120 if no server is there."
    )]
    Health {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure calls, launches and copies to a server, as its programs make them
    #[command(
        after_help = "Examples:\n  gpurun netperf --server gpu1\n  gpurun netperf --server gpu1 --transports tcp,rdma --most 1024 --plot gpu1.svg\n  gpurun netperf --quick --json"
    )]
    Netperf {
        #[command(flatten)]
        need: NeedOptions,
        #[command(flatten)]
        measured: netperf::session::Options,
    },
    /// The program that measures, under its lease (started by netperf)
    #[command(hide = true)]
    NetperfSession {
        /// What netperf was told, as JSON
        options: String,
    },
    /// A measured process (started by netperf)
    #[command(hide = true)]
    NetperfProcess,
    /// Give no new leases on a server from now on (operators)
    #[command(
        after_help = "Example: gpurun drain --server gpu1 --revoke --time 30m\n\nWithout --revoke the leases that are there end by themselves."
    )]
    Drain {
        /// End the leases that are left
        #[arg(long)]
        revoke: bool,
        /// After this time [default: at once]
        #[arg(long, value_name = "DURATION", value_parser = options::duration, requires = "revoke")]
        time: Option<Duration>,
        /// Give leases again
        #[arg(long, conflicts_with_all = ["revoke", "time"])]
        undo: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write what a shell needs to complete our command lines
    #[command(
        after_help = "Example: gpurun completions bash >~/.local/share/bash-completion/completions/gpurun"
    )]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Run a program, whatever its name
    #[command(after_help = "Example: gpurun run -n 2 list")]
    Run,
    /// Print the release
    #[command(after_help = "Example: gpurun version")]
    Version,
}

/// Where the options end.
struct Split {
    options: Vec<OsString>,
    /// The first word and everything behind it.
    words: Vec<OsString>,
    /// The first word stands behind `--`.
    is_separated: bool,
}

/// Understands the command line, without the name of this program.
///
/// # Errors
/// What to print: a mistake, or the help that was asked for.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Request, clap::Error> {
    Grammar(CommandLine::command()).parse(arguments)
}

/// What a shell needs to complete our command lines.
pub(crate) fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let mut command = CommandLine::command();
    clap_complete::generate(shell, &mut command, "gpurun", &mut script);
    script
}

/// The command line's description: made once, since every run waits for it.
struct Grammar(clap::Command);

impl Grammar {
    /// Whether this is an option whose value is the next argument.
    fn takes_value(&self, text: &str) -> bool {
        self.0.get_arguments().any(|argument| {
            let is_named = match text.strip_prefix("--") {
                Some(long) => argument.get_long() == Some(long),
                // A short option whose value is not attached.
                None => argument
                    .get_short()
                    .is_some_and(|short| text == format!("-{short}")),
            };
            is_named && argument.get_action().takes_values()
        })
    }

    fn split(&self, arguments: Vec<OsString>) -> Split {
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
            let has_value = self.takes_value(&text);
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

    fn parse(mut self, arguments: Vec<OsString>) -> Result<Request, clap::Error> {
        let Split {
            mut options,
            mut words,
            is_separated,
        } = self.split(arguments);
        let first = words.first().filter(|_| !is_separated);
        let first = first.map(|word| word.to_string_lossy().into_owned());
        match first.as_deref() {
            Some("run") => {
                let behind = self.split(words.split_off(1));
                options.extend(behind.options);
                words = behind.words;
            }
            Some("exec") => return self.parse_exec(options, words.split_off(1)),
            Some(first) if self.0.find_subcommand(first).is_some() => {
                options.append(&mut words);
                return self.parse_ours(options);
            }
            _ => {}
        }
        let line = self.parse_line(options)?;
        if words.is_empty() {
            return Err(no_program("gpurun [OPTIONS] PROGRAM [ARGUMENT]..."));
        }
        Ok(Request::Run {
            options: line.options,
            need: line.need,
            program: words,
        })
    }

    fn parse_line(&mut self, arguments: Vec<OsString>) -> Result<CommandLine, clap::Error> {
        let name = OsString::from("gpurun");
        let line = std::iter::once(name).chain(arguments);
        let matches = self.0.try_get_matches_from_mut(line)?;
        CommandLine::from_arg_matches(&matches)
    }

    /// `exec LEASE PROGRAM`: options may stand around the lease, and end at the program.
    fn parse_exec(
        &mut self,
        mut options: Vec<OsString>,
        behind: Vec<OsString>,
    ) -> Result<Request, clap::Error> {
        let mut of_lease = self.split(behind);
        let rest = of_lease.words.split_off(of_lease.words.len().min(1));
        let of_program = self.split(rest);
        options.push("exec".into());
        options.extend(of_lease.options);
        options.extend(of_program.options);
        options.extend(of_lease.words);
        match self.parse_ours(options)? {
            Request::Ours {
                options,
                word: Word::Exec { lease },
            } if !of_program.words.is_empty() => Ok(Request::Exec {
                options,
                lease,
                program: of_program.words,
            }),
            _ => Err(no_program(
                "gpurun [OPTIONS] exec LEASE PROGRAM [ARGUMENT]...",
            )),
        }
    }

    fn parse_ours(&mut self, arguments: Vec<OsString>) -> Result<Request, clap::Error> {
        let CommandLine {
            options,
            need: mut before,
            word,
        } = self.parse_line(arguments)?;
        let Some(mut word) = word else {
            return Err(no_program("gpurun [OPTIONS] PROGRAM [ARGUMENT]..."));
        };
        let conflict =
            |failure| clap::Error::raw(ErrorKind::ArgumentConflict, format!("{failure}\n"));
        if let Word::Request { need, .. } | Word::Netperf { need, .. } = &mut word {
            // Each option may stand before the word or behind it.
            before.or(need);
            before.require_no_conflict().map_err(conflict)?;
            *need = before;
            return Ok(Request::Ours { options, word });
        }
        let elsewhere = "it stands with a program, with gpurun request or with gpurun netperf";
        before
            .require_none(elsewhere)
            .map_err(|failure| conflict(failure.to_string()))?;
        Ok(Request::Ours { options, word })
    }
}

fn no_program(usage: &str) -> clap::Error {
    let message = format!("no program to run: {usage} (see gpurun --help)\n");
    clap::Error::raw(ErrorKind::MissingRequiredArgument, message)
}
