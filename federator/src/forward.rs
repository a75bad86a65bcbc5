//! Names that are not ours, asked of other servers: a question comes as a message, is looked up, and leaves as one. How many
//! are under way at once is bounded, and who comes when there are too many is told so at once. Knows no zone of ours.

use crate::lookup::names::resolver;
use dns::{Elsewhere, Pending, Transport};
use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{DNSClass, Record},
};
use hickory_resolver::{
    TokioResolver,
    lookup::Lookup,
    net::{DnsError, NetError, NoRecords},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// What is answered over UDP without EDNS, and what goes through every path with it.
const UDP_OCTETS: (u16, u16) = (512, 1232);

/// CoreDNS, which asks us, waits for two seconds.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Asks other servers.
#[derive(Clone)]
pub struct Forwarder {
    resolver: TokioResolver,
    /// One for each question under way.
    seats: Arc<Semaphore>,
}

// === impl Forwarder ===

impl Forwarder {
    /// Asks these, `most` questions at a time.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub fn new(servers: &[SocketAddr], most: usize) -> Result<Self, NetError> {
        Ok(Self { resolver: resolver(servers)?, seats: Arc::new(Semaphore::new(most)) })
    }

    async fn answer(self, asked: Message, transport: Transport) -> Option<Vec<u8>> {
        let mut reply = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
        reply.metadata.recursion_desired = asked.metadata.recursion_desired;
        reply.metadata.checking_disabled = asked.metadata.checking_disabled;
        reply.metadata.recursion_available = true;
        reply.queries.clone_from(&asked.queries);
        if let Some(edns) = &asked.edns {
            let mut own = Edns::new();
            own.set_max_payload(UDP_OCTETS.1).set_dnssec_ok(edns.flags().dnssec_ok);
            reply.edns = Some(own);
        }
        match asked.queries.first() {
            Some(question) => self.look_up(question, &mut reply).await,
            None => reply.metadata.response_code = ResponseCode::FormErr,
        }
        let octets = reply.to_vec().ok()?;
        let most = match (transport, &asked.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => UDP_OCTETS.0,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(UDP_OCTETS.0, UDP_OCTETS.1),
        };
        if octets.len() <= most.into() {
            return Some(octets);
        }
        (reply.answers, reply.authorities) = (Vec::new(), Vec::new());
        reply.metadata.truncation = true;
        reply.to_vec().ok()
    }

    async fn look_up(&self, question: &Query, reply: &mut Message) {
        let Ok(_seat) = self.seats.try_acquire() else {
            reply.metadata.response_code = ResponseCode::ServFail;
            return;
        };
        let told = if question.query_class() == DNSClass::IN {
            let lookup = self.resolver.lookup(question.name().clone(), question.query_type());
            timeout(PATIENCE, lookup).await.unwrap_or(Err(NetError::Timeout))
        } else {
            Err(NetError::from("another class"))
        };
        let (rcode, answers, authorities) = said(told);
        reply.metadata.response_code = rcode;
        (reply.answers, reply.authorities) = (answers, authorities);
    }
}

impl Elsewhere for Forwarder {
    fn ask(&self, message: Vec<u8>, transport: Transport) -> Pending {
        let forwarder = self.clone();
        Box::pin(async move { forwarder.answer(Message::from_vec(&message).ok()?, transport).await })
    }
}

/// A failure is SERVFAIL, which nobody takes for an absence.
fn said(told: Result<Lookup, NetError>) -> (ResponseCode, Vec<Record>, Vec<Record>) {
    match told {
        Ok(lookup) => (ResponseCode::NoError, lookup.answers().to_vec(), Vec::new()),
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { soa, response_code, .. })))
            if matches!(response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            let soa = soa.map(|soa| (*soa).into_record_of_rdata());
            (response_code, Vec::new(), soa.into_iter().collect())
        }
        Err(_) => (ResponseCode::ServFail, Vec::new(), Vec::new()),
    }
}
