//! The worker's dispatch: from a call number and its bytes to a call of the driver.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::api::blocks;
use crate::model::{Direction, Parameter, Row, Specification, Wire};
use crate::wire::{has_reply, reply_fields, request_fields, type_name};

pub(crate) fn dispatch(specification: &Specification) -> TokenStream {
    let travelling = || specification.rows.iter().filter(|row| row.travels());
    let arms = travelling().map(|row| {
        let name = format_ident!("{}", row.name);
        let body = if row.custom.worker {
            custom(row)
        } else {
            automatic(row)
        };
        quote!(number::#name => { #body })
    });
    let blocking = travelling().map(|row| {
        let name = format_ident!("{}", row.name);
        let blocks = blocks(row.blocks);
        quote!(number::#name => Some(#blocks))
    });
    quote! {
        /// Whether the driver may block in a call; `None` for a number that no row has.
        pub(crate) fn blocks_of(call_number: u16) -> Option<Blocks> {
            match call_number { #(#blocking,)* _ => None }
        }

        /// Executes one call.
        pub(crate) fn dispatch(call: &mut Call<'_>, call_number: u16, body: &[u8]) -> Result<(), CallError> {
            match call_number {
                #(#arms)*
                _ => Err(CallError::UnknownNumber(call_number)),
            }
        }
    }
}

fn decoded(row: &Row) -> TokenStream {
    let name = type_name(row);
    let rest = row
        .parameters
        .iter()
        .any(|parameter| parameter.direction == Direction::Rest);
    if rest {
        quote!(let (request, rest) = decode_with_rest::<request::#name>(body)?;)
    } else {
        quote!(let request = decode::<request::#name>(body)?;)
    }
}

fn custom(row: &Row) -> TokenStream {
    let (area, name) = (format_ident!("{}", row.area), format_ident!("{}", row.name));
    let decoded = decoded(row);
    let rest = row
        .parameters
        .iter()
        .any(|parameter| parameter.direction == Direction::Rest);
    let rest = if rest { quote!(, rest) } else { quote!() };
    quote! { #decoded crate::worker::#area::#name(call, &request #rest) }
}

/// Handles become the driver's, scalars are passed, what the driver writes goes into the reply.
fn automatic(row: &Row) -> TokenStream {
    let name = format_ident!("{}", row.name);
    let decoded = match request_fields(row).next() {
        Some(_) => decoded(row),
        None => {
            let type_name = type_name(row);
            quote!(decode::<request::#type_name>(body)?;)
        }
    };
    let prepare = row.parameters.iter().map(prepare);
    let arguments = row.parameters.iter().map(argument);
    let finish = row.parameters.iter().filter_map(finish);
    let reply = has_reply(row).then(|| {
        let type_name = type_name(row);
        let values = reply_fields(row).map(|(parameter, wire)| {
            let name = &parameter.name;
            if *wire == Wire::Size {
                quote!(#name as u64)
            } else {
                quote!(#name)
            }
        });
        quote!(call.reply(&reply::#type_name::new(#(#values),*));)
    });
    quote! {
        #decoded
        let driver_function = call.driver().#name.ok_or(CUresult::NOT_SUPPORTED)?;
        #(#prepare)*
        // SAFETY: handles come from this session's tables, out parameters are local variables of the right type.
        unsafe { driver_function(#(#arguments),*) }.ok()?;
        #(#finish)*
        #reply
        Ok(())
    }
}

fn prepare(parameter: &Parameter) -> TokenStream {
    let name = &parameter.name;
    match (&parameter.wire, parameter.direction) {
        (Some(_), Direction::Out | Direction::Creates) => {
            quote!(let mut #name = Default::default();)
        }
        (Some(Wire::Handle(_)), _) => {
            let ty = &parameter.ty;
            let ending = (parameter.direction == Direction::Destroys)
                .then(|| quote!(call.destroying(request.#name());));
            quote!(let #name: #ty = call.handle(request.#name())?; #ending)
        }
        _ => quote!(),
    }
}

fn argument(parameter: &Parameter) -> TokenStream {
    let name = &parameter.name;
    match (&parameter.wire, parameter.direction) {
        (_, Direction::Out | Direction::Creates) => quote!(&mut #name),
        (Some(Wire::Handle(_)), _) => quote!(#name),
        (Some(Wire::Size), _) => quote!(request.#name() as usize),
        _ => quote!(request.#name()),
    }
}

fn finish(parameter: &Parameter) -> Option<TokenStream> {
    let name = &parameter.name;
    match parameter.direction {
        Direction::Creates => Some(quote!(call.created(request.#name(), #name)?;)),
        Direction::Destroys => Some(quote!(call.destroyed(request.#name());)),
        _ => None,
    }
}
