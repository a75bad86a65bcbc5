//! What an agent means its cluster to have, shown before and after it is there: `federator render`, `federator diff` and
//! `emit.dryRun`.

use anyhow::ensure;
use harness::{Agent, Cluster, Fleet, Result, SOON, Said, eventually};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams};
use serde_json::{Value, json};

use crate::federation::service_entry;

/// Where entries go of services that the cluster does not have, and an account that may do everything.
const BEFORE: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: writer, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: writer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: writer, namespace: kube-system}]
";

/// A ServiceEntry that somebody else made, where ours would be.
const FOREIGN: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: HOST}
spec: {hosts: [other.example.com], ports: [{name: http, number: 80, protocol: HTTP}], resolution: DNS}
";

/// What is left alone.
const REMARK: &str = "an object of this name is somebody else's; it is left alone";

fn render(cluster: &Cluster, agent: &Agent) -> Result<String> {
    cluster.federator(["render", "--agent", &agent.url()])?.done()
}

fn diff(cluster: &Cluster, agent: &Agent) -> Result<Said> {
    let config = agent.config_file().display().to_string();
    cluster.federator(["diff", "--agent", &agent.url(), "--config", &config])
}

/// How many ServiceEntries there are.
async fn entries(cluster: &Cluster) -> Result<usize> {
    let gvk = kube::core::GroupVersionKind::gvk("networking.istio.io", "v1", "ServiceEntry");
    let api: Api<DynamicObject> =
        Api::all_with(cluster.client(), &ApiResource::from_gvk_with_plural(&gvk, "serviceentries"));
    Ok(api.list(&ListParams::default()).await?.items.len())
}

#[test]
fn what_is_shown_is_what_is_written() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("shown").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.apply("", BEFORE).await?;
        north.deploy(&ns, "web", 2, 8080).await?;
        north.deploy(&ns, "api", 1, 8080).await?;
        let [web, api] = ["web", "api"].map(|name| format!("{name}.{ns}.global"));
        let account = north.account("kube-system", "writer")?;
        let members = ["east", "west"].map(|name| fleet.cluster(name).membership());
        fleet.cluster("west").deploy(&ns, "far", 1, 8080).await?;

        // Nothing is written, and all of it is shown.
        let dry = fleet.agent_of(&north).embedded().config(|config| {
            config["clusters"] = json!([north.membership(), members[0], members[1]]);
            config["emit"] = json!({"kubernetes": {"kubeconfig": account.kubeconfig()}, "dryRun": true});
        });
        let agent = dry.start().await?;
        let would = json!({"created": 6, "changed": 0, "deleted": 0});
        let status = agent.wait_until("says what it would write", |now| now["emit"]["dryRun"] == would).await?;
        ensure!(status["emit"]["writes"] == 0 && status["emit"]["inPlace"] == 0, "{}", status["emit"]);
        let rendered = render(&north, &agent)?;
        for host in [&web, &api, &format!("far.{ns}.global")] {
            ensure!(rendered.matches(&format!("  name: \"{host}\"\n")).count() == 2, "{host} in {rendered}");
        }
        let all = diff(&north, &agent)?;
        ensure!(all.code == 1 && all.out.matches("--- /dev/null\n").count() == 6, "{all:?}");
        ensure!(entries(&north).await? == 0);
        let writes = |verb: &str| !["get", "list", "watch"].contains(&verb);
        let requests = account.requests()?;
        let written: Vec<_> = requests.iter().filter(|request| writes(&request.verb)).collect();
        ensure!(!requests.is_empty() && written.is_empty(), "{written:?}");

        // An agent that writes brings there what was shown.
        agent.reconfigure(|config| config["emit"]["dryRun"] = false.into())?;
        agent.terminate().await?;
        agent.start().await?;
        agent.wait_until("has written everything", |now| now["emit"]["inPlace"] == 6).await?;
        let same = diff(&north, &agent)?;
        ensure!(same == Said { code: 0, out: String::new(), err: String::new() }, "{same:?}");
        ensure!(render(&north, &agent)? == rendered, "another process that has seen the same");
        agent.reconfigure(|config| config["emit"]["dryRun"] = true.into())?;
        agent.terminate().await?;

        // What was changed by hand, what is somebody else's, and what should not be there.
        let entry = service_entry(&north, &ns, &web).await?;
        let port = r#"[{"op": "replace", "path": "/spec/ports/0/protocol", "value": "TCP"}]"#;
        let edit = ["patch", "serviceentry", &web, "--namespace", &ns, "--type", "json", "--patch", port];
        north.kubectl(edit)?.done()?;
        north.kubectl(["delete", "serviceentry", &api, "--namespace", &ns])?.done()?;
        north.apply(&ns, &FOREIGN.replace("HOST", &api)).await?;
        let protocol =
            entry.data.pointer("/spec/ports/0/protocol").and_then(Value::as_str).unwrap_or_default().to_owned();
        agent.start().await?;
        let would = json!({"created": 0, "changed": 1, "deleted": 0});
        agent.wait_until("says what it would change", |now| now["emit"]["dryRun"] == would).await?;
        let edited = diff(&north, &agent)?;
        let moved = |line: &&str| line.starts_with(['+', '-', '#']);
        let expected = [
            format!("# ServiceEntry {ns}/{api}: {REMARK}"),
            format!("--- ServiceEntry {ns}/{web} (cluster)"),
            format!("+++ ServiceEntry {ns}/{web} (agent)"),
            "-  protocol: TCP".to_owned(),
            format!("+  protocol: {protocol}"),
        ];
        ensure!(edited.code == 1 && edited.out.lines().filter(moved).eq(expected.iter()), "{edited:?}");
        let trouble = &agent.status().await?["emit"]["troubles"][format!("ServiceEntry {ns}/{api}")];
        ensure!(*trouble == *REMARK, "{trouble}");

        north.kubectl(["delete", "service", "web", "--namespace", &ns])?.done()?;
        let would = json!({"created": 0, "changed": 0, "deleted": 2});
        agent.wait_until("says what it would delete", |now| now["emit"]["dryRun"] == would).await?;
        let gone = diff(&north, &agent)?;
        ensure!(gone.code == 1 && gone.out.matches("+++ /dev/null\n").count() == 2, "{gone:?}");
        eventually(SOON, "the entry stays", async || service_entry(&north, &ns, &web).await).await?;

        // What cannot be found out is no answer.
        let nowhere = north.federator(["diff", "--agent", &agent.url(), "--kubeconfig", "/nowhere"])?;
        ensure!(nowhere.code == 2 && nowhere.err.contains("/nowhere"), "{nowhere:?}");
        agent.terminate().await?;
        let unreachable = diff(&north, &agent)?;
        ensure!(unreachable.code == 2 && unreachable.out.is_empty(), "{unreachable:?}");
        Ok(())
    })
}
