//! The certificate authorities that TLS trusts.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::MediaError;
use crate::domain::{Finding, MediaReason, Reason};
use crate::{redact, tls};

/// They are not read again within this time.
const AGE_MIN: Duration = Duration::from_secs(2);

/// The system's certificate authorities and those of `media.ca_file`, as last read. Verification always uses the latest
/// ones, so a bad state at startup does not last until the process ends.
#[derive(Debug)]
pub(super) struct Authorities {
    ca_file: Option<String>,
    verifier: RwLock<Arc<Verifier>>,
    read_at: Mutex<Instant>,
}

impl Authorities {
    /// # Errors
    /// `media_settings_invalid` if the file cannot be read or has no certificate; `media_client_failed` if the system
    /// has no certificate authorities.
    pub(super) fn read(ca_file: Option<&str>) -> Result<Arc<Self>, MediaError> {
        let verifier = RwLock::new(verifier(ca_file)?);
        Ok(Arc::new(Self { ca_file: ca_file.map(str::to_owned), verifier, read_at: Mutex::new(Instant::now()) }))
    }

    /// Reads them again, unless that was just done. If they cannot be read, the old ones stay.
    pub(super) async fn read_again(self: &Arc<Self>) {
        {
            let mut read_at = self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
            if read_at.elapsed() < AGE_MIN {
                return;
            }
            *read_at = Instant::now();
        }
        let own = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let new = verifier(own.ca_file.as_deref())?;
            *own.verifier.write().unwrap_or_else(PoisonError::into_inner) = new;
            Ok::<(), MediaError>(())
        });
        match read.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(reason = error.reason.as_str(), "{error}"),
            Err(error) => tracing::debug!(%error, "the certificate authorities were not read again"),
        }
    }

    /// # Errors
    /// `media_client_failed`.
    pub(super) fn client_config(self: &Arc<Self>) -> Result<ClientConfig, MediaError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| not_set_up(&error))?;
        Ok(builder.dangerous().with_custom_certificate_verifier(self.clone()).with_no_client_auth())
    }

    fn verifier(&self) -> Arc<Verifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn verifier(ca_file: Option<&str>) -> Result<Arc<Verifier>, MediaError> {
    let mut certificates = Vec::new();
    if let Some(file) = ca_file {
        let invalid = |found| MediaError::found(MediaReason::SettingsInvalid, found);
        let pem = tls::authority("media.ca_file", file).map_err(invalid)?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let broken = |error| invalid(Finding::new(format!("media.ca_file {file}: {}", redact::root_cause(&error))));
            certificates.push(certificate.map_err(broken)?);
        }
    }
    Ok(Arc::new(Verifier::new_with_extra_roots(certificates, provider()).map_err(|error| not_set_up(&error))?))
}

fn not_set_up(error: &Error) -> MediaError {
    MediaError::new(MediaReason::ClientFailed, format!("TLS cannot be set up: {}", redact::root_cause(error)))
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}
