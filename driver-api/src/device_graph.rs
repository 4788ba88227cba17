//! How a graph travels that the server's driver is to have as a graph of its own: a list of nodes, each behind those that it depends on.
//!
//! ```text
//! ┌ head: kind, how many it depends on, bytes of the body ┬ their places in the list ┬ body ┐ …
//! ```
//!
//! *Why here:* the client writes the list, the server does not believe it. *Rules:* a node depends on nodes before it only, so that there is no cycle. The
//! body of a kernel's and of a fill's node is the request that a stream would be given, whose stream means nothing. A node with a condition is at the server
//! already, where its handle is the driver's; the list says what is in its bodies, each as a list of its own.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Most bytes of a list.
pub const MAX_BYTES: usize = 64 << 20;
/// Most nodes that a node depends on.
const MAX_DEPENDENCIES: usize = 1 << 16;

/// What a node does.
pub mod kind {
    /// Nothing.
    pub const EMPTY: u32 = 0;
    /// A launch: the request, the attributes, the parameters.
    pub const KERNEL: u32 = 1;
    /// A copy within the device: [`super::CopyBody`].
    pub const COPY: u32 = 2;
    /// A fill: the request.
    pub const FILL: u32 = 3;
    /// A node with a condition, which is there already: its name, and the lists of its bodies ([`super::bodies`]).
    pub const CONDITIONAL: u32 = 4;
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    kind: U32,
    dependencies: U32,
    bytes: U32,
}

/// One end of a copy.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct CopyEnd {
    /// The first byte.
    pub first: U64,
    /// Bytes from a row to the next.
    pub row: U64,
    /// Rows from a slice to the next.
    pub rows: U64,
}

/// A copy within the device.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct CopyBody {
    /// Where the bytes go.
    pub destination: CopyEnd,
    /// Where they come from.
    pub source: CopyEnd,
    /// Bytes of a row.
    pub width: U64,
    /// Rows of a slice.
    pub height: U64,
    /// Slices.
    pub depth: U64,
}

impl CopyEnd {
    /// Bytes from the first to the last that a copy of this size touches, if that is a number.
    #[must_use]
    pub fn extent(&self, width: u64, height: u64, depth: u64) -> Option<u64> {
        let (row, rows) = (self.row.get(), self.rows.get());
        if width == 0 || height == 0 || depth == 0 {
            return Some(0);
        }
        if (height > 1 && row < width) || (depth > 1 && rows < height) {
            return None;
        }
        let slices = row.checked_mul(rows)?.checked_mul(depth - 1)?;
        let all = row.checked_mul(height - 1)?.checked_add(slices)?;
        all.checked_add(width)
    }
}

/// Puts a node behind a list; the nodes that it depends on are there already. Nothing if the list would be one that is refused: too long, or with a
/// node that depends on too many.
#[must_use]
pub fn push(list: &mut Vec<u8>, kind: u32, dependencies: &[u32], body: [&[u8]; 2]) -> Option<()> {
    let bytes = body[0].len() + body[1].len();
    let more = size_of::<Head>() + size_of_val(dependencies) + bytes;
    if dependencies.len() > MAX_DEPENDENCIES || list.len() + more > MAX_BYTES {
        return None;
    }
    let head = Head {
        kind: kind.into(),
        dependencies: (dependencies.len() as u32).into(),
        bytes: (bytes as u32).into(),
    };
    list.extend_from_slice(head.as_bytes());
    for dependency in dependencies {
        list.extend_from_slice(&dependency.to_le_bytes());
    }
    list.extend_from_slice(body[0]);
    list.extend_from_slice(body[1]);
    Some(())
}

/// The name of a node with a condition.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Conditional {
    node: U32,
}

/// What a node with a condition has in a list: its name, and how long each body's list is before that. Nothing if they are longer than a list may be.
#[must_use]
pub fn conditional(node: u32, bodies: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut bytes = Conditional { node: node.into() }.as_bytes().to_vec();
    for body in bodies {
        if bytes.len() + size_of::<U32>() + body.len() > MAX_BYTES {
            return None;
        }
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(body);
    }
    Some(bytes)
}

/// The name of the node whose body this is, and the lists of its bodies, as far as they are good.
///
/// # Errors
/// It is cut short.
pub fn bodies(
    body: &[u8],
) -> Result<(u32, impl Iterator<Item = Result<&[u8], Malformed>>), Malformed> {
    let (head, mut rest) = Conditional::ref_from_prefix(body).map_err(|_| Malformed)?;
    let lists = core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let found = U32::ref_from_prefix(rest).ok();
        let found = found.and_then(|(bytes, behind)| behind.split_at_checked(bytes.get() as usize));
        rest = found.map_or(&[][..], |(_, behind)| behind);
        Some(found.map(|(list, _)| list).ok_or(Malformed))
    });
    Ok((head.node.get(), lists))
}

/// One node of a list.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// One of [`kind`], if the list is good.
    pub kind: u32,
    dependencies: &'a [U32],
    /// What the kind has.
    pub body: &'a [u8],
}

impl Node<'_> {
    /// The places of the nodes that it depends on: all less than its own.
    pub fn dependencies(&self) -> impl Iterator<Item = usize> + '_ {
        self.dependencies.iter().map(|place| place.get() as usize)
    }
}

/// A list is cut short, or a node depends on what is not before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a graph's node is cut short, or depends on one behind it")]
pub struct Malformed;

/// The nodes of a list, as far as it is good.
pub fn nodes(list: &[u8]) -> impl Iterator<Item = Result<Node<'_>, Malformed>> {
    let (mut rest, mut count) = (list, 0);
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let found = split(rest, count);
        rest = found.map_or(&[][..], |(_, behind)| behind);
        count += 1;
        Some(found.map(|(node, _)| node).ok_or(Malformed))
    })
}

/// The first node of a list, which is the one at `place`, and what is behind it.
fn split(list: &[u8], place: usize) -> Option<(Node<'_>, &[u8])> {
    let (head, rest) = Head::ref_from_prefix(list).ok()?;
    let count = head.dependencies.get() as usize;
    if count > MAX_DEPENDENCIES {
        return None;
    }
    let (dependencies, rest) = <[U32]>::ref_from_prefix_with_elems(rest, count).ok()?;
    let is_before = |other: &U32| (other.get() as usize) < place;
    let (body, rest) = rest.split_at_checked(head.bytes.get() as usize)?;
    let node = Node {
        kind: head.kind.get(),
        dependencies,
        body,
    };
    dependencies.iter().all(is_before).then_some((node, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(list: &mut Vec<u8>, kind: u32, dependencies: &[u32], body: [&[u8]; 2]) {
        push(list, kind, dependencies, body).expect("not too much");
    }

    #[test]
    fn what_would_be_refused_is_not_put() {
        let mut list = Vec::new();
        let count = MAX_DEPENDENCIES as u32;
        for _ in 0..=count {
            put(&mut list, kind::EMPTY, &[], [b"", b""]);
        }
        let length = list.len();
        let all: Vec<u32> = (0..=count).collect();
        assert_eq!(push(&mut list, kind::EMPTY, &all, [b"", b""]), None);
        let body = vec![0; MAX_BYTES];
        assert_eq!(push(&mut list, kind::KERNEL, &[], [&body, b""]), None);
        assert_eq!(list.len(), length);
        put(&mut list, kind::EMPTY, &all[1..], [b"", b""]);
        assert!(nodes(&list).all(|node| node.is_ok()));
    }

    #[test]
    fn what_was_put_is_found_again() {
        let mut list = Vec::new();
        put(&mut list, kind::EMPTY, &[], [b"", b""]);
        put(&mut list, kind::KERNEL, &[0], [b"ab", b"c"]);
        put(&mut list, kind::FILL, &[1, 0], [b"", b"xyz"]);
        let found: Vec<_> = nodes(&list).map(|node| node.expect("good")).collect();
        let told: Vec<(u32, Vec<usize>, &[u8])> = found
            .iter()
            .map(|node| (node.kind, node.dependencies().collect(), node.body))
            .collect();
        assert_eq!(
            told,
            [
                (kind::EMPTY, vec![], &b""[..]),
                (kind::KERNEL, vec![0], b"abc"),
                (kind::FILL, vec![1, 0], b"xyz"),
            ]
        );
    }

    #[test]
    fn bodies_are_lists() {
        let mut list = Vec::new();
        put(&mut list, kind::EMPTY, &[], [b"", b"abc"]);
        let body = conditional(7, &[list.clone(), Vec::new()]).expect("not too much");
        let (node, lists) = bodies(&body).expect("good");
        let lists: Vec<_> = lists.map(|list| list.expect("good")).collect();
        assert_eq!((node, lists), (7, vec![&list[..], &[]]));
        for length in 0..body.len() {
            let Ok((_, lists)) = bodies(&body[..length]) else {
                assert!(length < 4);
                continue;
            };
            let lists: Vec<_> = lists.collect();
            let good = lists.iter().filter(|list| list.is_ok()).count();
            let is_between = length == 4 || length == body.len() - 4;
            assert_eq!(lists.len() == good, is_between, "{length} bytes");
        }
        assert_eq!(conditional(7, &[vec![0; MAX_BYTES]]), None);
    }

    #[test]
    fn what_is_cut_short_or_turns_back_is_malformed() {
        let mut list = Vec::new();
        put(&mut list, kind::EMPTY, &[0], [b"", b""]);
        assert_eq!(
            nodes(&list).next().map(|node| node.err()),
            Some(Some(Malformed))
        );
        let mut list = Vec::new();
        put(&mut list, kind::EMPTY, &[], [b"abc", b"def"]);
        for length in 1..list.len() {
            let mut found = nodes(&list[..length]);
            assert!(
                found.next().is_some_and(|node| node.is_err()),
                "{length} bytes"
            );
            assert!(
                found.next().is_none(),
                "nothing is behind what is malformed"
            );
        }
    }

    #[test]
    fn extents_are_numbers_or_refused() {
        let end = |row: u64, rows: u64| CopyEnd {
            first: 0.into(),
            row: row.into(),
            rows: rows.into(),
        };
        assert_eq!(end(16, 4).extent(8, 4, 2), Some(16 * 4 + 16 * 3 + 8));
        assert_eq!(end(4, 4).extent(8, 1, 1), Some(8));
        assert_eq!(end(4, 4).extent(8, 2, 1), None);
        assert_eq!(end(8, 1).extent(8, 2, 2), None);
        assert_eq!(end(u64::MAX, 4).extent(8, 4, 1), None);
        assert_eq!(end(0, 0).extent(0, 9, 9), Some(0));
    }
}
