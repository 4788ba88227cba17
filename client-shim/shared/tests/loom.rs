//! Every order in which threads can meet, run by a model checker: built with `--cfg loom` only.
//!
//! A lost wake-up shows as a deadlock: who waits for what was posted sleeps for good, and so does the sender.
#![cfg(loom)]

use std::convert::Infallible;

use client_shared::{After, Batch, MutexGuard, SendQueue, Sleeper, Table};
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// Runs a model in every order that takes a running thread's turn away at most [`PREEMPTIONS`] times.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// Each more multiplies the time by ten; races that need more than two are hardly known.
const PREEMPTIONS: usize = 3;

/// A futex: sleeping looks at the value under a lock, waking does not change it, and nobody wakes for nothing.
#[derive(Default)]
struct Futex {
    value: Mutex<u32>,
    changed: Condvar,
}

impl Sleeper for Futex {
    fn load(&self) -> u32 {
        *self.value.lock().unwrap()
    }

    fn store(&self, value: u32) {
        *self.value.lock().unwrap() = value;
    }

    fn sleep_while(&self, seen: u32) {
        let value = self.value.lock().unwrap();
        if *value == seen {
            drop(self.changed.wait(value).unwrap());
        }
    }

    fn wake(&self) {
        self.changed.notify_all();
    }
}

/// The batch: who posted, and the number of the post.
struct Posts {
    open: Vec<(u32, u32)>,
    placed: u32,
    /// How many posts a batch holds.
    room: usize,
    /// Whether posts come fast.
    are_many: bool,
}

impl Batch for Posts {
    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn is_full(&self) -> bool {
        self.open.len() >= self.room
    }

    fn is_one_of_many(&mut self) -> bool {
        self.are_many
    }
}

/// The wire, and who waits for what has left by it.
#[derive(Default)]
struct Sent {
    posts: Mutex<Vec<(u32, u32)>>,
    more: Condvar,
}

struct Model {
    queue: SendQueue<Posts, (), Futex>,
    sent: Sent,
    is_over: AtomicBool,
}

type Wire<'a> = MutexGuard<'a, ()>;

impl Model {
    fn new(room: usize, are_many: bool) -> Arc<Self> {
        let posts = Posts {
            open: Vec::new(),
            placed: 0,
            room,
            are_many,
        };
        Arc::new(Self {
            queue: SendQueue::new(posts, (), Futex::default()),
            sent: Sent::default(),
            is_over: AtomicBool::new(false),
        })
    }

    fn send(&self, wire: &mut Wire<'_>) -> Result<bool, Infallible> {
        self.queue.send_batch(
            wire,
            |(), posts| std::mem::take(&mut posts.open),
            |(), batch| {
                self.sent.posts.lock().unwrap().extend(batch);
                self.sent.more.notify_all();
                Ok(())
            },
        )
    }

    fn flush(&self) {
        let mut wire = self.queue.wire();
        while self.send(&mut wire) == Ok(true) {}
    }

    fn post(&self, thread: u32) {
        let after = self.queue.post(|posts| {
            posts.placed += 1;
            posts.open.push((thread, posts.placed));
            Ok::<_, Infallible>(())
        });
        if after == Ok(After::Send) {
            self.flush();
        }
    }

    /// The sender's thread, which sleeps whenever there is nothing to send.
    fn start_sender(this: &Arc<Self>) -> thread::JoinHandle<()> {
        let model = Arc::clone(this);
        thread::spawn(move || {
            while !model.is_over.load(SeqCst) {
                let lived = model.queue.send_while_awake(
                    |wire| model.send(wire),
                    |_, sent| sent,
                    || model.is_over.load(SeqCst),
                );
                assert_eq!(lived, Ok(()));
            }
        })
    }

    /// Waits until so many posts have been sent, without doing anything for it; then ends the sender.
    fn expect(&self, count: usize, sender: thread::JoinHandle<()>) {
        let mut posts = self.sent.posts.lock().unwrap();
        while posts.len() < count {
            posts = self.sent.more.wait(posts).unwrap();
        }
        let order: Vec<u32> = posts.iter().map(|(_, number)| *number).collect();
        let placed: Vec<u32> = (1..=count as u32).collect();
        assert_eq!(order, placed, "each once, in the order of the appends");
        drop(posts);
        self.is_over.store(true, SeqCst);
        self.queue.wake_sender();
        sender.join().unwrap();
    }
}

#[test]
fn what_two_threads_post_is_sent_once_and_in_order_by_a_sender_that_sleeps() {
    check(|| {
        let model = Model::new(usize::MAX, true);
        let sender = Model::start_sender(&model);
        let other = Arc::clone(&model);
        let other = thread::spawn(move || other.post(2));
        model.post(1);
        model.expect(2, sender);
        other.join().unwrap();
    });
}

#[test]
fn a_post_while_the_sender_falls_asleep_is_not_forgotten() {
    check(|| {
        let model = Model::new(usize::MAX, true);
        let sender = Model::start_sender(&model);
        for _ in 0..3 {
            model.post(1);
        }
        model.expect(3, sender);
    });
}

#[test]
fn posters_that_send_and_full_batches_keep_the_order() {
    check(|| {
        let model = Model::new(2, false);
        // Nobody needs the sender here: whoever posts after idle sends.
        let other = Arc::clone(&model);
        let other = thread::spawn(move || {
            other.post(2);
            other.post(2);
        });
        model.post(1);
        other.join().unwrap();
        model.expect(3, thread::spawn(|| ()));
    });
}

#[test]
fn who_flushes_beside_the_sender_sends_nothing_twice() {
    check(|| {
        let model = Model::new(usize::MAX, true);
        let sender = Model::start_sender(&model);
        let other = Arc::clone(&model);
        let other = thread::spawn(move || other.flush());
        model.post(1);
        model.post(1);
        other.join().unwrap();
        model.expect(2, sender);
    });
}

#[test]
fn a_stale_id_finds_nothing_or_a_whole_newer_object() {
    check(|| {
        let table = Arc::new(Table::default());
        let old = table.insert_with(|id| (id, "old")).0;
        let maker = Arc::clone(&table);
        let maker = thread::spawn(move || {
            maker.remove(old);
            maker.insert_with(|id| (id, "new")).0
        });
        if let Some(found) = table.get(old) {
            assert!(*found == (old, "old") || *found == (old, "new"));
        }
        let new = maker.join().unwrap();
        assert_eq!(new, old, "the id is used again");
        assert_eq!(table.get(old).as_deref(), Some(&(old, "new")));
    });
}

#[test]
fn an_object_is_removed_by_one_thread_only() {
    check(|| {
        let table = Arc::new(Table::default());
        let id = *table.insert_with(|id| id);
        assert_eq!(table.select(|_| true).len(), 1);
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.remove(id).is_some());
        let here = table.remove(id).is_some();
        assert_ne!(here, other.join().unwrap());
    });
}
