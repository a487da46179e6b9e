//! Frames (long-connection.md section 2): what a request says in its head, how answers and pushes are written, and how
//! they are packed.

use std::io::Write as _;

use axum::body::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sidenote_core::MAX_SAFE_INTEGER;

use crate::wire::fields::FieldError;
use crate::wire::json::{Document, Object};

/// A message that is shorter is not worth the packing, in bytes.
const PACKED_FROM_BYTES: usize = 2 * 1024;

/// What a packed message begins with; gzip follows.
const PACKED: &[u8] = b"COMP";

/// The command of a push.
const PUSH: &str = "im_open_push.msg_push";

/// The longest `servcmd` that is looked at. It is repeated in the answer.
const MAX_SERVCMD_BYTES: usize = 128;

/// A request, as far as its head says. Members that are not here are not looked at: `cs` in particular may be wrong,
/// because the sheet allows a client to compute it over another text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    /// Service and command, with a dot between them.
    pub(super) servcmd: &'a str,
    /// By which the client finds the answer.
    pub(super) seq: u64,
    /// Who logs in with a ticket, and the ticket.
    pub(super) identifier: Option<&'a str>,
    pub(super) user_sig: Option<&'a str>,
    /// What a login answered before, and the number of its account.
    pub(super) a2: Option<&'a str>,
    pub(super) tiny_id: Option<&'a str>,
    /// The parameters of the command.
    pub(super) body: Object<'a>,
}

impl<'a> Request<'a> {
    /// Reads a frame. Without `servcmd` and `seq` nothing could be answered that the client would understand.
    pub(super) fn read(frame: &'a Document<'a>) -> Result<Self, FieldError> {
        let head = frame.root().object("head")?;
        let text = |name: &'static str| Ok(head.optional_string(name)?.filter(|text| !text.is_empty()));
        Ok(Self {
            servcmd: head.string_within("servcmd", MAX_SERVCMD_BYTES)?,
            seq: head.integer("seq", 0..=MAX_SAFE_INTEGER)?,
            identifier: text("identifier")?,
            user_sig: text("usersig")?,
            a2: text("a2")?,
            tiny_id: text("tinyid")?,
            body: frame.root().object("body")?,
        })
    }
}

/// The frame of an answer: the command and number of its request, and a body that is JSON already.
pub(super) fn answer(servcmd: &str, seq: u64, body: &[u8]) -> Bytes {
    frame(servcmd, seq, body)
}

/// The frame of a push with one event, which is JSON already. `acknowledge` is the `SessionData` that the client is asked
/// to send back; without it none is wanted.
pub(super) fn push(event: &[u8], acknowledge: Option<&str>) -> Bytes {
    let mut body = Vec::with_capacity(event.len() + 128);
    body.extend_from_slice(br#"{"EventArray":["#);
    body.extend_from_slice(event);
    body.extend_from_slice(br#"],"IsInstantMessage":1"#);
    if let Some(data) = acknowledge {
        body.extend_from_slice(br#","NeedAck":1,"SessionData":"#);
        text(&mut body, data);
    }
    body.push(b'}');
    // Any number will do: no request has this command, so none can be taken for the one that this answers.
    frame(PUSH, 0, &body)
}

fn frame(servcmd: &str, seq: u64, body: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(body.len() + servcmd.len() + 64);
    frame.extend_from_slice(br#"{"head":{"ver":"v4","servcmd":"#);
    text(&mut frame, servcmd);
    write!(frame, r#","seq":{seq}}},"body":"#).expect("memory takes whatever is written to it");
    frame.extend_from_slice(body);
    frame.push(b'}');
    frame.into()
}

fn text(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text)
        .expect("a text is always JSON, and memory takes whatever is written to it");
}

/// The same message packed, where that makes it shorter.
pub(super) fn packed(message: &Bytes) -> Bytes {
    if message.len() < PACKED_FROM_BYTES {
        return message.clone();
    }
    let mut packed = Vec::with_capacity(message.len() / 4);
    packed.extend_from_slice(PACKED);
    let mut gzip = GzEncoder::new(packed, Compression::fast());
    let packed =
        gzip.write_all(message).and_then(|()| gzip.finish()).expect("memory takes whatever is written to it");
    if packed.len() < message.len() { packed.into() } else { message.clone() }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::{Value, json};

    use super::*;

    fn read(frame: &str) -> String {
        let document = match Document::parse(frame.as_bytes()) {
            Ok(document) => document,
            Err(unparsable) => return unparsable.to_string(),
        };
        match Request::read(&document) {
            Ok(request) => format!("{} {} {}", request.servcmd, request.seq, request.body.source()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_request_is_a_command_a_number_and_a_body() {
        let frame =
            r#"{"head":{"ver":"v4","platform":7,"servcmd":"heartbeat.alive","seq":77,"cs":"?"},"body":{}}"#;
        assert_eq!(read(frame), "heartbeat.alive 77 {}");
        let frame = r#"{"body":{"a":[1]},"head":{"seq":9007199254740991,"servcmd":"a\u002eb"}}"#;
        assert_eq!(read(frame), r#"a.b 9007199254740991 {"a":[1]}"#);
    }

    #[test]
    fn who_logs_in_stands_in_the_head_and_an_empty_text_is_none() {
        let frame = json!({"head": {"servcmd": "a.b", "seq": 1, "identifier": "ann", "usersig": "eJ", "a2": "",
            "tinyid": null}, "body": {}});
        let text = frame.to_string();
        let document = Document::parse(text.as_bytes()).unwrap();
        let request = Request::read(&document).unwrap();
        assert_eq!((request.identifier, request.user_sig), (Some("ann"), Some("eJ")));
        assert_eq!((request.a2, request.tiny_id), (None, None));
    }

    #[test]
    fn what_is_no_request_is_told_with_its_place() {
        for (frame, said) in [
            (r"{}", "head is missing"),
            (r#"{"head":7,"body":{}}"#, "head must be an object"),
            (r#"{"head":{"seq":1},"body":{}}"#, "head.servcmd is missing"),
            (r#"{"head":{"servcmd":1,"seq":1},"body":{}}"#, "head.servcmd must be a string"),
            (r#"{"head":{"servcmd":"a.b"},"body":{}}"#, "head.seq is missing"),
            (r#"{"head":{"servcmd":"a.b","seq":"1"},"body":{}}"#, "head.seq must be an integer"),
            (
                r#"{"head":{"servcmd":"a.b","seq":-1},"body":{}}"#,
                "head.seq must be between 0 and 9007199254740991",
            ),
            (r#"{"head":{"servcmd":"a.b","seq":1}}"#, "body is missing"),
            (r#"{"head":{"servcmd":"a.b","seq":1},"body":[]}"#, "body must be an object"),
            (r#"{"head":{"servcmd":"a.b","seq":1,"a2":7},"body":{}}"#, "head.a2 must be a string"),
        ] {
            assert_eq!(read(frame), said, "{frame}");
        }
        let long = format!(r#"{{"head":{{"servcmd":"{}","seq":1}},"body":{{}}}}"#, "x".repeat(129));
        assert_eq!(read(&long), "head.servcmd has 129 bytes where at most 128 are allowed");
    }

    #[test]
    fn an_answer_has_the_command_and_number_of_its_request() {
        let frame = answer("a.\"b\"\n", 9_007_199_254_740_991, br#"{"ErrorCode":0}"#);
        assert_eq!(
            frame,
            r#"{"head":{"ver":"v4","servcmd":"a.\"b\"\n","seq":9007199254740991},"body":{"ErrorCode":0}}"#
        );
    }

    #[test]
    fn a_push_asks_for_an_acknowledgement_only_with_session_data() {
        let value = |frame: Bytes| serde_json::from_slice::<Value>(&frame).unwrap();
        assert_eq!(
            value(push(br#"{"Event":3}"#, Some("7-1"))),
            json!({"head": {"ver": "v4", "servcmd": "im_open_push.msg_push", "seq": 0}, "body":
                {"EventArray": [{"Event": 3}], "IsInstantMessage": 1, "NeedAck": 1, "SessionData": "7-1"}})
        );
        let body = &value(push(br#"{"Event":3}"#, None))["body"];
        assert_eq!(body, &json!({"EventArray": [{"Event": 3}], "IsInstantMessage": 1}));
    }

    #[test]
    fn large_messages_are_packed_and_others_are_left_alone() {
        for message in [Bytes::from("x".repeat(PACKED_FROM_BYTES - 1)), Bytes::new()] {
            assert_eq!(packed(&message), message);
        }
        let message = Bytes::from(r#"{"Key":"value"},"#.repeat(1000));
        let packed_message = packed(&message);
        assert!(packed_message.len() < message.len() / 10);
        let gzip = packed_message.strip_prefix(PACKED).unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(gzip).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, message);
        // What cannot be made shorter stays as it is.
        let noise: Bytes = (0..4096).map(|_| rand::random::<u8>()).collect();
        assert_eq!(packed(&noise), noise);
    }
}
