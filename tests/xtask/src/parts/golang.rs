//! Parts built from Go modules, each family pinned by a go.mod and go.sum of its own in `tests/parts/go/`.
//!
//! Families are apart because the `replace` lines of one would poison the others. The module proxy, its checksum
//! database and the build cache are the user's own; only what decides the outcome is set here.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{Recipe, pinned, read};
use crate::step;

/// The Kubernetes variables that hold its version: a server without one calls itself v0.0.0 and clients balk.
const STAMP: &str = "k8s.io/component-base/version";

/// What is built from one go.mod.
pub(super) struct Module {
    pub(super) name: &'static str,
    pub(super) brings: &'static str,
    /// The module whose version is the part's version.
    main: &'static str,
    /// Executable and package.
    programs: &'static [(&'static str, &'static str)],
    /// Target, module, and the files of the module that are joined into it.
    files: &'static [(&'static str, &'static str, &'static [&'static str])],
}

/// Every Go part, quickest first.
pub(super) fn modules() -> [Module; 6] {
    [
        Module {
            name: "mcs",
            brings: "CRDs of the Multi-Cluster Services API",
            main: "sigs.k8s.io/mcs-api",
            programs: &[],
            files: &[
                (
                    "mcs-crds/serviceexports.yaml",
                    "sigs.k8s.io/mcs-api",
                    &["config/crd/multicluster.x-k8s.io_serviceexports.yaml"],
                ),
                (
                    "mcs-crds/serviceimports.yaml",
                    "sigs.k8s.io/mcs-api",
                    &["config/crd/multicluster.x-k8s.io_serviceimports.yaml"],
                ),
            ],
        },
        Module {
            name: "etcd",
            brings: "etcd, etcdctl, etcdutl; about 1 minute",
            main: "go.etcd.io/etcd/server/v3",
            programs: &[
                ("etcd", "go.etcd.io/etcd/server/v3"),
                ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
                ("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
            ],
            files: &[],
        },
        Module {
            name: "kwok",
            brings: "kwok and its stages: nodes and pods without machines; about 1 minute",
            main: "sigs.k8s.io/kwok",
            programs: &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")],
            // The binary has no stages built in and refuses to start without any.
            files: &[(
                "kwok-stages.yaml",
                "sigs.k8s.io/kwok",
                &[
                    "kustomize/stage/node/fast/node-initialize.yaml",
                    "kustomize/stage/node/heartbeat/node-heartbeat.yaml",
                    "kustomize/stage/pod/fast/pod-ready.yaml",
                    "kustomize/stage/pod/fast/pod-complete.yaml",
                    "kustomize/stage/pod/fast/pod-delete.yaml",
                ],
            )],
        },
        Module {
            name: "coredns",
            brings: "coredns; about 2 minutes",
            main: "github.com/coredns/coredns",
            programs: &[("coredns", "github.com/coredns/coredns")],
            files: &[],
        },
        Module {
            name: "istio",
            brings: "istioctl, pilot-discovery, Istio's CRDs; about 5 minutes",
            main: "istio.io/istio",
            programs: &[
                ("istioctl", "istio.io/istio/istioctl/cmd/istioctl"),
                ("pilot-discovery", "istio.io/istio/pilot/cmd/pilot-discovery"),
            ],
            files: &[("istio-crds.yaml", "istio.io/api", &["kubernetes/customresourcedefinitions.gen.yaml"])],
        },
        Module {
            name: "kubernetes",
            brings: "kube-apiserver, kube-controller-manager; about 5 minutes",
            main: "k8s.io/kubernetes",
            programs: &[
                ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
                ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ],
            files: &[],
        },
    ]
}

// === impl Module ===

impl Module {
    fn lock(&self, file: &str) -> Result<String> {
        read(&pinned(&format!("go/{}/{file}", self.name)))
    }

    fn go(&self) -> Command {
        let mut go = Command::new("go");
        go.current_dir(pinned(&format!("go/{}", self.name)));
        // The pinned language version says which toolchains will do; fetching another one is not ours to decide.
        go.envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local"), ("GOWORK", "off")]);
        go
    }

    fn ldflags(&self) -> Result<String> {
        if self.main != "k8s.io/kubernetes" {
            return Ok("-s -w".into());
        }
        let version = self.version()?;
        let mut numbers = version.split('.');
        let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
        Ok(format!("-s -w -X {STAMP}.gitVersion=v{version} -X {STAMP}.gitMajor={major} -X {STAMP}.gitMinor={minor}"))
    }
}

impl Recipe for Module {
    fn version(&self) -> Result<String> {
        let text = self.lock("go.mod")?;
        required(&text, self.main)
            .with_context(|| format!("tests/parts/go/{}/go.mod requires no {}", self.name, self.main))
    }

    fn pins(&self) -> Result<String> {
        let made = format!("{} {:?} {:?}", self.ldflags()?, self.programs, self.files);
        Ok([self.lock("go.mod")?, self.lock("go.sum")?, made].join("\n"))
    }

    fn build(&self, room: &Path) -> Result<()> {
        step::require("go", "install Go 1.26 or newer")?;
        let ldflags = self.ldflags()?;
        for (program, package) in self.programs {
            let file = room.join("bin").join(program);
            let flags = ["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", &ldflags, "-o"];
            step::quietly(self.go().args(flags).arg(&file).arg(package))
                .with_context(|| format!("building {program}"))?;
        }
        for (target, module, files) in self.files {
            step::quietly(self.go().args(["mod", "download", module])).with_context(|| format!("getting {module}"))?;
            let dir = step::quietly(self.go().args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module]))?;
            let texts = files.iter().map(|file| read(&Path::new(dir.trim()).join(file))).collect::<Result<Vec<_>>>()?;
            let target = room.join("share").join(target);
            fs::create_dir_all(target.parent().unwrap_or(room))?;
            fs::write(&target, texts.join("\n---\n")).with_context(|| format!("writing {}", target.display()))?;
        }
        Ok(())
    }
}

/// The version of `module` that a go.mod requires, without its `v`.
fn required(text: &str, module: &str) -> Option<String> {
    let mut words = text.lines().map(|line| line.trim_start().trim_start_matches("require ").split_whitespace());
    words.find_map(|mut line| (line.next() == Some(module)).then(|| line.next())?)?.strip_prefix('v').map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_both_forms_of_require() {
        let text = "module x\n\ngo 1.26.0\n\nrequire a.b/one v1.2.3\n\nrequire (\n\ta.b/two/v3 v3.0.1 // indirect\n)\n";
        assert_eq!(required(text, "a.b/one").as_deref(), Some("1.2.3"));
        assert_eq!(required(text, "a.b/two/v3").as_deref(), Some("3.0.1"));
        assert_eq!(required(text, "a.b/two"), None);
    }

    #[test]
    fn every_module_is_pinned_and_named_after_its_directory() -> Result<()> {
        for module in modules() {
            assert!(module.lock("go.mod")?.starts_with(&format!("module federator.io/parts/{}\n", module.name)));
            assert!(module.version()?.starts_with(|c: char| c.is_ascii_digit()), "{}", module.name);
            assert!(module.lock("go.sum")?.contains(module.main), "{}", module.name);
        }
        Ok(())
    }
}
