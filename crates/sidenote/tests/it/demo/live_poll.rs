//! The page of the demo, in two windows of a browser.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Demo;
use crate::chromium::{Chromium, Window};

/// Who has voted for what, as a window shows it.
const VOTES: &str = "Object.fromEntries([...document.querySelectorAll('[data-option]')].map((option) => \
    [option.dataset.option, [...option.querySelectorAll('[data-name]')].map((face) => face.dataset.name)]))";

const STATE: &str = "document.documentElement?.dataset.state ?? ''";

fn click(chromium: &mut Chromium, window: &Window, option: &str) {
    chromium.evaluate(window, &format!("document.querySelector('[data-option={option:?}]').click()"));
}

fn votes(picnic: &[&str], museum: &[&str], home: &[&str]) -> Value {
    json!({"picnic": picnic, "museum": museum, "stay home": home})
}

#[test]
fn two_windows_vote_and_see_each_other() {
    let Some(mut chromium) = Chromium::start("the live poll") else { return };
    let home = TempDir::new().unwrap();
    let folder = home.path().join("kept");
    let data = ["--data", folder.to_str().unwrap()];
    let demo = Demo::start(&[["--listen", "127.0.0.1:0"], data].concat());
    let page = demo.live_poll().to_owned();

    // Each window has one of the two forms of the stream.
    let windows =
        ["ann&over=sse", "bob&over=websocket"].map(|who| chromium.open(&format!("{page}?user={who}")));
    let [ann, bob] = &windows;
    let both_see = |chromium: &mut Chromium, expression: &str, expected: &Value| {
        for window in &windows {
            chromium.wait_until(window, expression, expected);
        }
    };
    both_see(&mut chromium, STATE, &json!("live"));
    for window in &windows {
        chromium.evaluate(window, "window.isStillTheSame = true");
    }
    both_see(&mut chromium, VOTES, &votes(&[], &[], &[]));
    click(&mut chromium, ann, "picnic");
    both_see(&mut chromium, VOTES, &votes(&["ann"], &[], &[]));
    click(&mut chromium, bob, "museum");
    both_see(&mut chromium, VOTES, &votes(&["ann"], &["bob"], &[]));
    // Bob changes his mind, and ann takes her vote back.
    click(&mut chromium, bob, "picnic");
    both_see(&mut chromium, VOTES, &votes(&["ann", "bob"], &[], &[]));
    click(&mut chromium, ann, "picnic");
    both_see(&mut chromium, VOTES, &votes(&["bob"], &[], &[]));
    click(&mut chromium, ann, "stay home");
    both_see(&mut chromium, VOTES, &votes(&["bob"], &[], &["ann"]));

    // The server goes away and comes back, and so do the windows.
    demo.interrupt();
    both_see(&mut chromium, STATE, &json!("connecting"));
    let address = page.trim_start_matches("http://").trim_end_matches("/demo");
    let demo = Demo::start(&[["--listen", address], data].concat());
    both_see(&mut chromium, STATE, &json!("live"));
    click(&mut chromium, bob, "stay home");
    both_see(&mut chromium, VOTES, &votes(&[], &[], &["ann", "bob"]));
    both_see(&mut chromium, "window.isStillTheSame", &json!(true));

    // The first page shows two members side by side, also to whoever leaves out its path; one that comes late sees what is
    // there.
    let overview = chromium.open(page.trim_end_matches("demo"));
    let inside = |what: &str| {
        format!("[...document.querySelectorAll('iframe')].map(({{ contentDocument: document }}) => {what})")
    };
    chromium.wait_until(
        &overview,
        &inside("document?.documentElement?.dataset.state ?? ''"),
        &json!(["live", "live"]),
    );
    let late = votes(&[], &[], &["ann", "bob"]);
    chromium.wait_until(&overview, &inside(VOTES), &json!([late, late]));
    demo.interrupt();
}
