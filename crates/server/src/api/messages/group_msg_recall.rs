//! `POST group_msg_recall` (groups-and-messages.md section 4.3).

use serde::Serialize;
use sidenote_core::Outcome;
use sidenote_core::command::GroupAction;
use sidenote_core::ids::MsgSeq;

use crate::api::parameters::{group_id, message_number, no_topic};
use crate::api::{Call, Fault, unexpected};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::FieldError;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    recall_ret_list: Vec<Item>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    msg_seq: u64,
    ret_code: u32,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let seqs = message_numbers(body)?;
    let reason = body.optional_string_within("Reason", MAX_REASON_BYTES)?.unwrap_or_default().to_owned();
    no_topic(body)?;
    let group = group_id(raw_group_id)?;

    match call.change_group(&group, GroupAction::Recall { seqs, reason }).await? {
        Outcome::Recalled(recalled) => {
            let recall_ret_list = recalled.into_iter().map(|(seq, done)| Item {
                msg_seq: seq.get(),
                ret_code: if done { 0 } else { ErrorCode::NoMessageToRecall.code() },
            });
            Ok(envelope::success(&Reply { recall_ret_list: recall_ret_list.collect() }))
        }
        other => unexpected(&other),
    }
}

/// Most messages that one request recalls.
const MAX_MESSAGES: usize = 10;

/// Longest reason in bytes.
const MAX_REASON_BYTES: usize = 100;

fn message_numbers(body: Object<'_>) -> Result<Vec<MsgSeq>, FieldError> {
    let list = body.array("MsgSeqList")?.not_empty()?.at_most(MAX_MESSAGES)?;
    list.objects().map(|item| message_number(item?)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sidenote_core::group::GroupType;

    use crate::api::testing::World;

    const RECALL: &str = "group_msg_recall";

    async fn world_with_messages(count: usize) -> World {
        let world = World::new().await;
        world.found_group("g", GroupType::Public).await;
        for random in 0..count {
            let message = format!(
                r#"{{"GroupId":"g","Random":{random},"MsgBody":[{{"MsgType":"TIMTextElem","MsgContent":{{"Text":"t"}}}}]}}"#
            );
            world.ok("send_group_msg", &message).await;
        }
        world
    }

    #[tokio::test]
    async fn the_documented_sample() {
        let world = world_with_messages(101).await;
        world.ok(RECALL, r#"{"GroupId":"g","MsgSeqList":[{"MsgSeq":100}]}"#).await;
        let body = r#"{"GroupId":"g","MsgSeqList":[{"MsgSeq":100},{"MsgSeq":101}],"Reason":"by the admin"}"#;
        assert_eq!(
            world.post(RECALL, body).await,
            json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,
                "RecallRetList":[{"MsgSeq":100,"RetCode":10030},{"MsgSeq":101,"RetCode":0}]})
        );
    }

    #[tokio::test]
    async fn each_message_has_a_code_of_its_own_in_the_order_of_the_request() {
        let world = world_with_messages(2).await;
        let body = r#"{"GroupId":"g","MsgSeqList":[{"MsgSeq":9007199254740991},{"MsgSeq":2},{"MsgSeq":3},{"MsgSeq":2},{"MsgSeq":1}]}"#;
        let answer = world.ok(RECALL, body).await;
        assert_eq!(
            answer["RecallRetList"],
            json!([
                {"MsgSeq":9_007_199_254_740_991_u64,"RetCode":10030}, {"MsgSeq":2,"RetCode":0},
                {"MsgSeq":3,"RetCode":10030}, {"MsgSeq":2,"RetCode":10030}, {"MsgSeq":1,"RetCode":0},
            ])
        );
    }

    #[tokio::test]
    async fn the_number_of_a_recalled_message_is_not_given_again() {
        let world = world_with_messages(1).await;
        world.ok(RECALL, r#"{"GroupId":"g","MsgSeqList":[{"MsgSeq":1}]}"#).await;
        let message = r#"{"GroupId":"g","Random":7,"MsgBody":[{"MsgType":"TIMCustomElem","MsgContent":{}}]}"#;
        assert_eq!(world.ok("send_group_msg", message).await["MsgSeq"], 2);
    }

    #[tokio::test]
    async fn a_live_room_and_a_community_recall_too() {
        let world = World::new().await;
        for (group, kind) in [("live", GroupType::AvChatRoom), ("many", GroupType::Community)] {
            world.found_group(group, kind).await;
            let message = format!(
                r#"{{"GroupId":"{group}","Random":7,"MsgBody":[{{"MsgType":"TIMCustomElem","MsgContent":{{}}}}]}}"#
            );
            world.ok("send_group_msg", &message).await;
            let body = format!(r#"{{"GroupId":"{group}","MsgSeqList":[{{"MsgSeq":1}}]}}"#);
            assert_eq!(world.ok(RECALL, &body).await["RecallRetList"], json!([{"MsgSeq":1,"RetCode":0}]));
        }
    }

    #[tokio::test]
    async fn the_limits_are_10_messages_and_100_bytes_of_reason() {
        let world = world_with_messages(11).await;
        let list = |count: usize| {
            (1..=count).map(|seq| format!(r#"{{"MsgSeq":{seq}}}"#)).collect::<Vec<_>>().join(",")
        };
        let body = |count: usize, reason: &str| {
            format!(r#"{{"GroupId":"g","MsgSeqList":[{}],"Reason":"{reason}"}}"#, list(count))
        };
        let long = "ä".repeat(50);
        let answer = world.post(RECALL, &body(11, "")).await;
        assert_eq!(answer["ErrorCode"], 10004);
        assert_eq!(answer["ErrorInfo"], "MsgSeqList has 11 items where at most 10 are allowed");
        let answer = world.post(RECALL, &body(10, &format!("{long}!"))).await;
        assert_eq!(answer["ErrorCode"], 10004);
        assert_eq!(answer["ErrorInfo"], "Reason has 101 bytes where at most 100 are allowed");
        let answer = world.ok(RECALL, &body(10, &long)).await;
        let codes: Vec<_> = answer["RecallRetList"].as_array().unwrap().iter().collect();
        assert_eq!(codes.len(), 10);
        assert!(codes.iter().all(|item| item["RetCode"] == 0), "what was refused before recalled nothing");
    }

    #[tokio::test]
    async fn bad_input_recalls_nothing() {
        let world = world_with_messages(1).await;
        let good = r#"{"MsgSeq":1}"#;
        for (body, code, info) in [
            ("{}".to_owned(), 10004, "GroupId is missing"),
            (r#"{"GroupId":7}"#.to_owned(), 10004, "GroupId must be a string"),
            (r#"{"GroupId":"g"}"#.to_owned(), 10004, "MsgSeqList is missing"),
            (r#"{"GroupId":"g","MsgSeqList":[]}"#.to_owned(), 10004, "MsgSeqList must not be empty"),
            (r#"{"GroupId":"g","MsgSeqList":{"MsgSeq":1}}"#.to_owned(), 10004, "MsgSeqList must be an array"),
            (
                format!(r#"{{"GroupId":"g","MsgSeqList":[{good},1]}}"#),
                10004,
                "MsgSeqList[1] must be an object",
            ),
            (
                format!(r#"{{"GroupId":"g","MsgSeqList":[{good},{{}}]}}"#),
                10004,
                "MsgSeqList[1].MsgSeq is missing",
            ),
            (
                format!(r#"{{"GroupId":"g","MsgSeqList":[{good},{{"MsgSeq":"1"}}]}}"#),
                10004,
                "MsgSeqList[1].MsgSeq must be an integer",
            ),
            (
                format!(r#"{{"GroupId":"g","MsgSeqList":[{good},{{"MsgSeq":0}}]}}"#),
                10004,
                "MsgSeqList[1].MsgSeq must be between 1 and 9007199254740991",
            ),
            (
                format!(r#"{{"GroupId":"g","MsgSeqList":[{good}],"Reason":1}}"#),
                10004,
                "Reason must be a string",
            ),
            (
                format!(r#"{{"GroupId":"g","MsgSeqList":[{good}],"TopicId":"g@TOPIC#_1"}}"#),
                10004,
                "TopicId names a topic, which are not supported",
            ),
            (
                format!(r#"{{"GroupId":"","MsgSeqList":[{good}]}}"#),
                10015,
                "GroupId must not be empty; it can be no group's id",
            ),
            (
                format!(r#"{{"GroupId":"nowhere","MsgSeqList":[{good}]}}"#),
                10010,
                "the group does not exist or was dissolved",
            ),
        ] {
            let answer = world.post(RECALL, &body).await;
            assert_eq!((&answer["ErrorCode"], &answer["ErrorInfo"]), (&json!(code), &json!(info)), "{body}");
        }
        let answer = world.ok(RECALL, &format!(r#"{{"GroupId":"g","MsgSeqList":[{good}]}}"#)).await;
        assert_eq!(answer["RecallRetList"], json!([{"MsgSeq":1,"RetCode":0}]));
    }
}
