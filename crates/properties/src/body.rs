//! The body of a request.

use serde_json::{Value as Answer, json};
use sidenote_server::wire::json::{Document, Fault, MAX_DEPTH, Unparsable, Value};

use crate::door::{ADMINISTRATOR, GROUP, MEMBER, MESSAGE, PULL, SET, post};
use crate::query::signed;
use crate::raw_json::Json;

/// White space, as JSON has it: no form feed, and none of Unicode's.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// A body is read as `serde_json` reads it or refused for a reason that `serde_json` sees too, and what a request
/// with it changes is what `serde_json` says that it asks for.
///
/// The first byte says what is called: bit 0 a pull and not a set, bit 1 by a member and not an administrator.
pub fn body(bytes: &[u8]) {
    let Some((&who, body)) = bytes.split_first() else { return };
    let is_document = match Document::parse(body) {
        Ok(document) => {
            let source = document.root().source();
            let begin = body.len() - body.trim_ascii_start().len();
            let original = &body[begin..begin + source.len()];
            if source.as_bytes() != original {
                is_forgiven(source.as_bytes(), original);
            }
            is_read_as(document.root().as_value(), source, 1);
            true
        }
        Err(unparsable) => {
            deserves(body, &unparsable);
            false
        }
    };
    let command = if who & 1 == 0 { SET } else { PULL };
    let user = if who & 2 == 0 { ADMINISTRATOR } else { MEMBER };
    let answer = post(command, &signed(user), body).json();
    assert_eq!(is_document, answer["ErrorCode"] != 60_003, "{answer}");
    if command == SET && answer["ErrorCode"] == 0 {
        let document = Document::parse(body).expect("it has been parsed before");
        is_done(&as_asked(document.root().source()), &answer);
    }
}

/// Both readings agree, on all levels.
fn is_read_as(value: Value<'_>, text: &str, depth: usize) {
    let told = Json::read(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    match told {
        Json::Null => assert!(value.is_null()),
        Json::Bool(truth) => assert_eq!(value.as_bool(), Some(truth)),
        Json::Text(text) => assert_eq!(value.as_str(), Some(&*text)),
        Json::Number(number) => {
            assert_eq!(value.source(), number);
            let integer = number.parse::<i128>().ok();
            assert!(integer.is_none() || value.as_integer() == integer, "{number}");
            let is_integer = !number.contains(['.', 'e', 'E']);
            assert_eq!(value.as_integer().is_some(), is_integer, "{number}");
        }
        Json::Array(items) => {
            assert!(depth <= MAX_DEPTH);
            let array = value.as_array().expect("an array");
            assert_eq!(array.len(), items.len());
            for (item, told) in array.into_iter().zip(&items) {
                is_read_as(item, told.get(), depth + 1);
            }
        }
        Json::Object(members) => {
            assert!(depth <= MAX_DEPTH);
            let object = value.as_object().expect("an object");
            assert_eq!(object.len(), members.0.len());
            for ((name, member), (told_name, told)) in object.into_iter().zip(&members.0) {
                assert_eq!(name, told_name);
                is_read_as(member, told.get(), depth + 1);
            }
            let mut names: Vec<_> = members.0.iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a member is named twice");
        }
    }
}

/// What a body says. A number that no float can hold is JSON too, and may stand where nobody looks: it counts as null.
fn as_asked(text: &str) -> Answer {
    match Json::read(text).expect("it has been read before") {
        Json::Null => Answer::Null,
        Json::Bool(truth) => truth.into(),
        Json::Text(text) => text.into(),
        Json::Number(number) => serde_json::from_str(&number).unwrap_or_default(),
        Json::Array(items) => items.iter().map(|item| as_asked(item.get())).collect(),
        Json::Object(members) => {
            members.0.iter().map(|(name, member)| (name.clone(), as_asked(member.get()))).collect()
        }
    }
}

/// Only commas before a closing bracket became blanks, and only where strict JSON fails.
fn is_forgiven(read: &[u8], sent: &[u8]) {
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(sent).is_err(), "strict JSON is not touched");
    for (index, (read, sent_byte)) in read.iter().zip(sent).enumerate() {
        if read != sent_byte {
            assert_eq!((*read, *sent_byte), (b' ', b','));
            let next = sent[index + 1..].trim_ascii_start().first();
            assert!(matches!(next, Some(b']' | b'}')), "a comma that does not trail was forgiven");
        }
    }
}

/// The body is wrong, and in the way that is said.
fn deserves(body: &[u8], unparsable: &Unparsable) {
    let text = std::str::from_utf8(body);
    assert_eq!(text.is_err(), unparsable.fault == Fault::NotUtf8, "{unparsable}");
    let Ok(text) = text else { return };
    assert!(unparsable.at.byte <= body.len());
    match unparsable.fault {
        Fault::NotUtf8 | Fault::ByteOrderMark => {}
        Fault::TooLarge => panic!("the body has {} bytes", body.len()),
        Fault::Empty => assert_eq!(text.trim_matches(BLANKS), ""),
        Fault::NotAnObject => assert!(!text.trim_start_matches(BLANKS).starts_with('{')),
        Fault::TooDeep => {
            let opened = body[..unparsable.at.byte].iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
            assert!(opened >= MAX_DEPTH, "{unparsable}");
        }
        // These may stand in what is otherwise strict JSON, so a reading finds them or fails.
        Fault::NamedTwice => assert!(!is_sound(text) || has_a_duplicate(text), "{unparsable}"),
        Fault::Truncated | Fault::TrailingText | Fault::Syntax(_) => {
            assert!(!is_sound(text), "{unparsable} in {text}");
        }
    }
}

/// Can all of it be read?
fn is_sound(text: &str) -> bool {
    match Json::read(text) {
        Err(_) => false,
        // Digits are counted by one reader only: no number that a field can have has so many.
        Ok(Json::Number(number)) => number.len() <= 4000,
        Ok(Json::Array(items)) => items.iter().all(|item| is_sound(item.get())),
        Ok(Json::Object(members)) => members.0.iter().all(|(_, member)| is_sound(member.get())),
        Ok(Json::Null | Json::Bool(_) | Json::Text(_)) => true,
    }
}

fn has_a_duplicate(text: &str) -> bool {
    match Json::read(text) {
        Ok(Json::Array(items)) => items.iter().any(|item| has_a_duplicate(item.get())),
        Ok(Json::Object(members)) => {
            let mut names: Vec<_> = members.0.iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            names.windows(2).any(|pair| pair[0] == pair[1])
                || members.0.iter().any(|(_, member)| has_a_duplicate(member.get()))
        }
        _ => false,
    }
}

/// After a set was answered with success a pull shows what it asked for; then the message is cleared again.
fn is_done(request: &Answer, answer: &Answer) {
    assert_eq!((&request["GroupId"], &request["MsgSeq"]), (&json!(GROUP), &json!(MESSAGE)));
    let administrator = signed(ADMINISTRATOR);
    let ask = json!({"GroupId": GROUP, "MsgSeq": MESSAGE, "StartSeq": 0}).to_string();
    let shown = post(PULL, &administrator, ask.as_bytes()).json();
    assert_eq!(shown["ErrorCode"], 0, "{shown}");
    let live: Vec<_> = shown["ExtensionList"].as_array().expect("a list").iter().collect();
    let find = |key: &Answer| live.iter().find(|pair| pair["Key"] == *key).map(|pair| &pair["Value"]);
    let nothing = Vec::new();
    let wishes = match request["OperateType"].as_u64() {
        Some(1 | 2) => request["ExtensionList"].as_array().expect("a list"),
        Some(3) => &nothing,
        _ => panic!("no such operation was asked for: {request}"),
    };
    assert!(wishes.len() <= 20);
    if request["OperateType"] == 3 {
        assert_eq!(live.len(), 0, "{shown}");
    } else {
        let results = answer["ExtensionList"].as_array().expect("a list");
        assert_eq!(results.len(), wishes.len());
        for (wish, result) in wishes.iter().zip(results) {
            assert_eq!(wish["Key"], result["Extension"]["Key"]);
            let is_accepted = result["ErrorCode"] == 0;
            let value = find(&wish["Key"]);
            if is_accepted && request["OperateType"] == 1 {
                assert_eq!(value, Some(&wish["Value"]), "{request} {shown}");
            } else if is_accepted {
                assert!(value.is_none_or(|value| value == ""), "{request} {shown}");
            }
        }
    }
    let clear = json!({"GroupId": GROUP, "MsgSeq": MESSAGE, "OperateType": 3}).to_string();
    assert_eq!(post(SET, &administrator, clear.as_bytes()).code(), 0);
}
