//! What says in which format the state is written.

use serde::{Deserialize, Serialize};

use super::Actor;
use crate::id::Timestamp;

/// The state is written in a newer format from here on: releases that do not know it cannot run on it any more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FormatRaisedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The format before.
    pub from: u32,
    /// The format from here on.
    pub to: u32,
    /// The version of the program that was kept.
    pub version: String,
    /// Who said that there is no going back.
    pub by: Actor,
}
