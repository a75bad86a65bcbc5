//! An API server whose lists lie: they lack an object that is there. Gets, watches and writes pass through, so only who
//! asks for the object by name finds it.
//!
//! It speaks HTTP/1.1 without TLS, one request a connection, and asks the real API server as administrator.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use futures::AsyncReadExt as _;
use kube::Client;
use kube::api::GetParams;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{Cluster, Result, credentials};

/// What passes on at a time.
const BUFFER: usize = 32 << 10;

/// The headers that an API server has to see: in which form an object is asked for, and what a patch is.
const PASSED_ON: [&str; 2] = ["accept", "content-type"];

/// Another way to a cluster's API server; it ends when it is dropped.
pub struct Liar {
    kubeconfig: PathBuf,
    lies: Arc<AtomicUsize>,
    /// Never read: it ends what it holds when it is dropped.
    _accepting: JoinSet<()>,
}

/// What it answers with.
#[derive(Clone)]
struct Truth {
    client: Client,
    /// Lists of this kind, by its plural, ...
    plural: &'static str,
    /// ... lack the objects of this name.
    name: String,
    lies: Arc<AtomicUsize>,
}

struct Question {
    method: String,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Cluster {
    /// A way to this cluster's API server whose lists of `plural` lack objects of that name.
    pub fn liar(&self, plural: &'static str, name: &str) -> Result<Liar> {
        let (site, credentials) = (self.plane().site, &self.plane().credentials);
        let listener = self.place().listen(self.place().port(0))?;
        let address: SocketAddr = listener.local_addr()?;
        let token = credentials::administrator(site);
        let server = format!("http://{address}");
        let content = credentials::kubeconfig(site.name, &server, credentials.authority(), "admin", &token)?;
        let kubeconfig = credentials.kubeconfig.with_file_name(format!("kubeconfig-of-liar-{}", self.number()));
        std::fs::write(&kubeconfig, content)?;
        let lies = Arc::new(AtomicUsize::new(0));
        let truth = Truth { client: self.client(), plural, name: name.to_owned(), lies: Arc::clone(&lies) };
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, truth));
        Ok(Liar { kubeconfig, lies, _accepting: accepting })
    }
}

// === impl Liar ===

impl Liar {
    /// A file that opens the cluster by this way, with all rights.
    pub const fn kubeconfig(&self) -> &PathBuf {
        &self.kubeconfig
    }

    /// How many lists it has taken something from.
    pub fn lies(&self) -> usize {
        self.lies.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, truth: Truth) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let truth = truth.clone();
                // Who has gone away does not have to be told.
                connections.spawn(async move { drop(serve(stream, truth).await) });
            }
        }
    }
}

async fn serve(mut stream: TcpStream, truth: Truth) -> Result {
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from);
    let question = Question::read(&mut from).await?;
    let answer = async {
        match truth.answer(&question, &mut to).await {
            Err(error) => match error.downcast_ref() {
                Some(kube::Error::Api(status)) => {
                    to.write_all(head(status.code).as_bytes()).await?;
                    Ok(to.write_all(&serde_json::to_vec(status)?).await?)
                }
                _ => Err(error),
            },
            done => done,
        }
    };
    let mut nothing = [0];
    tokio::select! {
        done = answer => done,
        // Who watches for nothing any more says so by going away.
        _ = from.read(&mut nothing) => Ok(()),
    }
}

fn head(code: u16) -> String {
    format!("HTTP/1.1 {code} Said\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
}

// === impl Question ===

impl Question {
    async fn read(from: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Self> {
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next().context("no method")?, words.next().context("no path")?);
        let (mut headers, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            from.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse()?;
            }
            if let Some(passed) = PASSED_ON.iter().find(|passed| name.eq_ignore_ascii_case(passed)) {
                headers.push((*passed, value.to_owned()));
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).await?;
        Ok(Self { method, path, headers, body })
    }

    /// Whether it asks for a list of that kind, and not for a watch or for one object.
    fn lists(&self, plural: &str) -> bool {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        self.method == "GET" && path.ends_with(&format!("/{plural}")) && !query.contains("watch=")
    }
}

// === impl Truth ===

impl Truth {
    async fn answer(&self, question: &Question, to: &mut (impl AsyncWriteExt + Unpin)) -> Result {
        // Any request: what it asks for is set below.
        let mut request = kube::core::Request::new("").get("readyz", &GetParams::default())?;
        *request.method_mut() = question.method.parse()?;
        *request.uri_mut() = question.path.parse()?;
        for (name, value) in &question.headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        request.body_mut().clone_from(&question.body);
        if question.lists(self.plural) {
            let list = self.without(&self.client.request_text(request).await?)?;
            to.write_all(head(200).as_bytes()).await?;
            return Ok(to.write_all(list.as_bytes()).await?);
        }
        let mut stream = pin!(self.client.request_stream(request).await?);
        to.write_all(head(200).as_bytes()).await?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..length]).await?;
        }
    }

    /// A list without what it is to lack.
    fn without(&self, list: &str) -> Result<String> {
        let mut list: Value = serde_json::from_str(list)?;
        let items = list["items"].as_array_mut().context("a list without items")?;
        let before = items.len();
        items.retain(|item| item["metadata"]["name"] != *self.name);
        self.lies.fetch_add(usize::from(items.len() != before), Ordering::SeqCst);
        Ok(list.to_string())
    }
}
