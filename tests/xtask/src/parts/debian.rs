//! Parts from Debian 12 packages, pinned by version and hash in `tests/parts/debian.lock`.
//!
//! Nothing is installed and nothing of the system's package state is touched or needed, so any user can do it: apt
//! fetches with lists and cache of its own from the sources the system has, and the packages are unpacked into the
//! part. Their programs find the libraries and modules unpacked beside them through small scripts in `bin/`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{Recipe, pinned, read};
use crate::{cache, step};

/// Program and its path in the unpacked packages.
const PROGRAMS: [(&str, &str); 13] = [
    ("nsd", "usr/sbin/nsd"),
    ("knotd", "usr/sbin/knotd"),
    ("unbound", "usr/sbin/unbound"),
    ("dnsmasq", "usr/sbin/dnsmasq"),
    ("systemd-resolved", "lib/systemd/systemd-resolved"),
    ("kdig", "usr/bin/kdig"),
    ("drill", "usr/bin/drill"),
    ("dig", "usr/bin/dig"),
    ("delv", "usr/bin/delv"),
    ("nsupdate", "usr/bin/nsupdate"),
    ("dnsperf", "usr/bin/dnsperf"),
    ("nft", "usr/sbin/nft"),
    ("ip", "bin/ip"),
];

/// File and its path in the unpacked packages.
const FILES: [(&str, &str); 1] = [("libfaketime.so.1", "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")];

/// Where Debian 12 keeps shared libraries.
const LIBRARIES: &str =
    "$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu/systemd";

/// Where Debian 12 keeps modules of Perl; Perl itself, with what comes with it, is the system's.
const MODULES: &str = "$root/usr/share/perl5:$root/usr/lib/x86_64-linux-gnu/perl5/5.36";

/// The engine of Zonemaster, for programs in Perl that use it. Its own command line needs half as many packages again.
const ZONEMASTER: (&str, &str) = ("zonemaster-perl", "perl -MZonemaster::Engine");

/// The packages of the lock file.
pub(super) struct Packages;

/// One line of the lock file.
#[derive(Debug, PartialEq, Eq)]
struct Pin<'a> {
    package: &'a str,
    version: &'a str,
    sha256: &'a str,
}

// === impl Packages ===

impl Recipe for Packages {
    fn version(&self) -> Result<String> {
        Ok("Debian 12".into())
    }

    fn pins(&self) -> Result<String> {
        Ok(format!("{}{PROGRAMS:?}{FILES:?}{LIBRARIES}{MODULES}{ZONEMASTER:?}", read(&lock())?))
    }

    fn build(&self, room: &Path) -> Result<()> {
        for program in ["apt-get", "dpkg-deb"] {
            step::require(program, "these tools come from Debian 12 packages; run this on Debian 12 (amd64)")?;
        }
        let text = read(&lock())?;
        let pins = pins(&text)?;
        let work = room.join("work");
        let root = room.join("root");
        fetch(&pins, &work)?;
        for (pin, file) in pins.iter().zip(found(&pins, &work)?) {
            let sha256 = cache::sha256(&file)?;
            if sha256 != pin.sha256 {
                bail!(
                    "{} {}: sha256 is {sha256}, but {} says {}",
                    pin.package,
                    pin.version,
                    lock().display(),
                    pin.sha256
                );
            }
            step::quietly(Command::new("dpkg-deb").arg("-x").args([&file, &root])).context("unpacking")?;
        }
        fs::remove_dir_all(&work)?;
        fs::create_dir(room.join("bin"))?;
        PROGRAMS.iter().try_for_each(|(name, path)| wrap(room, name, path))?;
        engine(room)?;
        fs::create_dir(room.join("share"))?;
        FILES.iter().try_for_each(|(name, path)| {
            let (from, to) = (root.join(path), room.join("share").join(name));
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
            Ok(())
        })
    }
}

fn lock() -> PathBuf {
    pinned("debian.lock")
}

fn pins(text: &str) -> Result<Vec<Pin<'_>>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [package, version, sha256] if sha256.len() == 64 => Ok(Pin { package, version, sha256 }),
            _ => bail!("{}: expected `package version sha256`, found `{line}`", lock().display()),
        })
        .collect()
}

fn fetch(pins: &[Pin<'_>], work: &Path) -> Result<()> {
    for dir in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(work.join(dir))?;
    }
    fs::write(work.join("status"), "")?;
    let apt = || {
        let mut apt = Command::new("apt-get");
        for (option, path) in [("State::lists", "lists"), ("Cache", "cache"), ("State::status", "status")] {
            apt.arg("-o").arg(format!("Dir::{option}={}", work.join(path).display()));
        }
        // Else root's apt-get gives way to a user who cannot write here.
        apt.args(["-o", "APT::Sandbox::User=root", "-q"]).env("LC_ALL", "C").current_dir(work);
        apt
    };
    // A foreign source that does not answer must not matter; whether ours did shows at the download.
    let updated = step::quietly(apt().args(["update", "--error-on=any"]));
    let wanted = pins.iter().map(|pin| format!("{}={}", pin.package, pin.version));
    let Err(error) = step::quietly(apt().arg("download").args(wanted)) else {
        return Ok(());
    };
    let said = [updated.err(), Some(error)].into_iter().flatten().map(|error| complaints(&error.to_string()));
    bail!(
        "apt-get: {}; {} pins packages of Debian 12 (amd64): on another system use a container of it, and where \
         Debian has moved on, put its version and sha256 there",
        said.collect::<Vec<_>>().join("; "),
        lock().display()
    )
}

/// The first of what apt calls errors, or else all it said.
fn complaints(said: &str) -> String {
    let errors: Vec<_> = said.lines().filter_map(|line| line.trim().strip_prefix("E: ")).collect();
    match &errors[..] {
        [] => said.into(),
        [first] => (*first).into(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// The downloaded files in the order of their pins.
fn found(pins: &[Pin<'_>], work: &Path) -> Result<Vec<PathBuf>> {
    let files: Vec<_> = fs::read_dir(work)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    pins.iter()
        .map(|pin| {
            // apt writes the colon of an epoch as %3a.
            let start = format!("{}_{}_", pin.package, pin.version.replace(':', "%3a"));
            let file = files.iter().find(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&start)));
            file.cloned().with_context(|| format!("apt-get brought no {} {}", pin.package, pin.version))
        })
        .collect()
}

/// Writes the script that starts a program with its libraries, wherever the part has been moved or linked to.
fn wrap(room: &Path, name: &str, path: &str) -> Result<()> {
    script(room, name, &format!("exec \"$root/{path}\" \"$@\""))?;
    let libraries = LIBRARIES.replace("$root", &room.join("root").to_string_lossy());
    let program = room.join("root").join(path);
    let needs = step::quietly(Command::new("ldd").arg(&program).env("LD_LIBRARY_PATH", libraries))?;
    let missing: Vec<_> = needs.lines().filter(|line| line.contains("not found")).map(str::trim).collect();
    if !missing.is_empty() {
        bail!("{name} needs libraries of Debian 12 that this machine lacks: {}", missing.join(", "));
    }
    Ok(())
}

/// Writes the script that starts Perl with the engine of Zonemaster, and tries whether all it loads is there.
fn engine(room: &Path) -> Result<()> {
    let (name, perl) = ZONEMASTER;
    let path = script(room, name, &format!("export PERL5LIB=\"{MODULES}\"\nexec {perl} \"$@\""))?;
    step::quietly(Command::new(path).args(["-e", "1"])).context("the system's Perl is to be that of Debian 12")?;
    Ok(())
}

fn script(room: &Path, name: &str, run: &str) -> Result<PathBuf> {
    let path = room.join("bin").join(name);
    let text = format!(
        "#!/bin/sh\nroot=\"$(dirname \"$(readlink -f \"$0\")\")/../root\"\n\
         export LD_LIBRARY_PATH=\"{LIBRARIES}\"\n{run}\n"
    );
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_lines_of_three_words() -> Result<()> {
        let hash = "a".repeat(64);
        let text = format!("# why\n\nnsd 4.6.1-1 {hash}\nlibcap2 1:2.66-4 {hash}\n");
        let read = pins(&text)?;
        assert_eq!(read[0], Pin { package: "nsd", version: "4.6.1-1", sha256: &hash });
        assert_eq!(read[1].version, "1:2.66-4");
        Ok(())
    }

    #[test]
    fn a_line_without_a_hash_is_refused() {
        let error = pins("nsd 4.6.1-1\n").unwrap_err().to_string();
        assert!(error.ends_with("expected `package version sha256`, found `nsd 4.6.1-1`"), "{error}");
    }

    #[test]
    fn errors_are_picked_out_of_what_apt_says() {
        let said = "`apt-get` failed\n    W: slow\n    E: Version '2' for 'nsd' was not found";
        assert_eq!(complaints(said), "Version '2' for 'nsd' was not found");
        assert_eq!(complaints("E: one\nE: two\nE: three"), "one (and 2 more)");
        assert_eq!(complaints("no mirror"), "no mirror");
    }

    #[test]
    fn the_lock_in_the_repository_is_sorted_and_whole() -> Result<()> {
        let text = read(&lock())?;
        let names: Vec<_> = pins(&text)?.iter().map(|pin| pin.package).collect();
        assert!(names.is_sorted() && names.contains(&"nsd"), "{names:?}");
        Ok(())
    }
}
