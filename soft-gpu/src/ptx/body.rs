//! The inside of a function: statements and their operands, names not yet resolved.

use super::lexer::{Lexer, Token};
use super::parser::declarator;
use super::{MAX_NESTING, MAX_REGISTERS, PtxError, Space, Type};

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand<'t> {
    /// A register, special register, variable, function or label.
    Name(&'t str),
    /// An integer literal.
    Integer(u64),
    /// `0f…`
    Single(u32),
    /// `0d…`
    Double(u64),
    /// `[base+offset]`
    Address(Box<Operand<'t>>, i64),
    /// `[a, {b, c}]`: an object and a place in it
    Place(Vec<Operand<'t>>),
    /// `{a, b}`
    Vector(Vec<Operand<'t>>),
    /// `(a, b)`, in calls
    List(Vec<Operand<'t>>),
    /// `a|b`: two destinations
    Pair(Box<Operand<'t>>, Box<Operand<'t>>),
    /// `!a`
    Not(Box<Operand<'t>>),
    /// `-a` of a register
    Negative(Box<Operand<'t>>),
    /// `symbol+offset` outside brackets
    Offset(&'t str, i64),
    /// `array[register+index]`, in elements
    Element {
        array: &'t str,
        register: Option<&'t str>,
        index: i64,
    },
}

/// `@p` or `@!p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guard<'t> {
    /// The predicate register.
    pub(crate) register: &'t str,
    /// Whether it is negated.
    pub(crate) negated: bool,
}

/// One statement of a body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement<'t> {
    /// `name:`
    Label(&'t str),
    /// `{`
    Open,
    /// `}`
    Close,
    /// `.reg .type name<count>`; a plain name has no count.
    Registers {
        ty: Type,
        names: Vec<(&'t str, Option<u32>)>,
    },
    /// `.local`, `.shared` or `.param` variable.
    Variable {
        space: Space,
        name: &'t str,
        align: u32,
        size: Option<u64>,
        element: u32,
    },
    /// `name: .branchtargets a, b;` or `.calltargets`
    Targets { name: &'t str, labels: Vec<&'t str> },
    /// `name: .callprototype (returns) _ (params);`, with the sizes of both.
    Prototype {
        name: &'t str,
        returns: Vec<u32>,
        params: Vec<u32>,
    },
    /// An instruction.
    Instruction {
        guard: Option<Guard<'t>>,
        opcode: &'t str,
        operands: Vec<Operand<'t>>,
    },
}

/// A statement and its line.
pub(crate) type Scoped<'t> = (u32, Statement<'t>);

/// Parses a body, given the text between its braces.
pub(crate) fn parse_body(text: &str, line: u32) -> Result<Vec<Scoped<'_>>, PtxError> {
    let mut parser = BodyParser {
        lexer: Lexer::new(text, line)?,
        statements: Vec::new(),
    };
    let mut depth = 0u32;
    while parser.lexer.peek() != Token::End {
        let line = parser.lexer.ahead();
        if parser.lexer.accept(b'{')? {
            depth += 1;
            if depth > MAX_NESTING {
                return Err(parser.lexer.error("blocks nested too deeply".into()));
            }
            parser.push(line, Statement::Open);
        } else if parser.lexer.accept(b'}')? {
            depth = depth
                .checked_sub(1)
                .ok_or_else(|| parser.lexer.error("`}` without `{`".into()))?;
            parser.push(line, Statement::Close);
        } else if !parser.lexer.accept(b';')? {
            parser.statement(line)?;
        }
    }
    Ok(parser.statements)
}

struct BodyParser<'t> {
    lexer: Lexer<'t>,
    statements: Vec<Scoped<'t>>,
}

impl<'t> BodyParser<'t> {
    fn push(&mut self, line: u32, statement: Statement<'t>) {
        self.statements.push((line, statement));
    }

    fn statement(&mut self, line: u32) -> Result<(), PtxError> {
        let guard = self.guard()?;
        let word = self.lexer.word()?;
        if guard.is_some() {
            return self.instruction(line, guard, word);
        }
        if self.lexer.peek() == Token::Mark(b':') {
            self.lexer.next()?;
            return self.labelled(line, word);
        }
        match word {
            ".reg" => {
                let ty = self.lexer.word()?;
                self.registers(line, ty)
            }
            // NVRTC's inline assembly writes `.reg.b32` in one.
            _ if word.starts_with(".reg.") => self.registers(line, &word[4..]),
            ".local" | ".shared" | ".param" => {
                let space = Space::from_name(&word[1..]).unwrap_or(Space::Local);
                self.variables(line, space)
            }
            ".loc" => self.skip_line(line),
            ".pragma" => self.skip_statement(),
            _ if word.starts_with('.') => Err(PtxError {
                line,
                message: format!("directive `{word}` in a body"),
            }),
            _ => self.instruction(line, None, word),
        }
    }

    fn guard(&mut self) -> Result<Option<Guard<'t>>, PtxError> {
        if !self.lexer.accept(b'@')? {
            return Ok(None);
        }
        let negated = self.lexer.accept(b'!')?;
        Ok(Some(Guard {
            register: self.lexer.word()?,
            negated,
        }))
    }

    fn labelled(&mut self, line: u32, name: &'t str) -> Result<(), PtxError> {
        match self.lexer.peek() {
            Token::Word(".branchtargets" | ".calltargets") => {
                self.lexer.next()?;
                let mut labels = vec![self.lexer.word()?];
                while self.lexer.accept(b',')? {
                    labels.push(self.lexer.word()?);
                }
                self.lexer.expect(b';')?;
                self.push(line, Statement::Targets { name, labels });
            }
            Token::Word(".callprototype") => {
                self.lexer.next()?;
                let returns = self.sizes()?;
                self.lexer.word()?;
                let params = self.sizes()?;
                self.skip_statement()?;
                self.push(
                    line,
                    Statement::Prototype {
                        name,
                        returns,
                        params,
                    },
                );
            }
            _ => self.push(line, Statement::Label(name)),
        }
        Ok(())
    }

    /// The sizes of the parameters in parentheses, if there are any.
    fn sizes(&mut self) -> Result<Vec<u32>, PtxError> {
        let mut sizes = Vec::new();
        if !self.lexer.accept(b'(')? {
            return Ok(sizes);
        }
        while !self.lexer.accept(b')')? {
            self.lexer.accept(b',')?;
            let space = self.lexer.word()?;
            if !matches!(space, ".param" | ".reg") {
                return Err(self
                    .lexer
                    .error(format!("expected `.param`, found `{space}`")));
            }
            let size = declarator(&mut self.lexer)?.size.unwrap_or(0);
            sizes.push(u32::try_from(size).unwrap_or(u32::MAX));
        }
        Ok(sizes)
    }

    fn registers(&mut self, line: u32, word: &str) -> Result<(), PtxError> {
        let ty = word.strip_prefix('.').and_then(Type::from_name);
        let ty = ty.ok_or_else(|| self.lexer.error(format!("register type `{word}`")))?;
        let mut names = Vec::new();
        loop {
            let name = self.lexer.word()?;
            let count = if self.lexer.accept(b'<')? {
                let count = self.lexer.integer()?;
                self.lexer.expect(b'>')?;
                Some(
                    u32::try_from(count)
                        .ok()
                        .filter(|&count| count <= MAX_REGISTERS)
                        .ok_or_else(|| {
                            self.lexer.error(format!("{count} registers are too many"))
                        })?,
                )
            } else {
                None
            };
            names.push((name, count));
            if !self.lexer.accept(b',')? {
                break;
            }
        }
        self.lexer.expect(b';')?;
        self.push(line, Statement::Registers { ty, names });
        Ok(())
    }

    fn variables(&mut self, line: u32, space: Space) -> Result<(), PtxError> {
        let declarator = declarator(&mut self.lexer)?;
        self.push(
            line,
            Statement::Variable {
                space,
                name: declarator.name,
                align: declarator.align,
                size: declarator.size,
                element: declarator.element,
            },
        );
        if self.lexer.peek() == Token::Mark(b'=') {
            return Err(self.lexer.error("initialiser in a body".into()));
        }
        self.lexer.expect(b';')
    }

    fn skip_line(&mut self, line: u32) -> Result<(), PtxError> {
        while self.lexer.ahead() == line && self.lexer.peek() != Token::End {
            self.lexer.next()?;
        }
        Ok(())
    }

    fn skip_statement(&mut self) -> Result<(), PtxError> {
        while !matches!(self.lexer.next()?, Token::Mark(b';') | Token::End) {}
        Ok(())
    }

    fn instruction(
        &mut self,
        line: u32,
        guard: Option<Guard<'t>>,
        opcode: &'t str,
    ) -> Result<(), PtxError> {
        let mut operands = Vec::new();
        while !matches!(self.lexer.peek(), Token::Mark(b';') | Token::End) {
            operands.push(self.operand(0)?);
            if !self.lexer.accept(b',')? {
                break;
            }
        }
        self.lexer.expect(b';')?;
        self.push(
            line,
            Statement::Instruction {
                guard,
                opcode,
                operands,
            },
        );
        Ok(())
    }

    fn operand(&mut self, depth: u32) -> Result<Operand<'t>, PtxError> {
        if depth > MAX_NESTING {
            return Err(self.lexer.error("operand nested too deeply".into()));
        }
        let operand = match self.lexer.next()? {
            Token::Word(word) => self.name(word)?,
            Token::Integer(value) => Operand::Integer(value),
            Token::Single(bits) => Operand::Single(bits),
            Token::Double(bits) => Operand::Double(bits),
            Token::Mark(b'-') => self.negative()?,
            Token::Mark(b'!') => Operand::Not(Box::new(self.operand(depth + 1)?)),
            Token::Mark(b'{') => Operand::Vector(self.sequence(b'}', depth)?),
            Token::Mark(b'(') => Operand::List(self.sequence(b')', depth)?),
            Token::Mark(b'[') => self.address(depth)?,
            other => return Err(self.lexer.error(format!("{other:?} is not an operand"))),
        };
        if self.lexer.accept(b'|')? {
            return Ok(Operand::Pair(
                Box::new(operand),
                Box::new(self.operand(depth + 1)?),
            ));
        }
        Ok(operand)
    }

    fn name(&mut self, word: &'t str) -> Result<Operand<'t>, PtxError> {
        if self.lexer.peek() == Token::Mark(b'+') {
            self.lexer.next()?;
            return Ok(Operand::Offset(word, self.lexer.integer()?));
        }
        // `array[0]` is the array's address.
        if self.lexer.accept(b'[')? {
            let element = self.element(word)?;
            self.lexer.expect(b']')?;
            if !matches!(
                element,
                Operand::Element {
                    register: None,
                    index: 0,
                    ..
                }
            ) {
                return Ok(element);
            }
        }
        // `variable[4]`, as tinygrad writes the address of a byte of a variable.
        if self.lexer.accept(b'[')? {
            let offset = self.lexer.integer()?;
            if !self.lexer.accept(b']')? {
                return Err(self.lexer.error("expected `]`".into()));
            }
            return Ok(Operand::Offset(word, offset));
        }
        Ok(Operand::Name(word))
    }

    /// The inside of `array[…]`: a register, a number, or the sum or difference of both.
    fn element(&mut self, array: &'t str) -> Result<Operand<'t>, PtxError> {
        let register = match self.lexer.peek() {
            Token::Word(register) => {
                self.lexer.next()?;
                Some(register)
            }
            _ => None,
        };
        let index = if register.is_none() || self.lexer.accept(b'+')? {
            self.lexer.integer()?
        } else if self.lexer.accept(b'-')? {
            self.lexer.integer()?.wrapping_neg()
        } else {
            0
        };
        Ok(Operand::Element {
            array,
            register,
            index,
        })
    }

    fn negative(&mut self) -> Result<Operand<'t>, PtxError> {
        Ok(match self.lexer.next()? {
            Token::Integer(value) => Operand::Integer(value.wrapping_neg()),
            Token::Single(bits) => Operand::Single(bits ^ 1 << 31),
            Token::Double(bits) => Operand::Double(bits ^ 1 << 63),
            Token::Word(word) => Operand::Negative(Box::new(Operand::Name(word))),
            other => return Err(self.lexer.error(format!("{other:?} after `-`"))),
        })
    }

    fn sequence(&mut self, close: u8, depth: u32) -> Result<Vec<Operand<'t>>, PtxError> {
        let mut items = Vec::new();
        while !self.lexer.accept(close)? {
            items.push(self.operand(depth + 1)?);
            if !self.lexer.accept(b',')? {
                self.lexer.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn address(&mut self, depth: u32) -> Result<Operand<'t>, PtxError> {
        let base = self.operand(depth + 1)?;
        if self.lexer.accept(b',')? {
            let mut parts = vec![base];
            parts.extend(self.sequence(b']', depth)?);
            return Ok(Operand::Place(parts));
        }
        let (base, mut offset) = match base {
            Operand::Offset(name, offset) => (Operand::Name(name), offset),
            other => (other, 0),
        };
        if self.lexer.accept(b'+')? {
            offset = self.lexer.integer()?;
        } else if self.lexer.accept(b'-')? {
            offset = self.lexer.integer()?.wrapping_neg();
        }
        self.lexer.expect(b']')?;
        Ok(Operand::Address(Box::new(base), offset))
    }
}
