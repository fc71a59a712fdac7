//! What is known of a token at this moment, in words an operator can act on.

use serde::{Deserialize, Serialize};

/// Order is sent by postcard: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TokenHealth {
    /// The first attempt to bring the token up is under way.
    Starting,
    /// Every key was found, is what it must be, and made a trial signature.
    Ready,
    /// Being recovered: which step, since when (Unix ms), the last error in plain words.
    Recovering { step: String, since: u64, error: String },
    /// Waits for an operator: code and what to do. Where `is_pin_refused` says so, the issuer remembers that
    /// this PIN was refused, so that no restart tries it again.
    Stopped { code: String, message: String },
    /// Some keys sign, others, which it names, do not until an operator acts.
    Degraded { code: String, message: String, keys: Vec<String> },
    /// Nothing but a new process can help; this one must end.
    Halted { error: String },
}

impl TokenHealth {
    /// The state in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Recovering { .. } => "recovering",
            Self::Stopped { .. } => "stopped",
            Self::Degraded { .. } => "degraded",
            Self::Halted { .. } => "halted",
        }
    }

    /// Whether at least one key signs.
    pub fn signs(&self) -> bool {
        matches!(self, Self::Ready | Self::Degraded { .. })
    }

    /// Whether the key of this name signs.
    pub fn signs_with(&self, key: &str) -> bool {
        match self {
            Self::Ready => true,
            Self::Degraded { keys, .. } => !keys.iter().any(|out| out == key),
            _ => false,
        }
    }

    /// Whether the token refused the PIN that was tried. `CHY-PIN-FINAL-TRY` is not among these: there
    /// none was tried, and the next start may look again.
    pub fn is_pin_refused(&self) -> bool {
        const REFUSED: [&str; 3] = ["CHY-PIN-REFUSED", "CHY-PIN-EXPIRED", "CHY-PIN-LOCKED"];
        matches!(self, Self::Stopped { code, .. } if REFUSED.contains(&code.as_str()))
    }
}

impl std::fmt::Display for TokenHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ready => f.write_str("ready"),
            Self::Recovering { step, error, .. } => write!(f, "recovering ({step}): {error}"),
            Self::Stopped { code, message } => write!(f, "stopped: {code}: {message}"),
            Self::Degraded { code, message, .. } => write!(f, "degraded: {code}: {message}"),
            Self::Halted { error } => write!(f, "halted: {error}"),
        }
    }
}

/// Called at every change of state.
pub type Observer = Box<dyn Fn(&TokenHealth) + Send + Sync>;
