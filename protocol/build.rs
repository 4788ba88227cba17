//! Compiles `proto/control.proto` with protox, so that no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/control.proto");
    let descriptors = protox::compile(["proto/control.proto"], ["proto"])?;
    prost_build::Config::new()
        .btree_map(["."])
        .boxed(".gpurun.control.v1.Accepted.rdma")
        .compile_fds(descriptors)?;
    Ok(())
}
