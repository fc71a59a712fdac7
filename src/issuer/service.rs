//! Answers the questions of `ipc`.
