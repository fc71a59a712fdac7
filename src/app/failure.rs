//! Why a command ends without having done its work.

/// The operator's text, which begins with its code, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub text: String,
    pub exit: u8,
}

impl Failure {
    /// Failed, or a check found something wrong: 1.
    pub fn failed(text: String) -> Self {
        Self { text, exit: 1 }
    }
    /// Worth trying again: 75 (EX_TEMPFAIL).
    pub fn retry(text: String) -> Self {
        Self { text, exit: RETRY }
    }
    /// An operator must act first: 78 (EX_CONFIG).
    pub fn operator(text: String) -> Self {
        Self { text, exit: OPERATOR }
    }
}

/// EX_TEMPFAIL.
pub(super) const RETRY: u8 = 75;
/// EX_CONFIG: no restart will help before an operator has acted.
pub(super) const OPERATOR: u8 = 78;

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::failed(text)
    }
}
