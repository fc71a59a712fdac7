//! What the pool costs beside the module, and what becomes of a slow token. In one run: the module's own rate, the same
//! with every signature verified, and the pool's, for 1 to N sessions and each kind of key; then whole orders
//! against a token of 70 ms a signature, one at a time, at half and at full load.
//!
//! `cargo bench --bench signer -- [--seconds 4] [--module PATH]`; the module is that of SoftHSM2 unless another is
//! given, whose environment is the caller's. Figures are of this run on this machine: compare them with each other.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a program of its own")]

#[path = "../support/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../support/faulty.rs"]
#[allow(dead_code)]
mod faulty;
#[path = "../support/lab.rs"]
#[allow(dead_code)]
mod lab;
#[path = "signer/orders.rs"]
mod orders;
#[path = "signer/ratios.rs"]
mod ratios;
#[path = "../support/slow.rs"]
#[allow(dead_code)]
mod slow;
#[path = "../support/token.rs"]
#[allow(dead_code)]
mod token;

use std::time::{Duration, Instant};

struct Options {
    seconds: f64,
    module: Option<String>,
}

/// The argument by which this program knows that it measures the module: SoftHSM2 reads its configuration from the
/// environment, once.
const RATIOS: &str = "--ratios";

fn main() {
    let options = options();
    if std::env::args().any(|argument| argument == RATIOS) {
        return ratios::print(&options);
    }
    ratios::run(&options);
    orders::print(&options);
}

/// What cargo itself passes, and what other benchmarks are told, is ignored.
fn options() -> Options {
    let mut options = Options { seconds: 4.0, module: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                options.seconds = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(4.0);
            }
            "--module" => options.module = arguments.next(),
            _ => {}
        }
    }
    options
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
