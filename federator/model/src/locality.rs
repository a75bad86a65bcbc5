//! Where something runs: region and zone, in Istio's spelling, and the network it is on. Knows nothing of nodes or
//! labels; those are read where clusters are observed.

use std::{
    borrow::Borrow,
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock},
};

/// `region/zone/subzone`, as Istio writes it in `ServiceEntry.endpoints[].locality`. A level is empty when it is
/// not known; a level below an empty one is never written, because Istio reads segments by position. As small as a
/// pointer: there is one in every endpoint, and few different ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality(pub(crate) Arc<Levels>);

/// The levels of a locality.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Levels {
    /// `topology.kubernetes.io/region`.
    pub region: Arc<str>,
    /// `topology.kubernetes.io/zone`.
    pub zone: Arc<str>,
    /// `topology.istio.io/subzone`.
    pub subzone: Arc<str>,
}

/// A network: clusters whose pods reach each other's pod addresses share one. Clusters that name none share the
/// unnamed one, as in Istio.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(Arc<str>);

// === impl Locality ===

impl Locality {
    /// From its three levels; an empty text is an unknown level.
    #[must_use]
    pub fn new(region: &str, zone: &str, subzone: &str) -> Self {
        Self::from(Levels { region: region.into(), zone: zone.into(), subzone: subzone.into() })
    }

    /// The same region, and a zone of which nothing more is known.
    #[must_use]
    pub fn with_zone(&self, zone: Arc<str>) -> Self {
        Self::from(Levels { region: self.region.clone(), zone, subzone: "".into() })
    }

    /// What is the same for both, from the region on.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let is = |same: bool, level: &Arc<str>| if same { level.clone() } else { "".into() };
        let region = self.region == other.region;
        let zone = region && self.zone == other.zone;
        let subzone = zone && self.subzone == other.subzone;
        Self::from(Levels {
            region: is(region, &self.region),
            zone: is(zone, &self.zone),
            subzone: is(subzone, &self.subzone),
        })
    }

    /// Whether nothing at all is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.region.is_empty()
    }
}

impl Default for Locality {
    fn default() -> Self {
        static UNKNOWN: LazyLock<Locality> = LazyLock::new(|| Locality::new("", "", ""));
        UNKNOWN.clone()
    }
}

impl From<Levels> for Locality {
    fn from(levels: Levels) -> Self {
        Self(Arc::new(levels))
    }
}

impl Borrow<Levels> for Locality {
    fn borrow(&self) -> &Levels {
        &self.0
    }
}

impl Deref for Locality {
    type Target = Levels;

    fn deref(&self) -> &Levels {
        &self.0
    }
}

impl fmt::Debug for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        if self.region.is_empty() || self.zone.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.zone)?;
        if self.subzone.is_empty() { Ok(()) } else { write!(f, "/{}", self.subzone) }
    }
}

// === impl Network ===

impl Network {
    /// The network of that name; an empty text is the unnamed network.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name, or an empty text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no network was named.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Arc<str>> for Network {
    fn from(name: Arc<str>) -> Self {
        Self(name)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_unnamed() { "(unnamed)" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locality_stops_at_the_first_unknown_level() {
        for (region, zone, subzone, text) in [
            ("", "", "", ""),
            ("r", "", "", "r"),
            ("r", "z", "", "r/z"),
            ("r", "z", "s", "r/z/s"),
            ("r", "", "s", "r"),
            ("", "z", "", ""),
        ] {
            assert_eq!(Locality::new(region, zone, subzone).to_string(), text);
        }
    }
}
