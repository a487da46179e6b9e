//! Where a row lives: the key of a home, which leads every statement to one shard, and names as this database holds
//! them.

use sidenote_core::command::{Action, Command};
use sidenote_core::debt::Task;
use sidenote_core::ids::{
    AccountId, AppId, Conversation, ConversationId, GroupId, Incarnation, MessageName, MsgKey, MsgSeq, UserId,
};
use sidenote_core::rows::RowKey;
use xxhash_rust::xxh3::xxh3_64;

/// What commands wait for one after the other: an account, or a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Home {
    Account(AccountId),
    Conversation(ConversationId),
}

impl Home {
    /// The one home that a command changes.
    pub(crate) fn of(command: &Command) -> Self {
        match &command.action {
            Action::Account(id, _) => Self::Account(id.clone()),
            Action::Group(id, _) | Action::Outbox(id, ..) => Self::Conversation(id.clone()),
            Action::Direct(peers, _) => Self::Conversation(peers.id()),
            Action::Pay(debt, _) => Self::owing(&debt.task),
        }
    }

    /// The home that owes this.
    pub(crate) fn owing(task: &Task) -> Self {
        match task {
            Task::Forsake(account, _) => Self::Account(account.clone()),
            Task::Announce(id, ..)
            | Task::Reap(id, _)
            | Task::Strip(id, ..)
            | Task::ForgetSend(id, ..)
            | Task::TrimEvents(id, _) => Self::Conversation(id.clone()),
        }
    }

    /// The first column of every key.
    pub(crate) fn key(&self) -> i64 {
        match self {
            Self::Account(id) => account_key(id),
            Self::Conversation(id) => conversation_key(id),
        }
    }
}

/// The key of the home that a row lies under; `None`: that of the conversation whose life it names.
pub(crate) fn home_of(key: &RowKey) -> Option<i64> {
    match key {
        RowKey::Account(id) | RowKey::Membership(id, ..) => Some(account_key(id)),
        RowKey::Conversation(id) | RowKey::Outbox(id, _) | RowKey::DeadLetter(id, ..) => {
            Some(conversation_key(id))
        }
        RowKey::Debt(debt) => Some(Home::owing(&debt.task).key()),
        RowKey::Within(..) | RowKey::Event(..) => None,
    }
}

/// `akey`: where an account and the list of its groups lie. **Never to be changed**: stored rows are found by it.
pub(crate) fn account_key(id: &AccountId) -> i64 {
    hash(id.app, b'a', id.user.as_str())
}

/// `gkey`: where everything of a conversation lies. **Never to be changed.**
pub(crate) fn conversation_key(id: &ConversationId) -> i64 {
    hash(id.app, b'c', &conversation_name(id))
}

fn hash(app: AppId, kind: u8, name: &str) -> i64 {
    let mut bytes = Vec::with_capacity(5 + name.len());
    bytes.extend_from_slice(&app.get().to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(name.as_bytes());
    xxh3_64(&bytes).cast_signed()
}

/// The number of a life as the database holds it, in the same order: less 2^63.
pub(crate) fn signed(life: Incarnation) -> i64 {
    (life.get() ^ 1 << 63).cast_signed()
}

/// The life that has this number in the database.
pub(crate) fn life_of(number: i64) -> Incarnation {
    Incarnation::from_random(number.cast_unsigned() ^ 1 << 63)
}

/// The name of a conversation in its app. A tab can't be part of a UserID. Names sort as conversations do.
pub(crate) fn conversation_name(id: &ConversationId) -> String {
    match &id.conversation {
        Conversation::Group(group) => format!("g{group}"),
        Conversation::Direct(one, other) => format!("p{one}\t{other}"),
    }
}

/// The conversation of this name, if it is one.
pub(crate) fn conversation_of(app: AppId, name: &str) -> Option<ConversationId> {
    let conversation = match name.split_at_checked(1)? {
        ("g", group) => Conversation::Group(GroupId::new(group).ok()?),
        ("p", users) => {
            let (one, other) = users.split_once('\t')?;
            let (one, other) = (UserId::new(one).ok()?, UserId::new(other).ok()?);
            (one <= other).then_some(Conversation::Direct(one, other))?
        }
        _ => return None,
    };
    Some(ConversationId { app, conversation })
}

/// The name of a message as it is on the wire.
pub(crate) fn message_text(name: MessageName) -> String {
    match name {
        MessageName::Seq(seq) => seq.get().to_string(),
        MessageName::Key(key) => key.to_string(),
    }
}

/// The message of this name, if it is one.
pub(crate) fn message_of(text: &str) -> Option<MessageName> {
    if text.contains('_') {
        return MsgKey::parse(text).ok().map(MessageName::Key);
    }
    text.parse().ok().and_then(|seq| MsgSeq::new(seq).ok()).map(MessageName::Seq)
}

/// A text without U+0000, which this database can't hold, in the same order byte by byte.
pub(crate) fn escape(text: &str) -> String {
    if !text.contains(['\0', '\u{1}']) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\0' => escaped.push_str("\u{1}0"),
            '\u{1}' => escaped.push_str("\u{1}1"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The text that was [`escape`]d, if it was.
pub(crate) fn unescape(text: &str) -> Option<String> {
    if !text.contains('\u{1}') {
        return Some(text.to_owned());
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\u{1}' => match letters.next()? {
                '0' => '\0',
                '1' => '\u{1}',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

/// A text for a column that is only looked at.
pub(crate) fn for_eyes(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn group(name: &str) -> ConversationId {
        ConversationId::group(AppId::new(1_400_000_001), GroupId::new(name).unwrap())
    }

    #[test]
    fn the_keys_of_homes_never_change() {
        let account = AccountId { app: AppId::new(1_400_000_001), user: user("ann") };
        let direct = ConversationId::direct(account.app, user("bob"), user("ann"));
        let keys = [account_key(&account), conversation_key(&group("@TGS#1")), conversation_key(&direct)];
        assert_eq!(keys, KEYS);
        let other = AccountId { app: AppId::new(2), ..account };
        assert_ne!(account_key(&other), KEYS[0]);
    }

    /// Written down once. Whoever changes them can't find stored rows any more.
    const KEYS: [i64; 3] = [-3_245_393_271_011_210_822, 600_160_773_081_826_492, -2_215_245_510_624_777_315];

    #[test]
    fn names_come_back_and_sort_as_conversations_do() {
        let app = AppId::new(7);
        let mut all = vec![
            group("b"),
            group("a"),
            group("a b"),
            ConversationId::direct(app, user("ann"), user("bob")),
            ConversationId::direct(app, user("ann b"), user("a")),
            ConversationId::direct(app, user("a"), user("b c")),
        ];
        for id in &mut all {
            id.app = app;
            assert_eq!(conversation_of(app, &conversation_name(id)).as_ref(), Some(&*id));
        }
        let mut by_name = all.clone();
        all.sort();
        by_name.sort_by_key(conversation_name);
        assert_eq!(all, by_name);
        for wrong in ["", "g", "x", "pann", "pbob\tann", "p\tann", "gü"] {
            assert_eq!(conversation_of(app, wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn lives_keep_their_order() {
        let numbers = [0, 1, u64::MAX >> 1, 1 << 63, u64::MAX];
        let stored = numbers.map(|number| signed(Incarnation::from_random(number)));
        assert!(stored.is_sorted() && stored[0] == i64::MIN);
        assert_eq!(stored.map(|number| life_of(number).get()), numbers);
    }

    #[test]
    fn messages_have_the_names_of_the_wire() {
        let key = MessageName::Key(MsgKey { seq: 1, random: 2, time: u64::MAX });
        let seq = MessageName::Seq(MsgSeq::new(42).unwrap());
        assert_eq!((&*message_text(key), &*message_text(seq)), ("1_2_18446744073709551615", "42"));
        assert_eq!((message_of(&message_text(key)), message_of("42")), (Some(key), Some(seq)));
        assert_eq!((message_of("0"), message_of("x"), message_of("1_2")), (None, None, None));
    }

    #[test]
    fn every_text_survives_and_keeps_its_place() {
        let texts =
            ["", "\0", "\0\0", "\0a", "\u{1}", "\u{1}0", "\u{1}1", "\u{2}", "a", "a\0", "a\u{1}b", "b"];
        let mut escaped: Vec<_> = texts.iter().map(|text| escape(text)).collect();
        assert!(escaped.iter().all(|text| !text.contains('\0')));
        for (text, escaped) in texts.iter().zip(&escaped) {
            assert_eq!(unescape(escaped).as_deref(), Some(*text));
        }
        assert!(escaped.is_sorted());
        escaped.dedup();
        assert_eq!(escaped.len(), texts.len());
        assert_eq!((unescape("\u{1}"), unescape("\u{1}2")), (None, None));
    }
}
