//! What runs beside requests: the TLS chain, the issuer's word on accounts, what an earlier process left unfinished, the expiry sweep.

use std::sync::Arc;
use std::time::Duration;

use super::{Server, issuance, standing, validation};
use crate::store::StoreError;

/// Between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Orders removed by one commit, so that requests come in between.
const SWEEP_BATCH: usize = 256;
const RETRY: Duration = Duration::from_secs(1);

/// Starts all of it.
pub(crate) fn start(server: &Arc<Server>) {
    let chain = server.clone();
    server.spawn(async move { chain.tls.keep_chain(&*chain.clock).await });
    let left = server.clone();
    server.spawn(async move { resume(&left).await });
    let kept = server.clone();
    server.spawn(async move { standing::keep(&kept).await });
    let swept = server.clone();
    server.spawn(async move { sweep(&swept).await });
}

async fn resume(server: &Arc<Server>) {
    loop {
        let resumed = match validation::resume(server).await {
            Ok(()) => issuance::resume(server).await,
            failed => failed,
        };
        match resumed {
            Ok(()) => return,
            Err(StoreError::Halt(why)) => return server.halt(why),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn sweep(server: &Server) {
    let retention = Duration::from_secs(server.settings.retention_days * 86_400);
    loop {
        let before = server.clock.now().minus(retention);
        match server.store.sweep(before, SWEEP_BATCH).await {
            Ok(removed) if removed >= SWEEP_BATCH => continue,
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "swept orders that ended"),
            Err(StoreError::Halt(why)) => return server.halt(why),
            Err(_) => {}
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}
