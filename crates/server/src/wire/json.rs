//! A request body as a document: strict JSON, with one leniency, that is never copied without need.
//!
//! [`Document::parse`] reads the whole body once and keeps a flat list of what it found and where. A
//! [`Value`], an [`Object`] or an [`Array`] is a place in that list: it is copied freely, owns nothing, and
//! can show the exact text it was read from. The list also tells, when something turns out to be wrong,
//! which path leads to a value, so that nobody has to carry paths around for the sake of errors.
//!
//! What counts as a document (rule 3.13 and rest-overview.md section 1, "Body"):
//!
//! * UTF-8 text of one JSON object with nothing after it, without a byte order mark;
//! * no more than [`MAX_DEPTH`] levels deep, no member named twice in one object;
//! * where strict JSON fails at a comma before `]` or `}`, such commas are forgiven, and nothing else is.

mod parse;
#[cfg(test)]
mod tests;
mod unparsable;

use std::borrow::Cow;

pub use self::unparsable::{Fault, Position, Unparsable};

/// How many objects and arrays may lie inside one another, the body's own object included.
pub const MAX_DEPTH: usize = 64;

/// One request body that was read to its end.
#[derive(Debug)]
pub struct Document<'t> {
    /// The body; a copy with the forgiven commas blanked out if there were any.
    text: Cow<'t, str>,
    /// What the strings with escapes stand for, one after the other.
    unescaped: String,
    /// Every value and every member name in the order of the text; the first one is the body's object.
    nodes: Vec<Node>,
}

/// Where a value or a member name lies in the text, and what it is.
#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    end: u32,
    shape: Shape,
}

/// `after` is the index of the first node that does not belong to the array or object.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Null,
    False,
    True,
    Number,
    /// A string without escapes: its text between the quotes is what it stands for.
    Plain,
    /// A string with escapes: a range of [`Document::unescaped`].
    Escaped {
        from: u32,
        to: u32,
    },
    Array {
        len: u32,
        after: u32,
    },
    Object {
        len: u32,
        after: u32,
    },
}

impl<'t> Document<'t> {
    /// Reads a body. The error says what is wrong and where, and repeats nothing of the body.
    pub fn parse(body: &'t [u8]) -> Result<Self, Unparsable> {
        parse::document(body)
    }

    /// The body's object.
    pub fn root(&self) -> Object<'_> {
        Object { document: self, node: 0 }
    }

    fn node(&self, node: usize) -> Node {
        self.nodes[node]
    }

    fn source(&self, node: usize) -> &str {
        let Node { start, end, .. } = self.node(node);
        &self.text[start as usize..end as usize]
    }

    /// What a string or a member name stands for.
    fn string(&self, node: usize) -> Option<&str> {
        let Node { start, end, shape } = self.node(node);
        match shape {
            Shape::Plain => Some(&self.text[start as usize + 1..end as usize - 1]),
            Shape::Escaped { from, to } => Some(&self.unescaped[from as usize..to as usize]),
            _ => None,
        }
    }

    /// The node that follows `node` and all that it contains.
    fn after(&self, node: usize) -> usize {
        match self.node(node).shape {
            Shape::Array { after, .. } | Shape::Object { after, .. } => after as usize,
            _ => node + 1,
        }
    }

    /// See [`Value::path`]; empty for the body's object itself.
    fn path(&self, target: usize) -> String {
        let mut path = String::new();
        let mut node = 0;
        while node != target {
            let value = Value { document: self, node };
            let step = if let Some(object) = value.as_object() {
                object.iter().find(|(_, member)| target < self.after(member.node)).map(|(name, member)| {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                    member
                })
            } else {
                value.as_array().and_then(|array| {
                    let (index, item) =
                        array.iter().enumerate().find(|(_, item)| target < self.after(item.node))?;
                    path.extend(["[", &index.to_string(), "]"]);
                    Some(item)
                })
            };
            let Some(step) = step else { break };
            node = step.node;
        }
        path
    }
}

/// Any JSON value of a document.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    document: &'a Document<'a>,
    node: usize,
}

impl<'a> Value<'a> {
    /// The exact text of this value: strict JSON, forgiven commas being blanks in it.
    pub fn source(self) -> &'a str {
        self.document.source(self.node)
    }

    /// Names and indexes that lead here from the body's object, as in `ExtensionList[3].Key`. For errors: it
    /// searches from the top.
    pub fn path(self) -> String {
        self.document.path(self.node)
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        matches!(self.document.node(self.node).shape, Shape::Null)
    }

    /// `true` or `false`.
    pub fn as_bool(self) -> Option<bool> {
        match self.document.node(self.node).shape {
            Shape::True => Some(true),
            Shape::False => Some(false),
            _ => None,
        }
    }

    /// What a string stands for, escapes resolved. Borrowed from the body where it has no escapes.
    pub fn as_str(self) -> Option<&'a str> {
        self.document.string(self.node)
    }

    /// The value of a number that is written as an integer, without a point and without an exponent, even
    /// if they say nothing (rule 3.13). One that does not fit is given as the nearest `i128`, which lies
    /// outside of every range that a field can have.
    pub fn as_integer(self) -> Option<i128> {
        let Shape::Number = self.document.node(self.node).shape else { return None };
        let digits = self.source();
        if digits.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            return None;
        }
        if let Ok(integer) = digits.parse::<i64>() {
            return Some(integer.into());
        }
        let nearest = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
        Some(digits.parse().unwrap_or(nearest))
    }

    /// The array that this is.
    pub fn as_array(self) -> Option<Array<'a>> {
        match self.document.node(self.node).shape {
            Shape::Array { .. } => Some(Array { document: self.document, node: self.node }),
            _ => None,
        }
    }

    /// The object that this is.
    pub fn as_object(self) -> Option<Object<'a>> {
        match self.document.node(self.node).shape {
            Shape::Object { .. } => Some(Object { document: self.document, node: self.node }),
            _ => None,
        }
    }
}

/// A JSON object: members in the order of the text, each name once.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    document: &'a Document<'a>,
    node: usize,
}

impl<'a> Object<'a> {
    /// The member of this exact name. A linear search: the objects of this API have few members.
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        self.iter().find(|(member, _)| *member == name).map(|(_, value)| value)
    }

    /// How many members there are.
    pub fn len(self) -> usize {
        match self.document.node(self.node).shape {
            Shape::Object { len, .. } => len as usize,
            _ => 0,
        }
    }

    /// Whether it is `{}`.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Names and values.
    pub fn iter(self) -> Members<'a> {
        Members { document: self.document, next: self.node + 1, left: self.len() }
    }

    /// The object itself, as a value among others.
    pub fn as_value(self) -> Value<'a> {
        Value { document: self.document, node: self.node }
    }

    /// See [`Value::source`].
    pub fn source(self) -> &'a str {
        self.as_value().source()
    }
}

impl<'a> IntoIterator for Object<'a> {
    type Item = (&'a str, Value<'a>);
    type IntoIter = Members<'a>;

    fn into_iter(self) -> Members<'a> {
        self.iter()
    }
}

/// The members of an [`Object`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    document: &'a Document<'a>,
    next: usize,
    left: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = self.document.string(self.next)?;
        let value = Value { document: self.document, node: self.next + 1 };
        self.next = self.document.after(value.node);
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Members<'_> {}

/// A JSON array.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    document: &'a Document<'a>,
    node: usize,
}

impl<'a> Array<'a> {
    /// How many items there are.
    pub fn len(self) -> usize {
        match self.document.node(self.node).shape {
            Shape::Array { len, .. } => len as usize,
            _ => 0,
        }
    }

    /// Whether it is `[]`.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The items in order.
    pub fn iter(self) -> Items<'a> {
        Items { document: self.document, next: self.node + 1, left: self.len() }
    }

    /// The array itself, as a value among others.
    pub fn as_value(self) -> Value<'a> {
        Value { document: self.document, node: self.node }
    }

    /// See [`Value::source`].
    pub fn source(self) -> &'a str {
        self.as_value().source()
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

/// The items of an [`Array`].
#[derive(Clone, Debug)]
pub struct Items<'a> {
    document: &'a Document<'a>,
    next: usize,
    left: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let item = Value { document: self.document, node: self.next };
        self.next = self.document.after(item.node);
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_> {}
