//! How many sets of one pair a second the store makes durable, on random messages of 10,000, and how many pulls
//! it answers. `cargo run --release -p sidenote-store-embedded --example set_pairs -- FOLDER`
#![expect(clippy::unwrap_used, reason = "an example may end by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sidenote_core::Limits;
use sidenote_core::command::{Action, Claim, Command, Extend, GroupAction, Items, NewGroup, NewMessage};
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::extension::{Key, Seq, Value};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin};
use sidenote_core::ids::{AppId, ConversationId, GroupId, Incarnation, MsgSeq, Timestamp, TinyId, UserId};
use sidenote_core::message::{Fingerprint, MessageBody, Priority};
use sidenote_core::query::Pull;
use sidenote_store::Store;
use sidenote_store_embedded::{EmbeddedStore, Settings};
use tokio::time::Instant;

const GROUPS: u64 = 100;
const MESSAGES_PER_GROUP: u64 = 100;
const TIME: Duration = Duration::from_secs(5);

fn main() {
    let folder = std::env::args().nth(1).expect("the first argument names a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let limits = Limits { attempts_per_minute: 0, ..Limits::default() };
        let store = EmbeddedStore::open(Path::new(&folder), &Settings::default(), limits).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        prepare(&store).await;
        for tasks in [64, 256, 64, 256] {
            measure("sets", &store, tasks, |store, number| async move {
                store.commit(set(number)).await.unwrap().verdict.unwrap();
            })
            .await;
        }
        for tasks in [64, 256] {
            measure("pulls", &store, tasks, |store, number| async move {
                store.ask(pull(number)).await.unwrap().unwrap();
            })
            .await;
        }
        println!("{:#?}", store.statistics());
        store.close().await;
    });
}

async fn measure<Work: Future<Output = ()> + Send + 'static>(
    what: &str,
    store: &Arc<dyn Store>,
    tasks: u64,
    work: impl Fn(Arc<dyn Store>, u64) -> Work + Copy + Send + 'static,
) {
    let began = Instant::now();
    let runtime = tokio::runtime::Handle::current();
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let store = Arc::clone(store);
            runtime.spawn(async move {
                let (mut state, mut done) = (task + 1, 0_u64);
                while began.elapsed() < TIME {
                    // A linear congruential generator is random enough to pick messages.
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    work(Arc::clone(&store), state >> 33).await;
                    tokio::task::yield_now().await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    let (count, mut done) = (tasks.len(), 0);
    for task in tasks {
        done += task.await.unwrap();
    }
    println!("{what} by {count} tasks: {} a second", done / TIME.as_secs());
}

async fn prepare(store: &Arc<dyn Store>) {
    for number in 0..GROUPS {
        let profile = GroupProfile {
            name: "a group".to_owned(),
            introduction: String::new(),
            notification: String::new(),
            face_url: String::new(),
            max_members: Some(200),
            apply_join: ApplyJoin::NeedPermission,
            invite_join: InviteJoin::DisableInvite,
            mute_all: false,
            history_before_join: true,
            custom: Vec::new(),
        };
        let new = NewGroup {
            incarnation: Incarnation::from_random(number),
            kind: GroupType::Public,
            owner: None,
            profile,
            members: Vec::new(),
            created_at: Timestamp::from_secs(1),
            imported: true,
        };
        // In a folder of an earlier run they are there already.
        if store.commit(command(number, GroupAction::Create(Box::new(new)))).await.unwrap().verdict.is_ok() {
            for chunk in 0..MESSAGES_PER_GROUP / 10 {
                let messages = (0..10).map(|random| message(chunk * 10 + random)).collect();
                store.commit(command(number, GroupAction::Import(messages))).await.unwrap().verdict.unwrap();
            }
        }
    }
}

fn message(random: u64) -> NewMessage {
    NewMessage {
        sender: UserId::new("ann").unwrap(),
        sender_tiny_id: TinyId::from_random(1),
        sender_is_administrator: true,
        random: u32::try_from(random).unwrap(),
        client_time: None,
        sent_at: None,
        priority: Priority::Normal,
        supports_extension: true,
        online_only: false,
        body: MessageBody { elements: "[]".to_owned(), ..MessageBody::default() },
        fingerprint: Fingerprint([0; 16]),
    }
}

fn administrator() -> Operator {
    let user = UserId::new("administrator").unwrap();
    let (kind, platform) = (CallerKind::Administrator, Platform::RestApi);
    Operator { user, tiny_id: None, kind, platform, address: Some([127, 0, 0, 1].into()) }
}

fn group(number: u64) -> ConversationId {
    ConversationId::group(AppId::new(1), GroupId::new(&format!("@TGS#{}", number % GROUPS)).unwrap())
}

fn msg(number: u64) -> MsgSeq {
    MsgSeq::new(number / GROUPS % MESSAGES_PER_GROUP + 1).unwrap()
}

fn command(number: u64, action: GroupAction) -> Command {
    let at = Timestamp::from_secs(1_700_000_000);
    Command { operator: administrator(), at, action: Action::Group(group(number), action) }
}

fn set(number: u64) -> Command {
    let key = Key::new(&format!("option-{}", number % 7)).unwrap();
    let value = Value::new("a value of some forty bytes, as votes are").unwrap();
    let items = Items::new(vec![((key, value), Claim::Unchecked)]).unwrap();
    command(number, GroupAction::Extend(msg(number), Extend::Set(items)))
}

fn pull(number: u64) -> Pull {
    let (id, seq, operator) = (group(number), msg(number), administrator());
    Pull { id, seq, operator, start: Seq::NEVER, tombstones: false }
}
