//! The snapshot of a sibling: another replica of this agent, whose admin port gives what it keeps. Asked when there is
//! none here that can be taken, with little time, because an agent that waits serves nothing. What comes is read as
//! strictly as a file. Both ends of the wire are here.

use super::{Found, Loaded, Terms, files::Given};
use axum::{
    body::{Body, to_bytes},
    http::header,
    response::{IntoResponse as _, Response},
};
use futures::{
    StreamExt as _,
    stream::{FuturesUnordered, try_unfold},
};
use http::StatusCode;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};
use tokio::{fs::File, io::AsyncReadExt as _, net::lookup_host, task::spawn_blocking};

/// How long all of it may take: a snapshot of a million endpoints is about a second of a network of 1 Gbit/s.
const WITHIN: Duration = Duration::from_secs(2);

/// Most bytes that are taken: many times what a fleet has.
const MAX_BYTES: usize = 1 << 30;

/// What is read of the file at once.
const CHUNK: usize = 256 << 10;

/// Gives the snapshot that is kept in a file, as it is: what is being written behind its end makes it no worse.
pub async fn give(file: Option<&Path>) -> Response {
    let Some(path) = file else {
        return (StatusCode::NOT_FOUND, "no snapshot is kept here: set `snapshot.directory`\n").into_response();
    };
    match File::open(path).await {
        Ok(file) => {
            let body = Body::from_stream(try_unfold(file, async |mut file| {
                let mut chunk = Vec::with_capacity(CHUNK);
                let count = (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await?;
                io::Result::Ok((count > 0).then_some((chunk, file)))
            }));
            ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (StatusCode::NOT_FOUND, "no snapshot is written yet\n").into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {error}\n", path.display())).into_response(),
    }
}

/// A snapshot of a sibling.
#[derive(Debug)]
pub(super) struct Taken {
    /// Whose it is.
    pub(super) from: String,
    pub(super) loaded: Loaded,
    /// The same as it came.
    pub(super) given: Given,
}

/// The first snapshot that can be taken of these `HOST:PORT`, and whose it is. A name may have many addresses; `own`
/// is that of this agent, and not asked. Why others were not taken is added to `refused`.
pub(super) async fn ask(
    siblings: &[String],
    own: SocketAddr,
    terms: &Terms,
    refused: &mut BTreeMap<String, String>,
) -> Option<Taken> {
    let asking = tokio::time::timeout(WITHIN, first(siblings, own, terms, refused));
    if let Ok(taken) = asking.await {
        return taken;
    }
    for sibling in siblings {
        refused.entry(sibling.clone()).or_insert_with(|| format!("no snapshot within {} seconds", WITHIN.as_secs()));
    }
    None
}

async fn first(
    siblings: &[String],
    own: SocketAddr,
    terms: &Terms,
    refused: &mut BTreeMap<String, String>,
) -> Option<Taken> {
    let mut addresses = BTreeSet::new();
    for (sibling, found) in
        futures::future::join_all(siblings.iter().map(async |name| (name, lookup_host(name).await))).await
    {
        match found {
            Ok(found) => addresses.extend(found.filter(|address| !is_own(*address, own))),
            Err(error) => _ = refused.insert(sibling.clone(), format!("its name cannot be resolved: {error}")),
        }
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let answer = async |address: SocketAddr| {
        let url = format!("http://{address}/snapshot").parse().map_err(|error| format!("{error}"))?;
        client.get(url).await.map_err(|error| format!("it cannot be reached: {error}"))
    };
    // All are asked at once; only one at a time is listened to, or they would be in each other's way.
    let mut answers: FuturesUnordered<_> =
        addresses.into_iter().map(async |address| (address, answer(address).await)).collect();
    while let Some((address, answer)) = answers.next().await {
        let taken = match answer {
            Ok(answer) => take(answer.map(Body::new), terms).await,
            Err(why) => Err(why),
        };
        match taken {
            Ok((loaded, given)) => return Some(Taken { from: address.to_string(), loaded, given }),
            Err(why) => _ = refused.insert(address.to_string(), why),
        }
    }
    None
}

async fn take(answer: http::Response<Body>, terms: &Terms) -> Result<(Loaded, Given), String> {
    let status = answer.status();
    let bytes = to_bytes(answer.into_body(), MAX_BYTES).await.map_err(|error| format!("it broke off: {error}"))?;
    if status != StatusCode::OK {
        let reason = String::from_utf8_lossy(&bytes);
        return Err(format!("it says {status}: {}", reason.lines().next().unwrap_or_default()));
    }
    let terms = terms.clone();
    let read = spawn_blocking(move || {
        let found = Found::read(&*bytes).map_err(|error| error.to_string())?;
        terms.check(&found).map_err(|error| error.to_string())?;
        let Found { loaded, base, end, .. } = found;
        Ok((loaded, Given { bytes, base, end }))
    });
    read.await.unwrap_or_else(|panic| Err(format!("reading it died: {panic}")))
}

/// Whether this is our own address: of a host that we can bind, and with our own port.
fn is_own(address: SocketAddr, own: SocketAddr) -> bool {
    address.port() == own.port() && UdpSocket::bind((address.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests;
