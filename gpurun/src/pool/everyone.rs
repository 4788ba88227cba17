//! One question to every server at once, and the answers in the order of the servers.

use std::future::Future;

use tokio::task::JoinSet;

use super::{Pool, PoolError, Server, runtime};
use crate::exit::{Failure, NO_SERVER};
use crate::text;

/// What came back.
pub(crate) struct Answers<T> {
    /// Those that answered.
    pub(crate) found: Vec<(Server, T)>,
    /// Those that did not, or said no.
    pub(crate) failed: Vec<(Server, PoolError)>,
}

/// Asks every server; each has the time of one connection and its answers.
pub(crate) fn ask_all<T, Asking>(
    servers: &[Server],
    ask: impl Fn(Pool) -> Asking + Clone + Send + 'static,
) -> Result<Answers<T>, Failure>
where
    T: Send + 'static,
    Asking: Future<Output = Result<T, PoolError>> + Send + 'static,
{
    finish(gather(servers, ask, false))
}

/// Asks every server for what one of them has: the first answer is it, and nobody else is waited for.
pub(crate) fn ask_first<T, Asking>(
    servers: &[Server],
    ask: impl Fn(Pool) -> Asking + Clone + Send + 'static,
) -> Result<(Server, T), Failure>
where
    T: Send + 'static,
    Asking: Future<Output = Result<T, PoolError>> + Send + 'static,
{
    finish(gather_first(servers, ask))?.one()
}

/// [`ask_first`] on the caller's runtime, for what outlives the question.
pub(crate) async fn gather_first<T, Asking>(
    servers: &[Server],
    ask: impl Fn(Pool) -> Asking + Clone + Send + 'static,
) -> Answers<T>
where
    T: Send + 'static,
    Asking: Future<Output = Result<T, PoolError>> + Send + 'static,
{
    gather(servers, ask, true).await
}

fn finish<T>(answers: impl Future<Output = Answers<T>>) -> Result<Answers<T>, Failure> {
    let runtime = runtime()?;
    let answers = runtime.block_on(answers);
    // Somebody may still look up a name, and nobody waits for it.
    runtime.shutdown_background();
    Ok(answers)
}

async fn gather<T, Asking>(
    servers: &[Server],
    ask: impl Fn(Pool) -> Asking + Clone + Send + 'static,
    is_first_enough: bool,
) -> Answers<T>
where
    T: Send + 'static,
    Asking: Future<Output = Result<T, PoolError>> + Send + 'static,
{
    let mut asking = JoinSet::new();
    for (place, server) in servers.iter().cloned().enumerate() {
        let ask = ask.clone();
        asking.spawn(async move {
            let answer = match Pool::open(&server).await {
                Ok(pool) => ask(pool).await,
                Err(error) => Err(error),
            };
            (place, server, answer)
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        // Nobody has cancelled it, so it has panicked.
        let (place, server, answer) =
            answer.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let is_enough = is_first_enough && answer.is_ok();
        answers.push((place, server, answer));
        if is_enough {
            break;
        }
    }
    answers.sort_by_key(|(place, ..)| *place);
    let mut gathered = Answers {
        found: Vec::new(),
        failed: Vec::new(),
    };
    for (_, server, answer) in answers {
        match answer {
            Ok(answer) => gathered.found.push((server, answer)),
            Err(error) => gathered.failed.push((server, error)),
        }
    }
    gathered
}

impl<T> Answers<T> {
    /// The answers; who gave none is said if somebody did, and is the failure otherwise.
    pub(crate) fn or_fail(self) -> Result<Vec<(Server, T)>, Failure> {
        if self.found.is_empty() {
            return Err(self.failure());
        }
        for (_, error) in &self.failed {
            text::say(error);
        }
        Ok(self.found)
    }

    /// The answer of the one server that knows what was asked for; the others, who do not, are not said.
    pub(crate) fn one(mut self) -> Result<(Server, T), Failure> {
        if self.found.is_empty() {
            return Err(self.failure());
        }
        Ok(self.found.swap_remove(0))
    }

    /// Why nobody answered: who knows it and says no, before who is not there, before who does not know it.
    fn failure(self) -> Failure {
        let rank = |error: &PoolError| match error {
            error if error.is_not_found() => 2,
            error if error.is_refusal() => 0,
            _ => 1,
        };
        let least = self.failed.iter().map(|(_, error)| rank(error)).min();
        let telling = self
            .failed
            .into_iter()
            .map(|(_, error)| error)
            .filter(|error| Some(rank(error)) == least);
        let telling: Vec<PoolError> = telling.collect();
        let status = telling.first().map_or(NO_SERVER, PoolError::status);
        let lines: Vec<String> = telling.iter().map(PoolError::to_string).collect();
        Failure::new(status, lines.join("\ngpurun: "))
    }
}
