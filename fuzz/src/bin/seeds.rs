//! Writes the seeds of a target into a folder, or lists the targets: `fuzz-seeds [TARGET FOLDER]`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => {
            for target in fuzz::TARGETS {
                println!("{} {}", target.name, target.max_bytes);
            }
            ExitCode::SUCCESS
        }
        [name, folder] => match fuzz::seeds::write(name, folder.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("fuzz-seeds: {name}: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("fuzz-seeds: [TARGET FOLDER]");
            ExitCode::from(2)
        }
    }
}
