//! Request and reply types of the rows that travel, and the lock of their shapes.
//!
//! Each is a `#[repr(C)]` structure of little-endian integers without alignment, so it is its own encoding: writing it is a copy,
//! reading it a length check.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::model::{Direction, Disposition, Parameter, Row, Specification, Wire};

/// The modules `request` and `reply`, and a `Samples` visitor for tests.
pub(crate) fn types(specification: &Specification) -> TokenStream {
    let travelling = || specification.rows.iter().filter(|row| row.travels());
    let requests = travelling().map(request);
    let replies = travelling().filter(|row| has_reply(row)).map(reply);
    let visits = travelling().map(|row| {
        let name = type_name(row);
        quote!(visitor.visit::<request::#name>();)
    });
    quote! {
        /// Requests, one type for each row that travels.
        pub mod request {
            use super::wire_prelude::*;
            #(#requests)*
        }
        /// Replies of the asked rows that answer more than a result.
        pub mod reply {
            use super::wire_prelude::*;
            #(#replies)*
        }
        /// Calls `visitor` once for each request type: how tests see them all.
        pub fn visit_requests(visitor: &mut impl RequestVisitor) {
            #(#visits)*
        }
    }
}

/// `cuMemsetD8Async` becomes `CuMemsetD8Async`.
pub(crate) fn type_name(row: &Row) -> Ident {
    let mut name = row.name.clone();
    name[..1].make_ascii_uppercase();
    format_ident!("{name}")
}

/// What the caller sends: everything but what the call answers.
pub(crate) fn request_fields(row: &Row) -> impl Iterator<Item = (&Parameter, &Wire)> {
    row.parameters
        .iter()
        .filter(|parameter| parameter.direction != Direction::Out)
        .filter_map(|parameter| Some((parameter, parameter.wire.as_ref()?)))
}

/// What the call answers in the fixed part of the reply.
pub(crate) fn reply_fields(row: &Row) -> impl Iterator<Item = (&Parameter, &Wire)> {
    row.parameters
        .iter()
        .filter(|parameter| parameter.direction == Direction::Out)
        .filter_map(|parameter| Some((parameter, parameter.wire.as_ref()?)))
}

pub(crate) fn has_reply(row: &Row) -> bool {
    row.disposition == Disposition::Asked && reply_fields(row).next().is_some()
}

fn request(row: &Row) -> TokenStream {
    let name = type_name(row);
    let number = row.number;
    let reply = if has_reply(row) {
        quote!(super::reply::#name)
    } else {
        quote!(Empty)
    };
    let index = format_ident!("{}", row.name);
    let documentation = format!("Request of `{}`.", row.name);
    let structure = structure(
        &name,
        &documentation,
        &request_fields(row).collect::<Vec<_>>(),
    );
    quote! {
        #structure
        impl Request for #name {
            const NUMBER: u16 = #number;
            const ROW: usize = super::index::#index;
            type Reply = #reply;
        }
    }
}

fn reply(row: &Row) -> TokenStream {
    let documentation = format!("Reply of `{}`.", row.name);
    structure(
        &type_name(row),
        &documentation,
        &reply_fields(row).collect::<Vec<_>>(),
    )
}

fn structure(name: &Ident, documentation: &str, fields: &[(&Parameter, &Wire)]) -> TokenStream {
    let names: Vec<&Ident> = fields
        .iter()
        .map(|(parameter, _)| &parameter.name)
        .collect();
    let stored: Vec<TokenStream> = fields.iter().map(|(_, wire)| stored(wire)).collect();
    let native: Vec<TokenStream> = fields.iter().map(|(_, wire)| native(wire)).collect();
    let encode = fields.iter().map(|(parameter, wire)| {
        let name = &parameter.name;
        if is_bytes(wire) {
            return quote!(#name);
        }
        let value = encode(wire, &quote!(#name));
        quote!(#name: #value)
    });
    let decode: Vec<TokenStream> = fields
        .iter()
        .map(|(parameter, wire)| {
            let name = &parameter.name;
            decode(wire, &quote!(self.#name))
        })
        .collect();
    let documentations = names.iter().map(|name| format!("The field `{name}`."));
    quote! {
        #[doc = #documentation]
        #[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct #name { #(#names: #stored),* }
        impl #name {
            /// From native values.
            #[must_use]
            #[inline]
            pub fn new(#(#names: #native),*) -> Self {
                Self { #(#encode),* }
            }
            #(
                #[doc = #documentations]
                #[must_use]
                #[inline]
                pub fn #names(&self) -> #native { #decode }
            )*
        }
    }
}

/// The type in the structure.
fn stored(wire: &Wire) -> TokenStream {
    match wire {
        Wire::U8 => quote!(u8),
        Wire::U16 => quote!(U16),
        Wire::U32 | Wire::Handle(_) => quote!(U32),
        Wire::I32 => quote!(I32),
        Wire::U64 | Wire::Size => quote!(U64),
        Wire::F32 => quote!(F32),
        Wire::Array(element, length) => {
            let element = stored(element);
            quote!([#element; #length])
        }
    }
}

/// The type in Rust.
fn native(wire: &Wire) -> TokenStream {
    match wire {
        Wire::U8 => quote!(u8),
        Wire::U16 => quote!(u16),
        Wire::U32 => quote!(u32),
        Wire::I32 => quote!(i32),
        Wire::U64 | Wire::Size => quote!(u64),
        Wire::F32 => quote!(f32),
        Wire::Handle(id) => {
            let id = format_ident!("{id}");
            quote!(#id)
        }
        Wire::Array(element, length) => {
            let element = native(element);
            quote!([#element; #length])
        }
    }
}

/// True for what is stored as it is.
fn is_bytes(wire: &Wire) -> bool {
    match wire {
        Wire::U8 => true,
        Wire::Array(element, _) => is_bytes(element),
        _ => false,
    }
}

fn encode(wire: &Wire, value: &TokenStream) -> TokenStream {
    match wire {
        Wire::Handle(_) => quote!(U32::new(#value.0)),
        Wire::Array(element, _) => {
            let stored = stored(element);
            quote!(#value.map(#stored::new))
        }
        _ => {
            let stored = stored(wire);
            quote!(#stored::new(#value))
        }
    }
}

fn decode(wire: &Wire, value: &TokenStream) -> TokenStream {
    match wire {
        _ if is_bytes(wire) => quote!(#value),
        Wire::Handle(id) => {
            let id = format_ident!("{id}");
            quote!(#id(#value.get()))
        }
        Wire::Array(element, _) => {
            let inner = decode(element, &quote!(element));
            quote!(#value.map(|element| #inner))
        }
        _ => quote!(#value.get()),
    }
}

/// One line for each row that travels, by number.
pub(crate) fn lock(specification: &Specification) -> String {
    let mut rows: Vec<&Row> = specification
        .rows
        .iter()
        .filter(|row| row.travels())
        .collect();
    rows.sort_by_key(|row| row.number);
    let lines = rows.into_iter().map(|row| {
        let disposition = if row.disposition == Disposition::Asked {
            "asked"
        } else {
            "posted"
        };
        let blocks = format!("{:?}", row.blocks).to_lowercase();
        let rest = |direction| {
            row.parameters
                .iter()
                .any(|parameter| parameter.direction == direction)
        };
        let sent = shape(request_fields(row), rest(Direction::Rest));
        let answered = shape(reply_fields(row), rest(Direction::OutRest));
        format!(
            "{} {} {disposition} {blocks} ({sent}) -> ({answered})\n",
            row.number, row.name
        )
    });
    lines.collect()
}

fn shape<'a>(fields: impl Iterator<Item = (&'a Parameter, &'a Wire)>, rest: bool) -> String {
    let mut words: Vec<String> = fields
        .map(|(parameter, wire)| format!("{}: {}", parameter.name, wire_name(wire)))
        .collect();
    if rest {
        words.push("..".to_owned());
    }
    words.join(", ")
}

fn wire_name(wire: &Wire) -> String {
    match wire {
        Wire::U8 => "u8".to_owned(),
        Wire::U16 => "u16".to_owned(),
        Wire::U32 => "u32".to_owned(),
        Wire::I32 => "i32".to_owned(),
        Wire::U64 | Wire::Size => "u64".to_owned(),
        Wire::F32 => "f32".to_owned(),
        Wire::Handle(id) => (*id).to_owned(),
        Wire::Array(element, length) => format!("[{}; {length}]", wire_name(element)),
    }
}
