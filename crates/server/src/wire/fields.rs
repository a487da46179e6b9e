//! Typed access to the members of a request, for all endpoints.
//!
//! An accessor answers a typed value or a [`FieldError`] that names the field, with indexes and all the
//! names that lead to it, and says what it must be. On success nothing is allocated.
//!
//! * A member whose value is `null` counts as absent, be it required or optional. An item of an array that
//!   is `null` is an item of the wrong kind.
//! * Kinds are strict: a number in quotes is no number, `158.0` and `1e2` are no integers (rule 3.13).
//! * Members that nobody asks for are ignored (rest-overview.md section 1, "Body").
//! * Where a field has several names, [`Names`] are given in order; the first one that is there is taken,
//!   and what the others hold is not looked at.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use thiserror::Error;

use super::json::{Array, Object, Value};

/// A field of a request that cannot be used, and why.
///
/// Its text goes into `ErrorInfo`. It is made of names that the program asked for, of numbers and of limits,
/// and repeats no value of the request.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{path} {problem}")]
pub struct FieldError {
    /// The names and indexes that lead to the field, as in `ExtensionList[3].Key`.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field. Its text continues a sentence that begins with the field.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Problem {
    /// Absent or `null`.
    #[error("is missing")]
    Missing,
    /// Another kind of JSON value.
    #[error("must be {expected}")]
    WrongType {
        /// The kind it must be of.
        expected: Kind,
    },
    /// An integer below or above what the field allows.
    #[error("{}", Bounds { min: *min, max: *max })]
    OutOfRange {
        /// The smallest that is allowed.
        min: i128,
        /// The greatest that is allowed.
        max: i128,
    },
    /// A string that is too long.
    #[error("has {bytes} bytes where at most {limit} are allowed")]
    TooLong {
        /// Its length in bytes of UTF-8, escapes resolved.
        bytes: usize,
        /// The greatest length that is allowed, in bytes.
        limit: usize,
    },
    /// A string or an array with nothing in it.
    #[error("must not be empty")]
    Empty,
    /// An array with too many items.
    #[error("has {count} items where at most {limit} are allowed")]
    TooMany {
        /// How many items it has.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A string that is none of the names that are defined for the field.
    #[error("must be one of {}", allowed.join(", "))]
    NotOneOf {
        /// All of these names.
        allowed: Vec<&'static str>,
    },
    /// Whatever else an endpoint finds wrong: the rest of the sentence, as in `must be printable ASCII`.
    #[error("{0}")]
    Other(Cow<'static, str>),
}

/// The kinds of JSON values that fields are made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A JSON string.
    String,
    /// A JSON number without point and exponent.
    Integer,
    /// A JSON array.
    Array,
    /// A JSON object.
    Object,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}

struct Bounds {
    min: i128,
    max: i128,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max } = self;
        match max - min {
            0 => write!(f, "must be {min}"),
            1 => write!(f, "must be {min} or {max}"),
            _ => write!(f, "must be between {min} and {max}"),
        }
    }
}

/// The name of a field, or all of its names, the preferred one first: `"MsgSeq"`,
/// `["StartSeq", "startSeq"]`.
pub trait Names: Copy {
    /// The names in order. There is at least one.
    fn names(&self) -> &[&'static str];
}

impl Names for &'static str {
    fn names(&self) -> &[&'static str] {
        std::slice::from_ref(self)
    }
}

impl<const N: usize> Names for [&'static str; N] {
    fn names(&self) -> &[&'static str] {
        const { assert!(N > 0, "a field has a name") };
        self
    }
}

/// The integers that a field can be read as.
pub trait Integer: Copy + Into<i128> + TryFrom<i128> {}

impl Integer for u32 {}
impl Integer for u64 {}
impl Integer for i64 {}

/// The required members of an object; each `optional_` twin answers `None` where the member is absent.
impl<'a> Object<'a> {
    /// A member of any kind.
    pub fn required(self, names: impl Names) -> Result<Value<'a>, FieldError> {
        self.find(names.names()).ok_or_else(|| {
            let mut path = self.as_value().path();
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(names.names()[0]);
            FieldError { path, problem: Problem::Missing }
        })
    }

    /// A member of any kind, if it is there.
    pub fn optional(self, names: impl Names) -> Option<Value<'a>> {
        self.find(names.names())
    }

    /// A string of any length.
    pub fn string(self, names: impl Names) -> Result<&'a str, FieldError> {
        self.required(names)?.string()
    }

    /// See [`Object::string`].
    pub fn optional_string(self, names: impl Names) -> Result<Option<&'a str>, FieldError> {
        self.optional(names).map(Value::string).transpose()
    }

    /// A string of at most `limit` bytes; it may be empty.
    pub fn string_within(self, names: impl Names, limit: usize) -> Result<&'a str, FieldError> {
        self.required(names)?.string_within(limit)
    }

    /// See [`Object::string_within`].
    pub fn optional_string_within(
        self,
        names: impl Names,
        limit: usize,
    ) -> Result<Option<&'a str>, FieldError> {
        self.optional(names).map(|value| value.string_within(limit)).transpose()
    }

    /// An integer in a range, whose type is the type of the result.
    pub fn integer<T: Integer>(self, names: impl Names, range: RangeInclusive<T>) -> Result<T, FieldError> {
        self.required(names)?.integer(range)
    }

    /// See [`Object::integer`].
    pub fn optional_integer<T: Integer>(
        self,
        names: impl Names,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, FieldError> {
        self.optional(names).map(|value| value.integer(range)).transpose()
    }

    /// The integer 1 (true) or 0 (false); a JSON boolean is neither.
    pub fn flag(self, names: impl Names) -> Result<bool, FieldError> {
        self.required(names)?.flag()
    }

    /// See [`Object::flag`].
    pub fn optional_flag(self, names: impl Names) -> Result<Option<bool>, FieldError> {
        self.optional(names).map(Value::flag).transpose()
    }

    /// One of the strings in a table, as what the table says it means.
    pub fn one_of<T: Copy>(self, names: impl Names, table: &[(&'static str, T)]) -> Result<T, FieldError> {
        self.required(names)?.one_of(table)
    }

    /// See [`Object::one_of`].
    pub fn optional_one_of<T: Copy>(
        self,
        names: impl Names,
        table: &[(&'static str, T)],
    ) -> Result<Option<T>, FieldError> {
        self.optional(names).map(|value| value.one_of(table)).transpose()
    }

    /// An array with any number of items of any kind.
    pub fn array(self, names: impl Names) -> Result<Array<'a>, FieldError> {
        self.required(names)?.array()
    }

    /// See [`Object::array`].
    pub fn optional_array(self, names: impl Names) -> Result<Option<Array<'a>>, FieldError> {
        self.optional(names).map(Value::array).transpose()
    }

    /// An object inside this one.
    pub fn object(self, names: impl Names) -> Result<Object<'a>, FieldError> {
        self.required(names)?.object()
    }

    /// See [`Object::object`].
    pub fn optional_object(self, names: impl Names) -> Result<Option<Object<'a>>, FieldError> {
        self.optional(names).map(Value::object).transpose()
    }

    fn find(self, names: &[&'static str]) -> Option<Value<'a>> {
        names.iter().find_map(|name| self.get(name).filter(|value| !value.is_null()))
    }
}

/// A value as a field of a certain kind, wherever it lies.
impl<'a> Value<'a> {
    /// A string of any length.
    pub fn string(self) -> Result<&'a str, FieldError> {
        self.as_str().ok_or_else(|| self.must_be(Kind::String))
    }

    /// A string of at most `limit` bytes; it may be empty.
    pub fn string_within(self, limit: usize) -> Result<&'a str, FieldError> {
        let string = self.string()?;
        if string.len() > limit {
            return Err(self.refuse(Problem::TooLong { bytes: string.len(), limit }));
        }
        Ok(string)
    }

    /// An integer in a range, whose type is the type of the result.
    pub fn integer<T: Integer>(self, range: RangeInclusive<T>) -> Result<T, FieldError> {
        let (min, max) = (*range.start(), *range.end());
        let integer = self.as_integer().ok_or_else(|| self.must_be(Kind::Integer))?;
        match T::try_from(integer) {
            Ok(in_type) if (min.into()..=max.into()).contains(&integer) => Ok(in_type),
            _ => Err(self.refuse(Problem::OutOfRange { min: min.into(), max: max.into() })),
        }
    }

    /// The integer 1 (true) or 0 (false); a JSON boolean is neither.
    pub fn flag(self) -> Result<bool, FieldError> {
        self.integer(0..=1_u32).map(|flag| flag == 1)
    }

    /// One of the strings in a table, as what the table says it means.
    pub fn one_of<T: Copy>(self, table: &[(&'static str, T)]) -> Result<T, FieldError> {
        let string = self.string()?;
        match table.iter().find(|(name, _)| *name == string) {
            Some((_, meaning)) => Ok(*meaning),
            None => Err(self.refuse(Problem::NotOneOf { allowed: table.iter().map(|row| row.0).collect() })),
        }
    }

    /// An array with any number of items of any kind.
    pub fn array(self) -> Result<Array<'a>, FieldError> {
        self.as_array().ok_or_else(|| self.must_be(Kind::Array))
    }

    /// An object.
    pub fn object(self) -> Result<Object<'a>, FieldError> {
        self.as_object().ok_or_else(|| self.must_be(Kind::Object))
    }

    /// The error that says what an endpoint found wrong with this value.
    pub fn refuse(self, problem: Problem) -> FieldError {
        FieldError { path: self.path(), problem }
    }

    fn must_be(self, expected: Kind) -> FieldError {
        self.refuse(Problem::WrongType { expected })
    }
}

/// How many items an array may have, and of which kind they all are.
impl<'a> Array<'a> {
    /// The array again, unless it has more than `limit` items.
    pub fn at_most(self, limit: usize) -> Result<Self, FieldError> {
        if self.len() > limit {
            return Err(self.as_value().refuse(Problem::TooMany { count: self.len(), limit }));
        }
        Ok(self)
    }

    /// The array again, unless it is empty.
    pub fn not_empty(self) -> Result<Self, FieldError> {
        if self.is_empty() {
            return Err(self.as_value().refuse(Problem::Empty));
        }
        Ok(self)
    }

    /// The items, each of which must be an object.
    pub fn objects(self) -> impl ExactSizeIterator<Item = Result<Object<'a>, FieldError>> {
        self.iter().map(Value::object)
    }

    /// The items, each of which must be a string.
    pub fn strings(self) -> impl ExactSizeIterator<Item = Result<&'a str, FieldError>> {
        self.iter().map(Value::string)
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::Document;
    use super::*;

    const MSG_SEQ: RangeInclusive<u64> = 1..=9_007_199_254_740_991;

    /// What an accessor says of a body: the value as debug text, or the error as it is answered. The
    /// document is leaked so that what a closure answers may borrow from it.
    fn said<T: fmt::Debug>(
        body: &str,
        read: impl FnOnce(Object<'static>) -> Result<T, FieldError>,
    ) -> String {
        let body: &'static str = body.to_owned().leak();
        let document: &'static Document<'static> =
            Box::leak(Box::new(Document::parse(body.as_bytes()).unwrap()));
        match read(document.root()) {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn msg_seq_is_an_integer_in_its_range_and_nothing_else() {
        for (written, answer) in [
            ("158", "158"),
            ("1", "1"),
            ("9007199254740991", "9007199254740991"),
            ("9007199254740992", "MsgSeq must be between 1 and 9007199254740991"),
            ("18446744073709551616", "MsgSeq must be between 1 and 9007199254740991"),
            ("0", "MsgSeq must be between 1 and 9007199254740991"),
            ("-0", "MsgSeq must be between 1 and 9007199254740991"),
            ("-158", "MsgSeq must be between 1 and 9007199254740991"),
            (&"9".repeat(400), "MsgSeq must be between 1 and 9007199254740991"),
            (&format!("-{}", "9".repeat(400)), "MsgSeq must be between 1 and 9007199254740991"),
            ("158.0", "MsgSeq must be an integer"),
            ("1e2", "MsgSeq must be an integer"),
            ("1E999", "MsgSeq must be an integer"),
            ("\"158\"", "MsgSeq must be an integer"),
            ("true", "MsgSeq must be an integer"),
            ("[158]", "MsgSeq must be an integer"),
            ("{}", "MsgSeq must be an integer"),
            ("null", "MsgSeq is missing"),
        ] {
            let body = format!(r#"{{"MsgSeq":{written}}}"#);
            assert_eq!(said(&body, |body| body.integer("MsgSeq", MSG_SEQ)), answer, "{written}");
        }
        assert_eq!(said("{}", |body| body.integer("MsgSeq", MSG_SEQ)), "MsgSeq is missing");
    }

    #[test]
    fn integers_cover_the_whole_of_their_types() {
        let body = r#"{"u64":18446744073709551615,"i64":-9223372036854775808,"u32":4294967295}"#;
        assert_eq!(said(body, |body| body.integer("u64", 0..=u64::MAX)), u64::MAX.to_string());
        assert_eq!(said(body, |body| body.integer("i64", i64::MIN..=i64::MAX)), i64::MIN.to_string());
        assert_eq!(said(body, |body| body.integer("u32", 0..=u32::MAX)), u32::MAX.to_string());
        assert_eq!(
            said(body, |body| body.integer("u64", 0..=u32::MAX)),
            "u64 must be between 0 and 4294967295"
        );
        assert_eq!(
            said(body, |body| body.integer("u64", i64::MIN..=i64::MAX)),
            "u64 must be between -9223372036854775808 and 9223372036854775807"
        );
    }

    #[test]
    fn a_path_names_every_step_from_the_body() {
        let body = r#"{"Other":[[1],{"Key":2}],"ExtensionList":[
            {"Key":"a"},{"Key":"b","Value":[0,"\u0041"]},{"Key":7},{"Value":{"Deep":[{}]}}]}"#;
        let pair =
            |body: Object<'static>, index: usize, read: fn(Object<'_>) -> Result<String, FieldError>| {
                body.array("ExtensionList")?.objects().nth(index).unwrap().and_then(read)
            };
        let key = |pair: Object<'_>| pair.string("Key").map(str::to_owned);
        assert_eq!(said(body, |body| pair(body, 1, key)), "\"b\"");
        assert_eq!(said(body, |body| pair(body, 2, key)), "ExtensionList[2].Key must be a string");
        assert_eq!(said(body, |body| pair(body, 3, key)), "ExtensionList[3].Key is missing");
        assert_eq!(
            said(body, |body| pair(body, 1, |pair| {
                let items: Result<Vec<_>, _> = pair.array("Value")?.strings().collect();
                Ok(items?.concat())
            })),
            "ExtensionList[1].Value[0] must be a string"
        );
        assert_eq!(
            said(body, |body| pair(body, 3, |pair| {
                let deep = pair.object("Value")?.array("Deep")?.objects().next().unwrap()?;
                deep.string(["First", "Second"]).map(str::to_owned)
            })),
            "ExtensionList[3].Value.Deep[0].First is missing"
        );
        assert_eq!(
            said(body, |body| body.array("Other")?.strings().collect::<Result<Vec<_>, _>>()),
            "Other[0] must be a string"
        );
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        let body = r#"{"Text":"t","Number":1,"List":[],"Inner":{},"Yes":true,"Null":null}"#;
        for name in ["Number", "List", "Inner", "Yes"] {
            assert_eq!(said(body, |body| body.string(name)), format!("{name} must be a string"));
        }
        for name in ["Text", "Number", "Inner", "Yes"] {
            assert_eq!(said(body, |body| body.array(name)), format!("{name} must be an array"));
        }
        for name in ["Text", "Number", "List", "Yes"] {
            assert_eq!(said(body, |body| body.object(name)), format!("{name} must be an object"));
        }
        assert_eq!(said(body, |body| body.string("Text")), "\"t\"");
        assert_eq!(said(body, |body| body.array("List").map(Array::source)), "\"[]\"");
        assert_eq!(said(body, |body| body.object("Inner").map(Object::source)), "\"{}\"");
    }

    #[test]
    fn absent_and_null_are_the_same() {
        let body = r#"{"Null":null,"List":[null]}"#;
        for name in ["Null", "Absent"] {
            assert_eq!(said(body, |body| body.optional_string(name)), "None");
            assert_eq!(said(body, |body| body.optional_string_within(name, 0)), "None");
            assert_eq!(said(body, |body| body.optional_integer(name, 0..=1_u32)), "None");
            assert_eq!(said(body, |body| body.optional_flag(name)), "None");
            assert_eq!(said(body, |body| body.optional_array(name).map(|list| list.is_some())), "false");
            assert_eq!(said(body, |body| body.optional_object(name).map(|inner| inner.is_some())), "false");
            assert_eq!(said(body, |body| body.optional_one_of(name, &[("High", 1)])), "None");
            assert_eq!(said(body, |body| body.string(name)), format!("{name} is missing"));
        }
        assert_eq!(
            said(body, |body| body.array("List")?.objects().next().unwrap().map(Object::source)),
            "List[0] must be an object"
        );
    }

    #[test]
    fn an_optional_field_of_the_wrong_kind_is_refused_like_a_required_one() {
        let body = r#"{"Field":{}}"#;
        assert_eq!(said(body, |body| body.optional_string("Field")), "Field must be a string");
        assert_eq!(said(body, |body| body.optional_string_within("Field", 9)), "Field must be a string");
        assert_eq!(said(body, |body| body.optional_integer("Field", 0..=9_u32)), "Field must be an integer");
        assert_eq!(said(body, |body| body.optional_flag("Field")), "Field must be an integer");
        assert_eq!(said(body, |body| body.optional_array("Field")), "Field must be an array");
        assert_eq!(
            said(body, |body| body.optional_one_of("Field", &[("High", 1)])),
            "Field must be a string"
        );
        assert_eq!(said(r#"{"Field":1}"#, |body| body.optional_object("Field")), "Field must be an object");
    }

    #[test]
    fn flags_are_the_integers_0_and_1() {
        for (written, answer) in [
            ("0", "false"),
            ("1", "true"),
            ("2", "Silence must be 0 or 1"),
            ("-1", "Silence must be 0 or 1"),
            ("1.0", "Silence must be an integer"),
            ("true", "Silence must be an integer"),
            ("\"1\"", "Silence must be an integer"),
        ] {
            let body = format!(r#"{{"Silence":{written}}}"#);
            assert_eq!(said(&body, |body| body.flag("Silence")), answer, "{written}");
        }
        assert_eq!(said("{}", |body| body.flag("Silence")), "Silence is missing");
    }

    #[test]
    fn the_first_of_several_names_wins() {
        let start = ["StartSeq", "startSeq"];
        let read = |body: &str| said(body, |body| body.optional_integer(start, 0..=u64::MAX));
        assert_eq!(read(r#"{"StartSeq":1}"#), "Some(1)");
        assert_eq!(read(r#"{"startSeq":2}"#), "Some(2)");
        assert_eq!(read(r#"{"startSeq":2,"StartSeq":1}"#), "Some(1)");
        assert_eq!(read(r#"{"startSeq":"looked at by nobody","StartSeq":1}"#), "Some(1)");
        assert_eq!(read(r#"{"StartSeq":null,"startSeq":2}"#), "Some(2)");
        assert_eq!(read(r#"{"startseq":3}"#), "None");
        assert_eq!(read(r#"{"startSeq":"2"}"#), "startSeq must be an integer");
        assert_eq!(said("{}", |body| body.string(["UserID", "Identifier"])), "UserID is missing");
    }

    #[test]
    fn names_from_a_table_are_case_sensitive() {
        let table = [("High", 1), ("Normal", 2), ("Low", 3)];
        let read = |body: &str| said(body, |body| body.one_of("MsgPriority", &table));
        assert_eq!(read(r#"{"MsgPriority":"Low"}"#), "3");
        assert_eq!(read(r#"{"MsgPriority":"low"}"#), "MsgPriority must be one of High, Normal, Low");
        assert_eq!(read(r#"{"MsgPriority":1}"#), "MsgPriority must be a string");
        assert_eq!(read("{}"), "MsgPriority is missing");
    }

    #[test]
    fn limits_are_told_with_what_was_found() {
        let emoji = format!(r#"{{"Key":"{}"}}"#, "\u{1F600}".repeat(25));
        let read = |body: &str| said(body, |body| body.string_within("Key", 100).map(str::len));
        assert_eq!(read(&emoji), "100");
        assert_eq!(
            read(&emoji.replace(r#"":""#, r#"":"x"#)),
            "Key has 101 bytes where at most 100 are allowed"
        );
        assert_eq!(read(&format!(r#"{{"Key":"{}"}}"#, r"\u0041".repeat(100))), "100");

        let list = format!(r#"{{"List":[{}1]}}"#, "1,".repeat(20));
        let read = |limit| said(&list, |body| body.array("List")?.at_most(limit).map(Array::len));
        assert_eq!(read(21), "21");
        assert_eq!(read(20), "List has 21 items where at most 20 are allowed");
        assert_eq!(said(r#"{"List":[]}"#, |body| body.array("List")?.not_empty()), "List must not be empty");
        assert_eq!(said(&list, |body| body.array("List")?.not_empty().map(Array::len)), "21");
    }

    #[test]
    fn endpoints_can_map_a_problem_and_add_their_own() {
        let document = Document::parse(br#"{"GroupId":"\u0000"}"#).unwrap();
        let body = document.root();
        assert_eq!(body.string("From_Account").unwrap_err().problem, Problem::Missing);
        assert_eq!(body.array("GroupId").unwrap_err().problem, Problem::WrongType { expected: Kind::Array });
        let group_id = body.required("GroupId").unwrap();
        assert_eq!(
            group_id.refuse(Problem::Other("must be printable ASCII".into())).to_string(),
            "GroupId must be printable ASCII"
        );
    }
}
