//! Custom certificate authorities for TLS connections.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::domain::Finding;

/// The PEM file that the setting `key` names, unchanged; it has at least one certificate, and each is readable. Blocks while
/// reading; such files are small and read at startup.
///
/// # Errors
/// Names the setting, the file and the next step.
pub fn authority(key: &str, file: &str) -> Result<Vec<u8>, Finding> {
    let pem = std::fs::read(file).map_err(|why| {
        Finding::new(format!("{key} {file} cannot be read: {why}; expected a PEM file of certificates"))
            .hint("check the path")
    })?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.map_err(|why| {
            Finding::new(format!("{key} {file} is not a PEM file of certificates: {why}")).hint("export it again")
        })?;
        count += 1;
    }
    if count == 0 {
        return Err(Finding::new(format!(
            "{key} {file} contains no certificate; expected PEM, which begins with -----BEGIN CERTIFICATE-----"
        )));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem").display().to_string();
        let error = authority("store.ca_file", &file).unwrap_err().to_string();
        assert!(error.contains("store.ca_file") && error.contains("cannot be read"), "{error}");
        for (content, part) in [
            ("", "contains no certificate"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "contains no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "is not a PEM file"),
        ] {
            std::fs::write(&file, content).unwrap();
            let error = authority("store.ca_file", &file).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(&file), "{error}");
        }
    }
}
