//! What is known of a token at this moment, in words an operator can act on.

use serde::{Deserialize, Serialize};

/// Order is sent by postcard: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TokenHealth {
    Starting,
    Ready,
    /// Being recovered: which step, since when (Unix ms), the last error in plain words.
    Recovering {
        step: String,
        since: u64,
        error: String,
    },
    /// Waits for an operator: code and what to do.
    Stopped {
        code: String,
        message: String,
    },
}

/// Called at every change of state.
pub type Observer = Box<dyn Fn(&TokenHealth) + Send + Sync>;
