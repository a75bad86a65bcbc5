//! Generated code is current: makes it again from its sources and compares. `UPDATE_GENERATED=1` rewrites it.

use std::{fs, path::Path};

/// Where each proto package lives: the include directory, its files, and the directory of the generated code.
const SETS: [(&str, &[&str], &str); 1] =
    [("federator/model/proto", &["federator/store/v1/record.proto"], "federator/model/src/wire/gen")];

#[test]
fn generated_code_is_current() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent");
    for (include, files, out) in SETS {
        let fresh = tempfile::tempdir()?;
        let descriptors = protox::compile(files, [root.join(include)])?;
        prost_build::Config::new().out_dir(fresh.path()).compile_fds(descriptors)?;
        for entry in fs::read_dir(fresh.path())? {
            let entry = entry?;
            let committed = root.join(out).join(entry.file_name());
            let text = fs::read_to_string(entry.path())?;
            if std::env::var_os("UPDATE_GENERATED").is_some() {
                fs::create_dir_all(root.join(out))?;
                fs::write(&committed, text)?;
                continue;
            }
            assert!(
                fs::read_to_string(&committed).is_ok_and(|now| now == text),
                "{} is not what {include} gives: UPDATE_GENERATED=1 cargo test -p federator-tests --test generated",
                committed.strip_prefix(root).unwrap_or(&committed).display()
            );
        }
    }
    Ok(())
}
