//! Archives of device code (`ar`), of which one is known: CUDA's device runtime.
//!
//! What is in it is machine code, so a text of our own stands for what of it is executed here. It is known by the name of its member.

/// `libcudadevrt`, as far as it is executed: cooperative groups' grid, and conditions of graphs.
pub(super) const DEVICE_RUNTIME: &str = include_str!("device_runtime.ptx");

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;
/// The member that holds the names of more than fifteen bytes, each ended by a slash and a line.
const LONG_NAMES: &[u8] = b"// ";
const RUNTIME_MEMBER: &[u8] = b"cuda_device_runtime.o/";

/// Whether this is CUDA's device runtime.
pub(super) fn is_device_runtime(bytes: &[u8]) -> bool {
    long_names(bytes).is_some_and(|names| {
        let mut names = names.split(|&byte| byte == b'\n');
        names.any(|name| name == RUNTIME_MEMBER)
    })
}

fn long_names(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    loop {
        let (header, members) = rest.split_at_checked(HEADER_BYTES)?;
        let size = str::from_utf8(&header[48..58]).ok()?;
        let size = size.trim_end().parse::<usize>().ok()?;
        if header.starts_with(LONG_NAMES) {
            return members.get(..size);
        }
        // A member begins at an even place.
        rest = members.get(size.checked_next_multiple_of(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, content: &str) -> String {
        format!("{name:<16}{:<32}{:<10}`\n{content}", "0", content.len())
    }

    #[test]
    fn the_device_runtime_is_known_by_its_member() {
        let archive = |name: &str| {
            let names = member("//", &format!("another_long_name.o/\n{name}/\n "));
            format!("!<arch>\n{}{names}", member("/", "symbols."))
        };
        let runtime = archive("cuda_device_runtime.o");
        assert!(is_device_runtime(runtime.as_bytes()));
        assert!(!is_device_runtime(archive("device_runtime.o").as_bytes()));
        for length in 0..runtime.len() {
            assert!(!is_device_runtime(&runtime.as_bytes()[..length]));
        }
        assert!(!is_device_runtime(
            member("//", "cuda_device_runtime.o/\n").as_bytes()
        ));
        let endless = format!("!<arch>\n{:<48}{}`\n", "x", usize::MAX);
        assert!(!is_device_runtime(endless.as_bytes()));
    }
}
