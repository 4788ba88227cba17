//! `gpurun`: runs an unmodified CUDA program on GPUs that are elsewhere.
//!
//! What: leases devices of a server (or of a private one), puts our libraries in front of the program, runs it, and ends as
//! it ends. Rules: the program must not notice us: its terminal and its exit status are its own, and signals to us reach it; a
//! server that is configured and not there is an error, never a silent fall-back.
//!
//! ```text
//! arguments  the command line        run      the life of a run          wait   signals, exit status
//! servers    whom to ask             lease    asked for, kept, returned  stats  what was counted
//! embedded   the private server      pool     a server's pool            text   words and tables
//! guest      our libraries           exit     status and message
//! commands   everything that is no run: list, request, leases, smi, health …
//! ```

mod arguments;
mod commands;
mod embedded;
mod exit;
mod guest;
mod lease;
mod pool;
mod run;
mod servers;
mod software;
mod stats;
mod text;
mod wait;

use std::process::ExitCode;

use arguments::Request;

fn main() -> ExitCode {
    wait::hear_of_children();
    let request = match arguments::parse(std::env::args_os().skip(1).collect()) {
        Ok(request) => request,
        Err(error) => {
            // To standard error with status 2, or help and version to standard output with status 0.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let result = match request {
        Request::Run {
            options,
            need,
            program,
        } => run::run(&options, &need, &program),
        Request::Exec {
            options,
            lease,
            program,
        } => run::exec(&options, &lease, &program),
        Request::Ours { options, word } => commands::run(&options, word),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            text::say(&failure);
            ExitCode::from(failure.status())
        }
    }
}
