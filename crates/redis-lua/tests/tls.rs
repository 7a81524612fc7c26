//! TLS, with a certificate of our own authority. Needs redis-server on the PATH, built with TLS.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/local.rs"]
mod local;
mod support;

use local::Local;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use redis_lua::Client;
use support::{run, until};
use turnstile_core::ErrorKind;

/// A server with a certificate for its address, and that of the authority that signed it.
fn server(authority: &CertifiedIssuer<'_, KeyPair>) -> Local {
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, authority).unwrap();
    let options = [
        "--port 0",
        "--tls-auth-clients no",
        "--tls-cert-file cert.pem",
        "--tls-key-file key.pem",
        "--tls-ca-cert-file ca.pem",
        "--requirepass s3cret",
    ];
    Local::start("--tls-port", &options, |dir| {
        std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    })
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn a_certificate_counts_only_if_its_authority_is_trusted() {
    let (ours, others) = (authority(), authority());
    let server = server(&ours);
    let url = format!("rediss://:s3cret@127.0.0.1:{}", server.port);
    let trusting = Client::builder(&url).tls_root_certificate(ours.pem()).build().unwrap();
    until("the server answers", async || trusting.ready().await.is_ok()).await;
    let pong: String = run(&trusting, "PING").await;
    assert_eq!(pong, "PONG");
    trusting.pubsub().await.unwrap().subscribe("channel").await.unwrap();
    trusting.dedicated(None).await.unwrap().run::<()>(&redis_lua::redis::cmd("PING")).await.unwrap();

    for client in [Client::builder(&url), Client::builder(&url).tls_root_certificate(others.pem())] {
        let error = client.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("must be signed by an authority"), "{error}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    let plain = Client::connect(format!("redis://:s3cret@127.0.0.1:{}", server.port)).await.unwrap_err();
    assert_eq!(plain.kind(), ErrorKind::Unreachable, "{plain}");
    assert!(plain.to_string().contains("TLS"), "{plain}");
}

#[tokio::test]
async fn a_root_certificate_that_is_none_or_has_no_use_is_told() {
    for (url, pem) in [("rediss://h", "no PEM at all"), ("redis://h", &authority().pem())] {
        let error = Client::builder(url).tls_root_certificate(pem).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}
