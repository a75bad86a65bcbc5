//! The records of what is not a service: the generation of the store, who publishes a cluster, and how that stands.

use super::{Record, RecordError, check_reader};
use crate::{
    cluster::{Hold, SetHash, State},
    generation::Generation,
    seat::{Candidate, Owner, Role},
    wire,
};
use prost::Message;

impl Record for Generation {
    fn encode(&self) -> Vec<u8> {
        let past = self.past.iter().map(ToString::to_string).collect();
        wire::Generation { id: self.id.to_string(), base: self.base, settled: self.settled, past, reader: 0 }
            .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::Generation::decode(bytes)?;
        check_reader(wire.reader)?;
        let past = wire.past.into_iter().map(Into::into).collect();
        Ok(Self { id: wire.id.into(), base: wire.base, settled: wire.settled, past })
    }
}

impl Record for Owner {
    fn encode(&self) -> Vec<u8> {
        wire::Owner {
            agent: self.agent.clone(),
            uid: self.uid.clone(),
            lease: self.lease,
            role: role_to_wire(self.role).into(),
            flaps: self.flaps,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::Owner::decode(bytes)?;
        let role = role_from_wire(wire.role());
        Ok(Self { agent: wire.agent, uid: wire.uid, lease: wire.lease, role, flaps: wire.flaps })
    }
}

impl Record for Candidate {
    fn encode(&self) -> Vec<u8> {
        let role = role_to_wire(self.role).into();
        wire::Candidate { role, qualified: self.qualified, lease: self.lease }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::Candidate::decode(bytes)?;
        Ok(Self { role: role_from_wire(wire.role()), qualified: wire.qualified, lease: wire.lease })
    }
}

impl Record for State {
    fn encode(&self) -> Vec<u8> {
        let reason = self.reason.to_string();
        wire::State { frozen: self.frozen, since: self.since, reason, reader: 0 }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::State::decode(bytes)?;
        check_reader(wire.reader)?;
        Ok(Self { frozen: wire.frozen, since: wire.since, reason: wire.reason.into() })
    }
}

impl Record for Hold {
    fn encode(&self) -> Vec<u8> {
        wire::Hold {
            since: self.since,
            set: self.set.to_bytes().to_vec(),
            endpoints: self.endpoints,
            reason: self.reason.to_string(),
            accepted: self.accepted,
            went_back: self.went_back,
            reader: 0,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::Hold::decode(bytes)?;
        check_reader(wire.reader)?;
        let set = wire.set.as_slice().try_into().map_err(|_| RecordError::HashLength(wire.set.len()))?;
        Ok(Self {
            since: wire.since,
            set: SetHash::from_bytes(set),
            endpoints: wire.endpoints,
            reason: wire.reason.into(),
            accepted: wire.accepted,
            went_back: wire.went_back,
        })
    }
}

fn role_to_wire(role: Role) -> wire::Role {
    match role {
        Role::Home => wire::Role::Home,
        Role::Deputy => wire::Role::Deputy,
        Role::Caretaker => wire::Role::Caretaker,
    }
}

fn role_from_wire(role: wire::Role) -> Role {
    match role {
        wire::Role::Home => Role::Home,
        wire::Role::Deputy => Role::Deputy,
        wire::Role::Caretaker => Role::Caretaker,
    }
}
