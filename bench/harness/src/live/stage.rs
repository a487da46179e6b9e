//! The servers that tell, and the accounts and groups of the product's data.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::protocol::{Protocol, account};
use super::publisher::Way;
use crate::cases::Data;
use crate::dialect::post_head;
use crate::fill::{fill, fill_groups};
use crate::servers::{GROUP, Groups, MEMBER, Product, Reference, SERVICES, Server};
use crate::session::Session;
use crate::workload::{KEYS, Range};

/// Ways of being told that are compared.
pub(super) const TELLERS: u32 = 4;

/// Messages of the group in which all receivers are, for sets by a load.
pub(super) const MESSAGES: Range = Range { first: 1, messages: 10_000, stored_pairs: 0, keys: Some(KEYS) };

/// One more message there, for sets one by one.
const SOLO: Range = Range { first: MESSAGES.first + MESSAGES.messages, messages: 1, ..MESSAGES };

/// The small groups: receivers and messages of each, and by which numbers the workload calls these messages.
const SMALL_MEMBERS: u64 = 10;
const SMALL: Groups = Groups { first: 1_000_001, messages: 100, skipped: 0 };

/// Accounts and members of one request of the API.
const ACCOUNTS_PER_REQUEST: usize = 100;
const MEMBERS_PER_REQUEST: usize = 300;

/// Product, bare server and, if it is among the references, NATS, all of them paused.
pub(super) struct Stage {
    product: Product,
    sidenote: Server,
    bare: Server,
    nats: Option<Server>,
    /// The version of the pair that is set one by one, and the number of the next message to NATS.
    version: u32,
    pub(super) nats_next: u64,
    receivers: u64,
}

impl Stage {
    /// Stores the data and starts the servers.
    pub(super) fn set(session: &Session, bin: &Path, folder: &Path) -> Result<Self> {
        let receivers = session.settings.most_receivers();
        session.say(&format!("making {receivers} accounts and their groups"));
        let product = product(session, bin, &folder.join("product"), "");
        fill_product(&product, receivers, true)?;
        let (mut sidenote, _) = product.start("sidenote")?;
        sidenote.pause()?;
        let data = Data::new(session.settings.quick);
        let start = |reference: Reference| {
            let folder = folder.join(format!("{reference:?}").to_lowercase());
            std::fs::create_dir(&folder).context("cannot make a folder")?;
            let mut server = reference.start(bin, &folder, &data)?;
            server.pause()?;
            Ok::<_, anyhow::Error>(server)
        };
        let bare = start(Reference::Bare)?;
        let has_nats = session.settings.references.contains(&Reference::Nats);
        let nats = has_nats.then(|| start(Reference::Nats)).transpose()?;
        Ok(Self { product, sidenote, bare, nats, version: 0, nats_next: 1, receivers })
    }

    /// The ways of being told, with their names in the report. The product's come first.
    pub(super) fn tellers(&self) -> Vec<(&'static str, Protocol)> {
        tellers(self.nats.is_some())
    }

    /// Who tells in this way.
    pub(super) fn server(&mut self, protocol: Protocol) -> Result<&mut Server> {
        match protocol {
            Protocol::LongConnection | Protocol::Stream => Ok(&mut self.sidenote),
            Protocol::Broadcast => Ok(&mut self.bare),
            Protocol::Nats => self.nats.as_mut().context("there is no NATS here"),
        }
    }

    /// How one message at a time is published to those who are told in this way.
    pub(super) fn way(&self, protocol: Protocol) -> Result<Way> {
        Ok(match protocol {
            Protocol::LongConnection | Protocol::Stream => {
                solo(&self.product, self.sidenote.port(), self.version)?
            }
            Protocol::Broadcast => Way::Publish(post_head("/publish", self.bare.port(), "application/json")),
            Protocol::Nats => Way::Nats { next: self.nats_next },
        })
    }

    /// Remembers where a publisher stopped.
    pub(super) fn go_on_from(&mut self, way: &Way) {
        match way {
            Way::Set { version, .. } => self.version = *version,
            Way::Nats { next } => self.nats_next = *next,
            Way::Publish(_) => {}
        }
    }

    /// The product, asked for messages of the small groups.
    pub(super) fn small_groups(&self) -> Result<SmallGroups> {
        let groups = small_groups(self.receivers);
        Ok(SmallGroups {
            server: self.product.in_groups(&self.sidenote, "small groups", SMALL)?,
            range: Range { first: SMALL.first, messages: groups * SMALL.messages, ..MESSAGES },
            groups,
            members: SMALL_MEMBERS.min(self.receivers),
        })
    }

    /// Ends the servers.
    pub(super) fn strike(mut self) -> Result<()> {
        self.sidenote.stop()?;
        self.bare.stop()?;
        self.nats.as_mut().map_or(Ok(()), Server::stop)
    }
}

/// Groups of a few receivers each.
pub(super) struct SmallGroups {
    /// The server as it is asked for them.
    pub(super) server: Server,
    /// Their messages.
    pub(super) range: Range,
    /// How many there are.
    pub(super) groups: u64,
    /// How many are told of a set.
    pub(super) members: u64,
}

/// Sets of one pair, one by one, on a message that no load sets. The pair has this version.
pub(super) fn solo(product: &Product, port: u16, version: u32) -> Result<Way> {
    Ok(Way::Set { head: product.set_head(port)?, message: SOLO.first, version })
}

/// All ways of being told.
pub(super) fn tellers(with_nats: bool) -> Vec<(&'static str, Protocol)> {
    let nats = with_nats.then_some(("nats", Protocol::Nats));
    let all = [
        ("sidenote", Protocol::LongConnection),
        ("sidenote-stream", Protocol::Stream),
        ("bare", Protocol::Broadcast),
    ];
    all.into_iter().chain(nats).collect()
}

/// The product in a folder of its own, with room for more members than its default.
pub(super) fn product(session: &Session, bin: &Path, folder: &Path, more: &str) -> Product {
    Product::new(bin, folder, session.settings.cache_mib)
        .configured(&format!("members_per_group = 20000\n{more}"))
}

/// Makes the accounts, the group that all are in, its messages, and on demand the small groups: each receiver is in one.
pub(super) fn fill_product(product: &Product, receivers: u64, with_small_groups: bool) -> Result<()> {
    let accounts: Vec<String> =
        std::iter::once(MEMBER.to_owned()).chain((0..receivers).map(account)).collect();
    let mut requests: Vec<(String, Value)> = Vec::new();
    for names in accounts.chunks(ACCOUNTS_PER_REQUEST) {
        requests.push((format!("{}/multiaccount_import", SERVICES.0), json!({"Accounts": names})));
    }
    requests.push(create_group(GROUP, &[]));
    for names in accounts.chunks(MEMBERS_PER_REQUEST) {
        let body = json!({"GroupId": GROUP, "MemberList": members(names)});
        requests.push((format!("{}/import_group_member", SERVICES.1), body));
    }
    let mut groups = Vec::new();
    if with_small_groups {
        for number in 0..small_groups(receivers) {
            let group = Groups::name(number);
            // The receivers of a thread are every so many of them, so a group is one of neighbours.
            let its = (number * SMALL_MEMBERS..receivers).take(usize::try_from(SMALL_MEMBERS).unwrap_or(1));
            let its: Vec<String> = std::iter::once(MEMBER.to_owned()).chain(its.map(account)).collect();
            requests.push(create_group(&group, &its));
            groups.push(group);
        }
    }
    product.prepare(&requests)?;
    fill(&product.store(), &[MESSAGES, SOLO], &|_| ()).context("cannot store the messages")?;
    fill_groups(&product.store(), &groups, SMALL.messages).context("cannot store the messages of the groups")
}

/// Groups of ten. The last receivers are in none if their number is no multiple of that.
fn small_groups(receivers: u64) -> u64 {
    (receivers / SMALL_MEMBERS).max(1)
}

fn create_group(group: &str, names: &[String]) -> (String, Value) {
    let mut body = json!({"Type": "Public", "Name": group, "GroupId": group});
    if !names.is_empty() {
        body["MemberList"] = members(names);
    }
    (format!("{}/create_group", SERVICES.1), body)
}

fn members(names: &[String]) -> Value {
    names.iter().map(|name| json!({"Member_Account": name})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap() {
        const { assert!(SOLO.first >= MESSAGES.first + MESSAGES.messages) };
        const { assert!(SMALL.first > SOLO.first) };
    }

    #[test]
    fn every_small_group_is_full() {
        for (receivers, groups) in [(1, 1), (9, 1), (10, 1), (19, 1), (100, 10), (1000, 100)] {
            assert_eq!(small_groups(receivers), groups);
        }
    }
}
