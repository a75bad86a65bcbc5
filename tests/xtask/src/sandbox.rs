//! A private place for tests with real parts: own network, mount and process namespaces, gone without a trace.
//!
//! Holds the one way into it; what is built inside (networks, clusters) is the test harness's business. The work is
//! done by unshare(1), as it needs system calls that have no safe form here. An ordinary user gets a user namespace
//! as well and is root in it; root goes without where it may, because root of a user namespace has no power over
//! other users' files.
//!
//! Nothing may outlive the command. Three links hold: setpriv(1) has the kernel kill unshare when this process dies,
//! `--kill-child` has it kill the first process inside when unshare dies, and with the first process of a process
//! namespace the kernel kills all others; the last one gone takes network and mounts along. A signal that ends this
//! process therefore ends everything.

use std::{
    ffi::OsString,
    fs,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context, Result, bail};

use crate::step;

const NAMESPACES: [&str; 6] = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// The first process inside. It stays in front of the command because the first process of a process namespace must
/// reap orphans, and because signals without a handler do not reach it. /run is private so that `ip netns` leaves
/// nothing outside; sysfs is mounted again because the old one still shows the old network.
const INIT: &str = r#"
export PATH="$PATH:/usr/sbin:/sbin${FEDERATOR_PARTS:+:$FEDERATOR_PARTS/bin}"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns /run/lock
mount -t sysfs sysfs /sys
ip link set lo up
set +e
"$@"
exit $?
"#;

/// What can keep an ordinary user, or root in a container, from making namespaces: the file, the value that does,
/// and the setting that allows it.
const LOCKS: [(&str, &str, &str); 3] = [
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
];

/// How this user gets in.
#[derive(Clone, Copy)]
enum Entrance {
    AsRoot,
    ByUserNamespace,
}

/// Runs a command inside, with this added to its environment, and ends as it ended.
pub(crate) fn run(command: &[OsString], environment: &[(&str, PathBuf)]) -> Result<ExitCode> {
    let mut inside = enter(entrance()?, command);
    let status = inside.envs(environment.iter().cloned()).status().context("starting setpriv (Debian: util-linux)")?;
    Ok(ExitCode::from(code(status)))
}

/// The way in that works here: trying it costs 20 ms and tells a sandbox that fails from a command that does.
fn entrance() -> Result<Entrance> {
    step::require("unshare", "install util-linux")?;
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let ways: &[_] = if root { &[Entrance::AsRoot, Entrance::ByUserNamespace] } else { &[Entrance::ByUserNamespace] };
    let mut refused = None;
    for &way in ways {
        match step::quietly(&mut enter(way, &["true".into()])) {
            Ok(_) => return Ok(way),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let said = refused.map(|error| error.to_string()).unwrap_or_default();
    let said = said.lines().last().unwrap_or_default().trim();
    bail!("this machine allows no private sandbox ({said}): {}", advice(|file| fs::read_to_string(file).ok()))
}

fn enter(entrance: Entrance, command: &[OsString]) -> Command {
    let mut unshare = Command::new("unshare");
    if matches!(entrance, Entrance::ByUserNamespace) {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(NAMESPACES).args(["--", "sh", "-c", INIT, "sandbox"]).args(command);
    step::tied(&unshare)
}

/// What to do where namespaces are refused.
fn advice(read: impl Fn(&str) -> Option<String>) -> String {
    let locked = LOCKS.iter().find(|(file, value, _)| read(file).is_some_and(|text| text.trim() == *value));
    locked.map_or_else(
        || "it needs iproute2, and CAP_SYS_ADMIN or user namespaces (in a container: run it privileged)".into(),
        |(_, _, setting)| format!("allow user namespaces with `{setting}`"),
    )
}

/// A command's end as a shell would report it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_what_is_locked() {
        let locked =
            |name: &'static str, value: &'static str| move |file: &str| file.ends_with(name).then(|| value.into());
        assert!(advice(locked("unprivileged_userns_clone", "0\n")).contains("kernel.unprivileged_userns_clone=1"));
        assert!(advice(locked("max_user_namespaces", "0\n")).contains("user.max_user_namespaces"));
        assert!(advice(locked("max_user_namespaces", "95000\n")).contains("CAP_SYS_ADMIN"));
    }

    #[test]
    fn ends_are_reported_as_a_shell_does() {
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
    }
}
