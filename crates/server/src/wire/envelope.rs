//! The answer: the verdict of three members that every answer has, and the members of the command after
//! them (rest-overview.md section 2, "Envelope").

use serde::Serialize;

/// The answer to a request that succeeded: the verdict, then the members of `reply`, which is a struct or a
/// map. A type that serializes as anything else has no place in an object and is a mistake of the program.
///
/// The members are spliced in after they were written: serde's own flattening would first copy each of them
/// into a general value.
pub fn success(reply: &impl Serialize) -> Vec<u8> {
    success_of_about(256, reply)
}

/// The same, with room for so many bytes to begin with.
pub fn success_of_about(bytes: usize, reply: &impl Serialize) -> Vec<u8> {
    let mut answer = Vec::with_capacity(bytes);
    answer.extend_from_slice(SUCCESS);
    serde_json::to_writer(&mut answer, reply)
        .expect("a reply has members with string names and is written to memory");
    let seam = SUCCESS.len();
    match answer[seam..] {
        [b'{', b'}'] => answer.truncate(seam),
        [b'{', .., b'}'] => {
            answer[seam] = b',';
            return answer;
        }
        _ => panic!("a reply must serialize as an object"),
    }
    answer.push(b'}');
    answer
}

/// The answer to a request that succeeded and has nothing to say beyond that.
pub fn plain_success() -> Vec<u8> {
    [SUCCESS, b"}"].concat()
}

/// The answer to a request that failed. No member of the command is in it.
pub fn failure(code: u32, info: &str) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Failure<'a> {
        action_status: &'static str,
        error_info: &'a str,
        error_code: u32,
    }
    serde_json::to_vec(&Failure { action_status: "FAIL", error_info: info, error_code: code })
        .expect("two texts and a number are always JSON")
}

/// An answer's beginning, for all that may follow.
const SUCCESS: &[u8] = br#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0"#;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::value::RawValue;

    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Sent<'a> {
        msg_time: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        group_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        msg_body: Option<&'a RawValue>,
    }

    #[derive(Serialize)]
    struct Nothing {}

    fn text(answer: Vec<u8>) -> String {
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn the_members_of_a_reply_follow_the_verdict() {
        let body = RawValue::from_string("[ {\"MsgType\" : 1.0} ]".to_owned()).unwrap();
        let reply = Sent { msg_time: 7, group_id: Some("@TGS#\"1\""), msg_body: Some(&body) };
        assert_eq!(
            text(success(&reply)),
            r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"MsgTime":7,"GroupId":"@TGS#\"1\"","MsgBody":[ {"MsgType" : 1.0} ]}"#
        );
    }

    #[test]
    fn a_reply_without_members_leaves_the_verdict_alone() {
        let verdict = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
        assert_eq!(text(plain_success()), verdict);
        assert_eq!(text(success(&Nothing {})), verdict);
        assert_eq!(text(success(&BTreeMap::<String, u32>::new())), verdict);
    }

    #[test]
    fn a_failure_has_the_verdict_alone_and_escapes_its_text() {
        assert_eq!(
            text(failure(10004, "a \"quoted\"\nline")),
            r#"{"ActionStatus":"FAIL","ErrorInfo":"a \"quoted\"\nline","ErrorCode":10004}"#
        );
    }

    #[test]
    #[should_panic(expected = "a reply must serialize as an object")]
    fn a_reply_that_is_not_an_object_is_a_mistake_of_the_program() {
        success(&[1, 2]);
    }
}
