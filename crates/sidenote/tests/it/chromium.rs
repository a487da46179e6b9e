//! Headless Chromium, driven over its `DevTools` protocol. `tests/stock-client/install.sh` installs it, and `make test` runs
//! that first. No name but this machine's leads anywhere.

use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use tungstenite::Message;
use tungstenite::protocol::WebSocket;

use crate::server::{PATIENCE, Process};

/// What it says about where its tools are.
const LISTENING: &str = "DevTools listening on ws://";

/// How long it may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// A browser with a profile of its own, which it takes with it.
pub(crate) struct Chromium {
    tools: WebSocket<TcpStream>,
    last_id: u64,
    // The process ends before its folder is removed.
    _process: Process,
    _profile: TempDir,
}

/// One window of it.
pub(crate) struct Window(String);

impl Chromium {
    pub(crate) fn is_installed() -> bool {
        Command::new("chromium").arg("--version").output().is_ok()
    }

    /// `None`, said aloud, where there is no Chromium.
    pub(crate) fn start(whose: &str) -> Option<Self> {
        if !Self::is_installed() {
            println!("skipped: {whose} needs chromium; run tests/stock-client/install.sh");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromium");
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            // A window behind another one is as quick as that.
            "--disable-background-timer-throttling",
            "--disable-backgrounding-occluded-windows",
            "--disable-renderer-backgrounding",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        let process = Process::spawn(&mut command);
        let line = process.wait_for(LISTENING);
        let (_, place) = line.split_once(LISTENING).unwrap();
        let stream = TcpStream::connect(place.split('/').next().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (tools, _) = tungstenite::client(format!("ws://{}", place.trim()), stream).unwrap();
        Some(Self { tools, last_id: 0, _process: process, _profile: profile })
    }

    /// Opens a window on a page.
    pub(crate) fn open(&mut self, url: &str) -> Window {
        let blank = json!({"url": "about:blank", "newWindow": true});
        let target = self.call(None, "Target.createTarget", &blank)["targetId"].take();
        let attach = json!({"targetId": target, "flatten": true});
        let session = self.call(None, "Target.attachToTarget", &attach);
        let window = Window(session["sessionId"].as_str().unwrap().to_owned());
        self.call(Some(&window), "Runtime.enable", &json!({}));
        let navigated = self.call(Some(&window), "Page.navigate", &json!({"url": url}));
        assert!(navigated["errorText"].is_null(), "{url}: {navigated}");
        window
    }

    /// What an expression is in the page.
    pub(crate) fn evaluate(&mut self, window: &Window, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.call(Some(window), "Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is this in the page.
    pub(crate) fn wait_until(&mut self, window: &Window, expression: &str, expected: &Value) {
        let begun = Instant::now();
        loop {
            let value = self.evaluate(window, expression);
            if value == *expected {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{expression} is {value} and not {expected}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Calls a method of the protocol. An error that no script of a page has caught ends the test.
    fn call(&mut self, window: Option<&Window>, method: &str, parameters: &Value) -> Value {
        self.last_id += 1;
        let mut request = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(Window(session)) = window {
            request["sessionId"] = json!(session);
        }
        self.tools.send(Message::text(request.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.tools.read().unwrap() else { continue };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            assert_ne!(message["method"], "Runtime.exceptionThrown", "{message}");
            if message["id"] == json!(self.last_id) {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It ends by itself then, with all its processes. Where it does not, it is killed.
        let close = json!({"id": 0, "method": "Browser.close"}).to_string();
        let _ = self.tools.get_ref().set_read_timeout(Some(FAREWELL));
        if self.tools.send(Message::text(close)).is_ok() {
            while self.tools.read().is_ok() {}
        }
    }
}
