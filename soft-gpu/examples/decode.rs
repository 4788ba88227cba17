//! Says which kernels of PTX files this device executes: `cargo run -p soft-gpu --example decode -- FILE…`
//!
//! Prints a line for each kernel that it does not, and fails if there is one. For texts that compilers write at test
//! time (`tests/ptx`).

use std::process::ExitCode;

use soft_gpu::exec::Program;
use soft_gpu::ptx;

fn main() -> ExitCode {
    let (mut good, mut bad) = (0u32, 0u32);
    for file in std::env::args().skip(1) {
        let mut complain = |message: String| {
            println!("{file}: {message}");
            bad += 1;
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                complain(error.to_string());
                continue;
            }
        };
        let module = match ptx::parse(&text) {
            Ok(module) => module,
            Err(error) => {
                complain(error.to_string());
                continue;
            }
        };
        for kernel in module.kernels() {
            // Every variable has some address: nothing runs.
            match Program::decode(&module, kernel, &|_| Some(1 << 32)) {
                Ok(_) => good += 1,
                Err(error) => complain(error.to_string()),
            }
        }
    }
    println!("{good} kernels decode, {bad} do not");
    if bad == 0 && good > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
