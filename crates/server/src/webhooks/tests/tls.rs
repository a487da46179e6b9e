//! Receivers over TLS: who is told, and who is not because nobody vouches for it.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Somebody who vouches for others.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A receiver by that name, with whatever else is to be in its certificate.
    async fn receiver(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Script {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Script::over_tls(acceptor(certificate.into(), &key)).await
    }

    /// The file that names this authority.
    fn file(&self, folder: &TempDir) -> String {
        let path = folder.path().join("authority.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(server))
}

/// An app that tells this receiver by that name, and gives up at the first failure.
async fn scene(script: &Script, host: &str, ca_file: &str) -> Scene {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(limits()));
    let url = format!("https://{host}:{}/cb?x=1", script.port());
    let more = format!("{LOOPBACK}\nca_file = {ca_file:?}\ngive_up_tries = 1\ntimeout_ms = 10000");
    let scene = Scene::over(store, config(&url, &more)).await;
    scene.poll("room").await;
    scene
}

/// Why nothing was told.
async fn reason(scene: &Scene) -> String {
    until("it is given up", async || scene.letters().page(APP, None, 10).await.unwrap().len() == 2).await;
    let page = scene.letters().page(APP, None, 10).await.unwrap();
    scene.stop().await;
    // The reason may name the second at which it was found.
    let reasons: Vec<_> = page.iter().map(|kept| kept.letter.reason.clone()).collect();
    let without_time = |reason: &str| reason.replace(|one: char| one.is_ascii_digit(), "");
    assert_eq!(without_time(&reasons[0]), without_time(&reasons[1]));
    reasons[0].clone()
}

#[tokio::test]
async fn a_receiver_that_somebody_vouches_for_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("the authority");
    for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
        let script = authority.receiver(name, |_| {}).await;
        let scene = scene(&script, host, &authority.file(&folder)).await;
        scene.set_often("room", 5).await;
        until("it is told", async || scene.outboxes().await == 0).await;
        scene.stop().await;
        assert_eq!(seqs(&script.got(), "room"), [1, 2, 3, 4, 5]);
        assert_eq!(script.got()[0].headers["host"], format!("{host}:{}", script.port()));
        // A handshake is made once.
        assert_eq!(script.connections(), 1);
    }
}

#[tokio::test]
async fn a_receiver_may_vouch_for_itself_if_the_operator_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = folder.path().join("own.pem");
    std::fs::write(&file, own.cert.pem()).unwrap();
    let script = Script::over_tls(acceptor(own.cert.into(), &own.signing_key)).await;
    let scene = scene(&script, "localhost", file.to_str().unwrap()).await;
    until("it is told", async || script.got().len() == 2).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_receiver_that_nobody_vouches_for_is_not_told_and_the_letter_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("the authority"), Authority::new("another one"));
    let as_it_is = |_: &mut CertificateParams| {};
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    for (script, host, why) in [
        (other.receiver("localhost", as_it_is).await, "localhost", "UnknownIssuer; if it is"),
        (authority.receiver("elsewhere.example", as_it_is).await, "localhost", "not valid for name"),
        (authority.receiver("localhost", as_it_is).await, "127.0.0.1", "not valid for name"),
        (authority.receiver("localhost", expired).await, "localhost", "certificate expired"),
        (authority.receiver("localhost", future).await, "localhost", "certificate not valid yet"),
    ] {
        let scene = scene(&script, host, &authority.file(&folder)).await;
        let reason = reason(&scene).await;
        assert!(reason.starts_with("no secure connection: "), "{reason}");
        assert!(reason.contains(why), "{why}: {reason}");
        assert!(script.connections() > 0 && script.got().is_empty(), "{why}");
    }
}

#[tokio::test]
async fn a_receiver_without_tls_is_told_nothing_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let file = Authority::new("the authority").file(&folder);
    // One that speaks HTTP alone, which takes the handshake for a request that never ends, and one that says no.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tasks = Tasks::new();
    let refuse = |_| async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The caller may have gone by then.
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    };
    tasks.spawn("receiver", refuse).unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(limits()));
    let more = format!("{LOOPBACK}\nca_file = {file:?}\ngive_up_tries = 1\ntimeout_ms = 10000");
    let plain = Scene::over(store, config(&format!("https://localhost:{port}"), &more)).await;
    plain.poll("room").await;
    let said = reason(&plain).await;
    assert!(said.starts_with("no secure connection: "), "{said}");

    let silent = Script::ok().await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(limits()));
    let impatient = more.replace("10000", "300");
    let url = format!("https://localhost:{}", silent.port());
    let waiting = Scene::over(store, config(&url, &impatient)).await;
    waiting.poll("room").await;
    assert_eq!(reason(&waiting).await, "no answer within 300 ms");
    assert!(silent.connections() > 0 && silent.got().is_empty());
}

#[tokio::test]
async fn a_file_of_authorities_that_says_nothing_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authority.pem");
    let refused = |path: &Path| {
        let config = config("https://localhost", &format!("ca_file = {:?}", path.to_str().unwrap()));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(limits()));
        Webhooks::new(&config, &store, &clock()).map(drop).unwrap_err().to_string()
    };
    let begin = format!("webhook of app {APP}: {}: ", path.display());
    assert!(refused(&path).starts_with(&format!("{begin}cannot read the file: ")));
    for (text, why) in [
        ("", "there is no certificate in the file"),
        ("hello", "there is no certificate in the file"),
        (&KeyPair::generate().unwrap().serialize_pem(), "there is no certificate in the file"),
        ("-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n", "not a PEM file: "),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate cannot be used: "),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "not a PEM file: "),
    ] {
        std::fs::write(&path, text).unwrap();
        let said = refused(&path);
        assert!(said.starts_with(&format!("{begin}{why}")), "{text:?}: {said}");
    }
}
