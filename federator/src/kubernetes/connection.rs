//! The connection below a client: HTTP/2 where the server has it, so that all watches of a cluster share one
//! connection, which is pinged, so that a silent one is noticed within twenty seconds. Else HTTP/1.1. No proxy is used
//! and no environment looked at. Knows nothing of kubeconfigs.

use super::kubeconfig::address::harmless;
use anyhow::Context as _;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _},
};
use rustls::pki_types::ServerName;
use std::{io, net::SocketAddr, time::Duration, vec};
use tower::{BoxError, ServiceExt as _};

/// How long connecting may take, TLS included: an API server that is not there is to be known soon.
const CONNECT: Duration = Duration::from_secs(5);

/// How often a connection is pinged, and how long the answer may take. Together they are the time in which a
/// connection that has died silently is noticed.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);

/// The same for HTTP/1.1, by the kernel: after ten seconds of silence, and at the second probe that is not answered.
const PROBE_AFTER: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 2;

/// What the server may send on one stream before somebody reads it. A page of a list is about as large, so it comes
/// in one go; at a distance of 100 ms it is ten megabytes in a second.
const STREAM_WINDOW: u32 = 1 << 20;

/// What it may send on all of them: more than the kinds that are followed can leave unread, so that one whose reader
/// is slow never stops the others. This is also all that a connection can make us hold.
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;

/// Where a connection may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Anywhere: an operator said so.
    Anywhere,
    /// Over TLS, and not to addresses that mean something else here than they do elsewhere.
    Harmless {
        /// Except for this machine.
        loopback: bool,
    },
}

/// A client over a connection of its own, which ends with the last clone of it.
pub(super) fn client(config: &Config, reach: Reach) -> anyhow::Result<Client> {
    let resolver = tower::service_fn(move |name: Name| resolve(name, reach));
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(PROBE_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_EVERY));
    tcp.set_keepalive_retries(Some(PROBES));

    let tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?);
    let mut tls = match reach {
        Reach::Anywhere => tls.https_or_http(),
        Reach::Harmless { .. } => tls.https_only(),
    };
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone()).context("tls-server-name")?;
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let mut connector = TimeoutConnector::new(tls.enable_all_versions().wrap_connector(tcp));
    connector.set_connect_timeout(Some(CONNECT));

    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .http2_keep_alive_while_idle(true)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .build(connector);
    let http = http.map_err(BoxError::from);
    let client = ClientBuilder::new(http, config.default_namespace.clone()).with_layer(&config.extra_headers_layer()?);
    let base = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => client.with_layer(&auth).with_layer(&base).build(),
        None => client.with_layer(&base).build(),
    })
}

async fn resolve(name: Name, reach: Reach) -> io::Result<vec::IntoIter<SocketAddr>> {
    // The port is not the resolver's business; the connector puts its own.
    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
    within(found, reach)
}

/// The addresses that may be used. What a name resolves to is its owner's choice at any time, so this is asked at each
/// connection.
fn within(found: impl Iterator<Item = SocketAddr>, reach: Reach) -> io::Result<vec::IntoIter<SocketAddr>> {
    let Reach::Harmless { loopback } = reach else { return Ok(found.collect::<Vec<_>>().into_iter()) };
    let (mut kept, mut refused) = (Vec::new(), None);
    for address in found {
        match harmless(address.ip(), loopback) {
            Ok(()) => kept.push(address),
            Err(why) => refused = Some(why),
        }
    }
    match refused {
        Some(why) if kept.is_empty() => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the server's name {why}")))
        }
        _ => Ok(kept.into_iter()),
    }
}

#[cfg(test)]
mod tests;
