//! An opcode and its dotted modifiers, each of which must be understood by somebody.

use crate::ptx::Type;

/// An opcode as written, with a note of which parts have been used.
pub(super) struct Form<'t> {
    text: &'t str,
    pub(super) base: &'t str,
    parts: Vec<(&'t str, bool)>,
}

impl<'t> Form<'t> {
    /// Splits `text` at its dots.
    pub(super) fn new(text: &'t str) -> Form<'t> {
        let mut parts = text.split('.');
        let base = parts.next().unwrap_or("");
        Form {
            text,
            base,
            parts: parts.map(|part| (part, false)).collect(),
        }
    }

    /// Uses the modifier `name` if it is there.
    pub(super) fn take(&mut self, name: &str) -> bool {
        match self
            .parts
            .iter_mut()
            .find(|(part, used)| !used && *part == name)
        {
            Some(part) => {
                part.1 = true;
                true
            }
            None => false,
        }
    }

    /// Whether the modifier `name` is there, used or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|(part, _)| *part == name)
    }

    /// Uses the first of `names` that is there, and gives its index.
    pub(super) fn take_one(&mut self, names: &[&str]) -> Option<usize> {
        names.iter().position(|name| self.take(name))
    }

    /// Uses the first modifier that `accept` makes something of, in the order in which they are written.
    pub(super) fn take_next<T>(&mut self, accept: impl Fn(&str) -> Option<T>) -> Option<T> {
        for part in self.parts.iter_mut().filter(|(_, used)| !used) {
            if let Some(value) = accept(part.0) {
                part.1 = true;
                return Some(value);
            }
        }
        None
    }

    /// Uses all modifiers for which `wanted` holds.
    pub(super) fn take_all(&mut self, wanted: impl Fn(&str) -> bool) {
        for part in self.parts.iter_mut().filter(|(part, _)| wanted(part)) {
            part.1 = true;
        }
    }

    /// Uses the first modifier that is a type.
    pub(super) fn take_type(&mut self) -> Result<Type, String> {
        for part in self.parts.iter_mut().filter(|(_, used)| !used) {
            if let Some(ty) = Type::from_name(part.0) {
                part.1 = true;
                return Ok(ty);
            }
        }
        Err(format!("`{}` has no type", self.text))
    }

    /// The last type, used or not.
    pub(super) fn last_type(&self) -> Option<Type> {
        self.parts
            .iter()
            .rev()
            .find_map(|(part, _)| Type::from_name(part))
    }

    /// That this form is not executed here.
    pub(super) fn refuse<T>(&self) -> Result<T, String> {
        Err(format!("`{}` is not executed by this device", self.text))
    }

    /// That this form is not executed here, and why.
    pub(super) fn refuse_since<T>(&self, reason: &str) -> Result<T, String> {
        Err(format!(
            "`{}` is not executed by this device: {reason}",
            self.text
        ))
    }

    /// Refuses the form unless every modifier has been used.
    pub(super) fn finish(&self) -> Result<(), String> {
        match self.parts.iter().find(|(_, used)| !used) {
            Some((part, _)) => Err(format!(
                "`{}` is not executed by this device: modifier `.{part}`",
                self.text
            )),
            None => Ok(()),
        }
    }
}
