//! Storing the data of the product: the same rules and the same store as in the server, without HTTP in between.
//! Ten million messages would take hours through the API.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use sidenote_core::command::{Action, Claim, Command, Extend, GroupAction, Items, NewMessage};
use sidenote_core::decide::ItemVerdict;
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::extension::{Key, Value};
use sidenote_core::ids::{AppId, ConversationId, GroupId, MsgSeq, Timestamp, TinyId, UserId};
use sidenote_core::message::{Fingerprint, MessageBody, Priority, Sent};
use sidenote_core::{Limits, Outcome};
use sidenote_store::Store;
use sidenote_store_embedded::{EmbeddedStore, Settings};

use crate::dialect::{key_name, random_text};
use crate::load::now;
use crate::servers::{APP, GROUP};
use crate::workload::{KEYS, PAIRS_PER_SET, Range, float};

/// Messages that one command imports.
const MESSAGES_PER_IMPORT: u64 = 20;

/// Commands under way at a time, so that many share a commit.
const TASKS: usize = 512;

/// Memory for rows while filling; nothing that was written is needed for long.
const CACHE_BYTES: u64 = 256 * 1024 * 1024;

/// What filling took.
pub(crate) struct Filled {
    pub(crate) messages: u64,
    pub(crate) time: Duration,
    /// Size of the store afterwards.
    pub(crate) bytes: u64,
}

/// Stores the messages of these ranges, which must follow each other and what is stored already, in a store in which
/// the group exists. Calls `progress` now and then with the number of messages that are there.
pub(crate) fn fill(folder: &Path, ranges: &[Range], progress: &(dyn Fn(u64) + Sync)) -> Result<Filled> {
    let begin = now();
    with_store(folder, async |store| {
        for range in ranges {
            fill_range(store, *range, progress).await?;
        }
        Ok(())
    })?;
    let bytes = crate::disk::folder_bytes(folder)?;
    Ok(Filled { messages: ranges.iter().map(|range| range.messages).sum(), time: begin.elapsed(), bytes })
}

/// Stores so many messages without pairs in each of these groups, which exist and are empty.
pub(crate) fn fill_groups(folder: &Path, groups: &[String], messages: u64) -> Result<()> {
    with_store(folder, async |store| {
        let mut random = fastrand::Rng::with_seed(messages);
        for group in groups {
            let mut last = 0;
            while last < messages {
                for seq in
                    import(&**store, group, MESSAGES_PER_IMPORT.min(messages - last), &mut random).await?
                {
                    last = last.max(seq.get());
                }
            }
            if last != messages {
                bail!("the group {group} has {last} messages, where {messages} were stored");
            }
        }
        Ok(())
    })
}

/// Stores messages in each of these groups, which exist and are empty: so many without pairs, and behind them so many
/// with 20 pairs.
pub(crate) async fn fill_each(
    store: &Arc<impl Store + 'static>,
    groups: &[String],
    plain: u64,
    full: u64,
) -> Result<()> {
    let next = Arc::new(Mutex::new(groups.to_vec()));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS as u64 {
        let (store, next) = (Arc::clone(store), Arc::clone(&next));
        tasks.spawn(async move {
            let mut random = fastrand::Rng::with_seed(task);
            let draw = || next.lock().unwrap_or_else(PoisonError::into_inner).pop();
            while let Some(group) = draw() {
                let mut left = plain + full;
                while left > 0 {
                    let count = left.min(MESSAGES_PER_IMPORT);
                    for seq in import(&*store, &group, count, &mut random).await? {
                        if seq.get() > plain {
                            set_pairs(&*store, &group, seq, KEYS, &mut random).await?;
                        }
                    }
                    left -= count;
                }
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task that fills a store panicked")??;
    }
    Ok(())
}

/// Opens the store, and closes it when the work is done.
fn with_store(folder: &Path, work: impl AsyncFnOnce(&Arc<EmbeddedStore>) -> Result<()>) -> Result<()> {
    let settings = Settings { row_cache_bytes: CACHE_BYTES, ..Settings::default() };
    let limits = Limits { attempts_per_minute: 0, ..Limits::default() };
    let store =
        Arc::new(EmbeddedStore::open(folder, &settings, limits).context("cannot open the store to fill")?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .context("cannot start the threads that fill a store")?;
    let result = runtime.block_on(work(&store));
    runtime.block_on(store.close());
    result
}

async fn fill_range(store: &Arc<EmbeddedStore>, range: Range, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
    // Commands with many pairs are large; fewer of them under way keep a commit within its limit.
    let (next, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, next, done) = (Arc::clone(store), Arc::clone(&next), Arc::clone(&done));
        tasks.spawn(async move {
            let mut random = fastrand::Rng::with_seed(range.first.wrapping_add(task as u64));
            loop {
                let begin = next.fetch_add(MESSAGES_PER_IMPORT, Ordering::Relaxed);
                let count = range.messages.saturating_sub(begin).min(MESSAGES_PER_IMPORT);
                if count == 0 {
                    return Ok::<_, anyhow::Error>(());
                }
                for seq in import(&*store, GROUP, count, &mut random).await? {
                    if !(range.first..range.first + range.messages).contains(&seq.get()) {
                        bail!("message {} was stored, where {range:?} was to begin", seq.get());
                    }
                    set_pairs(&*store, GROUP, seq, range.stored_pairs, &mut random).await?;
                }
                done.fetch_add(count, Ordering::Relaxed);
            }
        });
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            _ = ticks.tick() => progress(range.first - 1 + done.load(Ordering::Relaxed)),
            ended = tasks.join_next() => match ended {
                None => return Ok(()),
                Some(result) => result.context("a task that fills a store panicked")??,
            },
        }
    }
}

/// Imports so many messages and returns their numbers.
async fn import(
    store: &dyn Store,
    group: &str,
    count: u64,
    random: &mut fastrand::Rng,
) -> Result<Vec<MsgSeq>> {
    let mut seqs = Vec::new();
    while (seqs.len() as u64) < count {
        let messages = (seqs.len() as u64..count).map(|_| message(random)).collect();
        match commit(store, group, GroupAction::Import(messages)).await? {
            // A message is refused if a later second than its own was stored while it waited. It is sent again.
            Outcome::MessagesImported(sent) => {
                seqs.extend(sent.iter().flatten().filter_map(Sent::seq));
            }
            other => bail!("an import was answered {other:?}"),
        }
    }
    Ok(seqs)
}

async fn set_pairs(
    store: &dyn Store,
    group: &str,
    seq: MsgSeq,
    pairs: u32,
    random: &mut fastrand::Rng,
) -> Result<()> {
    for first in (0..pairs).step_by(PAIRS_PER_SET as usize) {
        let items = (first..pairs.min(first + PAIRS_PER_SET))
            .map(|key| Ok(((Key::new(&key_name(key))?, Value::new(&random_text(random))?), Claim::Unchecked)))
            .collect::<Result<_, sidenote_core::Malformed>>()
            .context("keys and values of the benchmark are sound")?;
        let items = Items::new(items).context("the pairs of the benchmark are sound")?;
        match commit(store, group, GroupAction::Extend(seq, Extend::Set(items))).await? {
            Outcome::Extended(extended)
                if extended.items.iter().all(|item| item.verdict == ItemVerdict::Accepted) => {}
            other => bail!("a set was answered {other:?}"),
        }
    }
    Ok(())
}

async fn commit(store: &dyn Store, group: &str, action: GroupAction) -> Result<Outcome> {
    let user = UserId::new("administrator").context("the name is sound")?;
    let (kind, platform) = (CallerKind::Administrator, Platform::RestApi);
    let operator = Operator { user, tiny_id: None, kind, platform, address: None };
    let group = ConversationId::group(AppId::new(APP), GroupId::new(group).context("the name is sound")?);
    let command = Command { operator, at: time_of_day()?, action: Action::Group(group, action) };
    let committed = store.commit(command).await.context("the store took no more")?;
    committed.verdict.map_err(|refusal| anyhow::anyhow!("the store refused: {refusal:?}"))
}

fn message(random: &mut fastrand::Rng) -> NewMessage {
    let text = format!("a message of a hundred bytes or so {} {}", random_text(random), random.u32(..));
    NewMessage {
        sender: UserId::new("ann").expect("the name is sound"),
        sender_tiny_id: TinyId::from_random(1),
        sender_is_administrator: false,
        random: random.u32(..),
        client_time: None,
        sent_at: None,
        priority: Priority::Normal,
        supports_extension: true,
        online_only: false,
        body: MessageBody {
            elements: format!("[{{\"MsgType\":\"TIMTextElem\",\"MsgContent\":{{\"Text\":\"{text}\"}}}}]"),
            ..MessageBody::default()
        },
        fingerprint: Fingerprint([0; 16]),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness stands in for the server, which gives commands their time"
)]
pub(crate) fn time_of_day() -> Result<Timestamp> {
    let since =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(Timestamp::from_millis(u64::try_from(since.as_millis()).context("the clock is far in the future")?))
}

impl Filled {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        float(self.messages) / self.time.as_secs_f64().max(1e-9)
    }
}
