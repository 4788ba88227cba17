//! PTX text into tokens.
//!
//! A word is an identifier with everything that PTX glues to it: `ld.global.f32`, `%tid.x`, `$L__BB0_2`,
//! `.L2::128B` and so on are one token each. Comments and white space vanish.

use super::PtxError;

/// One token, borrowing from the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'t> {
    /// Identifier, directive, opcode or register name.
    Word(&'t str),
    /// An integer literal, as 64 bits of two's complement.
    Integer(u64),
    /// `0f…`: the bits of a single.
    Single(u32),
    /// `0d…` or a decimal fraction: the bits of a double.
    Double(u64),
    /// The inside of a quoted string.
    Text(&'t str),
    /// Any other character.
    Mark(u8),
    /// The end.
    End,
}

/// A cursor over PTX text with one token of look-ahead.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'t> {
    text: &'t str,
    position: usize,
    line: u32,
    token: Token<'t>,
    ahead_line: u32,
    start: usize,
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.')
}

impl<'t> Lexer<'t> {
    /// A lexer over `text`, whose first line is number `line`.
    pub(crate) fn new(text: &'t str, line: u32) -> Result<Self, PtxError> {
        let mut lexer = Lexer {
            text,
            position: 0,
            line,
            token: Token::End,
            ahead_line: line,
            start: 0,
        };
        lexer.advance()?;
        Ok(lexer)
    }

    /// The token ahead.
    pub(crate) fn peek(&self) -> Token<'t> {
        self.token
    }

    /// The line of the token ahead.
    pub(crate) fn ahead(&self) -> u32 {
        self.ahead_line
    }

    /// Where the token ahead begins.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Takes the token ahead.
    pub(crate) fn next(&mut self) -> Result<Token<'t>, PtxError> {
        let token = self.token;
        self.advance()?;
        Ok(token)
    }

    /// Takes the mark `mark` if it is ahead.
    pub(crate) fn accept(&mut self, mark: u8) -> Result<bool, PtxError> {
        let found = self.token == Token::Mark(mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Takes the mark `mark`, which must be ahead.
    pub(crate) fn expect(&mut self, mark: u8) -> Result<(), PtxError> {
        if self.accept(mark)? {
            return Ok(());
        }
        Err(self.error(format!(
            "expected `{}`, found {:?}",
            mark as char, self.token
        )))
    }

    /// Takes a word, which must be ahead.
    pub(crate) fn word(&mut self) -> Result<&'t str, PtxError> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => Err(self.error(format!("expected a name, found {other:?}"))),
        }
    }

    /// Takes an integer with an optional sign.
    pub(crate) fn integer(&mut self) -> Result<i64, PtxError> {
        let negative = self.accept(b'-')?;
        match self.next()? {
            Token::Integer(value) if negative => Ok((value as i64).wrapping_neg()),
            Token::Integer(value) => Ok(value as i64),
            other => Err(self.error(format!("expected a number, found {other:?}"))),
        }
    }

    /// An error at the token ahead.
    pub(crate) fn error(&self, message: String) -> PtxError {
        PtxError {
            line: self.ahead_line,
            message,
        }
    }

    /// With `{` ahead: skips to after the matching `}` without making tokens, and gives the text between
    /// them with the number of its first line.
    pub(crate) fn skip_block(&mut self) -> Result<(std::ops::Range<usize>, u32), PtxError> {
        if self.token != Token::Mark(b'{') {
            return Err(self.error("expected `{`".into()));
        }
        let (begin, first_line) = (self.position, self.line);
        let mut depth = 1usize;
        loop {
            self.skip_blank();
            match self.byte(0) {
                0 if self.position >= self.text.len() => {
                    return Err(self.error("`{` without `}`".into()));
                }
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b'"' => {
                    self.string()?;
                    continue;
                }
                _ => {}
            }
            self.position += 1;
            if depth == 0 {
                break;
            }
        }
        let end = self.position - 1;
        self.advance()?;
        Ok((begin..end, first_line))
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text
            .as_bytes()
            .get(self.position + ahead)
            .copied()
            .unwrap_or(0)
    }

    /// Skips white space, NUL bytes at the end, and comments.
    fn skip_blank(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.position) {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.position += 1;
                }
                b' ' | b'\t' | b'\r' | 0 => self.position += 1,
                b'/' if self.byte(1) == b'/' => self.skip_line(),
                b'/' if self.byte(1) == b'*' => self.skip_comment(),
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = &self.text.as_bytes()[self.position..];
        self.position += rest
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(rest.len());
    }

    fn skip_comment(&mut self) {
        let rest = &self.text.as_bytes()[self.position + 2..];
        let length = rest
            .windows(2)
            .position(|pair| pair == b"*/")
            .map_or(rest.len(), |at| at + 2);
        self.line += rest[..length].iter().filter(|&&byte| byte == b'\n').count() as u32;
        self.position += 2 + length;
    }

    fn advance(&mut self) -> Result<(), PtxError> {
        self.skip_blank();
        (self.ahead_line, self.start) = (self.line, self.position);
        self.token = if self.position >= self.text.len() {
            Token::End
        } else {
            let byte = self.byte(0);
            if byte.is_ascii_digit() {
                self.number()?
            } else if byte == b'"' {
                Token::Text(self.string()?)
            } else if starts_word(byte) {
                Token::Word(self.take_word())
            } else {
                self.position += self.text[self.position..]
                    .chars()
                    .next()
                    .map_or(1, char::len_utf8);
                Token::Mark(byte)
            }
        };
        Ok(())
    }

    fn take_word(&mut self) -> &'t str {
        let start = self.position;
        self.position += 1;
        loop {
            if continues_word(self.byte(0)) {
                self.position += 1;
            } else if self.byte(0) == b':' && self.byte(1) == b':' {
                self.position += 2;
            } else {
                return &self.text[start..self.position];
            }
        }
    }

    fn string(&mut self) -> Result<&'t str, PtxError> {
        let start = self.position + 1;
        let rest = &self.text.as_bytes()[start..];
        let length = rest
            .iter()
            .position(|&byte| byte == b'"')
            .ok_or_else(|| PtxError {
                line: self.line,
                message: "string without end".into(),
            })?;
        self.line += rest[..length].iter().filter(|&&byte| byte == b'\n').count() as u32;
        self.position = start + length + 1;
        Ok(&self.text[start..start + length])
    }

    fn number(&mut self) -> Result<Token<'t>, PtxError> {
        let start = self.position;
        while continues_word(self.byte(0))
            || (matches!(self.byte(0), b'+' | b'-') && self.after_decimal_exponent(start))
        {
            self.position += 1;
        }
        let text = &self.text[start..self.position];
        parse_number(text).ok_or_else(|| PtxError {
            line: self.line,
            message: format!("`{text}` is not a number"),
        })
    }

    fn after_decimal_exponent(&self, start: usize) -> bool {
        let so_far = &self.text[start..self.position];
        so_far.contains('.') && so_far.ends_with(['e', 'E'])
    }
}

fn parse_number(text: &str) -> Option<Token<'static>> {
    let digits = text.trim_end_matches('U');
    let prefixed = |lower: &str, upper: &str| text.strip_prefix(lower).or(text.strip_prefix(upper));
    if let Some(hex) = prefixed("0f", "0F") {
        return u32::from_str_radix(hex, 16).ok().map(Token::Single);
    }
    if let Some(hex) = prefixed("0d", "0D") {
        return u64::from_str_radix(hex, 16).ok().map(Token::Double);
    }
    if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok().map(Token::Integer);
    }
    if let Some(binary) = digits.strip_prefix("0b").or(digits.strip_prefix("0B")) {
        return u64::from_str_radix(binary, 2).ok().map(Token::Integer);
    }
    if text.contains('.') {
        return text
            .parse::<f64>()
            .ok()
            .map(|value| Token::Double(value.to_bits()));
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return u64::from_str_radix(digits, 8).ok().map(Token::Integer);
    }
    digits.parse::<u64>().ok().map(Token::Integer)
}
