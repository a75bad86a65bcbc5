//! One agent per cluster.
