//! What is a document, what is not, and that both agree with `serde_json`, which shares no code with it.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::parse::{TRAILING_COMMA, strict};
use super::{Document, Fault, MAX_DEPTH, Object, Value};

/// The request bodies of the published page, byte for byte.
const SET: &str = r#"{"GroupId": "@TGS#1YMVAB3IZ","MsgSeq": 158,"OperateType": 1,"ExtensionList": [{"Key": "key1", "Value": "value1", "Seq": 0},{"Key": "key2", "Value": "value2", "Seq": 0},]}"#;
const DELETE: &str = r#"{"GroupId": "@TGS#1YMVAB3IZ","MsgSeq": 158,"OperateType": 2,"ExtensionList": [{"Key": "key1", "Value": "", "Seq": 1}]}"#;
const CLEAR: &str = r#"{"GroupId": "@TGS#1YMVAB3IZ","MsgSeq": 158,"OperateType": 3}"#;

/// A value as `serde_json` would tell it.
fn told(value: Value<'_>) -> Json {
    if let Some(text) = value.as_str() {
        Json::from(text)
    } else if let Some(truth) = value.as_bool() {
        Json::from(truth)
    } else if let Some(array) = value.as_array() {
        assert_eq!(array.iter().count(), array.len());
        array.into_iter().map(told).collect()
    } else if let Some(object) = value.as_object() {
        assert_eq!(object.iter().count(), object.len());
        object.into_iter().map(|(name, member)| (name.to_owned(), told(member))).collect()
    } else if value.is_null() {
        Json::Null
    } else {
        number(value)
    }
}

/// Floats are read by the standard library, which finds the nearest one, as `serde_json` does not by default.
fn number(value: Value<'_>) -> Json {
    let integer = value.as_integer().filter(|_| value.source() != "-0");
    if let Some(unsigned) = integer.and_then(|integer| u64::try_from(integer).ok()) {
        Json::from(unsigned)
    } else if let Some(signed) = integer.and_then(|integer| i64::try_from(integer).ok()) {
        Json::from(signed)
    } else {
        Json::from(value.source().parse::<f64>().unwrap())
    }
}

fn told_of(body: &str) -> Json {
    told(Document::parse(body.as_bytes()).unwrap().root().as_value())
}

/// Every value of a document shows text that is strict JSON and stands for that value.
fn every_source_is_strict(value: Value<'_>) {
    let source = value.source();
    assert!(serde_json::from_str::<IgnoredAny>(source).is_ok(), "{source}");
    assert_eq!(told_of(&format!(r#"{{"again":{source}}}"#))["again"], told(value));
    value.as_array().into_iter().flatten().for_each(every_source_is_strict);
    value.as_object().into_iter().flatten().for_each(|(_, member)| every_source_is_strict(member));
}

#[test]
fn the_published_bodies_are_read_as_printed() {
    let strict_set = SET.replace(",]", "]");
    for (body, meaning) in [(SET, strict_set.as_str()), (DELETE, DELETE), (CLEAR, CLEAR)] {
        assert_eq!(told_of(body), serde_json::from_str::<Json>(meaning).unwrap());
    }
    assert_eq!(SET.len() - strict_set.len(), 1, "the comma before the bracket is part of the test");
}

#[test]
fn a_member_keeps_the_text_it_was_sent_as() {
    let body = r#"{ "GroupId":"g", "MsgBody" : [ {"MsgType":"T\u0041", "MsgContent":{"n":1.50e+3}},	] }"#;
    let document = Document::parse(body.as_bytes()).unwrap();
    let source = document.root().get("MsgBody").unwrap().source();
    assert_eq!(source, r#"[ {"MsgType":"T\u0041", "MsgContent":{"n":1.50e+3}} 	]"#);
    assert!(serde_json::from_str::<Json>(source).is_ok());
    assert_eq!(document.root().source().len(), body.len());
}

#[test]
fn what_is_not_a_document_is_told_with_its_place() {
    let deep = r#"{"a":"#.to_owned() + &"[".repeat(10_000) + &"]".repeat(10_000) + "}";
    let deep_objects = r#"{"a":"#.repeat(10_000);
    let cases: &[(&[u8], &str)] = &[
        (b"", "the body is empty where at least {} is expected, at line 1, column 1 (byte 0)"),
        (b" \r\n\t", "the body is empty where at least {} is expected, at line 2, column 2 (byte 4)"),
        (b"[]", "the body is not a JSON object, at line 1, column 1 (byte 0)"),
        (b"\n\"secret\"", "the body is not a JSON object, at line 2, column 1 (byte 1)"),
        (b"158", "the body is not a JSON object, at line 1, column 1 (byte 0)"),
        (b"null", "the body is not a JSON object, at line 1, column 1 (byte 0)"),
        (b"MsgSeq=158", "the body is not a JSON object, at line 1, column 1 (byte 0)"),
        (b"\0", "the body is not a JSON object, at line 1, column 1 (byte 0)"),
        (b"\xEF\xBB\xBF{}", "the body begins with a byte order mark, at line 1, column 1 (byte 0)"),
        (b"\xFF\xFE{\0}\0", "the body is not UTF-8, at line 1, column 1 (byte 0)"),
        (b"\x1F\x8B\x08\0\0\0\0\0\0\x03", "the body is not UTF-8, at line 1, column 2 (byte 1)"),
        (b"{\"a\":\"\xC3\xA9\xFF\"}", "the body is not UTF-8, at line 1, column 8 (byte 8)"),
        (b"{\"a\":\"\xED\xA0\x80\"}", "the body is not UTF-8, at line 1, column 7 (byte 6)"),
        (b"{\"a\":\"\xF0\x9F\x98", "the body is not UTF-8, at line 1, column 7 (byte 6)"),
        (b"{", "the JSON of the body ends too early, at line 1, column 2 (byte 1)"),
        (br#"{"a"#, "the JSON of the body ends too early, at line 1, column 4 (byte 3)"),
        (br#"{"a":[1,"#, "the JSON of the body ends too early, at line 1, column 9 (byte 8)"),
        (br#"{"a":tru"#, "the JSON of the body ends too early, at line 1, column 9 (byte 8)"),
        (br"{}{}", "something follows the JSON object of the body, at line 1, column 3 (byte 2)"),
        (b"{}\n{}", "something follows the JSON object of the body, at line 2, column 1 (byte 3)"),
        (b"{}\0", "something follows the JSON object of the body, at line 1, column 3 (byte 2)"),
        (b"{},", "something follows the JSON object of the body, at line 1, column 3 (byte 2)"),
        (
            br#"{"a":1,"b":2,"a":3}"#,
            "an object in the body names a member twice, at line 1, column 14 (byte 13)",
        ),
        (
            br#"{"a":1,"\u0061":2}"#,
            "an object in the body names a member twice, at line 1, column 8 (byte 7)",
        ),
        (
            br#"{"x":[{"":1,"":1}]}"#,
            "an object in the body names a member twice, at line 1, column 13 (byte 12)",
        ),
        (br#"{"a":1,"a":2,}"#, "an object in the body names a member twice, at line 1, column 8 (byte 7)"),
        (
            deep.as_bytes(),
            "the JSON of the body is nested more than 64 levels deep, at line 1, column 69 (byte 68)",
        ),
        (
            deep_objects.as_bytes(),
            "the JSON of the body is nested more than 64 levels deep, at line 1, column 321 (byte 320)",
        ),
    ];
    for (body, answer) in cases {
        let error = Document::parse(body).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), *answer, "{}", String::from_utf8_lossy(&body[..body.len().min(80)]));
    }
}

#[test]
fn what_is_not_json_is_told_without_repeating_it() {
    for (body, what, byte) in [
        (r#"{"a" 1}"#, "a colon is expected", 5),
        (r#"{"a"}"#, "a colon is expected", 4),
        (r"{a:1}", "a member name in double quotes is expected", 1),
        (r"{'a':1}", "a member name in double quotes is expected", 1),
        (r"{1:1}", "a member name in double quotes is expected", 1),
        (r#"{"a":1;}"#, "a comma or } is expected", 6),
        (r#"{"a":1]"#, "a comma or } is expected", 6),
        (r#"{"a":[1 2]}"#, "a comma or ] is expected", 8),
        (r#"{"a":[1}"#, "a comma or ] is expected", 7),
        (r#"{"a":}"#, "a value is expected", 5),
        (r#"{"a":secret}"#, "a value is expected", 5),
        (r#"{"a":nil}"#, "a value is expected", 6),
        (r#"{"a":NaN}"#, "a value is expected", 5),
        (r#"{"a":Infinity}"#, "a value is expected", 5),
        (r#"{"a":-Infinity}"#, "a number is malformed", 6),
        (r#"{"a":+1}"#, "a value is expected", 5),
        (r#"{"a":.5}"#, "a value is expected", 5),
        (r#"{"a":01}"#, "a number is malformed", 6),
        (r#"{"a":1.}"#, "a number is malformed", 7),
        (r#"{"a":1e}"#, "a number is malformed", 7),
        (r#"{"a":-}"#, "a number is malformed", 6),
        (r#"{"a":0x1F}"#, "a comma or } is expected", 6),
        (r#"{"a":"\x41"}"#, "an escape is malformed", 7),
        (r#"{"a":"\u12G4"}"#, "an escape is malformed", 10),
        (r#"{"a":"\uD800"}"#, "an escape stands for half a character", 12),
        (r#"{"a":"\uDC00"}"#, "an escape stands for half a character", 11),
        (r#"{"a":"\uD800\u0041"}"#, "an escape stands for half a character", 17),
        (r#"{"\uDC00":1}"#, "an escape stands for half a character", 7),
        ("{\"a\":\"\n\"}", "a control character in a string is not escaped", 6),
        ("{\"a\":\"\0\"}", "a control character in a string is not escaped", 6),
        (r#"{"a":1/*,*/}"#, "a comma or } is expected", 6),
        (r#"{"a":1} // the end"#, "", 8),
    ] {
        let error = Document::parse(body.as_bytes()).map(|_| ()).unwrap_err();
        let fault = if what.is_empty() { Fault::TrailingText } else { Fault::Syntax(what) };
        assert_eq!((error.fault, error.at.byte), (fault, byte), "{body}");
    }
}

#[test]
fn commas_before_closers_are_forgiven_and_nothing_else_is() {
    for (body, meaning) in [
        (r#"{"a":1,}"#, r#"{"a":1}"#),
        (r#"{"a":[1,] ,}"#, r#"{"a":[1]}"#),
        ("{\"a\":[[],\r\n\t ],\n}", r#"{"a":[[]]}"#),
        (r#"{"a":[{},"x",null,],"b":{"c":true,},}"#, r#"{"a":[{},"x",null],"b":{"c":true}}"#),
        (r#"{"a":",]","b":"\",}\\",}"#, r#"{"a":",]","b":"\",}\\"}"#),
    ] {
        assert_eq!(told_of(body), serde_json::from_str::<Json>(meaning).unwrap(), "{body}");
    }
    for (body, byte) in [
        (r"{,}", 1),
        (r#"{"a":[,]}"#, 6),
        (r#"{"a":[1,,]}"#, 8),
        (r#"{"a":1,,}"#, 7),
        (r#"{"a":,}"#, 5),
        (r#"{"a",}"#, 4),
        (r#"{"a":[,1]}"#, 6),
        (r#"{,"a":1}"#, 1),
        // A forgiven comma before it does not forgive what comes after it, nor move the place.
        (r#"{"a":[1,],"b":[,]}"#, 15),
        (r#"{"a":[1,],"b":[2,,]}"#, 17),
        (r#"{"a":[1,],"b":,}"#, 14),
        (r#"{"a":[1,],'b':1}"#, 10),
        (r#"{"a":[1,}]"#, 8),
        (r#"{"a":[1,]"#, 9),
    ] {
        let error = Document::parse(body.as_bytes()).map(|_| ()).unwrap_err();
        assert!(matches!(error.fault, Fault::Syntax(_) | Fault::Truncated), "{body}: {error}");
        assert_eq!(error.at.byte, byte, "{body}: {error}");
    }
}

#[test]
fn the_deepest_document_is_read_and_the_next_is_not() {
    let nested = |levels: usize| r#"{"a":"#.repeat(levels - 1) + "[]" + &"}".repeat(levels - 1);
    assert!(Document::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    let error = Document::parse(nested(MAX_DEPTH + 1).as_bytes()).map(|_| ()).unwrap_err();
    assert_eq!(error.fault, Fault::TooDeep);
}

#[test]
fn numbers_of_any_size_are_read_and_integers_are_integers() {
    let document = Document::parse(
        br#"{"u64":18446744073709551615,"i64":-9223372036854775808,"zero":-0,"point":158.0,"power":1e2,
            "huge":1E999,"text":"158","big":170141183460469231731687303715884105728}"#,
    )
    .unwrap();
    let integer = |name| document.root().get(name).unwrap().as_integer();
    assert_eq!(integer("u64"), Some(u64::MAX.into()));
    assert_eq!(integer("i64"), Some(i64::MIN.into()));
    assert_eq!(integer("zero"), Some(0));
    assert_eq!(integer("big"), Some(i128::MAX));
    for name in ["point", "power", "huge", "text"] {
        assert_eq!(integer(name), None, "{name}");
    }
    let digits = "7".repeat(400);
    let body = format!(r#"{{"a":{digits},"b":-{digits}}}"#);
    let document = Document::parse(body.as_bytes()).unwrap();
    assert_eq!(document.root().get("a").unwrap().as_integer(), Some(i128::MAX));
    assert_eq!(document.root().get("b").unwrap().as_integer(), Some(i128::MIN));
    assert_eq!(document.root().get("a").unwrap().source(), digits);

    let endless = format!(r#"{{"a":{}}}"#, "7".repeat(100_000));
    let error = Document::parse(endless.as_bytes()).map(|_| ()).unwrap_err();
    assert_eq!(error.fault, Fault::Syntax("a number has too many digits"));
}

#[test]
fn strings_are_borrowed_from_the_body_unless_they_have_escapes() {
    let body = r#"{"plain":"grün \u007F","bare":"grün","quote":"\"","":"empty","pair":"\uD83D\uDE00","nul":"\u0000"}"#;
    let document = Document::parse(body.as_bytes()).unwrap();
    let string = |name| document.root().get(name).unwrap().as_str().unwrap();
    assert_eq!(string("plain"), "grün \u{7F}");
    assert_eq!(string("quote"), "\"");
    assert_eq!(string(""), "empty");
    assert_eq!(string("pair"), "\u{1F600}");
    assert_eq!(string("nul"), "\0");
    assert!(body.as_bytes().as_ptr_range().contains(&string("bare").as_ptr()));
    assert!(!body.as_bytes().as_ptr_range().contains(&string("plain").as_ptr()));
}

#[test]
fn an_object_of_many_members_is_checked_without_comparing_each_with_each() {
    let members = |object: Object<'_>| object.iter().map(|(name, _)| name.len()).sum::<usize>();
    let mut body = "{".to_owned();
    for member in 0..100_000 {
        write!(body, r#""member{member:06}":{{}},"#).unwrap();
    }
    let unique = body.clone() + r#""last":0}"#;
    let document = Document::parse(unique.as_bytes()).unwrap();
    assert_eq!(document.root().len(), 100_001);
    assert_eq!(members(document.root()), 100_000 * 12 + 4);

    let second = body.len();
    body.push_str(r#""member\u00300042":0,"member000007":0}"#);
    let error = Document::parse(body.as_bytes()).map(|_| ()).unwrap_err();
    assert_eq!((error.fault, error.at.byte), (Fault::NamedTwice, second + r#""member\u00300042":0,"#.len()));
    for few in [2, 16, 17, 18] {
        let names = |last: usize| {
            let names: Vec<_> = (0..few - 1).chain([last]).map(|name| format!(r#""{name}":[0]"#)).collect();
            format!("{{{}}}", names.join(","))
        };
        assert!(Document::parse(names(few).as_bytes()).is_ok(), "{few}");
        for twin in 0..few - 1 {
            let error = Document::parse(names(twin).as_bytes()).map(|_| ()).unwrap_err();
            assert_eq!(error.fault, Fault::NamedTwice, "{few}");
        }
    }
}

/// Any object, not too deep.
fn any_object() -> impl Strategy<Value = Json> {
    let text = || prop_oneof![4 => "[a-zA-Z_]{0,6}", 2 => any::<String>(), 1 => r#"[\\",\[\]{}:/ ]{0,5}"#];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        text().prop_map(Json::from),
    ];
    let any = leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::vec((text(), inner), 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    });
    // More members than are compared each with each.
    prop::collection::vec((text(), any), 0..20).prop_map(|members| members.into_iter().collect())
}

/// Prints a value with a comma and blanks before every closer that a value precedes.
fn with_commas(value: &Json, blank: &str, out: &mut String) {
    match value {
        Json::Array(items) => {
            out.push('[');
            for item in items {
                with_commas(item, blank, out);
                write!(out, "{blank},{blank}").unwrap();
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (name, member) in members {
                write!(out, "{}:", Json::from(name.as_str())).unwrap();
                with_commas(member, blank, out);
                write!(out, "{blank},{blank}").unwrap();
            }
            out.push('}');
        }
        scalar => write!(out, "{scalar}").unwrap(),
    }
}

/// Text that is often nearly JSON.
fn nearly_json() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"b\"",
        "\"a\":",
        "\"b\":",
        "\"c\":1,",
        "0",
        "-",
        "12",
        "1.5",
        "1e5",
        "1e999",
        "-0",
        "01",
        "true",
        "false",
        "null",
        "nul",
        " ",
        "\n",
        "\\",
        "\\u0041",
        "\"\\u00e9\"",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "é",
        "\u{0}",
        ",]",
        ",}",
        "[]",
        "{}",
        "[1,2]",
        "//",
    ]);
    prop_oneof![
        prop::collection::vec(token.clone(), 0..12).prop_map(|tokens| tokens.concat()),
        prop::collection::vec(token, 0..10).prop_map(|tokens| format!(r#"{{"k":{}}}"#, tokens.concat())),
    ]
}

/// Whether reading strictly, without forgiveness, gives the verdict of `serde_json`, apart from what this
/// project decides otherwise.
fn agrees_with_serde_json(text: &str) {
    let theirs = serde_json::from_str::<Json>(text);
    match strict(text) {
        Ok(_) => {
            // Numbers beyond a double are JSON; it is only that `serde_json` cannot hold them.
            let holds =
                theirs.map_or_else(|error| error.to_string().contains("number out of range"), |_| true);
            assert!(holds, "accepted: {text}");
        }
        Err(stop) => match stop.fault {
            Fault::NamedTwice | Fault::TooDeep => {}
            Fault::NotAnObject => assert!(theirs.map_or(true, |value| !value.is_object()), "refused: {text}"),
            _ => assert!(theirs.is_err(), "refused: {text} ({})", stop.fault),
        },
    }
}

proptest! {
    #[test]
    fn what_serde_json_prints_is_read_back(object in any_object()) {
        for body in [object.to_string(), serde_json::to_string_pretty(&object).unwrap()] {
            let document = Document::parse(body.as_bytes()).unwrap();
            prop_assert_eq!(&told(document.root().as_value()), &object);
            every_source_is_strict(document.root().as_value());
        }
    }

    #[test]
    fn commas_before_closers_change_nothing(object in any_object(), blank in "[ \t\r\n]{0,3}") {
        let mut body = String::new();
        with_commas(&object, &blank, &mut body);
        let document = Document::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(&told(document.root().as_value()), &object);
        every_source_is_strict(document.root().as_value());
        // None of this is strict JSON, and strict reading says so, unless nothing precedes a closer.
        if object.as_object().is_some_and(|members| !members.is_empty()) {
            prop_assert_eq!(strict(&body).unwrap_err().fault, TRAILING_COMMA);
        }
    }

    #[test]
    fn a_member_is_named_once(object in any_object(), name in any::<String>()) {
        let name = Json::from(name);
        let body = format!(r"{{{name}:{object},{name}:0}}");
        let error = Document::parse(body.as_bytes()).map(|_| ()).unwrap_err();
        prop_assert_eq!(error.fault, Fault::NamedTwice);
    }

    #[test]
    fn any_bytes_get_a_verdict(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::parse(&body);
    }

    #[test]
    fn a_damaged_document_gets_a_verdict(
        object in any_object(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut body = object.to_string().into_bytes();
        for (place, byte, kind) in damage {
            let place = place.index(body.len() + 1);
            match kind {
                0 => body.insert(place, byte),
                1 => body.truncate(place),
                _ => body[place.saturating_sub(1)..].iter_mut().take(1).for_each(|old| *old = byte),
            }
        }
        if let Ok(document) = Document::parse(&body) {
            every_source_is_strict(document.root().as_value());
        }
        if let Ok(text) = std::str::from_utf8(&body) {
            agrees_with_serde_json(text);
        }
    }

    #[test]
    fn strict_reading_agrees_with_serde_json(text in nearly_json()) {
        agrees_with_serde_json(&text);
        if let Ok(document) = Document::parse(text.as_bytes()) {
            every_source_is_strict(document.root().as_value());
        }
    }
}
