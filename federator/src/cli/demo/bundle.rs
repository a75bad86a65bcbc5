//! The manifests that the program brings along, and a directory of their own for them, laid out as `--dir` is.

use std::{fs, io};
use tempfile::TempDir;

/// Each file by its path, which begins with the cluster's id.
const FILES: [(&str, &str); 13] = {
    macro_rules! file {
        ($path:literal) => {
            ($path, include_str!(concat!("../../../demo/", $path)))
        };
    }
    [
        file!("east/network"),
        file!("east/cluster.yaml"),
        file!("east/cart.yaml"),
        file!("east/cart-endpoints.yaml"),
        file!("south/network"),
        file!("south/cluster.yaml"),
        file!("south/payments.yaml"),
        file!("south/payments-endpoints.yaml"),
        file!("west/network"),
        file!("west/cluster.yaml"),
        file!("west/cart.yaml"),
        file!("west/cart-endpoints.yaml"),
        file!("west/catalog.yaml"),
    ]
};

/// Writes them; the directory goes when it is dropped.
pub(super) fn unpack() -> io::Result<TempDir> {
    let root = TempDir::with_prefix("federator-demo-")?;
    for (path, text) in FILES {
        let path = root.path().join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, text)?;
    }
    Ok(root)
}
