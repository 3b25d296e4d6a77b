//! The certificate authorities of the SDK's HTTP client. The system's are read here: the SDK reads them once per
//! process and, if it finds none then (for example without a free file descriptor), never again.

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls_native_certs::CertificateResult;

use super::MediaError;
use crate::domain::{Class, MediaReason};
use crate::{redact, tls};

/// Characters per line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// The SDK's HTTP client with the system's authorities and those of `ca_file`. `tls`: whether it needs any.
///
/// # Errors
/// `media_settings_invalid` for the file; `media_client_failed` without readable authorities of the system.
pub(super) fn http_client(ca_file: Option<&str>, tls: bool) -> Result<SharedHttpClient, MediaError> {
    let extra = ca_file.map(|file| tls::authority("media.ca_file", file)).transpose();
    let extra = extra.map_err(|found| MediaError::found(MediaReason::SettingsInvalid, found).class(Class::Outage))?;
    let store = trusting(rustls_native_certs::load_native_certs(), extra, tls)?;
    let context = TlsContext::builder().with_trust_store(store).build().map_err(|error| {
        let message = format!("TLS cannot be set up for S3: {}", redact::root_cause(&error));
        MediaError::new(MediaReason::SettingsInvalid, message).class(Class::Outage).hint("check media.ca_file")
    })?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https())
}

fn trusting(system: CertificateResult, extra: Option<Vec<u8>>, tls: bool) -> Result<TrustStore, MediaError> {
    // The SDK panics on certificates that it cannot parse, and some systems have such.
    let readable = |certificate: &CertificateDer<'static>| RootCertStore::empty().add(certificate.clone()).is_ok();
    let pem: Vec<String> = system.certs.iter().filter(|certificate| readable(certificate)).map(pem).collect();
    if tls && pem.is_empty() && extra.is_none() {
        let why = system.errors.first().map_or_else(|| "none is installed".to_owned(), ToString::to_string);
        let message = format!(
            "S3 cannot be asked over TLS: the system's certificate authorities cannot be read ({})",
            redact::cut(&why, 200)
        );
        return Err(MediaError::new(MediaReason::ClientFailed, message));
    }
    let all = (!pem.is_empty()).then(|| pem.concat().into_bytes()).into_iter().chain(extra);
    Ok(all.fold(TrustStore::empty(), TrustStore::with_pem_certificate))
}

fn pem(certificate: &CertificateDer<'static>) -> String {
    let text = STANDARD.encode(certificate);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // PEM is ASCII, so any split is valid.
        let (line, behind) = rest.split_at(rest.len().min(PEM_LINE));
        out.push_str(line);
        out.push('\n');
        rest = behind;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn certificate() -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(include_bytes!("test_certificate.pem")).unwrap()
    }

    fn system(certs: Vec<CertificateDer<'static>>) -> CertificateResult {
        let mut found = CertificateResult::default();
        found.certs = certs;
        found
    }

    #[test]
    fn a_certificate_is_the_same_as_text() {
        assert_eq!(CertificateDer::from_pem_slice(pem(&certificate()).as_bytes()).unwrap(), certificate());
    }

    /// Without a free descriptor there are no authorities. The client is then built again later.
    #[test]
    fn without_authorities_there_is_no_client_that_needs_some() {
        let error = trusting(system(Vec::new()), None, true).unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::ClientFailed), "{error}");
        let garbage = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        assert!(trusting(system(vec![garbage.clone()]), None, true).is_err());
        for (certs, own, tls) in [
            (vec![garbage, certificate()], None, true),
            (Vec::new(), Some(pem(&certificate()).into_bytes()), true),
            (Vec::new(), None, false),
        ] {
            assert!(trusting(system(certs), own, tls).is_ok());
        }
    }
}
