//! What a test of resolvers begins with: a place of its own with the addresses that the manual has in its examples, agents
//! there that serve one small cluster, and programs of others beside them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use harness::{
    Parts, Place, Process, RecordType, Resolver, ResponseCode, Result, SOON, Said, eventually, federator,
    require_sandbox,
};
use tempfile::TempDir;

/// The two agents of the manual's examples, and the port that they have there.
pub(crate) const AGENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 11), Ipv4Addr::new(192, 0, 2, 12)];
const PORT: u16 = 5353;

/// Where resolvers are asked.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

/// A service with two endpoints, and its name.
pub(crate) const PAYMENTS: &str = "payments.shop.global";
pub(crate) const PAYMENTS_ADDRESSES: [&str; 2] = ["10.1.0.1", "10.1.0.2"];

/// A headless service with more endpoints than a datagram holds.
pub(crate) const CROWD: &str = "crowd.shop.global";
pub(crate) const CROWD_SIZE: u8 = 120;

/// Started by `ip netns exec`, so the mount is its own.
const WITH_ETC: &str = "mount --bind \"$1\" /etc && shift && exec \"$@\"";

/// A place with a directory of manifests; all that was started there ends with what started it.
#[derive(Debug)]
pub(crate) struct Bed {
    place: Place,
    directory: TempDir,
    parts: Parts,
}

// === impl Bed ===

impl Bed {
    /// Makes the place, by a name that no other test has.
    pub(crate) fn new(name: &'static str) -> Result<Self> {
        Self::with(name, &AGENTS)
    }

    /// The same with other addresses beside the resolver's.
    pub(crate) fn with(name: &'static str, addresses: &[Ipv4Addr]) -> Result<Self> {
        require_sandbox()?;
        let place = Place::alone(name, RESOLVER, addresses)?;
        let bed = Self { place, directory: TempDir::new()?, parts: Parts::from_environment()? };
        fs::create_dir(bed.path("east"))?;
        bed.say("payments", &PAYMENTS_ADDRESSES)?;
        let crowd: Vec<String> = (1..=CROWD_SIZE).map(|last| format!("10.1.1.{last}")).collect();
        bed.write("east/crowd.yaml", &service("crowd", "clusterIP: None, ", &crowd))?;
        Ok(bed)
    }

    pub(crate) const fn place(&self) -> Place {
        self.place
    }

    pub(crate) const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// A file of the test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes such a file, in one step.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let (path, next) = (self.path(name), self.path("next"));
        fs::write(&next, text)?;
        fs::rename(next, &path)?;
        Ok(path)
    }

    /// From now on this service has these endpoints.
    pub(crate) fn say(&self, name: &str, addresses: &[&str]) -> Result {
        let addresses: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
        self.write(&format!("east/{name}.yaml"), &service(name, "", &addresses))?;
        Ok(())
    }

    /// Starts an agent at an address, with these settings beside its own; it answers when this returns.
    pub(crate) async fn agent(&self, address: Ipv4Addr, settings: &[&str]) -> Result<Process> {
        self.agent_at(address, PORT, settings).await
    }

    /// The same at another port.
    pub(crate) async fn agent_at(&self, address: Ipv4Addr, port: u16, settings: &[&str]) -> Result<Process> {
        let process = self.launch(address, port, settings)?;
        let resolver = self.place.resolver((address, port).into());
        self.answers(resolver, &process).await?;
        eventually(SOON, "the agent knows what there is not", async || {
            let reply = resolver.udp("nobody.shop.global", RecordType::A).await?;
            ensure!(reply.code == ResponseCode::NXDomain, "{reply}");
            Ok(())
        })
        .await?;
        Ok(process)
    }

    /// Both agents of the manual's examples.
    pub(crate) async fn agents(&self) -> Result<[Process; 2]> {
        Ok([self.agent(AGENTS[0], &[]).await?, self.agent(AGENTS[1], &[]).await?])
    }

    /// Starts an agent and waits for nothing.
    pub(crate) fn launch(&self, address: Ipv4Addr, port: u16, settings: &[&str]) -> Result<Process> {
        let directory = self.path("east");
        let config = self.write(
            &format!("agent-{address}.yaml"),
            &format!(
                "cluster: east\nclusters: [{{id: east, directory: {}}}]\n\
                 dns: {{listeners: [{{address: '{address}:{port}'}}]}}\nadmin: {{address: '{address}:9153'}}\n",
                directory.display()
            ),
        )?;
        let arguments = ["agent".as_ref(), "--config".as_ref(), config.as_os_str()];
        let settings = settings.iter().flat_map(|setting| ["--set".as_ref(), OsStr::new(setting)]);
        let process = self.process(&format!("agent-{address}"), federator()?, arguments.into_iter().chain(settings));
        process.start()?;
        Ok(process)
    }

    /// Waits until a resolver has the payments, whoever answers it being this process.
    pub(crate) async fn answers(&self, resolver: Resolver, process: &Process) -> Result {
        let what = format!("{} answers", process.name());
        let look = eventually(SOON, &what, async || match process.is_running() {
            true => resolves(resolver, PAYMENTS, &PAYMENTS_ADDRESSES).await.map(|()| true),
            false => Ok(false),
        });
        let answers = look.await.with_context(|| process.logs())?;
        ensure!(answers, "{} has ended: {}", process.name(), process.logs());
        Ok(())
    }

    /// Where clients ask the resolver of the test.
    pub(crate) const fn resolver(&self) -> Resolver {
        self.place.resolver(self.place.port(53))
    }

    /// Where an agent is asked.
    pub(crate) fn agent_dns(&self, address: Ipv4Addr) -> Resolver {
        self.place.resolver((address, PORT).into())
    }

    /// Describes a program that will run here.
    pub(crate) fn process<A: AsRef<OsStr>>(
        &self,
        name: &str,
        program: PathBuf,
        arguments: impl IntoIterator<Item = A>,
    ) -> Process {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        Process::new(name, self.place, program, arguments, self.directory.path())
    }

    /// Starts a part, and waits until it has the payments at port 53 of its address.
    pub(crate) async fn start<A: AsRef<OsStr>>(
        &self,
        part: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Process> {
        let process = self.process(part, self.parts.bin(part)?, arguments);
        process.start()?;
        self.answers(self.resolver(), &process).await?;
        Ok(process)
    }

    /// Runs a part to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, part: &str, arguments: impl IntoIterator<Item = A>) -> Result<Said> {
        self.place.run(&self.parts.bin(part)?, arguments)
    }

    /// Runs a command that asks DNS by glibc, with this `resolv.conf`, and has what it prints.
    pub(crate) fn with_resolv_conf(&self, resolv_conf: &str, command: &[&str]) -> Result<String> {
        let etc = self.path("etc");
        fs::create_dir_all(&etc)?;
        self.write("etc/nsswitch.conf", "hosts: dns\n")?;
        self.write("etc/resolv.conf", resolv_conf)?;
        let arguments = ["-c".as_ref(), WITH_ETC.as_ref(), "with-etc".as_ref(), etc.as_os_str()];
        let arguments = arguments.into_iter().chain(command.iter().map(OsStr::new));
        self.place.run(Path::new("sh"), arguments)?.done()
    }
}

/// Asks once, and has exactly these addresses.
pub(crate) async fn resolves(resolver: Resolver, name: &str, addresses: &[&str]) -> Result {
    let reply = resolver.udp(name, RecordType::A).await?;
    ensure!(reply.code == ResponseCode::NoError && reply.addresses() == set(addresses), "{reply}");
    Ok(())
}

/// Asks for everything that a zone can say, twice, so that the second time may come out of a cache.
pub(crate) async fn serves_the_zone(resolver: Resolver) -> Result {
    for _ in 0..2 {
        resolves(resolver, PAYMENTS, &PAYMENTS_ADDRESSES).await?;
        resolves(resolver, &PAYMENTS.to_uppercase(), &PAYMENTS_ADDRESSES).await?;
        let reply = resolver.udp(CROWD, RecordType::A).await?;
        ensure!(reply.truncated || reply.addresses().len() == usize::from(CROWD_SIZE), "{reply}");
        let reply = resolver.tcp(CROWD, RecordType::A).await?;
        ensure!(reply.addresses().len() == usize::from(CROWD_SIZE), "{reply}");
        let reply = resolver.udp(&format!("_http._tcp.{PAYMENTS}"), RecordType::SRV).await?;
        ensure!(reply.answers.len() == 1 && reply.answers[0].data.starts_with("0 1 8080 payments."), "{reply}");
        let reply = resolver.udp("dns-version.global", RecordType::TXT).await?;
        ensure!(reply.answers.len() == 1, "{reply}");
        for (name, kind, code) in [
            (PAYMENTS, RecordType::AAAA, ResponseCode::NoError),
            ("shop.global", RecordType::A, ResponseCode::NoError),
            ("nobody.shop.global", RecordType::A, ResponseCode::NXDomain),
            ("nobody.nowhere.global", RecordType::AAAA, ResponseCode::NXDomain),
        ] {
            let reply = resolver.udp(name, kind).await?;
            ensure!(reply.code == code && reply.answers.is_empty(), "{name} {kind}: {reply}");
        }
    }
    Ok(())
}

/// Waits until names are answered that no cache has, since an agent is gone: often enough that each agent's turn comes.
pub(crate) async fn serves_without_one(resolver: Resolver) -> Result {
    for number in 0..10 {
        let name = format!("crowd-{number}.east.{CROWD}");
        let what = format!("{name} is answered by the other agent");
        let address = format!("10.1.1.{}", number + 1);
        eventually(SOON, &what, async || resolves(resolver, &name, &[&address]).await).await?;
    }
    Ok(())
}

/// Addresses, in no order.
pub(crate) fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

/// A Service in `shop`, and its endpoints; those of a headless one have host names.
pub(crate) fn service(name: &str, spec: &str, addresses: &[String]) -> String {
    let endpoints: String = addresses
        .iter()
        .enumerate()
        .map(|(number, address)| format!("- {{addresses: [{address}], hostname: {name}-{number}}}\n"))
        .collect();
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{{spec}ports: [{{name: http, port: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints:
{endpoints}"
    )
}
