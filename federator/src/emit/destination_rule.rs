//! Istio's DestinationRule, as far as it is written here. Fields are in the order of their names: so is what is written.

use serde::Serialize;

/// `DestinationRule.spec`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRule {
    /// The namespaces that see it; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
    /// The host that it is for.
    pub host: String,
    /// What holds for all of it.
    pub traffic_policy: TrafficPolicy,
}

/// `DestinationRule.spec.trafficPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// Who is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Who is not chosen for a while.
    pub outlier_detection: OutlierDetection,
}

/// `trafficPolicy.loadBalancer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// By where endpoints are.
    pub locality_lb_setting: LocalityLbSetting,
}

/// `loadBalancer.localityLbSetting`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalityLbSetting {
    /// The labels by which an endpoint is the nearer the more of them, from the first on, are the client's own.
    pub failover_priority: Vec<&'static str>,
}

/// `trafficPolicy.outlierDetection`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// How long the first ejection lasts.
    pub base_ejection_time: &'static str,
    /// How many answers of any 5xx eject; none does where it is zero.
    pub consecutive_5xx_errors: u32,
    /// How many failures to connect, time-outs, or answers of 502, 503 and 504 eject.
    pub consecutive_gateway_errors: u32,
    /// How many of the endpoints may be ejected at once.
    pub max_ejection_percent: u32,
}

// === impl DestinationRule ===

impl DestinationRule {
    /// The rule without which Istio sends traffic anywhere alike: near endpoints first, far ones when those fail. Istio
    /// orders by place only where outliers are detected. All may be ejected, because there is somewhere else to go; answers
    /// of an application's own are not held against it.
    ///
    /// Not `by_label`, the order is that of regions, zones and subzones alone. Levels by label among endpoints that are host
    /// names end the process of istiod 1.31, as soon as labels tell them apart: a rule must never ask for them there.
    #[must_use]
    pub fn near_first(host: &str, by_label: bool) -> Self {
        let failover_priority =
            vec!["topology.istio.io/network", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"];
        Self {
            export_to: Vec::new(),
            host: host.to_owned(),
            traffic_policy: TrafficPolicy {
                load_balancer: by_label
                    .then_some(LoadBalancer { locality_lb_setting: LocalityLbSetting { failover_priority } }),
                outlier_detection: OutlierDetection {
                    base_ejection_time: "30s",
                    consecutive_5xx_errors: 0,
                    consecutive_gateway_errors: 5,
                    max_ejection_percent: 100,
                },
            },
        }
    }
}
