//! What clusters contradict each other in is decided for all of them at once: the first to export a service is heard,
//! every agent says so in the same words, and nobody who comes later changes it.

use harness::{Agent, Fleet, Result};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::DeleteParams};
use serde_json::Value;

use crate::federation::converged;

/// What the first one exports.
const FIRST: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, labels: {team: home}}
spec:
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  ports: [{name: http, port: 80}]
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: web, labels: {team: home}}
spec: {exportedLabels: {team: shop}, exportedAnnotations: {note: two words}}
";

/// What another one exports by that name.
const OTHER: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  sessionAffinity: ClientIP
  trafficDistribution: PreferClose
  ports: [{name: http, port: 81}, {name: admin, port: 90}]
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: web}
spec: {exportedLabels: {team: bank}}
";

/// Waits until a service is as it should be in the status of every agent.
async fn said(agents: &[&Agent], service: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result {
    for agent in agents {
        agent.wait_until(&format!("{service} {what}"), |status| holds(&status["services"][service])).await?;
    }
    Ok(())
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[test]
fn the_first_to_export_a_service_is_heard_and_everybody_is_told() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("conflicts").await?;
        let [east, west, south] = ["east", "west", "south"].map(|name| fleet.cluster(name));
        let agents = fleet.agents().await?;
        let agents: Vec<&Agent> = agents.iter().collect();
        let web = format!("{ns}/web");
        let exporters = |count| move |service: &Value| service["exports"].as_array().map_or(0, Vec::len) == count;
        // Age is the order in which they come.
        for (cluster, manifests, count) in [(east, FIRST, 1), (west, OTHER, 2), (south, FIRST, 3)] {
            cluster.apply(&ns, manifests).await?;
            said(&agents, &web, &format!("is exported by {count}"), exporters(count)).await?;
        }

        let lost = [
            "PortConflict: all ports are used, of each name and number that of who exported the service first; \
             west has 81/TCP(http) where 80/TCP(http) of east is used",
            "SessionAffinityConfigConflict: sessionAffinityConfig 60 s of east is used, which exported the service \
             first; west has 10800 s",
            "TrafficDistributionConflict: trafficDistribution none of east is used, which exported the service first; \
             west has PreferClose",
            "LabelsConflict: exportedLabels of east are used, which exported the service first; west differs in team",
            "AnnotationsConflict: exportedAnnotations of east are used, which exported the service first; \
             west differs in note",
        ];
        // Two of three lack what one of them alone has.
        let all_ports = "PortConflict: all ports are used, of each name and number that of who exported the service \
                         first; east lacks 90/TCP(admin) of west; west has 81/TCP(http) where 80/TCP(http) of east is \
                         used; south lacks 90/TCP(admin) of west";
        said(&agents, &web, "tells everybody who won and why", |service| {
            let expected: Vec<_> = [all_ports].iter().chain(&lost[1..]).copied().collect();
            let told = |n: usize| texts(&service["exports"][n]["conflicts"]);
            texts(&service["conflicts"]) == expected
                && texts(&service["ports"]) == ["80/TCP(http)", "90/TCP(admin)"]
                && told(1) == lost
                && [0, 2].iter().all(|n| told(*n).len() == lost.len() && told(*n)[1..] == lost[1..])
        })
        .await?;
        converged(&agents).await?;

        // The next oldest is heard once the oldest is gone, and what does not contradict it any more is not said.
        let services: Api<Service> = Api::namespaced(east.client(), &ns);
        services.delete("web", &DeleteParams::default()).await?;
        said(&agents, &web, "is what its next oldest says", |service| {
            texts(&service["ports"]) == ["81/TCP(http)", "90/TCP(admin)"]
                && texts(&service["conflicts"]).iter().all(|text| text.contains(" of west "))
        })
        .await?;
        south.apply(&ns, OTHER).await?;
        said(&agents, &web, "has no conflicts", |service| {
            exporters(2)(service) && texts(&service["conflicts"]).is_empty()
        })
        .await?;
        converged(&agents).await?;
        Ok(())
    })
}
