//! What a collector shows to those who connect over TLS, and what it asks of them.

use crate::enrich::read_file;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A certificate and its key, and whose certificates exporters must show. Its copies are one: what is reloaded counts
/// for all connections that come later.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

/// Where certificates are read from, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The collector's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities: with it an exporter has to show a certificate of one of them.
    pub client_authorities: Option<PathBuf>,
}

/// Why TLS cannot be spoken.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file that cannot be read, or has not in it what it should.
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        error: pem::Error,
    },
    /// A certificate, key or authority that cannot be used.
    Refused(String),
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], whose text names the file.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { config: Arc::new(Mutex::new(Arc::new(config(files)?))) })
    }

    /// Reads these files, or the same again, for the connections that come from now on.
    ///
    /// # Errors
    /// As [`read`](Self::read): then all stays as it was.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let config = config(files)?;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(())
    }

    /// Our end of a new connection.
    pub(super) fn accept(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(self.config.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let refused = |error: &dyn fmt::Display| TlsError::Refused(error.to_string());
    let chain = certificates(&files.certificate, "certificates")?;
    let wrong_key = |error| TlsError::File { path: files.key.clone(), what: "private key", error };
    let key = read_file(&files.key).map_err(|e| wrong_key(pem::Error::Io(e)))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(wrong_key)?;
    // Named, so that no other part of a program that links this library chooses it.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| refused(&e))?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path, "certificates of authorities")? {
                roots.add(authority).map_err(|e| refused(&format!("{}: {e}", path.display())))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| refused(&e))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| refused(&format!("{} with {}: {e}", files.certificate.display(), files.key.display())))?;
    // Exporters connect once and only write. Tickets for another time would lie unread in their sockets, which breaks the
    // connection when they close it: what they sent last would be lost.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error| TlsError::File { path: path.to_owned(), what, error };
    let bytes = read_file(path).map_err(|e| wrong(pem::Error::Io(e)))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(found) }
}

impl TlsError {
    /// The file that is to blame, where it is one alone.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => Some(path),
            Self::Refused(_) => None,
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, what, error: pem::Error::Io(error) } => {
                write!(f, "cannot read the {what} in {}: {error}", path.display())
            }
            Self::File { path, what, error: pem::Error::NoItemsFound } => {
                write!(f, "{} holds no {what} in PEM", path.display())
            }
            Self::File { path, what, error } => write!(f, "{} holds no {what} in PEM: {error}", path.display()),
            Self::Refused(text) => write!(f, "cannot speak TLS with {text}"),
        }
    }
}

impl std::error::Error for TlsError {}
