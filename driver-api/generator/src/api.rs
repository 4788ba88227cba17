//! The row table, the map of `cuGetProcAddress`, and the table of a loaded driver's functions.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::model::{Blocks, Disposition, Row, Specification};

/// `ROWS`, `index`, `number`, `PROCEDURES`.
pub(crate) fn rows(specification: &Specification) -> TokenStream {
    let rows = specification.rows.iter().map(row);
    let count = specification.rows.len();
    let indices = specification.rows.iter().enumerate().map(|(index, row)| {
        let name = format_ident!("{}", row.name);
        let documentation = format!("Place of `{}` in [`ROWS`](super::ROWS).", row.name);
        quote! { #[doc = #documentation] pub const #name: usize = #index; }
    });
    let numbers = specification
        .rows
        .iter()
        .filter(|row| row.travels())
        .map(|row| {
            let name = format_ident!("{}", row.name);
            let number = row.number;
            let documentation = format!("Call number of `{}`.", row.name);
            quote! { #[doc = #documentation] pub const #name: u16 = #number; }
        });
    let procedures = procedures(specification);
    quote! {
        /// Every row of the specification.
        pub static ROWS: [Row; #count] = [#(#rows),*];
        /// Places in [`ROWS`] by name.
        #[expect(non_upper_case_globals, reason = "these are the driver's names")]
        pub mod index { #(#indices)* }
        /// Call numbers of the rows that travel.
        #[expect(non_upper_case_globals, reason = "these are the driver's names")]
        pub mod number { #(#numbers)* }
        #procedures
    }
}

fn row(row: &Row) -> TokenStream {
    let (name, area, number, since) = (&row.name, &row.area, row.number, row.since);
    let disposition = match &row.disposition {
        Disposition::Local => quote!(Disposition::Local),
        Disposition::Posted => quote!(Disposition::Posted),
        Disposition::Asked => quote!(Disposition::Asked),
        Disposition::Refused(reason) => quote!(Disposition::Refused(#reason)),
    };
    let blocks = blocks(row.blocks);
    let private = row.private;
    quote! {
        Row {
            name: #name, area: #area, number: #number, private: #private,
            disposition: #disposition, blocks: #blocks, since: #since,
        }
    }
}

pub(crate) fn blocks(blocks: Blocks) -> TokenStream {
    match blocks {
        Blocks::Never => quote!(Blocks::Never),
        Blocks::Device => quote!(Blocks::Device),
        Blocks::Unbounded => quote!(Blocks::Unbounded),
    }
}

/// Sorted by name, then by version.
fn procedures(specification: &Specification) -> TokenStream {
    let mut found: Vec<(&str, usize, &Row)> = specification
        .rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.is_exported() && !row.unlisted)
        .map(|(index, row)| (row.base_name(), index, row))
        .collect();
    found.sort_by_key(|(base, _, row)| (*base, row.since));
    let count = found.len();
    let entries = found.iter().map(|(base, index, row)| {
        let since = row.since;
        let twin = match &row.twin {
            Some(twin) => {
                let since = twin.since;
                quote!(Some(#since))
            }
            None => quote!(None),
        };
        quote!(Procedure { name: #base, since: #since, twin_since: #twin, row: #index })
    });
    quote! {
        /// What `cuGetProcAddress` finds, by name and version.
        pub static PROCEDURES: [Procedure; #count] = [#(#entries),*];
    }
}

/// `Driver`: the functions of a loaded driver, each absent or present.
pub(crate) fn driver_table(specification: &Specification) -> TokenStream {
    let public = || specification.rows.iter().filter(|row| row.is_exported());
    let fields = public().map(|row| {
        let name = format_ident!("{}", row.name);
        let signature = signature(row);
        let documentation = format!("`{}`, if this driver has it.", row.name);
        quote! { #[doc = #documentation] pub #name: Option<#signature> }
    });
    let loads = public().map(|row| {
        let name = format_ident!("{}", row.name);
        let text = &row.name;
        quote! { #name: find(#text).map(|address| {
            // SAFETY: the caller vouches that `find` answers with the driver's own functions, whose signatures the rows state.
            unsafe { core::mem::transmute(address) }
        }) }
    });
    quote! {
        /// The functions of a loaded driver.
        #[expect(non_snake_case, reason = "these are the driver's names")]
        #[derive(Clone)]
        pub struct Driver { #(#fields),* }

        impl Driver {
            /// Fills the table with what `find` knows.
            ///
            /// # Safety
            /// `find` returns the address of the driver function of that name, which stays valid as long as the table is
            /// used, or `None`.
            #[must_use]
            pub unsafe fn load(mut find: impl FnMut(&str) -> Option<*const ()>) -> Self {
                Self { #(#loads),* }
            }
        }
    }
}

/// The C type of a row's function pointer.
fn signature(row: &Row) -> TokenStream {
    let types = row.parameters.iter().map(|parameter| &parameter.ty);
    quote!(unsafe extern "C" fn(#(#types),*) -> CUresult)
}
