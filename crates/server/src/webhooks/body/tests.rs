use serde_json::{Value as Json, json};
use sidenote_core::event::CallerKind;
use sidenote_core::extension::{Key, Seq};
use sidenote_core::group::{ApplyJoin, CustomField, GroupProfile, GroupType, InviteJoin};
use sidenote_core::ids::{EventNumber, GroupId, Incarnation, MsgKey, Timestamp, TinyId};
use sidenote_core::message::Priority;

use super::*;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn room() -> Conversation {
    Conversation::Group(GroupId::new("test").unwrap())
}

fn operator() -> Operator {
    Operator {
        user: user("ann"),
        tiny_id: None,
        kind: CallerKind::Administrator,
        platform: Platform::RestApi,
        address: Some([127, 0, 0, 1].into()),
    }
}

fn event(number: u64, what: Happening) -> Event {
    let at = Timestamp::from_millis(1_764_688_294_360);
    Event { number: EventNumber::new(number), at, operator: operator(), what }
}

fn group() -> Arc<Group> {
    Arc::new(Group {
        incarnation: Incarnation::from_random(1),
        kind: GroupType::Public,
        owner: Some(user("ann")),
        profile: GroupProfile {
            name: "Test".to_owned(),
            introduction: "i".to_owned(),
            notification: "n".to_owned(),
            face_url: "f".to_owned(),
            max_members: Some(200),
            apply_join: ApplyJoin::FreeAccess,
            invite_join: InviteJoin::FreeAccess,
            mute_all: false,
            history_before_join: true,
            custom: vec![CustomField { key: "k".to_owned(), value: "v".to_owned() }],
        },
        created_at: Timestamp::from_millis(1_764_688_294_360),
        info_seq: 1,
        info_changed_at: Timestamp::default(),
    })
}

fn message() -> Message {
    Message {
        sender: user("bob"),
        sender_tiny_id: TinyId::from_random(77),
        random: 5,
        client_time: 6,
        sent_at: Timestamp::from_millis(7_900),
        priority: Priority::Normal,
        supports_extension: true,
        imported: false,
        recalled: false,
    }
}

fn content(further: &str) -> MessageBody {
    MessageBody {
        elements: r#"[ {"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}} ]"#.to_owned(),
        cloud_custom_data: "c".to_owned(),
        further: further.to_owned(),
    }
}

struct Scene {
    conversation: Conversation,
    next: Option<Event>,
    message: Option<FoundMessage>,
    details: bool,
}

impl Scene {
    fn new() -> Self {
        Self { conversation: room(), next: None, message: None, details: false }
    }

    fn tell(&self, event: &Event) -> Option<Json> {
        let group = group();
        let telling = Telling {
            conversation: &self.conversation,
            event,
            next: self.next.as_ref(),
            group: Some(&group),
            message: self.message.as_ref(),
            details: self.details,
        };
        tell(&telling).map(|text| serde_json::from_str(&text).unwrap())
    }
}

fn told(event: &Event) -> Option<Json> {
    Scene::new().tell(event)
}

fn pair(key: &str, value: Option<&str>, seq: u64, previous: Option<(&str, u64)>) -> ChangedPair {
    let value_of = |text: &str| Value::new(text).unwrap();
    ChangedPair {
        key: Key::new(key).unwrap(),
        value: value.map(value_of),
        seq: Seq::new(seq).unwrap(),
        previous: previous
            .map(|(value, seq)| Previous { value: Some(value_of(value)), seq: Seq::new(seq).unwrap() }),
    }
}

fn change(operation: Operation, latest: u64, pairs: Vec<ChangedPair>) -> ExtensionChange {
    ExtensionChange {
        message: MessageName::Seq(MsgSeq::new(10).unwrap()),
        sender_tiny_id: TinyId::from_random(77),
        client_time: 6,
        random: 5,
        operation,
        compaction: false,
        pairs,
        latest: Seq::new(latest).unwrap(),
        clear: Seq::NEVER,
    }
}

#[test]
fn the_documented_samples_of_pairs_come_out_word_for_word() {
    let pairs = vec![pair("key2", Some("value2"), 56, None), pair("key3", Some("12122"), 56, None)];
    let set = event(9, Happening::Extension(change(Operation::Set, 56, pairs)));
    let group = group();
    let telling = Telling {
        conversation: &room(),
        event: &set,
        next: None,
        group: Some(&group),
        message: None,
        details: false,
    };
    assert_eq!(
        tell(&telling).unwrap(),
        r#"{"CallbackCommand":"Group.CallbackAfterGroupMsgExtension","GroupId":"test","MsgSeq":10,"OperateType":1,"ExtensionList":[{"Key":"key2","Value":"value2","Seq":56},{"Key":"key3","Value":"12122","Seq":56}],"Seq":56,"EventTime":1764688294360}"#
    );
    let pairs =
        vec![pair("key2", None, 57, Some(("value2", 56))), pair("key3", None, 57, Some(("12122", 56)))];
    assert_eq!(
        told(&event(9, Happening::Extension(change(Operation::Delete, 57, pairs)))).unwrap()["ExtensionList"],
        json!([{"Key":"key2","Value":"","Seq":57},{"Key":"key3","Value":"","Seq":57}])
    );
    let dropped = vec![pair("key2", None, 58, Some(("value2", 56)))];
    let clear = told(&event(9, Happening::Extension(change(Operation::Clear, 58, dropped)))).unwrap();
    assert_eq!(
        (&clear["ExtensionList"], &clear["Seq"], &clear["OperateType"]),
        (&json!([]), &json!(58), &json!(3))
    );
    assert_eq!(clear.as_object().unwrap().len(), 7);
}

#[test]
fn details_tell_the_operator_and_what_was_there_before() {
    let scene = Scene { details: true, ..Scene::new() };
    let pairs = vec![pair("a", Some("x"), 2, Some(("w", 1))), pair("b", Some("y"), 2, None)];
    let set = scene.tell(&event(9, Happening::Extension(change(Operation::Set, 2, pairs)))).unwrap();
    assert_eq!((&set["Operator_Account"], &set["ClearSeq"]), (&json!("ann"), &json!(0)));
    assert_eq!(
        set["ExtensionList"],
        json!([{"Key":"a","Value":"x","Seq":2,"Previous":{"Value":"w","Seq":1}},{"Key":"b","Value":"y","Seq":2}])
    );
    let dropped = vec![pair("a", None, 3, Some(("x", 2)))];
    let clear = scene.tell(&event(9, Happening::Extension(change(Operation::Clear, 3, dropped)))).unwrap();
    let cleared = json!([{"Key":"a","Value":"","Seq":3,"Previous":{"Value":"x","Seq":2}}]);
    assert_eq!((&clear["ExtensionList"], &clear["ClearedList"]), (&json!([]), &cleared));
}

#[test]
fn a_one_to_one_message_is_named_by_its_sender_recipient_and_key() {
    let name = MessageName::Key(MsgKey { seq: 44_739_199, random: 12, time: 1_665_388_280 });
    let pairs = vec![pair("k1", Some("v"), 1, None)];
    let what = ExtensionChange { message: name, ..change(Operation::Set, 1, pairs) };
    let set = event(3, Happening::Extension(what));
    assert_eq!(message_of(&set), Some(name));
    let conversation = Conversation::between(user("bob"), user("ann"));
    let found = FoundMessage { message: Arc::new(message()), body: None };
    let mut scene = Scene { conversation, message: Some(found), ..Scene::new() };
    assert_eq!(
        scene.tell(&set).unwrap(),
        json!({
            "CallbackCommand":"C2C.CallbackAfterC2CMsgExtension","From_Account":"bob","To_Account":"ann",
            "MsgKey":"44739199_12_1665388280","OperateType":1,
            "ExtensionList":[{"Key":"k1","Value":"v","Seq":1}],"Seq":1,"EventTime":1_764_688_294_360_u64
        })
    );
    scene.message = None;
    assert_eq!(scene.tell(&set), None, "nobody can name a message that is gone");
}

#[test]
fn one_to_one_messages_are_told_with_their_key() {
    let mut scene = Scene::new();
    scene.conversation = Conversation::Direct(user("ann"), user("bob"));
    scene.message = Some(FoundMessage { message: Arc::new(message()), body: Some(Arc::new(content(""))) });
    let key = MsgKey { seq: 3, random: 5, time: 7 };
    let sent = json!({
        "CallbackCommand":"C2C.CallbackAfterSendMsg","From_Account":"bob","To_Account":"ann",
        "MsgSeq":3,"MsgRandom":5,"MsgKey":"3_5_7","MsgTime":7,"OnlineOnlyFlag":0,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}],"CloudCustomData":"c",
        "SendMsgResult":0,"ErrorInfo":"send msg succeed","UnreadMsgNum":-1,"EventTime":1_764_688_294_360_u64
    });
    let what = Happening::DirectSent { key, message: message() };
    assert_eq!(message_of(&event(1, what.clone())), Some(MessageName::Key(key)));
    assert_eq!(scene.tell(&event(1, what)), Some(sent.clone()));

    let transient = |further| Happening::DirectTransient { key, message: message(), body: content(further) };
    let mut online_only = sent;
    online_only["OnlineOnlyFlag"] = json!(1);
    assert_eq!(scene.tell(&event(2, transient(""))), Some(online_only));
    let silent = r#"{"ForbidCallbackControl":["ForbidAfterSendMsgCallback"]}"#;
    assert_eq!(scene.tell(&event(3, transient(silent))), None);

    let recalled = json!({
        "CallbackCommand":"C2C.CallbackAfterMsgWithDraw","From_Account":"bob","To_Account":"ann",
        "MsgKey":"3_5_7","UnreadMsgNum":-1,"EventTime":1_764_688_294_360_u64
    });
    assert_eq!(scene.tell(&event(4, Happening::DirectRecalled { key })), Some(recalled));
}

#[test]
fn a_message_is_told_with_its_body_and_number() {
    let sent = event(4, Happening::MessageSent { seq: MsgSeq::new(8).unwrap(), message: message() });
    assert_eq!(message_of(&sent), Some(MessageName::Seq(MsgSeq::new(8).unwrap())));
    let further = r#"{"GroupAtInfo":[{"GroupAtAllFlag":1}]}"#;
    let found =
        |further| FoundMessage { message: Arc::new(message()), body: Some(Arc::new(content(further))) };
    let scene = Scene { message: Some(found(further)), ..Scene::new() };
    assert_eq!(
        scene.tell(&sent).unwrap(),
        json!({
            "CallbackCommand":"Group.CallbackAfterSendMsg","GroupId":"test","Type":"Public","From_Account":"bob",
            "Operator_Account":"ann","Random":5,"MsgSeq":8,"MsgId":"77-6-5","MsgTime":7,"OnlineOnlyFlag":0,
            "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}],"CloudCustomData":"c",
            "GroupAtInfo":[{"GroupAtAllFlag":1}],"EventTime":1_764_688_294_360_u64
        })
    );
    let recalled = told(&sent).unwrap();
    assert_eq!((&recalled["MsgBody"], &recalled["CloudCustomData"]), (&json!([]), &json!("")));

    let transient = event(4, Happening::TransientMessage { message: message(), body: content("") });
    let transient = told(&transient).unwrap();
    assert_eq!((&transient["OnlineOnlyFlag"], &transient["MsgSeq"]), (&json!(1), &json!(0)));

    let silent = r#"{"ForbidCallbackControl":["ForbidBeforeSendMsgCallback","ForbidAfterSendMsgCallback"]}"#;
    assert_eq!(Scene { message: Some(found(silent)), ..Scene::new() }.tell(&sent), None);
}

#[test]
fn changes_of_a_group_are_told_with_who_and_what() {
    let users = |names: &[&str]| names.iter().map(|name| user(name)).collect::<Vec<_>>();
    let joined = |names: &[&str]| Happening::MembersJoined { users: users(names), imported: false };
    let with = |members: Json| {
        let mut body = json!({"GroupId":"test","EventTime":1_764_688_294_360_u64});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        body
    };
    let member = |name: &str| json!({ "Member_Account": name });
    for (what, expected) in [
        (
            joined(&["bob", "eve"]),
            json!({"CallbackCommand":"Group.CallbackAfterNewMemberJoin","Type":"Public","Operator_Account":"ann",
                   "JoinType":"Invited","NewMemberList":[member("bob"),member("eve")]}),
        ),
        (
            Happening::MembersLeft { users: users(&["bob"]), reason: String::new() },
            json!({"CallbackCommand":"Group.CallbackAfterMemberExit","Type":"Public","Operator_Account":"ann",
                   "ExitType":"Kicked","ExitMemberList":[member("bob")]}),
        ),
        (
            Happening::MembersLeft { users: users(&["ann"]), reason: String::new() },
            json!({"CallbackCommand":"Group.CallbackAfterMemberExit","Type":"Public","Operator_Account":"ann",
                   "ExitType":"Quit","ExitMemberList":[member("ann")]}),
        ),
        (
            Happening::OwnerChanged { from: None, to: user("bob") },
            json!({"CallbackCommand":"Group.CallbackAfterChangeGroupOwner","Type":"Public","OldOwner_Account":"",
                   "NewOwner_Account":"bob"}),
        ),
        (
            Happening::GroupChanged,
            json!({"CallbackCommand":"Group.CallbackAfterGroupInfoChanged","Type":"Public","Operator_Account":"ann",
                   "Name":"Test","Introduction":"i","Notification":"n","FaceUrl":"f"}),
        ),
        (
            Happening::GroupDestroyed,
            json!({"CallbackCommand":"Group.CallbackAfterGroupDestroyed","Type":"Public","Owner_Account":"ann",
                   "Name":"Test"}),
        ),
        (
            Happening::MessagesRecalled {
                seqs: vec![MsgSeq::new(1).unwrap(), MsgSeq::new(2).unwrap()],
                reason: String::new(),
            },
            json!({"CallbackCommand":"Group.CallbackAfterRecallMsg","Type":"Public","Operator_Account":"ann",
                   "MsgSeqList":[{"MsgSeq":1},{"MsgSeq":2}]}),
        ),
    ] {
        assert_eq!(told(&event(9, what)), Some(with(expected)));
    }
}

#[test]
fn the_members_of_a_new_group_are_told_with_it_and_not_again() {
    let joined = Happening::MembersJoined { users: vec![user("bob")], imported: false };
    let created = event(1, Happening::GroupCreated { imported: false });
    let scene = Scene { next: Some(event(2, joined.clone())), ..Scene::new() };
    let body = scene.tell(&created).unwrap();
    assert_eq!(body["MemberList"], json!([{"Member_Account":"bob"}]));
    assert_eq!((&body["Owner_Account"], &body["Name"]), (&json!("ann"), &json!("Test")));
    assert_eq!(body["UserDefinedDataList"], json!([{"Key":"k","Value":"v"}]));
    assert_eq!(told(&event(2, joined.clone())), None);

    let later = Event { at: Timestamp::from_millis(1_764_688_294_361), ..event(2, joined) };
    assert_eq!(told(&later).unwrap()["CallbackCommand"], "Group.CallbackAfterNewMemberJoin");
    let scene = Scene { next: Some(later), ..Scene::new() };
    assert_eq!(scene.tell(&created).unwrap()["MemberList"], json!([]));
}

#[test]
fn imports_are_silent() {
    let imported = Message { imported: true, ..message() };
    for what in [
        Happening::GroupCreated { imported: true },
        Happening::MembersJoined { users: vec![user("bob")], imported: true },
        Happening::MessageSent { seq: MsgSeq::new(1).unwrap(), message: imported },
    ] {
        let silent = event(5, what);
        assert_eq!((told(&silent), callback_of(&room(), &silent)), (None, None));
    }
}

#[test]
fn the_origin_names_address_and_platform_as_the_table_does() {
    let at = |platform, address: &str| {
        origin(&Operator { platform, address: Some(address.parse().unwrap()), ..operator() })
    };
    for (platform, name) in [
        (Platform::RestApi, "RESTAPI"),
        (Platform::Web, "Web"),
        (Platform::Android, "Android"),
        (Platform::Ios, "iOS"),
        (Platform::Windows, "Windows"),
        (Platform::Mac, "Mac"),
        (Platform::Ipad, "iPad"),
        (Platform::Unknown, "Unknown"),
    ] {
        assert_eq!(at(platform, "::1"), format!("&ClientIP=::1&OptPlatform={name}"));
    }
    assert_eq!(origin(&Operator::server(user("ann"))), "&ClientIP=127.0.0.1&OptPlatform=Unknown");
}
