//! From bytes to the flat list of nodes. `jiter` reads the tokens and knows the grammar; this file adds what
//! it leaves to its callers (the list, the depth, duplicate names) and the forgiveness for trailing commas.

use std::borrow::Cow;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};

use super::{Document, Fault, MAX_DEPTH, Node, Position, Shape, Unparsable};

/// Up to this many members an object's names are compared each with each; above it they are sorted.
const FEW_MEMBERS: usize = 16;

/// See [`Document::parse`].
pub(super) fn document(body: &[u8]) -> Result<Document<'_>, Unparsable> {
    let fail = |fault, byte| Unparsable { fault, at: Position::of(byte, body) };
    if u32::try_from(body.len()).is_err() {
        return Err(Unparsable { fault: Fault::TooLarge, at: Position { byte: 0, line: 1, column: 1 } });
    }
    let text = std::str::from_utf8(body).map_err(|error| fail(Fault::NotUtf8, error.valid_up_to()))?;
    if text.starts_with('\u{FEFF}') {
        return Err(fail(Fault::ByteOrderMark, 0));
    }
    let (tree, text) = match strict(text) {
        // A parser stops at the first thing that is wrong. If that is anything but such a comma, leaving
        // out commas cannot help.
        Err(Stop { fault: TRAILING_COMMA, .. }) => {
            let text = without_trailing_commas(text);
            (strict(&text), Cow::Owned(text))
        }
        tree => (tree, Cow::Borrowed(text)),
    };
    // A blank takes the place of a comma, so positions are those of the body in both cases.
    let Tree { nodes, unescaped } = tree.map_err(|stop| fail(stop.fault, stop.byte))?;
    Ok(Document { text, unescaped, nodes })
}

/// What a document is made of, apart from its text.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    unescaped: String,
}

/// Why and where reading stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stop {
    pub(super) fault: Fault,
    pub(super) byte: usize,
}

pub(super) const TRAILING_COMMA: Fault = Fault::Syntax("a comma stands before a closing bracket");

/// Reads strict JSON.
pub(super) fn strict(text: &str) -> Result<Tree, Stop> {
    let mut parser = Parser {
        text,
        scanner: Jiter::new(text.as_bytes()),
        // Requests have some eight bytes for each node; a long text value should not reserve in vain.
        nodes: Vec::with_capacity((text.len() / 8).clamp(16, 512)),
        unescaped: String::new(),
    };
    let first = parser.scanner.peek().map_err(|_| Stop { fault: Fault::Empty, byte: text.len() })?;
    if first != Peek::Object {
        return Err(Stop { fault: Fault::NotAnObject, byte: parser.scanner.current_index() });
    }
    parser.object(1)?;
    parser.scanner.finish()?;
    Ok(Tree { nodes: parser.nodes, unescaped: parser.unescaped })
}

/// A copy of the text in which every comma that stands between a value and a closing bracket, outside of
/// strings, is a blank. A comma without a value before it stays, so `[,]` and `[1,,]` remain wrong.
fn without_trailing_commas(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut before = b',';
    let mut comma = None;
    let mut in_string = false;
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        if in_string {
            match byte {
                b'\\' => index += 1,
                b'"' => in_string = false,
                _ => {}
            }
        } else if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            match (byte, comma.take()) {
                (b']' | b'}', Some(comma)) => bytes[comma] = b' ',
                (b',', _) if !matches!(before, b',' | b':' | b'[' | b'{') => comma = Some(index),
                (b'"', _) => in_string = true,
                _ => {}
            }
            before = byte;
        }
        index += 1;
    }
    String::from_utf8(bytes).expect("only commas became blanks, and both are ASCII")
}

struct Parser<'t> {
    text: &'t str,
    scanner: Jiter<'t>,
    nodes: Vec<Node>,
    unescaped: String,
}

impl Parser<'_> {
    fn value(&mut self, first: Peek, depth: usize) -> Result<(), Stop> {
        let start = self.scanner.current_index();
        let shape = match first {
            Peek::Object => return self.object(depth + 1),
            Peek::Array => return self.array(depth + 1),
            Peek::String => {
                self.scanner.known_bytes()?;
                return self.string(start, self.scanner.current_index());
            }
            Peek::True | Peek::False => {
                if self.scanner.known_bool(first)? {
                    Shape::True
                } else {
                    Shape::False
                }
            }
            Peek::Null => {
                self.scanner.known_null()?;
                Shape::Null
            }
            number if number.is_num() => {
                self.scanner.known_number_bytes(number)?;
                Shape::Number
            }
            _ => return Err(Stop { fault: VALUE_EXPECTED, byte: start }),
        };
        self.push(start, self.scanner.current_index(), shape);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Stop> {
        let node = self.open(depth)?;
        let mut names = 0;
        let mut name = self.scanner.next_object_bytes()?;
        while let Some(inner) = name {
            // The scanner has gone on past the colon, so where the name lies is read off its slice.
            let start = inner.as_ptr().addr() - self.text.as_ptr().addr();
            let end = start + inner.len();
            self.string(start - 1, end + 1)?;
            names += 1;
            let first = self.scanner.peek()?;
            self.value(first, depth)?;
            name = self.scanner.next_key_bytes()?;
        }
        self.close(node, |after| Shape::Object { len: offset(names), after });
        self.refuse_duplicates(node, names)
    }

    fn array(&mut self, depth: usize) -> Result<(), Stop> {
        let node = self.open(depth)?;
        let mut items = 0;
        let mut first = self.scanner.known_array()?;
        while let Some(item) = first {
            items += 1;
            self.value(item, depth)?;
            first = self.scanner.array_step()?;
        }
        self.close(node, |after| Shape::Array { len: offset(items), after });
        Ok(())
    }

    /// Adds a string or a member name whose quotes are the first and the last byte of the range.
    fn string(&mut self, start: usize, end: usize) -> Result<(), Stop> {
        let quoted = &self.text.as_bytes()[start..end];
        let shape = if quoted.contains(&b'\\') {
            let from = offset(self.unescaped.len());
            self.unescaped.push_str(Jiter::new(quoted).next_str()?);
            Shape::Escaped { from, to: offset(self.unescaped.len()) }
        } else {
            Shape::Plain
        };
        self.push(start, end, shape);
        Ok(())
    }

    fn push(&mut self, start: usize, end: usize, shape: Shape) {
        self.nodes.push(Node { start: offset(start), end: offset(end), shape });
    }

    /// Makes room for an array or object; what it is becomes known when it is closed.
    fn open(&mut self, depth: usize) -> Result<usize, Stop> {
        let start = self.scanner.current_index();
        if depth > MAX_DEPTH {
            return Err(Stop { fault: Fault::TooDeep, byte: start });
        }
        self.push(start, start, Shape::Null);
        Ok(self.nodes.len() - 1)
    }

    fn close(&mut self, node: usize, shape: impl FnOnce(u32) -> Shape) {
        let after = offset(self.nodes.len());
        let opened = &mut self.nodes[node];
        opened.end = offset(self.scanner.current_index());
        opened.shape = shape(after);
    }

    fn refuse_duplicates(&self, object: usize, len: usize) -> Result<(), Stop> {
        let mut few = [""; FEW_MEMBERS];
        let mut many = Vec::with_capacity(if len > FEW_MEMBERS { len } else { 0 });
        let mut node = object + 1;
        for index in 0..len {
            let name = self.name(node);
            if len > FEW_MEMBERS {
                many.push((name, self.nodes[node].start));
            } else if few[..index].contains(&name) {
                return Err(Stop { fault: Fault::NamedTwice, byte: self.nodes[node].start as usize });
            } else {
                few[index] = name;
            }
            node = match self.nodes[node + 1].shape {
                Shape::Array { after, .. } | Shape::Object { after, .. } => after as usize,
                _ => node + 2,
            };
        }
        many.sort_unstable();
        // The second of two equal names counts, and the first such pair in the text.
        match many.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1).min() {
            Some(start) => Err(Stop { fault: Fault::NamedTwice, byte: start as usize }),
            None => Ok(()),
        }
    }

    fn name(&self, node: usize) -> &str {
        let Node { start, end, shape } = self.nodes[node];
        match shape {
            Shape::Escaped { from, to } => &self.unescaped[from as usize..to as usize],
            _ => &self.text[start as usize + 1..end as usize - 1],
        }
    }
}

const VALUE_EXPECTED: Fault = Fault::Syntax("a value is expected");

impl From<JiterError> for Stop {
    fn from(error: JiterError) -> Self {
        use JsonErrorType as Json;
        let fault = match error.error_type {
            JiterErrorType::WrongType { .. } => VALUE_EXPECTED,
            JiterErrorType::JsonError(json) => match json {
                Json::EofWhileParsingList
                | Json::EofWhileParsingObject
                | Json::EofWhileParsingString
                | Json::EofWhileParsingValue => Fault::Truncated,
                Json::TrailingCharacters => Fault::TrailingText,
                Json::TrailingComma => TRAILING_COMMA,
                Json::ExpectedColon => Fault::Syntax("a colon is expected"),
                Json::ExpectedListCommaOrEnd => Fault::Syntax("a comma or ] is expected"),
                Json::ExpectedObjectCommaOrEnd => Fault::Syntax("a comma or } is expected"),
                Json::KeyMustBeAString => Fault::Syntax("a member name in double quotes is expected"),
                Json::ExpectedSomeIdent | Json::ExpectedSomeValue => VALUE_EXPECTED,
                Json::InvalidNumber | Json::FloatExpectingInt => Fault::Syntax("a number is malformed"),
                Json::NumberOutOfRange => Fault::Syntax("a number has too many digits"),
                Json::InvalidEscape => Fault::Syntax("an escape is malformed"),
                Json::LoneLeadingSurrogateInHexEscape | Json::UnexpectedEndOfHexEscape => {
                    Fault::Syntax("an escape stands for half a character")
                }
                Json::ControlCharacterWhileParsingString => {
                    Fault::Syntax("a control character in a string is not escaped")
                }
                // None of these arises from what is asked of the scanner here; they are refusals all the same.
                Json::InvalidUnicodeCodePoint => Fault::NotUtf8,
                Json::RecursionLimitExceeded => Fault::TooDeep,
                Json::DuplicateKey(_) => Fault::NamedTwice,
                Json::InternalError(_) => Fault::Syntax("it cannot be read"),
            },
        };
        Self { fault, byte: error.index }
    }
}

fn offset(index: usize) -> u32 {
    u32::try_from(index).expect("a body has less than 4 GiB, and fewer nodes than bytes")
}
