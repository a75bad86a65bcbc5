//! What a client in the mesh asks by HTTP: once, or so often that shares can be counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::timeout;

use crate::place::Place;
use crate::{Result, http};

/// Longer than any time-out that a route has here.
const PATIENCE: Duration = Duration::from_secs(10);

/// A question that can be asked any number of times, each on a connection of its own.
#[derive(Debug, Clone)]
pub struct Question {
    place: Place,
    from: SocketAddr,
    to: SocketAddr,
    host: String,
    path: String,
    /// Lines of the head, each with its end.
    headers: String,
}

impl Place {
    /// A question for a host by its name, to a server as this place sees it.
    pub fn question(&self, host: &str, to: SocketAddr) -> Question {
        let from = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let (host, path) = (host.to_owned(), "/".to_owned());
        Question { place: *self, from, to, host, path, headers: String::new() }
    }
}

impl Question {
    /// Asked by a pod with this address.
    #[must_use]
    pub fn by(mut self, pod: impl Into<IpAddr>) -> Self {
        self.from = SocketAddr::new(pod.into(), 0);
        self
    }

    /// For this path; it is `/` unless that is said.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The body of a `200` answer; any other answer is an error that quotes it.
    pub async fn ask(&self) -> Result<String> {
        let (status, body) = self.answer().await?;
        ensure!(status == 200, "{} answers {status}: {}", self.host, body.trim());
        Ok(body)
    }

    /// How often each answer came: the body of a `200` answer, of others the status.
    pub async fn tally(&self, times: usize) -> Result<BTreeMap<String, usize>> {
        let mut tally = BTreeMap::new();
        for _ in 0..times {
            let (status, body) = self.answer().await?;
            *tally.entry(if status == 200 { body } else { status.to_string() }).or_default() += 1;
        }
        Ok(tally)
    }

    async fn answer(&self) -> Result<(u16, String)> {
        let Self { place, from, to, host, path, headers } = self;
        let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
        let answer = async { http::answer(place.connect_from(*from, *to).await?, &question).await };
        let what = || format!("GET http://{host}{path} from {to}");
        timeout(PATIENCE, answer).await.with_context(what)?.with_context(what)
    }
}
