//! Against a TLS server on loopback that counts its connections.

use super::*;
use crate::kubernetes::{
    client::connect,
    kubeconfig::{Allowed, parse},
};
use axum::{Router, body::Body as Answer, routing::get};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{AsyncBufReadExt as _, AsyncReadExt as _, StreamExt as _};
use hyper_util::{rt::TokioIo, server::conn::auto, service::TowerToHyperService};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A server, for as long as it is held.
struct Server {
    kubeconfig: String,
    /// Connections that were ever made.
    made: Arc<AtomicUsize>,
    /// Those that are open.
    open: watch::Sender<usize>,
    /// When cancelled, connections stay open, and nobody is there.
    silence: CancellationToken,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(protocols: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubeconfig = format!(
            "clusters: [{{name: a, cluster: {{server: 'https://{}', certificate-authority-data: {}, tls-server-name: kubernetes}}}}]\n\
             users: [{{name: a, user: {{token: s3cr3t}}}}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]",
            listener.local_addr().unwrap(),
            STANDARD.encode(made.cert.pem()),
        );
        // A watch: a line at once, and then nothing.
        let watch = || async {
            let line = futures::stream::iter([Ok::<_, io::Error>("line\n")]);
            Answer::from_stream(line.chain(futures::stream::pending()))
        };
        let router = Router::new().route("/watch", get(watch)).route("/version", get(|| async { "{}" }));
        let (made, open) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(0));
        let (mut task, silence) = (JoinSet::new(), CancellationToken::new());
        task.spawn(serve(listener, tls, router, (made.clone(), open.clone()), silence.clone()));
        Self { kubeconfig, made, open, silence, _task: task }
    }

    fn client(&self) -> Client {
        let allowed = Allowed { loopback: true, ..Allowed::default() };
        connect(&parse(self.kubeconfig.as_bytes(), &allowed).unwrap()).unwrap()
    }

    /// Waits until no more connections than these are open.
    async fn at_most(&self, open: usize) {
        self.open.subscribe().wait_for(|now| *now <= open).await.unwrap();
    }
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
    (made, open): (Arc<AtomicUsize>, watch::Sender<usize>),
    silence: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        made.fetch_add(1, SeqCst);
        open.send_modify(|open| *open += 1);
        let (tls, router, open, silence) = (tls.clone(), router.clone(), open.clone(), silence.clone());
        connections.spawn(async move {
            let mut serving = Box::pin(async {
                if let Ok(stream) = tls.accept(stream).await {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
                }
            });
            tokio::select! {
                () = &mut serving => {}
                () = silence.cancelled() => std::future::pending().await,
            }
            open.send_modify(|open| *open -= 1);
        });
    }
}

fn request(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

/// Opens a watch, and reads what comes at once.
async fn watch(client: &Client) -> impl futures::AsyncBufRead + Unpin + use<> {
    let mut lines = Box::pin(client.request_stream(request("/watch")).await.unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).await.unwrap();
    assert_eq!(line, "line\n");
    lines
}

#[tokio::test]
async fn watches_share_one_connection_over_http2() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let client = server.client();
    // All at once, as an agent starts: whoever connects second finds that the first one's connection will do.
    let watches = futures::future::join_all((0..20).map(|_| watch(&client))).await;
    server.at_most(1).await;
    let made = server.made.load(SeqCst);
    let more = futures::future::join_all((0..20).map(|_| watch(&client))).await;
    assert_eq!(client.request_text(request("/version")).await.unwrap(), "{}");
    assert_eq!(server.made.load(SeqCst), made, "no connection is made for what comes later");

    drop((watches, more));
    drop(client);
    tokio::time::timeout(Duration::from_secs(5), server.at_most(0)).await.expect("the connection is closed");
}

#[tokio::test]
async fn a_server_without_http2_is_spoken_to_in_http1() {
    for protocols in [&["http/1.1"][..], &[]] {
        let server = Server::start(protocols).await;
        let client = server.client();
        let watches = (watch(&client).await, watch(&client).await);
        assert_eq!(server.made.load(SeqCst), 2);
        drop(watches);
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), server.at_most(0)).await.expect("the connections are closed");
    }
}

#[tokio::test]
async fn a_silent_connection_is_noticed() {
    let server = Server::start(&["h2"]).await;
    let client = server.client();
    let mut lines = watch(&client).await;
    server.silence.cancel();
    // Nothing is left to do but to wait, so the clock runs by itself.
    tokio::time::pause();
    let start = Instant::now();
    let outcome = lines.read_to_end(&mut Vec::new()).await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert!(start.elapsed() <= PING + PONG + Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_name_does_not_lead_where_an_address_may_not() {
    let server = Server::start(&["h2"]).await;
    let named = server.kubeconfig.replace("127.0.0.1", "localhost");
    let mut access = parse(named.as_bytes(), &Allowed { loopback: true, ..Allowed::default() }).unwrap();
    assert!(connect(&access).unwrap().request_text(request("/version")).await.is_ok());
    access.loopback = false;
    let error = connect(&access).unwrap().request_text(request("/version")).await.unwrap_err();
    let shown = crate::kubernetes::explain::explain(&error);
    assert!(shown.contains("the server's name leads to this machine (loopback)"), "{shown}");
}

#[test]
fn of_several_addresses_the_harmless_are_used() {
    let all = ["127.0.0.1:0", "10.0.0.1:0", "[fe80::1]:0", "169.254.169.254:0"].map(|text| text.parse().unwrap());
    let kept = |reach| within(all.into_iter(), reach).unwrap().map(|address| address.ip().to_string());
    assert_eq!(kept(Reach::Harmless { loopback: false }).collect::<Vec<_>>(), ["10.0.0.1"]);
    assert_eq!(kept(Reach::Harmless { loopback: true }).collect::<Vec<_>>(), ["127.0.0.1", "10.0.0.1"]);
    assert_eq!(kept(Reach::Anywhere).count(), 4);
    assert!(within(all.into_iter().skip(2), Reach::Harmless { loopback: true }).is_err());
}
