//! What of the configuration may change while the agent runs: the rules of exporting and importing. The file is looked
//! at again and again, because whoever mounts it may replace it in any way; what is wrong with it is said, and the rules
//! stay as they were.

use super::Ended;
use crate::config::{
    Config, File,
    rules::{ExportRules, ImportRules},
};
use std::time::Duration;
use tokio::{sync::watch, time::sleep};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(2);

/// The rules as they are now.
pub(super) struct Rules {
    pub(super) export: watch::Receiver<ExportRules>,
    pub(super) import: watch::Receiver<ImportRules>,
}

/// Keeps the rules equal to those in the file.
pub(super) struct Keeper {
    file: File,
    export: watch::Sender<ExportRules>,
    import: watch::Sender<ImportRules>,
}

// === impl Rules ===

impl Rules {
    /// The rules of a configuration, and who keeps them where it is of a file.
    pub(super) fn new(config: &Config) -> (Self, Option<Keeper>) {
        let (export, export_now) = watch::channel(config.export.clone());
        let (import, import_now) = watch::channel(config.import.clone());
        let keeper = config.file.clone().map(|file| Keeper { file, export, import });
        (Self { export: export_now, import: import_now }, keeper)
    }
}

// === impl Keeper ===

impl Keeper {
    pub(super) async fn run(self) -> Ended {
        let mut wrong = None;
        loop {
            sleep(LOOK).await;
            let config = match self.file.load() {
                Ok(config) => config,
                Err(error) => {
                    let why = Some(error.to_string());
                    if why != wrong {
                        tracing::error!(%error, "rules stay as they were");
                    }
                    wrong = why;
                    continue;
                }
            };
            wrong = None;
            if *self.export.borrow() != config.export {
                tracing::info!(rules = ?config.export, "new rules of exporting");
                self.export.send_replace(config.export);
            }
            if *self.import.borrow() != config.import {
                tracing::info!(rules = ?config.import, "new rules of importing");
                self.import.send_replace(config.import);
            }
        }
    }
}
