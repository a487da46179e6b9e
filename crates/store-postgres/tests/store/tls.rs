//! Connections with TLS: the server has to prove who it is.

use std::path::PathBuf;

use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::Store;
use sidenote_store_postgres::{OpenError, PostgresOptions, PostgresStore};

use crate::scene::{found, latest, open, options, unlimited};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_proves_who_it_is() {
    let [ours, others] = [(); 2].map(|()| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    });
    let settings = Settings { certificate: ours.clone(), ..Settings::default() };
    let Some(postgres) = Postgres::start_or_skip("a_server_proves_who_it_is", settings) else { return };
    let dsn = postgres.new_schema().replace("sslmode=disable", "sslmode=require");
    let folder = tempfile::tempdir().unwrap();
    let trusting = |name: &str, pem: &str| {
        let path: PathBuf = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        PostgresOptions { root_certificates: Some(path), ..options(&dsn) }
    };

    let store = open(trusting("ours.pem", &ours.0)).await;
    found(&store, "room").await;
    assert_eq!(latest(&store, "room").await, 2);
    let with_tls = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                    WHERE application_name = 'sidenote'";
    assert_eq!(postgres.psql("postgres", with_tls).trim(), "t");
    store.close().await;

    for options in [trusting("others.pem", &others.0), options(&dsn)] {
        let refused = PostgresStore::open(options, unlimited()).await.err().unwrap();
        assert!(matches!(refused, OpenError::Unreachable { .. }), "{refused}");
    }
}
