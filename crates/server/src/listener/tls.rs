//! TLS 1.2 and 1.3 with the configured certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config;

/// A certificate and its key, read and found to fit.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// What is wrong with a certificate or its key. It never shows what is in the files.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct TlsError {
    path: PathBuf,
    problem: String,
}

impl Tls {
    /// Reads the files.
    pub fn load(files: &config::Tls) -> Result<Self, TlsError> {
        let text = read(&files.certificate)?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(&files.certificate, format!("not a PEM file: {error}")))?;
        if certificates.is_empty() {
            return Err(wrong(&files.certificate, "there is no certificate in the file".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|error| {
            let problem = match error {
                pem::Error::NoItemsFound => "there is no private key in the file".to_owned(),
                error => format!("not a PEM file: {error}"),
            };
            wrong(&files.key, problem)
        })?;
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has what TLS 1.2 and 1.3 need")
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|error| {
                wrong(&files.key, format!("does not fit {}: {error}", files.certificate.display()))
            })?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(server))))
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.0
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| wrong(path, format!("cannot read the file: {error}")))
}

fn wrong(path: &Path, problem: String) -> TlsError {
    TlsError { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let one = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(path("cert.pem"), one.cert.pem()).unwrap();
        std::fs::write(path("key.pem"), one.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("other.pem"), other.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("empty.pem"), "").unwrap();
        std::fs::write(path("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();

        let load = |certificate: &str, key: &str| {
            Tls::load(&config::Tls { certificate: path(certificate), key: path(key) })
        };
        assert!(load("cert.pem", "key.pem").is_ok());
        for (certificate, key, blamed, problem) in [
            ("none.pem", "key.pem", "none.pem", "cannot read the file: No such file"),
            ("cert.pem", "none.pem", "none.pem", "cannot read the file: No such file"),
            ("empty.pem", "key.pem", "empty.pem", "there is no certificate in the file"),
            ("cut.pem", "key.pem", "cut.pem", "not a PEM file: "),
            ("key.pem", "key.pem", "key.pem", "there is no certificate in the file"),
            ("cert.pem", "cert.pem", "cert.pem", "there is no private key in the file"),
            ("cert.pem", "other.pem", "other.pem", "does not fit "),
        ] {
            let message = load(certificate, key).err().unwrap().to_string();
            let begin = format!("{}: {problem}", path(blamed).display());
            assert!(message.starts_with(&begin), "{message} does not begin with {begin}");
        }
    }
}
