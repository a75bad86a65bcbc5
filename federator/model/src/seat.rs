//! Who publishes a cluster, and who could. What stands here comes and goes with leases, so it is not part of a View.
//! Knows nothing of how the seat is taken or handed on.

use std::fmt;

/// Who publishes a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The agent's name, unique in the fleet.
    pub agent: String,
    /// The uid of the cluster as that agent sees it.
    pub uid: String,
    /// Its lease: an agent that was started again under its old name is another one.
    pub lease: i64,
    /// What it is to the cluster.
    pub role: Role,
    /// How often it was handed back to the cluster's own agents without staying with them for long.
    pub flaps: u32,
}

/// Who could publish a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// What it is to the cluster.
    pub role: Role,
    /// Whether it sees the cluster, as far as the marker says that it was read. One that does not is still looking.
    pub qualified: bool,
    /// The lease that the owner key would be bound to.
    pub lease: i64,
}

/// What an agent is to a cluster; the nearer comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It is in it.
    #[default]
    Home,
    /// It holds its Secret.
    Deputy,
    /// It sees nothing of it, and writes again what a lost store held of it.
    Caretaker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Home => "home",
            Self::Deputy => "deputy",
            Self::Caretaker => "caretaker",
        })
    }
}
