//! What every cluster has before a test comes: three nodes in three zones, CRDs of Istio's networking, of what says whether a
//! mesh encrypts, and of MCS, and the root namespace of a mesh.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};

use crate::parts::Parts;
use crate::site::Site;
use crate::{Result, eventually, manifest};

/// Nodes of a cluster, one a zone.
pub(crate) const NODES: u8 = 3;

/// The definitions compile for two seconds; for many more when the machine is busy.
const CRDS: Duration = Duration::from_secs(30);

/// Where Istio would be.
const ROOT: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n";

/// The definitions, read once for all clusters.
pub(crate) struct Crds(Vec<String>);

impl Crds {
    /// Istio's are in one file, the MCS ones in a directory. Of Istio's these are enough, and they are most of what an API
    /// server can compile in two seconds.
    pub(crate) fn read(parts: &Parts) -> Result<Self> {
        let mut definitions = documents(&parts.share("istio-crds.yaml")?)?;
        let wanted = ["\n  group: networking.istio.io\n", "\n  name: peerauthentications.security.istio.io\n"];
        definitions.retain(|definition| wanted.iter().any(|line| definition.contains(line)));
        for file in fs::read_dir(parts.share("mcs-crds")?)? {
            definitions.extend(documents(&file?.path())?);
        }
        Ok(Self(definitions))
    }
}

/// The YAML documents of a file that hold an object. The API server parses them itself, faster than we could.
fn documents(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let holds_an_object = |document: &&str| document.lines().any(|line| line.starts_with("kind:"));
    Ok(text.split("\n---").filter(holds_an_object).map(str::to_owned).collect())
}

/// Furnishes a fresh cluster and waits until all of it can be used.
pub(crate) async fn furnish(site: &Site, client: &Client, crds: &Crds) -> Result {
    futures::try_join!(define(client, crds), add_objects(site, client))?;
    Ok(())
}

async fn define(client: &Client, crds: &Crds) -> Result {
    for definition in &crds.0 {
        let url = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let body = definition.clone().into_bytes();
        let mut create = kube::core::Request::new(url).create(&PostParams::default(), body)?;
        create.headers_mut().insert("content-type", "application/yaml".parse()?);
        client.request_text(create).await.context("create a CRD")?;
    }
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in definitions.list(&ListParams::default()).await? {
        let what = format!("{} is served", crd.name_any());
        eventually(CRDS, &what, async || serve(client, &crd).await).await?;
    }
    Ok(())
}

/// A definition is usable when its objects can be listed; its own conditions say so too early.
async fn serve(client: &Client, crd: &CustomResourceDefinition) -> Result {
    for version in crd.spec.versions.iter().filter(|version| version.served) {
        let url = format!("/apis/{}/{}/{}", crd.spec.group, version.name, crd.spec.names.plural);
        let list = kube::core::Request::new(url).list(&ListParams::default().limit(1))?;
        client.request_text(list).await?;
    }
    Ok(())
}

async fn add_objects(site: &Site, client: &Client) -> Result {
    let mut objects = ROOT.to_owned();
    for n in 1..=NODES {
        let (cluster, pods) = (site.name, site.node_pod_cidr(n));
        write!(
            objects,
            "---
apiVersion: v1
kind: Node
metadata:
  name: {cluster}-{n}
  labels:
    kubernetes.io/hostname: {cluster}-{n}
    topology.kubernetes.io/region: {cluster}
    topology.kubernetes.io/zone: {cluster}-{n}
spec: {{podCIDR: {pods}, podCIDRs: [{pods}]}}
"
        )?;
    }
    manifest::apply(client, "default", &objects).await?;
    let nodes = Api::<Node>::all(client.clone());
    eventually(CRDS, "every node is ready", async || {
        for node in nodes.list(&ListParams::default()).await? {
            ensure!(is_ready(&node), "{} is not", node.name_any());
        }
        Ok(())
    })
    .await
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
