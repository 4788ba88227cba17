//! Variables of opaque types: `.texref`, `.samplerref`, `.surfref`.
//!
//! What they hold is the driver's. A program can say some of it where it declares them: `= { addr_mode_0 = clamp_to_border, filter_mode = nearest }`.

use super::PtxError;
use super::lexer::{Lexer, Token};

/// The opaque types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpaqueKind {
    /// `.texref`
    Texture,
    /// `.samplerref`
    Sampler,
    /// `.surfref`
    Surface,
}

impl OpaqueKind {
    /// The type named `name` (without its dot), if it is one.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "texref" => Self::Texture,
            "samplerref" => Self::Sampler,
            "surfref" => Self::Surface,
            _ => return None,
        })
    }
}

/// How a clamped address mode reads: `CU_TR_ADDRESS_MODE_*` of PTX's `wrap mirror clamp_ogl clamp_to_edge clamp_to_border`.
const ADDRESS_MODES: [(&str, u32); 5] = [
    ("wrap", 0),
    ("mirror", 2),
    ("clamp_ogl", 1),
    ("clamp_to_edge", 1),
    ("clamp_to_border", 3),
];

/// An opaque variable of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Name in the text.
    pub name: String,
    /// Its type.
    pub kind: OpaqueKind,
    /// Defined by another text.
    pub is_extern: bool,
    /// `filter_mode`: whether it is `linear`.
    pub is_linear: bool,
    /// `addr_mode_*`, as `CU_TR_ADDRESS_MODE_*`.
    pub address_modes: [u32; 3],
    /// `normalized_coords`
    pub is_normalised: bool,
    /// `force_unnormalized_coords`
    pub forces_elements: bool,
}

impl Opaque {
    pub(super) fn new(name: &str, kind: OpaqueKind, is_extern: bool) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            is_extern,
            is_linear: false,
            address_modes: [1; 3],
            is_normalised: false,
            forces_elements: false,
        }
    }

    /// Reads `{ name = value, … }`.
    pub(super) fn fields(&mut self, lexer: &mut Lexer<'_>) -> Result<(), PtxError> {
        lexer.expect(b'{')?;
        while !lexer.accept(b'}')? {
            let name = lexer.word()?;
            lexer.expect(b'=')?;
            match name {
                "filter_mode" => self.is_linear = chosen(lexer, &["nearest", "linear"])? == 1,
                "addr_mode_0" => self.address_modes[0] = address_mode(lexer)?,
                "addr_mode_1" => self.address_modes[1] = address_mode(lexer)?,
                "addr_mode_2" => self.address_modes[2] = address_mode(lexer)?,
                "normalized_coords" => self.is_normalised = chosen(lexer, &[])? != 0,
                "force_unnormalized_coords" => self.forces_elements = chosen(lexer, &[])? != 0,
                // Sizes and formats are those of what is bound.
                "width" | "height" | "depth" | "channel_data_type" | "channel_order"
                | "array_size" | "num_mipmap_levels" | "num_samples" | "memory_layout" => {
                    chosen(lexer, &[])?;
                }
                _ => return Err(lexer.error(format!("unknown member `{name}`"))),
            }
            lexer.accept(b',')?;
        }
        Ok(())
    }
}

fn address_mode(lexer: &mut Lexer<'_>) -> Result<u32, PtxError> {
    let index = chosen(lexer, &ADDRESS_MODES.map(|(name, _)| name))?;
    let mode = ADDRESS_MODES.get(index as usize);
    let mode = mode.ok_or_else(|| lexer.error(format!("address mode {index}")))?;
    Ok(mode.1)
}

/// A number, or the place of one of `names`.
fn chosen(lexer: &mut Lexer<'_>, names: &[&str]) -> Result<u32, PtxError> {
    if let Token::Word(word) = lexer.peek() {
        let place = names.iter().position(|name| *name == word);
        let place = place.ok_or_else(|| lexer.error(format!("unknown value `{word}`")))?;
        lexer.next()?;
        return Ok(place as u32);
    }
    let number = lexer.integer()?;
    u32::try_from(number).map_err(|_| lexer.error(format!("{number} is no such value")))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn declarations_say_how_to_read() {
        const TEXT: &str = "
.version 7.0
.target sm_70, texmode_independent
.address_size 64
.global .texref one, two = { normalized_coords = 1, filter_mode = linear };
.visible .global .samplerref smp = { addr_mode_0 = clamp_to_border, addr_mode_1 = mirror, addr_mode_2 = 0, force_unnormalized_coords = 1 };
.extern .global .surfref elsewhere;
";
        let module = parse(TEXT).unwrap();
        assert!(module.has_samplers);
        let [one, two, smp, elsewhere] = module.opaques() else {
            panic!("{:?}", module.opaques())
        };
        assert_eq!(*one, Opaque::new("one", OpaqueKind::Texture, false));
        assert!(two.is_linear && two.is_normalised);
        assert_eq!(
            (smp.kind, smp.address_modes),
            (OpaqueKind::Sampler, [3, 2, 0])
        );
        assert!(smp.forces_elements && !smp.is_linear);
        assert_eq!(
            (elsewhere.kind, elsewhere.is_extern),
            (OpaqueKind::Surface, true)
        );
        assert_eq!(module.globals().count(), 0);
    }

    #[test]
    fn what_no_variable_can_say_is_an_error() {
        let of = |declaration: &str| {
            let text = format!(".version 7.0\n.target sm_70\n.address_size 64\n{declaration}");
            parse(&text).unwrap_err().to_string()
        };
        assert!(of(".global .texref t = { colour = 1 };").contains("colour"));
        assert!(of(".global .texref t = { filter_mode = wrap };").contains("wrap"));
        assert!(of(".global .samplerref t = { addr_mode_0 = 7 };").contains('7'));
        assert!(of(".global .texref t[2];").contains("opaque"));
        assert!(of(".shared .texref t;").contains("opaque"));
    }
}
