//! `MsgBody` (groups-and-messages.md section 7): what is checked before it is kept, word for word.

use crate::api::{Call, Fault};
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::FieldError;
use crate::wire::json::{Array, Object};

/// The text that a type of element carries. All other members of `MsgContent` are the clients' business.
#[derive(Clone, Copy, Debug)]
enum Carries {
    /// `Text`, without which the element says nothing.
    Text,
    /// `Data`, which may be left out.
    Data,
    /// Neither.
    Other,
}

const ELEMENTS: &[(&str, Carries)] = &[
    ("TIMTextElem", Carries::Text),
    ("TIMCustomElem", Carries::Data),
    ("TIMFaceElem", Carries::Data),
    ("TIMLocationElem", Carries::Other),
    ("TIMSoundElem", Carries::Other),
    ("TIMImageElem", Carries::Other),
    ("TIMFileElem", Carries::Other),
    ("TIMVideoFileElem", Carries::Other),
    ("TIMRelayElem", Carries::Other),
];

/// The elements of a message: at least one, each of a known type with an object as its content.
pub(in crate::api) fn elements(message: Object<'_>) -> Result<Array<'_>, FieldError> {
    let elements = message.array("MsgBody")?.not_empty()?;
    for element in elements.objects() {
        let element = element?;
        let carries = element.one_of("MsgType", ELEMENTS)?;
        let content = element.object("MsgContent")?;
        match carries {
            Carries::Text => {
                content.string("Text")?;
            }
            Carries::Data => {
                content.optional_string("Data")?;
            }
            Carries::Other => {}
        }
    }
    Ok(elements)
}

/// Checks the length of a message: `MsgBody` as it was written, and `CloudCustomData`.
pub(in crate::api) fn require_length(
    call: &Call,
    elements: &str,
    cloud_custom_data: &str,
    too_long: ErrorCode,
) -> Result<(), Fault> {
    let bytes = elements.len() + cloud_custom_data.len();
    let limit = usize::try_from(call.limits.message_body_bytes).unwrap_or(usize::MAX);
    if bytes > limit {
        let info = format!(
            "MsgBody and CloudCustomData have {bytes} bytes together where at most {limit} are allowed"
        );
        return Err(Fault::Code(too_long, info));
    }
    Ok(())
}

/// A list of names, each of which switches something.
pub(in crate::api) fn switches<'a>(
    body: Object<'a>,
    name: &'static str,
    known: &[&'static str],
) -> Result<Option<Array<'a>>, FieldError> {
    let Some(list) = body.optional_array(name)? else { return Ok(None) };
    let table: Vec<_> = known.iter().map(|name| (*name, ())).collect();
    for item in list.at_most(known.len())? {
        item.one_of(&table)?;
    }
    Ok(Some(list))
}

/// Most bytes that the members kept for readers may have together. They do not count as the message's body.
pub(in crate::api) const MAX_FURTHER_BYTES: usize = 16 * 1024;

/// The members of these names that readers may need later, those that are there, as one JSON object; empty if none is.
pub(in crate::api) fn further(
    body: Object<'_>,
    names: &[&'static str],
    too_long: ErrorCode,
) -> Result<String, Fault> {
    let members: Vec<_> = names
        .iter()
        .filter_map(|name| Some(format!(r#""{name}":{}"#, body.optional(*name)?.source())))
        .collect();
    if members.is_empty() {
        return Ok(String::new());
    }
    let further = format!("{{{}}}", members.join(","));
    let bytes = further.len();
    if bytes > MAX_FURTHER_BYTES {
        let info = format!(
            "{} have {bytes} bytes together where at most {MAX_FURTHER_BYTES} are allowed",
            names.join(", ")
        );
        return Err(Fault::Code(too_long, info));
    }
    Ok(further)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Document;

    fn said(msg_body: &str) -> String {
        let text = format!(r#"{{"MsgBody":{msg_body}}}"#);
        let document = Document::parse(text.as_bytes()).unwrap();
        match elements(document.root()) {
            Ok(elements) => elements.source().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_type_of_element_is_known_and_kept_word_for_word() {
        for element in [
            r#"{"MsgType":"TIMTextElem","MsgContent":{"Text":"hello"}}"#,
            r#"{"MsgType":"TIMTextElem","MsgContent":{"Text":""}}"#,
            r#"{"MsgType":"TIMCustomElem","MsgContent":{"Data":"{}","Desc":"d","Ext":"e","Sound":"s"}}"#,
            r#"{"MsgType":"TIMCustomElem","MsgContent":{}}"#,
            r#"{"MsgType":"TIMFaceElem","MsgContent":{"Index":1,"Data":"content"}}"#,
            r#"{"MsgType":"TIMLocationElem","MsgContent":{"Desc":"x","Latitude":29.340656774469956,"Longitude":1.10}}"#,
            r#"{"MsgType":"TIMSoundElem","MsgContent":{"Url":"u","UUID":"i","Size":1,"Second":5,"Download_Flag":2}}"#,
            r#"{"MsgType":"TIMImageElem","MsgContent":{"UUID":"i","ImageFormat":1,"ImageInfoArray":[{"Type":1}]}}"#,
            r#"{"MsgType":"TIMFileElem","MsgContent":{"FileSize":12345678901234567890123,"FileName":"a"}}"#,
            r#"{"MsgType":"TIMVideoFileElem","MsgContent":{"VideoUrl":"u","ThumbUrl":"t"}}"#,
            r#"{"MsgType":"TIMRelayElem","MsgContent":{"Title":"t","MsgNum":1,"MsgList":[{"MsgBody":[{"MsgType":"?"}]}]}}"#,
            r#"{"MsgType":"TIMTextElem","MsgContent":{"Text":"\u0041\/\n"},"Own":[null,true]}"#,
        ] {
            let msg_body = format!("[ {element} ]");
            assert_eq!(said(&msg_body), msg_body);
        }
    }

    #[test]
    fn what_is_no_element_is_refused_with_its_place() {
        let types = "TIMTextElem, TIMCustomElem, TIMFaceElem, TIMLocationElem, TIMSoundElem, TIMImageElem, \
             TIMFileElem, TIMVideoFileElem, TIMRelayElem";
        for (msg_body, problem) in [
            ("null", "MsgBody is missing".to_owned()),
            ("[]", "MsgBody must not be empty".to_owned()),
            (r#""hello""#, "MsgBody must be an array".to_owned()),
            (r#"{"MsgType":"TIMTextElem"}"#, "MsgBody must be an array".to_owned()),
            ("[null]", "MsgBody[0] must be an object".to_owned()),
            ("[[]]", "MsgBody[0] must be an object".to_owned()),
            ("[{}]", "MsgBody[0].MsgType is missing".to_owned()),
            (r#"[{"MsgType":1}]"#, "MsgBody[0].MsgType must be a string".to_owned()),
            (r#"[{"MsgType":"timtextelem"}]"#, format!("MsgBody[0].MsgType must be one of {types}")),
            (r#"[{"MsgType":""}]"#, format!("MsgBody[0].MsgType must be one of {types}")),
            (r#"[{"MsgType":"TIMFaceElem"}]"#, "MsgBody[0].MsgContent is missing".to_owned()),
            (
                r#"[{"MsgType":"TIMFileElem","MsgContent":[]}]"#,
                "MsgBody[0].MsgContent must be an object".to_owned(),
            ),
            (
                r#"[{"MsgType":"TIMTextElem","MsgContent":"hello"}]"#,
                "MsgBody[0].MsgContent must be an object".to_owned(),
            ),
            (
                r#"[{"MsgType":"TIMTextElem","MsgContent":{}}]"#,
                "MsgBody[0].MsgContent.Text is missing".to_owned(),
            ),
            (
                r#"[{"MsgType":"TIMTextElem","MsgContent":{"Text":null}}]"#,
                "MsgBody[0].MsgContent.Text is missing".to_owned(),
            ),
            (
                r#"[{"MsgType":"TIMTextElem","MsgContent":{"Text":7}}]"#,
                "MsgBody[0].MsgContent.Text must be a string".to_owned(),
            ),
            (
                r#"[{"MsgType":"TIMCustomElem","MsgContent":{"Data":{}}}]"#,
                "MsgBody[0].MsgContent.Data must be a string".to_owned(),
            ),
            (
                r#"[{"MsgType":"TIMTextElem","MsgContent":{"Text":""}},{"MsgType":"TIMFaceElem","MsgContent":{"Data":1}}]"#,
                "MsgBody[1].MsgContent.Data must be a string".to_owned(),
            ),
        ] {
            assert_eq!(said(msg_body), problem, "{msg_body}");
        }
    }
}
