//! What an agent writes into its own cluster, whatever Istio is there: an old one, none, or one that comes later; and
//! whoever else writes there.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use harness::{Cluster, Fleet, Result, SOON, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use model::vip::VipRanges;
use serde_json::{Value, json};

use crate::federation::{entry_addresses, service_entry_in};
use crate::observation::{define, undefine};

/// The definition of ServiceEntries.
const DEFINITION: &str = "serviceentries.networking.istio.io";

/// Has ServiceEntries served in these versions only.
async fn serve(cluster: &Cluster, versions: &[&str]) -> Result {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let mut definition = definitions.get(DEFINITION).await?;
    for version in &mut definition.spec.versions {
        version.served = versions.contains(&&*version.name);
    }
    definitions.replace(DEFINITION, &PostParams::default(), &definition).await?;
    Ok(())
}

#[test]
fn istio_may_be_old_or_absent_and_come_later() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("versions").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 2, 8080).await?;
        serve(&north, &["v1beta1", "v1alpha3"]).await?;
        let agent = fleet.agent_of(&north).embedded().emitting().start().await?;
        let host = format!("web.{ns}.global");
        let holds = async |version: &str, count: usize| {
            eventually(SOON * 2, "the entry is there", async || {
                let found = entry_addresses(&service_entry_in(version, &north, &ns, &host).await?).len();
                ensure!(found == count, "{found} endpoints");
                Ok(())
            })
            .await
        };
        holds("v1beta1", 2).await?;
        serve(&north, &["v1alpha3"]).await?;
        north.scale(&ns, "web", 3).await?;
        holds("v1alpha3", 3).await?;

        let definition = undefine(&north, DEFINITION).await?;
        let missing =
            "the cluster serves no ServiceEntry of networking.istio.io in v1, v1beta1, v1alpha3: install Istio's CRDs";
        agent.wait_until("Istio is missed", |now| now["emit"]["trouble"] == *missing).await?;
        define(&north, definition).await?;
        holds("v1alpha3", 3).await?;
        agent.wait_until("nothing is missed", |now| now["emit"]["trouble"] == Value::Null).await?;
        Ok(())
    })
}

/// What a user may have written before we came, or writes afterwards: an entry of the host, and a rule for it.
const THEIRS: [(&str, &str, &str); 2] = [
    (
        "ServiceEntry",
        "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: theirs}
spec: {hosts: [HOST], ports: [{number: 8080, name: http, protocol: HTTP}], resolution: DNS}
",
        "HostTaken: ServiceEntry NS/theirs has this host; nothing is written while it does",
    ),
    (
        "DestinationRule",
        "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: theirs}
spec: {host: HOST, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}}
",
        "DestinationRule NS/theirs is for this host, and counts instead",
    ),
];

#[test]
fn what_a_user_writes_of_a_host_counts_and_ours_gives_way() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("theirs").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let agent = fleet.agent_of(&north).embedded().emitting().start().await?;
        let host = format!("web.{ns}.global");
        for (kind, theirs, said) in THEIRS {
            let gvk = GroupVersionKind::gvk("networking.istio.io", "v1", kind);
            let api: Api<DynamicObject> = Api::namespaced_with(north.client(), &ns, &ApiResource::from_gvk(&gvk));
            let there = async |expected: bool| {
                eventually(SOON, &format!("{kind} of ours: {expected}"), async || {
                    let found = api.get_opt(&host).await?.is_some();
                    ensure!(found == expected, "{found}");
                    Ok(())
                })
                .await
            };
            there(true).await?;
            north.apply(&ns, &theirs.replace("HOST", &host)).await?;
            let (key, said) = (format!("{kind} {ns}/{host}"), said.replace("NS", &ns));
            let troubles = |now: &Value| now["emit"]["troubles"][&key] == *said;
            agent.wait_until(&format!("it says: {said}"), troubles).await?;
            there(false).await?;
            api.delete("theirs", &DeleteParams::default()).await?;
            there(true).await?;
            agent.wait_until("nothing is said", |now| now["emit"]["troubles"][&key].is_null()).await?;
        }
        Ok(())
    })
}

/// So many services that nobody writes all of their objects at once.
const MANY: usize = 300;

#[test]
fn a_crash_between_two_writes_leaves_nothing_behind() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("crash").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let service = |n: usize| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: web-{n}, labels: {{half: '{}'}}}}\n\
                 spec: {{ports: [{{name: http, port: 80}}]}}\n",
                n % 2
            )
        };
        north.apply(&ns, &(0..MANY).map(service).collect::<Vec<_>>().join("---\n")).await?;
        let ours = async |kind: &str| {
            let api: Api<DynamicObject> = Api::namespaced_with(
                north.client(),
                &ns,
                &ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", kind)),
            );
            let listed = api.list(&ListParams::default().labels("app.kubernetes.io/managed-by=federator")).await?;
            anyhow::Ok(listed.items.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>())
        };
        let agent = fleet.agent_of(&north).embedded().emitting().start().await?;
        eventually(SOON, "it has begun to write", async || {
            ensure!(!ours("ServiceEntry").await?.is_empty(), "nothing is written");
            Ok(())
        })
        .await?;
        agent.kill()?;
        let (entries, rules) = (ours("ServiceEntry").await?, ours("DestinationRule").await?);
        ensure!(entries.len() + rules.len() < 2 * MANY, "it was done before it was killed");

        // Whatever it had written of these must go, and nobody tells the next process of it.
        north.kubectl(["delete", "services", "--namespace", &ns, "--selector", "half=1"])?.done()?;
        agent.start().await?;
        let left: BTreeSet<String> = (0..MANY).step_by(2).map(|n| format!("web-{n}.{ns}.global")).collect();
        eventually(SOON * 2, "there is what there should be, and nothing else", async || {
            for kind in ["ServiceEntry", "DestinationRule"] {
                let found = ours(kind).await?;
                ensure!(found == left, "of {kind}: {} instead of {}", found.len(), left.len());
            }
            Ok(())
        })
        .await
    })
}

/// Whoever fights does so this often.
const BLOWS: usize = 60;

#[test]
fn who_changes_our_objects_is_not_fought_without_end() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("fight").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let agent = fleet.agent_of(&north).embedded().emitting().start().await?;
        let host = format!("web.{ns}.global");
        let gvk = GroupVersionKind::gvk("networking.istio.io", "v1", "ServiceEntry");
        let api: Api<DynamicObject> = Api::namespaced_with(north.client(), &ns, &ApiResource::from_gvk(&gvk));
        let is_right = async || {
            eventually(SOON, "the entry is as it should be", async || {
                let entry = api.get(&host).await?;
                ensure!(entry.data["spec"]["hosts"] == json!([host]), "{}", entry.data);
                Ok(())
            })
            .await
        };
        is_right().await?;
        let writes = async || anyhow::Ok(agent.status().await?["emit"]["writes"].as_u64().context("writes")?);
        let change = async |spec: Value| {
            api.patch(&host, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await?;
            anyhow::Ok(())
        };
        // What is nobody's but theirs stays; it takes a write to find out.
        let before = writes().await?;
        change(json!({"exportTo": ["."]})).await?;
        agent.wait_until("it was looked at", |now| now["emit"]["writes"].as_u64() > Some(before)).await?;
        assert_eq!(api.get(&host).await?.data["spec"]["exportTo"], json!(["."]));

        // What is ours is put right, and with every time later.
        change(json!({"hosts": ["theirs.example"]})).await?;
        is_right().await?;
        let before = writes().await?;
        for _ in 0..BLOWS {
            change(json!({"hosts": ["theirs.example"]})).await?;
        }
        let key = format!("ServiceEntry {ns}/{host}");
        let said = |now: &Value| {
            let why = now["emit"]["troubles"][&key].as_str().unwrap_or_default();
            why.starts_with("somebody else has changed it ") && why.ends_with(" it is put right later each time")
        };
        while !said(&agent.status().await?) {
            change(json!({"hosts": ["theirs.example"]})).await?;
        }
        let fought = writes().await? - before;
        ensure!(fought < 10, "{fought} writes against more than {BLOWS} changes");
        is_right().await?;
        assert_eq!(api.get(&host).await?.data["spec"]["exportTo"], json!(["."]), "theirs is still there");
        Ok(())
    })
}

/// An entry of ours that an earlier life has left.
const LEFT: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: HOST, labels: {app.kubernetes.io/managed-by: federator}}
spec:
  hosts: [HOST]
  addresses: [V4, 'V6']
  ports: [{number: 1, name: http, protocol: HTTP}]
  resolution: STATIC
";

#[test]
fn addresses_outlive_the_store_in_what_was_written() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("left").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let host = format!("web.{ns}.global");
        // Not the first that is tried for it: that was another host's at the time.
        let ranges = VipRanges::new("240.64.0.0/12".parse()?, "fdfe:d066::/64".parse()?)?;
        let had = ranges.candidates(&host).nth(2).context("there are many")?;
        let left = LEFT.replace("V4", &had.v4.to_string()).replace("V6", &had.v6.to_string());
        north.apply(&ns, &left.replace("HOST", &host)).await?;
        let agent = fleet.agent_of(&north).embedded().emitting().start().await?;
        let addresses = json!([had.v4, had.v6]);
        let has = |now: &Value| now["services"][format!("{ns}/web")]["addresses"] == addresses;
        agent.wait_until("the addresses are those that it had", has).await?;
        eventually(SOON, "the entry has it still", async || {
            let entry = service_entry_in("v1", &north, &ns, &host).await?.data["spec"].take();
            ensure!(entry["ports"][0]["number"] == 8080 && entry["addresses"][0] == addresses[0], "{entry}");
            Ok(())
        })
        .await
    })
}
