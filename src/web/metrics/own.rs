//! What the web process says of itself when it is asked.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::issuer::{at, instant, used};
use super::text::{Labels, Writer, alone};
use crate::env::system::own_process;
use crate::id::Timestamp;
use crate::ipc::figures::Process;

/// Not counted, but known.
#[derive(Debug)]
pub(super) struct Own {
    started: Timestamp,
    found: Mutex<Found>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Found {
    store: Option<(u64, u64)>,
    backup: Option<Timestamp>,
}

impl Own {
    pub(super) fn new(started: Timestamp) -> Self {
        Self { started, found: Mutex::default() }
    }

    pub(super) fn said(&self, store: Option<(u64, u64)>, backup: Option<Timestamp>) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Found { store, backup };
    }
}

impl Collector for Own {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let found = *self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Writer(encoder);
        if let Some((size, free)) = found.store {
            out.gauges(
                ("store_size", "The file of orders and accounts.", Some(Unit::Bytes)),
                alone(size as f64),
            )?;
            out.gauges(
                ("store_free", "Free on the disk of the store.", Some(Unit::Bytes)),
                alone(free as f64),
            )?;
        }
        let backup = found.backup.and_then(|made| instant(Labels::new(), made));
        out.gauges(
            at(
                "backup_last_success",
                "When the last good backup was made; absent before the first.",
            ),
            backup.into_iter().collect(),
        )?;
        out.gauges(
            at("web_started", "When the web process started."),
            instant(Labels::new(), self.started).into_iter().collect(),
        )?;
        let own = own_process();
        let process = Process {
            resident: own.resident,
            cpu_centiseconds: own.cpu_centiseconds,
            threads: own.threads,
            files: own.files,
            most_files: own.most_files,
        };
        used(&mut out, "web", &process)
    }
}
