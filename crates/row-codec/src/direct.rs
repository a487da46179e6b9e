//! What came with one-to-one conversations, as bytes, by the rules of module `rows`.

use minicbor::{Decode, Encode};
use sidenote_core::direct::Direct;
use sidenote_core::ids::{Incarnation, MessageName, MsgKey, MsgSeq, Timestamp, TinyId};
use sidenote_core::message::Sent;

use super::rows::{optional, tiny_id};

#[derive(Encode, Decode)]
pub(super) struct DirectRow {
    #[n(0)]
    incarnation: u64,
    #[n(1)]
    one: u64,
    #[n(2)]
    other: u64,
    #[n(3)]
    begun_at: u64,
}

impl From<&Direct> for DirectRow {
    fn from(it: &Direct) -> Self {
        let [one, other] = it.tiny_ids.map(TinyId::get);
        Self { incarnation: it.incarnation.get(), one, other, begun_at: it.begun_at.millis() }
    }
}

impl DirectRow {
    pub(super) fn read(&self) -> Option<Direct> {
        Some(Direct {
            incarnation: Incarnation::from_random(self.incarnation),
            tiny_ids: [tiny_id(self.one)?, tiny_id(self.other)?],
            begun_at: Timestamp::from_millis(self.begun_at),
        })
    }
}

#[derive(Encode, Decode)]
pub(super) struct SentRow {
    #[n(0)]
    seq: Option<u64>,
    #[n(1)]
    at: u64,
    /// Of a one-to-one message, which has no `seq`.
    #[n(2)]
    key: Option<MsgKeyRow>,
}

impl From<&Sent> for SentRow {
    fn from(it: &Sent) -> Self {
        let (seq, key) = (it.seq().map(MsgSeq::get), it.key().map(MsgKeyRow::from));
        Self { seq, at: it.at.millis(), key }
    }
}

impl SentRow {
    pub(super) fn read(self) -> Option<Sent> {
        let name = match (optional(self.seq, |seq| MsgSeq::new(seq).ok())?, self.key) {
            (Some(_), Some(_)) => return None,
            (Some(seq), None) => Some(MessageName::Seq(seq)),
            (None, Some(key)) => Some(MessageName::Key(key.into())),
            (None, None) => None,
        };
        Some(Sent { name, at: Timestamp::from_millis(self.at) })
    }
}

/// The key of a one-to-one message.
#[derive(Encode, Decode)]
pub(super) struct MsgKeyRow {
    #[n(0)]
    seq: u32,
    #[n(1)]
    random: u32,
    #[n(2)]
    time: u64,
}

impl From<MsgKey> for MsgKeyRow {
    fn from(MsgKey { seq, random, time }: MsgKey) -> Self {
        Self { seq, random, time }
    }
}

impl From<MsgKeyRow> for MsgKey {
    fn from(MsgKeyRow { seq, random, time }: MsgKeyRow) -> Self {
        Self { seq, random, time }
    }
}
