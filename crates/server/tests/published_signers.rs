//! Tokens made at test time by the published signing packages are accepted (usersig.md section 2).
//!
//! `tests/signers/install.sh` at the root of the repository installs the packages into
//! `target/signers`, and `make test` runs it first. Without them a test says that it was skipped;
//! with `SIDENOTE_REQUIRE_SIGNERS=1`, which `make test` sets, it fails.

#![expect(clippy::unwrap_used, reason = "a test may unwrap; the lint does not see that these are tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use sidenote_server::auth::user_sig::{UserSigError, verify};
use sidenote_server::config::Secret;

const APP: u32 = 1_400_000_001;
const KEY: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f900112233445566778899aabbccddeeff0";

#[test]
fn tokens_of_the_npm_package_are_accepted() {
    if let Some(signer) = Signer::find("node", "sign.js", "NODE_PATH", "node/node_modules/tls-sig-api-v2") {
        accepts_tokens_of(&signer);
    }
}

#[test]
fn tokens_of_the_pypi_package_are_accepted() {
    if let Some(signer) = Signer::find("python3", "sign.py", "PYTHONPATH", "python/TLSSigAPIv2.py") {
        accepts_tokens_of(&signer);
    }
}

fn accepts_tokens_of(signer: &Signer) {
    for (identifier, expire_seconds, userbuf) in [
        ("administrator", 15_552_000, None),
        ("alice", 86_400, Some("abc")),
        ("Alice_in-Wonderland_0123456789ab", 600, Some("")),
        ("测试用户", 3600, Some("用户 + / = \"\\\u{1f600}")),
    ] {
        let before = unix_now();
        let token = signer.sign(identifier, expire_seconds, userbuf);
        let after = unix_now();
        let check = |app, user, key: &str, now| {
            verify(&token, app, user, &[Secret::new(key.to_owned()).unwrap()], now)
        };

        let expires_at = check(APP, identifier, KEY, after).expect(identifier).expires_at;
        assert!((before + expire_seconds..=after + expire_seconds).contains(&expires_at), "{identifier}");
        assert!(check(APP, identifier, KEY, expires_at).is_ok(), "{identifier}");

        assert_eq!(check(APP, identifier, KEY, expires_at + 1), Err(UserSigError::Expired));
        assert_eq!(check(APP + 1, identifier, KEY, after), Err(UserSigError::OtherApp));
        assert_eq!(check(APP, "bob", KEY, after), Err(UserSigError::OtherUser));
        assert_eq!(check(APP, identifier, "another key", after), Err(UserSigError::WrongKey));
    }
}

/// A published package, behind the small script that calls it.
struct Signer {
    interpreter: &'static str,
    script: PathBuf,
    search_path: (&'static str, PathBuf),
}

impl Signer {
    /// `None`, said aloud, if the package or its interpreter is not installed and may be missing.
    fn find(
        interpreter: &'static str,
        script: &str,
        search_variable: &'static str,
        package: &str,
    ) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let package = root.join("target/signers").join(package);
        let interpreter_runs = Command::new(interpreter).arg("--version").output().is_ok();
        if package.exists() && interpreter_runs {
            let search_path = (search_variable, package.parent().unwrap().to_owned());
            return Some(Self { interpreter, script: root.join("tests/signers").join(script), search_path });
        }
        let missing = format!("{interpreter} or {} is missing", package.display());
        assert!(!signers_are_required(), "{missing}; run tests/signers/install.sh");
        // Not `eprintln!`, whose output the test runner keeps to itself while the test passes.
        let line = format!("skipped: {missing}; run make test\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        None
    }

    fn sign(&self, identifier: &str, expire_seconds: u64, userbuf: Option<&str>) -> String {
        let (search_variable, search_path) = &self.search_path;
        let output = Command::new(self.interpreter)
            .env(search_variable, search_path)
            .arg(&self.script)
            .args([&APP.to_string(), KEY, identifier, &expire_seconds.to_string()])
            .args(userbuf)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} failed: {errors}", self.script.display());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test run, not configuration of the server")]
fn signers_are_required() -> bool {
    std::env::var("SIDENOTE_REQUIRE_SIGNERS").is_ok_and(|value| value == "1")
}

#[expect(clippy::disallowed_methods, reason = "the packages read the machine's clock, so the test does too")]
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
