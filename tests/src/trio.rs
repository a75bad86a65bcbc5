//! An etcd of three members for one test, as operators run it: TLS everywhere, certificates instead of passwords,
//! rights by user; to be broken in every way.
//!
//! Each member has a place of its own on the wire, so it can be killed, paused, cut off, wiped and restored by itself.
//! `root` may do anything; a user is the common name of a certificate. The three are gone when the test drops them.

mod certificates;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use certificates::Certificates;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, Permission, PermissionType, TlsOptions};
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::etcd::{Etcd, PORT};
use crate::place::{Place, run};
use crate::process::Process;
use crate::site::{loopback, places};
use crate::{Cut, Result, SOON, Snapshot, eventually};

/// Where peers talk to each other, everywhere.
const PEERS: u16 = 2380;

/// Where a member says over plain HTTP whether it serves, on the loopback of its place.
const HEALTH: u16 = 2381;

/// More than a member that serves takes for an answer; one that is paused gives none.
const CALL: Duration = Duration::from_secs(3);

/// Three members before their start.
#[must_use = "nothing runs before `start`"]
pub struct TrioSetup {
    bed: &'static Bed,
    logs: PathBuf,
    flags: Vec<String>,
}

/// Three members of one etcd.
pub struct Trio {
    members: [Etcd; 3],
    certificates: Certificates,
    /// Who was admitted, and to which keys: a wiped etcd is told again.
    admitted: Mutex<Vec<(String, String)>>,
    ground: Ground,
}

/// What a client of etcd is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// Who vouches for the members.
    pub ca: PathBuf,
    /// The client's certificate; its common name is the user.
    pub cert: PathBuf,
    /// The key to it.
    pub key: PathBuf,
}

/// What has to be taken away again, however far the making has got.
struct Ground {
    bed: &'static Bed,
    places: [Place; 3],
    data: PathBuf,
}

// === impl TrioSetup ===

impl TrioSetup {
    pub(crate) fn new(bed: &'static Bed, logs: &Path) -> Self {
        Self { bed, logs: logs.to_owned(), flags: Vec::new() }
    }

    /// Gives the members so much room: `--quota-backend-bytes`.
    pub fn quota(self, bytes: u64) -> Self {
        self.flag(&format!("--quota-backend-bytes={bytes}"))
    }

    /// Adds a flag to all three, `--auto-compaction-retention=1s` for example.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Starts them; returns when all serve and ask everybody for a certificate with rights.
    pub async fn start(self) -> Result<Trio> {
        let places = self.bed.take_trio().context("every etcd of three members is in use")?;
        let data = self.bed.data().join(places[0].name());
        let ground = Ground { bed: self.bed, places, data };
        for place in places {
            ground.bed.network.plug_in(place).with_context(|| format!("a place for {}", place.name()))?;
        }
        let certificates = Certificates::make(&ground.data.join("certificates"), &places)?;
        let binary = ground.bed.parts.bin("etcd")?;
        fs::create_dir_all(&self.logs)?;
        let members = places.map(|place| {
            let flags = flags(place, &certificates).into_iter().chain(self.flags.clone());
            let (data, initial) = (ground.data.join(place.name()), initial(place, &places));
            Etcd::with(place.name(), place, binary.clone(), data, loopback(HEALTH), &initial, flags, &self.logs)
        });
        let trio = Trio { members, certificates, admitted: Mutex::default(), ground };
        trio.start()?;
        trio.ready().await?;
        trio.close().await?;
        Ok(trio)
    }
}

// === impl Trio ===

impl Trio {
    /// The URLs of its members.
    pub fn endpoints(&self) -> [String; 3] {
        self.ground.places.map(endpoint)
    }

    /// A member's process: to kill, pause, resume and start. There are 0, 1 and 2.
    pub const fn member(&self, member: usize) -> &Process {
        self.members[member].process()
    }

    /// Where a member is on the wire.
    pub const fn place(&self, member: usize) -> Place {
        self.ground.places[member]
    }

    /// Cuts a member off from another place, a member's included, until the cut is healed or dropped: `test`, `east`,
    /// or [`Place::name`] of [`Trio::place`]. Others must not need that place, so this disturbs nobody else.
    pub fn cut(&self, member: usize, other: &str) -> Result<Cut> {
        let mut all = places().into_iter().chain(self.ground.places);
        let other = all.find(|place| place.name() == other).context("there is no such place")?;
        Cut::make(&self.ground.bed.network, self.place(member), other)
    }

    /// Files of a user, who need not have rights. Every call renews the certificate in its place.
    pub fn credentials(&self, user: &str) -> Result<ClientFiles> {
        self.certificates.issue(user)
    }

    /// Files of a user, of an authority that the members do not know.
    pub fn forged_credentials(&self, user: &str) -> Result<ClientFiles> {
        self.certificates.forge(user)
    }

    /// Has another authority vouch for the members, which need no restart, and for whoever gets credentials from here
    /// on. Members go on to trust clients of the old one.
    pub fn rotate_authority(&self) -> Result {
        self.certificates.rotate_authority(&self.ground.places)
    }

    /// The section `store.etcd` of an agent that is this user, without a root.
    pub fn config(&self, user: &str) -> Result<Value> {
        let ClientFiles { ca, cert, key } = self.credentials(user)?;
        let tls = json!({"caFile": ca, "certFile": cert, "keyFile": key});
        Ok(json!({"endpoints": self.endpoints(), "tls": tls}))
    }

    /// Lets a user read and write every key that begins so.
    pub async fn admit(&self, user: &str, prefix: &str) -> Result {
        self.grant(user, prefix).await?;
        self.admitted().push((user.to_owned(), prefix.to_owned()));
        Ok(())
    }

    /// A client of one member, as this user.
    pub async fn client_of(&self, member: usize, user: &str) -> Result<Client> {
        let files = self.credentials(user)?;
        let read = |path: &Path| fs::read(path);
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read(&files.ca)?))
            .identity(Identity::from_pem(read(&files.cert)?, read(&files.key)?));
        let options = ConnectOptions::new().with_tls(tls).with_timeout(CALL).with_connect_timeout(CALL);
        Ok(Client::connect([endpoint(self.place(member))], Some(options)).await?)
    }

    /// A client of the leader, as `root`.
    pub async fn client(&self) -> Result<Client> {
        self.client_of(self.leader().await?, "root").await
    }

    /// Waits until there is a leader, and returns which member it is.
    pub async fn leader(&self) -> Result<usize> {
        eventually(SOON, "the three have a leader", async || {
            let mut leaders = Vec::new();
            for member in 0..3 {
                if let Ok(status) = self.client_of(member, "root").await?.status().await
                    && status.header().is_some_and(|header| header.member_id() == status.leader())
                {
                    leaders.push((status.raft_term(), member));
                }
            }
            // One that was cut off may not know yet that it has a successor.
            let (_, leader) = leaders.into_iter().max().context("nobody leads")?;
            Ok(leader)
        })
        .await
    }

    /// Waits until every member that runs serves; a paused one never does.
    pub async fn ready(&self) -> Result {
        let running = self.members.iter().filter(|member| member.process().is_running());
        try_join_all(running.map(Etcd::ready)).await?;
        Ok(())
    }

    /// Starts every member that does not run.
    pub fn start(&self) -> Result {
        let ended = self.members.iter().filter(|member| !member.process().is_running());
        ended.map(Etcd::process).try_for_each(Process::start)
    }

    /// Kills all three.
    pub fn kill(&self) -> Result {
        self.members.iter().map(Etcd::process).try_for_each(Process::kill)
    }

    /// Runs `etcdctl` as `root` against all members, and returns what it printed.
    pub fn etcdctl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        let ClientFiles { ca, cert, key } = self.credentials("root")?;
        let mut etcdctl = self.place(0).command(&self.ground.bed.parts.bin("etcdctl")?);
        let endpoints = self.endpoints().join(",");
        etcdctl.arg("--endpoints").arg(endpoints).arg("--cacert").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        let output = etcdctl.args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "etcdctl: {}", said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Forgets what was before this revision, in all members.
    pub async fn compact(&self, revision: u64) -> Result {
        self.client().await?.compact(i64::try_from(revision)?, None).await?;
        Ok(())
    }

    /// Gives back the room that compaction has freed, one member after the other.
    pub async fn defragment(&self) -> Result {
        for member in 0..3 {
            self.client_of(member, "root").await?.defragment().await?;
        }
        Ok(())
    }

    /// Keeps what it knows now, users included.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let bed = self.ground.bed;
        let file = self.ground.data.join(format!("snapshot-{}", bed.number()));
        let ClientFiles { ca, cert, key } = self.credentials("root")?;
        let mut etcdctl = self.place(0).command(&bed.parts.bin("etcdctl")?);
        // Of one member only, or it refuses.
        etcdctl.arg("--endpoints").arg(endpoint(self.place(0)));
        etcdctl.arg("--cacert").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        run(etcdctl.args(["snapshot", "save"]).arg(&file)).context("save a snapshot")?;
        Ok(Snapshot { file })
    }

    /// Goes back to a snapshot, under the same etcd cluster id; returns when all members serve again.
    pub async fn restore(&self, snapshot: &Snapshot) -> Result {
        self.restore_with(snapshot, &[]).await
    }

    /// The same as etcd's manual has it, under another etcd cluster id.
    pub async fn restore_as_another(&self, snapshot: &Snapshot) -> Result {
        self.restore_with(snapshot, &["--initial-cluster-token", "another"]).await
    }

    async fn restore_with(&self, snapshot: &Snapshot, flags: &[&str]) -> Result {
        self.kill()?;
        let etcdutl = self.ground.bed.parts.bin("etcdutl")?;
        self.members.iter().try_for_each(|member| member.start_as(&etcdutl, snapshot.file(), flags))?;
        self.ready().await
    }

    /// Loses all of it: it comes back empty, at revision 1 and a few more for its users, and under the same etcd
    /// cluster id.
    pub async fn wipe(&self) -> Result {
        self.kill()?;
        self.members.iter().try_for_each(Etcd::start_empty)?;
        self.ready().await?;
        self.close().await?;
        let admitted = self.admitted().clone();
        for (user, prefix) in &admitted {
            self.grant(user, prefix).await?;
        }
        Ok(())
    }

    /// From here on only those who have rights are served.
    async fn close(&self) -> Result {
        let mut client = self.client().await?;
        let no_password = etcd_client::UserAddOptions::new().with_no_pwd();
        client.user_add("root", "", Some(no_password)).await?;
        client.user_grant_role("root", "root").await?;
        client.auth_enable().await?;
        Ok(())
    }

    async fn grant(&self, user: &str, prefix: &str) -> Result {
        let mut client = self.client().await?;
        let no_password = etcd_client::UserAddOptions::new().with_no_pwd();
        client.user_add(user, "", Some(no_password)).await?;
        client.role_add(user).await?;
        let all = Permission::new(PermissionType::Readwrite, prefix).with_prefix();
        client.role_grant_permission(user, all).await?;
        client.user_grant_role(user, user).await?;
        Ok(())
    }

    fn admitted(&self) -> std::sync::MutexGuard<'_, Vec<(String, String)>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ground ===

impl Drop for Ground {
    fn drop(&mut self) {
        // What fails here ends with the sandbox; the places are returned only if the next ones can have them.
        let _ = fs::remove_dir_all(&self.data);
        if self.places.iter().try_for_each(|&place| self.bed.network.unplug(place)).is_ok() {
            self.bed.return_trio(&self.places);
        }
    }
}

fn endpoint(place: Place) -> String {
    format!("https://{}", place.port(PORT))
}

/// What a member of a new etcd, and of one that is restored, must know of all.
fn initial(place: Place, all: &[Place; 3]) -> [String; 3] {
    let peer = |place: &Place| format!("https://{}", place.port(PEERS));
    let cluster = all.each_ref().map(|place| format!("{}={}", place.name(), peer(place)));
    [
        format!("--name={}", place.name()),
        format!("--initial-advertise-peer-urls={}", peer(&place)),
        format!("--initial-cluster={}", cluster.join(",")),
    ]
}

fn flags(place: Place, certificates: &Certificates) -> Vec<String> {
    let (trusted, key) = (certificates.trusted_by_members(), certificates.member_key());
    let certificate = certificates.member_certificate(place);
    let mut flags = vec![
        format!("--listen-client-urls={},https://{}", endpoint(place), loopback(PORT)),
        format!("--advertise-client-urls={}", endpoint(place)),
        format!("--listen-peer-urls=https://{}", place.port(PEERS)),
        format!("--listen-metrics-urls=http://{}", loopback(HEALTH)),
        "--client-cert-auth".to_owned(),
        "--peer-client-cert-auth".to_owned(),
        // It would be a client of its own member, with the member's certificate.
        "--enable-grpc-gateway=false".to_owned(),
    ];
    for side in ["", "peer-"] {
        flags.push(format!("--{side}trusted-ca-file={}", trusted.display()));
        flags.push(format!("--{side}cert-file={}", certificate.display()));
        flags.push(format!("--{side}key-file={}", key.display()));
    }
    flags
}
