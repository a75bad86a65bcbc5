//! When to stop: SIGTERM or SIGINT begins a clean stop, a second one ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Ends the process with this code when a second signal comes (128 + SIGINT).
const ABORTED: i32 = 130;

/// Waits for signals and cancels the token at the first; never returns.
///
/// # Errors
/// When signals cannot be waited for.
pub async fn on_signal(token: CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    next(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping; a second signal stops at once");
    token.cancel();
    next(&mut terminate, &mut interrupt).await;
    #[expect(clippy::disallowed_methods, reason = "the second signal asks for exactly this")]
    std::process::exit(ABORTED);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
