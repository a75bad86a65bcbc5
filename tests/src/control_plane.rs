//! The standing part of one cluster: five processes, their flags, and how to tell that all of them serve.
//!
//! It belongs to the whole test binary and holds no client: a test's own handle on a cluster is
//! [`Cluster`](crate::Cluster).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::Client;
use kube::api::GetParams;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::coredns::CoreDns;
use crate::credentials::{self, Credentials};
use crate::etcd::{self, Etcd};
use crate::parts::Parts;
use crate::process::Process;
use crate::reader::AUDIT_POLICY;
use crate::site::{Lane, Site, loopback};
use crate::{Result, eventually, http};

/// The controllers that make pods, slices and service accounts come and go; there is no node that they could
/// watch over, and nothing else is needed.
const CONTROLLERS: &str = "endpointslice-controller,endpoints-controller,endpointslice-mirroring-controller,\
    namespace-controller,garbage-collector-controller,serviceaccount-controller,serviceaccount-token-controller,\
    root-ca-certificate-publisher-controller,deployment-controller,replicaset-controller";

/// kwok's own health port, on the loopback of its cluster.
const KWOK: u16 = 10247;

/// Three API servers that start at once on two busy cores take about four seconds; an etcd that was away keeps
/// its API server waiting for eight more.
const START: Duration = Duration::from_secs(60);

/// One cluster's processes.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    pub(crate) site: &'static Site,
    pub(crate) credentials: Credentials,
    etcd: Etcd,
    apiserver: Process,
    controllers: Process,
    kwok: Process,
    pub(crate) coredns: CoreDns,
    /// What service accounts have asked the API server for.
    pub(crate) audit_log: PathBuf,
}

impl ControlPlane {
    /// Makes the credentials and describes the processes; its CoreDNS forwards to the agents of `lane`.
    pub(crate) fn prepare(
        site: &'static Site,
        lane: Lane,
        parts: &Parts,
        directory: &Path,
        logs: &Path,
    ) -> Result<Self> {
        let (directory, logs) = (directory.join(site.name), logs.join(site.name));
        fs::create_dir_all(&directory)?;
        fs::create_dir_all(&logs)?;
        let place = site.place();
        let credentials = Credentials::make(site, &directory)?;
        let process = |name: &str, arguments: Vec<String>| -> Result<Process> {
            Ok(Process::new(name, place, parts.bin(name)?, arguments, &logs))
        };
        let audit_log = logs.join("audit.jsonl");
        let coredns = parts.bin("coredns")?;
        let stages = parts.share("kwok-stages.yaml")?;
        Ok(Self {
            site,
            etcd: Etcd::new(place, parts.bin("etcd")?, &directory, &logs),
            apiserver: process("kube-apiserver", apiserver(site, &credentials, &directory, &audit_log)?)?,
            controllers: process("kube-controller-manager", controllers(&credentials))?,
            kwok: process("kwok", kwok(site, &credentials, &stages))?,
            coredns: CoreDns::new(site, lane, coredns, &credentials.kubeconfig, &directory, &logs)?,
            credentials,
            audit_log,
        })
    }

    /// Starts whatever does not run, in no order: each waits for the API server by itself. Only the controllers give up
    /// after ten seconds, which a busy machine needs; [`Self::ready`] starts them.
    pub(crate) fn start(&self) -> Result {
        let patient = self.processes().into_iter().filter(|process| process.name() != self.controllers.name());
        for process in patient.filter(|process| !process.is_running()) {
            process.start()?;
        }
        Ok(())
    }

    /// Undoes every pause and every kill.
    pub(crate) async fn mend(&self) -> Result {
        for process in self.processes().into_iter().filter(|process| process.is_running()) {
            process.resume()?;
        }
        self.start()?;
        self.ready(&self.client().await?).await
    }

    /// Ends every process.
    pub(crate) fn end(&self) -> Result {
        self.processes().into_iter().try_for_each(Process::kill)
    }

    /// Starts the API server anew, and with [`Self::ready`] the controllers, which would wait for resource versions that
    /// it never had.
    pub(crate) fn restart_api_server(&self) -> Result {
        self.controllers.kill()?;
        self.apiserver.kill()?;
        self.apiserver.start()
    }

    /// Has the other authority vouch for the API server; returns it once what it vouches for is served.
    pub(crate) async fn rotate_authority(&self) -> Result<String> {
        self.credentials.rotate()?;
        // Secrets of tokens get the new authority from the controllers, which read it when they start.
        self.controllers.kill()?;
        self.controllers.start()?;
        let server = format!("https://{}", self.site.place().port(6443));
        let (name, token) = (self.site.name, credentials::administrator(self.site));
        let authority = self.credentials.authority();
        let kubeconfig = credentials::kubeconfig(name, &server, authority, "admin", &token)?;
        let client = self.client_of(&kubeconfig).await?;
        eventually(START, &format!("{name} serves its new certificate"), async || {
            Ok(client.apiserver_version().await?)
        })
        .await?;
        Ok(authority.to_owned())
    }

    /// Waits until every part serves.
    pub(crate) async fn ready(&self, client: &Client) -> Result {
        let what = format!("every part of {} serves", self.site.name);
        let all = async {
            eventually(START, &what, async || self.api_server_serves(client).await).await?;
            if !self.controllers.is_running() {
                self.controllers.start()?;
            }
            eventually(START, &what, async || self.check(client).await).await
        };
        all.await.map_err(|error| self.with_tails(error))
    }

    async fn api_server_serves(&self, client: &Client) -> Result {
        let api = kube::core::Request::new("").get("readyz", &GetParams::default())?;
        client.request_text(api).await.context("kube-apiserver").map(drop)
    }

    async fn check(&self, client: &Client) -> Result {
        for process in self.processes() {
            ensure!(process.is_running(), "{} does not run", process.name());
        }
        self.etcd.check().await?;
        self.api_server_serves(client).await?;
        http::get(self.site.place(), loopback(KWOK), "/healthz").await.context("kwok")?;
        self.coredns.check().await
    }

    /// A client for the runtime that calls, as administrator.
    pub(crate) async fn client(&self) -> Result<Client> {
        self.client_of(&fs::read_to_string(&self.credentials.kubeconfig)?).await
    }

    /// A client for the runtime that calls, as whoever the kubeconfig is for.
    pub(crate) async fn client_of(&self, kubeconfig: &str) -> Result<Client> {
        let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // A test wants to see an error, not to wait it out.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(2));
        config.proxy_url = None;
        Ok(Client::try_from(config)?)
    }

    pub(crate) const fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The process of that name.
    pub(crate) fn process(&self, name: &str) -> Result<&Process> {
        let mut processes = self.processes().into_iter();
        processes.find(|process| process.name() == name).with_context(|| format!("no component {name}"))
    }

    pub(crate) fn processes(&self) -> [&Process; 5] {
        [self.etcd.process(), &self.apiserver, &self.controllers, &self.kwok, self.coredns.process()]
    }

    fn with_tails(&self, error: anyhow::Error) -> anyhow::Error {
        let tails: Vec<String> = self.processes().map(Process::tail).into();
        error.context(format!("{} is not up\n{}", self.site.name, tails.concat()))
    }
}

fn apiserver(site: &Site, credentials: &Credentials, directory: &Path, audit_log: &Path) -> Result<Vec<String>> {
    let policy = directory.join("audit-policy.yaml");
    fs::write(&policy, AUDIT_POLICY)?;
    let account_key = credentials.account_key.display();
    Ok(vec![
        format!("--etcd-servers=http://{}", loopback(etcd::PORT)),
        "--bind-address=0.0.0.0".to_owned(),
        "--secure-port=6443".to_owned(),
        format!("--advertise-address={}", site.place().address()),
        format!("--service-cluster-ip-range={}", site.service_cidr()),
        format!("--cert-dir={}", directory.join("made-by-apiserver").display()),
        format!("--tls-cert-file={}", credentials.serving_certificate.display()),
        format!("--tls-private-key-file={}", credentials.serving_key.display()),
        "--authorization-mode=RBAC".to_owned(),
        format!("--token-auth-file={}", credentials.tokens.display()),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", credentials.account_public_key.display()),
        format!("--service-account-signing-key-file={account_key}"),
        // It would taint every new node, and no controller of ours takes the taint away.
        "--disable-admission-plugins=TaintNodesByCondition".to_owned(),
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", audit_log.display()),
    ])
}

fn controllers(credentials: &Credentials) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", credentials.kubeconfig.display()),
        format!("--controllers={CONTROLLERS}"),
        format!("--service-account-private-key-file={}", credentials.account_key.display()),
        format!("--root-ca-file={}", credentials.ca.display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        // The default budget is for a shared production server and delays a test's slices.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ]
}

fn kwok(site: &Site, credentials: &Credentials, stages: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", credentials.kubeconfig.display()),
        format!("--config={}", stages.display()),
        format!("--cidr={}", site.pod_cidr()),
        format!("--node-ip={}", site.place().address()),
        format!("--server-address={}", loopback(KWOK)),
        "--manage-all-nodes=true".to_owned(),
    ]
}
