//! Fuzzes the reader of kubeconfigs out of Secrets. Whatever the bytes are, it answers, soon, and its answer tells
//! nothing of them. Knows no kubeconfig but the table of hostile ones, which is where it begins.
#![no_main]
#![allow(unsafe_code, reason = "the fuzzer's entry points are symbols with fixed names")]

#[path = "../../federator/src/kubernetes/kubeconfig/tests/hostile.rs"]
mod hostile;
#[expect(dead_code, unreachable_pub, reason = "what else there is of it is for the daemon")]
#[path = "../../federator/src/kubernetes"]
mod kubernetes {
    pub(crate) mod kubeconfig;
}

use std::{env, fs, path::Path};

use kubernetes::kubeconfig::{Allowed, parse};
use libfuzzer_sys::fuzz_target;

/// The table's secrets; a file that still has them must not have them told.
const SECRETS: [&str; 3] = ["s3cr3t", "0th3r", "czNjcjN0"];

/// Writes the table where `cargo xtask fuzz` wants the first inputs.
fn seed() {
    let Some(directory) = env::var_os("FUZZ_SEEDS") else { return };
    let accepted = hostile::written(hostile::ISTIOCTL);
    for (at, text) in hostile::table().map(|(_, text)| text).chain([accepted]).enumerate() {
        fs::write(Path::new(&directory).join(format!("seed-{at:03}")), text).expect("a directory to write to");
    }
}

fuzz_target!(init: seed(), |bytes: &[u8]| {
    for allowed in [Allowed::default(), Allowed { insecure_skip_tls_verify: true, loopback: true }] {
        let told = match parse(bytes, &allowed) {
            Ok(access) => format!("{access:?}"),
            Err(refused) => format!("{refused} {refused:?}"),
        };
        // The address is shown; it has no room for a secret but the path, which is the administrator's own.
        let address_of_it = told.contains("Access {");
        assert!(address_of_it || !SECRETS.iter().any(|secret| told.contains(secret)), "{told}");
    }
});
