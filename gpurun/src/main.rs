//! `gpurun`: runs an unmodified CUDA program on GPUs that are elsewhere.
//!
//! What: finds the server (or starts a private one), puts our libraries in front of the program, runs it, and ends as
//! it ends. Rules: the program must not notice us: its terminal, its signals and its exit status are its own; a
//! server that is configured and not there is an error, never a silent fall-back.
//!
//! ```text
//! arguments  the command line       embedded  the private server    wait   signals, exit status
//! guest      our libraries          run       the life of a run     stats  what was counted
//! exit       status and message     list      devices of servers   login  credentials
//! ```

mod arguments;
mod embedded;
mod exit;
mod guest;
mod list;
mod login;
mod run;
mod stats;
mod wait;

use std::process::ExitCode;

use arguments::Request;

fn main() -> ExitCode {
    let request = match arguments::parse(std::env::args_os().skip(1).collect()) {
        Ok(request) => request,
        Err(error) => {
            // To standard error with status 2, or help and version to standard output with status 0.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let result = match request {
        Request::Run { options, program } => run::run(&options, &program),
        Request::List { options, json } => list::list(&options, json),
        Request::Login(bundle) => login::login(&bundle),
        Request::Version => {
            println!(
                "gpurun {} (protocol {})",
                env!("CARGO_PKG_VERSION"),
                protocol::limits::NEWEST_VERSION
            );
            Ok(0)
        }
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("gpurun: {failure}");
            ExitCode::from(failure.status())
        }
    }
}
