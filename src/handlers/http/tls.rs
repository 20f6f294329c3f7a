//! TLS with ring, which builds with nothing but a C compiler. Each client gets it with its configuration: to install a
//! provider for the whole process is up to the embedding program.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

use crate::Error;

/// Trusts the certificates of the system. If the system has none, as in a minimal container, http still works and https
/// trusts no server; `needed` makes that a warning.
pub(in crate::handlers) fn system(needed: bool) -> ClientConfig {
    let provider = provider();
    match Verifier::new(provider.clone()) {
        Ok(verifier) => config(provider, Arc::new(verifier)),
        Err(error) => {
            let level = if needed { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "https will fail: {error}");
            none()
        }
    }
}

/// Trusts no certificate.
pub(super) fn none() -> ClientConfig {
    builder(provider()).with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

/// Trusts the certificates of the system, and these.
pub(in crate::handlers) fn with_roots(pem: &[u8]) -> Result<ClientConfig, Error> {
    let no = |why: &dyn std::fmt::Display| Error::Config(format!("the root certificates cannot be used: {why}"));
    let roots = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| no(&error))?;
    if roots.is_empty() {
        return Err(no(&"there is no certificate in the file"));
    }
    let provider = provider();
    let usual = Verifier::new_with_extra_roots(roots.clone(), provider.clone()).map_err(|error| no(&error))?;
    Ok(config(provider, Arc::new(WithGiven { usual, given: roots })))
}

/// Also trusts a server whose own certificate is one of the given ones. `openssl req -x509` makes a certificate that is
/// that of an authority too, and the usual verifier refuses it as that of a server.
#[derive(Debug)]
struct WithGiven {
    usual: Verifier,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for WithGiven {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.usual.verify_server_cert(certificate, intermediates, name, ocsp, now).or_else(|error| {
            if !is_of_authority(&error) || !self.given.contains(certificate) {
                return Err(error);
            }
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            Ok(ServerCertVerified::assertion())
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whether the certificate of a server is by an authority that is not trusted, or by itself.
pub(super) fn is_of_unknown_authority(error: &rustls::Error) -> bool {
    is_of_authority(error) || *error == rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)
}

/// Whether the certificate of a server is good at another time. The clock of a router may begin in 1970.
pub(super) fn is_of_another_time(error: &rustls::Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let rustls::Error::InvalidCertificate(error) = error else { return false };
    matches!(error, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

/// Whether the certificate of a server is good so far, and in time, but is that of an authority.
fn is_of_authority(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

fn config(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> ClientConfig {
    // rustls calls each verifier "dangerous" that is not its own.
    builder(provider).dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

fn builder(provider: Arc<CryptoProvider>) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
