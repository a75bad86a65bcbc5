//! From the octets of a query to those of its answer, as all sockets of a listener have it: who may ask, what is said from
//! a snapshot, and what is counted and logged of that. Knows no socket.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::op::Message;
use tokio::time::Instant;
use tracing::info;

use crate::metrics::{Metrics, Transport};
use crate::policy::Policy;
use crate::reply::{Asked, Replied, reply};
use crate::zones::Zones;

/// One answer in so many is timed: two looks at the clock cost as much as finding the name.
const TIMED: u32 = 64;

/// Answers from whatever the current snapshot is.
#[derive(Clone)]
pub struct Responder {
    /// What is answered from.
    pub zones: Arc<ArcSwap<Zones>>,
    /// Who is answered.
    pub policy: Arc<Policy>,
    /// Who is asked for names in none of the zones; without one they are refused.
    pub elsewhere: Option<Arc<dyn Elsewhere>>,
    /// A random number, by which some of very many records are chosen.
    pub throw: fn() -> u32,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether each query is logged.
    pub logs: bool,
}

/// Where a message came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) transport: Transport,
    /// Tenths of a second for which its connection may be silent; over UDP none.
    pub(crate) keep: u16,
}

/// Who knows names that are in none of the zones.
pub trait Elsewhere: Send + Sync {
    /// The answer to a message, or none if it is to have none. Begins nothing before it is polled.
    fn ask(&self, message: Vec<u8>, transport: Transport) -> Pending;
}

/// An answer that somebody else is asked for.
pub type Pending = Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send>>;

/// What becomes of a message.
pub(crate) enum Response {
    /// Its answer was added.
    Replied,
    /// It is never answered.
    Silent,
    /// It is answered later.
    Elsewhere(Pending),
}

// === impl Responder ===

impl Responder {
    /// Adds the answer to a message to `out`, as it is in `zones`.
    pub(crate) fn respond(&self, zones: &Zones, message: &[u8], client: Client, out: &mut Vec<u8>) -> Response {
        let Client { address, transport, keep } = client;
        let throw = (self.throw)();
        let begun = throw.is_multiple_of(TIMED).then(Instant::now);
        let begin = out.len();
        let admission = self.policy.admit(address, transport);
        let replied = reply(zones, message, Asked { transport, admission, keep, throw }, out);
        let Some(replied) = replied else {
            self.metrics.dropped();
            return Response::Silent;
        };
        if replied.is_foreign
            && let Some(elsewhere) = &self.elsewhere
        {
            out.truncate(begin);
            self.metrics.forwarded();
            return Response::Elsewhere(elsewhere.ask(message.to_vec(), transport));
        }
        self.metrics.replied(transport, admission, replied, begun.map(|begun| begun.elapsed()));
        if self.logs {
            log(message, address, transport, replied);
        }
        Response::Replied
    }
}

/// What cannot be read is logged without a question.
fn log(message: &[u8], client: IpAddr, transport: Transport, replied: Replied) {
    let asked = Message::from_vec(message).ok();
    let question = asked.as_ref().and_then(|message| message.queries.first());
    let question = question.map(ToString::to_string).unwrap_or_default();
    let Replied { rcode, truncated, .. } = replied;
    info!(%client, %transport, question, %rcode, truncated, "dns query");
}
