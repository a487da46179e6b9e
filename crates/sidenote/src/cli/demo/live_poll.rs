//! The page of the demo: a live poll in plain JavaScript, each browser window a member of the group.

use serde_json::json;
use sidenote_server::Page;
use sidenote_server::auth::user_sig;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::App;

use super::seed::{GROUP, LIVE_POLL, LIVE_POLL_OPTIONS, LIVE_POLL_TITLE, MEMBERS};
use super::transcript::TICKET_SECONDS;

/// Where it is served.
pub(super) const PATH: &str = "/demo";

/// Stands in the page for what it has to know.
const PLACE: &str = "/*DEMO*/null";

/// The page with tickets for the members, where its address is told and where a browser looks first. The tickets are valid for a day, and for this throw-away app alone.
pub(super) fn pages(app: &App) -> Vec<Page> {
    let now = SystemClock.now_millis() / 1000;
    let ticket = |user: &&str| user_sig::sign(app.sdk_app_id, &app.keys[0], user, now, TICKET_SECONDS, None);
    let users: serde_json::Map<_, _> =
        MEMBERS.iter().map(|user| ((*user).to_owned(), ticket(user).into())).collect();
    let demo = json!({
        "app": app.sdk_app_id, "group": GROUP, "message": LIVE_POLL, "title": LIVE_POLL_TITLE,
        "options": LIVE_POLL_OPTIONS, "users": users,
    });
    // Nothing in it can end the script: names and options are ours, and tickets are letters, digits and few signs.
    let html = include_str!("live_poll.html").replacen(PLACE, &demo.to_string(), 1);
    [PATH, "/"].map(|path| Page { path, html: html.clone().into() }).into()
}
