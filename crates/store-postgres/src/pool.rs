//! A bounded number of sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use deadpool::managed::{
    Manager, Metrics, Pool as Sessions, PoolError, RecycleError, RecycleResult, TimeoutType,
};
use deadpool::{Runtime, managed};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sidenote_store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address;
use crate::error::OpenError;
use crate::hosts::{self, Newest};
use crate::options::PostgresOptions;
use crate::session::{Fault, Piece, Session, Traffic};

/// How long bytes may go unconfirmed at most before the other machine counts as gone.
const MOST_UNCONFIRMED: Duration = Duration::from_mins(1);

/// A session that goes back to the pool when it is dropped, if somebody else can use it; and the place of one who writes.
pub(crate) struct Borrowed(Option<managed::Object<Connector>>, Option<OwnedSemaphorePermit>);

const HELD: &str = "it is taken away only when this is dropped";

impl std::ops::Deref for Borrowed {
    type Target = Member;

    fn deref(&self) -> &Member {
        self.0.as_ref().expect(HELD)
    }
}

impl std::ops::DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Member {
        self.0.as_mut().expect(HELD)
    }
}

impl Drop for Borrowed {
    /// One that is not clean is hung up at once: as long as it lay in the pool, its transaction would hold its locks.
    fn drop(&mut self) {
        if let Some(member) = self.0.take()
            && !member.session.is_clean()
        {
            drop(managed::Object::take(member));
        }
    }
}

pub(crate) struct Pool {
    sessions: Sessions<Connector>,
    /// Places for those who write. Commits that wait for a standby would otherwise hold every session, and questions wait too.
    writers: Arc<Semaphore>,
    writers_wait: Duration,
    traffic: Arc<Traffic>,
}

/// Makes connections.
pub(crate) struct Connector {
    /// One for each host of the DSN.
    hosts: Vec<Config>,
    /// The host that took writes last.
    last: AtomicUsize,
    newest: Newest,
    tls: MakeRustlsConnect,
    options: PostgresOptions,
    traffic: Arc<Traffic>,
    /// How often connections were lost. Those that are older than the last loss are looked at with suspicion.
    losses: AtomicU64,
}

/// A session and how many losses there had been when it was made.
pub(crate) struct Member {
    pub(crate) session: Session,
    made_after: u64,
}

impl Pool {
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self, OpenError> {
        let mut config: Config =
            options.dsn.parse().map_err(|error| address::refused(&options.dsn, describe(&error)))?;
        let wrong = |reason| OpenError::Dsn { reason, unknown_option: None };
        address::check(&options.dsn).map_err(wrong)?;
        config.connect_timeout(options.connect_timeout);
        // Where a statement may take an hour, a machine that is gone is noticed all the same: what is confirmed here is that
        // bytes arrived.
        config.tcp_user_timeout(options.answer_timeout().min(MOST_UNCONFIRMED));
        // Two hours unless the DSN says otherwise: too long for a connection on which an answer is waited for without a limit.
        if config.get_keepalives_idle() == Duration::from_hours(2) {
            config.keepalives_idle(Duration::from_secs(30));
        }
        if config.get_application_name().is_none() {
            config.application_name("sidenote");
        }
        let hosts = hosts::each(&config).map_err(wrong)?;
        let tls = MakeRustlsConnect::new(tls_config(options)?);
        let traffic = Arc::<Traffic>::default();
        let connector = Connector {
            hosts,
            last: AtomicUsize::new(0),
            newest: Newest::default(),
            tls,
            options: options.clone(),
            traffic: Arc::clone(&traffic),
            losses: AtomicU64::new(0),
        };
        let sessions = Sessions::builder(connector)
            .max_size(options.connections.max(1))
            .wait_timeout(Some(options.pool_wait))
            .create_timeout(Some(options.create_timeout()))
            .recycle_timeout(Some(options.answer_timeout()))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let writers = Arc::new(Semaphore::new(options.most_writing()));
        Ok(Self { sessions, writers, writers_wait: options.pool_wait, traffic })
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// A session for whoever writes, as soon as one is free that is not kept for questions.
    pub(crate) async fn get_to_write(&self) -> Result<Borrowed, StoreError> {
        let place = Arc::clone(&self.writers).acquire_owned();
        let place = tokio::time::timeout(self.writers_wait, place).await.map_err(|_| StoreError::Busy {
            reason: "all connections to the database that may write are in use".to_owned(),
        })?;
        let mut borrowed = self.get().await?;
        borrowed.1 = Some(place.map_err(|_| StoreError::Closed)?);
        Ok(borrowed)
    }

    /// A session, as soon as one is free.
    pub(crate) async fn get(&self) -> Result<Borrowed, StoreError> {
        self.sessions.get().await.map(|member| Borrowed(Some(member), None)).map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => {
                StoreError::Busy { reason: "all connections to the database are in use".to_owned() }
            }
            PoolError::Closed => StoreError::Closed,
            PoolError::Backend(fault) => {
                StoreError::Busy { reason: format!("the database can't be reached: {fault}") }
            }
            other => StoreError::Busy { reason: format!("the database can't be reached: {other}") },
        })
    }

    /// A session beside the pool, which counts nothing.
    pub(crate) async fn connect_alone(&self) -> Result<Session, OpenError> {
        let made = self.sessions.manager().connect(Arc::default()).await;
        made.map_err(|fault| match fault {
            Fault::Lost(reason) => OpenError::Unreachable { reason },
            refused @ Fault::Refused(_) => OpenError::Unreachable { reason: refused.to_string() },
        })
    }

    /// The same for statements that may take as long as they like.
    pub(crate) async fn connect_patiently(&self) -> Result<Session, Fault> {
        let mut session = self.sessions.manager().connect(Arc::default()).await?;
        let pieces = vec![Piece::Plain("SET statement_timeout = 0".into())];
        session.flush(pieces).await?.into_iter().try_for_each(|answer| answer.map(drop))?;
        // Not before: a server that falls silent here would never be given up.
        session.wait_for_ever();
        Ok(session)
    }

    /// How often connections were lost.
    pub(crate) fn losses(&self) -> u64 {
        self.sessions.manager().losses.load(Ordering::Relaxed)
    }

    /// A connection was lost: those that wait in the pool may have gone the same way.
    pub(crate) fn suspect_all(&self) {
        self.sessions.manager().losses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.sessions.close();
    }
}

impl Connector {
    /// A connection to the host that takes writes. They are tried beginning with the one that did last, each next one also
    /// when the one before keeps silent.
    async fn connect(&self, traffic: Arc<Traffic>) -> Result<Session, Fault> {
        let first = self.last.load(Ordering::Relaxed);
        let in_order = (0..self.hosts.len()).map(|number| (first + number) % self.hosts.len());
        let tries = in_order.map(|number| (number, self.connect_to(&self.hosts[number], &traffic)));
        let (number, session) = hosts::first_of(tries.collect()).await?;
        self.last.store(number, Ordering::Relaxed);
        Ok(session)
    }

    async fn connect_to(&self, host: &Config, traffic: &Arc<Traffic>) -> Result<Session, Fault> {
        let patience = self.options.connect_timeout * 2;
        let connecting = async {
            let (client, connection) = host.connect(self.tls.clone()).await?;
            let traffic = Arc::clone(traffic);
            let mut session = Session::new(client, connection, traffic, self.options.answer_timeout());
            self.set_up(&mut session).await?;
            Ok(session)
        };
        let silent = |_| Fault::Lost(format!("no connection within {patience:?}"));
        tokio::time::timeout(patience, connecting).await.map_err(silent)?
    }

    async fn set_up(&self, session: &mut Session) -> Result<(), Fault> {
        let PostgresOptions { statement_timeout, lock_timeout, .. } = self.options;
        let idle_timeout = self.options.answer_timeout() + self.options.lock_timeout;
        let needed = format!(
            "SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}",
            statement_timeout.as_millis(),
            lock_timeout.as_millis(),
            idle_timeout.as_millis(),
        );
        // Every statement finds its rows by a key, so one plan for all parameters is as good as any, and planning
        // costs more than carrying out. Databases that speak the same protocol may not know these.
        let wished = [
            "SET plan_cache_mode = force_generic_plan",
            "SET enable_seqscan = off",
            "SET jit = off",
            "SET client_min_messages = warning",
        ];
        let mut pieces = vec![Piece::Plain(needed.into())];
        pieces.extend(wished.map(|sql| Piece::Plain(sql.into())));
        let answers = session.flush(pieces).await?;
        if let Some(Err(fault)) = answers.into_iter().next() {
            return Err(fault);
        }
        if let Some(history) = hosts::history(session).await?
            && self.newest.admit(&history)?
        {
            // Whoever is connected to the primary before must not be answered by it any more.
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Manager for Connector {
    type Type = Member;
    type Error = Fault;

    async fn create(&self) -> Result<Member, Fault> {
        let made_after = self.losses.load(Ordering::Relaxed);
        let session = self.connect(Arc::clone(&self.traffic)).await?;
        Ok(Member { session, made_after })
    }

    async fn recycle(&self, member: &mut Member, _: &Metrics) -> RecycleResult<Fault> {
        let is_suspect = member.made_after < self.losses.load(Ordering::Relaxed);
        if is_suspect || !member.session.is_clean() || member.session.notice_end().await {
            return Err(RecycleError::message("the connection is not used again"));
        }
        Ok(())
    }
}

/// Which servers are trusted. Whether TLS is used at all is what the DSN's `sslmode` says.
fn tls_config(options: &PostgresOptions) -> Result<rustls::ClientConfig, OpenError> {
    let mut roots = RootCertStore::empty();
    match &options.root_certificates {
        Some(path) => {
            let wrong = |reason: String| OpenError::Certificates { path: path.clone(), reason };
            let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("it holds no certificate".to_owned()));
            }
        }
        None => {
            // Without any, connections with TLS are refused and others work.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions that this library was built with");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn describe(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that lets everybody in, does nothing of what it is asked, and says no more once it is asked for this.
    async fn silent_when_asked_for(listener: TcpListener, silent: &str) {
        const READY: &[u8] = b"Z\0\0\0\x05I";
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = [0; 4];
        client.read_exact(&mut head).await.unwrap();
        client.read_exact(&mut vec![0; u32::from_be_bytes(head) as usize - 4]).await.unwrap();
        client.write_all(&[b"R\0\0\0\x08\0\0\0\0", READY].concat()).await.unwrap();
        while client.read_u8().await.is_ok() {
            client.read_exact(&mut head).await.unwrap();
            let mut asked = vec![0; u32::from_be_bytes(head) as usize - 4];
            client.read_exact(&mut asked).await.unwrap();
            if String::from_utf8_lossy(&asked).contains(silent) {
                std::future::pending::<()>().await;
            }
            client.write_all(&[b"C\0\0\0\x08SET\0", READY].concat()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_while_it_is_connected_to_holds_nobody_for_ever() {
        for last in ["SET lock_timeout", "SET statement_timeout = 0"] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let options = PostgresOptions {
                statement_timeout: Duration::from_millis(100),
                connect_timeout: Duration::from_secs(1),
                ..PostgresOptions::new(format!("postgres://ann@127.0.0.1:{port}/x?sslmode=disable"))
            };
            let pool = Pool::new(&options).unwrap();
            let patience = Duration::from_secs(20);
            let given_up = tokio::select! {
                () = silent_when_asked_for(listener, last) => unreachable!("it is silent for ever"),
                made = tokio::time::timeout(patience, pool.connect_patiently()) => made,
            };
            assert!(matches!(given_up, Ok(Err(Fault::Lost(_)))), "{last}");
        }
    }
}
