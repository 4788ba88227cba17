//! Exported functions: of the client shim and of a driver.

use std::collections::HashSet;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::model::{Disposition, Row, Specification, Wire};
use crate::wire::{has_reply, reply_fields, request_fields, type_name};

/// The body of an exported function.
struct Body {
    tokens: TokenStream,
    uses_arguments: bool,
}

impl Body {
    fn using(tokens: TokenStream) -> Self {
        Self {
            tokens,
            uses_arguments: true,
        }
    }

    fn without(tokens: TokenStream) -> Self {
        Self {
            tokens,
            uses_arguments: false,
        }
    }
}

/// The shim: every public row, its twin, and the table of their addresses.
pub(crate) fn client(specification: &Specification) -> TokenStream {
    exports(specification, |row| match &row.disposition {
        Disposition::Refused(reason) => {
            let index = format_ident!("{}", row.name);
            Body::without(quote!(crate::entry::refuse(index::#index, #reason)))
        }
        _ => Body::using(client_body(row)),
    })
}

/// A driver: the rows in `served` call its sources.
pub(crate) fn driver(specification: &Specification, served: &HashSet<String>) -> TokenStream {
    exports(specification, |row| {
        let index = format_ident!("{}", row.name);
        if served.contains(&row.name) {
            let call = call_area(row);
            Body::using(quote!(crate::entry::call(index::#index, || #call)))
        } else {
            Body::without(quote!(crate::entry::unsupported(index::#index)))
        }
    })
}

fn exports(specification: &Specification, body: impl Fn(&Row) -> Body) -> TokenStream {
    let functions = specification
        .rows
        .iter()
        .filter(|row| row.is_exported())
        .map(|row| {
            let exported = function(&row.name, row, &body(row));
            let twin = row.twin_name().map(|twin| {
                let name = format_ident!("{}", row.name);
                let arguments = arguments(row);
                let inner = quote! { per_thread::run(|| {
                    // SAFETY: the caller's promises for this function are those of its twin.
                    unsafe { #name(#(#arguments),*) }
                }) };
                function(&twin, row, &Body::using(inner))
            });
            quote! { #exported #twin }
        });
    let addresses = specification.rows.iter().map(|row| {
        if !row.is_exported() {
            return quote!(Export::NONE);
        }
        let name = format_ident!("{}", row.name);
        match row.twin_name() {
            Some(twin) => {
                let twin = format_ident!("{twin}");
                quote!(Export::with_twin(#name as *const (), #twin as *const ()))
            }
            None => quote!(Export::new(#name as *const ())),
        }
    });
    let count = specification.rows.len();
    quote! {
        #(#functions)*
        /// The addresses of the exports, in the order of `ROWS`.
        pub(crate) static EXPORTS: [Export; #count] = [#(#addresses),*];
    }
}

fn function(name: &str, row: &Row, body: &Body) -> TokenStream {
    let ident = format_ident!("{name}");
    // A function that is not served looks at none of its arguments.
    let parameters = row.parameters.iter().map(|parameter| {
        let ty = &parameter.ty;
        let name = if !body.uses_arguments {
            format_ident!("_{}", parameter.name)
        } else {
            parameter.name.clone()
        };
        quote!(#name: #ty)
    });
    let tokens = &body.tokens;
    let documentation = format!("The driver's `{name}`.");
    quote! {
        #[doc = #documentation]
        ///
        /// # Safety
        /// The arguments are as the CUDA driver API documents them.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn #ident(#(#parameters),*) -> CUresult { #tokens }
    }
}

fn arguments(row: &Row) -> Vec<&Ident> {
    row.parameters
        .iter()
        .map(|parameter| &parameter.name)
        .collect()
}

/// `crate::<area>::<name>(arguments)`.
fn call_area(row: &Row) -> TokenStream {
    let (area, name) = (format_ident!("{}", row.area), format_ident!("{}", row.name));
    let arguments = arguments(row);
    quote! {{
        // SAFETY: the caller's promises are passed on unchanged.
        unsafe { crate::#area::#name(#(#arguments),*) }
    }}
}

fn client_body(row: &Row) -> TokenStream {
    let index = format_ident!("{}", row.name);
    match &row.disposition {
        _ if row.custom.client => {
            let call = call_area(row);
            quote!(crate::entry::call(index::#index, || #call))
        }
        Disposition::Posted => {
            let request = client_request(row);
            quote! { crate::entry::attempt(index::#index, || {
                #request
                crate::session::post(&request)
            }) }
        }
        _ => client_ask(row, &request_with_checks(row)),
    }
}

/// Null checks of what must be there, then the request.
fn request_with_checks(row: &Row) -> TokenStream {
    let required = row
        .parameters
        .iter()
        .filter(|parameter| parameter.is_required())
        .map(|parameter| &parameter.name);
    let request = client_request(row);
    quote! {
        #(if #required.is_null() { return Err(CUresult::INVALID_VALUE); })*
        #request
    }
}

fn client_ask(row: &Row, request: &TokenStream) -> TokenStream {
    let index = format_ident!("{}", row.name);
    let outs = reply_fields(row).map(|(parameter, wire)| {
        let name = &parameter.name;
        let value = match wire {
            Wire::Size => quote!(reply.#name() as usize),
            _ => quote!(reply.#name()),
        };
        let write = quote! {
            // SAFETY: not null, and the caller promises that it can be written.
            unsafe { #name.write(#value) };
        };
        if parameter.is_required() {
            write
        } else {
            quote! { if !#name.is_null() { #write } }
        }
    });
    let reply = if has_reply(row) {
        quote!(reply)
    } else {
        quote!(_reply)
    };
    quote! { crate::entry::attempt(index::#index, || {
        #request
        let #reply = crate::session::ask(&request)?;
        #(#outs)*
        Ok(())
    }) }
}

fn client_request(row: &Row) -> TokenStream {
    let name = type_name(row);
    let values = request_fields(row).map(|(parameter, wire)| {
        let name = &parameter.name;
        match wire {
            Wire::Handle(_) => quote!(crate::handles::id(#name)?),
            Wire::Size => quote!(#name as u64),
            _ => quote!(#name),
        }
    });
    quote! { let request = request::#name::new(#(#values),*); }
}
