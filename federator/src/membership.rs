//! Membership: which clusters there are. The remote Secrets of the agent's own cluster become a roster, as
//! `istioctl create-remote-secret` writes them; what is in a kubeconfig is for whoever uses it, so everything here is
//! generic over the access that one gives. Beside it stands what only an administrator does: removing a cluster from
//! the fleet, accepting a withdrawal. Knows nothing of what is observed in a cluster.

pub mod registrar;
pub mod removal;
pub mod roster;
pub mod secret;
pub mod versions;
pub mod watch;
pub mod withdrawal;
