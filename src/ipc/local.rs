//! An `Issuer` over a `Service` in the same process: how most tests run.

use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;

use super::message::{Answer, Question, Refusal};
use super::{AskError, Issuer, Service};

/// Asks the service directly; no frame, no bound on a question's size.
#[derive(Clone)]
pub struct Local {
    service: Arc<dyn Service>,
}

impl Local {
    pub fn new(service: Arc<dyn Service>) -> Self {
        Self { service }
    }
}

impl Issuer for Local {
    fn ask(
        &self,
        question: Question,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, AskError>> + Send + '_>> {
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            self.service.call(question, Box::new(move |result| drop(tell.send(result))));
            told.await.map_err(|_| AskError::Retry(LOST))?.map_err(AskError::from)
        })
    }

    fn ask_blocking(&self, question: Question, deadline: Duration) -> Result<Answer, AskError> {
        let (tell, told) = mpsc::sync_channel(1);
        self.service.call(question, Box::new(move |result| drop(tell.send(result))));
        told.recv_timeout(deadline).map_err(|_| AskError::Retry(LOST))?.map_err(AskError::from)
    }
}

impl From<Refusal> for AskError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Retry(ms) => Self::Retry(Duration::from_millis(ms.into())),
            Refusal::Refused(problem) => Self::Refused(problem),
            Refusal::Limited(problem, ms) => {
                Self::Limited(problem, Duration::from_millis(ms.into()))
            }
        }
    }
}

/// When a question whose answer was lost may be asked again.
const LOST: Duration = Duration::from_secs(1);
