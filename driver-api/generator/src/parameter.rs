//! The parameters of a row: what each is for, what its pointer leads to, how it travels.
//!
//! | word | of a parameter that |
//! |---|---|
//! | none | is a value |
//! | `input` | points to what the call reads |
//! | `out` | points to what it writes |
//! | `inout` | points to what it reads and then writes |
//! | `creates` | points to where it writes a new handle, or the address of new memory |
//! | `destroys` | is a handle, or memory, that ends with the call |
//! | `address` | is an address that is only passed on: the call reads and writes nothing there |
//! | `rest`, `out_rest` | is the bytes after the fixed part of a request or reply (private rows) |
//!
//! `input`, `out`, `inout` and `creates` may say in parentheses how much is there ([`Length`]: `count = p`, `bytes = p`, `text`, `ended`,
//! `chosen_by = p`, `parameters_of = p`; one value without) and that the pointer may be null (`nullable`). Here `p` is another
//! parameter, the same less a number, or a number.
//!
//! Rules: a pointer without a word is an error, and so is a word about what is no pointer.

use std::collections::HashSet;

use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{BinOp, Expr, ForeignItemFn, Ident, Lit, Token, Type};

use crate::model::{Direction, Extent, Length, Parameter, Pointee, Wire};

/// All parameters of a row.
pub(crate) fn parameters(function: &ForeignItemFn, travels: bool) -> syn::Result<Vec<Parameter>> {
    let inputs = function.sig.inputs.iter();
    let found = inputs
        .map(|input| parameter(input, travels))
        .collect::<syn::Result<Vec<_>>>()
        .map_err(|error| {
            let message = format!("{}: {error}", function.sig.ident);
            syn::Error::new(error.span(), message)
        })?;
    let names: HashSet<String> = found
        .iter()
        .map(|parameter| parameter.name.to_string())
        .collect();
    for parameter in &found {
        if let Some(name) = named_length(parameter).filter(|name| !names.contains(*name)) {
            let message = format!(
                "{}: the length of `{}` is said by `{name}`, which is no parameter",
                function.sig.ident, parameter.name
            );
            return Err(syn::Error::new(parameter.name.span(), message));
        }
    }
    Ok(found)
}

/// The parameter that says how much another points to.
fn named_length(parameter: &Parameter) -> Option<&str> {
    match &parameter.pointee.as_ref()?.length {
        Length::Count(Extent::Parameter { name, .. })
        | Length::Bytes(Extent::Parameter { name, .. })
        | Length::ChosenBy(name)
        | Length::ParametersOf(name) => Some(name),
        _ => None,
    }
}

fn parameter(input: &syn::FnArg, travels: bool) -> syn::Result<Parameter> {
    let syn::FnArg::Typed(typed) = input else {
        return Err(syn::Error::new(
            input.span(),
            "a driver function has no self",
        ));
    };
    let syn::Pat::Ident(name) = &*typed.pat else {
        return Err(syn::Error::new(typed.span(), "a parameter needs a name"));
    };
    let (direction, pointee) = said(&name.ident, &typed.attrs, &typed.ty)?;
    let wire = if travels {
        wire_of(&typed.ty, direction)?
    } else {
        None
    };
    Ok(Parameter {
        name: name.ident.clone(),
        ty: (*typed.ty).clone(),
        direction,
        pointee,
        wire,
    })
}

/// What the attribute of a parameter says, and whether it fits the type.
fn said(
    name: &Ident,
    attributes: &[syn::Attribute],
    ty: &Type,
) -> syn::Result<(Direction, Option<Pointee>)> {
    let fail = |message: &str| Err(syn::Error::new(name.span(), format!("`{name}` {message}")));
    let pointer = matches!(ty, Type::Ptr(_));
    let attribute = match attributes {
        [] if pointer => {
            return fail("is a pointer: say input, out, inout, creates, destroys or address");
        }
        [] => return Ok((Direction::Value, None)),
        [attribute] => attribute,
        _ => return fail("has two words"),
    };
    let word = attribute.path().require_ident()?.to_string();
    let direction = match word.as_str() {
        "input" => Direction::Input,
        "out" => Direction::Out,
        "inout" => Direction::InOut,
        "creates" => Direction::Creates,
        "destroys" => Direction::Destroys,
        "address" => Direction::Address,
        "rest" => Direction::Rest,
        "out_rest" => Direction::OutRest,
        _ => return fail(&format!("has `{word}`, which is not a word of a parameter")),
    };
    let looked_through = matches!(
        direction,
        Direction::Input | Direction::Out | Direction::InOut | Direction::Creates
    );
    if (looked_through || direction == Direction::Address) && !pointer {
        return fail(&format!("is `{word}`, but not a pointer"));
    }
    if looked_through {
        return Ok((direction, Some(pointee(attribute)?)));
    }
    attribute.meta.require_path_only()?;
    Ok((direction, None))
}

/// One word in the parentheses, such as `nullable` or `count = n`.
struct PointeeWord {
    word: Ident,
    value: Option<Expr>,
}

impl Parse for PointeeWord {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let word = input.parse()?;
        let value = if input.parse::<Option<Token![=]>>()?.is_some() {
            Some(input.parse()?)
        } else {
            None
        };
        Ok(Self { word, value })
    }
}

fn pointee(attribute: &syn::Attribute) -> syn::Result<Pointee> {
    let mut pointee = Pointee {
        length: Length::One,
        nullable: false,
    };
    if matches!(attribute.meta, syn::Meta::Path(_)) {
        return Ok(pointee);
    }
    type Words = syn::punctuated::Punctuated<PointeeWord, Token![,]>;
    for PointeeWord { word, value } in attribute.parse_args_with(Words::parse_terminated)? {
        let length = match (word.to_string().as_str(), value) {
            ("nullable", None) => {
                pointee.nullable = true;
                continue;
            }
            ("text", None) => Length::Text,
            ("ended", None) => Length::Ended,
            ("count", Some(value)) => Length::Count(extent(&value)?),
            ("bytes", Some(value)) => Length::Bytes(extent(&value)?),
            ("chosen_by", Some(value)) => Length::ChosenBy(identifier(&value)?),
            ("parameters_of", Some(value)) => Length::ParametersOf(identifier(&value)?),
            _ => {
                return Err(syn::Error::new(
                    word.span(),
                    format!("`{word}` does not say what a pointer leads to"),
                ));
            }
        };
        if pointee.length != Length::One {
            return Err(syn::Error::new(word.span(), "the length is said twice"));
        }
        pointee.length = length;
    }
    Ok(pointee)
}

/// `3`, `count` or `rank - 1`.
fn extent(value: &Expr) -> syn::Result<Extent> {
    match value {
        Expr::Lit(_) => number(value).map(Extent::Fixed),
        Expr::Binary(difference) if matches!(difference.op, BinOp::Sub(_)) => {
            Ok(Extent::Parameter {
                name: identifier(&difference.left)?,
                less: number(&difference.right)?,
            })
        }
        _ => Ok(Extent::Parameter {
            name: identifier(value)?,
            less: 0,
        }),
    }
}

fn number(value: &Expr) -> syn::Result<u32> {
    match value {
        Expr::Lit(syn::ExprLit {
            lit: Lit::Int(number),
            ..
        }) => number.base10_parse(),
        _ => Err(syn::Error::new(value.span(), "a number is expected")),
    }
}

fn identifier(value: &Expr) -> syn::Result<String> {
    match value {
        Expr::Path(path) => path.path.require_ident().map(ToString::to_string),
        _ => Err(syn::Error::new(value.span(), "a parameter is expected")),
    }
}

/// How a parameter travels; `None` for the bytes after the fixed part.
fn wire_of(ty: &Type, direction: Direction) -> syn::Result<Option<Wire>> {
    match (direction, ty) {
        (Direction::Rest | Direction::OutRest, _) => Ok(None),
        (Direction::Out | Direction::Creates, Type::Ptr(pointer)) => {
            scalar(&pointer.elem).map(Some)
        }
        (Direction::Value | Direction::Destroys, _) => scalar(ty).map(Some),
        _ => Err(syn::Error::new(
            ty.span(),
            "what is read through a pointer travels in a private row",
        )),
    }
}
/// The scalars that may stand in a row that travels.
const SCALARS: &[(&str, Wire)] = &[
    ("u8", Wire::U8),
    ("c_uchar", Wire::U8),
    ("u16", Wire::U16),
    ("c_ushort", Wire::U16),
    ("u32", Wire::U32),
    ("c_uint", Wire::U32),
    ("c_int", Wire::I32),
    ("CUdevice", Wire::I32),
    ("u64", Wire::U64),
    ("c_ulonglong", Wire::U64),
    ("CUdeviceptr", Wire::U64),
    ("usize", Wire::Size),
    ("f32", Wire::F32),
    ("CUlimit", Wire::U32),
    ("CUarray_format", Wire::U32),
    ("CUfunction_attribute", Wire::U32),
    ("CUfunc_cache", Wire::U32),
    ("CUcontext", Wire::Handle("ContextId")),
    ("CUstream", Wire::Handle("StreamId")),
    ("CUevent", Wire::Handle("EventId")),
    ("CUmodule", Wire::Handle("ModuleId")),
    ("CUfunction", Wire::Handle("FunctionId")),
    ("CUkernel", Wire::Handle("FunctionId")),
    ("CUlibrary", Wire::Handle("LibraryId")),
];

fn scalar(ty: &Type) -> syn::Result<Wire> {
    let unknown = || {
        syn::Error::new(
            ty.span(),
            "this type cannot travel: see SCALARS in the generator",
        )
    };
    match ty {
        Type::Path(path) => {
            let name = path.path.require_ident()?.to_string();
            let found = SCALARS.iter().find(|(scalar, _)| *scalar == name);
            found.map(|(_, wire)| wire.clone()).ok_or_else(unknown)
        }
        Type::Array(array) => {
            let Expr::Lit(syn::ExprLit {
                lit: Lit::Int(length),
                ..
            }) = &array.len
            else {
                return Err(unknown());
            };
            Ok(Wire::Array(
                Box::new(scalar(&array.elem)?),
                length.base10_parse()?,
            ))
        }
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Parameter>, String> {
        let function = syn::parse_str::<syn::ForeignItemFn>(text).expect("Rust");
        parameters(&function, false).map_err(|error| error.to_string())
    }

    #[test]
    fn the_vocabulary() {
        let text = "fn f(
            #[input(count = n - 1, nullable)] values: *const u32, #[inout] n: *mut u32, #[out(bytes = 8)] id: *mut u8,
            #[input(text)] name: *const c_char, #[address] user_data: *mut c_void, #[destroys] event: CUevent, flags: u32
        ) -> CUresult;";
        let found = read(text).expect("these are words");
        let directions: Vec<Direction> = found.iter().map(|it| it.direction).collect();
        assert_eq!(
            directions,
            [
                Direction::Input,
                Direction::InOut,
                Direction::Out,
                Direction::Input,
                Direction::Address,
                Direction::Destroys,
                Direction::Value
            ]
        );
        let count = Extent::Parameter {
            name: "n".to_owned(),
            less: 1,
        };
        let values = Pointee {
            length: Length::Count(count),
            nullable: true,
        };
        assert_eq!(found[0].pointee, Some(values));
        let required: Vec<bool> = found.iter().map(Parameter::is_required).collect();
        assert_eq!(required, [false, true, true, true, false, false, false]);
    }

    #[test]
    fn a_pointer_without_a_word_is_an_error_that_names_row_and_parameter() {
        let error =
            read("fn cuAny(flags: u32, place: *mut u32) -> CUresult;").expect_err("no word");
        assert!(
            error.starts_with("cuAny: `place` is a pointer: say input, out"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_word_is_an_error() {
        for (parameter, expected) in [
            (
                "#[output] p: *mut u32",
                "`p` has `output`, which is not a word",
            ),
            ("#[input] p: u32", "`p` is `input`, but not a pointer"),
            ("#[input(count)] p: *mut u32", "`count` does not say what"),
            (
                "#[input(count = n)] p: *mut u32",
                "said by `n`, which is no parameter",
            ),
            ("#[out(text, ended)] p: *mut u8", "the length is said twice"),
            (
                "#[address(nullable)] p: *mut u8",
                "unexpected token in attribute",
            ),
        ] {
            let error = read(&format!("fn cuAny({parameter}) -> CUresult;")).expect_err(parameter);
            assert!(
                error.starts_with("cuAny: ") && error.contains(expected),
                "{error}"
            );
        }
    }
}
