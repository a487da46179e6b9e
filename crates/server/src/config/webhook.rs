//! `[apps.webhook]`: whom an app tells what happens.

use std::time::Duration;

use super::raw;
use super::resolve::{MAX_TIMEOUT_MS, number, or_off, secret, secret_of_file};
use super::sources::{ConfigError, Sources};
use super::{Secret, Webhook};
use crate::webhooks::{Callback, Network, ReceiverUrl};

/// Networks that are looked through for every connection.
const MAX_NETWORKS: usize = 64;

/// The section at `at`, written as in `apps[0].webhook`; `None` if it is not there.
pub(super) fn resolve(
    sources: &Sources,
    at: &str,
    raw: &raw::Webhook,
) -> Result<Option<Webhook>, ConfigError> {
    let Some(url) = &raw.url else {
        if *raw == raw::Webhook::default() {
            return Ok(None);
        }
        return Err(sources
            .wrong(at, "there is no url; say where the webhooks are to be sent, or take the rest away"));
    };
    let wrong = |name: &str, problem: &dyn std::fmt::Display| sources.wrong(&format!("{at}.{name}"), problem);
    let url: ReceiverUrl = url.parse().map_err(|error| wrong("url", &error))?;
    if raw.ca_file.is_some() && !url.is_https() {
        return Err(wrong("ca_file", &"certificates are only checked where url begins with \"https://\""));
    }
    let millis = |name: &str, value, least| {
        number(sources, &format!("{at}.{name}"), value, least..=MAX_TIMEOUT_MS).map(Duration::from_millis)
    };
    let retry_first = millis("retry_first_ms", raw.retry_first_ms, 10)?;
    let retry_longest = millis("retry_longest_ms", raw.retry_longest_ms, 10)?;
    if retry_longest < retry_first {
        return Err(wrong("retry_longest_ms", &"it is less than retry_first_ms"));
    }
    let hours: u64 = number(sources, &format!("{at}.give_up_hours"), raw.give_up_hours, 1..=8760)?;
    let tries = number(sources, &format!("{at}.give_up_tries"), raw.give_up_tries, 0..=1_000_000)?;
    Ok(Some(Webhook {
        url,
        token: token(sources, at, raw)?,
        commands: commands(sources, at, raw)?,
        details: raw.details,
        allow_networks: networks(sources, at, raw)?,
        ca_file: raw.ca_file.as_ref().map(Into::into),
        timeout: millis("timeout_ms", raw.timeout_ms, 10)?,
        parallel: number(sources, &format!("{at}.parallel"), raw.parallel, 1..=256)?,
        retry_first,
        retry_longest,
        give_up_tries: or_off(tries),
        give_up: Duration::from_secs(hours * 3600),
        refuses_unasked: match raw.before_failure.as_str() {
            "go on" => false,
            "refuse" => true,
            other => {
                let problem = format!("there is no verdict called {other:?}; use \"go on\" or \"refuse\"");
                return Err(wrong("before_failure", &problem));
            }
        },
    }))
}

fn token(sources: &Sources, at: &str, raw: &raw::Webhook) -> Result<Option<Secret>, ConfigError> {
    match (&raw.token, &raw.token_file) {
        (None, None) => Ok(None),
        (Some(text), None) => secret(sources, &format!("{at}.token"), text.clone()).map(Some),
        (None, Some(path)) => secret_of_file(sources, &format!("{at}.token_file"), path).map(Some),
        (Some(_), Some(_)) => {
            Err(sources.wrong(&format!("{at}.token_file"), "token is given too; keep one of the two"))
        }
    }
}

/// Those that are named; by default everything that is told and nothing that is asked.
fn commands(sources: &Sources, at: &str, raw: &raw::Webhook) -> Result<Vec<Callback>, ConfigError> {
    let Some(names) = &raw.commands else {
        return Ok(Callback::ALL.iter().copied().filter(|callback| !callback.asks()).collect());
    };
    let key = format!("{at}.commands");
    if names.is_empty() {
        return Err(
            sources.wrong(&key, "the list is empty; name a webhook, or leave it out for all that tell")
        );
    }
    let mut commands = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let Some(callback) = Callback::named(name) else {
            let known: Vec<_> = Callback::ALL.iter().map(|callback| callback.command()).collect();
            let problem = format!("there is no webhook called {name:?}; known: {}", known.join(", "));
            return Err(sources.wrong(&format!("{key}[{index}]"), problem));
        };
        if commands.contains(&callback) {
            return Err(sources.wrong(&format!("{key}[{index}]"), format!("{name} is named twice")));
        }
        commands.push(callback);
    }
    Ok(commands)
}

fn networks(sources: &Sources, at: &str, raw: &raw::Webhook) -> Result<Vec<Network>, ConfigError> {
    let key = format!("{at}.allow_networks");
    if raw.allow_networks.len() > MAX_NETWORKS {
        return Err(sources.wrong(&key, format!("more than {MAX_NETWORKS} networks; name larger ones")));
    }
    let parse = |(index, text): (usize, &String)| {
        text.parse().map_err(|error| sources.wrong(&format!("{key}[{index}]"), error))
    };
    raw.allow_networks.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::Config;
    use crate::webhooks::Callback;

    fn resolve(webhook: &str) -> Result<Option<super::Webhook>, String> {
        let text = format!("[[apps]]\nsdk_app_id = 1\nsecret_key = \"k\"\n[apps.webhook]\n{webhook}\n");
        let mut config = Config::from_toml(&text).map_err(|error| error.to_string())?;
        Ok(config.apps.remove(0).webhook)
    }

    #[test]
    fn an_app_without_the_section_tells_nobody() {
        assert!(resolve("").unwrap().is_none());
    }

    #[test]
    fn a_url_is_enough() {
        let webhook = resolve("url = \"https://example.com/cb\"").unwrap().unwrap();
        assert!(webhook.commands.iter().all(|callback| !callback.asks()));
        assert!(webhook.commands.contains(&Callback::AfterGroupMsgExtension));
        assert_eq!((webhook.timeout, webhook.parallel), (Duration::from_secs(2), 8));
        assert_eq!(
            (webhook.give_up_tries, webhook.details, webhook.refuses_unasked),
            (Some(50), false, false)
        );
    }

    #[test]
    fn a_token_does_not_print() {
        let webhook = resolve("url = \"http://example.com/hunter2\"\ntoken = \"hunter2\"").unwrap();
        let token = webhook.unwrap().token.unwrap();
        assert_eq!((token.expose(), format!("{token:?}")), (&b"hunter2"[..], "Secret(****)".to_owned()));
    }

    #[test]
    fn a_mistake_is_told_with_what_to_do() {
        let url = "url = \"http://example.com/hunter2\"";
        for (text, problem) in [
            ("details = true", "4: apps[0].webhook: there is no url; say where the webhooks are to be sent"),
            ("url = \"example.com\"", "5: apps[0].webhook.url: it must begin with \"https://\""),
            ("url = \"https://a:hunter2@b/\"", "5: apps[0].webhook.url: it must not hold a user name"),
            (&format!("{url}\ncommands = []"), "6: apps[0].webhook.commands: the list is empty"),
            (
                &format!("{url}\ncommands = [\"Group.CallbackAfterSend\"]"),
                "6: apps[0].webhook.commands[0]: there is no webhook called \"Group.CallbackAfterSend\"; known: Group.",
            ),
            (
                &format!(
                    "{url}\ncommands = [\"Group.CallbackAfterSendMsg\", \"Group.CallbackAfterSendMsg\"]"
                ),
                "6: apps[0].webhook.commands[1]: Group.CallbackAfterSendMsg is named twice",
            ),
            (
                &format!("{url}\nallow_networks = [\"10.0.0.1/8\"]"),
                "6: apps[0].webhook.allow_networks[0]: its address has bits beyond its length; write 10.0.0.0/8",
            ),
            (
                &format!("{url}\nca_file = \"ca.pem\""),
                "6: apps[0].webhook.ca_file: certificates are only checked",
            ),
            (&format!("{url}\ntoken = \"\""), "6: apps[0].webhook.token: the secret is empty"),
            (
                &format!("{url}\ntoken = \"hunter2\"\ntoken_file = \"t\""),
                "7: apps[0].webhook.token_file: token is given too",
            ),
            (
                &format!("{url}\ntimeout_ms = 0"),
                "6: apps[0].webhook.timeout_ms: 0 is too small; the least is 10",
            ),
            (
                &format!("{url}\nparallel = 257"),
                "6: apps[0].webhook.parallel: 257 is too large; the most is 256",
            ),
            (
                &format!("{url}\nretry_first_ms = 100\nretry_longest_ms = 99"),
                "7: apps[0].webhook.retry_longest_ms: it is less than retry_first_ms",
            ),
            (
                &format!("{url}\nbefore_failure = \"no\""),
                "6: apps[0].webhook.before_failure: there is no verdict called \"no\"; use \"go on\" or \"refuse\"",
            ),
        ] {
            let said = resolve(text).unwrap_err();
            assert!(said.contains(&format!("the configuration:{problem}")), "{text}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
