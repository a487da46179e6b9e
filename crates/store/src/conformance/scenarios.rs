//! Scenarios, each on a fresh store. A scenario's name is what must be true of every backend.

mod accounts;
mod callers;
mod debts;
mod direct;
mod events;
mod extensions;
mod groups;
mod messages;
mod outboxes;
mod races;

use std::sync::Arc;

use sidenote_core::Limits;
use sidenote_core::ids::AppId;

use super::world::World;
use crate::{Store, StoreError};

/// Runs a scenario on a store that the backend opens, and closes the store.
macro_rules! play {
    ($open:expr, $($scenario:path),* $(,)?) => {
        $(play!(@one $open, Limits::default(), $scenario);)*
    };
    (@one $open:expr, $limits:expr, $scenario:path) => {{
        let store = $open($limits).await;
        $scenario(World::new(Arc::clone(&store))).await;
        store.close().await;
    }};
}

/// The app that is told by webhook, where one is.
const TOLD: &[AppId] = &[AppId::new(1)];

pub(super) async fn run<O: AsyncFn(Limits) -> Arc<dyn Store>>(open: &O) {
    play!(
        open,
        accounts::import_makes_an_account_and_changes_only_what_is_given,
        accounts::an_account_deleted_and_imported_again_is_another_person,
        accounts::a_deleted_account_leaves_all_of_its_groups,
        callers::who_has_no_account_is_told_so_and_changes_nothing,
        callers::the_rules_learn_who_the_caller_is,
        callers::of_many_at_once_those_are_heard_who_are_somebody,
        groups::a_group_is_made_once_and_described,
        groups::members_see_their_groups_as_soon_as_they_joined,
        groups::a_refused_command_changes_nothing,
        groups::ownership_moves_to_a_member,
        groups::a_destroyed_group_is_gone_at_once_and_its_rows_soon,
        groups::a_group_made_again_shows_nothing_of_the_old_one,
        groups::two_apps_with_equal_names_see_nothing_of_each_other,
        messages::messages_are_numbered_and_kept,
        messages::a_body_comes_back_as_it_was_sent,
        messages::the_same_message_twice_is_one_for_five_minutes,
        messages::a_message_for_those_online_has_no_number,
        messages::a_recalled_message_is_gone_with_its_pairs,
        extensions::pairs_have_versions,
        extensions::keys_come_in_the_order_of_their_bytes,
        extensions::three_hundred_pairs_come_in_two_pages,
        extensions::attempts_are_counted_for_a_minute,
        events::events_are_numbered_without_gaps,
        events::events_of_a_compaction_share_a_commit,
        events::followers_are_told_of_every_event,
        events::old_events_are_trimmed,
        debts::what_is_owed_is_kept_until_it_is_paid,
        debts::debts_paid_twice_do_no_harm,
        debts::debts_paid_side_by_side_do_no_harm,
        debts::a_large_group_reaped_side_by_side_leaves_nobodys_list_as_it_was,
        debts::a_member_whose_account_was_deleted_meanwhile_does_not_stay,
        debts::news_of_joining_that_comes_late_leaves_no_line_behind,
        debts::a_debt_that_cannot_be_paid_stands_in_nobodys_way,
        direct::both_sides_change_the_pairs_of_a_message,
        direct::conversations_of_two_see_nothing_of_each_other,
        direct::a_recalled_letter_is_gone_with_its_pairs,
        direct::two_accounts_begin_anew_when_one_of_them_is_another_person,
        direct::letters_of_many_at_once_have_keys_of_their_own,
        races::one_of_many_writers_wins_each_round,
        races::writers_of_many_keys_all_win,
        races::clears_side_by_side_tell_each_pair_once,
        races::a_group_is_made_by_one_of_many,
        races::readers_see_no_half_request_and_no_step_back,
        a_closed_store_takes_no_command,
    );
    let few_events = Limits { events_kept: 5, ..Limits::default() };
    play!(@one open, few_events, events::a_cursor_too_old_is_told);
    let few_tombstones = Limits { tombstones_per_message: 2, ..Limits::default() };
    play!(@one open, few_tombstones, extensions::tombstones_are_compacted);
    let told = Limits { webhook_apps: TOLD, dead_letters_kept: 2, ..Limits::default() };
    play!(@one open, told, outboxes::what_is_left_to_tell_is_found_until_it_was_told);
    play!(@one open, told, outboxes::a_group_that_is_gone_is_told_to_its_end);
    play!(@one open, told, outboxes::dead_letters_are_kept_in_order_until_they_are_discarded);
}

async fn a_closed_store_takes_no_command(world: World) {
    world.create("room", &["ann"]).await;
    assert_eq!(world.store.health(), Ok(()));
    world.store.close().await;
    let import = sidenote_core::command::AccountAction::Delete;
    let action = sidenote_core::command::Action::Account(world.account_id("ann"), import);
    let refused = world.store.commit(world.command(action)).await;
    assert_eq!(refused.err(), Some(StoreError::Closed));
    assert_eq!(world.store.health(), Err(StoreError::Closed));
}
