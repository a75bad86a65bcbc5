//! Remote Secrets are Istio's own: those that istioctl makes work here as they are, and istiod takes ours.

use anyhow::ensure;
use harness::{Fleet, Result, SOON, eventually};
use serde_json::json;

use crate::federation::pods;
use crate::membership::told;

/// Istio's role for our account.
const BOTH: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: federator-reader-for-istiod}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: istio-reader-clusterrole-istio-system}
subjects: [{kind: ServiceAccount, name: federator-reader, namespace: istio-system}]
";

#[test]
fn istioctl_makes_secrets_for_us_and_we_make_them_for_istiod() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("istio").await?;
        let [west, south] = ["west", "south"].map(|name| fleet.cluster(name));
        let north = fleet.spare().await?;
        west.deploy(&ns, "theirs", 1, 8080).await?;
        south.deploy(&ns, "ours", 1, 8080).await?;
        // Whoever reads a cluster has its namespace there.
        for cluster in [west, south, &*north] {
            cluster.reader("istio").await?;
        }
        let kubeconfig = west.kubeconfig().display().to_string();
        let theirs = west.istioctl(["create-remote-secret", "--kubeconfig", &kubeconfig, "--name", "west"])?.done()?;
        let kubeconfig = south.kubeconfig().display().to_string();
        // Istiod reads more than we do, so our account needs Istio's role beside its own; istioctl makes that.
        south.istioctl(["create-remote-secret", "--kubeconfig", &kubeconfig, "--name", "south"])?.done()?;
        south.apply("istio-system", BOTH).await?;
        let ours =
            south.federator(["remote-secret", "create", "--kubeconfig", &kubeconfig, "--name", "south"])?.done()?;
        north.apply("istio-system", &theirs).await?;
        north.apply("istio-system", &ours).await?;

        let istiod = north.istiod().await?;
        eventually(SOON, "istiod has read both clusters", async || {
            let clusters = istiod.clusters().await?;
            let synced = |id: &str| clusters.contains(&(id.to_owned(), "synced".to_owned()));
            ensure!(synced("west") && synced("south"), "{clusters:?}");
            Ok(())
        })
        .await?;

        let home = north.kubeconfig();
        let agent = fleet.agent_of(&north).embedded().config(|config| {
            config["membership"] = json!({
                "kubernetes": {"kubeconfig": home},
                "namespaces": ["istio-system"],
                "defaults": {"network": "n1"},
            });
        });
        let agent = agent.start().await?;
        told(&agent, &format!("theirs.{ns}.global"), &pods(west, &ns, "theirs").await?).await?;
        told(&agent, &format!("ours.{ns}.global"), &pods(south, &ns, "ours").await?).await?;
        let status = agent.status().await?;
        for cluster in ["west", "south"] {
            ensure!(status["clusters"][cluster]["conditions"].is_null(), "{status}");
        }
        // istioctl's account may not write Leases, so there are no renewals there to be seen.
        let left_out = |cluster: &str| status["clusters"][cluster]["observed"]["leftOut"].to_string();
        ensure!(left_out("west").contains("the canary cannot be renewed"), "{status}");
        ensure!(!left_out("south").contains("the canary cannot be renewed"), "{status}");
        Ok(())
    })
}
