//! Compiles `proto/pool.proto` with protox, so that no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/pool.proto");
    println!("cargo::rerun-if-changed=../proto/control.proto");
    let descriptors = protox::compile(["proto/pool.proto"], ["proto", "../proto"])?;
    tonic_prost_build::configure()
        .extern_path(".gpurun.control.v1", "::protocol::hello::control")
        .compile_fds(descriptors)?;
    Ok(())
}
