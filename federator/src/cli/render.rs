//! `federator render`: the objects that an agent means its cluster to have, as the agent itself tells them at its admin
//! port. Asking the one that runs is the only way to show exactly what it holds: what it remembers, holds back or has
//! not yet seen is in no configuration.

use super::{Misuse, print};
use anyhow::{Context as _, bail};
use axum::body::{Body, to_bytes};
use clap::Args as ClapArgs;
use http::{StatusCode, Uri};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::time::Duration;

/// How long the agent may take to tell everything.
const WITHIN: Duration = Duration::from_secs(60);

/// Most bytes that are taken: many times what a fleet has.
const MAX_BYTES: usize = 1 << 30;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    agent: Agent,
}

/// Which agent is asked.
#[derive(Debug, ClapArgs)]
pub(super) struct Agent {
    /// The admin port of the agent: `admin.address` of its configuration, or what is forwarded to it.
    #[arg(long = "agent", value_name = "URL", default_value = "http://127.0.0.1:9153")]
    url: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    print(&args.agent.objects().await?)
}

// === impl Agent ===

impl Agent {
    /// All objects that the agent means its cluster to have, as YAML.
    ///
    /// # Errors
    /// When the agent cannot be asked, or cannot say yet; then what it waits for.
    pub(super) async fn objects(&self) -> anyhow::Result<String> {
        let url = format!("{}/objects", self.url.trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(|error| Misuse(format!("--agent {}: {error}", self.url)))?;
        if uri.scheme_str() != Some("http") {
            return Err(Misuse(format!("--agent {}: give http://HOST:PORT", self.url)).into());
        }
        let asked = async {
            let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
            let answer = client.get(uri).await.context("the agent cannot be reached")?;
            let status = answer.status();
            let body = to_bytes(Body::new(answer.into_body()), MAX_BYTES).await.context("the answer broke off")?;
            let text = String::from_utf8(body.into()).context("the answer is no text")?;
            if status != StatusCode::OK {
                bail!("the agent says {status}: {}", text.trim());
            }
            Ok(text)
        };
        let answered = tokio::time::timeout(WITHIN, asked).await;
        answered.unwrap_or_else(|_| bail!("no answer within {} seconds", WITHIN.as_secs())).with_context(|| url)
    }
}
