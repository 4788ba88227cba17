//! Leases: asked for at every server at once, kept while a program runs, given back at its end.
//!
//! What: [`acquire`] queues on all servers under one name; the first grant withdraws the others. Each server has a task of its own that talks to it and
//! tells what it hears; [`race`] decides what that means. Rules: a grant that comes second is given back at once, and a server that has not said anything yet is
//! listened to until it has, since a grant may be on its way; a queue that is lost with its connection is joined again for [`RETURN_LIMIT`].
//!
//! ```text
//! need    from options to what is asked     race    what was heard -> what follows
//! screen  what a person sees meanwhile      keep    while the program runs
//! ```

pub(crate) mod keep;
pub(crate) mod need;
mod race;
mod screen;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use control_plane::acquire_event::Event;
use control_plane::{AcquireEvent, AcquireRequest, DeviceNeed, Lease, Queued};
use protocol::hello::Identity;
use protocol::limits::{NEWEST_VERSION, OLDEST_VERSION};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::exit::Failure;
use crate::pool::{ANSWER_LIMIT, Events, Pool, PoolError, Server, seconds};
use crate::text;
use race::{Race, Standing};
use screen::Screen;

/// How long a server may be away while we are in its queue.
const RETURN_LIMIT: Duration = Duration::from_secs(60);

/// What is tried again is tried after this time, and each time after twice as long, up to the most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest name of a lease.
const MOST_NAME: usize = 64;

/// How often the screen is looked after.
const LOOK: Duration = Duration::from_millis(100);

/// How long to wait for a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Patience {
    /// Without end.
    #[default]
    Endless,
    /// As long as that.
    Until(Duration),
    /// Not at all.
    None,
}

impl Patience {
    fn is_over(self, waited: Duration) -> bool {
        match self {
            Self::Endless | Self::None => false,
            Self::Until(limit) => waited >= limit,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    pub(crate) need: DeviceNeed,
    pub(crate) patience: Patience,
    /// The lease outlives its holder.
    pub(crate) is_detached: bool,
    /// How long the lease may last, if that is said.
    pub(crate) time: Option<Duration>,
    /// For which program, for people.
    pub(crate) program: String,
}

impl Want {
    fn request(&self) -> AcquireRequest {
        let identity = Identity {
            program: self.program.clone(),
            ..Identity::of_this_process()
        };
        AcquireRequest {
            need: Some(self.need.clone()),
            request: request_name(&identity),
            identity: Some(identity),
            detached: self.is_detached,
            seconds: self.time.map_or(0, seconds),
            no_wait: self.patience == Patience::None,
            oldest_version: OLDEST_VERSION,
            newest_version: NEWEST_VERSION,
        }
    }
}

/// A name for the logs of several servers: the machine, the process, the moment.
fn request_name(identity: &Identity) -> String {
    let since = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    format!(
        "{}-{}-{:x}",
        identity.host,
        identity.process,
        since.as_millis()
    )
}

/// A lease, and the stream that keeps it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) pool: Pool,
    pub(crate) events: Events,
    pub(crate) lease: Lease,
}

/// A grant, and what is still to be done about the others.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) held: Held,
    /// Grants that came second are on their way back.
    pub(crate) returning: JoinSet<()>,
}

impl Grant {
    /// Waits until what came second is given back; for a lease that stays by itself.
    pub(crate) async fn settle(self) {
        settle_detached(self.returning).await;
    }
}

/// Waits for what is on its way back. What is not given back in time ends with its stream.
async fn settle(returning: JoinSet<()>) {
    let _ = tokio::time::timeout(keep::END_LIMIT, returning.join_all()).await;
}

/// The same for leases that do not end with their streams.
async fn settle_detached(returning: JoinSet<()>) {
    let settled = tokio::time::timeout(ANSWER_LIMIT, returning.join_all()).await;
    if settled.is_err() {
        text::say(
            "a server does not say whether it has granted a lease, too: see gpurun leases, and gpurun release it",
        );
    }
}

/// What a server's task tells.
enum Heard {
    Standing(Standing),
    Granted(Box<Held>),
}

/// Asks every server for a lease and waits for the first grant.
pub(crate) async fn acquire(servers: &[Server], want: &Want) -> Result<Grant, Failure> {
    let mut asking = Asking::begin(servers, &want.request());
    let mut screen = Screen::default();
    let granted = asking.wait(want.patience, &mut screen).await;
    screen.clear();
    // A grant may have come when the time was over, too.
    let returning = asking.withdraw();
    match (granted, want.is_detached) {
        (Ok(held), _) => Ok(Grant {
            held: *held,
            returning,
        }),
        (Err(failure), true) => {
            settle_detached(returning).await;
            Err(failure)
        }
        (Err(failure), false) => {
            settle(returning).await;
            Err(failure)
        }
    }
}

/// Every server is being asked.
struct Asking {
    tasks: JoinSet<()>,
    heard: mpsc::Receiver<(usize, Heard)>,
    over: watch::Sender<bool>,
    race: Race,
}

impl Asking {
    fn begin(servers: &[Server], request: &AcquireRequest) -> Self {
        let (tell, heard) = mpsc::channel(servers.len().max(1));
        let (over, is_over) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (place, server) in servers.iter().cloned().enumerate() {
            let teller = Teller {
                place,
                tell: tell.clone(),
                is_over: is_over.clone(),
            };
            tasks.spawn(ask(server, request.clone(), teller));
        }
        let names = servers.iter().map(|server| server.name.clone());
        Self {
            tasks,
            heard,
            over,
            race: Race::new(names.collect()),
        }
    }

    /// The first grant.
    async fn wait(
        &mut self,
        patience: Patience,
        screen: &mut Screen,
    ) -> Result<Box<Held>, Failure> {
        let begin = Instant::now();
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                news = self.heard.recv() => match news {
                    Some((place, Heard::Standing(standing))) => self.race.note(place, standing),
                    Some((_, Heard::Granted(held))) => return Ok(held),
                    // Each task tells how it failed before it ends.
                    None => return Err(self.race.failure().unwrap_or_else(race::unheard)),
                },
                _ = look.tick() => {}
            }
            for line in self.race.passed_over() {
                screen.say(&line);
            }
            if let Some(failure) = self.race.failure() {
                return Err(failure);
            }
            if self.race.all_answered() && patience.is_over(begin.elapsed()) {
                return Err(self.race.wait_over(begin.elapsed()));
            }
            screen.show(Instant::now(), begin, &self.race);
        }
    }

    /// Leaves the others, and gives back what was granted second and is told already; the tasks do so themselves with what is not.
    fn withdraw(mut self) -> JoinSet<()> {
        self.over.send_replace(true);
        self.heard.close();
        while let Ok((_, news)) = self.heard.try_recv() {
            if let Heard::Granted(held) = news {
                self.tasks.spawn(give_back(held));
            }
        }
        self.tasks
    }
}

async fn give_back(held: Box<Held>) {
    if let Err(error) = held.pool.release(&held.lease.id).await {
        text::say(error);
    }
}

/// What a server's task talks to.
struct Teller {
    place: usize,
    tell: mpsc::Sender<(usize, Heard)>,
    /// Another server has granted.
    is_over: watch::Receiver<bool>,
}

impl Teller {
    /// Nobody listens any more when another server has granted, and then it is no harm.
    async fn tell(&self, standing: Standing) {
        let _ = self
            .tell
            .send((self.place, Heard::Standing(standing)))
            .await;
    }

    async fn granted(&self, held: Box<Held>) {
        let news = (self.place, Heard::Granted(held));
        if let Err(mpsc::error::SendError((_, Heard::Granted(held)))) = self.tell.send(news).await {
            give_back(held).await;
        }
    }
}

/// How one stay in a server's queue ended.
enum Stay {
    Granted(Box<Held>),
    Withdrawn,
    Refused(PoolError),
    /// The connection broke; whether we were in the queue.
    Broken(PoolError, bool),
}

/// Asks one server until it has granted or refused, or is not there.
async fn ask(server: Server, request: AcquireRequest, mut teller: Teller) {
    let mut pauses = Pauses::default();
    let mut away_since = None;
    let mut was_in_queue = false;
    loop {
        match stay(&server, &request, &mut teller).await {
            Stay::Granted(held) => return teller.granted(held).await,
            Stay::Withdrawn => return,
            Stay::Refused(error) => return teller.tell(Standing::Failed(error)).await,
            Stay::Broken(error, is_in_queue) => {
                if is_in_queue {
                    (was_in_queue, away_since) = (true, None);
                    pauses = Pauses::default();
                }
                let since = *away_since.get_or_insert_with(Instant::now);
                if !was_in_queue || since.elapsed() >= RETURN_LIMIT {
                    return teller.tell(Standing::Failed(error)).await;
                }
                teller.tell(Standing::Away(error.to_string())).await;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pauses.next()) => {}
            _ = teller.is_over.changed() => return,
        }
    }
}

async fn stay(server: &Server, request: &AcquireRequest, teller: &mut Teller) -> Stay {
    let (pool, mut events) = match join(server, request, teller).await {
        Ok(joined) => joined,
        Err(stay) => return stay,
    };
    let Ok(mut event) = tokio::time::timeout(ANSWER_LIMIT, events.message()).await else {
        return Stay::Broken(PoolError::Silent(server.name.clone()), false);
    };
    let mut is_in_queue = false;
    loop {
        match Word::of(&pool, event) {
            Word::Granted(lease) => {
                let held = Held {
                    pool,
                    events,
                    lease,
                };
                return Stay::Granted(Box::new(held));
            }
            Word::Queued(place) => {
                is_in_queue = true;
                teller.tell(Standing::Queued(place)).await;
            }
            Word::Nothing => {}
            Word::Failed(error) if error.is_refusal() => return Stay::Refused(error),
            Word::Failed(error) => return Stay::Broken(error, is_in_queue),
        }
        event = tokio::select! {
            // A grant that is there already is given back, not forgotten.
            biased;
            event = events.message() => event,
            _ = teller.is_over.changed() => return Stay::Withdrawn,
        };
    }
}

/// Connects and asks, unless another server is quicker.
async fn join(
    server: &Server,
    request: &AcquireRequest,
    teller: &mut Teller,
) -> Result<(Pool, Events), Stay> {
    let failed = |error: PoolError| match &error {
        PoolError::Connect(reason) if !reason.is_unreachable() => Stay::Refused(error),
        _ if error.is_refusal() => Stay::Refused(error),
        _ => Stay::Broken(error, false),
    };
    let pool = tokio::select! {
        _ = teller.is_over.changed() => return Err(Stay::Withdrawn),
        pool = Pool::open(server) => pool.map_err(failed)?,
    };
    let events = pool.acquire(request.clone()).await.map_err(failed)?;
    Ok((pool, events))
}

/// What a server says to who asks for a lease.
enum Word {
    Granted(Lease),
    Queued(Queued),
    Nothing,
    Failed(PoolError),
}

impl Word {
    fn of(pool: &Pool, event: Result<Option<AcquireEvent>, tonic::Status>) -> Self {
        let event = match event {
            Ok(Some(event)) => event.event,
            Ok(None) => return Self::Failed(ended(pool.server())),
            Err(status) => return Self::Failed(pool.error_of(&status)),
        };
        match event {
            Some(Event::Granted(lease)) if is_lease_name(&lease.id) => Self::Granted(lease),
            Some(Event::Granted(_)) => Self::Failed(PoolError::Refused {
                server: pool.server().name.clone(),
                code: tonic::Code::Internal,
                message: "it names a lease as no server of ours does".to_owned(),
            }),
            Some(Event::Queued(place)) => Self::Queued(place),
            // Refused after all: drained, revoked, a device that is gone.
            Some(Event::Ended(ended)) => Self::Failed(PoolError::Refused {
                server: pool.server().name.clone(),
                code: tonic::Code::Aborted,
                message: text::clean(&ended.message),
            }),
            Some(Event::Warning(_)) | None => Self::Nothing,
        }
    }
}

/// Whether it can go into an environment, a script and a terminal.
fn is_lease_name(id: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=MOST_NAME).contains(&id.len()) && id.chars().all(is_plain)
}

fn ended(server: &Server) -> PoolError {
    PoolError::Lost {
        server: server.name.clone(),
        reason: "it ended the stream".to_owned(),
    }
}

/// Pauses between attempts.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}
