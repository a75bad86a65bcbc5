//! How a service wants to be answered by name, where the fleet's own settings do not suit it. What each mode gives is for
//! whoever names services to know.

use std::fmt;

/// The longest that an answer may be kept, in seconds: a day.
pub const MAX_TTL: u32 = 86_400;

/// What an exporter asks of answers; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// What its name answers; `None` leaves that to the listener that is asked.
    pub mode: Option<AnswerMode>,
    /// For how many seconds an answer may be kept, at most [`MAX_TTL`]; `None` leaves that to the agent.
    pub ttl: Option<u32>,
}

/// What a name answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerMode {
    /// The endpoints that a client without a mesh can connect to.
    #[default]
    Endpoints,
    /// The virtual address, for clients in the mesh.
    Vip,
    /// The ClusterIP of the agent's own cluster while it has ready endpoints, else the endpoints.
    Cluster,
}

// === impl AnswerMode ===

impl AnswerMode {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Endpoints, Self::Vip, Self::Cluster];

    /// By its name; `None` when there is none of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Vip => "vip",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for AnswerMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
