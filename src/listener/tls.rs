//! TLS on accepted connections: the handshake, within the time that a request's head may take, and who the peer proved to be.

use super::{App, Limits, Stopped, converse, patience::Patient, room::Place, told_to_stop};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The certificate that a client proved to have, in DER; in the extensions of every request of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate(pub Arc<[u8]>);

/// Serves a connection once its peer has shaken hands. A peer that does not, or whose certificate is not good, is gone: TLS has
/// told it why.
pub(super) async fn connection(
    stream: Patient<TcpStream>,
    (from, place): (SocketAddr, &Place),
    acceptor: TlsAcceptor,
    app: impl App,
    limits: Limits,
    mut stopped: Stopped,
) {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits.header_timeout, acceptor.accept(stream)) => shaken,
        _ = told_to_stop(&mut stopped) => return,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let certificate = certificate(&stream);
            converse(stream, (from, certificate, place), app, limits, stopped).await;
        }
        Ok(Err(error)) => tracing::debug!(%from, %error, "no TLS"),
        Err(_) => tracing::debug!(%from, "no TLS in time"),
    }
}

fn certificate(stream: &TlsStream<Patient<TcpStream>>) -> Option<PeerCertificate> {
    let chain = stream.get_ref().1.peer_certificates()?;
    chain.first().map(|certificate| PeerCertificate(Arc::from(certificate.as_ref())))
}
