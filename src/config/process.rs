//! The `[process]` table: how the processes are run.

use serde::{Deserialize, Serialize};

/// The `[process]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// User of the web process: the only other one that may ask the issuer. `serve`, started by root, changes to it.
    /// Unset: the user it was started by.
    pub web_user: Option<String>,
    /// User of the issuer, in the same way.
    pub issuer_user: Option<String>,
    /// Lets the web process run on a kernel that cannot confine it. For labs only; refused in a production board.
    pub unconfined: bool,
}
