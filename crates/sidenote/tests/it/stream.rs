//! The open event stream: what a reader of one group, and one of a whole app, is told through a real socket.

mod faults;
mod watching;
mod web_socket;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use sidenote_server::clock::{Clock as _, SystemClock};

use crate::server::{ADMINISTRATOR, APP, ConfigOptions, OTHER_APP, Running, query};

use web_socket::Reader;

const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";
const CREATE: &str = "group_open_http_svc/create_group";
const SEND: &str = "group_open_http_svc/send_group_msg";
const REMOVE: &str = "group_open_http_svc/delete_group_member";

/// A stream that is being read.
pub(crate) struct Stream {
    lines: BufReader<TcpStream>,
    status: u16,
}

/// One event of it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Frame {
    /// `message` where the frame names none.
    event: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Stream {
    /// Asks for a path with these header lines, and reads the head of the answer.
    fn open(server: &Running, path: &str, headers: &str) -> Self {
        let mut socket = server.connect();
        // A client of HTTP/1.0 gets the stream without the lengths of chunks in between.
        write!(socket, "GET {path} HTTP/1.0\r\n{headers}\r\n").unwrap();
        let mut lines = BufReader::new(socket);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            head.push(line);
        }
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        Self { lines, status }
    }

    pub(crate) fn of_group(server: &Running, user: &str, group: &str, after: &str) -> Self {
        let stream =
            Self::open(server, &format!("/v1/groups/{group}/events?{}", query(APP, user)), &cursor(after));
        assert_eq!(stream.status, 200);
        stream
    }

    fn next(&mut self) -> Option<Frame> {
        let mut frame = Frame { event: "message".to_owned(), ..Frame::default() };
        let mut has_data = false;
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            // A server that was killed may leave a part of a line, which no reader takes for more.
            if !line.ends_with('\n') {
                return None;
            }
            let line = line.trim_end_matches('\n');
            if line.is_empty() && has_data {
                return Some(frame);
            }
            match line.split_once(": ") {
                Some(("event", event)) => event.clone_into(&mut frame.event),
                Some(("id", id)) => id.clone_into(&mut frame.id),
                Some(("data", data)) => {
                    has_data = true;
                    frame.data = serde_json::from_str(data).unwrap();
                }
                _ => {}
            }
        }
    }

    /// The next event that tells of a change.
    pub(crate) fn event(&mut self) -> Frame {
        let frame = self.next().expect("the stream goes on");
        assert_eq!(frame.event, "message", "{frame:?}");
        frame
    }

    /// Why the stream ends, whatever is told before.
    pub(crate) fn end(&mut self) -> Value {
        loop {
            let frame = self.next().expect("the stream says why it ends");
            if frame.event != "message" {
                return frame.data["Reason"].clone();
            }
        }
    }

    /// The rest of the answer to a request that was refused.
    fn refusal(mut self) -> (u16, i64) {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.lines, &mut text).unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        (self.status, answer["ErrorCode"].as_i64().unwrap())
    }
}

fn cursor(after: &str) -> String {
    if after.is_empty() { String::new() } else { format!("Last-Event-ID: {after}\r\n") }
}

/// A server with a group `g` of ann and bob, and a poll in it.
fn scene(more: &str) -> Running {
    scene_with(ConfigOptions { more: more.to_owned(), ..ConfigOptions::default() })
}

fn scene_with(options: ConfigOptions) -> Running {
    let limits = "attempts_per_minute = 0".to_owned();
    let server = Running::start(&ConfigOptions { limits, ..options });
    for user in ["ann", "bob", "eve"] {
        let account = json!({"UserID": user}).to_string();
        assert_eq!(server.post(ADMINISTRATOR, "im_open_login_svc/account_import", &account)["ErrorCode"], 0);
    }
    create(&server, "g");
    send(&server, "g", 1);
    server
}

fn create(server: &Running, group: &str) {
    let new = json!({
        "Type": "Public", "Name": "lunch", "GroupId": group,
        "MemberList": [{"Member_Account": "ann"}, {"Member_Account": "bob"}],
    });
    assert_eq!(server.post(ADMINISTRATOR, CREATE, &new.to_string())["ErrorCode"], 0);
}

/// Calls a command that must succeed, as an administrator.
fn ok(server: &Running, command: &str, body: &Value) -> Value {
    let answer = server.post(ADMINISTRATOR, command, &body.to_string());
    assert_eq!(answer["ErrorCode"], 0, "{command} {body}: {answer}");
    answer
}

fn send(server: &Running, group: &str, random: u32) {
    // Line breaks between the parts of a body are no part of what it says.
    let body = format!(
        "{{\"GroupId\":\"{group}\",\"From_Account\":\"ann\",\"Random\":{random},\"SupportMessageExtension\":1,\
         \"MsgBody\":[\n{{\"MsgType\":\"TIMTextElem\",\r\n\"MsgContent\":{{\"Text\":\"lunch?\\n\"}}}}]}}"
    );
    assert_eq!(server.post(ADMINISTRATOR, SEND, &body)["ErrorCode"], 0);
}

fn set(server: &Running, user: &str, value: &str, seq: u64) -> Value {
    let body = json!({
        "GroupId": "g", "MsgSeq": 1, "OperateType": 1,
        "ExtensionList": [{"Key": user, "Value": value, "Seq": seq}],
    });
    server.post(user, SET, &body.to_string())
}

#[test]
fn a_member_sees_what_others_do() {
    let server = scene("");
    let mut bob = Stream::of_group(&server, "bob", "g", "");
    assert_eq!(set(&server, "ann", "noodles", 0)["Seq"], 1);
    let voted = bob.event();
    assert_eq!(voted.data["EventTime"].as_u64().map(|time| time > 1_700_000_000_000), Some(true));
    let mut data = voted.data.clone();
    data["EventTime"] = json!(0);
    assert_eq!(
        data,
        json!({
            "EventId": voted.id, "GroupId": "g", "Number": 4, "EventTime": 0, "Type": "ExtensionChanged",
            "Operator": {"UserID": "ann", "Kind": "Member", "Platform": "RESTAPI"},
            "MsgSeq": 1, "OperateType": 1, "Compaction": false,
            "ExtensionList": [{"Key": "ann", "Value": "noodles", "Seq": 1}], "LatestSeq": 1, "ClearSeq": 0,
        })
    );
    assert_eq!(set(&server, "ann", "pizza", 1)["Seq"], 2);
    assert_eq!(
        bob.event().data["ExtensionList"],
        json!([{"Key": "ann", "Value": "pizza", "Seq": 2, "Previous": {"Value": "noodles", "Seq": 1}}])
    );
    // A refused write is no event.
    assert_eq!(set(&server, "ann", "soup", 1)["ExtensionList"][0]["ErrorCode"], 23001);
    send(&server, "g", 2);
    let sent = bob.event();
    assert_eq!(
        (
            &sent.data["Type"],
            &sent.data["MsgSeq"],
            &sent.data["From_Account"],
            &sent.data["SupportMessageExtension"]
        ),
        (&json!("MessageSent"), &json!(2), &json!("ann"), &json!(1))
    );
    assert_eq!(sent.data["MsgBody"][0]["MsgContent"]["Text"], "lunch?\n");
}

#[test]
fn a_reader_goes_on_after_the_last_event_that_it_has_seen() {
    let mut server = scene("");
    let mut first = Stream::of_group(&server, "bob", "g", "");
    set(&server, "ann", "a", 0);
    let seen = first.event();
    drop(first);
    set(&server, "ann", "b", 1);
    server.kill9();
    server.restart();
    let mut again = Stream::of_group(&server, "bob", "g", &seen.id);
    set(&server, "ann", "c", 2);
    let values: Vec<_> = [again.event(), again.event()]
        .into_iter()
        .map(|it| it.data["ExtensionList"][0]["Value"].clone())
        .collect();
    assert_eq!(values, [json!("b"), json!("c")]);
    // As a parameter too, for the first time that a browser connects.
    let path = format!("/v1/groups/g/events?{}&last_event_id={}", query(APP, "bob"), seen.id);
    let mut by_parameter = Stream::open(&server, &path, "");
    assert_eq!(by_parameter.event().data["LatestSeq"], 2);
    // From the very beginning.
    let (life, _) = seen.id.split_once('-').unwrap();
    let mut all = Stream::of_group(&server, "bob", "g", &format!("{life}-0"));
    let types: Vec<_> = (0..6).map(|_| all.event().data["Type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        types,
        [
            "GroupCreated",
            "MembersJoined",
            "MessageSent",
            "ExtensionChanged",
            "ExtensionChanged",
            "ExtensionChanged"
        ]
    );
}

#[test]
fn a_cursor_that_is_too_old_is_told_so_and_the_stream_goes_on() {
    let server = scene("[events]\nkeep_per_conversation = 1000");
    let mut bob = Stream::of_group(&server, "bob", "g", "");
    set(&server, "ann", "0", 0);
    let seen = bob.event();
    for seq in 1..=1001 {
        let body = json!({
            "GroupId": "g", "MsgSeq": 1 + seq % 2, "OperateType": 3,
        });
        // Two messages, so that nobody asks one of them too often.
        if seq == 1 {
            send(&server, "g", 2);
        }
        server.post(ADMINISTRATOR, SET, &body.to_string());
    }
    drop(bob);
    let mut late = Stream::of_group(&server, "bob", "g", &seen.id);
    let told = late.next().unwrap();
    assert_eq!(told.event, "start_over");
    assert_eq!((&told.data["Type"], &told.data["EventId"]), (&json!("StartOver"), &json!(told.id)));
    assert!(told.data["Info"].as_str().unwrap().contains("group_get_key_values"), "{told:?}");
    let mut late_reader = Reader::of_group(&server, "bob", &seen.id);
    assert_eq!(late_reader.object(), told.data);
    set(&server, "bob", "x", 0);
    assert_eq!(late.event().data["ExtensionList"][0]["Key"], "bob");
    assert_eq!(late_reader.object()["ExtensionList"][0]["Key"], "bob");
    // The id that came with it is a cursor as well.
    let mut from_there = Stream::of_group(&server, "bob", "g", &told.id);
    assert_eq!(from_there.event().data["ExtensionList"][0]["Key"], "bob");
}

#[test]
fn a_cursor_of_another_life_of_the_group_starts_over() {
    let server = scene("");
    let mut bob = Stream::of_group(&server, "bob", "g", "");
    set(&server, "ann", "old", 0);
    let seen = bob.event();
    ok(&server, "group_open_http_svc/destroy_group", &json!({"GroupId": "g"}));
    assert_eq!(bob.event().data["Type"], "GroupDestroyed");
    assert_eq!(bob.next().unwrap().data["Reason"], "removed");
    create(&server, "g");
    let mut again = Stream::of_group(&server, "bob", "g", &seen.id);
    let mut reader = Reader::of_group(&server, "bob", &seen.id);
    let told = again.next().unwrap();
    assert_eq!((told.event.as_str(), &told.data["Reason"]), ("start_over", &json!("cursor")));
    assert_ne!(told.id.split_once('-').unwrap().0, seen.id.split_once('-').unwrap().0);
    assert_eq!(reader.object(), told.data);
    send(&server, "g", 1);
    let sent = again.event();
    assert_eq!((&sent.data["Type"], &sent.data["Number"]), (&json!("MessageSent"), &json!(3)));
    assert_eq!(reader.object(), sent.data);
}

#[test]
fn members_are_told_what_they_may_read() {
    let server = scene("");
    let add = |user: &str| json!({"GroupId": "g", "MemberList": [{"Member_Account": user}]});
    ok(&server, "group_open_http_svc/add_group_member", &add("eve"));
    let mut readers = ["bob", "eve", ADMINISTRATOR].map(|user| Stream::of_group(&server, user, "g", ""));
    let [bob, eve, administrator] = &mut readers;
    // A message for some is told to these, and to administrators.
    let text = |text: &str| json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}]);
    for (random, online_only) in [(1, 0), (2, 1)] {
        let for_bob = json!({
            "GroupId": "g", "From_Account": "ann", "Random": random, "To_Account": ["bob"],
            "MsgBody": text("for bob"), "OnlineOnlyFlag": online_only,
        });
        ok(&server, SEND, &for_bob);
    }
    send(&server, "g", 3);
    let told = |count: usize, stream: &mut Stream| -> Vec<u64> {
        (0..count).map(|_| stream.event().data["MsgRandom"].as_u64().unwrap()).collect()
    };
    assert_eq!((told(3, bob), told(1, eve), told(3, administrator)), (vec![1, 2, 3], vec![3], vec![1, 2, 3]));

    // Where the group hides what was before, a member is told nothing from before it joined, whatever its cursor.
    ok(
        &server,
        "group_open_http_svc/modify_group_base_info",
        &json!({"GroupId": "g", "HistoryMsgBeforeJoin": "Off"}),
    );
    let life = administrator.event().id.split_once('-').unwrap().0.to_owned();
    ok(&server, REMOVE, &json!({"GroupId": "g", "MemberToDel_Account": ["eve"]}));
    a_moment_later();
    ok(&server, "group_open_http_svc/add_group_member", &add("eve"));
    let mut back = Stream::of_group(&server, "eve", "g", &format!("{life}-0"));
    assert_eq!(back.event().data["Type"], "MembersJoined");
    send(&server, "g", 4);
    assert_eq!(back.event().data["MsgRandom"], 4);
}

/// The clock shows another time than before.
fn a_moment_later() {
    let now = SystemClock.now_millis();
    while SystemClock.now_millis() < now + 2 {
        std::thread::yield_now();
    }
}

#[test]
fn whoever_is_removed_sees_that_and_nothing_after_it() {
    let server = scene("");
    let mut bob = Stream::of_group(&server, "bob", "g", "");
    ok(&server, REMOVE, &json!({"GroupId": "g", "MemberToDel_Account": ["bob"]}));
    set(&server, "ann", "secret", 0);
    assert_eq!(bob.event().data["Type"], "MembersLeft");
    assert_eq!(bob.next().unwrap().event, "end");
    assert_eq!(bob.next(), None);
    let path = format!("/v1/groups/g/events?{}", query(APP, "bob"));
    assert_eq!(Stream::open(&server, &path, "").refusal(), (403, 10007));
}

#[test]
fn an_administrator_follows_the_whole_app() {
    let server = scene("");
    let path = format!("/v1/events?{}", query(APP, ADMINISTRATOR));
    let mut everything = Stream::open(&server, &path, "");
    let other_path = format!("/v1/events?{}", query(OTHER_APP, ADMINISTRATOR));
    let mut other_app = Stream::open(&server, &other_path, "");
    // What is in the log already is not told; what comes from here on is, of groups old and new.
    set(&server, "ann", "x", 0);
    assert_eq!(everything.event().data["GroupId"], "g");
    create(&server, "new");
    let told = [everything.event(), everything.event()].map(|frame| frame.data["Type"].clone());
    assert_eq!(told, [json!("GroupCreated"), json!("MembersJoined")]);
    let own = json!({"Type": "Public", "Name": "own", "GroupId": "own"}).to_string();
    assert_eq!(server.post_to(OTHER_APP, ADMINISTRATOR, CREATE, &own)["ErrorCode"], 0);
    assert_eq!(other_app.event().data["GroupId"], "own");
    // A cursor cannot be followed here.
    let mut again = Stream::open(&server, &path, "Last-Event-ID: 0123456789abcdef-1\r\n");
    assert_eq!(again.next().unwrap().event, "start_over");
    let member = format!("/v1/events?{}", query(APP, "ann"));
    assert_eq!(Stream::open(&server, &member, "").refusal(), (403, 60010));
}

#[test]
fn an_administrator_sees_what_two_accounts_write_to_each_other() {
    let server = scene("");
    let mut everything = Stream::open(&server, &format!("/v1/events?{}", query(APP, ADMINISTRATOR)), "");
    let mut reader = Reader::open(&server, &format!("/v1/events?{}", query(APP, ADMINISTRATOR)));
    let mut tell = || {
        let frame = everything.event();
        assert_eq!(frame.data["EventId"], frame.id);
        assert_eq!(reader.object(), frame.data);
        let mut data = frame.data;
        let members = data.as_object_mut().unwrap();
        for member in ["EventId", "EventTime", "MsgTime", "MsgClientTime"] {
            members.remove(member);
        }
        (frame.id.split_once('-').unwrap().0.to_owned(), data)
    };
    // Their names are in one order, whoever writes.
    let letter = |more: &[(&str, Value)]| {
        let mut letter = json!({
            "From_Account": "bob", "To_Account": "ann", "MsgSeq": 5, "MsgRandom": 6, "SupportMessageExtension": 1,
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "lunch?"}}],
        });
        for (name, value) in more {
            letter[name] = value.clone();
        }
        letter
    };
    let key = ok(&server, "openim/sendmsg", &letter(&[]))["MsgKey"].clone();
    let by_administrator = json!({"UserID": ADMINISTRATOR, "Kind": "Administrator", "Platform": "RESTAPI"});
    let (life, sent) = tell();
    assert_eq!(
        sent,
        json!({
            "Accounts": ["ann", "bob"], "Number": 1, "Operator": by_administrator, "Type": "MessageSent",
            "MsgKey": key, "From_Account": "bob", "MsgRandom": 6, "SupportMessageExtension": 1, "Imported": false,
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "lunch?"}}],
        })
    );
    let vote = json!({
        "From_Account": "bob", "To_Account": "ann", "MsgKey": key, "OperateType": 1,
        "ExtensionList": [{"Key": "ann", "Value": "noodles", "Seq": 0}],
    });
    let answer = server.post("ann", "openim_msg_ext_http_svc/set_key_values", &vote.to_string());
    assert_eq!(answer["Seq"], 1, "{answer}");
    assert_eq!(
        tell().1,
        json!({
            "Accounts": ["ann", "bob"], "Number": 2, "Type": "ExtensionChanged",
            "Operator": {"UserID": "ann", "Kind": "Member", "Platform": "RESTAPI"},
            "MsgKey": key, "OperateType": 1, "Compaction": false,
            "ExtensionList": [{"Key": "ann", "Value": "noodles", "Seq": 1}], "LatestSeq": 1, "ClearSeq": 0,
        })
    );
    let recall = json!({"From_Account": "bob", "To_Account": "ann", "MsgKey": key});
    ok(&server, "openim/admin_msgwithdraw", &recall);
    assert_eq!(
        tell().1,
        json!({
            "Accounts": ["ann", "bob"], "Number": 3, "Operator": by_administrator, "Type": "MessageRecalled",
            "MsgKey": key,
        })
    );
    // A message that is only for those who are online has no name by which anything could be done with it.
    ok(&server, "openim/sendmsg", &letter(&[("OnlineOnlyFlag", json!(1)), ("MsgRandom", json!(7))]));
    let (same_life, transient) = tell();
    assert_eq!((&transient["Type"], &transient["Number"]), (&json!("MessageSent"), &json!(4)));
    assert_eq!((transient.get("MsgKey"), &same_life), (None, &life));
    // Another account under an old name is another conversation, which is numbered from 1.
    ok(&server, "im_open_login_svc/account_delete", &json!({"DeleteItem": [{"UserID": "bob"}]}));
    ok(&server, "im_open_login_svc/account_import", &json!({"UserID": "bob"}));
    ok(&server, "openim/sendmsg", &letter(&[("MsgRandom", json!(8))]));
    loop {
        let (other_life, told) = tell();
        if told["Accounts"].is_array() {
            assert_eq!((&told["Number"], &told["MsgRandom"]), (&json!(1), &json!(8)));
            assert_ne!(other_life, life);
            break;
        }
        // That bob left his groups is told, too.
        assert_eq!(told["GroupId"], "g", "{told}");
    }
}

#[test]
fn streams_end_with_the_server_and_do_not_hold_it_up() {
    let mut server = scene("");
    let mut bob = Stream::of_group(&server, "bob", "g", "");
    let mut all = Stream::open(&server, &format!("/v1/events?{}", query(APP, ADMINISTRATOR)), "");
    let mut readers = [
        Reader::of_group(&server, "bob", ""),
        Reader::open(&server, &format!("/v1/events?{}", query(APP, ADMINISTRATOR))),
    ];
    assert!(server.terminate().success());
    for stream in [&mut bob, &mut all] {
        let end = stream.next().unwrap();
        assert_eq!((end.event.as_str(), &end.data["Reason"]), ("end", &json!("closing")));
        assert_eq!(stream.next(), None);
    }
    for reader in &mut readers {
        let closed = reader.closed();
        assert_eq!((closed.code, closed.reason.split_once(':').unwrap().0), (1001, "closing"));
    }
}

#[test]
fn a_stream_that_is_refused_says_why() {
    let server = scene("");
    let signed = query(APP, "bob");
    let unsigned = format!("sdkappid={APP}&identifier=bob");
    let ticket = signed.split('&').find_map(|pair| pair.strip_prefix("usersig=")).unwrap();
    let ticket: String =
        form_urlencoded::parse(format!("x={ticket}").as_bytes()).next().unwrap().1.into_owned();
    for (path, headers, expected) in [
        (format!("/v1/groups/g/events?{unsigned}"), String::new(), (400, 60025)),
        (format!("/v1/groups/g/events?{unsigned}&usersig=x"), String::new(), (401, 70003)),
        (format!("/v1/groups/g/events?{unsigned}"), "Authorization: Basic x\r\n".to_owned(), (401, 70003)),
        (format!("/v1/groups/g/events?{unsigned}"), "Authorization: \u{e9}\r\n".to_owned(), (401, 70003)),
        (
            format!("/v1/groups/g/events?sdkappid=7&identifier=bob&usersig={ticket}"),
            String::new(),
            (401, 70020),
        ),
        (format!("/v1/groups/nowhere/events?{signed}"), String::new(), (404, 10010)),
        (format!("/v1/groups/%ff/events?{signed}"), String::new(), (400, 10015)),
        (format!("/v1/groups/%2/events?{signed}"), String::new(), (400, 10015)),
        (format!("/v1/groups//events?{signed}"), String::new(), (400, 10015)),
        (format!("/v1/groups/{}/events?{signed}", "g".repeat(49)), String::new(), (400, 10015)),
        (format!("/v1/groups/g?{signed}"), String::new(), (404, 60009)),
        (format!("/v1/?{signed}"), String::new(), (404, 60009)),
        (format!("/v1/groups/g/events?{signed}"), "Last-Event-ID: yesterday\r\n".to_owned(), (400, 60025)),
        (format!("/v1/groups/g/events?{}", query(APP, "nobody")), String::new(), (403, 70107)),
        (format!("/v1/groups/g/events?{}", query(APP, "eve")), String::new(), (403, 10007)),
    ] {
        let stream = Stream::open(&server, &path, &headers);
        assert_eq!(stream.refusal(), expected, "{path} {headers}");
    }
    let bearer = format!("Authorization: Bearer {ticket}\r\n");
    let mut by_header = Stream::open(&server, &format!("/v1/groups/g/events?{unsigned}"), &bearer);
    set(&server, "ann", "x", 0);
    assert_eq!(by_header.event().data["Type"], "ExtensionChanged");
    let answer = server.raw(b"POST /v1/groups/g/events HTTP/1.0\r\ncontent-length: 0\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.0 405"), "{}", String::from_utf8_lossy(&answer));
}
