//! What istiod makes of ServiceEntries, tried on entries that are written by hand: the ground on which ours are designed.
//! Whom a proxy takes an endpoint for, what it is told of another network, and what istiod does not survive.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context as _, bail, ensure};
use harness::{Fleet, Istiod, Result, SOON, XdsClient, XdsNode, eventually};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

/// Encrypts where both sides can; its own identities are of one trust domain, and it has had another name before.
const MESH: &str = "{enableAutoMtls: true, trustDomain: home.example, trustDomainAliases: [once.example]}";

/// Endpoints that say that they take mutual TLS, that they do not, and nothing.
const TLS: &str = "labels: {security.istio.io/tlsMode: istio}";
const NO_TLS: &str = "labels: {security.istio.io/tlsMode: disabled}";

/// Where a proxy is that has no pod.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 40, 3, 250);

/// A ServiceEntry for `NAME.test`, of endpoints as YAML without braces.
fn entry(name: &str, resolution: &str, names: &[&str], endpoints: &[&str]) -> String {
    let mut text = format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.test]
  location: MESH_INTERNAL
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: {resolution}
  subjectAltNames: [{}]
  endpoints:
",
        names.join(", ")
    );
    for endpoint in endpoints {
        let _ = writeln!(text, "  - {{{endpoint}}}");
    }
    text
}

/// A DestinationRule for `NAME.test` that finds out what fails, with levels by these labels if there are any.
fn rule(name: &str, labels: &[&str]) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec:
  host: {name}.test
  trafficPolicy:
    outlierDetection: {{consecutiveGatewayErrors: 5}}
    loadBalancer: {{localityLbSetting: {{failoverPriority: [{}]}}}}
  subsets: [{{name: v2, labels: {{version: v2}}}}]
",
        labels.join(", ")
    )
}

const BY_NETWORK: [&str; 3] =
    ["topology.istio.io/network", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// An endpoint, an account it runs as or not, the names its service may have; then to whom a proxy of the namespace NS
/// speaks where it encrypts, and what it is told of the endpoint.
const IDENTITIES: [(&str, &str, &[&str], &str, &str); 8] = [
    ("unsaid", "", &[], "anybody", ""),
    ("said", TLS, &[], "anybody", " istio"),
    ("denied", NO_TLS, &[], "anybody", ""),
    // An account alone turns it on, for a name of this mesh in the namespace of the entry, wherever the pod is.
    (
        "account",
        "serviceAccount: a",
        &[],
        "spiffe://home.example/ns/NS/sa/a or spiffe://once.example/ns/NS/sa/a",
        " istio",
    ),
    (
        "account-denied",
        "serviceAccount: a, labels: {security.istio.io/tlsMode: disabled}",
        &[],
        "spiffe://home.example/ns/NS/sa/a or spiffe://once.example/ns/NS/sa/a",
        "",
    ),
    // Names alone do not. Any of them will do for any endpoint, and an alias of this mesh's trust domain stands for those
    // of other meshes, too.
    (
        "names",
        "",
        &["spiffe://east.example/ns/web/sa/a", "spiffe://west.example/ns/web/sa/b"],
        "spiffe://east.example/ns/web/sa/a or spiffe://once.example/ns/web/sa/a or spiffe://once.example/ns/web/sa/b \
         or spiffe://west.example/ns/web/sa/b",
        "",
    ),
    (
        "names-said",
        TLS,
        &["spiffe://east.example/ns/web/sa/a"],
        "spiffe://east.example/ns/web/sa/a or spiffe://once.example/ns/web/sa/a",
        " istio",
    ),
    (
        "names-account",
        "serviceAccount: b",
        &["spiffe://east.example/ns/web/sa/a"],
        "spiffe://east.example/ns/web/sa/a or spiffe://home.example/ns/NS/sa/b or spiffe://once.example/ns/NS/sa/b or \
         spiffe://once.example/ns/web/sa/a",
        " istio",
    ),
];

#[test]
fn identity_is_a_label_and_a_list_of_names() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("identity").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let istiod = north.istiod_with(MESH).await?;
        let place = "address: 10.40.1.1, locality: r1/z1";
        for (name, endpoint, names, _, _) in IDENTITIES {
            north.apply(&ns, &entry(name, "STATIC", names, &[&format!("{place}, {endpoint}")])).await?;
        }
        let mut proxy = istiod.proxy(&XdsNode::sidecar(&ns, CLIENT)).await?;
        for (name, _, _, to, tls) in IDENTITIES {
            let cluster = format!("outbound|80||{name}.test");
            proxy.sees(&cluster, &format!("P0 r1/z1 10.40.1.1:80 x1{tls}")).await?;
            let to = to.replace("NS", &ns);
            let told = format!("tlsMode=istio: outbound_.80_._.{name}.test to {to}\nelse: plain");
            proxy.is_told(&cluster, &told).await?;
        }
        Ok(())
    })
}

/// In each form of an endpoint beyond a gateway: what is written, and the rows that this would be.
const FORMS: [(&str, &[&str], &[&str]); 7] = [
    (
        "field",
        &["address: 10.0.0.3, network: n2, locality: r2/z1, ports: {http: 15443}, weight: 3, TLS"],
        &["r2/z1 10.0.0.3:15443 x3 istio"],
    ),
    (
        "untold",
        &["address: 10.0.0.3, network: n2, locality: r2/z1, ports: {http: 15443}, weight: 3"],
        &["r2/z1 10.0.0.3:15443 x3"],
    ),
    (
        "label",
        &["address: 10.0.0.3, locality: r2/z1, ports: {http: 15443}, weight: 3, \
           labels: {security.istio.io/tlsMode: istio, topology.istio.io/network: n2}"],
        &["r2/z1 10.0.0.3:15443 x3 istio"],
    ),
    (
        "absent",
        &["address: 10.0.0.3, locality: r2/z1, ports: {http: 15443}, weight: 3, TLS"],
        &["r2/z1 10.0.0.3:15443 x3 istio"],
    ),
    // Without an address, which Envoy refuses, and everything else of the service with it.
    ("empty", &["network: n2, locality: r2/z1, weight: 3, TLS"], &["r2/z1 :80 x3 istio"]),
    (
        "pods",
        &[
            "address: 10.30.1.1, network: n2, locality: r2/z1, TLS",
            "address: 10.30.2.1, network: n2, locality: r2/z2, TLS",
        ],
        &["r2/z1 10.30.1.1:80 x1 istio", "r2/z2 10.30.2.1:80 x1 istio"],
    ),
    (
        "elsewhere",
        &["address: 10.0.0.4, network: n3, locality: r3/z1, ports: {http: 15443}, weight: 3, TLS"],
        &["r3/z1 10.0.0.4:15443 x3 istio"],
    ),
];

/// Who looks: pods on two networks and of none, and gateways of n1 that want to see their own network only, or all.
fn viewers(ns: &str) -> [XdsNode; 5] {
    [
        XdsNode::sidecar(ns, CLIENT).network("n1"),
        XdsNode::sidecar(ns, CLIENT).network("n2"),
        XdsNode::sidecar(ns, CLIENT),
        XdsNode::router(ns, CLIENT).network("n1").view("n1"),
        XdsNode::router(ns, CLIENT).network("n1"),
    ]
}

/// What each is told while istiod knows no gateway at all.
const NO_GATEWAY: &str = "
    form       pod-n1   pod-n2   pod      gate-of-n1  gate
    field      written  written  written  nothing     written
    untold     written  written  written  nothing     written
    label      written  written  written  written     written
    absent     written  written  written  written     written
    empty      written  written  written  nothing     written
    pods       written  written  written  nothing     written
    elsewhere  written  written  written  nothing     written
";

/// The same once it knows one into n2: 10.0.0.50, which it puts in the place of what is written.
const A_GATEWAY: &str = "
    form       pod-n1   pod-n2   pod      gate-of-n1  gate
    field      replaced written  replaced nothing     replaced
    untold     nothing  written  nothing  nothing     nothing
    label      written  written  written  written     written
    absent     written  written  written  written     written
    empty      replaced nothing  replaced nothing     replaced
    pods       replaced written  replaced nothing     replaced
    elsewhere  written  written  written  nothing     written
";

/// Compares what everybody is told with a table.
async fn agree(proxies: &mut [XdsClient], table: &str) -> Result {
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()).skip(1) {
        let (form, cells) = line.split_once(' ').context("a form and its cells")?;
        let (_, _, rows) = FORMS.iter().find(|(name, _, _)| *name == form).context("an unknown form")?;
        let cells: Vec<&str> = cells.split_whitespace().collect();
        ensure!(cells.len() == proxies.len(), "{line}");
        for (proxy, cell) in proxies.iter_mut().zip(cells) {
            let mut expected = "P0 r1/z1 10.40.1.1:80 x1 istio".to_owned();
            for row in *rows {
                let (locality, rest) = row.split_once(' ').context("a row")?;
                let (_, rest) = rest.split_once(' ').context("a row")?;
                match cell {
                    "written" => write!(expected, "\nP0 {row}")?,
                    "replaced" => write!(expected, "\nP0 {locality} 10.0.0.50:15443 {rest}")?,
                    "nothing" => {}
                    other => bail!("{form} cannot be {other}"),
                }
            }
            proxy.sees(&format!("outbound|80||{form}.test"), &expected).await.with_context(|| line.to_owned())?;
        }
    }
    Ok(())
}

#[test]
fn an_endpoint_of_another_network_is_a_gateway_with_its_network() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("networks").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let istiod = north.istiod_with(MESH).await?;
        let ours = format!("address: 10.40.1.1, network: n1, locality: r1/z1, {TLS}");
        for (form, endpoints, _) in FORMS {
            let endpoints: Vec<String> = endpoints.iter().map(|endpoint| endpoint.replace("TLS", TLS)).collect();
            let all: Vec<&str> = [&*ours].into_iter().chain(endpoints.iter().map(String::as_str)).collect();
            north.apply(&ns, &entry(form, "STATIC", &[], &all)).await?;
        }
        let versions = [
            "address: 10.40.1.1, network: n1, locality: r1/z1, labels: {security.istio.io/tlsMode: istio, version: v1}",
            "address: 10.40.2.1, network: n1, locality: r1/z2, labels: {security.istio.io/tlsMode: istio, version: v2}",
            "address: 10.0.0.3, network: n2, locality: r2/z1, ports: {http: 15443}, \
             labels: {security.istio.io/tlsMode: istio, version: v2}",
        ];
        let ruled = entry("ruled", "STATIC", &[], &versions) + &rule("ruled", &BY_NETWORK);
        north.apply(&ns, &ruled).await?;
        let (all, some) = ("outbound|80||ruled.test", "outbound|80|v2|ruled.test");

        let mut proxies = connect(&istiod, &ns).await?;
        agree(&mut proxies, NO_GATEWAY).await?;
        near_and_far(&mut proxies, all, some, "10.0.0.3").await?;

        let gateway = "apiVersion: v1\nkind: Service\nmetadata: {name: gateway, labels: {topology.istio.io/network: n2}}\n\
                       spec: {type: LoadBalancer, ports: [{name: tls, port: 15443}]}\n";
        north.apply(&ns, gateway).await?;
        let services: Api<Service> = Api::namespaced(north.client(), &ns);
        let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.50"}]}}});
        services.patch_status("gateway", &PatchParams::default(), &Patch::Merge(&address)).await?;
        // The first line of the table shows that istiod knows it; who connects then sees nothing older.
        proxies[0]
            .sees("outbound|80||field.test", "P0 r1/z1 10.40.1.1:80 x1 istio\nP0 r2/z1 10.0.0.50:15443 x3 istio")
            .await?;
        let mut proxies = connect(&istiod, &ns).await?;
        agree(&mut proxies, A_GATEWAY).await?;
        near_and_far(&mut proxies, all, some, "10.0.0.50").await
    })
}

async fn connect(istiod: &Istiod, ns: &str) -> Result<Vec<XdsClient>> {
    let mut proxies = Vec::new();
    for viewer in viewers(ns) {
        proxies.push(istiod.proxy(&viewer.locality("r1/z1")).await?);
    }
    Ok(proxies)
}

/// With levels by network: the gateway is below all that is on the network of a pod, and belongs to the subset whose
/// labels it has.
async fn near_and_far(proxies: &mut [XdsClient], all: &str, some: &str, gateway: &str) -> Result {
    let [here, there, ..] = proxies else { return Ok(()) };
    let far = format!("r2/z1 {gateway}:15443 x1 istio");
    let near = "P0 r1/z1 10.40.1.1:80 x1 istio\nP1 r1/z2 10.40.2.1:80 x1 istio";
    here.sees(all, &format!("{near}\nP2 {far}")).await?;
    here.sees(some, &format!("P0 r1/z2 10.40.2.1:80 x1 istio\nP1 {far}")).await?;
    there
        .sees(all, "P0 r2/z1 10.0.0.3:15443 x1 istio\nP1 r1/z1 10.40.1.1:80 x1 istio\nP2 r1/z2 10.40.2.1:80 x1 istio")
        .await
}

/// The east-west gateway of n1, for these hosts.
fn east_west(hosts: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: east-west}}
spec:
  selector: {{app: client}}
  servers:
    - port: {{number: 15443, name: tls, protocol: TLS}}
      tls: {{mode: AUTO_PASSTHROUGH}}
      hosts: [{hosts}]
"
    )
}

#[test]
fn a_gateway_passes_what_it_matches_and_can_see() -> Result {
    Fleet::shared(async |fleet| {
        let (ns, other) = (fleet.namespace("gateway").await?, fleet.namespace("gateway").await?);
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        other.add_to(&north).await?;
        let istiod = north.istiod_with(MESH).await?;
        let here = format!("address: 10.40.1.1, network: n1, locality: r1/z1, {TLS}");
        let far = format!("address: 10.0.0.3, network: n2, locality: r2/z1, ports: {{http: 15443}}, {TLS}");
        let private = entry("private", "STATIC", &[], &[&here]).replace("hosts:", "exportTo: [.]\n  hosts:");
        let public = ["one", "two"].map(|name| entry(name, "STATIC", &[], &[&here, &far])).concat();
        north.apply(&other, &(public + &private)).await?;
        north.apply(&ns, &east_west("one.test")).await?;

        let mut gate = istiod.proxy(&XdsNode::router(&ns, CLIENT).network("n1").view("n1")).await?;
        gate.passes(15443, "outbound_.80_._.one.test").await?;
        // Its own network alone, so that nothing comes back by the way that it came.
        gate.sees("outbound_.80_._.one.test", "P0 r1/z1 10.40.1.1:80 x1 istio").await?;
        // Neither what its namespace is not to see, nor what is not there.
        north.apply(&ns, &east_west("'*.test', three.example")).await?;
        gate.passes(15443, "outbound_.80_._.one.test\noutbound_.80_._.two.test").await?;
        let three = entry("three", "STATIC", &[], &[&far]).replace("three.test", "three.example");
        north.apply(&other, &three).await?;
        // A host without endpoints here is passed, to nobody.
        let all = "outbound_.80_._.one.test\noutbound_.80_._.three.example\noutbound_.80_._.two.test";
        gate.passes(15443, all).await?;
        gate.sees("outbound_.80_._.three.example", "").await
    })
}

#[test]
fn what_is_said_twice_is_told_twice() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("twice").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let istiod = north.istiod_with(MESH).await?;
        let addressed = |name: &str, addresses: &str, endpoint: &str| {
            let more = format!("addresses: [{addresses}]\n  hosts:");
            entry(name, "STATIC", &[], &[endpoint]).replace("hosts:", &more)
        };
        let (first, second) = ("address: 10.40.1.1, locality: r1/z1", "address: 10.40.1.2, locality: r1/z1");
        north.apply(&ns, &addressed("once", "10.250.0.1", first)).await?;
        north.apply(&ns, &addressed("twice", "10.250.0.2, 10.250.0.3", first)).await?;
        north.apply(&ns, &addressed("twin", "10.250.0.4", first)).await?;
        let twin = addressed("twin", "10.250.0.5", second).replace("name: twin", "name: other");
        north.apply(&ns, &twin).await?;

        let mut proxy = istiod.proxy(&XdsNode::sidecar(&ns, CLIENT)).await?;
        proxy.sees("outbound|80||once.test", "P0 r1/z1 10.40.1.1:80 x1").await?;
        // One endpoint for every address of its entry.
        proxy.sees("outbound|80||twice.test", "P0 r1/z1 10.40.1.1:80 x1\nP0 r1/z1 10.40.1.1:80 x1").await?;
        // And the endpoints of all entries of a host.
        proxy.sees("outbound|80||twin.test", "P0 r1/z1 10.40.1.1:80 x1\nP0 r1/z1 10.40.1.2:80 x1").await
    })
}

/// Two endpoints with names, what a gateway of n1 is told of them, and whether istiod lives on when their levels come from
/// labels: in two regions, on two networks of which the gateway wants to see one, and so that nothing tells them apart.
const NAMES: [(&str, &[&str], &str, bool); 3] = [
    (
        "regions",
        &["address: a.example, locality: r1/z1", "address: b.example, locality: r2/z1"],
        "P0 r1/z1 a.example:80 x1\nP1 r2/z1 b.example:80 x1",
        false,
    ),
    (
        "networks",
        &["address: a.example, network: n1", "address: b.example, network: n2"],
        "P0 - a.example:80 x1",
        false,
    ),
    ("alike", &["address: a.example", "address: b.example"], "P0 - a.example:80 x1\nP0 - b.example:80 x1", true),
];

#[test]
fn istiod_dies_of_levels_by_label_among_names() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("names").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let gate = XdsNode::router(&ns, CLIENT).network("n1").view("n1").locality("r1/z1");
        for (name, endpoints, table, lives) in NAMES {
            let cluster = format!("outbound|80||{name}.test");
            let istiod = north.istiod_with(MESH).await?;
            // Levels by locality alone are fine.
            north.apply(&ns, &(entry(name, "DNS", &[], endpoints) + &rule(name, &[]))).await?;
            let mut proxy = istiod.proxy(&gate).await?;
            proxy.sees(&cluster, table).await?;
            proxy.is_told(&cluster, &PLAIN.replace("NAME", name)).await?;

            north.apply(&ns, &rule(name, &BY_NETWORK)).await?;
            if lives {
                proxy.is_told(&cluster, &format!("{}\nlocalities by weight", PLAIN.replace("NAME", name))).await?;
                proxy.sees(&cluster, table).await?;
                continue;
            }
            eventually(SOON, "istiod has died", async || {
                ensure!(!istiod.process().is_running(), "it lives");
                Ok(())
            })
            .await?;
            let logs = istiod.process().logs();
            ensure!(logs.contains("applyFailoverPriorityPerLocality"), "it died of something else");
            north.apply(&ns, &rule(name, &[])).await?;
        }
        Ok(())
    })
}

/// What is said of a cluster that finds out what fails.
const PLAIN: &str = "
    tlsMode=istio: outbound_.80_._.NAME.test to anybody
    else: plain
    outlier detection
";
